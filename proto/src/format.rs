//! The output containers as a type without "unspecified", with their names, extensions and content types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::pb::v1;

/// Container of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Playlist and segments.
    Hls,
    /// Flash video.
    Flv,
    /// MPEG-4 file.
    Mp4,
    /// ADTS, sound only.
    Aac,
}

impl Format {
    /// Every format, in wire order.
    pub const ALL: [Self; 4] = [Self::Hls, Self::Flv, Self::Mp4, Self::Aac];

    /// Lower-case name: in file names, keys, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hls => "hls",
            Self::Flv => "flv",
            Self::Mp4 => "mp4",
            Self::Aac => "aac",
        }
    }

    /// Content type of the object a player opens (for HLS, the playlist).
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Hls => "application/vnd.apple.mpegurl",
            Self::Flv => "video/x-flv",
            Self::Mp4 => "video/mp4",
            Self::Aac => "audio/aac",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text or number that names no container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a format: hls, flv, mp4 or aac")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let known = Self::ALL.into_iter().find(|format| format.as_str() == text);
        known.ok_or_else(|| UnknownFormat(text.chars().take(64).collect()))
    }
}

impl From<Format> for v1::format::Kind {
    fn from(format: Format) -> Self {
        match format {
            Format::Hls => Self::Hls,
            Format::Flv => Self::Flv,
            Format::Mp4 => Self::Mp4,
            Format::Aac => Self::Aac,
        }
    }
}

impl TryFrom<v1::format::Kind> for Format {
    type Error = UnknownFormat;
    fn try_from(kind: v1::format::Kind) -> Result<Self, UnknownFormat> {
        match kind {
            v1::format::Kind::Hls => Ok(Self::Hls),
            v1::format::Kind::Flv => Ok(Self::Flv),
            v1::format::Kind::Mp4 => Ok(Self::Mp4),
            v1::format::Kind::Aac => Ok(Self::Aac),
            v1::format::Kind::Unspecified => Err(UnknownFormat(kind.as_str_name().to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_wire_values_round_trip() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse::<Format>().unwrap(), format);
            assert_eq!(Format::try_from(v1::format::Kind::from(format)).unwrap(), format);
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
        }
        assert!(Format::try_from(v1::format::Kind::Unspecified).is_err());
        assert!("MP4".parse::<Format>().is_err(), "names are lower case");
    }
}
