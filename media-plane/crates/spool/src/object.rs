//! The durable state of one object: head, data, marks, and what shipping noted.

use bytes::{Bytes, BytesMut};
use mux::{ObjectSpec, Summary};

use crate::checks::Checks;
use crate::journal::{Extent, Marked};
use crate::state::Illegal;
use crate::stored::{Committed, ObjectState, StoredObject, Upload};

/// Longest head or data: no disk is larger, and sums of a few never overflow.
pub(crate) const LONGEST: u64 = 1 << 60;

/// Distance of the checks of a closed object, so that many of them cost little memory.
const CLOSED_SPACING: u64 = 1 << 20;

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

/// Head bytes and data bytes of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    pub spec: ObjectSpec,
    pub head: Point,
    pub data: Point,
    pub mark: Option<Marked>,
    /// Bytes noted about it.
    pub noted: u64,
    /// The notes themselves, while the state keeps them.
    pub notes: BytesMut,
    /// Position and mark before the newest extent: what recovery falls back to when that one was torn.
    pub before: (Point, Option<Marked>),
    /// Flush of the journal that last changed it.
    pub touched: u32,
    pub closed: Option<(Summary, Point)>,
    pub damaged: Option<String>,
    /// Its story has a hole: what follows does not fit until recovery says where it goes on.
    pub adrift: bool,
    /// Positions with known checksums, against which reads are checked.
    pub checks: Checks,
    pub upload: Option<Upload>,
    pub committed: Option<Committed>,
    pub reported: Option<u64>,
}

impl Object {
    pub fn new(spec: ObjectSpec, flush: u32) -> Self {
        Self {
            spec,
            head: Point::default(),
            data: Point::default(),
            mark: None,
            noted: 0,
            notes: BytesMut::new(),
            before: (Point::default(), None),
            touched: flush,
            closed: None,
            damaged: None,
            adrift: false,
            checks: Checks::default(),
            upload: None,
            committed: None,
            reported: None,
        }
    }

    /// Goes on over the bytes of an extent, in this flush of the journal.
    pub fn extend(&mut self, extent: &Extent, flush: u32, remembers: bool) -> Result<(), Illegal> {
        if self.adrift {
            return Ok(());
        }
        if self.data.len != extent.offset || self.noted != extent.noted || self.closed.is_some() {
            return Err("an extent out of place");
        }
        let end =
            extent.offset.checked_add(extent.len).filter(|end| *end <= LONGEST).ok_or("an extent of absurd length")?;
        let noted = self.noted + extent.notes.len() as u64;
        if extent.mark.is_some_and(|mark| mark.len > end || mark.notes > noted) {
            return Err("a mark behind its bytes");
        }
        if flush == 0 || self.touched != flush {
            self.before = (self.data, self.mark);
        }
        self.data = Point { len: end, crc: extent.crc };
        self.mark = extent.mark;
        self.touched = flush;
        self.checks.add(self.data);
        self.noted = noted;
        if remembers {
            self.notes.extend_from_slice(&extent.notes);
        }
        Ok(())
    }

    /// Nothing will be added. A story with a hole, or an end that does not follow from it, ends at the last mark.
    pub fn close(&mut self, summary: &Summary, whole: Point) -> Result<(), Illegal> {
        self.closed = Some((summary.clone(), whole));
        if self.whole() == whole && !self.adrift {
            self.checks.thin(CLOSED_SPACING);
            return Ok(());
        }
        self.shorten(self.mark);
        if self.adrift { Ok(()) } else { Err("an end that does not fit its extents") }
    }

    /// Length and checksum of head and data.
    fn whole(&self) -> Point {
        self.data.behind(self.head)
    }

    /// Ends a closed object at a mark before its end.
    pub fn shorten(&mut self, mark: Option<Marked>) {
        self.cut(mark);
        let Some((mut summary, _)) = self.closed.take() else { return };
        summary.ends_at = mark.map_or(summary.starts_at, |mark| mark.ends_at);
        summary.video_frames = mark.map_or(0, |mark| mark.video_frames);
        summary.audio_frames = mark.map_or(0, |mark| mark.audio_frames);
        self.closed = Some((summary, self.whole()));
    }

    /// Closed, committed and reported: its bytes may go.
    pub fn is_releasable(&self) -> bool {
        self.closed.is_some() && self.committed.is_some() && self.reported.is_some()
    }

    pub fn cut(&mut self, mark: Option<Marked>) {
        self.data = mark.map(|mark| Point { len: mark.len, crc: mark.crc }).unwrap_or_default();
        self.mark = mark;
        self.before = (self.data, self.mark);
        self.checks.cut(self.data);
    }

    /// Bytes on disk, head included.
    pub fn size(&self) -> u64 {
        self.head.len + self.data.len
    }

    /// Head and data lengths that may be read.
    pub fn readable(&self) -> (u64, u64) {
        match (&self.closed, self.mark) {
            (Some(_), _) => (self.head.len, self.data.len),
            (None, Some(mark)) => (0, mark.len),
            (None, None) => (0, 0),
        }
    }

    pub fn stored(&self) -> StoredObject {
        let state = match &self.closed {
            Some((summary, whole)) => {
                ObjectState::Closed { summary: summary.clone(), size: whole.len, crc32c: whole.crc }
            }
            None => ObjectState::Open {
                bytes: self.mark.map_or(0, |mark| mark.len),
                mark: self.mark.map(|mark| mark.mark()),
            },
        };
        StoredObject {
            spec: self.spec,
            state,
            upload: self.upload.clone(),
            committed: self.committed.clone(),
            reported: self.reported,
            notes: self.notes_of_prefix(),
            damaged: self.damaged.clone(),
        }
    }

    /// What was noted up to its end or mark.
    fn notes_of_prefix(&self) -> Bytes {
        let mark = self.mark.map_or(0, |mark| usize::try_from(mark.notes).unwrap_or(usize::MAX));
        let end = if self.closed.is_some() { self.notes.len() } else { mark.min(self.notes.len()) };
        Bytes::copy_from_slice(self.notes.get(..end).unwrap_or_default())
    }
}
