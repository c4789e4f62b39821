//! What the journal says about one output: a fold over its entries, the same while recording and after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use mux::{ObjectId, ObjectSpec, Summary};

use crate::journal::{Entry, Extent, Marked, Step};
use crate::stored::{
    Committed, ObjectState, Part, Record, ReleasedFile, ReleasedObject, StoredFile, StoredObject, StoredOutput,
    StoredPlaylist, Upload,
};
use crate::{Event, OutputKey};

/// A position in a data file and the checksum up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub len: u64,
    pub crc: u32,
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
    /// The notes themselves, while [`State::remembers`].
    notes: BytesMut,
    /// Position and mark before the newest extent: what recovery falls back to when that one was torn.
    pub before: (Point, Option<Marked>),
    pub closed: Option<(Summary, Point)>,
    upload: Option<Upload>,
    pub committed: Option<Committed>,
    pub reported: Option<u64>,
}

/// A playlist's newest text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Playlist {
    pub body: Bytes,
    pub last: bool,
    pub committed: Option<Committed>,
    pub reported: Option<u64>,
}

/// The durable state of an output.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub meta: Option<serde_json::Value>,
    pub objects: BTreeMap<ObjectId, Object>,
    pub playlists: BTreeMap<ObjectId, Playlist>,
    files: BTreeMap<u32, Summary>,
    released: BTreeMap<u32, ReleasedFile>,
    notes: Vec<serde_json::Value>,
    /// Keeps notes and what was released: a start needs them once, and afterwards they would only grow.
    remembers: bool,
    pub finished: bool,
}

/// An entry that does not follow from the ones before.
pub(crate) type Illegal = &'static str;

impl State {
    /// A state that keeps everything a journal tells, for [`Self::stored`].
    pub fn remembering() -> Self {
        Self { remembers: true, ..Self::default() }
    }

    /// Drops what only a start needs.
    pub fn forget(&mut self) {
        self.remembers = false;
        self.notes = Vec::new();
        self.released = BTreeMap::new();
        self.objects.values_mut().for_each(|object| object.notes = BytesMut::new());
    }

