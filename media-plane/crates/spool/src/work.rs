//! What is done for an output, by whichever thread: write its batch, flush it, sync, settle what is durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::appender::{Effect, SyncJob};
use crate::error::no_room;
use crate::inbox::Batch;
use crate::journal::{Entry, Step};
use crate::output::{Output, data_path, head_path, journal_path};
use crate::volume::{Queue, Volume, lock};
use crate::{Error, Event};

/// What a round of writing has to do.
#[derive(Default)]
pub(crate) struct Round {
    write: Vec<Arc<Output>>,
    flush: Vec<Arc<Output>>,
    /// The interval is over for these.
    due: Vec<Arc<Output>>,
}

impl Round {
    /// What a queue has to do now; none when nothing.
    pub fn take(queue: &mut Queue, due: bool) -> Option<Self> {
        let idle = !due && !queue.pressed && queue.ready.is_empty() && queue.urgent.is_empty();
        if idle {
            return None;
        }
        let mut round = Self { write: std::mem::take(&mut queue.ready), ..Self::default() };
        if std::mem::take(&mut queue.pressed) {
            round.write.clone_from(&queue.dirty);
        }
        round.flush = std::mem::take(&mut queue.urgent);
        if due {
            queue.since = None;
            round.due = std::mem::take(&mut queue.dirty);
        }
        Some(round)
    }
}

/// Writes and flushes what a round names. `spare` is a batch to swap with.
pub(crate) fn write_round(volume: &Volume, round: &Round, spare: &mut Batch) {
    for output in &round.write {
        write(volume, output, spare, false);
    }
    for output in &round.flush {
        write(volume, output, spare, false);
        flush(volume, output);
    }
    for output in &round.due {
        output.inbox().listed = false;
        write_and_flush(volume, output, spare);
    }
}

/// Writes and flushes one output now.
pub(crate) fn write_and_flush(volume: &Volume, output: &Arc<Output>, spare: &mut Batch) {
    write(volume, output, spare, true);
    flush(volume, output);
}

/// Moves what waits for an output to the page cache: first what found no room before, when that may be tried again.
fn write(volume: &Volume, output: &Arc<Output>, spare: &mut Batch, again: bool) {
    while write_batch(volume, output, spare, again) {}
}

/// Writes one batch. Says whether there may be more.
fn write_batch(volume: &Volume, output: &Arc<Output>, spare: &mut Batch, again: bool) -> bool {
    let mut inbox = output.inbox();
    inbox.ready = false;
    let mut appender = output.appender();
    if appender.stalled && !again {
        let shipped = appender.ship_first(&output.dir, &mut inbox.batch);
        drop((inbox, appender));
        shipped.unwrap_or_else(|error| volume.fail(output, &error));
        return false;
    }
    let backlog = appender.backlog.take();
    let was_stalled = backlog.is_some();
    match backlog {
        Some(batch) => *spare = *batch,
        None if inbox.batch.ops.is_empty() => return false,
        None => std::mem::swap(&mut inbox.batch, spare),
    }
    let failed = inbox.failed.clone();
    drop(inbox);
    let bytes = spare.bytes;
    let mut written = 0;
    let result = match failed {
        Some(why) => Err(Error::Failed(why)),
        None if spare.has_media() && !volume.admits(output) => Err(no_room(&output.dir)),
        None => appender.process(&output.dir, spare, &volume.disk, &mut written),
    };
    let enough = appender.unsynced >= volume.config.flush_bytes;
    drop(appender);
    volume.stored.fetch_add(written, Ordering::Relaxed);
    if !matches!(&result, Err(error) if error.is_want_of_room()) {
        volume.dequeued(bytes);
    }
    match result {
        Ok(()) => spare.clear(),
        Err(error) if error.is_want_of_room() => {
            stall(volume, output, Some(std::mem::take(spare)), &error);
            return false;
        }
        Err(error) => {
            if !matches!(error, Error::Failed(_)) {
                volume.fail(output, &error);
            }
            spare.refuse(&error);
        }
    }
    if enough {
        flush(volume, output);
    }
    was_stalled
}

