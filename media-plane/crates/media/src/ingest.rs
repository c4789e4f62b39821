//! Where every ingest protocol ends: nothing downstream knows RTMP or RTP.

use bytes::Bytes;

use crate::{Codec, CodecConfig, TrackKind};

/// A wrapping clock of the publisher, before the timeline has made sense of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceTime {
    /// The counter, modulo 2^32.
    pub value: u32,
    /// Ticks per second: 1000 for RTMP, the RTP clock rate for WHIP.
    pub scale: u32,
}

/// A frame with the publisher's own timestamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// Picture or sound.
    pub track: TrackKind,
    /// Decode time on the publisher's clock.
    pub time: SourceTime,
    /// Presentation minus decode time, in ticks of the same scale; may be negative.
    pub composition: i32,
    /// A decoder can start here.
    pub keyframe: bool,
    /// The access unit, normalised as [`crate::Frame::data`] says.
    pub data: Bytes,
}

/// What the publisher claims about itself (onMetaData); believed only as a hint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Encoder name and version, as claimed; the protocol bounds its length.
    pub encoder: Option<String>,
    /// Announced video codec, if any; `Some` with no video ever sent makes the stream "quasi audio/video".
    pub video: Option<Codec>,
    /// Announced audio codec, if any.
    pub audio: Option<Codec>,
    /// Announced width in pixels.
    pub width: Option<f64>,
    /// Announced height in pixels.
    pub height: Option<f64>,
    /// Announced frames per second.
    pub frame_rate: Option<f64>,
}

/// Why a frame or record was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// A frame came before its codec configuration.
    BeforeConfig,
    /// The payload does not parse.
    Malformed,
    /// The codec cannot be recorded.
    UnsupportedCodec,
}

/// Why a publication ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// FCUnpublish, deleteStream or closeStream.
    Unpublished,
    /// The connection ended without one.
    ConnectionLost,
    /// Nothing came for the idle timeout.
    IdleTimeout,
    /// A newer publisher of the same stream took over.
    Replaced,
    /// The peer broke the protocol; the sentence says how.
    ProtocolError(String),
    /// The node or an operator asked for it.
    Disconnected(String),
}

/// What a protocol session tells the rest of the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The configuration of a track: its first, or a different one. Repeats of an equal one are swallowed.
    Config(TrackKind, CodecConfig),
    /// A frame.
    Frame(RawFrame),
    /// A claim about the stream.
    Metadata(Metadata),
    /// Something was dropped.
    Rejected(TrackKind, Rejection),
    /// Media never came, or cannot be used because something before it did not: the next frame of the track comes after
    /// a hole. Times go on undisturbed.
    Lost {
        /// The track with the hole.
        track: TrackKind,
        /// Packets that never came.
        packets: u64,
        /// Frames of which something came, but that had to be dropped.
        frames: u64,
    },
}
