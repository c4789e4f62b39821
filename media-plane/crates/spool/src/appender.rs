//! The writing half of an output: bytes to the page cache, entries to a buffer, and at each flush one sync job.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mux::{Index, ObjectId, ObjectPart, ObjectSpec, Summary};

use crate::disk::Disk;
use crate::growing::Growing;
use crate::inbox::{Ack, Batch, Op};
use crate::journal::{self, Entry, Extent, Step};
use crate::noted::Noted;
use crate::object::Point;
use crate::output::{data_path, head_path, journal_path};
use crate::state::State;
use crate::{Error, object_name};

/// What happens once a sync job is durable.
#[derive(Debug)]
pub(crate) enum Effect {
    Apply(Entry),
    Ack(Ack),
    /// Who waits for everything before, and would rather hear of a full disk.
    Barrier(Ack),
    /// Listeners hear that nothing will follow; the journal does not, so that the next start finds it unfinished.
    Abandoned,
}

/// Files and directories to sync, and what is true afterwards.
#[derive(Debug, Default)]
pub(crate) struct SyncJob {
    pub files: Vec<(PathBuf, Arc<File>)>,
    pub dirs: Vec<PathBuf>,
    pub effects: Vec<Effect>,
    /// Length of the journal that will be durable.
    pub covers: u64,
}

/// File handles and positions, used by one I/O thread at a time.
#[derive(Debug, Default)]
pub(crate) struct Appender {
    /// The directory and journal exist.
    created: bool,
    journal: Option<Arc<File>>,
    pub journal_len: u64,
    /// How much of the journal is durable, with all that it names.
    pub synced: u64,
    /// Encoded entries not written yet.
    buffer: Vec<u8>,
    growing: BTreeMap<ObjectId, Growing>,
    /// Newest playlist texts, against which the next are shortened.
    playlists: BTreeMap<ObjectId, Bytes>,
    job: SyncJob,
    /// Bytes written since the last job.
    pub unsynced: usize,
    /// A job is under way: the next waits for it, so that an output's syncs are in order.
    pub syncing: bool,
    /// Flush again as soon as it is done.
    pub again: bool,
    /// What found no room; it comes before anything newer.
    pub backlog: Option<Box<Batch>>,
    /// Something waits for room.
    pub stalled: bool,
}

impl Appender {
    /// For an output that does not exist yet.
    pub fn create(key: String, meta: serde_json::Value) -> Self {
        let mut appender = Self { buffer: journal::MAGIC.to_vec(), ..Self::default() };
        journal::encode(&Entry::Flush { synced: Some(0) }, &mut appender.buffer);
        // Twice, because nothing else says what the bytes are.
        appender.note(Step::Create { key: key.clone(), meta: meta.clone() });
        appender.note(Step::Create { key, meta });
        appender
    }

    /// For an output found on disk.
    pub fn resume(state: &State, journal_len: u64) -> Self {
        let open = state.objects.iter().filter(|(_, object)| object.closed.is_none());
        let growing = open.map(|(id, object)| (*id, Growing::resume(object)));
        Self {
            created: true,
            journal_len,
            synced: journal_len,
            growing: growing.collect(),
            playlists: state.playlists.iter().map(|(id, playlist)| (*id, playlist.body.clone())).collect(),
            ..Self::default()
        }
    }

    /// Objects that can be appended to.
    pub fn open_objects(&self) -> Vec<ObjectId> {
        self.growing.keys().copied().collect()
    }

    /// Writes a batch from where it is; `written` grows by the bytes that went to disk. When there is no room it stays
    /// where it was, as if what did not fit had not been tried.
    pub fn process(&mut self, dir: &Path, batch: &mut Batch, disk: &Disk, written: &mut u64) -> Result<(), Error> {
        self.ensure_created(dir, disk)?;
        while let Some(op) = batch.ops.get_mut(batch.done.0) {
            let bytes = if appended(op).is_some() {
                let (at, small) = batch.done;
                let ops = batch.ops.get(at..).unwrap_or_default();
                let ops = ops.get(..run_length(ops)).unwrap_or_default();
                let (bytes, small) = self.write_run(dir, ops, &batch.small, small, disk)?;
                batch.done = (at + ops.len(), small);
                bytes
            } else {
                let bytes = match op {
                    Op::Open(spec) => self.open(dir, *spec, disk)?,
                    Op::Head(object, bytes) => self.write_head(dir, *object, bytes, disk)?,
                    Op::Index(object, index) => {
                        let head = self.index(dir, *object, *index)?;
                        self.write_head(dir, *object, &head, disk)?
                    }
                    op => self.control(dir, std::mem::take(op))?,
                };
                batch.done.0 += 1;
                bytes
            };
            self.unsynced += usize::try_from(bytes).unwrap_or(usize::MAX);
            *written += bytes;
        }
        Ok(())
    }