    /// Applies one entry.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Illegal> {
        match entry {
            Entry::Flush => Ok(()),
            Entry::Extent(extent) => self.extend(extent),
            Entry::Playlist { object, keep, tail, last, crc } => {
                let playlist = self.playlists.entry(*object).or_default();
                let kept = playlist.body.get(..*keep as usize).ok_or("a playlist keeps more than there is")?;
                let mut body = BytesMut::with_capacity(kept.len() + tail.len());
                body.extend_from_slice(kept);
                body.extend_from_slice(tail);
                if crc.is_some_and(|crc| crc != crc32c::crc32c(&body)) {
                    return Err("a playlist that does not match its checksum");
                }
                *playlist = Playlist { body: body.freeze(), last: *last, committed: None, reported: None };
                Ok(())
            }
            Entry::Json(step) => self.step(step),
        }
    }

    fn extend(&mut self, extent: &Extent) -> Result<(), Illegal> {
        let object = self.objects.get_mut(&extent.object).ok_or("an extent of an unknown object")?;
        if object.data.len != extent.offset || object.noted != extent.noted || object.closed.is_some() {
            return Err("an extent out of place");
        }
        object.before = (object.data, object.mark);
        object.data = Point { len: extent.offset + extent.len, crc: extent.crc };
        object.mark = extent.mark;
        object.noted += extent.notes.len() as u64;
        if self.remembers {
            object.notes.extend_from_slice(&extent.notes);
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Illegal> {
        match step {
            Step::Create { meta, .. } if self.meta.is_none() => self.meta = Some(meta.clone()),
            Step::Create { .. } => return Err("created twice"),
            Step::Open { object, extension, content_type } => {
                let spec = ObjectSpec {
                    object: *object,
                    extension: interned(extension),
                    content_type: interned(content_type),
                };
                if self.objects.insert(*object, Object::new(spec)).is_some() {
                    return Err("opened twice");
                }
            }
            Step::Head { object, len, crc } => self.object(*object)?.head = Point { len: *len, crc: *crc },
            Step::Closed { object, summary, size, crc } => {
                self.object(*object)?.closed = Some((summary.clone(), Point { len: *size, crc: *crc }));
            }
            Step::FileDone { file, summary } => {
                self.files.insert(*file, summary.clone());
                let of_file = self.objects.iter_mut().filter(|(id, _)| id.file == *file);
                of_file.for_each(|(_, object)| object.notes = BytesMut::new());
            }
            Step::Shipping(record) => return self.ship(record),
            Step::Released { object } => self.release(*object),
            Step::Truncated { object, mark } => {
                let object = self.object(*object)?;
                object.head = Point::default();
                object.data = mark.map(|mark| Point { len: mark.len, crc: mark.crc }).unwrap_or_default();
                object.mark = *mark;
                object.noted = mark.map_or(0, |mark| mark.notes);
                object.notes.truncate(usize::try_from(object.noted).unwrap_or(usize::MAX));
                object.before = (object.data, object.mark);
            }
            Step::Finished => self.finished = true,
        }
        Ok(())
    }

    fn object(&mut self, object: ObjectId) -> Result<&mut Object, Illegal> {
        self.objects.get_mut(&object).ok_or("a record of an unknown object")
    }

    fn ship(&mut self, record: &Record) -> Result<(), Illegal> {
        let done = match record {
            Record::Committed { etag, size, .. } => Some(Committed { etag: etag.clone(), size: *size }),
            _ => None,
        };
        let id = match record {
            Record::Note(note) => {
                if self.remembers {
                    self.notes.push(note.clone());
                }
                return Ok(());
            }
            Record::UploadCreated { object, .. }
            | Record::PartDone { object, .. }
            | Record::Committed { object, .. }
            | Record::Reported { object, .. } => *object,
        };
        if let Some(playlist) = self.playlists.get_mut(&id) {
            match record {
                Record::Committed { .. } => playlist.committed = done,
                Record::Reported { sequence, .. } => playlist.reported = Some(*sequence),
                _ => {}
            }
            return Ok(());
        }
        // Released meanwhile: nothing left to note.
        let Some(object) = self.objects.get_mut(&id) else { return Ok(()) };
        match record {
            Record::UploadCreated { key, upload_id, .. } => {
                object.upload = Some(Upload { key: key.clone(), upload_id: upload_id.clone(), parts: Vec::new() });
            }
            Record::PartDone { number, etag, crc32c, len, .. } => {
                let upload = object.upload.as_mut().ok_or("a part without an upload")?;
                upload.parts.retain(|part| part.number != *number);
                upload.parts.push(Part { number: *number, etag: etag.clone(), crc32c: *crc32c, len: *len });
            }
            Record::Committed { .. } => object.committed = done,
            Record::Reported { sequence, .. } => object.reported = Some(*sequence),
            Record::Note(_) => {}
        }
        Ok(())
    }

    fn release(&mut self, id: ObjectId) {
        let gone = if let Some(object) = self.objects.remove(&id) {
            let (summary, whole) = object.closed.unwrap_or_default();
            ReleasedObject { object: id, size: whole.len, crc32c: whole.crc, summary: Some(summary) }
        } else if let Some(Playlist { body, .. }) = self.playlists.remove(&id) {
            ReleasedObject { object: id, size: body.len() as u64, crc32c: crc32c::crc32c(&body), summary: None }
        } else {
            return;
        };
        if self.remembers {
            let released = self.released.entry(id.file).or_default();
            released.file = id.file;
            released.objects.push(gone);
        }
    }

    /// The bytes may go: closed, committed and reported. None for an object that is gone already.
    pub fn releasable(&self, object: ObjectId) -> Option<bool> {
        if let Some(object) = self.objects.get(&object) {
            return Some(object.closed.is_some() && object.committed.is_some() && object.reported.is_some());
        }
        let playlist = self.playlists.get(&object)?;
        Some(playlist.last && playlist.committed.is_some() && playlist.reported.is_some())
    }

    /// Nothing is left to keep the directory for.
    pub fn drained(&self) -> bool {
        self.finished && self.objects.is_empty() && self.playlists.is_empty()
    }

    /// What listeners are told once an entry is durable.
    pub fn event(&self, key: &OutputKey, entry: &Entry) -> Option<Event> {
        let key = || key.clone();
        match entry {
            Entry::Flush => None,
            Entry::Extent(extent) => {
                let mark = extent.mark?;
                Some(Event::Durable { key: key(), object: extent.object, bytes: mark.len })
            }
            Entry::Playlist { object, last, .. } => {
                let body = self.playlists.get(object)?.body.clone();
                Some(Event::Playlist { key: key(), object: *object, body, last: *last })
            }
            Entry::Json(step) => match step.as_ref() {
                Step::Open { object, .. } => Some(Event::Opened { key: key(), spec: self.objects.get(object)?.spec }),
                Step::Closed { object, summary, size, crc } => Some(Event::Closed {
                    key: key(),
                    spec: self.objects.get(object)?.spec,
                    summary: summary.clone(),
                    size: *size,
                    crc32c: *crc,
                }),
                Step::FileDone { file, summary } => {
                    Some(Event::FileDone { key: key(), file: *file, summary: summary.clone() })
                }
                Step::Finished => Some(Event::Finished { key: key() }),
                _ => None,
            },
        }
    }

    /// The state as an earlier process left it.
    pub fn stored(&self, key: &OutputKey) -> StoredOutput {
        StoredOutput {
            key: key.clone(),
            meta: self.meta.clone().unwrap_or_default(),
            objects: self.objects.values().map(Object::stored).collect(),
            playlists: self
                .playlists
                .iter()
                .map(|(object, playlist)| StoredPlaylist {
                    object: *object,
                    body: playlist.body.clone(),
                    last: playlist.last,
                    committed: playlist.committed.clone(),
                    reported: playlist.reported,
                })
                .collect(),
            files: self
                .files
                .iter()
                .map(|(file, summary)| StoredFile { file: *file, summary: summary.clone() })
                .collect(),
            released: self.released.values().cloned().collect(),
            notes: self.notes.clone(),
            finished: self.finished,
        }
    }
}

impl Object {
    fn new(spec: ObjectSpec) -> Self {
        Self {
            spec,
            head: Point::default(),
            data: Point::default(),
            mark: None,
            noted: 0,
            notes: BytesMut::new(),
            before: (Point::default(), None),
            closed: None,
            upload: None,
            committed: None,
            reported: None,
        }
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

    fn stored(&self) -> StoredObject {
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
        }
    }

    /// What was noted up to its end or mark.
    fn notes_of_prefix(&self) -> Bytes {
        let mark = self.mark.map_or(0, |mark| usize::try_from(mark.notes).unwrap_or(usize::MAX));
        let end = if self.closed.is_some() { self.notes.len() } else { mark.min(self.notes.len()) };
        Bytes::copy_from_slice(self.notes.get(..end).unwrap_or_default())
    }
}

/// Extensions and content types of a journal as the `'static` strings muxers use. Each distinct string is leaked once;
/// their number is that of the formats ever written.
fn interned(text: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(text) {
        return found;
    }
    let leaked: &'static str = Box::leak(text.to_owned().into_boxed_str());
    known.insert(leaked);
    leaked
}
