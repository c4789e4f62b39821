//! The objects of one file: how index, part and extension follow its base key.

use crate::format::Format;
use crate::ids::FileIndex;

/// Which object of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectPart {
    /// The file itself; for HLS, its playlist.
    Whole,
    /// An MPEG-TS segment of HLS, by number.
    Segment(u64),
    /// A fragmented MP4 segment of HLS, by number.
    Fragment(u64),
    /// The initialisation section of fragmented MP4, by number: a new one follows every change of codec.
    Init(u64),
    /// The playlist of HLS.
    Playlist,
    /// What is known about the file, as JSON beside it.
    Manifest,
}

/// The key of one object: `{prefix}/{base}[-{index}]` and then `.flv`, `.mp4`, `.aac`, or for HLS `/index.m3u8`,
/// `/{n}.ts`, `/{n}.m4s`, `/init-{n}.mp4`. At most 1024 bytes when `base` comes from [`super::KeyTemplate::expand`] and
/// `prefix` passed [`super::check_prefix`].
pub fn object_key(prefix: &str, base: &str, format: Format, index: FileIndex, part: ObjectPart) -> String {
    let mut key = String::with_capacity(prefix.len() + base.len() + 48);
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() {
        key.push_str(prefix);
        key.push('/');
    }
    key.push_str(base);
    if index > FileIndex(0) {
        key.push_str(&format!("-{index}"));
    }
    let end = match (format, part) {
        (Format::Hls, ObjectPart::Whole) | (_, ObjectPart::Playlist) => "/index.m3u8".to_owned(),
        (_, ObjectPart::Whole) => format!(".{format}"),
        (_, ObjectPart::Segment(number)) => format!("/{number}.ts"),
        (_, ObjectPart::Fragment(number)) => format!("/{number}.m4s"),
        (_, ObjectPart::Init(number)) => format!("/init-{number}.mp4"),
        (_, ObjectPart::Manifest) => format!(".{format}.json"),
    };
    key.push_str(&end);
    key
}

impl ObjectPart {
    /// Content type of the object.
    pub const fn content_type(self, format: Format) -> &'static str {
        match self {
            Self::Whole => format.content_type(),
            Self::Segment(_) => "video/mp2t",
            Self::Fragment(_) => "video/iso.segment",
            Self::Init(_) => "video/mp4",
            Self::Playlist => Format::Hls.content_type(),
            Self::Manifest => "application/json",
        }
    }
}
