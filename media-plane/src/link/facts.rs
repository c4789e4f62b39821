//! What happened, kept on disk until the control plane has it: at least once, in order, across restarts of both.
//!
//! One append-only file of `length | crc32c | protobuf` records and a small file with the highest acknowledged
//! sequence. The acknowledged mark is written before the log is emptied, so sequences never repeat. Memory holds the oldest
//! part of what is not acknowledged; a log most of which is acknowledged is rewritten without that.

mod lost;
mod record;
mod window;
mod writer;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

use prost::Message;
use recorder_proto::pb::node::Fact;
use tokio::sync::{oneshot, watch};

use lost::Lost;
use window::Window;
#[cfg(feature = "sim")]
pub use writer::FactStepper;
use writer::{Append, Order, Writer};

/// Encoded bytes of a batch, unless a single fact is larger; far below gRPC's default limit of 4 MiB for a message.
const BATCH_BYTES: usize = 1 << 20;
/// The largest fact, encoded. A larger one could neither be sent nor be read back.
const MAX_FACT_BYTES: usize = 1 << 20;
/// Refused facts that are remembered: whoever asks, asks soon.
const REFUSED: usize = 10_000;
const LOG: &str = "facts.log";
const ACKED: &str = "facts.acked";

/// The fact log failed; what was not confirmed is not durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactError {
    /// The disk refused.
    #[error("fact log {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The fact was dropped: it is too large, or the log is gone.
    #[error("the fact was not taken: it is too large, or the fact log is closed")]
    Closed,
}

#[derive(Default)]
struct Pending {
    window: Window,
    next_sequence: u64,
    acked: u64,
    /// Facts on their way to the disk.
    queued: usize,
    lost: Lost,
    /// Sequences that the control plane did not apply.
    refused: BTreeSet<u64>,
}

impl Pending {
    /// Nobody has what was given after `sequence`; gives the text to be noted.
    fn lose_after(&mut self, sequence: u64) -> String {
        self.lost.add(sequence + 1..=self.next_sequence.saturating_sub(1))
    }
}

/// What has become of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way.
    Waits,
    /// It is durable at the control plane.
    Durable,
    /// The control plane did not apply it.
    Refused,
    /// It is gone, and is to be told again.
    Lost,
}

/// The durable queue of facts. Clones share it.
#[derive(Clone)]
pub struct FactLog {
    folder: Arc<Path>,
    pending: Arc<Mutex<Pending>>,
    orders: mpsc::Sender<Order>,
    last: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<String>>,
}

impl FactLog {
    /// Opens or creates the log in `folder`; a torn tail is cut off.
    pub fn open(folder: &Path) -> Result<Self, FactError> {
        let (log, writer, inbox) = Self::prepare(folder)?;
        let spawned = std::thread::Builder::new().name("facts".into()).spawn(move || writer.run(&inbox));
        spawned.map_err(|source| FactError::Io { path: folder.join(LOG), source })?;
        Ok(log)
    }

    /// [`Self::open`] without a thread: nothing is written but by [`FactStepper::step`].
    #[cfg(feature = "sim")]
    pub fn open_stepped(folder: &Path) -> Result<(Self, FactStepper), FactError> {
        let (log, writer, inbox) = Self::prepare(folder)?;
        Ok((log, FactStepper { writer, inbox }))
    }

    /// The log, and what its thread needs.
    fn prepare(folder: &Path) -> Result<(Self, Writer, mpsc::Receiver<Order>), FactError> {
        let path = folder.join(LOG);
        let io = |source| FactError::Io { path: path.clone(), source };
        let acked = read_acked(&folder.join(ACKED)).map_err(io)?;
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let (mut window, mut last_sequence, mut spill_at) = (Window::default(), acked, 0);
        let mut found = record::Reader::new(&mut file);
        let mut begins = 0;
        while let Some(fact) = found.next().map_err(io)? {
            last_sequence = last_sequence.max(fact.sequence);
            if fact.sequence > acked && !window.push(fact) && window.spilled() == 1 {
                spill_at = begins;
            }
            begins = found.valid;
        }
        let valid = found.valid;
        if valid < size {
            tracing::warn!(bytes = size - valid, kept = valid, "a torn or damaged tail of the fact log was cut off");
        }
        let lost = Lost::read(folder).map_err(io)?;
        let next_sequence = last_sequence + 1;
        let pending = Pending { window, next_sequence, acked, queued: 0, lost, refused: BTreeSet::new() };
        let pending = Arc::new(Mutex::new(pending));
        let (orders, inbox) = mpsc::channel();
        let (announce, last) = watch::channel(last_sequence);
        let (tell, trouble) = watch::channel(None);
        let mut writer = Writer {
            folder: folder.to_owned(),
            file,
            size: valid,
            spill_at,
            misplaced: true,
            suspect: false,
            pending: Arc::clone(&pending),
            announce,
            trouble: tell,
        };
        writer.rewind().map_err(io)?;
        Ok((Self { folder: folder.into(), pending, orders, last, trouble }, writer, inbox))
    }