    fn ensure_created(&mut self, dir: &Path, disk: &Disk) -> Result<(), Error> {
        if self.created {
            return Ok(());
        }
        disk.create_dirs(dir).map_err(|error| Error::io(dir, error))?;
        let path = journal_path(dir);
        self.journal = Some(Arc::new(disk.create(&path).map_err(|error| Error::io(&path, error))?));
        self.job.dirs.extend(dir.ancestors().take(3).map(Path::to_path_buf));
        self.created = true;
        Ok(())
    }

    fn note(&mut self, entry: impl Into<Entry>) {
        let entry = entry.into();
        self.begin_flush();
        journal::encode(&entry, &mut self.buffer);
        self.job.effects.push(Effect::Apply(entry));
    }

    /// What is written together begins with how far syncs have come.
    fn begin_flush(&mut self) {
        if self.buffer.is_empty() {
            journal::encode(&Entry::Flush { synced: Some(self.synced) }, &mut self.buffer);
        }
    }

    /// Notes what shipping waits for although media wait for room: only releases make room.
    pub fn ship_first(&mut self, dir: &Path, batch: &mut Batch) -> Result<(), Error> {
        if let Some(mut backlog) = self.backlog.take() {
            let ops = backlog.take_shipping();
            self.backlog = Some(backlog);
            ops.into_iter().try_for_each(|op| self.control(dir, op).map(drop))?;
        }
        batch.take_shipping().into_iter().try_for_each(|op| self.control(dir, op).map(drop))
    }

    /// What needs no room but in the journal.
    fn control(&mut self, dir: &Path, op: Op) -> Result<u64, Error> {
        match op {
            Op::Close(object, summary) => self.close(dir, object, *summary)?,
            Op::Playlist(object, body, last) => self.playlist(object, body, last),
            Op::FileDone(file, summary) => self.note(Step::FileDone { file, summary: *summary }),
            Op::Finish => self.note(Step::Finished),
            Op::Abandon => self.job.effects.push(Effect::Abandoned),
            Op::Record(record, ack) => {
                self.note(Step::Shipping(*record));
                self.job.effects.extend(ack.map(Effect::Ack));
            }
            Op::Release(object, ack) => {
                self.note(Step::Released { object });
                self.playlists.remove(&object);
                self.job.effects.push(Effect::Ack(ack));
            }
            Op::Shorten(object, mark, ack) => {
                self.note(Step::Shortened {
                    object,
                    mark: *mark,
                    damaged: "its bytes do not match their checksum".into(),
                });
                self.job.effects.push(Effect::Ack(ack));
            }
            Op::Barrier(ack) => self.job.effects.push(Effect::Barrier(ack)),
            Op::Open(..)
            | Op::Head(..)
            | Op::Index(..)
            | Op::Small(..)
            | Op::Large(..)
            | Op::Mark(..)
            | Op::Note(..)
            | Op::Done => {}
        }
        Ok(0)
    }

    fn open(&mut self, dir: &Path, spec: ObjectSpec, disk: &Disk) -> Result<u64, Error> {
        // A playlist has no data file: its text is in the journal.
        if spec.object.part == ObjectPart::Playlist {
            return Ok(0);
        }
        let path = data_path(dir, spec.object);
        let file = disk.create(&path).map_err(|error| Error::io(&path, error))?;
        self.add_dir(dir);
        self.growing.insert(spec.object, Growing::new(file, self.journal_len));
        self.note(Step::Open {
            object: spec.object,
            extension: spec.extension.to_owned(),
            content_type: spec.content_type.to_owned(),
        });
        Ok(0)
    }

    fn add_dir(&mut self, dir: &Path) {
        if !self.job.dirs.iter().any(|known| known == dir) {
            self.job.dirs.push(dir.to_path_buf());
        }
    }

    fn grow(&mut self, object: ObjectId) -> Result<&mut Growing, Error> {
        self.growing
            .get_mut(&object)
            .ok_or_else(|| Error::Sequence { object: object_name(object), problem: "is not open" })
    }

