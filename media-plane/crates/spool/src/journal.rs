//! The journal's records and their bytes: `length u32, crc32c u32, body`, little endian, after an eight-byte magic.
//!
//! A body is one kind byte and a payload: fixed binary for what is written twice a second, JSON for the rest. Everything
//! written between two syncs begins with a flush record, so that a start knows what the last sync may not have reached.
//! Version 1 had shorter extents and playlists and no flush records; its records are still read.

use bytes::Bytes;
use media::MediaTime;
use mux::{Mark, ObjectId, ObjectPart, Summary};
use serde::{Deserialize, Serialize};

use crate::Record;
use crate::key::object_serde;

/// First bytes of every new journal; the digit is the format's version.
pub(crate) const MAGIC: &[u8; 8] = b"RECSPL2\n";
/// The version before, which is continued as it is: records say by their kind how they are to be read.
pub(crate) const MAGIC_1: &[u8; 8] = b"RECSPL1\n";
/// Longest body: larger lengths are damage, not records.
pub(crate) const MAX_BODY: usize = 16 << 20;
pub(crate) const HEADER: usize = 8;

pub(crate) const JSON: u8 = b'J';
pub(crate) const FLUSH: u8 = b'F';
pub(crate) const EXTENT_1: u8 = b'E';
pub(crate) const EXTENT: u8 = b'X';
pub(crate) const PLAYLIST_1: u8 = b'P';
pub(crate) const PLAYLIST: u8 = b'Q';

/// One step of an output's history.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// What was written next was not synced before: the first `synced` bytes of the journal, and all that they name,
    /// were. In older journals that is everything before this entry.
    Flush { synced: Option<u64> },
    /// Bytes were added to an object's data.
    Extent(Extent),
    /// A playlist's text: the first `keep` bytes of the one before, and `tail`. Playlists grow at their end, so a
    /// journal holds them in linear, not quadratic, space.
    Playlist {
        object: ObjectId,
        keep: u32,
        tail: Bytes,
        last: bool,
        /// CRC-32C of the whole text; version 1 had none.
        crc: Option<u32>,
    },
    /// Anything rarer.
    Json(Box<Step>),
}

/// A run of bytes in a data file, and the newest mark in the whole file so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub object: ObjectId,
    pub offset: u64,
    pub len: u64,
    /// CRC-32C of the data from 0 to the end of this extent.
    pub crc: u32,
    pub mark: Option<Marked>,
    /// Bytes of notes about the object before these.
    pub noted: u64,
    /// What the muxer noted since the extent before.
    pub notes: Bytes,
}

/// A playable prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marked {
    pub len: u64,
    /// CRC-32C of the prefix.
    pub crc: u32,
    #[serde(with = "ticks")]
    pub ends_at: MediaTime,
    #[serde(default)]
    pub video_frames: u64,
    #[serde(default)]
    pub audio_frames: u64,
    /// Bytes of notes that belong to the prefix.
    #[serde(default)]
    pub notes: u64,
}

impl Marked {
    /// As the muxer said it.
    pub fn mark(&self) -> Mark {
        Mark { media_time: self.ends_at, video_frames: self.video_frames, audio_frames: self.audio_frames }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Create {
        key: String,
        meta: serde_json::Value,
    },
    Open {
        #[serde(with = "object_serde")]
        object: ObjectId,
        extension: String,
        content_type: String,
    },
    Head {
        #[serde(with = "object_serde")]
        object: ObjectId,
        len: u64,
        crc: u32,
    },
    Closed {
        #[serde(with = "object_serde")]
        object: ObjectId,
        #[serde(with = "crate::summary")]
        summary: Summary,
        size: u64,
        crc: u32,
    },
    FileDone {
        file: u32,
        #[serde(with = "crate::summary")]
        summary: Summary,
    },
    Shipping(Record),
    Released {
        #[serde(with = "object_serde")]
        object: ObjectId,
    },
    /// Recovery cut the data back to its last durable mark and dropped the head, which belongs to the end.
    Truncated {
        #[serde(with = "object_serde")]
        object: ObjectId,
        mark: Option<Marked>,
        /// Why, when bytes were damaged that had been durable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        damaged: Option<String>,
    },
    /// A closed object has damaged bytes: it ends at its last good mark.
    Shortened {
        #[serde(with = "object_serde")]
        object: ObjectId,
        mark: Option<Marked>,
        damaged: String,
    },
    Finished,
}

mod ticks {
    use media::MediaTime;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &MediaTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MediaTime, D::Error> {
        i64::deserialize(deserializer).map(MediaTime)
    }
}

impl From<Step> for Entry {
    fn from(step: Step) -> Self {
        Self::Json(Box::new(step))
    }
}

/// Appends a record to a buffer.
pub(crate) fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    match entry {
        Entry::Flush { synced } => {
            out.push(FLUSH);
            out.extend(synced.iter().flat_map(|synced| synced.to_le_bytes()));
        }
        Entry::Extent(extent) => put_extent(extent, out),
        Entry::Playlist { object, keep, tail, last, crc } => {
            out.push(if crc.is_some() { PLAYLIST } else { PLAYLIST_1 });
            put_object(*object, out);
            out.extend_from_slice(&keep.to_le_bytes());
            out.push(u8::from(*last));
            if let Some(crc) = crc {
                out.extend_from_slice(&crc.to_le_bytes());
            }
            out.extend_from_slice(tail);
        }
        Entry::Json(step) => {
            out.push(JSON);
            // Writing plain data to memory cannot fail; were it to, the record is empty and ends the journal.
            if serde_json::to_writer(&mut *out, step).is_err() {
                out.truncate(start + HEADER);
            }
        }
    }
    let Some((header, body)) = out.get_mut(start..).and_then(|record| record.split_at_mut_checked(HEADER)) else {
        return;
    };
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let crc = crc32c::crc32c(body).to_le_bytes();
    for (slot, byte) in header.iter_mut().zip(len.into_iter().chain(crc)) {
        *slot = byte;
    }
}

fn put_extent(extent: &Extent, out: &mut Vec<u8>) {
    out.push(EXTENT);
    put_object(extent.object, out);
    out.extend_from_slice(&extent.offset.to_le_bytes());
    out.extend_from_slice(&extent.len.to_le_bytes());
    out.extend_from_slice(&extent.crc.to_le_bytes());
    out.extend_from_slice(&extent.noted.to_le_bytes());
    out.push(u8::from(extent.mark.is_some()));
    if let Some(mark) = extent.mark {
        out.extend_from_slice(&mark.len.to_le_bytes());
        out.extend_from_slice(&mark.crc.to_le_bytes());
        out.extend_from_slice(&mark.ends_at.0.to_le_bytes());
        out.extend_from_slice(&mark.video_frames.to_le_bytes());
        out.extend_from_slice(&mark.audio_frames.to_le_bytes());
        out.extend_from_slice(&mark.notes.to_le_bytes());
    }
    out.extend_from_slice(&extent.notes);
}

fn put_object(object: ObjectId, out: &mut Vec<u8>) {
    let (tag, number) = match object.part {
        ObjectPart::Whole => (0u8, 0),
        ObjectPart::Segment(n) => (1, n),
        ObjectPart::Init(n) => (2, n),
        ObjectPart::Playlist => (3, 0),
        ObjectPart::Fragment(n) => (4, n),
    };
    out.extend_from_slice(&object.file.to_le_bytes());
    out.push(tag);
    out.extend_from_slice(&number.to_le_bytes());
}
