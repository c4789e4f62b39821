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
const MAGIC_1: &[u8; 8] = b"RECSPL1\n";
/// Longest body: larger lengths are damage, not records.
const MAX_BODY: usize = 16 << 20;
const HEADER: usize = 8;

const JSON: u8 = b'J';
const FLUSH: u8 = b'F';
const EXTENT_1: u8 = b'E';
const EXTENT: u8 = b'X';
const PLAYLIST_1: u8 = b'P';
const PLAYLIST: u8 = b'Q';

/// One step of an output's history.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// Whatever came before was synced.
    Flush,
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
        Entry::Flush => out.push(FLUSH),
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
    };
    out.extend_from_slice(&object.file.to_le_bytes());
    out.push(tag);
    out.extend_from_slice(&number.to_le_bytes());
}

/// Reads records from the start of a journal until its end or the first damage.
pub(crate) fn decode(journal: &[u8]) -> (Vec<Entry>, usize) {
    let prefix = [MAGIC, MAGIC_1].into_iter().find_map(|magic| journal.strip_prefix(magic.as_slice()));
    let Some(mut rest) = prefix else { return (Vec::new(), 0) };
    let mut entries = Vec::new();
    while let Some((entry, after)) = decode_one(rest) {
        entries.push(entry);
        rest = after;
    }
    (entries, journal.len() - rest.len())
}

fn decode_one(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let mut input = Input(bytes);
    let len = usize::try_from(input.u32()?).ok().filter(|len| *len <= MAX_BODY)?;
    let crc = input.u32()?;
    let body = input.take(len)?;
    if crc32c::crc32c(body) != crc {
        return None;
    }
    Some((decode_body(body)?, input.0))
}

fn decode_body(body: &[u8]) -> Option<Entry> {
    let (kind, payload) = body.split_first()?;
    let mut input = Input(payload);
    match *kind {
        JSON => Some(Entry::Json(serde_json::from_slice(payload).ok()?)),
        FLUSH if payload.is_empty() => Some(Entry::Flush),
        EXTENT => Some(Entry::Extent(Extent {
            object: input.object()?,
            offset: input.u64()?,
            len: input.u64()?,
            crc: input.u32()?,
            noted: input.u64()?,
            mark: if input.take(1)? == [1] { Some(input.mark()?) } else { None },
            notes: Bytes::copy_from_slice(input.0),
        })),
        EXTENT_1 => Some(Entry::Extent(Extent {
            object: input.object()?,
            offset: input.u64()?,
            len: input.u64()?,
            crc: input.u32()?,
            noted: 0,
            mark: if input.0.is_empty() { None } else { Some(input.mark_1()?) },
            notes: Bytes::new(),
        })),
        PLAYLIST | PLAYLIST_1 => Some(Entry::Playlist {
            object: input.object()?,
            keep: input.u32()?,
            last: input.take(1)? == [1],
            crc: if *kind == PLAYLIST { Some(input.u32()?) } else { None },
            tail: Bytes::copy_from_slice(input.0),
        }),
        _ => None,
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn object(&mut self) -> Option<ObjectId> {
        let file = self.u32()?;
        let tag = *self.take(1)?.first()?;
        let number = self.u32()?;
        let part = match tag {
            0 => ObjectPart::Whole,
            1 => ObjectPart::Segment(number),
            2 => ObjectPart::Init(number),
            3 => ObjectPart::Playlist,
            _ => return None,
        };
        Some(ObjectId { file, part })
    }

    fn mark_1(&mut self) -> Option<Marked> {
        let (len, crc) = (self.u64()?, self.u32()?);
        let ends_at = MediaTime(self.u64()?.cast_signed());
        Some(Marked { len, crc, ends_at, video_frames: 0, audio_frames: 0, notes: 0 })
    }

    fn mark(&mut self) -> Option<Marked> {
        let mark = self.mark_1()?;
        let (video_frames, audio_frames, notes) = (self.u64()?, self.u64()?, self.u64()?);
        Some(Marked { video_frames, audio_frames, notes, ..mark })
    }
}