/// Something found no room: it is tried again with the next interval. Nothing is lost while memory lasts, and that is
/// bounded by [`crate::Spool::writable`].
fn stall(volume: &Volume, output: &Arc<Output>, batch: Option<Batch>, error: &Error) {
    volume.fill(output);
    let mut inbox = output.inbox();
    let mut appender = output.appender();
    inbox.batch.answer_barriers(error);
    appender.answer_barriers(error);
    appender.stalled = true;
    if let Some(mut batch) = batch {
        batch.answer_barriers(error);
        appender.backlog = Some(Box::new(batch));
    }
    let shipped = appender.ship_first(&output.dir, &mut inbox.batch);
    drop(appender);
    volume.list(output, &mut inbox);
    drop(inbox);
    shipped.unwrap_or_else(|error| volume.fail(output, &error));
}

/// Journals what was written and hands it to the sync threads; these later, when a sync is under way. A process that is
/// killed meanwhile loses nothing of it, and a disk may take its time.
fn flush(volume: &Volume, output: &Arc<Output>) {
    let mut appender = output.appender();
    let before = appender.journal_len;
    let recorded = appender.record(&output.dir, &volume.disk);
    volume.stored.fetch_add(appender.journal_len - before, Ordering::Relaxed);
    let job = match recorded {
        Ok(()) if appender.syncing => {
            appender.again |= !appender.is_idle();
            return;
        }
        recorded => recorded.map(|()| appender.take_job()),
    };
    if let Ok(Some(_)) = &job {
        appender.syncing = true;
    }
    let recovers = appender.stalled && job.is_ok() && appender.backlog.is_none();
    appender.stalled &= !recovers;
    drop(appender);
    if recovers {
        volume.has_room_again(output);
    }
    match job {
        Ok(Some(job)) => {
            lock(&volume.syncs.jobs).0.push_back((output.clone(), job));
            volume.syncs.wake.notify_one();
        }
        Ok(None) => {}
        Err(error) if error.is_want_of_room() => stall(volume, output, None, &error),
        Err(error) => volume.fail(output, &error),
    }
}

/// Makes a job durable and tells so, or fails its output.
pub(crate) fn sync(volume: &Volume, output: &Arc<Output>, job: SyncJob) {
    match sync_files(volume, &job) {
        Ok(()) => settle(volume, output, job),
        Err(error) => {
            volume.fail(output, &error);
            job.refuse(&error);
            output.appender().syncing = false;
        }
    }
}

fn sync_files(volume: &Volume, job: &SyncJob) -> Result<(), Error> {
    for (path, file) in &job.files {
        let started = Instant::now();
        volume.disk.sync(path, file).map_err(|error| Error::io(path, error))?;
        metrics::histogram!("recorder_spool_fsync_seconds").record(started.elapsed().as_secs_f64());
    }
    for dir in &job.dirs {
        volume.disk.sync_dir(dir).map_err(|error| Error::io(dir, error))?;
    }
    Ok(())
}

