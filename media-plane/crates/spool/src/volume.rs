//! What every handle and thread of a spool shares: the outputs, the counters and the queues of the threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::appender::SyncJob;
use crate::disk::{self, Disk};
use crate::event::Outlet;
use crate::inbox::{Inbox, Op};
use crate::output::Output;
use crate::roots::Root;
use crate::{Config, Error, Event, OutputKey, Usage};

/// Unwritten payload after which an output is handed to its I/O thread: large enough that a system call per batch is
/// cheap, small enough that 100 streams hold little.
pub(crate) const WRITE_AT: usize = 64 << 10;

/// Threads that write to the page cache: more than one, so that one output blocked by the kernel's dirty limit does not
/// stop all.
pub(crate) const WRITERS: usize = 2;

/// Lists of one I/O thread.
#[derive(Default)]
pub(crate) struct Queue {
    /// Have a batch worth writing.
    pub ready: Vec<Arc<Output>>,
    /// Have something to sync at the next interval.
    pub dirty: Vec<Arc<Output>>,
    /// Somebody waits for their sync.
    pub urgent: Vec<Arc<Output>>,
    /// When the first of `dirty` was listed.
    pub since: Option<Instant>,
    /// Memory is short: write now.
    pub pressed: bool,
    pub stop: bool,
}

#[derive(Default)]
pub(crate) struct Shard {
    pub queue: Mutex<Queue>,
    pub wake: Condvar,
}

/// A job for the sync threads.
pub(crate) type Syncing = (Arc<Output>, SyncJob);

#[derive(Default)]
pub(crate) struct SyncQueue {
    pub jobs: Mutex<(VecDeque<Syncing>, bool)>,
    pub wake: Condvar,
}

