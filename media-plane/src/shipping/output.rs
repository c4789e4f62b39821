//! One output on its way: objects oldest first, a few at a time, each as often as it takes.

mod failing;
mod orders;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use media::MediaTime;
use mux::{ObjectId, ObjectPart, ObjectSpec};
use recorder_proto::facts::FactKind;
use recorder_proto::names::StorageName;
use spool::{Event, OutputKey, Record};
use store::CACHE_IMMUTABLE;
use tokio::sync::mpsc;

use super::backup::CopyBack;
use super::damage::Losses;
use super::file::{File, Text};
use super::growing::{Closed, Growth};
use super::note::OutputNote;
use super::placement::Placement;
use super::plan::Growing;
use super::playlist::{Beginning, Letter};
use super::progress::Progress;
use super::report::{Reporter, available_entry};
use super::sending::{Done, Final, Kept, Queued, Ship, ship};
use super::upload::Parcel;
use super::{Context, OutputMeta};
use crate::manifest::{Entry, FileEntry, MAX_PIECES, Packed};

/// Objects of one output under way together; the rest of the permits are for others.
const AT_ONCE: usize = 4;

/// See the module.
pub struct Shipment {
    context: Arc<Context>,
    key: OutputKey,
    meta: Arc<OutputMeta>,
    placement: Placement,
    /// Objects whose storage is given up, until it is clear whether their file moves.
    stuck: Vec<Queued>,
    /// Objects and playlists under way, by file.
    under_way: BTreeMap<u32, usize>,
    /// What an earlier epoch wrote.
    beginning: Arc<Beginning>,
    files: BTreeMap<u32, File>,
    backlog: VecDeque<Queued>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Open objects, where those are sent while they grow.
    growths: BTreeMap<ObjectId, Growth>,
    growing: FuturesUnordered<BoxFuture<'static, Option<Done>>>,
    /// Media that was durable and is lost.
    pub losses: Losses,
    /// End of the media of closed files: where the next begins.
    ends_at: MediaTime,
    /// Nothing more will come from the spool.
    over: bool,
    /// Nor from a later start: the output has ended, so that what is incomplete stays so.
    ended: bool,
    /// Objects that could not be stored and are kept for another try.
    failed: Vec<Kept>,
    /// The order that was dealt with last.
    obeyed: u64,
    /// Objects that an earlier process told of and did not note so, with the sequence of the fact.
    told_before: Vec<(ObjectId, u64)>,
}

impl Shipment {
    /// Of an output that has just begun.
    pub fn new(context: Arc<Context>, key: OutputKey, meta: OutputMeta, name: StorageName) -> Self {
        let placement = Placement::new(&context, &meta, name);
        let beginning = Arc::new(Beginning::new(&meta, None));
        let (losses, ends_at) = (Losses::new(&context, &key, &meta), meta.wall.media);
        Self {
            context,
            key,
            meta: Arc::new(meta),
            placement,
            stuck: Vec::new(),
            under_way: BTreeMap::new(),
            beginning,
            files: BTreeMap::new(),
            backlog: VecDeque::new(),
            running: FuturesUnordered::new(),
            growths: BTreeMap::new(),
            growing: FuturesUnordered::new(),
            losses,
            ends_at,
            over: false,
            ended: false,
            failed: Vec::new(),
            obeyed: 0,
            told_before: Vec::new(),
        }
    }

    /// What an earlier process noted of the output.
    pub fn recall(&mut self, note: OutputNote) {
        match note {
            OutputNote::Backup(file) => self.placement.set_moved(file),
            OutputNote::Elsewhere { file, target } => self.placement.choose(&self.context, file, &target),
            OutputNote::Previous(text) => self.beginning = Arc::new(Beginning::new(&self.meta, Some(text))),
        }
    }

    /// Whether a file goes to another storage than the output's own.
    pub fn is_elsewhere(&self, file: u32) -> bool {
        self.placement.is_moved(file) || self.placement.is_chosen(file)
    }

