//! The thread that puts facts on disk. It outlives every error: what it was given it keeps and tries again.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use recorder_proto::pb::node::Fact;
use tokio::sync::{oneshot, watch};

use super::{ACKED, LOG, Pending, lock, record};
use crate::link::persist;

/// A log this long is emptied as soon as everything in it is acknowledged.
pub(super) const COMPACT_BYTES: u64 = 256 * 1024;
/// Encoded facts are handed to the system in pieces of about this size.
const CHUNK_BYTES: usize = 1 << 20;
/// Shortest and longest pause between attempts on a disk that refuses.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(super) struct Append {
    pub(super) fact: Fact,
    pub(super) done: oneshot::Sender<u64>,
}

pub(super) enum Order {
    Append(Append),
    /// The queue was acknowledged further; how far, it says itself.
    Acked,
}

pub(super) struct Writer {
    pub(super) folder: PathBuf,
    pub(super) file: File,
    /// Bytes of whole, confirmed records.
    pub(super) size: u64,
    /// The file may go on behind `size`, or its cursor be elsewhere.
    pub(super) misplaced: bool,
    /// After a failed sync nothing that the page cache says of the file can be trusted.
    pub(super) suspect: bool,
    pub(super) pending: Arc<Mutex<Pending>>,
    pub(super) announce: watch::Sender<u64>,
    /// Why facts cannot be written at present.
    pub(super) trouble: watch::Sender<Option<String>>,
}

impl Writer {
    /// Takes whatever has queued up, writes and syncs it once, then confirms: concurrent appends share an fsync.
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Order>) {
        while let Ok(first) = inbox.recv() {
            let (mut appends, mut acked) = (Vec::new(), false);
            for order in std::iter::once(first).chain(inbox.try_iter()) {
                match order {
                    Order::Append(append) => appends.push(append),
                    Order::Acked => acked = true,
                }
            }
            if acked && let Err(error) = self.note_acked() {
                // Acknowledged facts would be sent again after a restart, which the ledger ignores.
                tracing::warn!(%error, "the mark of acknowledged facts cannot be written; the next one will be tried");
            }
            if !appends.is_empty() {
                self.write(appends);
            }
        }
    }

    /// Writes until it worked, then confirms.
    fn write(&mut self, mut appends: Vec<Append>) {
        let first = lock(&self.pending).next_sequence;
        for (sequence, append) in (first..).zip(&mut appends) {
            append.fact.sequence = sequence;
        }
        let mut pause = RETRY.0;
        while let Err(error) = self.attempt(&appends) {
            self.failed(&error);
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY.1);
        }
        self.healed();
        let mut pending = lock(&self.pending);
        pending.next_sequence = first + appends.len() as u64;
        let mut confirmed = Vec::with_capacity(appends.len());
        for append in appends {
            confirmed.push((append.fact.sequence, append.done));
            pending.facts.push_back(append.fact);
        }
        drop(pending);
        for (sequence, done) in confirmed {
            self.announce.send_replace(sequence);
            let _ = done.send(sequence);
        }
    }

    /// Puts the facts behind `size`; after an error the file is first brought back to what was confirmed.
    pub(super) fn attempt(&mut self, appends: &[Append]) -> std::io::Result<()> {
        if self.misplaced && !self.suspect {
            // A file that cannot even be cut back is replaced as a whole.
            self.suspect = self.rewind().is_err();
        }
        if self.suspect {
            self.rebuild()?;
        }
        self.misplaced = true;
        let mut written = 0;
        let mut bytes = Vec::new();
        for append in appends {
            record::put(&append.fact, &mut bytes);
            if bytes.len() >= CHUNK_BYTES {
                self.file.write_all(&bytes)?;
                written += bytes.len() as u64;
                bytes.clear();
            }
        }
        self.file.write_all(&bytes)?;
        written += bytes.len() as u64;
        self.sync()?;
        self.size += written;
        self.misplaced = false;
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        let synced = self.file.sync_data();
        self.suspect = synced.is_err();
        synced
    }

    pub(super) fn rewind(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.size)?;
        self.file.seek(SeekFrom::Start(self.size))?;
        self.misplaced = false;
        Ok(())
    }

    /// Replaces the log by a new file with everything confirmed and not yet acknowledged.
    fn rebuild(&mut self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let acked = {
            let pending = lock(&self.pending);
            pending.facts.iter().for_each(|fact| record::put(fact, &mut bytes));
            pending.acked
        };
        let path = self.folder.join(LOG);
        // First the mark: a log without the last facts and without the mark would give their sequences away again.
        persist::replace(&self.folder.join(ACKED), acked.to_string().as_bytes())?;
        persist::replace(&path, &bytes)?;
        self.file = OpenOptions::new().read(true).write(true).open(&path)?;
        self.size = bytes.len() as u64;
        self.rewind()?;
        self.suspect = false;
        Ok(())
    }

    fn note_acked(&mut self) -> std::io::Result<()> {
        // Both in one look: the queue may be acknowledged further at any time, and a log may only be emptied of what
        // the mark on disk covers.
        let (acked, empty) = {
            let pending = lock(&self.pending);
            (pending.acked, pending.facts.is_empty())
        };
        persist::replace(&self.folder.join(ACKED), acked.to_string().as_bytes())?;
        if self.size > COMPACT_BYTES && empty {
            self.file.set_len(0)?;
            self.size = 0;
            self.misplaced = true;
            self.sync()?;
        }
        Ok(())
    }

    fn failed(&self, error: &std::io::Error) {
        let sentence = format!("facts cannot be written to {}: {error}", self.folder.join(LOG).display());
        if self.trouble.send_replace(Some(sentence)).is_none() {
            tracing::error!(%error, "the fact log cannot be written; facts are kept in memory and tried again");
        }
    }

    fn healed(&self) {
        if self.trouble.send_replace(None).is_some() {
            tracing::info!("the fact log can be written again");
        }
    }
}
