//! The configuration of sound, of whichever codec.

use std::sync::Arc;

use bytes::Bytes;
use media::{AacConfig, Codec, CodecConfig, MediaTime, OpusConfig, opus};

/// See the module. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    Aac(Arc<AacConfig>),
    Opus(Arc<OpusConfig>),
}

impl Sound {
    /// `None` when no container carries it.
    pub(crate) fn of(config: &CodecConfig) -> Option<Self> {
        match config {
            CodecConfig::Aac(aac) => Some(Self::Aac(Arc::clone(aac))),
            CodecConfig::Opus(opus) => Some(Self::Opus(Arc::clone(opus))),
            _ => None,
        }
    }

    pub(crate) fn codec(&self) -> Codec {
        match self {
            Self::Aac(_) => Codec::Aac,
            Self::Opus(_) => Codec::Opus,
        }
    }

    pub(crate) fn aac(&self) -> Option<&AacConfig> {
        match self {
            Self::Aac(aac) => Some(aac),
            Self::Opus(_) => None,
        }
    }

    pub(crate) fn config(&self) -> CodecConfig {
        match self {
            Self::Aac(aac) => CodecConfig::Aac(Arc::clone(aac)),
            Self::Opus(opus) => CodecConfig::Opus(Arc::clone(opus)),
        }
    }

    /// The very same configuration, not just an equal one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Aac(one), Self::Aac(other)) => Arc::ptr_eq(one, other),
            (Self::Opus(one), Self::Opus(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// How long a frame lasts, in timeline ticks.
    pub(crate) fn duration(&self, frame: &Bytes) -> i64 {
        match self {
            Self::Aac(aac) => i64::from(aac.samples_per_frame) * MediaTime::SCALE / i64::from(aac.sample_rate.max(1)),
            Self::Opus(_) => {
                let samples = i64::from(opus::packet_samples(frame).unwrap_or_default());
                samples * MediaTime::SCALE / i64::from(opus::SAMPLE_RATE)
            }
        }
    }
}
