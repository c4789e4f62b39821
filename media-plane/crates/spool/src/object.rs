//! The durable state of one object: head, data, marks, and what shipping noted.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use mux::{ObjectSpec, Summary};

use crate::checks::Checks;
use crate::journal::{Extent, Marked};
use crate::state::Illegal;
use crate::stored::{Committed, ObjectState, StoredObject, Upload};

/// Longest head or data: no disk is larger, and sums of a few never overflow.
pub(crate) const LONGEST: u64 = 1 << 60;

/// A position in a data file and the checksum up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub len: u64,
    pub crc: u32,
}

impl Point {
    /// Length and checksum of a head and these bytes after it.
    pub fn behind(self, head: Self) -> Self {
        // Most objects have no head, and combining costs as much as reading 100 kB.
        if head.len == 0 {
            return self;
        }
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        Self { len: head.len + self.len, crc: crc32c::crc32c_combine(head.crc, self.crc, len) }
    }

    /// Goes on over so many bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
    }
}

/// Head bytes and data bytes of an object. Thousands may wait for their bucket: what few of them need, or none for
/// long, is kept apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    pub spec: ObjectSpec,
    pub head: Point,
    pub data: Point,
    /// What it holds, once it is closed.
    pub closed: Option<Summary>,
    /// Positions with known checksums, against which reads are checked.
    pub checks: Checks,
    /// Gone once it is closed and no recovery will ask.
    draft: Option<Box<Draft>>,
    /// None while nothing has become of it.
    fate: Option<Box<Fate>>,
}

/// What is to be known of an object that grows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Draft {
    pub mark: Option<Marked>,
    /// Bytes noted about it.
    pub noted: u64,
    /// The notes themselves, while the state keeps them.
    pub notes: BytesMut,
    /// Position and mark before the newest extent, or before all that may not have been synced: what recovery falls back
    /// to when that was torn.
    pub before: (Point, Option<Marked>),
    /// What may not have been synced changed it.
    pub unsynced: bool,
    /// Its story has a hole: what follows does not fit until recovery says where it goes on.
    pub adrift: bool,
}

/// What has become of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fate {
    pub damaged: Option<String>,
    pub upload: Option<Upload>,
    pub committed: Option<Committed>,
    pub reported: Option<u64>,
}

/// Of every object that has none of its own.
static NO_DRAFT: LazyLock<Draft> = LazyLock::new(Draft::default);
static NO_FATE: Fate = Fate { damaged: None, upload: None, committed: None, reported: None };

impl Object {
    pub fn new(spec: ObjectSpec, unsynced: bool) -> Self {
        let draft = Draft { unsynced, ..Draft::default() };
        let (head, data) = Default::default();
        Self { spec, head, data, closed: None, checks: Checks::default(), draft: Some(Box::new(draft)), fate: None }
    }

    pub fn draft(&self) -> &Draft {
        self.draft.as_deref().unwrap_or(&NO_DRAFT)
    }

    pub fn draft_mut(&mut self) -> &mut Draft {
        self.draft.get_or_insert_default()
    }

    pub fn fate(&self) -> &Fate {
        self.fate.as_deref().unwrap_or(&NO_FATE)
    }

    pub fn fate_mut(&mut self) -> &mut Fate {
        self.fate.get_or_insert_default()
    }

    /// Drops what only a start needs.
    pub fn forget(&mut self) {
        if self.closed.is_some() {
            self.draft = None;
        }
        self.forget_notes();
    }

    pub fn forget_notes(&mut self) {
        if let Some(draft) = &mut self.draft {
            draft.notes = BytesMut::new();
        }
    }

