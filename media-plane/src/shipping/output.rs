//! One output on its way: objects oldest first, a few at a time, each as often as it takes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use media::MediaTime;
use mux::{ObjectId, ObjectSpec};
use recorder_proto::facts::{FactKind, Failure};
use recorder_proto::names::StorageName;
use recorder_runtime::metrics as names;
use spool::{Event, OutputKey, Record};
use store::{Bucket, CACHE_IMMUTABLE, CACHE_NO_STORE, If, Kind, ObjectMeta, Stored};
use tokio::sync::mpsc;

use super::file::{File, Text};
use super::lag::Waiting;
use super::report::{Reporter, available_entry, failed_entry};
use super::storage::{Storage, failure, internal};
use super::upload::{Parcel, Progress, UploadError};
use super::{Context, OutputMeta};
use crate::manifest::{Entry, FileEntry, MAX_PIECES, Packed};

/// Objects of one output under way together; the rest of the permits are for others.
const AT_ONCE: usize = 4;

/// Cache header of a finished playlist: it may be kept, if the server is asked whether it is still the same.
const CACHE_REVALIDATE: &str = "no-cache";

/// A closed object that waits for its upload.
struct Ship {
    parcel: Parcel,
    place: u32,
    progress: Progress,
    waiting: Waiting,
}

/// What has come of an upload. An error is final for the object.
enum Done {
    Object { object: ObjectId, place: u32, crc32c: u32, result: Result<Stored, Failure> },
    Playlist { file: u32, text: Text, result: Result<Stored, Failure> },
}

/// See the module.
pub struct Shipment {
    context: Arc<Context>,
    key: OutputKey,
    meta: Arc<OutputMeta>,
    storage: Arc<Storage>,
    name: StorageName,
    files: BTreeMap<u32, File>,
    backlog: VecDeque<Ship>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// End of the media of closed files: where the next begins.
    ends_at: MediaTime,
    /// Nothing more will come from the spool.
    over: bool,
    /// Nor from a later start: the output has ended, so that what is incomplete stays so.
    ended: bool,
}

impl Shipment {
    /// Of an output that has just begun.
    pub fn new(context: Arc<Context>, key: OutputKey, meta: OutputMeta, name: StorageName) -> Self {
        let storage = context.storage(&meta.storage);
        let ends_at = meta.wall.media;
        Self {
            context,
            key,
            meta: Arc::new(meta),
            storage,
            name,
            files: BTreeMap::new(),
            backlog: VecDeque::new(),
            running: FuturesUnordered::new(),
            ends_at,
            over: false,
            ended: false,
        }
    }

    /// Where the next file begins, as far as closed ones tell.
    pub fn set_ends_at(&mut self, ends_at: MediaTime) {
        self.ends_at = ends_at;
    }

    /// The state of a file; restoring a shipment fills it.
    pub fn file(&mut self, file: u32) -> &mut File {
        self.files.entry(file).or_default()
    }

    /// Nothing more will come from the spool; unless the output has ended, a later start may go on with it.
    pub fn set_over(&mut self, ended: bool) {
        self.over = true;
        self.ended = ended;
    }

    /// Puts an object in line.
    pub fn queue(&mut self, spec: ObjectSpec, size: u64, crc32c: u32, progress: Progress) {
        // A process that died right after the object began: there is nothing to play in it.
        if size == 0 {
            return;
        }
        let place = self.file(spec.object.file).close(spec.object);
        let parcel = Parcel {
            output: self.key.clone(),
            spec,
            size,
            crc32c,
            key: self.meta.object_key(spec.object),
            meta: self.object_meta(spec.content_type, CACHE_IMMUTABLE),
        };
        let waiting = self.context.lag.enter();
        self.backlog.push_back(Ship { parcel, place, progress, waiting });
    }

