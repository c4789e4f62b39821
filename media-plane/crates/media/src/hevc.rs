//! Parsing and making of HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1) and the SPS inside.

use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::BitReader;
use crate::h265::{PPS, SPS, VPS};
use crate::{ConfigError, HevcConfig, h264, h265};

/// No H.265 level allows a side longer than this (8192 x 4320 times sqrt(8) of level 7.2 is less).
const MAX_SIDE: u32 = 32_768;
/// Parameter sets take a few hundred bytes; the record is kept whole.
const MAX_RECORD_BYTES: usize = 64 * 1024;
/// Bytes of a record before its arrays, their count included.
const HEAD_BYTES: usize = 23;
/// H.265 numbers 16 video and sequence parameter sets and 64 picture parameter sets (7.4.3).
const MAX_SETS: [usize; 3] = [16, 16, 64];

impl HevcConfig {
    /// Parses the content of `hvcC`. Parameter sets in Annex B form, which a few encoders send instead, are accepted and
    /// turned into a record.
    ///
    /// # Errors
    /// When it does not parse, or holds no sequence parameter set that does.
    pub fn parse(record: Bytes) -> Result<Self, ConfigError> {
        if record.len() > MAX_RECORD_BYTES {
            return Err(bad("longer than any configuration is"));
        }
        if h264::starts_with_start_code(&record) {
            let [vps, sps, pps] = from_annex_b(&record);
            return Self::from_parameter_sets(vps, sps, pps);
        }
        let (sets, length_size, record) = from_record(record)?;
        Self::describe(sets, length_size, record)
    }

    /// Makes the record of parameter sets as RTP and Annex B have them: NAL units with their header, without start code
    /// or length. There may be none of `vps`.
    ///
    /// # Errors
    /// When there is no sequence parameter set that parses, or too many or too large ones.
    pub fn from_parameter_sets(vps: Vec<Bytes>, sps: Vec<Bytes>, pps: Vec<Bytes>) -> Result<Self, ConfigError> {
        let sets = [vps, sps, pps];
        let record = build_record(&sets)?;
        Self::describe(sets, 4, record)
    }

    fn describe([vps, sps, pps]: [Vec<Bytes>; 3], length_size: u8, record: Bytes) -> Result<Self, ConfigError> {
        let picture = first_picture(&sps)?;
        let (profile, level) = (picture.general[0] & 31, picture.general[11]);
        Ok(Self { record, vps, sps, pps, length_size, width: picture.width, height: picture.height, profile, level })
    }
}

fn bad(problem: impl Into<String>) -> ConfigError {
    ConfigError { record: "hvcC", problem: problem.into() }
}

fn first_picture(sps: &[Bytes]) -> Result<Picture, ConfigError> {
    let first = sps.first().ok_or_else(|| bad("no sequence parameter set"))?;
    parse_sps(first).ok_or_else(|| bad("the sequence parameter set does not parse"))
}

/// Video, sequence and picture parameter sets, in the order in which they stand before a key frame.
type Sets = [Vec<Bytes>; 3];

fn from_record(record: Bytes) -> Result<(Sets, u8, Bytes), ConfigError> {
    let short = || bad("truncated");
    let (version, sizes, arrays) = match record.first_chunk::<HEAD_BYTES>() {
        Some(&[version, .., sizes, arrays]) => (version, sizes, arrays),
        None => return Err(short()),
    };
    // Encoders of before the standard wrote 0.
    if version > 1 {
        return Err(bad(format!("version {version}, not 1")));
    }
    let length_size = sizes & 3;
    if length_size == 2 {
        return Err(bad("NAL length size 3"));
    }
    let (mut sets, mut position) = (Sets::default(), HEAD_BYTES);
    for _ in 0..arrays {
        let &[kind, high, low] = record.get(position..position + 3).ok_or_else(short)? else { return Err(short()) };
        position += 3;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let &[high, low] = record.get(position..position + 2).ok_or_else(short)? else { return Err(short()) };
            let start = position + 2;
            position = start + usize::from(u16::from_be_bytes([high, low]));
            if position > record.len() {
                return Err(short());
            }
            // By its own header, and not by the array's: a few encoders confuse these.
            let nal = record.slice(start..position);
            keep(&mut sets, nal, kind & 63)?;
        }
    }
    if version == 1 && length_size == 3 {
        return Ok((sets, 4, record));
    }
    // What we write has 4-byte lengths, so the record that goes with it must say so.
    let mut copy = BytesMut::from(&record[..]);
    if let Some([version, .., sizes, _]) = copy.first_chunk_mut::<HEAD_BYTES>() {
        *version = 1;
        *sizes |= 3;
    }
    Ok((sets, length_size + 1, copy.freeze()))
}

fn from_annex_b(data: &Bytes) -> Sets {
    let mut sets = Sets::default();
    for nal in h265::annex_b_nals(data) {
        // More than are allowed are told when the record is built; here they only must not be lost.
        if let Some(kind @ VPS..=PPS) = h265::nal_type(nal)
            && let Some(list) = sets.get_mut(usize::from(kind - VPS))
        {
            list.push(data.slice_ref(nal));
        }
    }
    sets
}

