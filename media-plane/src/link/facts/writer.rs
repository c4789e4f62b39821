//! The thread that puts facts on disk. It outlives every error: what it was given it keeps and tries again.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use recorder_proto::pb::node::Fact;
use tokio::sync::{oneshot, watch};

use super::{ACKED, LOG, Pending, lock, lost, record};
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
    /// Where the facts begin that are not in memory, if there are any.
    pub(super) spill_at: u64,
    /// The file may go on behind `size`, or its cursor be elsewhere.
    pub(super) misplaced: bool,
    /// After a failed sync nothing that the page cache says of the file can be trusted.
    pub(super) suspect: bool,
    pub(super) pending: Arc<Mutex<Pending>>,
    pub(super) announce: watch::Sender<u64>,
    /// Why facts cannot be written at present.
    pub(super) trouble: watch::Sender<Option<String>>,
}

/// Does the work of the log's thread when it is told to: in a simulation nothing may happen by itself.
#[cfg(feature = "sim")]
pub struct FactStepper {
    pub(super) writer: Writer,
    pub(super) inbox: mpsc::Receiver<Order>,
}

#[cfg(feature = "sim")]
impl FactStepper {
    /// Writes, syncs and confirms what has queued up; false when there was nothing. What was not written when this is
    /// dropped is lost, as in a crash.
    pub fn step(&mut self) -> bool {
        let Ok(first) = self.inbox.try_recv() else { return false };
        self.writer.turn(first, &self.inbox);
        true
    }
}

impl Writer {
    /// Takes whatever has queued up, writes and syncs it once, then confirms: concurrent appends share an fsync.
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Order>) {
        loop {
            // What could not be read from the disk is tried again even if nothing happens.
            match inbox.recv_timeout(RETRY.1) {
                Ok(first) => self.turn(first, inbox),
                Err(RecvTimeoutError::Timeout) => self.refill(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(super) fn turn(&mut self, first: Order, inbox: &mpsc::Receiver<Order>) {
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
        self.refill();
    }

    /// Brings facts into memory as those before them are acknowledged.
    pub(super) fn refill(&mut self) {
        if !lock(&self.pending).window.is_low() {
            return;
        }
        if let Err(error) = self.read_spilled() {
            tracing::warn!(%error, "facts cannot be read back; they will be tried again");
        }
        // Whoever sends facts may have found none.
        self.announce.send_modify(|_| {});
    }

    fn read_spilled(&mut self) -> std::io::Result<()> {
        let mut source = self.file.try_clone()?;
        // The cursor is shared with the clone; the next write puts it back.
        self.misplaced = true;
        source.seek(SeekFrom::Start(self.spill_at))?;
        let mut reader = record::Reader::new(source.take(self.size.saturating_sub(self.spill_at)));
        loop {
            let begins = reader.valid;
            if lock(&self.pending).window.spilled() == 0 {
                self.spill_at += begins;
                return Ok(());
            }
            let Some(fact) = reader.next()? else {
                let last = {
                    let pending = lock(&self.pending);
                    pending.window.facts().last().map_or(pending.acked, |fact| fact.sequence)
                };
                self.lose_spilled(0, last);
                // A start reads no further than the damage: what is appended must not stand behind it.
                self.suspect = true;
                return Ok(());
            };
            if !lock(&self.pending).window.refill(fact) {
                self.spill_at += begins;
                return Ok(());
            }
        }
    }

    /// Facts on disk behind `kept` others, all after `last`, are gone; nobody may take their acknowledgement for given.
    fn lose_spilled(&self, kept: u64, last: u64) {
        let (facts, text) = {
            let mut pending = lock(&self.pending);
            (pending.window.lose_spilled(kept), pending.lose_after(last))
        };
        tracing::error!(facts, "the fact log is damaged: facts that nobody has are lost");
        if let Err(error) = lost::write(&self.folder, &text) {
            tracing::error!(%error, "lost facts cannot be noted");
        }
    }

    /// Writes until it worked, then confirms.
    pub(super) fn write(&mut self, mut appends: Vec<Append>) {
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
        pending.next_sequence = pending.next_sequence.max(first + appends.len() as u64);
        pending.queued = pending.queued.saturating_sub(appends.len());
        let mut confirmed = Vec::with_capacity(appends.len());
        let mut begins = self.size - appends.iter().map(|append| record::len(&append.fact)).sum::<u64>();
        for append in appends {
            confirmed.push((append.fact.sequence, append.done));
            let bytes = record::len(&append.fact);
            if !pending.window.push(append.fact) && pending.window.spilled() == 1 {
                self.spill_at = begins;
            }
            begins += bytes;
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
    pub(super) fn rebuild(&mut self) -> std::io::Result<()> {
        // Until its end nothing may be written where the cursor is, nor to a file that was replaced.
        self.suspect = true;
        let mut bytes = Vec::new();
        let (acked, spilled, mut last) = {
            let pending = lock(&self.pending);
            pending.window.facts().for_each(|fact| record::put(fact, &mut bytes));
            let last = pending.window.facts().last().map_or(pending.acked, |fact| fact.sequence);
            (pending.acked, pending.window.spilled(), last)
        };
        let path = self.folder.join(LOG);
        // First the mark: a log without the last facts and without the mark would give their sequences away again.
        persist::replace(&self.folder.join(ACKED), acked.to_string().as_bytes())?;
        let spill_at = bytes.len() as u64;
        let (mut size, mut kept) = (spill_at, 0);
        let (old, begins) = (&mut self.file, self.spill_at);
        persist::replace_with(&path, |file| {
            file.write_all(&bytes)?;
            if spilled == 0 {
                return Ok(());
            }
            old.seek(SeekFrom::Start(begins))?;
            let mut reader = record::Reader::new(old);
            // What the page cache gives back after a failed sync is ours as long as its checksums say so.
            while kept < spilled
                && let Some(fact) = reader.next()?
            {
                bytes.clear();
                record::put(&fact, &mut bytes);
                file.write_all(&bytes)?;
                size += bytes.len() as u64;
                last = fact.sequence;
                kept += 1;
            }
            Ok(())
        })?;
        if kept < spilled {
            self.lose_spilled(kept, last);
        }
        self.file = OpenOptions::new().read(true).write(true).open(&path)?;
        (self.size, self.spill_at) = (size, spill_at);
        self.rewind()?;
        self.suspect = false;
        Ok(())
    }

    pub(super) fn note_acked(&mut self) -> std::io::Result<()> {
        // Both in one look: the queue may be acknowledged further at any time, and a log may only be emptied of what
        // the mark on disk covers.
        let (acked, empty, live) = {
            let Pending { acked, window, .. } = &*lock(&self.pending);
            let on_disk = if window.spilled() == 0 { 0 } else { self.size - self.spill_at };
            (*acked, window.len() == 0, window.bytes() + on_disk)
        };
        persist::replace(&self.folder.join(ACKED), acked.to_string().as_bytes())?;
        if self.size > COMPACT_BYTES && empty {
            self.file.set_len(0)?;
            self.size = 0;
            self.misplaced = true;
            self.sync()?;
        } else if self.size.saturating_sub(live) > live.max(COMPACT_BYTES) {
            // A control plane that is always a little behind must not make a log without end.
            self.rebuild()?;
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