    /// Objects of a settled file: the fact that tells of them has this sequence.
    pub fn told_before(&mut self, objects: Vec<ObjectId>, sequence: u64) {
        self.told_before.extend(objects.into_iter().map(|object| (object, sequence)));
    }

    /// How its files are sent while they grow.
    pub fn growing_parts(&self) -> Option<Growing> {
        self.meta.growing_parts()
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

    /// Puts an object in line; with what an earlier process did of its upload.
    pub fn queue(&mut self, spec: ObjectSpec, size: u64, crc32c: u32, before: Option<Progress>) {
        // A process that died right after the object began: there is nothing to play in it.
        if size == 0 {
            return;
        }
        let place = self.file(spec.object.file).close(spec.object);
        let waiting = self.context.lag.enter(&self.meta, spec.object, size);
        let progress = before.map(Box::new);
        self.backlog.push_back(Queued { spec, size, crc32c, place, progress, waiting, movable: true });
    }

    fn parcel(&self, spec: ObjectSpec, size: u64, crc32c: u32) -> Parcel {
        Parcel {
            output: self.key.clone(),
            spec,
            size,
            crc32c,
            key: self.meta.object_key_in(self.placement.target(spec.object.file), spec.object),
            meta: self.meta.headers(spec.content_type, CACHE_IMMUTABLE),
        }
    }

    /// An object is open and durable up to here; with what an earlier process did of its upload.
    pub fn grow(&mut self, spec: ObjectSpec, durable: u64, before: Option<Progress>) {
        let Some(growing) = self.meta.growing_parts().filter(|_| spec.object.part == ObjectPart::Whole) else { return };
        let is_begun = before.as_ref().is_some_and(|progress| progress.upload.is_some());
        let parcel = self.parcel(spec, 0, 0);
        let growth = self.growths.entry(spec.object).or_insert_with(|| Growth::new(spec));
        if growth.is_sent() {
            return growth.grown(durable);
        }
        if durable < growing.threshold() && !is_begun {
            return;
        }
        let progress = Progress { growing: Some(growing), ..before.unwrap_or_default() };
        let (sender, left) = growth.begin(parcel, progress, durable);
        let (context, storage) = (Arc::clone(&self.context), self.placement.storage(spec.object.file));
        let meta = Arc::clone(&self.meta);
        let (movable, may_leave) = (self.placement.may_move(spec.object.file), self.placement.may_leave());
        self.growing.push(Box::pin(async move {
            let (parcel, progress, closed, waiting) = tokio::select! {
                biased;
                Ok(()) = left => return None,
                grown = sender.grow(&context, &storage, &meta) => grown?,
            };
            let place = closed.place;
            Some(ship(context, storage, Ship { parcel, place, progress, waiting, movable, may_leave }).await)
        }));
    }

    /// An object is complete in the spool.
    fn closed(&mut self, spec: ObjectSpec, size: u64, crc32c: u32) {
        match self.growths.remove(&spec.object).filter(Growth::is_sent) {
            Some(growth) => {
                let place = self.file(spec.object.file).close(spec.object);
                *self.under_way.entry(spec.object.file).or_default() += 1;
                growth.close(Closed { size, crc32c, place });
            }
            None => self.queue(spec, size, crc32c, None),
        }
    }

    /// Ships until the output is over and everything of it is settled; false when a later start may go on with it.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) -> bool {
        for (object, sequence) in std::mem::take(&mut self.told_before) {
            self.reported(object, sequence).await;
        }
        // An ended channel says so at once whenever it is asked: whoever waits beside it would spin.
        let mut listens = true;
        let mut orders = self.context.nudge.orders();
        loop {
            self.obey().await;
            self.report_opened().await;
            self.decide().await;
            self.start();
            self.settle().await;
            if self.over
                && self.running.is_empty()
                && self.growing.is_empty()
                && self.backlog.is_empty()
                && self.stuck.is_empty()
                && self.files.values().all(File::is_idle)
            {
                self.fail_incomplete().await;
                // Until the node ends, somebody may ask for what has failed to be tried again.
                if !listens || !self.files.values().any(|file| file.kept) {
                    return self.ended;
                }
            }
            if !listens && self.running.is_empty() && self.growing.is_empty() {
                return self.ended;
            }
            tokio::select! {
                event = events.recv(), if listens => match event {
                    Some(event) => self.hear(event).await,
                    None => {
                        listens = false;
                        // What is open goes on after the next start, with the same uploads.
                        self.over = true;
                        self.growths.clear();
                    }
                },
                Some(done) = self.running.next() => self.done(done).await,
                Some(done) = self.growing.next() => if let Some(done) = done {
                    self.done(done).await;
                },
                _ = orders.changed() => {}
            }
        }
    }