    /// Puts a fact in line; facts are written in the order of these calls. `sequence` of the argument is ignored. The
    /// receiver yields the fact's sequence once it is on disk; dropping it changes nothing. A fact above 1 MiB is
    /// dropped, which the receiver sees as a closed channel.
    pub fn enqueue(&self, fact: Fact) -> oneshot::Receiver<u64> {
        let (done, written) = oneshot::channel();
        let bytes = fact.encoded_len();
        if bytes > MAX_FACT_BYTES {
            let (id, kind, recording) = (&fact.id, &fact.r#type, &fact.recording);
            tracing::error!(id, kind, recording, bytes, "a fact is too large to be kept and is lost");
            return written;
        }
        lock(&self.pending).queued += 1;
        if self.orders.send(Order::Append(Append { fact, done })).is_err() {
            lock(&self.pending).queued -= 1;
        }
        written
    }

    /// Appends a fact and returns its sequence once it is on disk.
    pub async fn append(&self, fact: Fact) -> Result<u64, FactError> {
        self.enqueue(fact).await.map_err(|_| FactError::Closed)
    }

    /// Up to `limit` facts with a sequence above `after`, oldest first; together at most 1 MiB encoded, but never none.
    /// Of a long backlog only the oldest part is in memory: the rest follows as that is acknowledged.
    pub fn after(&self, after: u64, limit: usize) -> Vec<Fact> {
        let pending = lock(&self.pending);
        let mut room = BATCH_BYTES;
        let mut batch: Vec<Fact> = Vec::new();
        for fact in pending.window.facts().filter(|fact| fact.sequence > after).take(limit) {
            let bytes = fact.encoded_len();
            if bytes > room && !batch.is_empty() {
                break;
            }
            room = room.saturating_sub(bytes);
            batch.push(fact.clone());
        }
        batch
    }

    /// Everything up to `sequence` is durable at the control plane and may be forgotten here.
    pub fn acknowledge(&self, sequence: u64) {
        let mut pending = lock(&self.pending);
        if sequence <= pending.acked {
            return;
        }
        pending.acked = sequence;
        pending.window.acknowledge(sequence);
        drop(pending);
        // A lost writer only means that acknowledged facts are sent again later, which the ledger ignores.
        let _ = self.orders.send(Order::Acked);
    }

    /// The spool knows of facts up to `sequence`. If this log does not, they are gone, and their sequences are not given
    /// again: an acknowledgement of other facts would be taken for theirs.
    pub fn begin_behind(&self, sequence: u64) {
        let text = {
            let mut pending = lock(&self.pending);
            let last = pending.next_sequence - 1;
            if sequence <= last {
                return;
            }
            pending.next_sequence = sequence + 1;
            pending.lose_after(last)
        };
        tracing::warn!(sequence, "facts that the spool knows of are not in the fact log; they are told again");
        if let Err(error) = lost::write(&self.folder, &text) {
            tracing::error!(%error, "lost facts cannot be noted");
        }
    }

    /// The control plane did not apply a fact.
    pub fn refuse(&self, sequence: u64) {
        let mut pending = lock(&self.pending);
        pending.refused.insert(sequence);
        if pending.refused.len() > REFUSED {
            pending.refused.pop_first();
        }
    }

    /// What has become of the fact of this sequence.
    pub fn fate(&self, sequence: u64) -> Fate {
        let pending = lock(&self.pending);
        match () {
            () if pending.lost.contains(sequence) => Fate::Lost,
            () if sequence > pending.acked => Fate::Waits,
            () if pending.refused.contains(&sequence) => Fate::Refused,
            () => Fate::Durable,
        }
    }

    /// Highest acknowledged sequence.
    pub fn acknowledged(&self) -> u64 {
        lock(&self.pending).acked
    }

    /// Facts not yet acknowledged, durable here or on their way to the disk.
    pub fn unreported(&self) -> usize {
        let pending = lock(&self.pending);
        pending.window.len() + pending.queued
    }

    /// Whether facts can be written; if not, why. They are kept in memory and tried again until they can.
    pub fn health(&self) -> Result<(), String> {
        self.trouble.borrow().clone().map_or(Ok(()), Err)
    }

    /// Changes whenever a fact became durable here; the value is its sequence.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.last.clone()
    }
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    // A panic while holding the lock cannot leave the queue half changed: every critical section is a few moves.
    pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn read_acked(path: &Path) -> std::io::Result<u64> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests;
