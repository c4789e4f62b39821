//! One coded picture or audio access unit, and the holes between them.

use bytes::Bytes;

use crate::MediaTime;

/// Which of the (at most two) tracks of a publication: one picture and one sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrackKind {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

/// One access unit on the publication's timeline.
///
/// Invariant after [`crate::ingest`] and the timeline: per track, `dts` strictly increases (decode order, not display
/// order). H.264 and H.265 `data` is NAL units with 4-byte lengths and no parameter sets beyond what the publisher put in
/// band; AV1 `data` is one temporal unit in the low-overhead format (AV1, 5.2), every OBU with its size, without temporal
/// delimiters; VP8 `data` is the frame, VP9 `data` the frame or superframe (VP9, Annex B), as coded; AAC `data` is one raw access unit without ADTS; Opus `data` is one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Picture or sound.
    pub track: TrackKind,
    /// Decode time.
    pub dts: MediaTime,
    /// Presentation time; may be before `dts` when the publisher sends negative composition offsets.
    pub pts: MediaTime,
    /// A decoder can start here (IDR or recovery point). Always true for audio.
    pub keyframe: bool,
    /// The payload, shared by every recording of the stream.
    pub data: Bytes,
}

/// Why media is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The publisher went away and came back.
    PublisherLost,
    /// The node died and came back.
    NodeCrashed,
    /// The publisher's clock jumped, or frames were unusable.
    FramesRejected,
    /// The spool lost bytes.
    SpoolFailed,
    /// Frames of one track did not arrive; times go on undisturbed, and so does the other track.
    FramesLost,
}

/// A hole in the media: everything after it continues at `resumes_at` on the same timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Last media time before the hole.
    pub starts_at: MediaTime,
    /// First media time after it.
    pub resumes_at: MediaTime,
    /// Why.
    pub reason: GapReason,
}
