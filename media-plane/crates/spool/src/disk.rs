//! Every call that changes the disk, in one place, where [`FaultyDisk`] can make it fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::FaultyDisk;

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

/// The file system.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Only in tests and simulations.
    faults: Option<FaultyDisk>,
    patience: Duration,
    /// One for all threads, so that a long shortage does not make each output wait after the other.
    shortage: Mutex<Option<Shortage>>,
}

impl Default for Disk {
    fn default() -> Self {
        let faults = cfg!(test).then(FaultyDisk::default);
        Self { faults, patience: PATIENCE, shortage: Mutex::default() }
    }
}

impl From<FaultyDisk> for Disk {
    fn from(disk: FaultyDisk) -> Self {
        Self { faults: Some(disk), ..Self::default() }
    }
}

#[cfg(test)]
impl Disk {
    /// The faults of a test.
    pub fn faults(&self) -> &FaultyDisk {
        self.faults.as_ref().unwrap()
    }

    /// Waits no longer than this for descriptors.
    pub fn with_patience(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }
}

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// The process, or the machine, has no descriptor left: it says nothing about the disk.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// No room, or no quota: nothing is wrong with the disk.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Disk {
    /// A new file; one that exists is an error, because it would hold somebody's media.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        self.fault(FaultyDisk::creating)?;
        let file = self.open(|| OpenOptions::new().read(true).append(true).create_new(true).open(path))?;
        self.tell(|faults| faults.created(path));
        Ok(file)
    }

    /// A directory and those above it.
    pub fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        self.fault(FaultyDisk::changing)?;
        self.tell(|faults| {
            let new = dir.ancestors().take_while(|dir| !dir.exists()).map(Path::to_path_buf);
            faults.created_dirs(new);
        });
        // Twice: the parent may be vanishing with the last other output in it.
        fs::create_dir_all(dir).or_else(|_| fs::create_dir_all(dir))
    }

    /// An existing file, to be continued at its end.
    pub fn continue_at_end(&self, path: &Path) -> io::Result<File> {
        self.open(|| OpenOptions::new().read(true).append(true).create(true).open(path))
    }

    /// Writes everything to the page cache.
    pub fn write(&self, path: &Path, file: &File, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        match &self.faults {
            Some(faults) => write_some(faults, path, file, slices),
            None => write_all(file, slices),
        }
    }

    /// Makes a file's bytes and length durable. Never called again after an error: the kernel has forgotten which
    /// pages were lost and would report success.
    pub fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
        while self.stands_still() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.fault(|faults| faults.syncing(path))?;
        if self.pretends() { Ok(()) } else { file.sync_data() }
    }

    /// Makes the entries of a directory durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.synced_dir(path, self.open(|| File::open(path))?)
    }

    /// The same, but does not wait for a descriptor.
    pub fn sync_dir_at_once(&self, path: &Path) -> io::Result<()> {
        self.synced_dir(path, File::open(path)?)
    }

    fn synced_dir(&self, path: &Path, dir: File) -> io::Result<()> {
        self.fault(FaultyDisk::changing)?;
        self.tell(|faults| faults.synced_dir(path));
        if self.pretends() { Ok(()) } else { dir.sync_all() }
    }

    /// Cuts a file off, without making that durable: it frees space, and works on a full disk.
    pub fn cut(&self, path: &Path, file: &File, len: u64) -> io::Result<()> {
        self.fault(FaultyDisk::changing)?;
        let before = file.metadata()?.len();
        file.set_len(len)?;
        self.tell(|faults| faults.cut(path, before, len));
        Ok(())
    }

    /// Writes bytes of a file again, so that the kernel takes them for not synced whatever it was told before.
    pub fn rewrite(&self, path: &Path, file: &File, from: u64, to: u64) -> io::Result<()> {
        self.fault(FaultyDisk::changing)?;
        let mut buffer = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX).min(1 << 20)];
        let mut at = from;
        while at < to {
            let want = usize::try_from(to - at).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..want).unwrap_or_default();
            file.read_exact_at(piece, at)?;
            file.write_all_at(piece, at)?;
            at += want as u64;
        }
        self.tell(|faults| faults.rewritten(path));
        Ok(())
    }

    fn fault(&self, check: impl FnOnce(&FaultyDisk) -> io::Result<()>) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), check)
    }

    fn tell(&self, tell: impl FnOnce(&FaultyDisk)) {
        if let Some(faults) = &self.faults {
            tell(faults);
        }
    }

    fn pretends(&self) -> bool {
        self.faults.as_ref().is_some_and(FaultyDisk::pretends)
    }

    /// Syncs do not come back for now; only a disk that fails on command says so.
    pub fn stands_still(&self) -> bool {
        self.faults.as_ref().is_some_and(FaultyDisk::stands_still)
    }

    /// Opens a file; while there is no descriptor for it, again and again, for a limited time. Blocks.
    fn open(&self, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
        loop {
            match self.fault(FaultyDisk::opening).and_then(|()| open()) {
                Ok(file) => {
                    *self.shortage.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return Ok(file);
                }
                Err(error) if is_shortage(&error) && self.may_wait() => std::thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
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
        self.fault(FaultyDisk::changing)?;
        let bytes = if self.faults.is_some() { fs::metadata(path).map_or(0, |meta| meta.len()) } else { 0 };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.tell(|faults| faults.removed(path, bytes));
        Ok(())
    }

    /// Takes room on the disk.
    pub fn make_ballast(&self, path: &Path, len: u64) -> io::Result<()> {
        if let Some(faults) = &self.faults {
            return faults.take_space(len);
        }
        let made = File::create(path).and_then(|file| {
            let zeros = vec![0; usize::try_from(len).unwrap_or(0)];
            write_all(&file, &mut [IoSlice::new(&zeros)])
        });
        if made.is_err() {
            let _ = fs::remove_file(path);
        }
        made
    }

    /// Gives it back.
    pub fn drop_ballast(&self, path: &Path, len: u64) -> io::Result<()> {
        match &self.faults {
            Some(faults) => {
                faults.give_space(len);
                Ok(())
            }
            None => fs::remove_file(path),
        }
    }

    /// Gives a directory another name.
    pub fn move_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fault(FaultyDisk::changing)?;
        fs::rename(from, to)?;
        // What it holds is from before this disk was opened, and durable as it was found.
        self.tell(|faults| faults.removed_dir(from));
        Ok(())
    }

    /// Removes a directory and what is in it.
    pub fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        self.fault(FaultyDisk::changing)?;
        fs::remove_dir_all(dir)?;
        self.tell(|faults| faults.removed_dir(dir));
        Ok(())
    }
}

fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
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

/// Writes what the faults let through.
fn write_some(faults: &FaultyDisk, path: &Path, mut file: &File, slices: &[IoSlice<'_>]) -> io::Result<()> {
    let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    let allowed = faults.writing(all.len());
    file.write_all(all.get(..allowed.bytes).unwrap_or_default())?;
    faults.wrote(path, allowed.bytes);
    allowed.then.map_or(Ok(()), Err)
}