    async fn hear(&mut self, event: Event) {
        match event {
            Event::Opened { spec, .. } => {
                self.file(spec.object.file);
                self.grow(spec, 0, None);
            }
            Event::Closed { spec, size, crc32c, .. } => self.closed(spec, size, crc32c),
            Event::Playlist { object, body, last, .. } => self.file(object.file).playlist(object, body, last),
            Event::FileDone { file, summary, .. } => {
                self.ends_at = self.ends_at.max(summary.ends_at);
                self.file(file).summary = Some(summary);
            }
            Event::Finished { .. } => self.set_over(true),
            Event::Failed { error, .. } => self.lost(&error).await,
            Event::Durable { object, bytes, .. } => {
                if let Some(spec) = self.growths.get(&object).map(|growth| growth.spec) {
                    self.grow(spec, bytes, None);
                }
            }
        }
    }

    /// Starts what may start: playlists first, because segments are worth nothing without one.
    fn start(&mut self) {
        while self.running.len() < AT_ONCE {
            let playlist = self.files.iter_mut().find_map(|(index, file)| {
                let text = if file.kept { None } else { file.next_playlist() };
                Some((*index, text?))
            });
            if let Some((file, text)) = playlist {
                *self.under_way.entry(file).or_default() += 1;
                self.running.push(self.ship_playlist(file, text));
            } else if let Some(next) = self.next_in_line() {
                let file = next.file();
                *self.under_way.entry(file).or_default() += 1;
                let (context, storage) = (Arc::clone(&self.context), self.placement.storage(file));
                let parcel = self.parcel(next.spec, next.size, next.crc32c);
                let may_leave = self.placement.may_leave() && self.file(file).is_untouched();
                let next = next.ready(parcel, self.placement.may_move(file), may_leave);
                self.running.push(Box::pin(ship(context, storage, next)));
            } else {
                return;
            }
        }
    }

    /// The oldest, unless it is just being decided where its file goes.
    fn next_in_line(&mut self) -> Option<Queued> {
        let stuck = &self.stuck;
        let is_free = |queued: &Queued| stuck.iter().all(|other| other.file() != queued.file());
        let place = self.backlog.iter().position(is_free)?;
        let next = self.backlog.remove(place);
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        next
    }

    /// Decides of files whose storage is given up once nothing of them is under way any more.
    async fn decide(&mut self) {
        let under_way = &self.under_way;
        let is_ready = |queued: &Queued| under_way.get(&queued.file()).is_none_or(|count| *count == 0);
        let (decided, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.stuck).into_iter().partition(is_ready);
        self.stuck = open;
        for mut queued in decided.into_iter().rev() {
            let file = queued.file();
            queued.movable = false;
            if self.placement.may_move(file) && self.file(file).is_untouched() {
                // Without the note a restart would look for the file in its own storage.
                match OutputNote::Backup(file).keep(&self.context.spool, &self.key).await {
                    Ok(()) => self.move_file(file),
                    Err(error) => tracing::warn!(output = %self.key, %error, "a file waits for its own storage"),
                }
            }
            if self.placement.is_moved(file) {
                // What was begun in its own storage is taken back when the file is copied there.
                queued.progress = None;
            }
            self.backlog.push_front(queued);
        }
    }

