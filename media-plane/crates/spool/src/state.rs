//! What the journal says about one output: a fold over its entries, the same while recording and after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use media::{CodecConfig, MediaTime};
use mux::{ObjectId, ObjectSpec, Summary};

use crate::journal::{Entry, Extent, Step};
use crate::object::{LONGEST, Object, Point};
use crate::stored::{
    Committed, Part, Record, ReleasedFile, ReleasedObject, StoredFile, StoredOutput, StoredPlaylist, Upload,
};
use crate::{Event, OutputKey};

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
    /// Boxed, because the nodes of a map that grows at its end are half empty.
    pub objects: BTreeMap<ObjectId, Box<Object>>,
    pub playlists: BTreeMap<ObjectId, Playlist>,
    files: BTreeMap<u32, Summary>,
    /// Configurations that objects closed last with; those of the next are mostly the same.
    configs: (Option<CodecConfig>, Option<CodecConfig>),
    /// Playlists whose newest text is lost.
    stale: BTreeSet<ObjectId>,
    /// Its journal says what of it was synced.
    pub knows_syncs: bool,
    /// What follows may not have been.
    pub unsynced: bool,
    pub damaged: Option<String>,
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

    /// End of the newest media.
    pub fn ends_at(&self) -> Option<MediaTime> {
        let objects = self.objects.values().filter_map(|object| match &object.closed {
            Some(summary) => Some(summary.ends_at),
            None => object.draft().mark.map(|mark| mark.ends_at),
        });
        objects.chain(self.files.values().map(|summary| summary.ends_at)).max()
    }

    /// Drops what only a start needs.
    pub fn forget(&mut self) {
        self.remembers = false;
        self.notes = Vec::new();
        self.released = BTreeMap::new();
        self.objects.values_mut().for_each(|object| object.forget());
    }

    /// Applies an entry of a journal that may be damaged: what does not fit ends the story of its object only.
    pub fn replay(&mut self, entry: &Entry) {
        let Err(problem) = self.apply(entry) else { return };
        let object = match entry {
            Entry::Extent(extent) => Some(extent.object),
            Entry::Playlist { object, .. } => {
                self.stale.insert(*object);
                None
            }
            Entry::Json(step) => match step.as_ref() {
                Step::Head { object, .. } | Step::Closed { object, .. } => Some(*object),
                // The provider knows better what it has.
                Step::Shipping(_) => return,
                _ => None,
            },
            Entry::Flush { .. } => None,
        };
        match object.and_then(|object| self.objects.get_mut(&object)) {
            Some(object) => {
                object.draft_mut().adrift = true;
                object.fate_mut().damaged.get_or_insert_with(|| problem.to_owned());
            }
            None => drop(self.damaged.get_or_insert_with(|| problem.to_owned())),
        }
    }

    /// After the last entry. A file whose newest playlist is lost has to be finished again.
    pub fn replayed(&mut self) {
        for playlist in std::mem::take(&mut self.stale) {
            self.files.remove(&playlist.file);
            self.finished = false;
        }
    }

    /// Applies one entry.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Illegal> {
        match entry {
            Entry::Flush { .. } => Ok(()),
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
                self.stale.remove(object);
                *playlist = Playlist { body: body.freeze(), last: *last, committed: None, reported: None };
                Ok(())
            }
            Entry::Json(step) => self.step(step),
        }
    }

    fn extend(&mut self, extent: &Extent) -> Result<(), Illegal> {
        let (unsynced, remembers) = (self.unsynced, self.remembers);
        let object = self.objects.get_mut(&extent.object).ok_or("an extent of an unknown object")?;
        object.extend(extent, unsynced, remembers)
    }

    fn step(&mut self, step: &Step) -> Result<(), Illegal> {
        match step {
            // Written twice, because nothing else says what the bytes are.
            Step::Create { meta, .. } if self.meta.as_ref().is_none_or(|known| known == meta) => {
                self.meta = Some(meta.clone());
            }
            Step::Create { .. } => return Err("created twice"),
            Step::Open { object, extension, content_type } => {
                let spec = ObjectSpec {
                    object: *object,
                    extension: interned(extension),
                    content_type: interned(content_type),
                };
                if self.objects.insert(*object, Box::new(Object::new(spec, self.unsynced))).is_some() {
                    return Err("opened twice");
                }
            }
            Step::Head { object, len, crc } => {
                let unsynced = self.unsynced;
                let object = self.object(*object)?;
                if *len > LONGEST {
                    return Err("a head of absurd length");
                }
                object.head = Point { len: *len, crc: *crc };
                object.draft_mut().unsynced |= unsynced;
            }
            Step::Closed { object, summary, size, crc } => {
                let (unsynced, remembers) = (self.unsynced, self.remembers);
                let summary = self.shared(summary);
                let object = self.object(*object)?;
                object.draft_mut().unsynced |= unsynced;
                let closed = object.close(&summary, Point { len: *size, crc: *crc });
                if !remembers {
                    object.forget();
                }
                closed?;
            }
            Step::FileDone { file, summary } => {
                self.files.insert(*file, summary.clone());
                let of_file = self.objects.iter_mut().filter(|(id, _)| id.file == *file);
                of_file.for_each(|(_, object)| object.forget_notes());
            }
            Step::Shipping(record) => return self.ship(record),
            Step::Released { object } => self.release(*object),
            Step::Truncated { object: id, mark, damaged } => {
                let unsynced = self.unsynced;
                let object = self.object(*id)?;
                if mark.is_some_and(|mark| mark.len > object.data.len || mark.notes > object.draft().noted) {
                    return Err("a cut behind the end");
                }
                object.head = Point::default();
                object.cut(*mark);
                let draft = object.draft_mut();
                draft.adrift = false;
                draft.unsynced |= unsynced;
                draft.noted = mark.map_or(0, |mark| mark.notes);
                draft.notes.truncate(usize::try_from(draft.noted).unwrap_or(usize::MAX));
                if let Some(damaged) = damaged {
                    object.fate_mut().damaged = Some(damaged.clone());
                }
                if object.closed.take().is_some() {
                    self.files.remove(&id.file);
                    self.finished = false;
                }
            }
            Step::Shortened { object, mark, damaged } => {
                let object = self.object(*object)?;
                if mark.is_some_and(|mark| mark.len > object.data.len) {
                    return Err("a cut behind the end");
                }
                object.fate_mut().damaged = Some(damaged.clone());
                object.shorten(*mark);
            }
            Step::Finished => self.finished = true,
        }
        Ok(())
    }

    fn object(&mut self, object: ObjectId) -> Result<&mut Object, Illegal> {
        self.objects.get_mut(&object).map(Box::as_mut).ok_or("a record of an unknown object")
    }

    /// A summary whose configurations are those of the object before, where they are equal: read from a journal, every
    /// one has its own.
    fn shared(&mut self, summary: &Summary) -> Summary {
        let mut summary = summary.clone();
        for (of, last) in [(&mut summary.video, &mut self.configs.0), (&mut summary.audio, &mut self.configs.1)] {
            if of == last {
                of.clone_from(last);
            } else if of.is_some() {
                last.clone_from(of);
            }
        }
        summary
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
        let fate = object.fate_mut();
        match record {
            Record::UploadCreated { key, upload_id, .. } => {
                fate.upload = Some(Upload { key: key.clone(), upload_id: upload_id.clone(), parts: Vec::new() });
            }
            Record::PartDone { number, etag, crc32c, len, .. } => {
                let upload = fate.upload.as_mut().ok_or("a part without an upload")?;
                upload.parts.retain(|part| part.number != *number);
                upload.parts.push(Part { number: *number, etag: etag.clone(), crc32c: *crc32c, len: *len });
            }
            Record::Committed { .. } => fate.committed = done,
            Record::Reported { sequence, .. } => fate.reported = Some(*sequence),
            Record::Note(_) => {}
        }
        Ok(())
    }

    fn release(&mut self, id: ObjectId) {
        let gone = if let Some(object) = self.objects.remove(&id) {
            let whole = if object.closed.is_some() { object.whole() } else { Point::default() };
            let summary = object.closed.unwrap_or_default();
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
            return Some(object.is_releasable());
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
            Entry::Flush { .. } => None,
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
            objects: self.objects.values().map(|object| object.stored()).collect(),
            damaged: self.damaged.clone(),
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
