//! What an operator sets and sees.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a spool is laid out and bounded.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory; created when missing. One process at a time.
    pub path: PathBuf,
    /// Directories on other disks: new outputs go there when the disk before has failed or is full.
    pub spares: Vec<PathBuf>,
    /// Most bytes on disk, all directories together. At the limit [`crate::Spool::writable`] waits and no output can be created.
    pub limit: u64,
    /// Share of `limit` (0 to 1) from which [`Usage::accepting`] is false, so that running recordings keep the rest.
    pub high_water: f64,
    /// How much media a crash may cost. Syncs begin a little earlier, because a frame is read, queued and written first.
    pub flush_interval: Duration,
    /// Bytes of one output after which it is synced before the interval is over.
    pub flush_bytes: usize,
    /// Bytes in memory, over all outputs, from which [`crate::Spool::writable`] waits.
    pub max_queued: usize,
}

impl Config {
    /// The defaults of a node: 200 GiB, 80 %, 500 ms, 4 MiB, 64 MiB.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            spares: Vec::new(),
            limit: 200 << 30,
            high_water: 0.8,
            flush_interval: Duration::from_millis(500),
            flush_bytes: 4 << 20,
            max_queued: 64 << 20,
        }
    }

    /// When the oldest bytes that are not durable have to be synced: what a frame waits for in front of the disk (the
    /// socket's reading pace, a muxer that waits for the next frame, the queue, the pause between rounds) is part of what
    /// a crash costs.
    pub(crate) fn flush_after(&self) -> Duration {
        self.flush_interval - (self.flush_interval / 5).min(Duration::from_millis(90))
    }

    /// Every directory, in the order of preference.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.path).chain(&self.spares).map(PathBuf::as_path)
    }
}

/// How full the spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk, journals included.
    pub bytes: u64,
    /// [`Config::limit`].
    pub limit: u64,
    /// Bytes still in memory.
    pub queued: usize,
    /// New recordings may start: below the high-water mark, and a disk neither failed nor full.
    pub accepting: bool,
}
