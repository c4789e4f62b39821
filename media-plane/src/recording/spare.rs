//! A format whose disk has failed goes on on another one, as its next file. What was not durable is a hole.

use media::{Gap, GapReason, MediaTime};
use recorder_proto::pb::v1::Template;

use super::output::OutputPipe;
use super::report::{gap_label, span};
use super::start::{Place, open};
use super::{Recording, formats};
use crate::manifest::Entry;

/// Disks do not fail more often than this; what does is beyond help.
const MAX_MOVES: u32 = 8;

/// Media that no output of some format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Where the durable media ends.
    pub from: MediaTime,
    /// Where the media goes on.
    pub to: MediaTime,
}

impl Hole {
    /// What several formats lack is told as one.
    fn with(self, other: Option<Self>) -> Self {
        other.map_or(self, |other| Self { from: self.from.min(other.from), to: self.to.max(other.to) })
    }
}

impl Recording {
    /// Puts a new output in the place of one that the spool has lost. False when there is no disk to go to.
    pub(super) fn go_on_elsewhere(&mut self, index: usize, error: &spool::Error) -> bool {
        let Some(failed) = self.outputs.get(index) else { return false };
        if !matches!(error, spool::Error::Failed(_)) || failed.number() >= MAX_MOVES {
            return false;
        }
        match self.successor(failed) {
            Ok(next) => {
                tracing::error!(recording = %self.id(), format = ?next.format(), %error, "an output goes on in another file");
                if let Some(place) = self.outputs.get_mut(index) {
                    *place = next;
                }
                true
            }
            Err(problem) => {
                tracing::error!(recording = %self.id(), problem, "no disk to go on with");
                false
            }
        }
    }

    fn successor(&self, failed: &OutputPipe) -> Result<OutputPipe, String> {
        let plan = self.meta.plan().unwrap_or_default();
        let template: Template = plan.template.unwrap_or_default();
        let (kind, count) = (failed.format(), failed.count());
        let options = formats::options_of(kind, &template, self.wall());
        let (number, bytes) = (failed.number() + 1, count.bytes);
        let place = Place { first_file: count.files, number, bytes, ..Place::default() };
        let next = open(&self.node, &self.meta, &template, place, (kind, &options));
        let next = next.map_err(|refused| refused.failure().message)?;
        // The old one may be settled before anything is heard of this one.
        self.node.manifests.begun(next.key());
        Ok(next.in_place_of(failed, self.first.unwrap_or(self.meta.output.wall.media)))
    }

    /// Tells of what was lost, once all formats go on.
    pub(super) fn tell_losses(&mut self) {
        let holes = self.outputs.iter_mut().filter_map(OutputPipe::take_hole);
        self.lost = holes.fold(self.lost, |sum, hole| Some(hole.with(sum)));
        if !self.outputs.iter().any(|output| output.lost_from().is_some()) {
            if self.lost.is_some() {
                self.write_failed();
            }
            self.tell_hole();
        }
    }

    /// A format is over: all from the end of its durable media is missing in it.
    pub(super) fn lose(&mut self, from: MediaTime) {
        self.gone = Some(self.gone.map_or(from, |gone| gone.min(from)));
    }

    /// What an earlier process recorded from here on is damaged, as far as is known.
    pub(super) fn lacks(&mut self, from: MediaTime) {
        self.lost = Some(Hole { from, to: self.last.max(from) }.with(self.lost));
    }

    /// At the end nothing goes on any more.
    pub(super) fn tell_last_losses(&mut self) {
        let waiting: Vec<MediaTime> = self.outputs.iter().filter_map(OutputPipe::lost_from).collect();
        // A format that failed has said so when it did.
        if self.lost.is_some() || !waiting.is_empty() {
            self.write_failed();
        }
        waiting.into_iter().for_each(|from| self.lose(from));
        if let Some(from) = self.gone.take() {
            self.lacks(from);
        }
        self.tell_hole();
    }

    fn tell_hole(&mut self) {
        let Some(Hole { from, to }) = self.lost.take() else { return };
        let gap = Gap { starts_at: from, resumes_at: to, reason: GapReason::SpoolFailed };
        metrics::counter!("recorder_timeline_gaps_total", "reason" => gap_label(gap.reason)).increment(1);
        let told = span(&self.wall(), &gap);
        self.note(Entry::Gap(told.clone()));
        self.keep_gap(told);
    }
}