/// A job is durable: its entries become state, listeners hear of them, waiters are answered.
fn settle(volume: &Volume, output: &Arc<Output>, job: SyncJob) {
    let failed = output.inbox().failed.clone();
    if let Some(why) = failed {
        output.appender().syncing = false;
        return job.refuse(&Error::Failed(why));
    }
    let SyncJob { files, effects, covers, .. } = job;
    drop(files);
    let mut events = Vec::new();
    let mut acks = Vec::new();
    let mut released = Vec::new();
    let mut state = output.state();
    for effect in effects {
        match effect {
            Effect::Ack(ack) | Effect::Barrier(ack) => acks.push(ack),
            Effect::Abandoned => {
                tracing::error!(output = %output.key, "writer dropped before it had finished");
                events.push(Event::Failed { key: output.key.clone(), error: Error::Abandoned });
            }
            Effect::Apply(entry) => {
                if let Entry::Json(step) = &entry
                    && let Step::Released { object } = step.as_ref()
                    && let Some(known) = state.objects.get(object)
                {
                    released.push((*object, known.head.len, known.data.len));
                }
                if let Entry::Json(step) = &entry
                    && let Step::Shortened { object, mark, .. } = step.as_ref()
                    && let Some(known) = state.objects.get(object)
                {
                    // The rest of the file goes with what is left of it.
                    volume.freed(known.data.len.saturating_sub(mark.map_or(0, |mark| mark.len)));
                }
                match state.apply(&entry) {
                    Ok(()) => events.extend(state.event(&output.key, &entry)),
                    // The muxer port was misused; the journal tells the same story at the next start.
                    Err(problem) => tracing::error!(output = %output.key, problem, "journal entry refused"),
                }
            }
        }
    }
    let drained = state.drained();
    drop(state);
    for (object, head, data) in released {
        unlink(volume, output, object, head > 0, head + data);
    }
    // Before the next job of this output can settle: its events come after these.
    volume.outlet.send(events);
    finish_job(volume, output, drained, covers);
    for ack in acks {
        let _ = ack.send(Ok(()));
    }
}

fn unlink(volume: &Volume, output: &Output, object: mux::ObjectId, has_head: bool, bytes: u64) {
    let data = volume.disk.remove(&data_path(&output.dir, object));
    let head = if has_head { volume.disk.remove(&head_path(&output.dir, object)) } else { Ok(()) };
    match data.and(head) {
        Ok(()) => volume.freed(bytes),
        Err(error) => tracing::error!(output = %output.key, %error, "released object stays on disk"),
    }
}

fn finish_job(volume: &Volume, output: &Arc<Output>, drained: bool, covers: u64) {
    if drained && retire(volume, output) {
        return;
    }
    // Not both locks at once while the output is live: the appender's is held while the kernel takes bytes, and the
    // publication must not wait for that at its inbox.
    let attached = output.inbox().attached;
    let mut appender = output.appender();
    appender.syncing = false;
    appender.synced = covers;
    let again = std::mem::take(&mut appender.again);
    if !attached {
        appender.rest();
    }
    drop(appender);
    if again {
        volume.urge(output);
    }
}

/// Takes a drained output away, unless something was queued for it meanwhile.
fn retire(volume: &Volume, output: &Arc<Output>) -> bool {
    let mut inbox = output.inbox();
    let mut appender = output.appender();
    if !appender.is_idle() || !inbox.batch.ops.is_empty() || inbox.failed.is_some() {
        return false;
    }
    appender.rest();
    volume.freed(appender.journal_len);
    drop(appender);
    // Under the inbox's lock, where no publication waits any more: whoever asks next finds it gone, not going.
    remove_dir(volume, output);
    inbox.failed = Some("all of it was released".into());
    drop(inbox);
    lock(&volume.outputs).remove(&output.key);
    true
}

/// Removes the directory of an output, and its parent when it was the last. The journal goes last: a directory without
/// one holds nothing.
fn remove_dir(volume: &Volume, output: &Output) {
    let removed = volume.disk.remove(&journal_path(&output.dir)).and_then(|()| std::fs::remove_dir(&output.dir));
    if let Err(error) = removed {
        tracing::warn!(output = %output.key, %error, "directory of a released output stays");
        return;
    }
    if let Some(parent) = output.dir.parent() {
        // Fails when another format is still there, which is as it should be.
        let _ = std::fs::remove_dir(parent);
        // Without patience: callers wait for the inbox meanwhile, and a directory that comes back is empty.
        let _ = parent.parent().map(|root| volume.disk.sync_dir_at_once(root));
    }
}
