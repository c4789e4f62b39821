//! The spool as publications and shipping see it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use mux::{ObjectId, ObjectPart, Summary};
use tokio::sync::{Notify, oneshot};

use crate::appender::Appender;
use crate::disk::Disk;
use crate::event::Outlet;
use crate::inbox::Op;
use crate::output::Output;
use crate::reading::Range;
use crate::roots::Root;
use crate::state::State;
use crate::volume::{Volume, WRITERS, lock};
use crate::{
    Config, Error, Events, OutputKey, Record, StoredObject, StoredOutput, Usage, Writer, aside, mend, object_name,
    recover, step, threads,
};
#[cfg(any(test, feature = "sim"))]
use crate::{fault::FaultyDisk, step::Stepper};

/// A spool, what it found, its events and what makes it work.
#[cfg(any(test, feature = "sim"))]
pub type Stepped = (Spool, Vec<StoredOutput>, Events, Stepper);

/// Handle of the spool; clones share it. Dropping the last one (writers count) ends the I/O threads without a flush, as
/// a crash would; [`Spool::close`] is the orderly way.
#[derive(Clone)]
pub struct Spool {
    handle: Arc<Handle>,
}

pub(crate) struct Handle {
    pub volume: Arc<Volume>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        stop(&self.volume);
    }
}

fn stop(volume: &Volume) {
    volume.closed.store(true, Ordering::Relaxed);
    for shard in &volume.shards {
        lock(&shard.queue).stop = true;
        shard.wake.notify_all();
    }
    lock(&volume.syncs.jobs).1 = true;
    volume.syncs.wake.notify_all();
    volume.room.notify_waiters();
    volume.outlet.close();
}

impl Spool {
    /// Opens the directory, creating it when missing, and reads what an earlier process left: whatever was not released.
    /// Objects that were still open are cut back to their last durable mark. Blocks; call it before serving.
    pub fn open(config: Config) -> Result<(Self, Vec<StoredOutput>, Events), Error> {
        Self::open_on(config, Disk::default())
    }

    pub(crate) fn open_on(config: Config, disk: Disk) -> Result<(Self, Vec<StoredOutput>, Events), Error> {
        let (spool, stored, events) = Self::load(config, disk, false)?;
        let started = threads::start(&spool.handle.volume)?;
        *lock(&spool.handle.threads) = started;
        Ok((spool, stored, events))
    }

    /// [`Self::open`] on a disk that can fail.
    #[cfg(feature = "sim")]
    pub fn open_faulty(config: Config, disk: FaultyDisk) -> Result<(Self, Vec<StoredOutput>, Events), Error> {
        Self::open_on(config, disk.into())
    }

    /// [`Self::open`] without threads and clocks: nothing is written, synced or told but by [`Stepper::step`], by
    /// [`Self::flush`] and by [`Self::close`], and [`Self::read`] reads where it is called. The same calls give the same
    /// events. Dropping the spool and the stepper is a crash of the process: what was not written is gone.
    #[cfg(any(test, feature = "sim"))]
    pub fn open_stepped(config: Config, disk: FaultyDisk) -> Result<Stepped, Error> {
        let (spool, stored, events) = Self::load(config, disk.into(), true)?;
        let stepper = Stepper::new(spool.handle.volume.clone());
        Ok((spool, stored, events, stepper))
    }

    fn load(config: Config, disk: Disk, stepped: bool) -> Result<(Self, Vec<StoredOutput>, Events), Error> {
        let roots = Root::open_all(&config, &disk)?;
        let mut stored = Vec::new();
        let (mut bytes, mut aside) = (0, 0);
        let mut outputs = BTreeMap::new();
        for (number, root) in roots.iter().enumerate().filter(|(_, root)| root.is_alive()) {
            let all = recover::scan(&root.path, &disk)?;
            aside += aside::bytes(&root.path, &all);
            for mut found in all {
                stored.push(found.state.stored(&found.key));
                found.state.forget();
                bytes += found.bytes;
                let appender = Appender::resume(&found.state, found.journal_len);
                let (key, shard) = (found.key.clone(), outputs.len());
                let output = Output::new((number, &root.path), key, shard, appender, found.state);
                outputs.insert(found.key, Arc::new(output));
            }
        }
        stored.sort_by(|a: &StoredOutput, b| a.key.cmp(&b.key));
        metrics::gauge!("recorder_spool_set_aside_bytes").set(aside as f64);
        if aside > 0 {
            tracing::warn!(bytes = aside, "what earlier starts could not read takes room in the spool");
        }
        let outlet = Outlet::default();
        let events = outlet.events();
        let volume = Arc::new(Volume {
            config,
            stepped,
            disk,
            outlet,
            outputs: Mutex::new(outputs),
            shards: Default::default(),
            syncs: Default::default(),
            created: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            stored: AtomicU64::new(bytes + aside),
            closed: AtomicBool::new(false),
            room: Notify::new(),
            roots,
        });
        let handle = Handle { volume, threads: Mutex::default() };
        Ok((Self { handle: Arc::new(handle) }, stored, events))
    }

