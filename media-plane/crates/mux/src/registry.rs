//! The formats there are: one table row each, from which constructors, keys, validation and the README matrix come.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use media::Codec;

use crate::aac::Aac;
use crate::flv::Flv;
use crate::hls::{self, Hls};
use crate::mp4::{FastStart, Fragmented};
use crate::{Muxer, Restored};

/// A recording format of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// HTTP Live Streaming: a playlist and its segments.
    Hls,
    /// Flash Video.
    Flv,
    /// ISO base media file.
    Mp4,
    /// AAC in ADTS frames.
    Aac,
}

/// How media segments of HLS are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// MPEG-2 transport stream.
    #[default]
    Ts,
    /// Fragmented MP4 with an initialisation segment.
    Fmp4,
}

/// Where an MP4 file keeps its index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `moov` first, written at the end: seekable by every player at once.
    #[default]
    FastStart,
    /// A `moof` for every picture and the sound beside it: complete at every moment, appendable.
    Fragmented,
}

/// What a template may set. Every format reads its own fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// A new API file begins at the first key frame at or after this; `None` keeps everything in one.
    pub max_file_duration: Option<Duration>,
    /// Aim of every HLS segment; the playlist's target duration is twice this.
    pub segment_duration: Duration,
    /// How HLS segments are packed.
    pub segment: Segment,
    /// MP4 only.
    pub layout: Layout,
    /// Wall time at [`media::MediaTime::ZERO`], for `EXT-X-PROGRAM-DATE-TIME` and MP4 creation times.
    pub wall_anchor: Option<SystemTime>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_file_duration: None,
            segment_duration: Duration::from_secs(10),
            segment: Segment::Ts,
            layout: Layout::FastStart,
            wall_anchor: None,
        }
    }
}

/// What a template wants of the sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Something that plays everywhere.
    #[default]
    Any,
    /// As it comes, or not at all.
    AsItComes,
    /// AAC, or none.
    Aac,
    /// None.
    None,
}

/// What becomes of a track in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It goes in as it comes.
    Copy,
    /// It is encoded to AAC-LC first.
    Encode,
    /// It is left out.
    LeaveOut,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which format.
    pub format: Format,
    /// Name in the API and in keys.
    pub name: &'static str,
    /// Extension of the object a customer opens (for HLS the playlist).
    pub extension: &'static str,
    /// HTTP content type of that object.
    pub content_type: &'static str,
    /// Codecs it carries as they come, if that is asked for.
    pub carries: &'static [Codec],
    /// Codecs it carries besides when its segments are fMP4.
    pub fragmented: &'static [Codec],
    /// Codecs of sound that become AAC-LC unless something else is asked for.
    pub encodes: &'static [Codec],
    /// Bytes are only ever added at the end: fit for upload while recording.
    pub appendable: bool,
    /// How it is recorded, for the README.
    pub about: &'static str,
}

/// An option that this build does not carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{format:?}: {problem}")]
pub struct Unavailable {
    /// Which format.
    pub format: Format,
    /// What is missing.
    pub problem: &'static str,
}

/// Every format, in the order of the API.
pub const FORMATS: [Row; 4] = [
    Row {
        format: Format::Hls,
        name: "hls",
        extension: "m3u8",
        content_type: "application/vnd.apple.mpegurl",
        carries: &[Codec::H264, Codec::H265, Codec::Aac],
        // As for MP4: in the standards, but not in every player.
        fragmented: &[Codec::Av1, Codec::Vp9, Codec::Opus],
        encodes: &[Codec::Opus],
        appendable: true,
        about: "event playlist and segments (TS or fMP4) cut at key frames; discontinuity at holes and changes",
    },
    Row {
        format: Format::Flv,
        name: "flv",
        extension: "flv",
        content_type: "video/x-flv",
        carries: &[Codec::H264, Codec::H265, Codec::Av1, Codec::Vp9, Codec::Vp8, Codec::Aac],
        fragmented: &[],
        encodes: &[Codec::Opus],
        appendable: true,
        about: "tags with millisecond timestamps, of Enhanced RTMP for all but H.264; sequence headers repeated on change",
    },
    Row {
        format: Format::Mp4,
        name: "mp4",
        extension: "mp4",
        content_type: "video/mp4",
        // Opus is in the standard, but not in every player.
        carries: &[Codec::H264, Codec::H265, Codec::Av1, Codec::Vp9, Codec::Vp8, Codec::Aac, Codec::Opus],
        fragmented: &[],
        encodes: &[Codec::Opus],
        appendable: false,
        about: "fast start (moov first, edit lists, 64-bit offsets) or fragmented",
    },
    Row {
        format: Format::Aac,
        name: "aac",
        extension: "aac",
        content_type: "audio/aac",
        carries: &[Codec::Aac],
        fragmented: &[],
        encodes: &[Codec::Opus],
        appendable: true,
        about: "ADTS frames, sound only",
    },
];

