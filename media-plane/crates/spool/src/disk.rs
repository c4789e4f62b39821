//! Every call that changes the disk, in one place: counted, and made to fail by tests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long opening waits for descriptors: other tasks of the process give theirs back within seconds, or never.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts to open while descriptors are short.
const PAUSE: Duration = Duration::from_millis(20);

/// When descriptors ran out, and when that was last seen.
#[derive(Clone, Copy, Debug)]
struct Shortage {
    since: Instant,
    seen: Instant,
}

/// The file system, with faults.
#[derive(Debug)]
pub(crate) struct Disk {
    writes_left: AtomicI64,
    syncs_left: AtomicI64,
    file_syncs: AtomicU64,
    opens: AtomicU64,
    /// Opens that are refused for want of descriptors: from this one on, up to the other.
    refused: (AtomicU64, AtomicU64),
    patience: Duration,
    /// One for all threads, so that a long shortage does not make each output wait after the other.
    shortage: Mutex<Option<Shortage>>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            writes_left: AtomicI64::new(i64::MAX),
            syncs_left: AtomicI64::new(i64::MAX),
            file_syncs: AtomicU64::new(0),
            opens: AtomicU64::new(0),
            refused: Default::default(),
            patience: PATIENCE,
            shortage: Mutex::default(),
        }
    }
}

#[cfg(test)]
impl Disk {
    /// After so many more writes every write fails.
    pub fn fail_writes_after(&self, count: i64) {
        self.writes_left.store(count, Ordering::SeqCst);
    }

    /// After so many more file syncs every sync fails.
    pub fn fail_syncs_after(&self, count: i64) {
        self.syncs_left.store(count, Ordering::SeqCst);
    }

    /// Descriptors run out after so many more opens, for so many.
    pub fn refuse_opens(&self, after: u64, count: u64) {
        let from = self.opens.load(Ordering::SeqCst) + after;
        self.refused.0.store(from, Ordering::SeqCst);
        self.refused.1.store(from.saturating_add(count), Ordering::SeqCst);
    }

    /// Waits no longer than this for descriptors.
    pub fn with_patience(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }

    /// File syncs so far.
    pub fn file_syncs(&self) -> u64 {
        self.file_syncs.load(Ordering::SeqCst)
    }
}

/// Takes one from a countdown that tests set; an error once it is used up.
fn spend(left: &AtomicI64) -> io::Result<()> {
    if left.load(Ordering::Relaxed) == i64::MAX {
        return Ok(());
    }
    if left.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(EIO)) }
}

const EIO: i32 = 5;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// The process, or the machine, has no descriptor left: it says nothing about the disk.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

impl Disk {
    /// A new file; one that exists is an error, because it would hold somebody's media.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        spend(&self.writes_left)?;
        self.open(|| OpenOptions::new().read(true).append(true).create_new(true).open(path))
    }

    /// An existing file, or a new one, to be continued at its end.
    pub fn continue_at_end(&self, path: &Path) -> io::Result<File> {
        self.open(|| OpenOptions::new().read(true).append(true).create(true).open(path))
    }

    /// Writes everything to the page cache.
    pub fn write(&self, mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        spend(&self.writes_left)?;
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match file.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes a file's bytes and length durable. Never called again after an error: the kernel has forgotten which
    /// pages were lost and would report success.
    pub fn sync(&self, file: &File) -> io::Result<()> {
        self.file_syncs.fetch_add(1, Ordering::Relaxed);
        spend(&self.syncs_left)?;
        file.sync_data()
    }

    /// Makes the entries of a directory durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.open(|| File::open(path))?.sync_all()
    }

    /// The same, but does not wait for a descriptor.
    pub fn sync_dir_at_once(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Opens a file; while there is no descriptor for it, again and again, for a limited time. Blocks.
    fn open(&self, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
        loop {
            match self.descriptor().and_then(|()| open()) {
                Ok(file) => {
                    *self.shortage.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return Ok(file);
                }
                Err(error) if is_shortage(&error) && self.may_wait() => std::thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
    }

    /// An error when a test wants one.
    fn descriptor(&self) -> io::Result<()> {
        let number = self.opens.fetch_add(1, Ordering::SeqCst);
        let (from, to) = (self.refused.0.load(Ordering::SeqCst), self.refused.1.load(Ordering::SeqCst));
        if (from..to).contains(&number) { Err(io::Error::from_raw_os_error(EMFILE)) } else { Ok(()) }
    }

    /// Whether the shortage is young enough to hope for its end.
    fn may_wait(&self) -> bool {
        let now = Instant::now();
        let mut shortage = self.shortage.lock().unwrap_or_else(PoisonError::into_inner);
        // One that nobody has seen for long is not this one.
        let known = shortage.filter(|known| now.duration_since(known.seen) < self.patience);
        if known.is_none() {
            tracing::warn!("out of file descriptors: the spool waits for some");
        }
        let since = known.map_or(now, |known| known.since);
        *shortage = Some(Shortage { since, seen: now });
        now.duration_since(since) < self.patience
    }

    /// Removes a file; one that is gone already is as good.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