    /// Goes on over the bytes of an extent.
    pub fn extend(&mut self, extent: &Extent, unsynced: bool, remembers: bool) -> Result<(), Illegal> {
        let (data, is_closed) = (self.data, self.closed.is_some());
        let draft = self.draft_mut();
        if draft.adrift {
            return Ok(());
        }
        if data.len != extent.offset || draft.noted != extent.noted || is_closed {
            return Err("an extent out of place");
        }
        let end =
            extent.offset.checked_add(extent.len).filter(|end| *end <= LONGEST).ok_or("an extent of absurd length")?;
        let noted = draft.noted + extent.notes.len() as u64;
        if extent.mark.is_some_and(|mark| mark.len > end || mark.notes > noted) {
            return Err("a mark behind its bytes");
        }
        if !(unsynced && draft.unsynced) {
            draft.before = (data, draft.mark);
        }
        draft.mark = extent.mark;
        draft.unsynced |= unsynced;
        draft.noted = noted;
        if remembers {
            draft.notes.extend_from_slice(&extent.notes);
        }
        if end > data.len {
            self.checks.pass(data);
        }
        self.data = Point { len: end, crc: extent.crc };
        Ok(())
    }

    /// Nothing will be added. A story with a hole, or an end that does not follow from it, ends at the last mark.
    pub fn close(&mut self, summary: &Summary, whole: Point) -> Result<(), Illegal> {
        self.closed = Some(summary.clone());
        let is_adrift = self.draft().adrift;
        if self.whole() == whole && !is_adrift {
            self.checks.close();
            return Ok(());
        }
        self.shorten(self.draft().mark);
        if is_adrift { Ok(()) } else { Err("an end that does not fit its extents") }
    }

    /// Length and checksum of head and data.
    pub fn whole(&self) -> Point {
        self.data.behind(self.head)
    }

    /// Ends a closed object at a mark before its end.
    pub fn shorten(&mut self, mark: Option<Marked>) {
        self.cut(mark);
        let Some(summary) = &mut self.closed else { return };
        summary.ends_at = mark.map_or(summary.starts_at, |mark| mark.ends_at);
        summary.video_frames = mark.map_or(0, |mark| mark.video_frames);
        summary.audio_frames = mark.map_or(0, |mark| mark.audio_frames);
    }

    /// Closed, committed and reported: its bytes may go.
    pub fn is_releasable(&self) -> bool {
        self.closed.is_some() && self.fate().committed.is_some() && self.fate().reported.is_some()
    }

    pub fn cut(&mut self, mark: Option<Marked>) {
        self.data = mark.map(|mark| Point { len: mark.len, crc: mark.crc }).unwrap_or_default();
        self.checks.cut(self.data);
        let before = (self.data, mark);
        if let Some(draft) = &mut self.draft {
            (draft.mark, draft.before) = (mark, before);
        }
    }

    /// Bytes on disk, head included.
    pub fn size(&self) -> u64 {
        self.head.len + self.data.len
    }

    /// Head and data lengths that may be read.
    pub fn readable(&self) -> (u64, u64) {
        match (&self.closed, self.draft().mark) {
            (Some(_), _) => (self.head.len, self.data.len),
            (None, Some(mark)) => (0, mark.len),
            (None, None) => (0, 0),
        }
    }

    pub fn stored(&self) -> StoredObject {
        let state = match &self.closed {
            Some(summary) => {
                let whole = self.whole();
                ObjectState::Closed { summary: summary.clone(), size: whole.len, crc32c: whole.crc }
            }
            None => {
                let mark = self.draft().mark;
                ObjectState::Open { bytes: mark.map_or(0, |mark| mark.len), mark: mark.map(|mark| mark.mark()) }
            }
        };
        let Fate { damaged, upload, committed, reported } = self.fate().clone();
        StoredObject { spec: self.spec, state, upload, committed, reported, notes: self.notes_of_prefix(), damaged }
    }

    /// What was noted up to its end or mark.
    fn notes_of_prefix(&self) -> Bytes {
        let Draft { mark, notes, .. } = self.draft();
        let mark = mark.map_or(0, |mark| usize::try_from(mark.notes).unwrap_or(usize::MAX));
        let end = if self.closed.is_some() { notes.len() } else { mark.min(notes.len()) };
        Bytes::copy_from_slice(notes.get(..end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They wait by the thousand while a bucket is away: see the media plane's test of all that one costs.
    #[test]
    fn a_closed_object_is_small() {
        assert!(size_of::<Object>() <= 192, "{} bytes", size_of::<Object>());
    }
}
