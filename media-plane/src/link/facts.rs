//! What happened, kept on disk until the control plane has it: at least once, in order, across restarts of both.
//!
//! One append-only file of `length | crc32c | protobuf` records and a small file with the highest acknowledged
//! sequence. The acknowledged mark is written before the log is emptied, so sequences never repeat.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

use prost::Message;
use recorder_proto::pb::node::Fact;
use tokio::sync::{oneshot, watch};

/// A log this long is emptied as soon as everything in it is acknowledged.
const COMPACT_BYTES: u64 = 256 * 1024;
/// No fact is near this size; a larger length is a torn or damaged record.
const MAX_RECORD: u32 = 4 << 20;
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
    /// The writer thread is gone because an earlier write failed.
    #[error("fact log is closed after an earlier failure")]
    Closed,
}

#[derive(Default)]
struct Pending {
    facts: VecDeque<Fact>,
    next_sequence: u64,
    acked: u64,
}

struct Append {
    fact: Fact,
    done: oneshot::Sender<u64>,
}

enum Order {
    Append(Append),
    Acked(u64),
}

/// The durable queue of facts. Clones share it.
#[derive(Clone)]
pub struct FactLog {
    pending: Arc<Mutex<Pending>>,
    orders: mpsc::Sender<Order>,
    last: watch::Receiver<u64>,
}

impl FactLog {
    /// Opens or creates the log in `folder`; a torn tail is cut off.
    pub fn open(folder: &Path) -> Result<Self, FactError> {
        let path = folder.join(LOG);
        let io = |source| FactError::Io { path: path.clone(), source };
        let acked = read_acked(&folder.join(ACKED)).map_err(io)?;
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
        let (facts, valid) = replay(&mut file).map_err(io)?;
        file.set_len(valid).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let last_sequence = facts.back().map_or(acked, |fact| fact.sequence.max(acked));
        let facts = facts.into_iter().filter(|fact| fact.sequence > acked).collect();
        let pending = Arc::new(Mutex::new(Pending { facts, next_sequence: last_sequence + 1, acked }));
        let (orders, inbox) = mpsc::channel();
        let (announce, last) = watch::channel(last_sequence);
        let writer = Writer { folder: folder.to_owned(), file, size: valid, pending: Arc::clone(&pending), announce };
        std::thread::Builder::new().name("facts".into()).spawn(move || writer.run(&inbox)).map_err(io)?;
        Ok(Self { pending, orders, last })
    }

    /// Puts a fact in line; facts are written in the order of these calls. `sequence` of the argument is ignored. The
    /// receiver yields the fact's sequence once it is on disk; dropping it changes nothing.
    pub fn enqueue(&self, fact: Fact) -> oneshot::Receiver<u64> {
        let (done, written) = oneshot::channel();
        // A writer that is gone drops `done`, which the receiver sees.
        let _ = self.orders.send(Order::Append(Append { fact, done }));
        written
    }

    /// Appends a fact and returns its sequence once it is on disk.
    pub async fn append(&self, fact: Fact) -> Result<u64, FactError> {
        self.enqueue(fact).await.map_err(|_| FactError::Closed)
    }

    /// Up to `limit` facts with a sequence above `after`, oldest first.
    pub fn after(&self, after: u64, limit: usize) -> Vec<Fact> {
        let pending = lock(&self.pending);
        pending.facts.iter().filter(|fact| fact.sequence > after).take(limit).cloned().collect()
    }

    /// Everything up to `sequence` is durable at the control plane and may be forgotten here.
    pub fn acknowledge(&self, sequence: u64) {
        let mut pending = lock(&self.pending);
        if sequence <= pending.acked {
            return;
        }
        pending.acked = sequence;
        while pending.facts.front().is_some_and(|fact| fact.sequence <= sequence) {
            pending.facts.pop_front();
        }
        drop(pending);
        // A lost writer only means that acknowledged facts are sent again later, which the ledger ignores.
        let _ = self.orders.send(Order::Acked(sequence));
    }

    /// Highest acknowledged sequence.
    pub fn acknowledged(&self) -> u64 {
        lock(&self.pending).acked
    }

