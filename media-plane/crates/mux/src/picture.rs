//! The configuration of pictures, of whichever codec.

use std::sync::Arc;

use media::{Av1Config, AvcConfig, Codec, CodecConfig, HevcConfig, VpxConfig};

/// See the module. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    Avc(Arc<AvcConfig>),
    Hevc(Arc<HevcConfig>),
    Av1(Arc<Av1Config>),
    Vp8(Arc<VpxConfig>),
    Vp9(Arc<VpxConfig>),
}

impl Picture {
    /// `None` when no container carries it.
    pub(crate) fn of(config: &CodecConfig) -> Option<Self> {
        match config {
            CodecConfig::Avc(avc) => Some(Self::Avc(Arc::clone(avc))),
            CodecConfig::Hevc(hevc) => Some(Self::Hevc(Arc::clone(hevc))),
            CodecConfig::Av1(av1) => Some(Self::Av1(Arc::clone(av1))),
            CodecConfig::Vp8(vpx) => Some(Self::Vp8(Arc::clone(vpx))),
            CodecConfig::Vp9(vpx) => Some(Self::Vp9(Arc::clone(vpx))),
            CodecConfig::Aac(_) | CodecConfig::Opus(_) | CodecConfig::Unsupported(_) => None,
        }
    }

    pub(crate) fn codec(&self) -> Codec {
        match self {
            Self::Avc(_) => Codec::H264,
            Self::Hevc(_) => Codec::H265,
            Self::Av1(_) => Codec::Av1,
            Self::Vp8(_) => Codec::Vp8,
            Self::Vp9(_) => Codec::Vp9,
        }
    }

    pub(crate) fn config(&self) -> CodecConfig {
        match self {
            Self::Avc(avc) => CodecConfig::Avc(Arc::clone(avc)),
            Self::Hevc(hevc) => CodecConfig::Hevc(Arc::clone(hevc)),
            Self::Av1(av1) => CodecConfig::Av1(Arc::clone(av1)),
            Self::Vp8(vpx) => CodecConfig::Vp8(Arc::clone(vpx)),
            Self::Vp9(vpx) => CodecConfig::Vp9(Arc::clone(vpx)),
        }
    }

    /// The very same configuration, not just an equal one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Avc(one), Self::Avc(other)) => Arc::ptr_eq(one, other),
            (Self::Hevc(one), Self::Hevc(other)) => Arc::ptr_eq(one, other),
            (Self::Av1(one), Self::Av1(other)) => Arc::ptr_eq(one, other),
            (Self::Vp8(one), Self::Vp8(other)) | (Self::Vp9(one), Self::Vp9(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Width and height in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        self.config().picture_size().unwrap_or_default()
    }
}
