//! What files have left behind at storages that they were sent away from: uploads that nobody will complete.
//!
//! Such a storage may be away for days, and the spool has let the file go by then: what is left is kept in a file of the
//! node's state. Only uploads of exactly the file's own keys are touched, and only after the file is elsewhere. Objects
//! are never deleted: the other storage may be the same bucket under another name.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use mux::ObjectId;
use recorder_proto::format::Format;
use serde::{Deserialize, Serialize};

use super::report::main_object;
use super::storage::Storage;
use super::upload::UploadError;
use super::{Context, OutputMeta, Target};
use crate::link::persist;

const FILE: &str = "leftovers.json";

/// For how long a storage that is away is asked; providers are told to end uploads of that age by themselves.
const PATIENCE: TimeDelta = TimeDelta::days(7);

/// Kept at most; the oldest gives way.
const MOST: usize = 10_000;

/// What one file has left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    target: Target,
    key: String,
    /// The key begins those of all its objects.
    is_folder: bool,
    since: DateTime<Utc>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Tidying {
    path: Option<PathBuf>,
    left: Mutex<Vec<Left>>,
}

impl Tidying {
    /// With what an earlier process has not done.
    pub fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let read = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path: Some(path), left: Mutex::new(read.unwrap_or_default()) }
    }

    /// Everything that is to be done.
    pub fn all(&self) -> Vec<Left> {
        self.lock().clone()
    }

    /// Notes something to be done, durably; false when it is known.
    pub fn add(&self, left: &Left) -> bool {
        let mut all = self.lock();
        if all.iter().any(|known| known.key == left.key && known.target.is_same_place(&left.target)) {
            return false;
        }
        all.push(left.clone());
        let surplus = all.len().saturating_sub(MOST);
        all.drain(..surplus);
        self.store(&all);
        true
    }

    fn done(&self, left: &Left) {
        let mut all = self.lock();
        all.retain(|known| known != left);
        self.store(&all);
    }

    fn store(&self, all: &[Left]) {
        let Some(path) = &self.path else { return };
        let bytes = serde_json::to_vec(all).unwrap_or_default();
        if let Err(error) = persist::replace(path, &bytes) {
            tracing::warn!(%error, "what is left at a storage is not noted; a restart does not know of it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Left {
    /// Of a file at a storage that it has left.
    pub fn of(meta: &OutputMeta, file: u32, target: &Target, since: DateTime<Utc>) -> Self {
        let main: ObjectId = main_object(meta.format, file);
        let key = meta.object_key_in(target, main);
        let is_folder = meta.format == Format::Hls;
        let folder = || key.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
        let key = if is_folder { folder() } else { key };
        Self { target: target.clone(), key, is_folder, since }
    }

    /// Takes it back, however often that takes.
    pub async fn run(self, context: Arc<Context>) {
        let storage = context.storage(&self.target);
        let mut attempts = storage.attempts();
        while let Err(error) = self.abort(&storage).await {
            if context.clock.now() - self.since > PATIENCE {
                tracing::warn!(storage = self.target.name, key = self.key, %error, "uploads of ours may stay open");
                break;
            }
            storage.failed(&error, &mut attempts).await;
        }
        context.tidying.done(&self);
    }

    async fn abort(&self, storage: &Storage) -> Result<(), UploadError> {
        storage.turn().await;
        let bucket = storage.bucket().await?;
        for upload in bucket.list_uploads(&self.key).await?.into_iter().filter(|upload| self.is_ours(&upload.key)) {
            bucket.abort(&upload.key, &upload.id).await?;
            tracing::info!(storage = self.target.name, key = upload.key, "an upload that nobody needs is aborted");
        }
        Ok(())
    }

    fn is_ours(&self, key: &str) -> bool {
        let rest = key.strip_prefix(&self.key);
        rest.is_some_and(|rest| if self.is_folder { !self.key.is_empty() } else { ["", ".media-part"].contains(&rest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipping::tests::meta;

    #[test]
    fn only_a_files_own_keys_are_touched() {
        let left = |format| Left::of(&meta(format), 0, &meta(format).storage, DateTime::UNIX_EPOCH);
        let flv = left(Format::Flv);
        let ours = |left: &Left, rest: &str| left.is_ours(&format!("{}{rest}", left.key));
        assert!(flv.key.ends_with(".flv") && ours(&flv, "") && ours(&flv, ".media-part"));
        assert!(!ours(&flv, "2") && !ours(&flv, "/x") && !flv.is_ours("rec/live/other.flv"));
        let hls = left(Format::Hls);
        assert!(hls.key.ends_with('/') && ours(&hls, "0.ts") && ours(&hls, "index.m3u8"));
        assert!(!hls.is_ours("rec/live/other/0.ts"));
    }

    #[test]
    fn what_is_left_is_known_after_a_restart_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let left = Left::of(&meta(Format::Flv), 0, &meta(Format::Flv).storage, DateTime::UNIX_EPOCH);
        let tidying = Tidying::open(folder.path());
        assert!(tidying.add(&left));
        assert!(!tidying.add(&left), "once");
        let tidying = Tidying::open(folder.path());
        assert_eq!(tidying.all(), std::slice::from_ref(&left));
        tidying.done(&left);
        assert_eq!(Tidying::open(folder.path()).all(), []);
    }
}
