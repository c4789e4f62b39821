//! The ADTS header (ISO/IEC 13818-7, 6.2) in front of every AAC frame in `.aac` files and in TS.

use bytes::Bytes;
use media::AacConfig;

use crate::Rejected;

/// Bytes of the header without CRC.
const HEADER: usize = 7;
/// The frame length field has 13 bits.
const MAX_FRAME: usize = 0x1fff;

/// What ADTS can say about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Adts {
    profile: u8,
    rate_index: u8,
    channels: u8,
    /// The layout in front of every frame's payload, when `channels` is 0.
    program_config: Bytes,
}

impl Adts {
    /// `None` when the header has no room for the configuration: a free sampling rate, 960-sample frames, an object
    /// type above 4, a reserved layout. HE-AAC goes as its core, which decoders know to extend (implicit signalling). A
    /// layout of the stream's own goes in front of every frame, so that decoding can start at any.
    pub(crate) fn new(aac: &AacConfig) -> Option<Self> {
        let channels = aac.channel_config;
        let program_config = if channels == 0 { aac.program_config()? } else { Bytes::new() };
        let profile = aac.object_type.checked_sub(1).filter(|profile| *profile < 4)?;
        if aac.samples_per_frame != 1_024 || channels > 7 {
            return None;
        }
        Some(Self { profile, rate_index: aac.sample_rate_index()?, channels, program_config })
    }

    /// Bytes of a frame around a payload, if its length can be written.
    pub(crate) fn frame_length(&self, payload: usize) -> Result<usize, Rejected> {
        let length = HEADER + self.program_config.len() + payload;
        if length > MAX_FRAME {
            return Err(Rejected::Malformed(format!("{payload} bytes do not fit into an ADTS frame")));
        }
        Ok(length)
    }

    /// What goes in front of the payload of a frame of `length` bytes in all.
    pub(crate) fn head(&self, length: usize) -> Head<'_> {
        let fixed = [
            0xff,
            0xf1,
            self.profile << 6 | self.rate_index << 2 | self.channels >> 2,
            (self.channels & 3) << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1f,
            0xfc,
        ];
        Head { fixed, program_config: &self.program_config }
    }
}

/// The pieces in front of a payload.
pub(crate) struct Head<'a> {
    pub(crate) fixed: [u8; HEADER],
    pub(crate) program_config: &'a [u8],
}