    /// Ships until the output is over and everything of it is settled; false when a later start may go on with it.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) -> bool {
        loop {
            self.report_opened().await;
            self.start();
            self.settle().await;
            if self.over && self.running.is_empty() && self.backlog.is_empty() && self.files.values().all(File::is_idle)
            {
                self.fail_incomplete().await;
                return self.ended;
            }
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.hear(event).await,
                    None => self.over = true,
                },
                Some(done) = self.running.next() => self.done(done).await,
            }
        }
    }

    async fn hear(&mut self, event: Event) {
        match event {
            Event::Opened { spec, .. } => drop(self.file(spec.object.file)),
            Event::Closed { spec, size, crc32c, .. } => self.queue(spec, size, crc32c, Progress::default()),
            Event::Playlist { object, body, last, .. } => self.file(object.file).playlist(object, body, last),
            Event::FileDone { file, summary, .. } => {
                self.ends_at = self.ends_at.max(summary.ends_at);
                self.file(file).summary = Some(summary);
            }
            Event::Finished { .. } => self.set_over(true),
            Event::Failed { error, .. } => self.lost(&error).await,
            Event::Durable { .. } => {}
        }
    }

    /// The spool lost the output, or its writer died: what was closed still ships, what was open is gone.
    async fn lost(&mut self, error: &spool::Error) {
        self.set_over(true);
        let reason = if matches!(error, spool::Error::Abandoned) { "OUTPUT_ABANDONED" } else { "SPOOL_FAILED" };
        let open: Vec<u32> =
            self.files.iter().filter(|(_, file)| file.summary.is_none()).map(|(index, _)| *index).collect();
        for file in open {
            self.fail(file, internal(reason, error.to_string())).await;
        }
    }

    /// Settles files that were opened and never became complete: whoever waits for them waits for the last one.
    async fn fail_incomplete(&mut self) {
        let is_left = |file: &File| !file.settled && !file.is_complete();
        let left: Vec<u32> =
            self.files.iter().filter(|(_, file)| self.ended && is_left(file)).map(|(index, _)| *index).collect();
        for index in left {
            let problem = "the output ended without the whole of this file";
            self.fail(index, internal("FILE_INCOMPLETE", problem.to_owned())).await;
        }
    }

    fn object_meta(&self, content_type: &str, cache: &str) -> ObjectMeta {
        let mut meta = ObjectMeta::of_type(content_type).cached(cache);
        for (key, value) in &self.meta.labels {
            meta = meta.label(key.replace('.', "_"), header_safe(value));
        }
        meta
    }

    /// Starts what may start: playlists first, because segments are worth nothing without one.
    fn start(&mut self) {
        while self.running.len() < AT_ONCE {
            let playlist = self.files.iter_mut().find_map(|(index, file)| Some((*index, file.next_playlist()?)));
            if let Some((file, text)) = playlist {
                self.running.push(self.ship_playlist(file, text));
            } else if let Some(ship) = self.backlog.pop_front() {
                self.running.push(self.ship(ship));
            } else {
                return;
            }
        }
    }

    fn ship(&self, ship: Ship) -> BoxFuture<'static, Done> {
        let (context, storage) = (Arc::clone(&self.context), Arc::clone(&self.storage));
        let Ship { parcel, place, mut progress, waiting } = ship;
        Box::pin(async move {
            let open = metrics::gauge!(names::UPLOADS_OPEN);
            open.increment(1.0);
            let (object, crc32c) = (parcel.spec.object, parcel.crc32c);
            let mut attempts = storage.attempts();
            let result = loop {
                let error = match attempt(&context, &storage, &parcel, &mut progress).await {
                    Ok(stored) => break Ok(stored),
                    Err(error) => error,
                };
                if error.is_final() {
                    break Err(failure(&error));
                }
                storage.failed(&error, &mut attempts).await;
            };
            open.decrement(1.0);
            let result = match result {
                Ok(stored) => committed(&context, &parcel.output, object, stored).await,
                Err(failure) => Err(failure),
            };
            drop(waiting);
            Done::Object { object, place, crc32c, result }
        })
    }

    fn ship_playlist(&self, file: u32, text: Text) -> BoxFuture<'static, Done> {
        let (context, storage, output) = (Arc::clone(&self.context), Arc::clone(&self.storage), self.key.clone());
        let cache = if text.last { CACHE_REVALIDATE } else { CACHE_NO_STORE };
        let meta = self.object_meta(self.meta.format.content_type(), cache);
        let key = self.meta.object_key(text.object);
        Box::pin(async move {
            let mut attempts = storage.attempts();
            let result = loop {
                let error = match put_playlist(&context, &storage, &key, &text, &meta).await {
                    Ok(stored) => break Ok(stored),
                    Err(error) => error,
                };
                if error.is_final() {
                    break Err(failure(&error));
                }
                storage.failed(&error, &mut attempts).await;
            };
            let result = match result {
                Ok(stored) if text.last => committed(&context, &output, text.object, stored).await,
                other => other,
            };
            Done::Playlist { file, text, result }
        })
    }

    async fn done(&mut self, done: Done) {
        let (file, result) = match done {
            Done::Object { object, place, crc32c, result } => {
                let result = result.map(|stored| self.file(object.file).store(place, &stored, crc32c));
                (object.file, result)
            }
            Done::Playlist { file, text, result } => {
                let result = result.map(|stored| self.file(file).playlist_stored(&text, &stored.etag));
                (file, result)
            }
        };
        if let Err(failure) = result {
            self.fail(file, failure).await;
        }
    }

    /// Tells of files that have begun; their segments may be released only after.
    async fn report_opened(&mut self) {
        let new: Vec<u32> = self
            .files
            .iter()
            .filter(|(_, file)| file.opened.is_none() && !file.settled)
            .map(|(index, _)| *index)
            .collect();
        for index in new {
            let reporter = Reporter { meta: &self.meta, storage: self.name.clone() };
            // Closed before it could be told: its own start is known.
            let summary = self.files.get(&index).and_then(|file| file.summary.as_ref());
            let starts_at = summary.map_or(self.ends_at, |summary| summary.starts_at);
            let opened = reporter.opened(index, |key| self.context.uri(&self.meta.storage, key), starts_at);
            let sequence = self.report(opened).await;
            self.file(index).opened = sequence;
            if sequence.is_none() {
                return;
            }
        }
    }

    /// Releases segments that can be reached, and reports files that are complete.
    async fn settle(&mut self) {
        let indexes: Vec<u32> = self.files.keys().copied().collect();
        for index in indexes {
            let Some(file) = self.files.get_mut(&index) else { continue };
            let Some(opened) = file.opened.filter(|_| !file.settled) else { continue };
            for object in file.take_reachable() {
                self.reported(object, opened).await;
            }
            self.complete(index).await;
        }
    }

    async fn complete(&mut self, index: u32) {
        let Some(file) = self.files.get(&index).filter(|file| file.is_complete()) else { return };
        let (Some(summary), Some(main)) = (file.summary.clone(), file.main().cloned()) else { return };
        let reporter = Reporter { meta: &self.meta, storage: self.name.clone() };
        let uri = |key: &str| self.context.uri(&self.meta.storage, key);
        let available = reporter.available(&summary, &main, file.totals(), uri, self.context.clock.now());
        tracing::info!(
            recording = %self.meta.recording,
            format = %self.meta.format,
            file = index,
            uri = available.uri,
            size_bytes = available.size_bytes,
            "file available"
        );
        let entry = available_entry(&self.meta, &available, &summary);
        let Some(sequence) = self.report(available).await else { return };
        self.note_file(index, entry).await;
        self.reported(main.object, sequence).await;
        self.file(index).settled = true;
    }

    /// Notes the fact of an object in the spool, and lets the bytes go once it has arrived.
    async fn reported(&mut self, object: ObjectId, sequence: u64) {
        match self.context.spool.record(&self.key, Record::Reported { object, sequence }).await {
            Ok(()) => self.context.releases.add(sequence, self.key.clone(), object),
            Err(error) => tracing::warn!(output = %self.key, %error, "shipped bytes stay spooled until a restart"),
        }
    }

    async fn fail(&mut self, index: u32, error: Failure) {
        if std::mem::replace(&mut self.file(index).settled, true) {
            return;
        }
        tracing::error!(output = %self.key, file = index, reason = error.reason, message = error.message, "file failed");
        let reporter = Reporter { meta: &self.meta, storage: self.name.clone() };
        let kept = self.backlog.iter().filter(|ship| ship.parcel.spec.object.file == index);
        let bytes_kept = kept.map(|ship| ship.parcel.size).sum();
        let failed = reporter.failed(index, error, bytes_kept);
        let summary = self.files.get(&index).and_then(|file| file.summary.as_ref());
        let entry =
            failed_entry(&self.meta, &failed, self.context.uri(&self.meta.storage, &failed.object_key), summary);
        self.report(failed).await;
        self.note_file(index, entry).await;
    }

    /// For the manifest, durable before the file's bytes may go.
    async fn note_file(&mut self, index: u32, entry: FileEntry) {
        let Some(manifest) = self.context.manifests.handle(&self.key) else { return };
        let pieces = self.files.get(&index).map(File::pieces).unwrap_or_default();
        for some in pieces.chunks(MAX_PIECES) {
            let pieces = Packed::new(some);
            manifest.note(Entry::Objects { format: self.meta.format, index, pieces });
        }
        manifest.noted(Entry::File(Box::new(entry))).await;
    }

    /// None when the fact log is broken, which the node's readiness shows; the spool keeps the bytes.
    async fn report(&mut self, kind: impl Into<FactKind>) -> Option<u64> {
        let about = Some((self.meta.recording, self.meta.epoch));
        self.context.facts.report(self.context.clock.now(), about, kind.into()).await.ok()
    }
}

