//! Codec configuration records: what a decoder needs before the first frame.

use std::sync::Arc;

use bytes::Bytes;

/// Every codec a publisher may name; only those with a [`CodecConfig`] are recorded today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Codec {
    H264,
    H265,
    Av1,
    Vp8,
    Vp9,
    Aac,
    Opus,
    Mp3,
    /// Anything else, by its FLV codec id.
    Other(u8),
}

/// H.264 configuration (ISO/IEC 14496-15, AVCDecoderConfigurationRecord) with what muxers ask of it, parsed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcConfig {
    /// The record as the publisher sent it, `lengthSizeMinusOne` normalised to 3.
    pub record: Bytes,
    /// Sequence parameter sets, without start codes or lengths.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets.
    pub pps: Vec<Bytes>,
    /// NAL length size the publisher uses: 1, 2 or 4 (frames are normalised to 4).
    pub length_size: u8,
    /// Coded picture width in pixels after cropping.
    pub width: u32,
    /// Coded picture height in pixels after cropping.
    pub height: u32,
    /// `profile_idc`.
    pub profile: u8,
    /// `level_idc`.
    pub level: u8,
}

/// AAC configuration (ISO/IEC 14496-3, AudioSpecificConfig).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AacConfig {
    /// The ASC as the publisher sent it.
    pub asc: Bytes,
    /// Core audio object type (2 = LC), after unwrapping explicit SBR/PS signalling.
    pub object_type: u8,
    /// Core sampling rate in Hz (half of the output rate for HE-AAC).
    pub sample_rate: u32,
    /// Output sampling rate in Hz (differs from `sample_rate` with explicit SBR).
    pub output_sample_rate: u32,
    /// `channelConfiguration`; 0 = described by a program config element.
    pub channel_config: u8,
    /// Channels that come out of a decoder.
    pub channels: u8,
    /// Samples of the core rate per access unit: 1024, or 960.
    pub samples_per_frame: u32,
    /// The recorder encoded it, from what came in another codec.
    pub transcoded: bool,
}

/// Opus configuration (RFC 7845, 5.1, channel mapping family 0). A frame is one Opus packet (RFC 6716, 3), without any
/// framing around it; its decoder always runs at 48 kHz.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusConfig {
    /// Channels a decoder should produce: 1 or 2. Every packet says for itself how many it carries.
    pub channels: u8,
    /// Samples at 48 kHz that a decoder drops at the very beginning; 0 when the source did not say (RTP has no place
    /// for it).
    pub pre_skip: u16,
    /// Sampling rate in Hz of what was encoded, for information only; 0 when unknown.
    pub sample_rate_in: u32,
}

/// Configuration of one track. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecConfig {
    /// H.264.
    Avc(Arc<AvcConfig>),
    /// AAC.
    Aac(Arc<AacConfig>),
    /// Opus.
    Opus(Arc<OpusConfig>),
    /// A codec that no output carries yet; kept so that the report can name it.
    Unsupported(Codec),
}

impl CodecConfig {
    /// Of which codec.
    pub fn codec(&self) -> Codec {
        match self {
            Self::Avc(_) => Codec::H264,
            Self::Aac(_) => Codec::Aac,
            Self::Opus(_) => Codec::Opus,
            Self::Unsupported(codec) => *codec,
        }
    }
}

/// A configuration record that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record}: {problem}")]
pub struct ConfigError {
    /// Which record: `avcC`, `AudioSpecificConfig`, or `AVC payload` for NAL units that do not add up.
    pub record: &'static str,
    /// What is wrong with it.
    pub problem: String,
}
