//! The port between frames and spooled bytes.

use bytes::Bytes;
use media::{CodecConfig, Frame, Gap, MediaTime, TrackKind};

use crate::Index;

/// Which object of an output: API file index (grows at every cut) and part of that file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// `File.index` of the API.
    pub file: u32,
    /// Which object of that file.
    pub part: ObjectPart,
}

/// FLV, MP4 and AAC files are one object; an HLS file is a playlist and its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectPart {
    /// The only object of the file.
    Whole,
    /// A media segment (transport stream), counted from 0 within the file.
    Segment(u32),
    /// A media segment (fMP4), counted likewise.
    Fragment(u32),
    /// An initialisation segment (fMP4), counted from 0.
    Init(u32),
    /// The media playlist.
    Playlist,
}

/// What an object is, known when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectSpec {
    /// Its identity within the output.
    pub object: ObjectId,
    /// File name extension without the dot.
    pub extension: &'static str,
    /// HTTP content type.
    pub content_type: &'static str,
}

/// "An object truncated here is playable": a whole FLV tag, TS packet run, ADTS frame. For fast-start MP4 together with
/// the [`Output::Note`]s before it, of which the index is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// End of the media before this point, on the publication's timeline.
    pub media_time: MediaTime,
    /// Video frames in the object before this point.
    pub video_frames: u64,
    /// Audio frames in the object before this point.
    pub audio_frames: u64,
}

/// What an object or file holds, known when it is closed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// First DTS on the publication's timeline.
    pub starts_at: MediaTime,
    /// End of the last frame on the publication's timeline.
    pub ends_at: MediaTime,
    /// Video frames inside.
    pub video_frames: u64,
    /// Audio frames inside.
    pub audio_frames: u64,
    /// Video configuration at its end.
    pub video: Option<CodecConfig>,
    /// Audio configuration at its end.
    pub audio: Option<CodecConfig>,
}

/// What a muxer asks the spool to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Start an object.
    Open(ObjectSpec),
    /// Add bytes to its end.
    Append(ObjectId, Bytes),
    /// What [`crate::restore`] must know to go on with the object after a crash, and what an [`Output::Index`] is made
    /// of: opaque, kept in order, and durable with the next [`Output::Commit`] of the object.
    Note(ObjectId, Bytes),
    /// Everything appended so far is a playable object.
    Commit(ObjectId, Mark),
    /// Bytes that belong in front of everything appended, known last.
    Head(ObjectId, Bytes),
    /// The same, still to be made of all notes of the object, off the threads that must not block (MP4
    /// `ftyp`+`moov`+`mdat` header): nothing but the notes need be kept of a file that grows for hours.
    Index(ObjectId, Index),
    /// Nothing will be added.
    Close(ObjectId, Summary),
    /// Replace the playlist. It may be shipped only after every object it names (all were closed before).
    Playlist {
        /// The playlist object.
        object: ObjectId,
        /// Its whole text.
        body: Bytes,
        /// It carries `EXT-X-ENDLIST`.
        last: bool,
    },
    /// Every object of API file `file` is closed.
    FileDone(u32, Summary),
}

/// What a muxer does with a codec configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Goes on in the same file.
    Continue,
    /// Goes on in a new file, which starts at the next key frame.
    CutHere,
    /// The container cannot carry it; the track is left out.
    Unsupported,
}

/// A frame a muxer did not take; its state is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The track has no usable configuration.
    #[error("no configuration for this track")]
    NoConfig,
    /// The first video frame of a file must be a key frame.
    #[error("waiting for a key frame")]
    WaitingForKeyFrame,
    /// The payload cannot be carried.
    #[error("malformed payload: {0}")]
    Malformed(String),
}

/// The outcome of a whole output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finished {
    /// What is still to be spooled, in order; ends with the last `FileDone`.
    pub outputs: Vec<Output>,
    /// API files made.
    pub files: u32,
}

/// One container being written. Outputs are drained with [`Muxer::poll`] after every call.
pub trait Muxer: Send {
    /// Adds a frame. Transactional: an error leaves the state as before.
    fn push(&mut self, frame: &Frame) -> Result<(), Rejected>;
    /// Announces a track's configuration, first or changed; must precede the frames that need it.
    fn config(&mut self, track: TrackKind, config: &CodecConfig) -> Reaction;
    /// Tells of a hole: a discontinuity, an edit or a cut, as the container needs.
    fn gap(&mut self, gap: Gap);
    /// Starts a new file at the next key frame.
    fn cut(&mut self);
    /// Closes the open file now; the next frame opens the next one.
    fn close_file(&mut self);
    /// The publisher is away and may come back: everything taken so far is written and marked. HLS closes its segment
    /// and issues the playlist without its end; the other formats keep their file open.
    fn suspend(&mut self);
    /// Ends the output; nothing can be pushed after.
    fn finish(self: Box<Self>) -> Finished;
    /// The next thing to spool.
    fn poll(&mut self) -> Option<Output>;
}

/// What is left of an output whose process has ended; see [`crate::restore`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// API files begun so far, the open one included: the index of the next.
    pub files: u32,
    /// The file that has no durable [`Output::FileDone`].
    pub open: Option<RestoredFile>,
}

/// A file that was being written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RestoredFile {
    /// Its index.
    pub file: u32,
    /// Its objects in any order. Segments that are shipped and released may be left out.
    pub objects: Vec<RestoredObject>,
    /// The newest durable text of its playlist.
    pub playlist: Option<Bytes>,
}

/// An object as its last durable mark left it.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredObject {
    /// What it is.
    pub spec: ObjectSpec,
    /// All its notes up to the mark, joined in order.
    pub notes: Bytes,
    /// Its length in bytes after truncation to the mark, without any head.
    pub len: u64,
    /// The mark; `None` when nothing of it is durable.
    pub mark: Option<Mark>,
    /// Set when it was closed.
    pub closed: Option<Summary>,
}
