//! Between the recordings, which note, and the spool, which keeps: one small task a recording.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use mux::{Mark, ObjectId, ObjectPart, ObjectSpec, Output, Summary};
use recorder_proto::facts::{GapSpan, RecordingEnded};
use spool::{ObjectState, OutputKey, Record, Spool, StoredOutput, Writer};
use tokio::sync::{mpsc, oneshot};

use super::document::{Fold, with_gaps};
use super::entry::Entry;
use super::meta::{FORMAT, RecordingMeta};
use crate::shipping::{CopyBack, Target};
use crate::spool_names;

/// The document as an object of the spool.
pub const DOCUMENT: ObjectId = ObjectId { file: 0, part: ObjectPart::Whole };

const SPEC: ObjectSpec = ObjectSpec { object: DOCUMENT, extension: "json", content_type: "application/json" };

/// Notes made durable together.
const BATCH: usize = 64;

/// A recording and epoch, by the names of the spool.
type Which = (String, u64);

fn which(key: &OutputKey) -> Which {
    (key.recording.clone(), key.epoch)
}

enum Message {
    Note(Box<Entry>, oneshot::Sender<()>),
    /// An output of this name is under way.
    Begun(String),
    /// Nothing more comes of it.
    Over(String),
}

/// A recording that an earlier process left.
#[derive(Clone, Debug)]
pub struct RestoredRecording {
    /// As it started.
    pub meta: RecordingMeta,
    /// What was noted, in order; without [`Entry::Objects`].
    pub entries: Vec<Entry>,
    /// [`Entry::Ended`] is among them: only its files are under way.
    pub ended: bool,
}

#[derive(Default)]
struct Shared {
    keepers: Mutex<HashMap<Which, Handle>>,
    restored: Mutex<Vec<RestoredRecording>>,
    /// Files that an earlier process stored in a backup storage.
    backed_up: Mutex<Vec<CopyBack>>,
    /// Recordings whose storage was chosen while an earlier process had them.
    chosen: Mutex<Vec<(String, Target)>>,
    /// Manifests that are done and stay in the spool until the next start.
    lingering: Mutex<Vec<Writer>>,
    /// Messages that no keeper has dealt with yet.
    queued: AtomicUsize,
}

/// The manifests of one node. Clones share them.
#[derive(Clone)]
pub struct Manifests {
    spool: Spool,
    shared: Arc<Shared>,
}

/// Where a running recording notes what happens to it. Clones note into the same manifest.
#[derive(Clone)]
pub struct Handle {
    sender: mpsc::UnboundedSender<Message>,
    losses: Arc<Mutex<Losses>>,
    shared: Arc<Shared>,
}

/// What was recorded and is lost, and the end it has to be told with.
#[derive(Default)]
struct Losses {
    gaps: Vec<GapSpan>,
    ended: Option<RecordingEnded>,
}

impl Handle {
    /// The end of the recording, with what shipping knows to be lost so far.
    pub fn end(&self, mut ended: RecordingEnded) -> RecordingEnded {
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        ended.gaps = with_gaps(ended.gaps, &losses.gaps);
        losses.ended = Some(ended.clone());
        ended
    }