fn keep(sets: &mut Sets, nal: Bytes, announced: u8) -> Result<(), ConfigError> {
    let Some(kind) = h265::nal_type(&nal) else { return Ok(()) };
    if kind != announced && (VPS..=PPS).contains(&announced) {
        return Err(bad(format!("a NAL unit of type {kind} among those of type {announced}")));
    }
    // Enhancement layers are described elsewhere; SEI in the record stays there.
    if let (VPS..=PPS, Some(0)) = (kind, h265::layer(&nal)) {
        let index = usize::from(kind - VPS);
        if let (Some(list), Some(most)) = (sets.get_mut(index), MAX_SETS.get(index)) {
            if list.len() >= *most {
                return Err(bad("too many parameter sets"));
            }
            list.push(nal);
        }
    }
    Ok(())
}

fn build_record(sets: &Sets) -> Result<Bytes, ConfigError> {
    let [_, sps, _] = sets;
    let picture = first_picture(sps)?;
    let mut record = BytesMut::new();
    record.put_u8(1);
    record.put_slice(&picture.general);
    // Spatial segmentation and the kind of parallelism: unknown.
    record.put_slice(&[0xf0, 0, 0xfc, 0xfc | picture.chroma_format]);
    record.put_slice(&[0xf8 | picture.luma_depth, 0xf8 | picture.chroma_depth]);
    // Average frame rate: unknown. Then layers, nesting, and 4-byte lengths.
    record.put_slice(&[0, 0, picture.layers << 3 | u8::from(picture.nested) << 2 | 3]);
    record.put_u8(sets.iter().filter(|list| !list.is_empty()).count() as u8);
    for ((list, kind), most) in sets.iter().zip(VPS..=PPS).zip(MAX_SETS) {
        let misfit = |set: &Bytes| {
            set.len() > usize::from(u16::MAX) || h265::nal_type(set) != Some(kind) || h265::layer(set) != Some(0)
        };
        if list.len() > most || list.iter().any(misfit) {
            return Err(bad("too many, too large or misplaced parameter sets"));
        }
        if !list.is_empty() {
            // Complete is what `hvc1` demands; what comes in band as well says the same.
            record.put_u8(0x80 | kind);
            record.put_u16(list.len() as u16);
        }
        for set in list {
            record.put_u16(set.len() as u16);
            record.put_slice(set);
        }
    }
    if record.len() > MAX_RECORD_BYTES {
        return Err(bad("longer than any configuration is"));
    }
    Ok(record.freeze())
}

/// What a sequence parameter set tells about the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Picture {
    /// Profile, compatibility, constraints and level, as both `profile_tier_level` and the record have them.
    general: [u8; 12],
    chroma_format: u8,
    /// Bits a sample beyond 8.
    luma_depth: u8,
    chroma_depth: u8,
    /// Temporal layers.
    layers: u8,
    /// `sps_temporal_id_nesting_flag`.
    nested: bool,
    width: u32,
    height: u32,
}

/// ITU-T H.265, 7.3.2.2.1, up to the bit depths.
fn parse_sps(nal: &[u8]) -> Option<Picture> {
    if h265::nal_type(nal)? != SPS {
        return None;
    }
    let rbsp = h264::unescape(nal.get(2..)?);
    let mut r = BitReader::new(&rbsp);
    r.skip(4)?;
    let sub_layers = r.bits(3)?;
    let nested = r.bit()?;
    let mut general = [0; 12];
    for byte in &mut general {
        *byte = r.bits(8)? as u8;
    }
    skip_sub_layers(&mut r, sub_layers)?;
    r.unsigned_golomb()?;
    let chroma_format = r.unsigned_golomb()?;
    let separate_planes = chroma_format == 3 && r.bit()?;
    let width = r.unsigned_golomb()?;
    let height = r.unsigned_golomb()?;
    if chroma_format > 3 || sub_layers > 6 || width > MAX_SIDE || height > MAX_SIDE {
        return None;
    }
    let (mut crop_x, mut crop_y) = (0, 0);
    if r.bit()? {
        let (unit_x, unit_y) = match (chroma_format, separate_planes) {
            (1, _) => (2, 2),
            (2, _) => (2, 1),
            _ => (1, 1),
        };
        crop_x = r.unsigned_golomb()?.checked_add(r.unsigned_golomb()?)?.checked_mul(unit_x)?;
        crop_y = r.unsigned_golomb()?.checked_add(r.unsigned_golomb()?)?.checked_mul(unit_y)?;
    }
    let luma_depth = r.unsigned_golomb().filter(|depth| *depth < 8)? as u8;
    let chroma_depth = r.unsigned_golomb().filter(|depth| *depth < 8)? as u8;
    Some(Picture {
        general,
        chroma_format: chroma_format as u8,
        luma_depth,
        chroma_depth,
        layers: sub_layers as u8 + 1,
        nested,
        width: width.checked_sub(crop_x).filter(|side| *side > 0)?,
        height: height.checked_sub(crop_y).filter(|side| *side > 0)?,
    })
}

/// The rest of `profile_tier_level` (7.3.3).
fn skip_sub_layers(r: &mut BitReader<'_>, count: u32) -> Option<()> {
    let mut present = Vec::new();
    for _ in 0..count {
        present.push((r.bit()?, r.bit()?));
    }
    if count > 0 {
        r.skip(2 * (8usize.checked_sub(present.len())?))?;
    }
    for (profile, level) in present {
        r.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

#[cfg(test)]
#[path = "hevc_tests.rs"]
mod tests;