pub(crate) struct Volume {
    pub config: Config,
    /// There are no threads: a [`crate::step::Stepper`] works, and callers who wait for work do it themselves.
    pub stepped: bool,
    pub disk: Disk,
    pub outlet: Outlet,
    pub outputs: Mutex<BTreeMap<OutputKey, Arc<Output>>>,
    pub shards: [Shard; WRITERS],
    pub syncs: SyncQueue,
    pub created: AtomicUsize,
    /// Payload bytes in memory.
    pub queued: AtomicUsize,
    /// Bytes on disk.
    pub stored: AtomicU64,
    pub closed: AtomicBool,
    /// Memory or disk became free.
    pub room: Notify,
    pub roots: Vec<Root>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Volume {
    pub fn output(&self, key: &OutputKey) -> Result<Arc<Output>, Error> {
        lock(&self.outputs).get(key).cloned().ok_or_else(|| Error::Unknown(key.to_string()))
    }

    /// The thread an output belongs to.
    pub fn shard(&self, output: &Output) -> &Shard {
        let [first, second] = &self.shards;
        if output.shard.is_multiple_of(WRITERS) { first } else { second }
    }

    /// Queues an operation somebody waits for.
    pub fn push_urgent(&self, output: &Arc<Output>, op: Op) -> Result<(), Error> {
        let mut inbox = output.inbox();
        if let Some(why) = &inbox.failed {
            return Err(Error::Failed(why.clone()));
        }
        inbox.batch.ops.push(op);
        drop(inbox);
        self.urge(output);
        Ok(())
    }

    /// Has an output written and synced without waiting for the interval.
    pub fn urge(&self, output: &Arc<Output>) {
        let shard = self.shard(output);
        lock(&shard.queue).urgent.push(output.clone());
        shard.wake.notify_one();
    }

    /// Puts an output whose inbox has grown into its thread's lists.
    pub fn schedule(&self, output: &Arc<Output>, inbox: &mut Inbox) {
        let ready = !inbox.ready && inbox.batch.bytes >= WRITE_AT;
        let listed = !inbox.listed;
        let pressed = self.queued.load(Ordering::Relaxed) > self.config.max_queued / 2;
        if !ready && !listed && !pressed {
            return;
        }
        let shard = self.shard(output);
        let mut queue = lock(&shard.queue);
        // An idle thread must learn that the interval has begun; a busy one looks by itself.
        let mut wake = queue.dirty.is_empty() && listed;
        if listed {
            inbox.listed = true;
            if queue.dirty.is_empty() {
                queue.since = Some(Instant::now());
            }
            queue.dirty.push(output.clone());
        }
        if ready {
            inbox.ready = true;
            wake |= queue.ready.is_empty();
            queue.ready.push(output.clone());
            wake |= queue.ready.len() == PRESSING;
        }
        if pressed && !queue.pressed {
            queue.pressed = true;
            wake = true;
        }
        drop(queue);
        if wake {
            shard.wake.notify_one();
        }
    }

    /// Has an output looked at when the interval is over, and not before.
    pub fn list(&self, output: &Arc<Output>, inbox: &mut Inbox) {
        if std::mem::replace(&mut inbox.listed, true) {
            return;
        }
        let mut queue = lock(&self.shard(output).queue);
        queue.since.get_or_insert_with(Instant::now);
        queue.dirty.push(output.clone());
    }

    /// Memory of a batch is free again.
    pub fn dequeued(&self, bytes: usize) {
        let before = self.queued.fetch_sub(bytes, Ordering::Relaxed);
        if before > self.config.max_queued {
            self.room.notify_waiters();
        }
    }

    /// Disk space is free again.
    pub fn freed(&self, bytes: u64) {
        let before = self.stored.fetch_sub(bytes, Ordering::Relaxed);
        if before >= self.config.limit {
            self.room.notify_waiters();
        }
    }

    /// The disk of an output has no room.
    pub fn fill(&self, output: &Output) {
        if let Some(root) = self.roots.get(output.root) {
            root.fill(&self.disk);
        }
    }

    /// Media may be written for an output.
    pub fn admits(&self, output: &Output) -> bool {
        self.roots.get(output.root).is_some_and(|root| root.admits(&self.disk))
    }

    /// What had been refused for want of room went through.
    pub fn has_room_again(&self, output: &Output) {
        self.roots.get(output.root).map(Root::has_room);
    }

    /// Where a new output goes: the first directory that has not failed, and is not full if there is another.
    pub fn healthy_root(&self) -> Option<(usize, &Root)> {
        let alive = || self.roots.iter().enumerate().filter(|(_, root)| root.is_alive());
        alive().find(|(_, root)| !root.is_full()).or_else(|| alive().next())
    }

    pub fn has_room(&self) -> bool {
        let fits = self.queued.load(Ordering::Relaxed) <= self.config.max_queued;
        // Closed: whoever waits shall go on and hear so from the writer.
        (fits && self.stored.load(Ordering::Relaxed) < self.config.limit) || self.closed.load(Ordering::Relaxed)
    }

    pub fn usage(&self) -> Usage {
        let bytes = self.stored.load(Ordering::Relaxed);
        let limit = self.config.limit;
        let high_water = limit as f64 * self.config.high_water;
        let healthy = self.roots.iter().any(|root| root.is_alive() && !root.is_full());
        let accepting = healthy && !self.closed.load(Ordering::Relaxed) && (bytes as f64) < high_water;
        Usage { bytes, limit, queued: self.queued.load(Ordering::Relaxed), accepting }
    }

    /// Something went wrong with an output. A shortage of file descriptors is its misfortune alone: nothing that was
    /// written is in doubt. When it was the disk, whatever is not durable yet anywhere on the volume is
    /// lost: after a failed sync the kernel may have dropped pages of any file, and says so only once.
    pub fn fail(&self, output: &Output, error: &Error) {
        let is_of_disk = matches!(error, Error::Io { source, .. } if !disk::is_shortage(source));
        if !is_of_disk {
            tracing::error!(output = %output.key, %error, "spooled output failed");
            return self.fail_output(output, error, true);
        }
        tracing::error!(%error, "spool volume failed: nothing new is begun on it");
        self.roots.get(output.root).map(Root::die);
        let outputs: Vec<_> = lock(&self.outputs).values().filter(|other| other.root == output.root).cloned().collect();
        self.fail_output(output, error, true);
        for output in outputs {
            self.fail_output(&output, error, false);
        }
    }

    /// Fails an output; an uninvolved one only if it has something to lose.
    fn fail_output(&self, output: &Output, error: &Error, involved: bool) {
        let mut inbox = output.inbox();
        let mut appender = output.appender();
        let busy = inbox.attached || !inbox.batch.ops.is_empty() || !appender.is_settled();
        if inbox.failed.is_some() || !(involved || busy) {
            return;
        }
        // Told before anybody who waits is answered.
        self.outlet.send([Event::Failed { key: output.key.clone(), error: error.clone() }]);
        inbox.failed = Some(error.to_string().into());
        self.dequeued(inbox.batch.bytes + appender.backlog.as_ref().map_or(0, |batch| batch.bytes));
        inbox.batch.refuse(error);
        appender.abandon(error);
    }
}

/// Outputs waiting to be written at which an I/O thread cuts its pause short.
pub(crate) const PRESSING: usize = 32;
