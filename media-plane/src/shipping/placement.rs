//! Which storage each file of an output goes to: the primary one, or, when that keeps failing, the backup.
//!
//! Whole files only: a file moves as long as nothing of it has arrived at the primary storage, and no object of it is
//! on its way there. An HLS file of which segments have arrived waits for its storage.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use recorder_proto::names::StorageName;

use super::storage::Storage;
use super::{Context, OutputMeta, Target};

/// See the module.
pub struct Placement {
    primary: Arc<Storage>,
    primary_name: StorageName,
    backup: Option<(Arc<Storage>, StorageName)>,
    moved: BTreeSet<u32>,
    /// No file may move: what an earlier epoch wrote is reached from the primary storage only.
    stays: bool,
}

impl Placement {
    /// Everything goes to the primary storage so far.
    pub fn new(context: &Context, meta: &OutputMeta, primary_name: StorageName) -> Self {
        let backup = meta.backup.as_ref().filter(|backup| backup.name != meta.storage.name);
        let backup = backup.and_then(|target| Some((context.storage(target), target.name.parse().ok()?)));
        let stays = meta.continues.is_some();
        Self { primary: context.storage(&meta.storage), primary_name, backup, moved: BTreeSet::new(), stays }
    }

    /// The storage of a file.
    pub fn storage(&self, file: u32) -> Arc<Storage> {
        Arc::clone(self.of(file).0)
    }

    /// What it is.
    pub fn target(&self, file: u32) -> &Target {
        self.of(file).0.target()
    }

    /// Its name.
    pub fn name(&self, file: u32) -> StorageName {
        self.of(file).1.clone()
    }

    fn of(&self, file: u32) -> (&Arc<Storage>, &StorageName) {
        match &self.backup {
            Some((storage, name)) if self.moved.contains(&file) => (storage, name),
            _ => (&self.primary, &self.primary_name),
        }
    }

    /// Whether it went to the backup storage.
    pub fn is_moved(&self, file: u32) -> bool {
        self.backup.is_some() && self.moved.contains(&file)
    }

    /// Whether it may still go there.
    pub fn may_move(&self, file: u32) -> bool {
        self.backup.is_some() && !self.stays && !self.moved.contains(&file)
    }

    /// It goes there.
    pub fn set_moved(&mut self, file: u32) {
        if self.backup.is_some() && self.moved.insert(file) {
            let storage = self.primary_name.to_string();
            metrics::counter!(recorder_runtime::metrics::UPLOADS_BACKED_UP_TOTAL, "storage" => storage).increment(1);
        }
    }
}

impl Storage {
    /// Whether files are better off elsewhere: it refuses, or nothing has worked for so long.
    pub fn is_given_up(&self, patience: Duration) -> bool {
        self.trouble().is_some_and(|trouble| trouble.refused || trouble.lasted >= patience)
    }
}
