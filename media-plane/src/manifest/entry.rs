//! What is noted of a recording while it runs, in the order in which it happened. Kept in the spool's journal as JSON.

use chrono::{DateTime, Utc};
use mux::ObjectPart;
use recorder_proto::facts::{
    Audio, Failure, GapSpan, OutputTotals, RecordingEnded, RecordingInterrupted, RecordingResumed, Video,
};
use recorder_proto::format::Format;
use serde::{Deserialize, Serialize};

use super::Abnormal;
use crate::shipping::Target;

/// One thing that happened to a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A hole in the media.
    Gap(GapSpan),
    /// A track has another configuration.
    Codec(CodecChange),
    /// The publisher is away; the recording waits.
    Interrupted(RecordingInterrupted),
    /// It came back in time.
    Resumed(RecordingResumed),
    /// A fact of this type (`recording.started`, ...) is durable in the fact log: after a restart it is not told again.
    Told(String),
    /// Objects of a file, noted before its [`Entry::File`]; HLS only, in pieces of at most [`MAX_PIECES`].
    Objects {
        /// Which output.
        format: Format,
        /// Which file of it.
        index: u32,
        /// They.
        pieces: Packed,
    },
    /// A file is settled: available or failed. Noted again when it moves to another storage; the last one holds.
    File(Box<FileEntry>),
    /// A format has failed; what it had is closed and shipped, and nothing more is recorded in it.
    OutputFailed(Box<OutputTotals>),
    /// Every file of an output is settled and nothing more comes from it.
    Settled(Format),
    /// What was found abnormal so far; the last one holds.
    Abnormal(Box<Abnormal>),
    /// The fact of this number that tells of something abnormal is durable in the fact log.
    AbnormalTold(u64),
    /// Somebody has chosen the storage of all that has not arrived (RetryUploads); the manifest goes there too.
    Storage(Box<Target>),
    /// The recording is over; its manifest is due once its outputs are settled.
    Ended(Box<RecordingEnded>),
}

/// A change of a track's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecChange {
    /// `video` or `audio`.
    pub track: String,
    /// When it holds from.
    pub at: DateTime<Utc>,
    /// What was before, such as `h264 1280x720`; empty for the first one.
    #[serde(default)]
    pub from: String,
    /// What is now, such as `h264 1920x1080` or `aac 48000 Hz, 2 channels`.
    pub to: String,
}

/// Whether a file can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// It is in its storage, checked.
    Available,
    /// It could not be stored.
    Failed,
}

/// A settled file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its container.
    pub format: Format,
    /// Its position within recording and format.
    pub index: u32,
    /// Whether it can be had.
    pub state: FileState,
    /// `storages/{storage}` it is in.
    pub storage: String,
    /// Key of its object (for HLS, of the playlist).
    pub key: String,
    /// The same as a URI.
    pub uri: String,
    /// Bytes, segments included.
    pub size: u64,
    /// Base64 of the big-endian CRC-32C, as in `File.crc32c`; empty for HLS, whose objects have their own.
    #[serde(default)]
    pub crc32c: String,
    /// What it holds; none when it failed before that was known.
    pub media: Option<FileMedia>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Failure>,
    /// Its storage was chosen for it (RetryUploads): it is not copied to the recording's own.
    #[serde(default)]
    pub chosen: bool,
    /// It failed, and its bytes are kept for another try.
    #[serde(default)]
    pub kept: bool,
}

/// The media of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileMedia {
    /// When its first frame arrived.
    pub start_time: DateTime<Utc>,
    /// When its last frame ended.
    pub end_time: DateTime<Utc>,
    /// First timestamp on the recording's timeline, in microseconds from the recording's start.
    pub starts_at_micros: i64,
    /// End of the last frame on the same timeline.
    pub ends_at_micros: i64,
    /// Video frames.
    pub video_frames: u64,
    /// Audio frames.
    pub audio_frames: u64,
    /// Picture at its end.
    pub video: Option<Video>,
    /// Sound at its end.
    pub audio: Option<Audio>,
}

/// One object of an HLS file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which.
    pub part: ObjectPart,
    /// Bytes.
    pub size: u64,
    /// CRC-32C.
    pub crc32c: u32,
}

/// Most pieces in one note: some 2 MB of JSON, far below the journal's longest record.
pub const MAX_PIECES: usize = 50_000;

/// Bytes of one piece: kind, number, size, checksum.
const PIECE: usize = 1 + 4 + 8 + 4;

/// Pieces as hexadecimal text, 34 characters each: a day of HLS has ten thousand of them and more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Packed(String);

impl Packed {
    /// Packs.
    pub fn new(pieces: &[Piece]) -> Self {
        let mut bytes = Vec::with_capacity(pieces.len() * PIECE);
        for piece in pieces {
            let (kind, number) = match piece.part {
                ObjectPart::Whole => (0, 0),
                ObjectPart::Segment(number) => (1, number),
                ObjectPart::Init(number) => (2, number),
                ObjectPart::Playlist => (3, 0),
                ObjectPart::Fragment(number) => (4, number),
            };
            bytes.push(kind);
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&piece.size.to_be_bytes());
            bytes.extend_from_slice(&piece.crc32c.to_be_bytes());
        }
        Self(hex::encode(bytes))
    }

    /// Unpacks; what cannot be read is left out.
    pub fn pieces(&self) -> Vec<Piece> {
        let bytes = hex::decode(&self.0).unwrap_or_default();
        bytes.chunks_exact(PIECE).filter_map(unpack).collect()
    }
}

fn unpack(bytes: &[u8]) -> Option<Piece> {
    let (kind, rest) = bytes.split_first()?;
    let (number, rest) = rest.split_first_chunk::<4>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let number = u32::from_be_bytes(*number);
    let part = match kind {
        0 => ObjectPart::Whole,
        1 => ObjectPart::Segment(number),
        2 => ObjectPart::Init(number),
        3 => ObjectPart::Playlist,
        4 => ObjectPart::Fragment(number),
        _ => return None,
    };
    let crc32c = u32::from_be_bytes(*rest.first_chunk::<4>()?);
    Some(Piece { part, size: u64::from_be_bytes(*size), crc32c })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_survive_packing() {
        let pieces = [
            Piece { part: ObjectPart::Init(2), size: 1, crc32c: u32::MAX },
            Piece { part: ObjectPart::Segment(u32::MAX), size: u64::MAX, crc32c: 0 },
            Piece { part: ObjectPart::Fragment(3), size: 4, crc32c: 5 },
            Piece { part: ObjectPart::Whole, size: 5 << 40, crc32c: 7 },
            Piece { part: ObjectPart::Playlist, size: 0, crc32c: 1 },
        ];
        assert_eq!(Packed::new(&pieces).pieces(), pieces);
        assert_eq!(Packed("zz".into()).pieces(), []);
        assert_eq!(Packed("0102".into()).pieces(), []);
    }
}
