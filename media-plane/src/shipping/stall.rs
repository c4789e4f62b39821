//! Tells of files that stand still, and that they go on: one fact each an episode.

use std::time::Duration;

use chrono::TimeDelta;
use recorder_proto::facts::{UploadRecovered, UploadStalled};
use recorder_proto::ids::FileIndex;

use super::lag::Change;
use super::report::main_object;
use super::{Context, OutputMeta};

impl Context {
    /// Looks for files of which nothing has moved for `patience`.
    pub(super) fn tell_of_stalls(&self, patience: Duration) {
        for change in self.lag.look(patience) {
            match change {
                Change::Stalled { meta, file, lasted, bytes } => self.stalled(&meta, file, lasted, bytes),
                Change::Recovered { meta, file, lasted } => self.recovered(&meta, file, lasted),
            }
        }
    }

    fn stalled(&self, meta: &OutputMeta, file: u32, lasted: Duration, bytes_waiting: u64) {
        let Ok(storage) = meta.storage.name.parse() else { return };
        let now = self.clock.now();
        let error = self.storage(&meta.storage).trouble().and_then(|trouble| trouble.error);
        let object_key = meta.object_key(main_object(meta.format, file));
        tracing::warn!(recording = %meta.recording, format = %meta.format, file, bytes_waiting, "an upload stands still");
        let fact = UploadStalled {
            format: meta.format,
            index: FileIndex(file),
            storage,
            object_key,
            since: TimeDelta::from_std(lasted).ok().and_then(|lasted| now.checked_sub_signed(lasted)).unwrap_or(now),
            bytes_waiting,
            error,
        };
        self.facts.emit(now, Some((meta.recording, meta.epoch)), fact.into());
    }

    fn recovered(&self, meta: &OutputMeta, file: u32, lasted: Duration) {
        let Ok(storage) = meta.storage.name.parse() else { return };
        let object_key = meta.object_key(main_object(meta.format, file));
        tracing::info!(recording = %meta.recording, format = %meta.format, file, "an upload goes on");
        let fact = UploadRecovered {
            format: meta.format,
            index: FileIndex(file),
            storage,
            object_key,
            stalled_micros: u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX),
        };
        self.facts.emit(self.clock.now(), Some((meta.recording, meta.epoch)), fact.into());
    }
}