    fn move_file(&mut self, file: u32) {
        tracing::warn!(recording = %self.meta.recording, format = %self.meta.format, file, "to the backup storage");
        self.placement.set_moved(file);
        self.backlog.iter_mut().filter(|queued| queued.file() == file).for_each(|queued| queued.progress = None);
    }

    fn ship_playlist(&self, file: u32, text: Text) -> BoxFuture<'static, Done> {
        let (context, storage, output) = (Arc::clone(&self.context), self.placement.storage(file), self.key.clone());
        let is_first = self.files.keys().next() == Some(&file) && !self.is_elsewhere(file);
        let letter = Letter {
            output,
            key: self.meta.object_key_in(self.placement.target(file), text.object),
            meta: self.meta.playlist_headers(text.last),
            beginning: is_first.then(|| Arc::clone(&self.beginning)),
            text,
        };
        Box::pin(async move { Done::Playlist { file, result: letter.ship(&context, &storage).await } })
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Stuck(queued) => {
                self.arrived(queued.file());
                self.stuck.push(*queued);
            }
            Done::Object { object, place, crc32c, loss, result } => {
                self.arrived(object.file);
                if let Some(loss) = loss.filter(|_| result.is_ok()) {
                    self.losses.lose(object, loss);
                }
                match result {
                    Ok(stored) => {
                        let meta = &self.meta;
                        self.context.progress.uploaded(meta.recording, meta.epoch, meta.format, stored.size);
                        self.file(object.file).store(place, &stored, crc32c);
                    }
                    Err(Final { failure, kept }) => {
                        self.failed.extend(kept);
                        self.fail(object.file, failure, kept.is_some()).await;
                    }
                }
            }
            Done::Playlist { file, result } => {
                self.arrived(file);
                match result {
                    Ok((text, stored)) => self.file(file).playlist_stored(&text, &stored.etag),
                    Err((text, failure)) => {
                        self.file(file).playlist_failed(text);
                        self.fail(file, failure, true).await;
                    }
                }
            }
        }
    }

    fn arrived(&mut self, file: u32) {
        if let Some(count) = self.under_way.get_mut(&file) {
            *count = count.saturating_sub(1);
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
            let reporter = self.reporter(index);
            // Closed before it could be told: its own start is known.
            let summary = self.files.get(&index).and_then(|file| file.summary.as_ref());
            let starts_at = summary.map_or(self.ends_at, |summary| summary.starts_at);
            let opened = reporter.opened(index, |key| self.context.uri(reporter.target, key), starts_at);
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
        let summary = self.losses.without(index, summary);
        let reporter = self.reporter(index);
        let uri = |key: &str| self.context.uri(reporter.target, key);
        let available = reporter.available(&summary, &main, file.totals(), uri, self.context.clock.now());
        tracing::info!(
            recording = %self.meta.recording,
            format = %self.meta.format,
            file = index,
            uri = available.uri,
            size_bytes = available.size_bytes,
            "file available"
        );
        let chosen = self.placement.is_chosen(index);
        let entry = FileEntry { chosen, ..available_entry(&self.meta, &available, &summary) };
        let left = self.note_left(index);
        let Some(sequence) = self.report(available).await else { return };
        self.note_file(index, entry.clone()).await;
        self.bring_back(index, entry);
        left.into_iter().for_each(|left| self.context.copies.tidy(left));
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

    fn reporter(&self, file: u32) -> Reporter<'_> {
        Reporter { meta: &self.meta, target: self.placement.target(file), storage: self.placement.name(file) }
    }

    /// A file in the backup storage goes to its own once that works.
    fn bring_back(&self, index: u32, file: FileEntry) {
        if !self.placement.is_moved(index) || self.context.manifests.handle(&self.key).is_none() {
            return;
        }
        let pieces = self.files.get(&index).map(File::pieces).unwrap_or_default().to_vec();
        self.context.copies.send(CopyBack { meta: Arc::clone(&self.meta), file, pieces });
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
