//! What shipping notes about an output as a whole, in the spool's journal, so that a restart decides nothing anew.

use serde::{Deserialize, Serialize};
use spool::{OutputKey, Record, Spool, StoredOutput};

use super::Target;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputNote {
    /// This file goes to the backup storage, all of it.
    Backup(u32),
    /// This file goes to another storage, because somebody has said so (RetryUploads).
    Elsewhere {
        /// Which.
        file: u32,
        /// Where.
        target: Target,
    },
    /// The playlist of the epoch before, as it was when the first own text shipped; none when there was none.
    Previous(Option<String>),
}

impl OutputNote {
    /// Notes it, durably.
    pub async fn keep(&self, spool: &Spool, output: &OutputKey) -> Result<(), spool::Error> {
        let value = serde_json::to_value(self).unwrap_or_default();
        spool.record(output, Record::Note(value)).await
    }

    /// What an earlier process noted; other things that were noted are not ours.
    pub fn of_stored(stored: &StoredOutput) -> impl Iterator<Item = Self> + '_ {
        stored.notes.iter().filter_map(|note| serde_json::from_value(note.clone()).ok())
    }
}