    /// Appends and marks of one object, in one write; returns the bytes written and where the small ones end.
    fn write_run(
        &mut self,
        dir: &Path,
        ops: &[Op],
        bytes: &[u8],
        small: usize,
        disk: &Disk,
    ) -> Result<(u64, usize), Error> {
        let Some(object) = ops.first().and_then(appended) else { return Ok((0, small)) };
        let growing = self.grow(object)?;
        let before = growing.position();
        let mut slices = Vec::with_capacity(ops.len());
        let mut gathered = small..small;
        for op in ops {
            match op {
                Op::Small(_, len) => {
                    let piece = bytes.get(gathered.end..gathered.end + len).unwrap_or_default();
                    growing.data.add(piece);
                    gathered.end += len;
                }
                Op::Large(_, data) => {
                    slices.push(IoSlice::new(bytes.get(gathered.clone()).unwrap_or_default()));
                    gathered.start = gathered.end;
                    growing.data.add(data);
                    slices.push(IoSlice::new(data));
                }
                Op::Mark(_, mark) => growing.mark_here(*mark),
                Op::Note(_, note) => growing.note(note),
                _ => {}
            }
        }
        let end = gathered.end;
        slices.push(IoSlice::new(bytes.get(gathered).unwrap_or_default()));
        let written = growing.data.len - before.data.len;
        if written > 0 {
            let path = data_path(dir, object);
            let failed = |error| Error::io(&path, error);
            let file = match &growing.file {
                Some(file) => file.clone(),
                None => Arc::new(disk.continue_at_end(&path).map_err(failed)?),
            };
            if let Err(error) = disk.write(&path, &file, &mut slices) {
                // What was written of it frees room for journals, and is written again with the rest.
                disk.cut(&path, &file, before.data.len).map_err(failed)?;
                growing.back_to(before);
                return Err(failed(error));
            }
            growing.file = Some(file);
        }
        Ok((written, end))
    }

    /// Makes a head of what was noted about an object.
    fn index(&mut self, dir: &Path, object: ObjectId, index: Index) -> Result<Bytes, Error> {
        let journal = journal_path(dir);
        let Growing { since, noted, ref notes, .. } = *self.grow(object)?;
        let newest = notes.clone();
        let (len, buffer) = (self.journal_len, self.buffer.as_slice());
        let noted = Noted { object, journal: &journal, from: since, len, buffer, newest: &newest, noted };
        let problem = "its notes do not tell of all samples";
        index.head(&noted.read()?).ok_or_else(|| Error::Corrupt { path: journal, problem: problem.into() })
    }

    fn write_head(&mut self, dir: &Path, object: ObjectId, bytes: &[u8], disk: &Disk) -> Result<u64, Error> {
        let path = head_path(dir, object);
        let growing = self.grow(object)?;
        let head = Point { len: bytes.len() as u64, crc: crc32c::crc32c(bytes) };
        let file = disk.create(&path).map_err(|error| Error::io(&path, error))?;
        if let Err(error) = disk.write(&path, &file, &mut [IoSlice::new(bytes)]) {
            let _ = disk.remove(&path);
            return Err(Error::io(&path, error));
        }
        growing.head = head;
        self.add_dir(dir);
        self.job.files.push((path, Arc::new(file)));
        self.note(Step::Head { object, len: head.len, crc: head.crc });
        Ok(head.len)
    }

    fn close(&mut self, dir: &Path, object: ObjectId, summary: Summary) -> Result<(), Error> {
        if object.part == ObjectPart::Playlist {
            return Ok(());
        }
        self.grow(object)?;
        self.extend(object);
        let Some(growing) = self.growing.remove(&object) else { return Ok(()) };
        let Point { len: size, crc } = growing.data.behind(growing.head);
        if let Some(file) = growing.file {
            self.job.sync_later(data_path(dir, object), file);
        }
        self.note(Step::Closed { object, summary, size, crc });
        Ok(())
    }

    fn playlist(&mut self, object: ObjectId, body: Bytes, last: bool) {
        let before = self.playlists.get(&object).cloned().unwrap_or_default();
        let keep = before.iter().zip(body.iter()).take_while(|(old, new)| old == new).count();
        let crc = Some(crc32c::crc32c(&body));
        let entry = Entry::Playlist { object, keep: keep as u32, tail: body.slice(keep..), last, crc };
        self.playlists.insert(object, body);
        self.note(entry);
    }

    /// Records what an object gained since its last extent.
    fn extend(&mut self, object: ObjectId) {
        let Some(growing) = self.growing.get_mut(&object) else { return };
        let (offset, mark) = growing.recorded;
        let len = growing.data.len - offset;
        if len == 0 && mark == growing.mark && growing.notes.is_empty() {
            return;
        }
        growing.recorded = (growing.data.len, growing.mark);
        let notes = Bytes::from(std::mem::take(&mut growing.notes));
        let noted = growing.noted - notes.len() as u64;
        let extent = Extent { object, offset, len, crc: growing.data.crc, mark: growing.mark, noted, notes };
        self.note(Entry::Extent(extent));
    }

