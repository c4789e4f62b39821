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

/// H.265 configuration (ISO/IEC 14496-15, 8.3.3.1, HEVCDecoderConfigurationRecord) with what muxers ask of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HevcConfig {
    /// The content of `hvcC`, `lengthSizeMinusOne` normalised to 3.
    pub record: Bytes,
    /// Video parameter sets, without start codes or lengths; may be missing.
    pub vps: Vec<Bytes>,
    /// Sequence parameter sets.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets.
    pub pps: Vec<Bytes>,
    /// NAL length size the publisher uses: 1, 2 or 4 (frames are normalised to 4).
    pub length_size: u8,
    /// Picture width in pixels after cropping.
    pub width: u32,
    /// Picture height in pixels after cropping.
    pub height: u32,
    /// `general_profile_idc`.
    pub profile: u8,
    /// `general_level_idc`: thirty times the level.
    pub level: u8,
}

/// AV1 configuration (AV1 Codec ISO Media File Format Binding, 2.3, AV1CodecConfigurationRecord).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Av1Config {
    /// The content of `av1C`, the sequence header inside.
    pub record: Bytes,
    /// The sequence header OBU, with header and size field.
    pub sequence_header: Bytes,
    /// Greatest picture width of the sequence in pixels.
    pub width: u32,
    /// Greatest picture height of the sequence in pixels.
    pub height: u32,
    /// `seq_profile`: 0 Main, 1 High, 2 Professional.
    pub profile: u8,
    /// `seq_level_idx[0]`.
    pub level: u8,
}

/// VP8 or VP9 configuration (VP Codec ISO Media File Format Binding, VPCodecConfigurationRecord).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpxConfig {
    /// The content of `vpcC` after version and flags, which are 1 and 0.
    pub record: Bytes,
    /// Picture width in pixels; 0 when only a record told, which does not hold it: key frames do.
    pub width: u32,
    /// Picture height in pixels; 0 as `width`.
    pub height: u32,
    /// Profile, 0 to 3.
    pub profile: u8,
    /// Ten times the level, such as 31; the smallest for the picture's size where nothing tells.
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
    /// H.265.
    Hevc(Arc<HevcConfig>),
    /// AV1.
    Av1(Arc<Av1Config>),
    /// VP8.
    Vp8(Arc<VpxConfig>),
    /// VP9.
    Vp9(Arc<VpxConfig>),
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
            Self::Hevc(_) => Codec::H265,
            Self::Av1(_) => Codec::Av1,
            Self::Vp8(_) => Codec::Vp8,
            Self::Vp9(_) => Codec::Vp9,
            Self::Aac(_) => Codec::Aac,
            Self::Opus(_) => Codec::Opus,
            Self::Unsupported(codec) => *codec,
        }
    }

    /// Width and height in pixels after cropping; `None` for sound and what is not understood.
    pub fn picture_size(&self) -> Option<(u32, u32)> {
        match self {
            Self::Avc(avc) => Some((avc.width, avc.height)),
            Self::Hevc(hevc) => Some((hevc.width, hevc.height)),
            Self::Av1(av1) => Some((av1.width, av1.height)),
            Self::Vp8(vpx) | Self::Vp9(vpx) => Some((vpx.width, vpx.height)),
            Self::Aac(_) | Self::Opus(_) | Self::Unsupported(_) => None,
        }
    }
}

/// A configuration record that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record}: {problem}")]
pub struct ConfigError {
    /// Which record: `avcC`, `hvcC`, `AudioSpecificConfig` and so on, or `AVC payload` for NAL units that do not add up.
    pub record: &'static str,
    /// What is wrong with it.
    pub problem: String,
}
