//! AV1 temporal units and sequence headers (AV1 Bitstream & Decoding Process Specification, section 5).

use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::BitReader;
use crate::{Av1Config, ConfigError};

/// `obu_type` of a sequence header.
pub const SEQUENCE_HEADER: u8 = 1;
/// `obu_type` of a temporal delimiter.
pub const TEMPORAL_DELIMITER: u8 = 2;
/// `obu_type` of a frame header.
pub const FRAME_HEADER: u8 = 3;
/// `obu_type` of a tile group.
pub const TILE_GROUP: u8 = 4;
/// `obu_type` of a frame: header and tiles.
pub const FRAME: u8 = 6;

/// Large scale tile decoding, which nothing recorded here is for.
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
/// `obu_has_size_field` in an OBU's first byte.
const HAS_SIZE: u8 = 2;
/// `obu_extension_flag` in an OBU's first byte.
const HAS_EXTENSION: u8 = 4;
/// A sequence header takes a few dozen bytes; the record is kept whole.
const MAX_RECORD_BYTES: usize = 64 * 1024;

/// One open bitstream unit (5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obu<'a> {
    /// `obu_type`.
    pub kind: u8,
    /// What follows header and size.
    pub payload: &'a [u8],
    /// Header, size where there is one, and payload.
    pub whole: &'a [u8],
}

/// The OBUs of a temporal unit in the low-overhead format. One without a size takes all that is left. Ends early at the
/// first that does not fit.
pub fn obus(data: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    Obus { rest: data }
}

/// Brings a temporal unit to what [`crate::Frame::data`] promises: every OBU with its size; temporal delimiters, padding
/// and tile lists dropped. Clean input comes back as the same memory, and so does input that only begins with what is
/// dropped. The result is empty when nothing is left.
///
/// # Errors
/// When the OBUs do not add up.
pub fn normalise(data: Bytes) -> Result<Bytes, ConfigError> {
    let mut units = Obus { rest: &data };
    // Bytes dropped at the front, and whether everything after them stays as it is.
    let (mut dropped, mut kept, mut clean) = (0, 0, true);
    for unit in units.by_ref() {
        match (is_dropped(unit.kind), kept) {
            (true, 0) => dropped += unit.whole.len(),
            (true, _) => clean = false,
            (false, _) => {
                clean &= has_size(&unit);
                kept += unit.whole.len();
            }
        }
    }
    if !units.rest.is_empty() {
        let problem = format!("an OBU is longer than the payload of {} bytes", data.len());
        return Err(ConfigError { record: "AV1 payload", problem });
    }
    if clean {
        return Ok(data.slice(dropped..));
    }
    let mut out = BytesMut::with_capacity(data.len() + 8);
    for unit in obus(&data).filter(|unit| !is_dropped(unit.kind)) {
        put_sized(&mut out, &unit);
    }
    Ok(out.freeze())
}

/// A decoder can start here, given the sequence header: the first frame is a shown key frame.
pub fn is_keyframe(data: &[u8]) -> bool {
    let mut still = false;
    for unit in obus(data) {
        let first = unit.payload.first().copied();
        match unit.kind {
            // `reduced_still_picture_header`: its frames do not say what they are, because all are key frames.
            SEQUENCE_HEADER => still = first.is_some_and(|byte| byte & 0x08 != 0),
            // `show_existing_frame` 0, `frame_type` KEY_FRAME, `show_frame` 1.
            FRAME_HEADER | FRAME => return still || first.is_some_and(|byte| byte & 0xf0 == 0x10),
            _ => {}
        }
    }
    false
}

/// There is a frame inside, coded or shown again.
pub fn contains_frame(data: &[u8]) -> bool {
    obus(data).any(|unit| matches!(unit.kind, FRAME_HEADER | FRAME))
}