/// One attempt, with a client first and a permit second: who waits for a credential must not keep others waiting.
pub async fn attempt(
    context: &Context,
    storage: &Storage,
    parcel: &Parcel,
    progress: &mut Progress,
) -> Result<Stored, UploadError> {
    let bucket = storage.bucket().await?;
    let _permit = context.permits.acquire().await;
    let stored = parcel.send(&context.spool, bucket.as_ref(), progress).await?;
    storage.worked();
    Ok(stored)
}

async fn put_playlist(
    context: &Context,
    storage: &Storage,
    key: &str,
    text: &Text,
    meta: &ObjectMeta,
) -> Result<Stored, UploadError> {
    let bucket = storage.bucket().await?;
    let _permit = context.permits.acquire().await;
    let stored = put_and_look(bucket.as_ref(), key, text, meta).await?;
    storage.worked();
    Ok(stored)
}

async fn put_and_look(bucket: &dyn Bucket, key: &str, text: &Text, meta: &ObjectMeta) -> Result<Stored, store::Error> {
    let put = bucket.put(key, text.body.clone(), meta, If::Any).await?;
    if !text.last {
        return Ok(put);
    }
    let found = bucket.head(key).await?;
    found.filter(|found| found.size == text.body.len() as u64).ok_or_else(|| {
        store::Error::new("head", key, Kind::Corrupted, "ContentMismatch", "the playlist is not the one stored")
    })
}

/// Notes in the spool that an object is in the bucket.
async fn committed(context: &Context, output: &OutputKey, object: ObjectId, stored: Stored) -> Result<Stored, Failure> {
    let record = Record::Committed { object, etag: stored.etag.clone(), size: stored.size };
    if let Err(error) = context.spool.record(output, record).await {
        // It is in the bucket all the same; after a restart it is sent once more.
        tracing::warn!(%output, object = spool::object_name(object), %error, "upload not noted");
    }
    Ok(stored)
}

/// Object metadata travels in HTTP headers: everything but visible ASCII is percent-encoded.
fn header_safe(value: &str) -> String {
    let mut safe = String::with_capacity(value.len());
    for byte in value.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    safe.trim().to_owned()
}
