//! Which storage each file of an output goes to: the primary one, or, when that keeps failing, the backup, or the one
//! that somebody has chosen for it (RetryUploads), from which it is not copied back.
//!
//! Whole files only: a file moves as long as nothing of it has arrived at the storage that it leaves, and no object of
//! it is on its way there. An HLS file of which segments have arrived waits for its storage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use recorder_proto::names::StorageName;

use super::storage::Storage;
use super::{Context, OutputMeta, Target};

/// The storage that was chosen for a file.
struct Chosen {
    storage: Arc<Storage>,
    name: StorageName,
    /// Where it was on its way to before, the latest last.
    left: Vec<Target>,
}

/// See the module.
pub struct Placement {
    primary: Arc<Storage>,
    primary_name: StorageName,
    backup: Option<(Arc<Storage>, StorageName)>,
    moved: BTreeSet<u32>,
    chosen: BTreeMap<u32, Chosen>,
    /// No file may move: what an earlier epoch wrote is reached from the primary storage only.
    stays: bool,
}

impl Placement {
    /// Everything goes to the primary storage so far.
    pub fn new(context: &Context, meta: &OutputMeta, primary_name: StorageName) -> Self {
        let backup = meta.backup.as_ref().filter(|backup| backup.name != meta.storage.name);
        let backup = backup.and_then(|target| Some((context.storage(target), target.name.parse().ok()?)));
        let stays = meta.continues.is_some();
        Self {
            primary: context.storage(&meta.storage),
            primary_name,
            backup,
            moved: BTreeSet::new(),
            chosen: BTreeMap::new(),
            stays,
        }
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
        match (self.chosen.get(&file), &self.backup) {
            (Some(chosen), _) => (&chosen.storage, &chosen.name),
            (None, Some((storage, name))) if self.moved.contains(&file) => (storage, name),
            _ => (&self.primary, &self.primary_name),
        }
    }

    /// Whether its storage was chosen by somebody.
    pub fn is_chosen(&self, file: u32) -> bool {
        self.chosen.contains_key(&file)
    }

    /// Whether it is to leave for a storage that somebody has chosen.
    pub fn leaves(&self, file: u32, target: &Target) -> bool {
        !self.stays && !self.target(file).is_same_place(target)
    }

    /// Whether it may be sent to a storage that somebody chooses.
    pub fn may_leave(&self) -> bool {
        !self.stays
    }

    /// It goes there, and stays there.
    pub fn choose(&mut self, context: &Context, file: u32, target: &Target) {
        let Ok(name) = target.name.parse() else { return };
        let from = self.target(file).clone();
        let mut left = self.chosen.remove(&file).map(|before| before.left).unwrap_or_default();
        left.push(from);
        left.retain(|place| !place.is_same_place(target));
        self.chosen.insert(file, Chosen { storage: context.storage(target), name, left });
    }

    /// The storages that it left: uploads of it may be open there.
    pub fn left(&self, file: u32) -> &[Target] {
        self.chosen.get(&file).map(|chosen| chosen.left.as_slice()).unwrap_or_default()
    }

    /// Whether it went to the backup storage.
    pub fn is_moved(&self, file: u32) -> bool {
        self.backup.is_some() && self.moved.contains(&file) && !self.is_chosen(file)
    }

    /// Whether it may still go there.
    pub fn may_move(&self, file: u32) -> bool {
        self.backup.is_some() && !self.stays && !self.moved.contains(&file) && !self.is_chosen(file)
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
