//! The writing half of one object: how far it is, and what was noted since its last extent.

use std::fs::File;
use std::sync::Arc;

use mux::Mark;

use crate::journal::Marked;
use crate::object::{Object, Point};

/// An object that grows.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    pub file: Option<Arc<File>>,
    pub head: Point,
    /// Written to the page cache.
    pub data: Point,
    pub mark: Option<Marked>,
    /// Bytes noted about it, with those not yet in an extent.
    pub noted: u64,
    pub notes: Vec<u8>,
    /// Where in the journal its first record may be.
    pub since: u64,
    /// Length and mark of the newest extent.
    pub recorded: (u64, Option<Marked>),
}

/// Where an object was before a write.
pub(crate) struct Position {
    pub data: Point,
    mark: Option<Marked>,
    noted: u64,
}

impl Growing {
    /// A new object, of which the first `since` bytes of the journal tell nothing.
    pub fn new(file: File, since: u64) -> Self {
        Self { file: Some(Arc::new(file)), since, ..Self::default() }
    }

    /// An object found on disk.
    pub fn resume(object: &Object) -> Self {
        Self {
            head: object.head,
            data: object.data,
            mark: object.draft().mark,
            noted: object.draft().noted,
            recorded: (object.data.len, object.draft().mark),
            ..Self::default()
        }
    }

    pub fn position(&self) -> Position {
        Position { data: self.data, mark: self.mark, noted: self.noted }
    }

    pub fn back_to(&mut self, before: Position) {
        let added = usize::try_from(self.noted - before.noted).unwrap_or(usize::MAX);
        self.notes.truncate(self.notes.len().saturating_sub(added));
        (self.data, self.mark, self.noted) = (before.data, before.mark, before.noted);
    }

    pub fn mark_here(&mut self, mark: Mark) {
        self.mark = Some(Marked {
            len: self.data.len,
            crc: self.data.crc,
            ends_at: mark.media_time,
            video_frames: mark.video_frames,
            audio_frames: mark.audio_frames,
            notes: self.noted,
        });
    }

    pub fn note(&mut self, note: &[u8]) {
        self.notes.extend_from_slice(note);
        self.noted += note.len() as u64;
    }
}
