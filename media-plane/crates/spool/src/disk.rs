//! Every call that changes the disk, in one place: counted, and made to fail by tests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The file system, with faults.
#[derive(Debug)]
pub(crate) struct Disk {
    writes_left: AtomicI64,
    syncs_left: AtomicI64,
    file_syncs: AtomicU64,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            writes_left: AtomicI64::new(i64::MAX),
            syncs_left: AtomicI64::new(i64::MAX),
            file_syncs: AtomicU64::new(0),
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

impl Disk {
    /// A new file; one that exists is an error, because it would hold somebody's media.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        spend(&self.writes_left)?;
        OpenOptions::new().read(true).append(true).create_new(true).open(path)
    }

    /// An existing file, or a new one, to be continued at its end.
    pub fn continue_at_end(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).open(path)
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
        File::open(path)?.sync_all()
    }

    /// Removes a file; one that is gone already is as good.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
