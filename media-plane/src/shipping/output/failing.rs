//! Files that cannot be stored: what is told of them, and what is kept for another try.

use recorder_proto::facts::Failure;

use super::{File, Growth, Shipment};
use crate::manifest::FileEntry;
use crate::shipping::report::failed_entry;
use crate::shipping::storage::internal;

impl Shipment {
    /// The spool lost the output, or its writer died: what was closed still ships, what was open is gone.
    pub(super) async fn lost(&mut self, error: &spool::Error) {
        self.set_over(true);
        let growths = std::mem::take(&mut self.growths);
        // What is only unfinished goes on after a restart, with the same upload.
        if !matches!(error, spool::Error::Abandoned) {
            growths.into_values().for_each(Growth::lose);
        }
        let reason = if matches!(error, spool::Error::Abandoned) { "OUTPUT_ABANDONED" } else { "SPOOL_FAILED" };
        let open: Vec<u32> =
            self.files.iter().filter(|(_, file)| file.summary.is_none()).map(|(index, _)| *index).collect();
        for file in open {
            self.fail(file, internal(reason, error.to_string()), false).await;
        }
    }

    /// Settles files that were opened and never became complete: whoever waits for them waits for the last one.
    pub(super) async fn fail_incomplete(&mut self) {
        let is_left = |file: &File| !file.settled && !file.is_complete();
        let left = self.files.iter().filter(|(_, file)| self.ended && is_left(file));
        for (index, error) in left.map(|(index, file)| (*index, file.missing())).collect::<Vec<_>>() {
            self.fail(index, error, false).await;
        }
    }

    /// A file could not be stored. Where its bytes are kept, it may be tried again; where they turn out to be lost after
    /// that was told, it is told again.
    pub(super) async fn fail(&mut self, index: u32, error: Failure, kept: bool) {
        let file = self.file(index);
        let is_news = !file.settled || (file.kept && !kept);
        if !is_news {
            return;
        }
        (file.settled, file.kept) = (true, kept);
        tracing::error!(output = %self.key, file = index, reason = error.reason, message = error.message, "file failed");
        let bytes_kept = if kept { self.bytes_kept(index) } else { 0 };
        let reporter = self.reporter(index);
        let failed = reporter.failed(index, error, bytes_kept);
        let summary = self.files.get(&index).and_then(|file| file.summary.as_ref());
        let uri = self.context.uri(reporter.target, &failed.object_key);
        let entry = FileEntry { kept, ..failed_entry(&self.meta, &failed, uri, summary) };
        self.report(failed).await;
        self.note_file(index, entry).await;
    }

    /// Bytes of a file that wait for another try.
    fn bytes_kept(&self, index: u32) -> u64 {
        let waiting = self.backlog.iter().filter(|queued| queued.file() == index).map(|queued| queued.size);
        let failed = self.failed.iter().filter(|kept| kept.spec.object.file == index).map(|kept| kept.size);
        let text = self.files.get(&index).map_or(0, File::playlist_bytes);
        waiting.chain(failed).sum::<u64>() + text
    }
}
