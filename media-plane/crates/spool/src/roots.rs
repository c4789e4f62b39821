//! The directories of a spool, each on a disk of its own that can fail or be full alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::Disk;
use crate::{Config, Error};

/// Bytes set aside on every disk. When it is full they are given to journals: without room for a few records nothing
/// could be noted as shipped, and so nothing released.
const BALLAST: u64 = 1 << 20;

/// One directory.
#[derive(Debug)]
pub(crate) struct Root {
    pub path: PathBuf,
    /// A write or sync failed here: whatever was open is lost, and nothing new is begun.
    dead: AtomicBool,
    /// The disk has no room.
    full: AtomicBool,
    ballast: AtomicBool,
    /// Locked while the spool is open.
    lock: Option<File>,
}

impl Root {
    /// Creates the directory when missing, and takes it for this process.
    fn open(path: &Path, disk: &Disk) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|error| Error::io(path, error))?;
        let root = Self { lock: Some(lock_directory(path)?), ..Self::dead(path) };
        root.dead.store(false, Ordering::Relaxed);
        root.hold_ballast(disk);
        Ok(root)
    }

    /// A directory that cannot be used.
    fn dead(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            dead: AtomicBool::new(true),
            full: AtomicBool::new(false),
            ballast: AtomicBool::new(false),
            lock: None,
        }
    }

    /// Every directory of a configuration; one that cannot be opened is dead, unless all are, or it is another's.
    pub fn open_all(config: &Config, disk: &Disk) -> Result<Vec<Self>, Error> {
        let mut roots = Vec::new();
        let mut first = None;
        for path in config.paths() {
            match Self::open(path, disk) {
                Ok(root) => roots.push(root),
                Err(error @ Error::Locked(_)) => return Err(error),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "spool volume cannot be used");
                    roots.push(Self::dead(path));
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) if roots.iter().all(|root| !root.is_alive()) => Err(error),
            _ => Ok(roots),
        }
    }

    pub fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Relaxed)
    }

    /// Says whether it was alive before.
    pub fn die(&self) -> bool {
        !self.dead.swap(true, Ordering::Relaxed)
    }

    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// There is no room: the ballast goes.
    pub fn fill(&self, disk: &Disk) {
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::error!(path = %self.path.display(), "spool volume is full: outputs wait for room");
        }
        if self.ballast.swap(false, Ordering::Relaxed)
            && let Err(error) = disk.drop_ballast(&self.ballast_path(), BALLAST)
        {
            tracing::warn!(path = %self.path.display(), %error, "ballast stays");
        }
    }

    /// Media may be written: there is room, or so much that the ballast is held again.
    pub fn admits(&self, disk: &Disk) -> bool {
        !self.is_full() || self.hold_ballast(disk)
    }

    /// What was refused for want of room went through.
    pub fn has_room(&self) {
        self.full.store(false, Ordering::Relaxed);
    }

    fn hold_ballast(&self, disk: &Disk) -> bool {
        if !self.ballast.load(Ordering::Relaxed) {
            let held = disk.make_ballast(&self.ballast_path(), BALLAST).is_ok();
            self.ballast.store(held, Ordering::Relaxed);
        }
        self.ballast.load(Ordering::Relaxed)
    }

    fn ballast_path(&self) -> PathBuf {
        self.path.join("ballast")
    }

    pub fn unlock(&self) {
        let _ = self.lock.as_ref().map(File::unlock);
    }
}

/// One process at a time: two would take each other's live outputs for left ones.
fn lock_directory(path: &Path) -> Result<File, Error> {
    let file = path.join("lock");
    let guard = File::options().create(true).append(true).open(&file).map_err(|error| Error::io(&file, error))?;
    match guard.try_lock() {
        Ok(()) => Ok(guard),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Locked(path.to_path_buf())),
        Err(fs::TryLockError::Error(error)) => Err(Error::io(&file, error)),
    }
}
