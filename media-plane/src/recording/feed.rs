//! In which form an output takes a stream: as it comes, or with its sound in AAC.

use media::{Codec, CodecConfig};
use mux::registry::{Format, Segment, Treatment, Wish};

/// See the module. Sound that comes in AAC is the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// As it comes.
    Original,
    /// With AAC in the place of any other codec.
    Aac,
    /// Both are the same.
    Both,
}

impl Feed {
    /// The one that this format takes, with segments (if it has any) that are packed like this.
    pub fn of(format: Format, segment: Segment, wish: Wish) -> Self {
        if format.treats(segment, Codec::Opus, wish) == Treatment::Encode { Self::Aac } else { Self::Original }
    }

    /// Whether what comes over this one is for who takes the other.
    pub fn includes(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

/// Whether sound with this configuration is left out.
pub fn is_left_out(format: Format, segment: Segment, wish: Wish, config: &CodecConfig) -> bool {
    format.treats(segment, config.codec(), wish) == Treatment::LeaveOut
}
