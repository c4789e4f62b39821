//! What somebody asks of an output's files: to be tried again, and to go to another storage (RetryUploads).

use super::{Growth, OutputNote, Queued, Shipment};
use crate::manifest::Entry;
use crate::shipping::Target;
use crate::shipping::progress::Progress;
use crate::shipping::sending::Kept;
use crate::shipping::tidying::Left;

impl Shipment {
    /// Does what was asked for since the last time, and leads files on that are not where they should go.
    pub(super) async fn obey(&mut self) {
        let Some(order) = self.context.nudge.of(&self.key.recording) else { return };
        if order.number > self.obeyed {
            self.obeyed = order.number;
            self.try_again();
            // A restart may come after the control plane has forgotten the order, and the manifest has to follow it.
            if let (Some(target), Some(manifest)) = (&order.target, self.context.manifests.handle(&self.key)) {
                manifest.noted(Entry::Storage(Box::new(target.clone()))).await;
            }
        }
        if let Some(target) = order.target {
            self.lead_away(&target).await;
        }
    }

    /// Puts what has failed in line once more.
    fn try_again(&mut self) {
        for file in self.files.values_mut().filter(|file| file.kept) {
            (file.kept, file.settled) = (false, false);
        }
        for Kept { spec, size, crc32c, place } in std::mem::take(&mut self.failed) {
            let waiting = self.context.lag.enter(&self.meta, spec.object, size);
            let head = self.context.spool.head_len(&self.key, spec.object);
            let progress = Some(Box::new(Progress { head, ..Progress::restored(None, true) }));
            self.backlog.push_back(Queued { spec, size, crc32c, place, progress, waiting, movable: true });
        }
    }

    /// Sends every file there of which nothing has arrived and nothing is under way.
    async fn lead_away(&mut self, target: &Target) {
        let is_still = |file: &u32| self.under_way.get(file).is_none_or(|count| *count == 0);
        let free = self.files.iter().filter(|(_, file)| !file.settled && file.is_untouched()).map(|(index, _)| *index);
        let leaving: Vec<u32> = free.filter(is_still).filter(|file| self.placement.leaves(*file, target)).collect();
        for file in leaving {
            // Without the note a restart would look for the file where it was on its way to.
            let note = OutputNote::Elsewhere { file, target: target.clone() };
            match note.keep(&self.context.spool, &self.key).await {
                Ok(()) => self.lead(file, target),
                Err(error) => tracing::warn!(output = %self.key, %error, "a file waits for its own storage"),
            }
        }
    }

    fn lead(&mut self, file: u32, target: &Target) {
        let (recording, format) = (self.meta.recording, self.meta.format);
        tracing::info!(%recording, %format, file, storage = target.name, "to the storage that was asked for");
        self.placement.choose(&self.context, file, target);
        let waiting = self.backlog.iter_mut().chain(&mut self.stuck);
        waiting.filter(|queued| queued.file() == file).for_each(|queued| queued.progress = None);
        let open = self.growths.iter_mut().filter(|(object, _)| object.file == file);
        open.for_each(|(_, growth)| Growth::leave(growth));
    }

    /// Notes what a file that is stored has left behind elsewhere; gives what nobody is at yet.
    pub(super) fn note_left(&self, file: u32) -> Vec<Left> {
        let now = self.context.clock.now();
        let left = self.placement.left(file).iter().map(|target| Left::of(&self.meta, file, target, now));
        left.filter(|left| self.context.tidying.add(left)).collect()
    }
}
