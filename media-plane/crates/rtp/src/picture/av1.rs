//! AV1 over RTP (RTP Payload Format for AV1, version 1.0): OBUs become a temporal unit, each with its size.

use bytes::{BufMut, Bytes, BytesMut};
use media::av1::{FRAME, FRAME_HEADER, SEQUENCE_HEADER, TEMPORAL_DELIMITER, TILE_GROUP};

use super::unit::Unit;

/// OBUs of one packet at most; more are an attack.
const MAX_ELEMENTS: usize = 256;
/// A frame header that repeats one; decoders do without.
const REDUNDANT_FRAME_HEADER: u8 = 7;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
/// `obu_extension_flag` and `obu_has_size_field`.
const HAS_EXTENSION: u8 = 4;
const HAS_SIZE: u8 = 2;

/// The aggregation header (4.4).
#[derive(Clone, Copy)]
struct Aggregation(u8);

impl Aggregation {
    /// The first element goes on with an OBU of the packet before.
    fn continues(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// The last element goes on in the next packet.
    fn goes_on(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// Elements, of which the last has no length; 0 = any number, each with its length.
    fn count(self) -> usize {
        usize::from(self.0 >> 4 & 3)
    }

    /// It is the first of a coded video sequence.
    fn begins_sequence(self) -> bool {
        self.0 & 8 != 0
    }
}

/// Whether the packet is the first of a temporal unit. Of one that begins with a frame that is only likely, which is
/// enough: after a loss only a sequence header is believed.
pub(super) fn begins_temporal_unit(payload: &[u8]) -> bool {
    let Some((&first, rest)) = payload.split_first() else { return false };
    let aggregation = Aggregation(first);
    if aggregation.continues() {
        return false;
    }
    if aggregation.begins_sequence() {
        return true;
    }
    let header = match aggregation.count() {
        1 => Some(rest),
        _ => leb128(rest).map(|(_, rest)| rest),
    };
    let Some(&[header, ref rest @ ..]) = header else { return false };
    // A frame of a higher spatial layer goes on with a temporal unit.
    let is_base = header & HAS_EXTENSION == 0 || rest.first().is_some_and(|byte| byte >> 3 & 3 == 0);
    is_base && matches!(kind(header), SEQUENCE_HEADER | TEMPORAL_DELIMITER | FRAME_HEADER | FRAME)
}

/// Adds the OBUs, or parts of them, of a packet. False when it does not parse.
pub(super) fn take_payload(unit: &mut Unit, payload: &Bytes) -> bool {
    unit.is_reference = true;
    take_elements(unit, payload).is_some() || unit.spoil()
}

fn take_elements(unit: &mut Unit, payload: &[u8]) -> Option<()> {
    let (&first, mut rest) = payload.split_first()?;
    let aggregation = Aggregation(first);
    for index in 0..MAX_ELEMENTS {
        let is_unsized = aggregation.count() > 0 && index + 1 == aggregation.count();
        let (element, after) = if is_unsized { (rest, &[][..]) } else { sized(rest)? };
        rest = after;
        let is_last = rest.is_empty();
        let goes_on = index == 0 && aggregation.continues();
        let fits = (goes_on || unit.begin_piece()) && unit.add_piece(element);
        let is_open = is_last && aggregation.goes_on();
        if !fits || !(is_open || close(unit)) {
            return None;
        }
        if is_last {
            return (aggregation.count() == 0 || is_unsized).then_some(());
        }
    }
    None
}

/// An element with its length in front, and what follows it.
fn sized(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = leb128(data)?;
    rest.split_at_checked(size)
}

/// An OBU is complete: it goes in with its size, if a recording has use for it. False when it is none.
fn close(unit: &mut Unit) -> bool {
    let Some(obu) = unit.take_piece() else { return false };
    let Some((header, body)) = split(&obu) else { return false };
    let Some(&first) = header.first() else { return false };
    if matches!(kind(first), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
        return true;
    }
    let mut whole = BytesMut::with_capacity(obu.len() + 4);
    whole.put_u8(first | HAS_SIZE);
    whole.put_slice(header.get(1..).unwrap_or_default());
    put_leb128(&mut whole, body.len());
    whole.put_slice(body);
    let whole = whole.freeze();
    match kind(first) {
        SEQUENCE_HEADER if !unit.keep_set(whole.clone()) => return false,
        FRAME_HEADER | FRAME if !unit.has_slice => {
            unit.has_slice = true;
            unit.restarts = is_key(body);
        }
        FRAME_HEADER | FRAME | TILE_GROUP | REDUNDANT_FRAME_HEADER => unit.has_slice = true,
        _ => {}
    }
    unit.append(&whole)
}

/// Header (with extension) and content, without a size if it has one of its own.
fn split(obu: &[u8]) -> Option<(&[u8], &[u8])> {
    let &first = obu.first()?;
    let (header, rest) = obu.split_at_checked(if first & HAS_EXTENSION != 0 { 2 } else { 1 })?;
    // The forbidden bit.
    if first & 0x80 != 0 {
        return None;
    }
    if first & HAS_SIZE == 0 {
        return Some((header, rest));
    }
    let (body, _) = sized(rest)?;
    Some((header, body))
}

/// Whether a frame header is that of a key frame that is shown (AV1, 5.9.2): `show_existing_frame` 0, `frame_type` 0,
/// `show_frame` 1.
fn is_key(header: &[u8]) -> bool {
    header.first().is_some_and(|bits| bits >> 4 == 1)
}

fn kind(header: u8) -> u8 {
    header >> 3 & 15
}

/// A number of 7 bits a byte, low ones first, and what follows it (AV1, 4.10.5).
fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0usize;
    for (index, &byte) in data.iter().take(4).enumerate() {
        value |= usize::from(byte & 127) << (7 * index);
        if byte & 128 == 0 {
            return Some((value, data.get(index + 1..)?));
        }
    }
    None
}

fn put_leb128(out: &mut BytesMut, mut value: usize) {
    while value > 127 {
        out.put_u8((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
