//! Everything that can go wrong with the spool.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A failure of the spool.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something about a path.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its own words.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another process has this spool open.
    #[error("{0}: the spool is in use by another process")]
    Locked(PathBuf),
    /// A key that cannot be a directory name, or an output that exists.
    #[error("output {key}: {problem}")]
    Key {
        /// The key as text.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The spool has reached its limit.
    #[error("the spool is full: {bytes} of {limit} bytes")]
    Full {
        /// Bytes on disk.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The output is lost: a write or sync failed, and nothing after it is durable.
    #[error("the output failed: {0}")]
    Failed(Arc<str>),
    /// There is no such output or object.
    #[error("nothing spooled under {0}")]
    Unknown(String),
    /// A muxer broke the order of [`mux::Output`].
    #[error("object {object}: {problem}")]
    Sequence {
        /// The object.
        object: String,
        /// What was expected.
        problem: &'static str,
    },
    /// Bytes past the durable end of an object, or of a released one.
    #[error("object {object}: only {available} bytes can be read")]
    Range {
        /// The object.
        object: String,
        /// Readable bytes.
        available: u64,
    },
    /// Bytes may go only after they were committed and reported.
    #[error("object {0} is not committed and reported yet")]
    NotReleasable(String),
    /// What is on disk does not match its checksum.
    #[error("{path}: {problem}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not match.
        problem: String,
    },
    /// The writer was dropped before it had finished: whatever fed it died.
    #[error("the output was abandoned before it was finished")]
    Abandoned,
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

/// There is no room for media, though for journals.
pub(crate) fn no_room(path: &std::path::Path) -> Error {
    Error::io(path, io::ErrorKind::StorageFull.into())
}

impl Error {
    /// The disk is full, or a quota is used up: later there may be room.
    pub(crate) fn is_want_of_room(&self) -> bool {
        matches!(self, Self::Io { source, .. } if crate::disk::is_full(source))
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source: Arc::new(source) }
    }
}