impl Format {
    /// The format's row.
    pub const fn row(self) -> &'static Row {
        let [hls, flv, mp4, aac] = &FORMATS;
        match self {
            Self::Hls => hls,
            Self::Flv => flv,
            Self::Mp4 => mp4,
            Self::Aac => aac,
        }
    }

    /// By its name in the API.
    pub fn from_name(name: &str) -> Option<Self> {
        FORMATS.iter().find(|row| row.name == name).map(|row| row.format)
    }

    /// Whether frames of this codec can go in without transcoding.
    pub fn carries(self, codec: Codec) -> bool {
        self.row().carries.contains(&codec)
    }

    /// The same with segments that are packed like this.
    pub fn carries_in(self, segment: Segment, codec: Codec) -> bool {
        self.carries(codec) || segment == Segment::Fmp4 && self.row().fragmented.contains(&codec)
    }

    /// What becomes of sound of this codec; `segment` counts where there are any.
    pub fn treats(self, segment: Segment, sound: Codec, wish: Wish) -> Treatment {
        let (copies, encodes) = (self.carries_in(segment, sound), self.row().encodes.contains(&sound));
        match wish {
            Wish::Any | Wish::Aac if encodes => Treatment::Encode,
            Wish::Any | Wish::AsItComes if copies => Treatment::Copy,
            Wish::Aac if copies && sound == Codec::Aac => Treatment::Copy,
            _ => Treatment::LeaveOut,
        }
    }
}

/// Opens an output.
pub fn open(format: Format, options: &Options) -> Result<Box<dyn Muxer>, Unavailable> {
    restore(format, options, Restored::default())
}

/// Goes on with an output whose process has ended, or closes it: a [`Muxer::gap`] and further frames continue the open
/// file, [`Muxer::finish`] right away ends it as its last durable mark left it.
///
/// Whatever `state` holds, this does not fail because of it: what is missing or damaged there costs no more than itself.
pub fn restore(format: Format, options: &Options, state: Restored) -> Result<Box<dyn Muxer>, Unavailable> {
    Ok(match (format, options.segment, options.layout) {
        (Format::Hls, ..) if options.segment_duration > hls::LONGEST => {
            return Err(Unavailable { format, problem: "segments are not longer than 12 hours" });
        }
        (Format::Hls, ..) => Box::new(Hls::restore(options, state)),
        (Format::Flv, ..) => Box::new(Flv::restore(options, state)),
        (Format::Mp4, _, Layout::FastStart) => Box::new(FastStart::restore(options, state)),
        (Format::Mp4, _, Layout::Fragmented) => Box::new(Fragmented::restore(options, state)),
        (Format::Aac, ..) => Box::new(Aac::restore(options, state)),
    })
}

/// The README's matrix of what is recorded how, as a Markdown table.
pub fn matrix() -> String {
    let mut text = String::from(
        "| format | object | content type | codecs as they come | to AAC-LC unless copied | while recording | how |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|\n");
    for row in &FORMATS {
        let names = |codecs: &[Codec]| codecs.iter().map(|codec| format!("{codec:?}")).collect::<Vec<_>>().join(", ");
        let (mut carries, encodes) = (names(row.carries), names(row.encodes));
        if !row.fragmented.is_empty() {
            let _ = write!(carries, "; in fMP4 segments also {}", names(row.fragmented));
        }
        let upload = if row.appendable { "uploadable" } else { "uploadable, index last" };
        let Row { name, extension, content_type, about, .. } = row;
        let _ =
            writeln!(text, "| {name} | .{extension} | {content_type} | {carries} | {encodes} | {upload} | {about} |");
    }
    text
}
