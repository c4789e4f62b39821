//! What the codecs have in common, and where each of them answers for itself.

use bytes::Bytes;
use media::CodecConfig;

use super::unit::Unit;
use super::{av1, h264, h265, vp8, vp9};

/// How pictures are coded and put into packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    H264,
    H265,
    Av1,
    Vp9,
    Vp8,
}

/// What a NAL unit is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nal {
    /// A parameter set; sets are kept in the order of these numbers.
    Set(u8),
    /// A coded slice.
    Slice,
    /// Supplemental enhancement information before a picture.
    Sei,
    /// Of a layer that nothing recorded here has use for.
    Foreign,
    Other,
}

impl Coding {
    /// Whether the payload begins an access unit; `None` when it cannot be told (filler, the middle of a NAL unit).
    pub(super) fn begins_access_unit(self, payload: &[u8]) -> Option<bool> {
        match self {
            Self::H264 => h264::begins_access_unit(payload),
            Self::H265 => h265::begins_access_unit(payload),
            Self::Av1 => Some(av1::begins_temporal_unit(payload)),
            Self::Vp9 => Some(vp9::begins_picture(payload)),
            Self::Vp8 => Some(vp8::begins_frame(payload)),
        }
    }

    /// Whether pictures may build on the one that the payload is a part of.
    pub(super) fn is_reference(self, payload: &[u8], highest_layer: u8) -> bool {
        match self {
            Self::H264 => payload.first().is_none_or(|header| h264::is_reference(*header)),
            Self::H265 => h265::is_reference_payload(payload, highest_layer),
            Self::Av1 | Self::Vp9 => true,
            Self::Vp8 => vp8::is_reference(payload),
        }
    }

    /// The temporal layer of a payload, where that decides what builds on it.
    pub(super) fn temporal_layer(self, payload: &[u8]) -> u8 {
        if self == Self::H265 { h265::temporal_layer(payload) } else { 0 }
    }

    /// Adds what a packet holds to the unit. False when it does not parse.
    pub(super) fn take_payload(self, unit: &mut Unit, payload: &Bytes) -> bool {
        match self {
            Self::H264 => h264::take_payload(unit, payload),
            Self::H265 => h265::take_payload(unit, payload),
            Self::Av1 => av1::take_payload(unit, payload),
            Self::Vp9 => vp9::take_payload(unit, payload),
            Self::Vp8 => vp8::take_payload(unit, payload),
        }
    }

    /// What a NAL unit is by its header; of codecs that have NAL units.
    pub(super) fn nal(self, nal: &[u8]) -> Nal {
        if self == Self::H265 { h265::nal(nal) } else { h264::nal(nal) }
    }
}

/// Pictures may come in another order than they are shown in.
pub(crate) fn reorders(config: &CodecConfig) -> bool {
    matches!(config, CodecConfig::Avc(_) | CodecConfig::Hevc(_))
}