    /// The end that is known.
    pub fn ended(&self) -> Option<RecordingEnded> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).ended.clone()
    }

    /// Recorded media is lost. The end that has to be told anew, when there was one already.
    pub fn lose(&self, gap: GapSpan) -> Option<RecordingEnded> {
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses.gaps = with_gaps(std::mem::take(&mut losses.gaps), &[gap]);
        let Losses { gaps, ended } = &mut *losses;
        let ended = ended.as_mut()?;
        ended.gaps = with_gaps(std::mem::take(&mut ended.gaps), gaps);
        Some(ended.clone())
    }

    /// Puts an entry in line; never waits. After [`Entry::Ended`] the manifest is due.
    pub fn note(&self, entry: Entry) {
        drop(self.send(entry));
    }

    /// Puts an entry in line and returns once it is durable, or once that is out of the question (which is logged).
    pub async fn noted(&self, entry: Entry) {
        let _ = self.send(entry).await;
    }

    /// Nothing more comes of an output. Once that is so of all of its format, the format is settled.
    pub fn over(&self, key: &OutputKey) {
        self.message(Message::Over(key.format.clone()));
    }

    fn send(&self, entry: Entry) -> oneshot::Receiver<()> {
        let (done, durable) = oneshot::channel();
        self.message(Message::Note(Box::new(entry), done));
        durable
    }

    fn message(&self, message: Message) {
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        if self.sender.send(message).is_err() {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Manifests {
    /// Over what an earlier process left. Has to be called within a runtime, before shipping starts.
    pub fn open(spool: &Spool, stored: &[StoredOutput]) -> Self {
        let manifests = Self { spool: spool.clone(), shared: Arc::default() };
        let mut newest: BTreeMap<Which, &StoredOutput> = BTreeMap::new();
        let mut left: Vec<_> = stored.iter().filter(|output| spool_names::is_manifest(&output.key)).collect();
        left.sort_by_key(|output| spool_names::split(&output.key.format).1);
        for output in left {
            if let Some(older) = newest.insert(which(&output.key), output) {
                manifests.discard(older);
            }
        }
        for output in newest.into_values() {
            if output.finished { manifests.recall(output) } else { manifests.restore(output, stored) }
        }
        manifests
    }

    /// Its disk had failed, and all of it is noted in a newer one.
    fn discard(&self, output: &StoredOutput) {
        if let Ok(writer) = self.spool.reopen(&output.key) {
            writer.finish();
        }
    }

    /// Starts the manifest of a recording. Never waits.
    ///
    /// # Errors
    /// Those of [`Spool::create`].
    pub fn create(&self, meta: RecordingMeta) -> Result<Handle, spool::Error> {
        let key = meta.spool_key();
        let value = serde_json::to_value(&meta)
            .map_err(|_| spool::Error::Key { key: key.to_string(), problem: "its metadata cannot be written" })?;
        let writer = self.spool.create(key, &value)?;
        Ok(self.keep(meta, Fold::default(), writer, Draft::Nothing))
    }

    /// Every recording that an earlier process left, ended or not; the second call finds none.
    pub fn restored(&self) -> Vec<RestoredRecording> {
        std::mem::take(&mut *self.shared.restored.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Files of earlier processes that have to be copied back from a backup storage; the second call finds none.
    pub fn backed_up(&self) -> Vec<CopyBack> {
        std::mem::take(&mut *self.shared.backed_up.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Recordings (bare ids) of earlier processes with the storage that somebody has chosen for what has not arrived; the
    /// second call finds none.
    pub fn chosen(&self) -> Vec<(String, Target)> {
        std::mem::take(&mut *self.shared.chosen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The manifest of a recording that is running or being settled. `key` may be that of any of its outputs.
    pub fn handle(&self, key: &OutputKey) -> Option<Handle> {
        self.keepers().get(&which(key)).cloned()
    }

    /// An output is being written or shipped, so that the manifest has to wait for its [`Entry::Settled`].
    pub fn begun(&self, key: &OutputKey) {
        if let Some(handle) = self.handle(key) {
            handle.message(Message::Begun(key.format.clone()));
        }
    }

    /// Notes something about an output's file; returns once it is durable.
    pub async fn noted(&self, key: &OutputKey, entry: Entry) {
        if let Some(handle) = self.handle(key) {
            handle.noted(entry).await;
        }
    }

    /// Whether every entry was dealt with. What is idle may still wait for outputs to be settled.
    pub fn is_idle(&self) -> bool {
        self.shared.queued.load(Ordering::Relaxed) == 0
    }

    /// Its document is written and may still have to go where somebody has said.
    fn recall(&self, output: &StoredOutput) {
        let chosen = |note: &serde_json::Value| match serde_json::from_value(note.clone()) {
            Ok(Entry::Storage(target)) => Some((output.key.recording.clone(), *target)),
            _ => None,
        };
        let chosen = output.notes.iter().rev().find_map(chosen);
        self.shared.chosen.lock().unwrap_or_else(PoisonError::into_inner).extend(chosen);
    }

    fn keepers(&self) -> MutexGuard<'_, HashMap<Which, Handle>> {
        self.shared.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restore(&self, output: &StoredOutput, stored: &[StoredOutput]) {
        let meta: RecordingMeta = match serde_json::from_value(output.meta.clone()) {
            Ok(meta) => meta,
            Err(error) => {
                tracing::error!(output = %output.key, %error, "a manifest that cannot be read stays in the spool");
                return;
            }
        };
        let writer = match self.spool.reopen(&output.key) {
            Ok(writer) => writer,
            Err(error) => {
                tracing::error!(output = %output.key, %error, "a manifest cannot be gone on with");
                return;
            }
        };
        let mut fold = Fold::default();
        let mut entries = Vec::new();
        for note in &output.notes {
            match serde_json::from_value::<Entry>(note.clone()) {
                Ok(entry) => {
                    if !matches!(entry, Entry::Objects { .. }) {
                        entries.push(entry.clone());
                    }
                    fold.take(entry);
                }
                Err(error) => tracing::warn!(output = %output.key, %error, "an entry of a manifest is left out"),
            }
        }
        let of_same = |other: &&StoredOutput| which(&other.key) == which(&output.key);
        let kept: Vec<&str> = stored.iter().filter(of_same).map(|other| other.key.format.as_str()).collect();
        kept.iter().for_each(|name| fold.begun(name));
        for format in &meta.started.formats {
            if !kept.iter().any(|name| spool_names::format(name) == Some(*format)) {
                // Released down to its last object, hence settled; or the crash came before it was durable at all.
                fold.take(Entry::Settled(*format));
            }
        }
        let copies = fold.elsewhere(&meta).map(|(file, pieces)| {
            let output = Arc::new(meta.output_of(file.format));
            CopyBack { meta: output, file: file.clone(), pieces }
        });
        self.shared.backed_up.lock().unwrap_or_else(PoisonError::into_inner).extend(copies);
        let chosen = fold.storage().map(|target| (output.key.recording.clone(), target.clone()));
        self.shared.chosen.lock().unwrap_or_else(PoisonError::into_inner).extend(chosen);
        let draft = Draft::of(output);
        let restored = RestoredRecording { meta: meta.clone(), entries, ended: fold.has_ended() };
        self.shared.restored.lock().unwrap_or_else(PoisonError::into_inner).push(restored);
        self.keep(meta, fold, writer, draft);
    }

    fn keep(&self, meta: RecordingMeta, fold: Fold, writer: Writer, draft: Draft) -> Handle {
        let (sender, inbox) = mpsc::unbounded_channel();
        let losses = Losses { gaps: Vec::new(), ended: fold.end() };
        let handle = Handle { sender, losses: Arc::new(Mutex::new(losses)), shared: Arc::clone(&self.shared) };
        let key = meta.spool_key();
        self.keepers().insert(which(&key), handle.clone());
        let (manifests, spool) = (self.clone(), self.spool.clone());
        // The first look at a restored manifest counts as a message: it may be due at once.
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        let keeper = Keeper { manifests, spool, key, meta, fold, writer, draft, moved: false };
        tokio::spawn(keeper.run(inbox));
        handle
    }
}

/// How far an earlier process came with the document.
enum Draft {
    Nothing,
    /// Opened, with so many bytes.
    Open(u64),
    /// Complete, but the output was not finished.
    Closed,
}

impl Draft {
    fn of(output: &StoredOutput) -> Self {
        match output.objects.iter().find(|object| object.spec.object == DOCUMENT).map(|object| &object.state) {
            None => Self::Nothing,
            Some(ObjectState::Open { bytes, .. }) => Self::Open(*bytes),
            Some(ObjectState::Closed { .. }) => Self::Closed,
        }
    }
}

struct Keeper {
    manifests: Manifests,
    spool: Spool,
    key: OutputKey,
    meta: RecordingMeta,
    fold: Fold,
    writer: Writer,
    draft: Draft,
    /// It began on a disk that has failed since.
    moved: bool,
}

impl Keeper {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let shared = Arc::clone(&self.manifests.shared);
        let mut dealt_with = 1;
        loop {
            if self.fold.is_complete(&self.meta) {
                self.manifests.keepers().remove(&which(&self.key));
                self.write();
                inbox.close();
                while inbox.try_recv().is_ok() {
                    dealt_with += 1;
                }
                shared.queued.fetch_sub(dealt_with, Ordering::Relaxed);
                return;
            }
            shared.queued.fetch_sub(dealt_with, Ordering::Relaxed);
            let mut batch = Vec::new();
            dealt_with = inbox.recv_many(&mut batch, BATCH).await;
            if dealt_with == 0 {
                return;
            }
            self.take(batch).await;
        }
    }

    /// Entries count once they are durable, so that a document never says what a restart would not know.
    async fn take(&mut self, batch: Vec<Message>) {
        let (mut notes, mut done) = (Vec::new(), Vec::new());
        for message in batch {
            match message {
                Message::Begun(name) => self.fold.begun(&name),
                Message::Over(name) => {
                    if let Some(entry) = self.fold.over(&name) {
                        notes.push(self.record(&entry));
                        done.push((entry, None));
                    }
                }
                Message::Note(entry, ack) => {
                    notes.push(self.record(&entry));
                    done.push((*entry, Some(ack)));
                }
            }
        }
        let mut failed = None;
        for result in join_all(notes).await {
            failed = result.err().or(failed);
        }
        let mut acks = Vec::new();
        for (entry, ack) in done {
            self.fold.take(entry);
            acks.extend(ack);
        }
        if let Some(error) = failed {
            tracing::warn!(output = %self.key, %error, "entries of a manifest are not durable");
            if matches!(error, spool::Error::Failed(_) | spool::Error::Io { .. }) {
                self.go_on_elsewhere().await;
            }
        }
        for ack in acks {
            let _ = ack.send(());
        }
    }

    fn record(&self, entry: &Entry) -> impl Future<Output = Result<(), spool::Error>> + use<> {
        let value = serde_json::to_value(entry).map(Record::Note);
        let (spool, key) = (self.spool.clone(), self.key.clone());
        async move {
            match value {
                Ok(note) => spool.record(&key, note).await,
                Err(_) => Ok(()),
            }
        }
    }

    /// The disk has failed: all of it is noted once more, on another one.
    async fn go_on_elsewhere(&mut self) {
        let (_, number) = spool_names::split(&self.key.format);
        let key = OutputKey { format: spool_names::name(FORMAT, number + 1), ..self.key.clone() };
        let created = serde_json::to_value(&self.meta).ok().map(|meta| self.spool.create(key.clone(), &meta));
        let Some(Ok(writer)) = created else {
            return tracing::error!(output = %self.key, "no disk for a manifest; the next start knows of less");
        };
        (self.key, self.writer, self.draft, self.moved) = (key, writer, Draft::Nothing, true);
        let notes: Vec<_> = self.fold.entries().iter().map(|entry| self.record(entry)).collect();
        if let Some(error) = join_all(notes).await.into_iter().find_map(Result::err) {
            tracing::error!(output = %self.key, %error, "entries of a manifest are not durable");
        }
    }

    fn write(mut self) {
        if let Err(error) = self.apply() {
            tracing::warn!(output = %self.key, %error, "the manifest is written after the next start");
            return;
        }
        if self.moved {
            // What the failed disk has of the recording may be back at the next start: this says that it has ended.
            self.manifests.shared.lingering.lock().unwrap_or_else(PoisonError::into_inner).push(self.writer);
            return;
        }
        self.writer.finish();
    }

    fn apply(&mut self) -> Result<(), spool::Error> {
        if !matches!(self.draft, Draft::Closed) {
            if matches!(self.draft, Draft::Nothing) {
                self.writer.apply(Output::Open(SPEC))?;
            }
            // The mark comes with the last byte, so recovery leaves all of it or nothing: what is there is whole, and
            // must not be mixed with what would be said today.
            if !matches!(self.draft, Draft::Open(1..)) {
                let document = Bytes::from(self.fold.render(&self.meta));
                self.writer.apply(Output::Append(DOCUMENT, document))?;
                self.writer.apply(Output::Commit(DOCUMENT, Mark::default()))?;
            }
            self.writer.apply(Output::Close(DOCUMENT, Summary::default()))?;
        }
        self.writer.apply(Output::FileDone(DOCUMENT.file, Summary::default()))
    }
}
