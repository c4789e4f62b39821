//! H.265 over RTP (RFC 7798), without decoding order numbers (`sprop-max-don-diff` 0), base layer only.

use bytes::Bytes;
use media::h265::{AUD, CRA, IDR_W_RADL, PPS, PREFIX_SEI, SPS, VPS, layer, nal_type};

use super::coding::Nal;
use super::h264::take_aggregate;
use super::unit::Unit;

const AGGREGATE: u8 = 48;
const FRAGMENT: u8 = 49;
/// Intra random access points begin here: broken link access, IDR, and up to clean random access.
const FIRST_RANDOM_ACCESS: u8 = 16;
/// Pictures that lead one with random access and build on what comes before it (RASL_N, RASL_R).
const SKIPPED: [u8; 2] = [8, 9];
/// Kinds of pictures from 0 to this have an even number when no other of their temporal layer builds on them.
const LAST_SUB_LAYER_KIND: u8 = 15;
const LAST_SLICE: u8 = 31;

/// What a NAL unit is.
pub(super) fn nal(nal: &[u8]) -> Nal {
    let (Some(kind), Some(layer)) = (nal_type(nal), layer(nal)) else { return Nal::Other };
    match kind {
        _ if layer != 0 => Nal::Foreign,
        VPS => Nal::Set(0),
        SPS => Nal::Set(1),
        PPS => Nal::Set(2),
        0..=LAST_SLICE => Nal::Slice,
        PREFIX_SEI => Nal::Sei,
        _ => Nal::Other,
    }
}

/// The kind of NAL unit that a payload begins or goes on with.
fn kind(payload: &[u8]) -> Option<u8> {
    match nal_type(payload)? {
        AGGREGATE => payload.get(4).map(|header| header >> 1 & 63),
        FRAGMENT => payload.get(2).map(|header| header & 63),
        kind => Some(kind),
    }
}

fn is_reference(kind: u8, temporal_layer: u8, highest_layer: u8) -> bool {
    let is_last_of_layer = kind <= LAST_SUB_LAYER_KIND && kind & 1 == 0;
    // Those of higher layers may build on it.
    !is_last_of_layer || temporal_layer < highest_layer
}

/// Whether other pictures may build on the one of this payload.
pub(super) fn is_reference_payload(payload: &[u8], highest_layer: u8) -> bool {
    kind(payload).is_none_or(|kind| is_reference(kind, temporal_layer(payload), highest_layer))
}

/// `TemporalId`; an aggregate has the lowest of its NAL units.
pub(super) fn temporal_layer(payload: &[u8]) -> u8 {
    payload.get(1).map_or(0, |byte| (byte & 7).saturating_sub(1))
}

/// Notes what a slice says of its picture.
pub(super) fn note_slice(unit: &mut Unit, header: &[u8]) {
    let Some(kind) = nal_type(header) else { return };
    unit.restarts |= (FIRST_RANDOM_ACCESS..=CRA).contains(&kind);
    unit.breaks_link |= (FIRST_RANDOM_ACCESS..IDR_W_RADL).contains(&kind);
    unit.is_leading |= SKIPPED.contains(&kind);
    unit.is_reference |= is_reference(kind, temporal_layer(header), unit.highest_layer);
}

/// Adds the NAL units, or the part of one, of a packet. False when it does not parse.
pub(super) fn take_payload(unit: &mut Unit, payload: &Bytes) -> bool {
    let &[high, low, ..] = &payload[..] else { return false };
    match high >> 1 & 63 {
        AGGREGATE => take_aggregate(unit, payload.slice(2..)),
        FRAGMENT => {
            let &[_, _, fragment, ..] = &payload[..] else { return false };
            let header = [(high & 0x81) | (fragment & 63) << 1, low];
            unit.add_fragment(&header, fragment & 0x80 != 0, fragment & 0x40 != 0, payload.slice(3..))
        }
        0..=47 => unit.add(payload.clone()),
        _ => false,
    }
}

/// Whether the payload begins an access unit; `None` when it cannot be told (filler, the middle of a NAL unit).
pub(super) fn begins_access_unit(payload: &[u8]) -> Option<bool> {
    let body = match nal_type(payload)? {
        AGGREGATE => payload.get(6),
        FRAGMENT if payload.get(2)? & 0x80 == 0 => return None,
        FRAGMENT => payload.get(3),
        _ => payload.get(2),
    };
    match kind(payload)? {
        // `first_slice_segment_in_pic_flag` is the first bit after the header.
        0..=LAST_SLICE => body.map(|byte| byte & 0x80 != 0),
        VPS..=AUD | PREFIX_SEI | 41..=44 => Some(true),
        _ => None,
    }
}
