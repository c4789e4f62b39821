//! The journal's records and their bytes: `length u32, crc32c u32, body`, little endian, after an eight-byte magic.
//!
//! A body is one kind byte and a payload: fixed binary for what is written twice a second, JSON for the rest. A record
//! that is cut short or does not match its checksum ends the journal: only a tail that was never synced can look so.

use bytes::Bytes;
use media::MediaTime;
use mux::{ObjectId, ObjectPart, Summary};
use serde::{Deserialize, Serialize};

use crate::Record;
use crate::key::object_serde;

/// First bytes of every journal; the digit is the format's version.
pub(crate) const MAGIC: &[u8; 8] = b"RECSPL1\n";
/// Longest body: larger lengths are damage, not records.
const MAX_BODY: usize = 16 << 20;
const HEADER: usize = 8;

const JSON: u8 = b'J';
const EXTENT: u8 = b'E';
const PLAYLIST: u8 = b'P';

/// One step of an output's history.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// Bytes were added to an object's data.
    Extent(Extent),
    /// A playlist's text: the first `keep` bytes of the one before, and `tail`. Playlists grow at their end, so a
    /// journal holds them in linear, not quadratic, space.
    Playlist { object: ObjectId, keep: u32, tail: Bytes, last: bool },
    /// Anything rarer.
    Json(Box<Step>),
}

/// A run of bytes in a data file, and the newest mark in the whole file so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub object: ObjectId,
    pub offset: u64,
    pub len: u64,
    /// CRC-32C of the data from 0 to the end of this extent.
    pub crc: u32,
    pub mark: Option<Marked>,
}

/// A playable prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marked {
    pub len: u64,
    /// CRC-32C of the prefix.
    pub crc: u32,
    #[serde(with = "ticks")]
    pub ends_at: MediaTime,
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
        Entry::Extent(extent) => put_extent(extent, out),
        Entry::Playlist { object, keep, tail, last } => {
            out.push(PLAYLIST);
            put_object(*object, out);
            out.extend_from_slice(&keep.to_le_bytes());
            out.push(u8::from(*last));
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
    if let Some(mark) = extent.mark {
        out.extend_from_slice(&mark.len.to_le_bytes());
        out.extend_from_slice(&mark.crc.to_le_bytes());
        out.extend_from_slice(&mark.ends_at.0.to_le_bytes());
    }
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
    let Some(mut rest) = journal.strip_prefix(MAGIC.as_slice()) else {
        return (Vec::new(), 0);
    };
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
        EXTENT => Some(Entry::Extent(Extent {
            object: input.object()?,
            offset: input.u64()?,
            len: input.u64()?,
            crc: input.u32()?,
            mark: if input.0.is_empty() { None } else { Some(input.mark()?) },
        })),
        PLAYLIST => Some(Entry::Playlist {
            object: input.object()?,
            keep: input.u32()?,
            last: input.take(1)? == [1],
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

    fn mark(&mut self) -> Option<Marked> {
        let (len, crc) = (self.u64()?, self.u32()?);
        Some(Marked { len, crc, ends_at: MediaTime(self.u64()?.cast_signed()) })
    }
}
