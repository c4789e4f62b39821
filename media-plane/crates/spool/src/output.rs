//! One output: its queue, its files and its durable state.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mux::ObjectId;

use crate::appender::Appender;
use crate::inbox::Inbox;
use crate::state::State;
use crate::{OutputKey, object_name};

/// Shared by the writer, shipping and the I/O threads. Locks are taken in the order of the fields, and never held
/// across a sync.
pub(crate) struct Output {
    pub key: OutputKey,
    pub dir: PathBuf,
    /// Which directory of the spool it is in.
    pub root: usize,
    /// Which I/O thread writes it.
    pub shard: usize,
    inbox: Mutex<Inbox>,
    appender: Mutex<Appender>,
    state: Mutex<State>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Output {
    /// In the directory `path`, which is the `root`th.
    pub fn new((root, path): (usize, &Path), key: OutputKey, shard: usize, appender: Appender, state: State) -> Self {
        let dir = output_dir(path, &key);
        Self {
            key,
            dir,
            root,
            shard,
            inbox: Mutex::default(),
            appender: Mutex::new(appender),
            state: Mutex::new(state),
        }
    }

    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }

    pub fn appender(&self) -> MutexGuard<'_, Appender> {
        lock(&self.appender)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

pub(crate) fn output_dir(root: &Path, key: &OutputKey) -> PathBuf {
    root.join(key.parent()).join(&key.format)
}

pub(crate) fn journal_path(dir: &Path) -> PathBuf {
    dir.join("journal")
}

pub(crate) fn data_path(dir: &Path, object: ObjectId) -> PathBuf {
    dir.join(format!("{}.data", object_name(object)))
}

pub(crate) fn head_path(dir: &Path, object: ObjectId) -> PathBuf {
    dir.join(format!("{}.head", object_name(object)))
}
