//! The spool without threads: somebody else says when it works and what time it is.
#![cfg_attr(not(any(test, feature = "sim")), allow(dead_code, reason = "only tests and simulations step"))]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::inbox::Batch;
use crate::volume::{Volume, WRITERS, lock};
use crate::work::{self, Round};

/// Does the work of the I/O threads, in an order that follows from the calls alone. See [`crate::Spool::open_stepped`].
pub struct Stepper {
    volume: Arc<Volume>,
    spare: Batch,
    /// When the interval of each queue began.
    since: [Option<Duration>; WRITERS],
}

impl Stepper {
    pub(crate) fn new(volume: Arc<Volume>) -> Self {
        Self { volume, spare: Batch::default(), since: [None; WRITERS] }
    }

    /// Writes what is ready or waited for, syncs it, and tells the events; outputs that only grow are synced when
    /// [`crate::Config::flush_interval`] is over. `now` counts from any moment, and never backwards. Returns whether
    /// anything was done.
    pub fn step(&mut self, now: Duration) -> bool {
        let mut worked = false;
        while !self.volume.closed.load(Ordering::Relaxed) && self.round(now) {
            worked = true;
        }
        worked
    }

    fn round(&mut self, now: Duration) -> bool {
        let interval = self.volume.config.flush_after();
        let mut worked = false;
        for (shard, since) in self.volume.shards.iter().zip(&mut self.since) {
            let round = {
                let mut queue = lock(&shard.queue);
                *since = if queue.dirty.is_empty() { None } else { Some(since.unwrap_or(now)) };
                let due = since.is_some_and(|since| now.saturating_sub(since) >= interval);
                if due {
                    *since = None;
                }
                Round::take(&mut queue, due)
            };
            let Some(round) = round else { continue };
            work::write_round(&self.volume, &round, &mut self.spare);
            worked = true;
        }
        worked | sync_all(&self.volume)
    }
}

/// Runs every sync job there is.
fn sync_all(volume: &Volume) -> bool {
    let mut worked = false;
    if volume.disk.stands_still() {
        return worked;
    }
    loop {
        let next = lock(&volume.syncs.jobs).0.pop_front();
        let Some((output, job)) = next else { return worked };
        work::sync(volume, &output, job);
        worked = true;
    }
}

/// Makes everything applied so far durable.
pub(crate) fn flush(volume: &Volume) {
    let outputs: Vec<_> = lock(&volume.outputs).values().cloned().collect();
    let mut spare = Batch::default();
    for output in outputs {
        work::write_and_flush(volume, &output, &mut spare);
        sync_all(volume);
    }
}