/// The first sequence header in band.
pub fn sequence_header(data: &[u8]) -> Option<Obu<'_>> {
    obus(data).find(|unit| unit.kind == SEQUENCE_HEADER)
}

impl Av1Config {
    /// Parses the content of `av1C`.
    ///
    /// # Errors
    /// When it does not parse or holds no sequence header: key frames do then, see [`sequence_header`].
    pub fn parse(record: Bytes) -> Result<Self, ConfigError> {
        let Some(&[version, _, _, _]) = record.first_chunk::<4>() else { return Err(bad("truncated")) };
        if version != 0x81 {
            return Err(bad(format!("marker and version {version:#04x}, not 0x81")));
        }
        if record.len() > MAX_RECORD_BYTES {
            return Err(bad("longer than any configuration is"));
        }
        let units = record.slice(4..);
        let unit = sequence_header(&units).ok_or_else(|| bad("no sequence header"))?;
        Ok(Self { record, ..Self::describe(&unit)? })
    }

    /// Makes the record of a sequence header OBU, with or without size field, as RTP and key frames have it.
    ///
    /// # Errors
    /// When it is not one, or does not parse.
    pub fn from_sequence_header(obu: &[u8]) -> Result<Self, ConfigError> {
        if obu.len() > MAX_RECORD_BYTES {
            return Err(bad("longer than any configuration is"));
        }
        match obus(obu).next() {
            Some(unit) if unit.kind == SEQUENCE_HEADER => Self::describe(&unit),
            _ => Err(bad("no sequence header")),
        }
    }

    fn describe(unit: &Obu<'_>) -> Result<Self, ConfigError> {
        let sequence = parse_sequence(unit.payload).ok_or_else(|| bad("the sequence header does not parse"))?;
        let mut header = BytesMut::new();
        put_sized(&mut header, unit);
        let mut record = BytesMut::new();
        record.put_slice(&[0x81, sequence.profile << 5 | sequence.level, sequence.colour, 0]);
        record.put_slice(&header);
        Ok(Self {
            record: record.freeze(),
            sequence_header: header.freeze(),
            width: sequence.width,
            height: sequence.height,
            profile: sequence.profile,
            level: sequence.level,
        })
    }
}

fn bad(problem: impl Into<String>) -> ConfigError {
    ConfigError { record: "av1C", problem: problem.into() }
}

fn is_dropped(kind: u8) -> bool {
    matches!(kind, TEMPORAL_DELIMITER | TILE_LIST | PADDING)
}

fn has_size(unit: &Obu<'_>) -> bool {
    unit.whole.first().is_some_and(|header| header & HAS_SIZE != 0)
}

fn put_sized(out: &mut BytesMut, unit: &Obu<'_>) {
    let Some((&header, rest)) = unit.whole.split_first() else { return };
    out.put_u8(header | HAS_SIZE);
    if header & HAS_EXTENSION != 0 {
        out.put_slice(rest.get(..1).unwrap_or_default());
    }
    let mut size = unit.payload.len();
    while size >= 0x80 {
        out.put_u8(size as u8 | 0x80);
        size >>= 7;
    }
    out.put_u8(size as u8);
    out.put_slice(unit.payload);
}

struct Obus<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Obus<'a> {
    type Item = Obu<'a>;

    fn next(&mut self) -> Option<Obu<'a>> {
        let &header = self.rest.first()?;
        let mut tail = self.rest.get(if header & HAS_EXTENSION == 0 { 1 } else { 2 }..)?;
        let size = if header & HAS_SIZE == 0 { tail.len() } else { leb128(&mut tail)? };
        let (payload, rest) = tail.split_at_checked(size)?;
        let whole = self.rest.get(..self.rest.len() - rest.len())?;
        self.rest = rest;
        Some(Obu { kind: header >> 3 & 15, payload, whole })
    }
}

/// `leb128()` (4.10.5): at most eight bytes, and the value below 2^32.
pub fn leb128(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for index in 0..8 {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().map(|value| value as usize);
        }
    }
    None
}

