//! The I/O threads: a few that write to the page cache, a few that sync. None per output.
//!
//! What they do for an output is in [`crate::work`].

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::Error;
use crate::inbox::Batch;
use crate::volume::{PRESSING, Queue, Shard, Volume, WRITERS, lock};
use crate::work::{self, Round};

/// Threads that sync. Several, because each waits for the disk, and syncs issued together share its commits.
const SYNCERS: usize = 4;

/// Pause between two rounds of writing, so that outputs are served many at a time and the thread wakes seldom.
const PAUSE: Duration = Duration::from_millis(10);

/// Longest sleep of a thread that has nothing to do.
const IDLE: Duration = Duration::from_secs(3600);

/// Threads need little stack: no recursion, no buffers.
const STACK: usize = 256 << 10;

pub(crate) fn start(volume: &Arc<Volume>) -> Result<Vec<JoinHandle<()>>, Error> {
    let spawn = |name: String, body: Box<dyn FnOnce() + Send>| {
        let thread = Builder::new().name(name).stack_size(STACK).spawn(body);
        thread.map_err(|error| Error::io(&volume.config.path, error))
    };
    let mut threads = Vec::new();
    for number in 0..WRITERS {
        let volume = volume.clone();
        threads.push(spawn(format!("spool-write-{number}"), Box::new(move || write_loop(&volume, number)))?);
    }
    for number in 0..SYNCERS {
        let volume = volume.clone();
        threads.push(spawn(format!("spool-sync-{number}"), Box::new(move || sync_loop(&volume)))?);
    }
    Ok(threads)
}

fn write_loop(volume: &Volume, number: usize) {
    let Some(shard) = volume.shards.get(number) else { return };
    let mut spare = Batch::default();
    while let Some(round) = next_round(shard, volume.config.flush_after()) {
        work::write_round(volume, &round, &mut spare);
        let mut queue = lock(&shard.queue);
        let hurry = |queue: &mut Queue| {
            queue.stop || queue.pressed || !queue.urgent.is_empty() || queue.ready.len() >= PRESSING
        };
        if !hurry(&mut queue) {
            let paused = shard.wake.wait_timeout_while(queue, PAUSE, |queue| !hurry(queue));
            drop(paused);
        }
    }
}

/// Waits for work; none when the thread shall end.
fn next_round(shard: &Shard, interval: Duration) -> Option<Round> {
    let mut queue = lock(&shard.queue);
    loop {
        if queue.stop {
            return None;
        }
        let left = queue.since.map_or(IDLE, |since| interval.saturating_sub(since.elapsed()));
        if let Some(round) = Round::take(&mut queue, left.is_zero()) {
            return Some(round);
        }
        queue = match shard.wake.wait_timeout(queue, left) {
            Ok((queue, _)) => queue,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

fn sync_loop(volume: &Volume) {
    loop {
        let mut jobs = lock(&volume.syncs.jobs);
        let (output, job) = loop {
            if let Some(next) = jobs.0.pop_front() {
                break next;
            }
            if jobs.1 {
                return;
            }
            jobs = volume.syncs.wake.wait(jobs).unwrap_or_else(std::sync::PoisonError::into_inner);
        };
        drop(jobs);
        work::sync(volume, &output, job);
    }
}
