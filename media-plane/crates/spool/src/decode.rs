//! Reading a journal: records until its end, over damage in its middle, up to a tail that was never synced.

use std::collections::VecDeque;

use bytes::Bytes;
use media::MediaTime;
use mux::{ObjectId, ObjectPart};

use crate::journal::{
    EXTENT, EXTENT_1, Entry, Extent, FLUSH, HEADER, JSON, MAGIC, MAGIC_1, MAX_BODY, Marked, PLAYLIST, PLAYLIST_1,
};

/// What the bytes of a journal say.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decoded {
    pub entries: Vec<Entry>,
    /// Where it goes on: what follows was never synced.
    pub end: usize,
    /// Runs of bytes that were records once.
    pub holes: usize,
    /// Where begins what may not have been synced; none in a journal of version 1.
    pub unsynced: Option<RecordStart>,
}

/// What comes before a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RecordStart {
    pub at: usize,
    pub entries: usize,
    pub holes: usize,
}

/// Bytes looked at to find the next record after damage: journals that need more have been forged.
const RESYNC_BUDGET: usize = 1 << 30;

/// Reads a journal. A record that is whole but does not match its checksum, or one that others follow, is damage: it is
/// skipped. One that is cut short is the torn end of what was being written.
pub(crate) fn decode(journal: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    let versions = [MAGIC, MAGIC_1].map(|magic| magic.as_slice());
    let head = journal.get(..MAGIC.len()).unwrap_or_default();
    let mut at = if versions.contains(&head) { head.len() } else { 0 };
    let mut budget = RESYNC_BUDGET;
    // Of records behind the newest position that is known to have been synced.
    let mut starts = VecDeque::new();
    loop {
        let rest = journal.get(at..).unwrap_or_default();
        if let Some((entry, len)) = decode_one(rest) {
            starts.push_back(RecordStart { at, entries: decoded.entries.len(), holes: decoded.holes });
            if let Entry::Flush { synced } = entry {
                let synced = synced.and_then(|synced| usize::try_from(synced).ok()).unwrap_or(at).min(at);
                starts.drain(..starts.partition_point(|start| start.at < synced));
                decoded.unsynced = starts.front().copied();
            }
            decoded.entries.push(entry);
            at += len;
            decoded.end = at;
            continue;
        }
        if rest.is_empty() {
            return decoded;
        }
        let next = (1..rest.len()).find(|skip| has_record(rest.get(*skip..).unwrap_or_default(), &mut budget));
        match next {
            Some(skip) => {
                decoded.holes += 1;
                at += skip;
            }
            None if at > 0 && is_damage(rest) => {
                decoded.holes += 1;
                decoded.end = journal.len();
                return decoded;
            }
            None => return decoded,
        }
    }
}

fn has_record(bytes: &[u8], budget: &mut usize) -> bool {
    let Some((body, _)) = body(bytes) else { return false };
    let Some(left) = budget.checked_sub(body.len()) else { return false };
    *budget = left;
    decode_one(bytes).is_some()
}

/// Whether the last bytes of a journal were a whole record once. A torn write leaves a part of one, or nothing but
/// zeros.
fn is_damage(bytes: &[u8]) -> bool {
    if bytes.iter().all(|byte| *byte == 0) {
        return false;
    }
    // The length may be what was damaged.
    let is_misread = || {
        let crc = bytes
            .get(4..HEADER)
            .map(|crc| crc32c::crc32c(bytes.get(HEADER..).unwrap_or_default()).to_le_bytes() == crc);
        crc == Some(true)
    };
    body(bytes).is_some() || is_misread()
}

/// The body a record's header promises, and its checksum.
fn body(bytes: &[u8]) -> Option<(&[u8], u32)> {
    let mut input = Input(bytes);
    let len = usize::try_from(input.u32()?).ok().filter(|len| *len <= MAX_BODY)?;
    let crc = input.u32()?;
    Some((input.take(len)?, crc))
}

/// The record at the start, and its length.
pub(crate) fn decode_one(bytes: &[u8]) -> Option<(Entry, usize)> {
    let (body, crc) = body(bytes)?;
    if crc32c::crc32c(body) != crc {
        return None;
    }
    Some((decode_body(body)?, HEADER + body.len()))
}

fn decode_body(body: &[u8]) -> Option<Entry> {
    let (kind, payload) = body.split_first()?;
    let mut input = Input(payload);
    match *kind {
        JSON => Some(Entry::Json(serde_json::from_slice(payload).ok()?)),
        FLUSH if payload.is_empty() => Some(Entry::Flush { synced: None }),
        FLUSH => Some(Entry::Flush { synced: Some(input.u64()?) }).filter(|_| input.0.is_empty()),
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
            4 => ObjectPart::Fragment(number),
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
