//! VP8 and VP9 key frames, and the configuration record that is made of them: these codecs send none of their own.

use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::BitReader;
use crate::{ConfigError, VpxConfig};

/// Bytes of the record without initialisation data, which neither codec has.
const RECORD_BYTES: usize = 8;
/// Version and flags of `vpcC`, which some put before the record where no box is.
const BOX_HEAD: [u8; 4] = [1, 0, 0, 0];
/// Greatest luma picture size of every level (VP9 Bitstream, Annex A); rates are not known here.
const LEVELS: [(u8, u32); 9] = [
    (10, 36_864),
    (11, 73_728),
    (20, 122_880),
    (21, 245_760),
    (30, 552_960),
    (31, 983_040),
    (40, 2_228_224),
    (50, 8_912_896),
    (60, 35_651_584),
];
/// 4:2:0 with chroma where luma is, which both codecs mean unless told otherwise.
const SUBSAMPLED: u8 = 1;

/// A decoder can start at this VP8 frame (RFC 6386, 9.1).
pub fn is_vp8_keyframe(frame: &[u8]) -> bool {
    vp8(frame).is_some()
}

/// A decoder can start at this VP9 frame or superframe (VP9 Bitstream, 6.2).
pub fn is_vp9_keyframe(frame: &[u8]) -> bool {
    vp9(frame).is_some()
}

impl VpxConfig {
    /// Parses the content of `vpcC`, with or without its version and flags. It does not tell the picture's size.
    ///
    /// # Errors
    /// When it is cut short or holds values that no bitstream has.
    pub fn parse(record: &[u8]) -> Result<Self, ConfigError> {
        let bad = |problem: &str| ConfigError { record: "vpcC", problem: problem.to_owned() };
        // A record that began like this would have a bit depth of 0.
        let record = record.strip_prefix(&BOX_HEAD).unwrap_or(record);
        let Some(&[profile, level, sampling, ..]) = record.first_chunk::<RECORD_BYTES>() else {
            return Err(bad("truncated"));
        };
        if profile > 3 || !matches!(sampling >> 4, 8 | 10 | 12) {
            return Err(bad("a profile or bit depth that does not exist"));
        }
        let mut whole = BytesMut::from(record.get(..RECORD_BYTES - 2).unwrap_or_default());
        whole.put_u16(0);
        Ok(Self { record: whole.freeze(), width: 0, height: 0, profile, level })
    }

    /// What a VP8 key frame tells.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_vp8_keyframe(frame: &[u8]) -> Result<Self, ConfigError> {
        vp8(frame).map(Self::describe).ok_or_else(|| no_keyframe("VP8 frame"))
    }

    /// What a VP9 key frame, or superframe that begins with one, tells.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_vp9_keyframe(frame: &[u8]) -> Result<Self, ConfigError> {
        vp9(frame).map(Self::describe).ok_or_else(|| no_keyframe("VP9 frame"))
    }

    /// The record of `announced`, which may know level and colours, where it agrees with what this key frame told.
    #[must_use]
    pub fn with_record_of(self, announced: &Self) -> Self {
        let sampling = |config: &Self| config.record.get(2).map(|byte| (byte >> 4, (byte >> 1 & 7).max(SUBSAMPLED)));
        if announced.profile != self.profile || sampling(announced) != sampling(&self) {
            return self;
        }
        Self { record: announced.record.clone(), level: announced.level, ..self }
    }

    fn describe(picture: Picture) -> Self {
        let size = picture.width.saturating_mul(picture.height);
        let level = LEVELS.iter().find(|(_, most)| size <= *most).map_or(62, |(level, _)| *level);
        let sampling = picture.depth << 4 | picture.sampling << 1 | u8::from(picture.full_range);
        // Unspecified primaries and transfer: the codecs have no place for them.
        let record = vec![picture.profile, level, sampling, 2, 2, picture.matrix, 0, 0];
        Self {
            record: Bytes::from(record),
            width: picture.width,
            height: picture.height,
            profile: picture.profile,
            level,
        }
    }
}

fn no_keyframe(record: &'static str) -> ConfigError {
    ConfigError { record, problem: "not a key frame".to_owned() }
}

/// What a key frame tells.
struct Picture {
    profile: u8,
    depth: u8,
    /// `chromaSubsampling` of the record.
    sampling: u8,
    full_range: bool,
    /// `matrixCoefficients` of ISO/IEC 23091-2.
    matrix: u8,
    width: u32,
    height: u32,
}

/// RFC 6386, 9.1 and 9.2.
fn vp8(frame: &[u8]) -> Option<Picture> {
    let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = frame.first_chunk::<10>()? else { return None };
    let side = |low, high| Some(u32::from(u16::from_le_bytes([low, high]) & 0x3fff)).filter(|side| *side > 0);
    if tag & 1 != 0 {
        return None;
    }
    let profile = tag >> 1 & 7;
    (profile <= 3).then_some(Picture {
        profile,
        depth: 8,
        sampling: SUBSAMPLED,
        full_range: false,
        matrix: 6,
        width: side(w0, w1)?,
        height: side(h0, h1)?,
    })
}

/// `uncompressed_header` up to the frame's size.
fn vp9(frame: &[u8]) -> Option<Picture> {
    let mut r = BitReader::new(frame);
    let marker = r.bits(2)?;
    let profile = u8::from(r.bit()?) | u8::from(r.bit()?) << 1;
    if profile == 3 && r.bit()? {
        return None;
    }
    let (again, other) = (r.bit()?, r.bit()?);
    r.skip(2)?;
    if marker != 2 || again || other || r.bits(24)? != 0x49_83_42 {
        return None;
    }
    let depth = match profile >= 2 {
        true if r.bit()? => 12,
        true => 10,
        false => 8,
    };
    let space = r.bits(3)?;
    let odd_profile = profile & 1 == 1;
    let (full_range, sampling) = if space == 7 {
        (true, 3)
    } else {
        let full_range = r.bit()?;
        let (x, y) = if odd_profile { (r.bit()?, r.bit()?) } else { (true, true) };
        // 4:4:0 has no number; 4:4:4 is what a player must be ready for.
        (
            full_range,
            if x && y {
                SUBSAMPLED
            } else if x {
                2
            } else {
                3
            },
        )
    };
    r.skip(usize::from(odd_profile))?;
    let (width, height) = (r.bits(16)? + 1, r.bits(16)? + 1);
    Some(Picture { profile, depth, sampling, full_range, matrix: matrix(space), width, height })
}

/// VP9's `color_space` as matrix coefficients.
fn matrix(space: u32) -> u8 {
    match space {
        1 => 6,
        2 => 1,
        3 => 6,
        4 => 7,
        5 => 9,
        7 => 0,
        _ => 2,
    }
}

#[cfg(test)]
#[path = "vpx_tests.rs"]
mod tests;