/// What a sequence header tells.
struct Sequence {
    profile: u8,
    level: u8,
    /// The third byte of the record: tier, depths, monochrome, subsampling, chroma position.
    colour: u8,
    width: u32,
    height: u32,
}

/// `sequence_header_obu` (5.5.1), up to the colour configuration.
fn parse_sequence(payload: &[u8]) -> Option<Sequence> {
    let mut r = BitReader::new(payload);
    let profile = r.bits(3).filter(|profile| *profile <= 2)? as u8;
    r.skip(1)?;
    let reduced = r.bit()?;
    let (level, tier) = if reduced { (r.bits(5)?, false) } else { operating_points(&mut r)? };
    let (width_bits, height_bits) = (r.bits(4)? + 1, r.bits(4)? + 1);
    let (width, height) = (r.bits(width_bits)? + 1, r.bits(height_bits)? + 1);
    if !reduced && r.bit()? {
        r.skip(7)?;
    }
    r.skip(3)?;
    if !reduced {
        skip_tools(&mut r)?;
    }
    r.skip(3)?;
    let colour = u8::from(tier) << 7 | colour_config(&mut r, profile)?;
    Some(Sequence { profile, level: level as u8, colour, width, height })
}

/// Timing and operating points; level and tier of the first.
fn operating_points(r: &mut BitReader<'_>) -> Option<(u32, bool)> {
    let mut delay_bits = None;
    if r.bit()? {
        r.skip(64)?;
        if r.bit()? {
            r.unsigned_golomb()?;
        }
        if r.bit()? {
            delay_bits = Some(r.bits(5)? as usize + 1);
            r.skip(32 + 5 + 5)?;
        }
    }
    let display_delay = r.bit()?;
    let mut first = None;
    for _ in 0..r.bits(5)? + 1 {
        r.skip(12)?;
        let level = r.bits(5)?;
        let tier = level > 7 && r.bit()?;
        first.get_or_insert((level, tier));
        if let Some(bits) = delay_bits
            && r.bit()?
        {
            r.skip(2 * bits + 1)?;
        }
        if display_delay && r.bit()? {
            r.skip(4)?;
        }
    }
    first
}

/// Coding tools that only sequences with a full header choose.
fn skip_tools(r: &mut BitReader<'_>) -> Option<()> {
    r.skip(4)?;
    let order_hint = r.bit()?;
    if order_hint {
        r.skip(2)?;
    }
    let screen_content = r.bit()? || r.bit()?;
    if screen_content && !r.bit()? {
        r.skip(1)?;
    }
    r.skip(if order_hint { 3 } else { 0 })
}

/// `color_config` (5.5.2), as the record has it.
fn colour_config(r: &mut BitReader<'_>, profile: u8) -> Option<u8> {
    /// BT.709 primaries, sRGB transfer, identity matrix: never subsampled.
    const SRGB: u32 = 0x01_0d_00;
    let high = r.bit()?;
    let twelve = profile == 2 && high && r.bit()?;
    let mono = profile != 1 && r.bit()?;
    let description = if r.bit()? { r.bits(24)? } else { 0x02_02_02 };
    let depth = u8::from(high) << 6 | u8::from(twelve) << 5;
    if mono {
        return Some(depth | 0b1_1100);
    }
    if description == SRGB {
        return Some(depth);
    }
    r.skip(1)?;
    let (x, y) = match (profile, twelve) {
        (0, _) => (true, true),
        (1, _) => (false, false),
        (_, true) => {
            let x = r.bit()?;
            (x, x && r.bit()?)
        }
        _ => (true, false),
    };
    let position = if x && y { r.bits(2)? as u8 } else { 0 };
    Some(depth | u8::from(x) << 3 | u8::from(y) << 2 | position)
}

#[cfg(test)]
#[path = "av1_tests.rs"]
mod tests;