    /// Writes the journal to the page cache: there it outlives the process, however long the disk takes to sync.
    pub fn record(&mut self, dir: &Path, disk: &Disk) -> Result<(), Error> {
        for object in self.open_objects() {
            let grown = self.growing.get(&object).filter(|growing| growing.data.len > growing.recorded.0);
            if let Some(file) = grown.and_then(|growing| growing.file.clone()) {
                self.job.sync_later(data_path(dir, object), file);
            }
            self.extend(object);
        }
        if !self.buffer.is_empty() {
            self.ensure_created(dir, disk)?;
            let path = journal_path(dir);
            let failed = |error| Error::io(&path, error);
            let journal = match self.journal.take() {
                Some(journal) => journal,
                None => Arc::new(disk.continue_at_end(&path).map_err(failed)?),
            };
            if let Err(error) = disk.write(&path, &journal, &mut [IoSlice::new(&self.buffer)]) {
                disk.cut(&path, &journal, self.journal_len).map_err(failed)?;
                return Err(failed(error));
            }
            self.journal_len += self.buffer.len() as u64;
            self.buffer.clear();
            self.buffer.shrink_to(KEEP_BUFFER);
            // After what it names.
            self.job.files.retain(|(other, _)| *other != path);
            self.job.files.push((path, journal.clone()));
            self.journal = Some(journal);
        }
        Ok(())
    }

    /// Everything recorded that must be synced; none when nothing changed.
    pub fn take_job(&mut self) -> Option<SyncJob> {
        self.unsynced = 0;
        let job = SyncJob { covers: self.journal_len, ..std::mem::take(&mut self.job) };
        (!job.files.is_empty() || !job.effects.is_empty()).then_some(job)
    }

    /// Everything it was given is durable.
    pub fn is_settled(&self) -> bool {
        !self.syncing && self.is_idle()
    }

    /// Everything it was given went into a job.
    pub fn is_idle(&self) -> bool {
        // A mark or a note that came alone, while a sync was under way, has no bytes to be seen by.
        let is_told =
            |growing: &Growing| growing.recorded == (growing.data.len, growing.mark) && growing.notes.is_empty();
        self.unsynced == 0
            && self.buffer.is_empty()
            && self.job.effects.is_empty()
            && self.backlog.is_none()
            && self.growing.values().all(is_told)
    }

    /// Answers who waits for everything before to be durable: it will not be, for a while.
    pub fn answer_barriers(&mut self, error: &Error) {
        for effect in std::mem::take(&mut self.job.effects) {
            match effect {
                Effect::Barrier(ack) => drop(ack.send(Err(error.clone()))),
                effect => self.job.effects.push(effect),
            }
        }
    }

    /// Gives the journal's descriptor back: nobody writes regularly any more.
    pub fn rest(&mut self) {
        self.journal = None;
    }

    /// Drops files and everything not durable; answers who waits.
    pub fn abandon(&mut self, error: &Error) {
        std::mem::take(&mut self.job).refuse(error);
        if let Some(mut batch) = self.backlog.take() {
            batch.refuse(error);
        }
        self.growing.clear();
        self.journal = None;
        self.buffer = Vec::new();
    }
}

/// Journal entries of one flush are a few hundred bytes.
const KEEP_BUFFER: usize = 4 << 10;

impl SyncJob {
    /// Has a file synced, once.
    fn sync_later(&mut self, path: PathBuf, file: Arc<File>) {
        if !self.files.iter().any(|(known, _)| *known == path) {
            self.files.push((path, file));
        }
    }

    /// Answers who waits for it.
    pub fn refuse(self, error: &Error) {
        for effect in self.effects {
            if let Effect::Ack(ack) | Effect::Barrier(ack) = effect {
                let _ = ack.send(Err(error.clone()));
            }
        }
    }
}

/// The object an operation adds to.
fn appended(op: &Op) -> Option<ObjectId> {
    match op {
        Op::Small(object, _) | Op::Large(object, _) | Op::Mark(object, _) | Op::Note(object, _) => Some(*object),
        _ => None,
    }
}

/// How many operations from the start add to one object.
fn run_length(ops: &[Op]) -> usize {
    match ops.first().and_then(appended) {
        Some(object) => ops.iter().take_while(|op| appended(op) == Some(object)).count(),
        None => 0,
    }
}