    /// Starts an output, in the first directory whose disk has neither failed nor filled up. `meta` is opaque here: what
    /// shipping needs to know after a restart. An output that failed with its disk ([`crate::Event::Failed`]) keeps its
    /// key until a restart: what goes on elsewhere needs a key of its own.
    pub fn create(&self, key: OutputKey, meta: &serde_json::Value) -> Result<Writer, Error> {
        key.check()?;
        let volume = &self.handle.volume;
        if volume.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let usage = volume.usage();
        if usage.bytes >= usage.limit {
            return Err(Error::Full { bytes: usage.bytes, limit: usage.limit });
        }
        let appender = Appender::create(key.to_string(), meta.clone());
        let shard = volume.created.fetch_add(1, Ordering::Relaxed) % WRITERS;
        let (number, root) =
            volume.healthy_root().ok_or_else(|| Error::Failed("every spool volume has failed".into()))?;
        let output = Output::new((number, &root.path), key.clone(), shard, appender, State::default());
        let output = Arc::new(output);
        let mut outputs = lock(&volume.outputs);
        if outputs.contains_key(&key) {
            return Err(Error::Key { key: key.to_string(), problem: "exists already" });
        }
        outputs.insert(key, output.clone());
        drop(outputs);
        let mut inbox = output.inbox();
        inbox.attached = true;
        inbox.batch.ops.push(Op::Done);
        volume.schedule(&output, &mut inbox);
        drop(inbox);
        Ok(Writer::new(self.handle.clone(), output, Vec::new()))
    }

    /// What an output was created with. None when it is gone, or not durable yet, which is before its first event.
    pub fn meta(&self, key: &OutputKey) -> Option<serde_json::Value> {
        let output = self.handle.volume.output(key).ok()?;
        output.state().meta.clone()
    }

    /// Goes on with an output that an earlier process left unfinished.
    pub fn reopen(&self, key: &OutputKey) -> Result<Writer, Error> {
        let output = self.handle.volume.output(key)?;
        if output.state().finished {
            return Err(Error::Key { key: key.to_string(), problem: "is finished" });
        }
        if std::mem::replace(&mut output.inbox().attached, true) {
            return Err(Error::Key { key: key.to_string(), problem: "is being written" });
        }
        let open = output.appender().open_objects();
        Ok(Writer::new(self.handle.clone(), output, open))
    }

