//! H.264 over RTP (RFC 6184, packetization modes 0 and 1).

use bytes::Bytes;
use media::h264::{AUD, IDR, PPS, SEI, SPS};

use super::coding::Nal;
use super::unit::Unit;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// What a NAL unit is.
pub(super) fn nal(nal: &[u8]) -> Nal {
    match nal.first().map_or(0, |header| header & 31) {
        SPS => Nal::Set(0),
        PPS => Nal::Set(1),
        1..=IDR => Nal::Slice,
        SEI => Nal::Sei,
        _ => Nal::Other,
    }
}

/// Whether other pictures may build on the one of a NAL unit with this header.
pub(super) fn is_reference(header: u8) -> bool {
    header & 0x60 != 0
}

/// Notes what a slice says of its picture.
pub(super) fn note_slice(unit: &mut Unit, header: &[u8]) {
    let header = header.first().copied().unwrap_or(0);
    unit.restarts |= header & 31 == IDR;
    unit.is_reference |= is_reference(header);
}

/// Adds the NAL units, or the part of one, of a packet. False when it does not parse.
pub(super) fn take_payload(unit: &mut Unit, payload: &Bytes) -> bool {
    let Some(&header) = payload.first() else { return true };
    match header & 31 {
        1..=23 => unit.add(payload.clone()),
        STAP_A => take_aggregate(unit, payload.slice(1..)),
        FU_A => {
            let &[_, fragment, ..] = &payload[..] else { return false };
            let nal = (header & 0xe0) | (fragment & 31);
            unit.add_fragment(&[nal], fragment & 0x80 != 0, fragment & 0x40 != 0, payload.slice(2..))
        }
        _ => false,
    }
}

/// NAL units with 16-bit lengths in front.
pub(super) fn take_aggregate(unit: &mut Unit, mut rest: Bytes) -> bool {
    let mut whole = true;
    while let Some((&[high, low], _)) = rest.split_first_chunk::<2>() {
        let size = usize::from(u16::from_be_bytes([high, low]));
        if size == 0 || size + 2 > rest.len() {
            return false;
        }
        whole &= unit.add(rest.slice(2..2 + size));
        rest = rest.slice(2 + size..);
    }
    whole && rest.is_empty()
}

/// Whether the payload begins an access unit; `None` when it cannot be told (filler, the middle of a NAL unit).
pub(super) fn begins_access_unit(payload: &[u8]) -> Option<bool> {
    let &[header, second, ..] = payload else { return None };
    let (kind, body) = match header & 31 {
        STAP_A => (payload.get(3)? & 31, payload.get(4)),
        FU_A if second & 0x80 != 0 => (second & 31, payload.get(2)),
        FU_A => return None,
        kind => (kind, Some(&second)),
    };
    match kind {
        SEI..=AUD => Some(true),
        // first_mb_in_slice, ue(v) 0, is a single 1 bit on top.
        1 | 2 | IDR => body.map(|byte| byte & 0x80 != 0),
        _ => None,
    }
}