    /// Facts not yet acknowledged.
    pub fn unreported(&self) -> usize {
        lock(&self.pending).facts.len()
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

/// Reads whole records; returns them and the length of the valid prefix.
fn replay(file: &mut File) -> std::io::Result<(VecDeque<Fact>, u64)> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut facts = VecDeque::new();
    let mut rest = bytes.as_slice();
    while let Some((fact, tail)) = next_record(rest) {
        facts.push_back(fact);
        rest = tail;
    }
    Ok((facts, (bytes.len() - rest.len()) as u64))
}

fn next_record(bytes: &[u8]) -> Option<(Fact, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if length > MAX_RECORD {
        return None;
    }
    let (body, rest) = rest.split_at_checked(length as usize)?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(())?;
    Some((Fact::decode(body).ok()?, rest))
}

struct Writer {
    folder: PathBuf,
    file: File,
    size: u64,
    pending: Arc<Mutex<Pending>>,
    announce: watch::Sender<u64>,
}

impl Writer {
    /// Takes whatever has queued up, writes and syncs it once, then confirms: concurrent appends share an fsync.
    fn run(mut self, inbox: &mpsc::Receiver<Order>) {
        while let Ok(first) = inbox.recv() {
            let orders = std::iter::once(first).chain(inbox.try_iter());
            let (mut appends, mut acked) = (Vec::new(), None);
            for order in orders {
                match order {
                    Order::Append(append) => appends.push(append),
                    Order::Acked(sequence) => acked = Some(sequence),
                }
            }
            if let Err(error) = self.note_acked(acked).and_then(|()| self.write(appends)) {
                // After a failed sync nothing in the page cache can be trusted; the callers see `Closed`.
                tracing::error!(%error, "the fact log cannot be written");
                return;
            }
        }
    }

    fn write(&mut self, appends: Vec<Append>) -> std::io::Result<()> {
        if appends.is_empty() {
            return Ok(());
        }
        let first = lock(&self.pending).next_sequence;
        let mut bytes = Vec::new();
        let mut written = Vec::with_capacity(appends.len());
        for (sequence, mut append) in (first..).zip(appends) {
            append.fact.sequence = sequence;
            let body = append.fact.encode_to_vec();
            bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
            bytes.extend_from_slice(&body);
            written.push(append);
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.size += bytes.len() as u64;
        let mut pending = lock(&self.pending);
        pending.next_sequence = first + written.len() as u64;
        let mut confirmed = Vec::with_capacity(written.len());
        for append in written {
            confirmed.push((append.fact.sequence, append.done));
            pending.facts.push_back(append.fact);
        }
        drop(pending);
        for (sequence, done) in confirmed {
            self.announce.send_replace(sequence);
            let _ = done.send(sequence);
        }
        Ok(())
    }

    fn note_acked(&mut self, acked: Option<u64>) -> std::io::Result<()> {
        let Some(acked) = acked else { return Ok(()) };
        super::persist::replace(&self.folder.join(ACKED), acked.to_string().as_bytes())?;
        if self.size > COMPACT_BYTES && lock(&self.pending).facts.is_empty() {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.sync_data()?;
            self.size = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(id: &str) -> Fact {
        Fact { id: id.into(), r#type: "recording.started".into(), ..Default::default() }
    }

    #[tokio::test]
    async fn facts_survive_a_restart_with_their_ids_and_sequences() {
        let folder = tempfile::tempdir().unwrap();
        let log = FactLog::open(folder.path()).unwrap();
        assert_eq!(log.append(fact("a")).await.unwrap(), 1);
        assert_eq!(log.append(fact("b")).await.unwrap(), 2);
        assert_eq!(log.append(fact("c")).await.unwrap(), 3);
        log.acknowledge(1);
        log.append(fact("d")).await.unwrap();
        drop(log);
        let log = FactLog::open(folder.path()).unwrap();
        let left: Vec<_> = log.after(0, 10).into_iter().map(|fact| (fact.sequence, fact.id)).collect();
        assert_eq!(left, [(2, "b".into()), (3, "c".into()), (4, "d".into())]);
        assert_eq!(log.append(fact("e")).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_torn_tail_is_cut_and_the_rest_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = FactLog::open(folder.path()).unwrap();
        for id in ["a", "b", "c"] {
            log.append(fact(id)).await.unwrap();
        }
        drop(log);
        let path = folder.path().join(LOG);
        let whole = std::fs::read(&path).unwrap();
        let third = whole.len() - whole.len() / 3;
        for cut in third..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let log = FactLog::open(folder.path()).unwrap();
            assert_eq!(log.unreported(), 2, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn sequences_do_not_repeat_after_the_log_was_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let log = FactLog::open(folder.path()).unwrap();
        let big = Fact { id: "x".repeat(COMPACT_BYTES as usize + 1), ..Default::default() };
        log.append(big).await.unwrap();
        log.acknowledge(1);
        log.append(fact("b")).await.unwrap();
        log.acknowledge(2);
        // The acknowledgement is on disk once a later append is confirmed, because one thread writes both in order.
        log.append(fact("c")).await.unwrap();
        drop(log);
        let log = FactLog::open(folder.path()).unwrap();
        assert_eq!(log.append(fact("d")).await.unwrap(), 4);
    }
}