    /// Back-pressure: waits while more than [`Config::max_queued`] bytes are in memory or the disk limit is reached.
    pub async fn writable(&self) {
        let volume = &self.handle.volume;
        while !volume.has_room() {
            let mut room = std::pin::pin!(volume.room.notified());
            room.as_mut().enable();
            if volume.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Up to `len` bytes of an object: head and data of a closed one; of an open one the data up to its durable mark.
    /// Fewer bytes than asked for mean its end. What is not as it was written is [`Error::Corrupt`], never returned.
    pub async fn read(&self, key: &OutputKey, object: ObjectId, offset: u64, len: usize) -> Result<Bytes, Error> {
        let output = self.handle.volume.output(key)?;
        let unknown = || Error::Unknown(format!("{key}/{}", object_name(object)));
        let range = {
            let state = output.state();
            if object.part == ObjectPart::Playlist {
                let body = &state.playlists.get(&object).ok_or_else(unknown)?.body;
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
                return Ok(body.slice(start..start.saturating_add(len).min(body.len())));
            }
            Range::of(state.objects.get(&object).ok_or_else(unknown)?, offset, len)
        };
        let range = range.map_err(|available| Error::Range { object: object_name(object), available })?;
        let dir = output.dir.clone();
        self.blocking(move || range.read(&dir, object)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.handle.volume.stepped {
            return work();
        }
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Closed)?
    }

    /// Ends a closed object whose bytes cannot be read back ([`Error::Corrupt`] of [`Self::read`]) at the last mark
    /// before the damage. Returns it as it is from then on, with [`StoredObject::damaged`] set, once that is durable.
    pub async fn end_at_damage(&self, key: &OutputKey, object: ObjectId) -> Result<StoredObject, Error> {
        let output = self.handle.volume.output(key)?;
        let unknown = || Error::Unknown(format!("{key}/{}", object_name(object)));
        if output.state().objects.get(&object).ok_or_else(unknown)?.closed.is_none() {
            return Err(Error::Sequence { object: object_name(object), problem: "is not closed" });
        }
        let dir = output.dir.clone();
        let mark = self.blocking(move || mend::last_mark(&dir, object)).await?;
        self.urgent(&output, |ack| Op::Shorten(object, Box::new(mark), ack)).await?;
        let state = output.state();
        Ok(state.objects.get(&object).ok_or_else(unknown)?.stored())
    }

    /// What a closed object holds now; none when it is open or gone.
    pub fn summary(&self, key: &OutputKey, object: ObjectId) -> Option<Summary> {
        let output = self.handle.volume.output(key).ok()?;
        output.state().objects.get(&object)?.closed.clone()
    }

    /// Bytes of an object that stand in front of everything appended to it; none while there are none.
    pub fn head_len(&self, key: &OutputKey, object: ObjectId) -> u64 {
        let output = self.handle.volume.output(key);
        output.map_or(0, |output| output.state().objects.get(&object).map_or(0, |object| object.head.len))
    }

    /// Notes progress of shipping; returns when it is durable.
    pub async fn record(&self, key: &OutputKey, record: Record) -> Result<(), Error> {
        let output = self.handle.volume.output(key)?;
        if let Some(object) = record.object() {
            let state = output.state();
            if !state.objects.contains_key(&object) && !state.playlists.contains_key(&object) {
                return Err(Error::Unknown(format!("{key}/{}", object_name(object))));
            }
        }
        self.urgent(&output, |ack| Op::Record(Box::new(record), Some(ack))).await
    }

    /// The directory in which [`Self::create`] would start an output now; none when every disk has failed.
    pub fn healthy_path(&self) -> Option<PathBuf> {
        self.handle.volume.healthy_root().map(|(_, root)| root.path.clone())
    }

    /// Lets the bytes of an object go, which must be committed and reported: they are freed before this returns. Parts
    /// of an object that are already in a bucket are not: its bytes stay until the whole of it is there. The directory of an output disappears when
    /// it is finished and everything in it was released.
    pub async fn release(&self, key: &OutputKey, object: ObjectId) -> Result<(), Error> {
        let output = self.handle.volume.output(key)?;
        let releasable = output.state().releasable(object);
        match releasable {
            Some(true) => self.urgent(&output, |ack| Op::Release(object, ack)).await,
            Some(false) => Err(Error::NotReleasable(format!("{key}/{}", object_name(object)))),
            None => Err(Error::Unknown(format!("{key}/{}", object_name(object)))),
        }
    }

    async fn urgent(
        &self,
        output: &Arc<Output>,
        op: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Op,
    ) -> Result<(), Error> {
        let volume = &self.handle.volume;
        if volume.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let (ack, durable) = oneshot::channel();
        volume.push_urgent(output, op(ack))?;
        durable.await.map_err(|_| Error::Closed)?
    }

    #[cfg(test)]
    pub(crate) fn disk(&self) -> &Disk {
        &self.handle.volume.disk
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        self.handle.volume.usage()
    }

    /// Waits until everything applied so far is durable, or failed, or waits for room on a full disk.
    pub async fn flush(&self) {
        if self.handle.volume.stepped {
            return step::flush(&self.handle.volume);
        }
        let outputs: Vec<_> = lock(&self.handle.volume.outputs).values().cloned().collect();
        let mut waiting = Vec::new();
        for output in outputs {
            let (ack, durable) = oneshot::channel();
            if self.handle.volume.push_urgent(&output, Op::Barrier(ack)).is_ok() {
                waiting.push(durable);
            }
        }
        for durable in waiting {
            let _ = durable.await;
        }
    }

    /// Whether [`Self::close`] was called: nothing is durable any more, as after a crash.
    pub fn is_closed(&self) -> bool {
        self.handle.volume.closed.load(Ordering::Relaxed)
    }

    /// Flushes, ends the I/O threads and closes [`Events`]. Later calls of any clone answer [`Error::Closed`].
    pub async fn close(&self) {
        if !self.handle.volume.closed.load(Ordering::Relaxed) {
            self.flush().await;
        }
        stop(&self.handle.volume);
        let threads = std::mem::take(&mut *lock(&self.handle.threads));
        if !threads.is_empty() {
            let join = move || threads.into_iter().for_each(|thread| drop(thread.join()));
            let _ = tokio::task::spawn_blocking(join).await;
        }
        // Whoever slipped in meanwhile must not wait for threads that are gone.
        let outputs: Vec<_> = lock(&self.handle.volume.outputs).values().cloned().collect();
        for output in outputs {
            let mut inbox = output.inbox();
            inbox.failed.get_or_insert_with(|| Error::Closed.to_string().into());
            inbox.batch.refuse(&Error::Closed);
            output.appender().abandon(&Error::Closed);
        }
        self.handle.volume.roots.iter().for_each(Root::unlock);
    }
}
