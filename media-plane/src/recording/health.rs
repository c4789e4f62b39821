//! The health report of a recording: what was found is merged, so that a broken encoder cannot flood the control plane, and
//! noted meanwhile, so that a crash costs seconds of it at most.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use media::health::{Kind, Tally};
use recorder_proto::facts::{AbnormalSpan, RecordingAbnormal};
use recorder_proto::health::Abnormality;
use recorder_proto::ids::EventId;
use recorder_proto::pb::v1::health::Kind as ApiKind;
use sha2::{Digest, Sha256};

use super::Recording;
use crate::manifest::{Abnormal, Entry, Handle, RecordingMeta};
use crate::node::Node;

/// What is found at once, in both tracks for example, is told at once.
const SETTLING: Duration = Duration::from_secs(1);
/// Pause before something of another kind is told.
const NEWS: Duration = Duration::from_secs(5);
/// Pause before more of the same is told; the vendor merges for up to two minutes.
const MERGED: Duration = Duration::from_secs(60);

/// Pause before more of the same is noted.
const NOTED: Duration = Duration::from_secs(5);

/// What was found, and what of it is told.
#[derive(Debug, Default)]
pub(super) struct Health {
    untold: Tally,
    /// A bit for each kind that was ever told.
    told: u32,
    /// When something was told, on the monotonic clock.
    last: Option<Duration>,
    /// Not noted yet.
    fresh: Tally,
    /// A bit for each kind that was ever noted.
    known: u32,
    /// When something was noted, on the monotonic clock.
    noted: Option<Duration>,
    /// As it is noted.
    book: Abnormal,
}

impl Health {
    fn add(&mut self, found: &Tally) {
        self.untold.merge(found);
        self.fresh.merge(found);
    }

    /// When to note, on the monotonic clock; `None` = there is nothing to note.
    fn note_due(&self) -> Option<Duration> {
        let first = self.fresh.iter().map(|(_, found)| found.first).min()?;
        let is_new = self.fresh.kinds() & !self.known != 0;
        let allowed = self.noted.filter(|_| !is_new).map_or(Duration::ZERO, |noted| noted.saturating_add(NOTED));
        Some(first.saturating_add(SETTLING).max(allowed))
    }

    /// Enters in the book what is not in it. `wall` is the wall clock at `now`.
    fn enter(&mut self, now: Duration, wall: DateTime<Utc>) {
        let fresh = self.fresh.take();
        (self.known, self.noted) = (self.known | fresh.kinds(), Some(now));
        let moment = |at: Duration| {
            let ago = TimeDelta::from_std(now.saturating_sub(at)).unwrap_or_default();
            wall.checked_sub_signed(ago).unwrap_or(wall)
        };
        let span = |(kind, found): (Kind, media::health::Found)| AbnormalSpan {
            kind: api_kind(kind),
            count: found.count,
            first_time: moment(found.first),
            last_time: moment(found.last),
        };
        self.book.add(&fresh.iter().map(span).collect::<Vec<_>>());
    }

    /// When to tell, on the monotonic clock; `None` = there is nothing to tell.
    fn due(&self) -> Option<Duration> {
        if self.untold.is_empty() {
            return None;
        }
        let first = self.untold.iter().map(|(_, found)| found.first).min()?;
        let is_new = self.untold.kinds() & !self.told != 0;
        let pause = if is_new { NEWS } else { MERGED };
        let allowed = self.last.map_or(Duration::ZERO, |last| last.saturating_add(pause));
        Some(first.saturating_add(SETTLING).max(allowed))
    }

    fn take(&mut self, now: Duration) -> Tally {
        let taken = self.untold.take();
        self.told |= taken.kinds();
        self.last = Some(now);
        taken
    }
}

impl Recording {
    /// Something abnormal was found in its stream.
    pub fn found(&mut self, found: &Tally) {
        self.health.add(found);
    }

    /// Media could not be written.
    pub(super) fn write_failed(&mut self) {
        let mut found = Tally::default();
        found.add(Kind::WriteFailed, 1, self.node.clock.monotonic());
        self.health.add(&found);
    }

    /// When [`Self::tell_health_if_due`] has something to tell, on the monotonic clock.
    pub fn health_due(&self) -> Option<Duration> {
        [self.health.due(), self.health.note_due()].into_iter().flatten().min()
    }

    /// Tells or notes what is due.
    pub fn tell_health_if_due(&mut self, now: Duration) {
        if self.health.due().is_some_and(|at| now >= at) {
            self.tell_health(now);
        } else if self.health.note_due().is_some_and(|at| now >= at) {
            self.health.enter(now, self.node.clock.now());
            self.note_health();
        }
    }

    /// Tells whatever is not told yet.
    pub(super) fn tell_health(&mut self, now: Duration) {
        if self.health.untold.is_empty() {
            return;
        }
        self.health.take(now);
        self.health.enter(now, self.node.clock.now());
        self.tell_book();
    }

    /// Goes on where an earlier process was killed: what no fact tells is told, and what may not be is told again.
    pub(super) fn recall_health(&mut self, book: Abnormal) {
        self.health.book = book;
        if !self.health.book.telling.is_empty() {
            tell_found(&self.node, &self.meta, &self.manifest, &self.health.book);
        }
        if !self.health.book.untold.is_empty() {
            self.tell_book();
        }
    }

    fn tell_book(&mut self) {
        let found = self.health.book.tell();
        let kinds: Vec<&str> = found.iter().map(|span| span.kind.as_str_name()).collect();
        tracing::info!(recording = %self.id(), stream = %self.stream(), ?kinds, "abnormal");
        self.note_health();
        if !self.orphaned {
            tell_found(&self.node, &self.meta, &self.manifest, &self.health.book);
        }
    }

    fn note_health(&self) {
        self.note(Entry::Abnormal(Box::new(self.health.book.clone())));
    }
}

/// Tells what the newest fact of the book is to tell. Its id follows from its number: whether an earlier process has told it
/// already need not be known.
pub(super) fn tell_found(node: &Node, meta: &RecordingMeta, manifest: &Handle, book: &Abnormal) {
    let (recording, epoch) = (meta.recording(), meta.epoch());
    let text = format!("{recording}/{epoch}/abnormal/{}", book.facts, epoch = epoch.get());
    let mut entropy = [0; 10];
    entropy.iter_mut().zip(Sha256::digest(text)).for_each(|(byte, hashed)| *byte = hashed);
    let id = EventId::new(meta.started.start_time, entropy);
    let told = RecordingAbnormal { found: book.telling.clone() };
    let durable = node.facts.enqueue_as(id, node.clock.now(), Some((recording, epoch)), told.into());
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let (manifest, number) = (manifest.clone(), book.facts);
        runtime.spawn(async move {
            if durable.await.is_ok() {
                manifest.note(Entry::AbnormalTold(number));
            }
        });
    }
}

/// The detector's word for a kind in the vocabulary of the API.
fn api_kind(kind: Kind) -> ApiKind {
    match kind {
        Kind::AudioTimestampJump => ApiKind::AudioTimestampJump,
        Kind::VideoTimestampJump => ApiKind::VideoTimestampJump,
        Kind::TimestampsApart => ApiKind::TimestampsApart,
        Kind::VideoTimestampInvalid => ApiKind::VideoTimestampInvalid,
        Kind::NoAudio => ApiKind::NoAudio,
        Kind::NoVideo => ApiKind::NoVideo,
        Kind::AudioTimestampStatic => ApiKind::AudioTimestampStatic,
        Kind::VideoTimestampStatic => ApiKind::VideoTimestampStatic,
        Kind::AudioTimestampInvalid => ApiKind::AudioTimestampInvalid,
        Kind::ResolutionChanged => ApiKind::ResolutionChanged,
        Kind::WriteFailed => ApiKind::WriteFailed,
        Kind::CodecChanged => ApiKind::CodecChanged,
        Kind::VideoFramesDropped => ApiKind::VideoFramesDropped,
        Kind::AudioFramesDropped => ApiKind::AudioFramesDropped,
        Kind::GopAbnormal => ApiKind::GopAbnormal,
        Kind::AudioTimestampUneven => ApiKind::AudioTimestampUneven,
        Kind::VideoTimestampUneven => ApiKind::VideoTimestampUneven,
    }
}

/// Every code, and from when on it is told, as a Markdown table.
pub fn abnormal_codes() -> String {
    let mut table = String::from("| code | `kind` | level | told when |\n|---|---|---|---|\n");
    for kind in Kind::ALL.iter().copied() {
        let Some(known) = Abnormality::of(api_kind(kind)) else { continue };
        let (name, level) = (known.kind.as_str_name(), known.level.as_str_name().to_lowercase());
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {} | `{name}` | {level} | {} |", known.code, kind.when());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn every_kind_has_its_word_in_the_api() {
        let codes: Vec<i32> = Kind::ALL.iter().map(|kind| Abnormality::of(api_kind(*kind)).unwrap().code).collect();
        assert_eq!(codes, recorder_proto::health::ABNORMALITIES.iter().map(|known| known.code).collect::<Vec<_>>());
        assert_eq!(abnormal_codes().lines().count(), codes.len() + 2);
    }

    #[test]
    fn what_is_new_is_told_soon_and_what_goes_on_is_merged() {
        let mut health = Health::default();
        assert_eq!(health.due(), None);
        health.untold.add(Kind::NoVideo, 1, at(100));
        assert_eq!(health.due(), Some(at(101)));
        health.untold.add(Kind::NoAudio, 1, at(100));
        assert_eq!(health.take(at(101)).iter().count(), 2);
        assert_eq!(health.due(), None);
        health.untold.add(Kind::NoVideo, 1, at(102));
        assert_eq!(health.due(), Some(at(161)), "of the same, once a minute");
        health.untold.add(Kind::GopAbnormal, 1, at(103));
        assert_eq!(health.due(), Some(at(106)), "something new does not wait, and takes the rest along");
        assert_eq!(health.take(at(106)).count(Kind::NoVideo), 1);
    }

    #[test]
    fn what_is_new_is_noted_at_once_and_more_of_it_every_five_seconds() {
        let (mut health, wall) = (Health::default(), DateTime::UNIX_EPOCH);
        let found = |kind, at| {
            let mut tally = Tally::default();
            tally.add(kind, 1, at);
            tally
        };
        health.add(&found(Kind::NoVideo, at(100)));
        assert_eq!((health.due(), health.note_due()), (Some(at(101)), Some(at(101))));
        health.take(at(101));
        health.enter(at(101), wall);
        assert_eq!(health.note_due(), None, "what is told is noted");
        let mut notes = 0;
        for second in 102..160 {
            health.add(&found(Kind::NoVideo, at(second)));
            assert!(health.due().is_some_and(|due| due > at(second)), "of the same, once a minute");
            if health.note_due().is_some_and(|due| at(second) >= due) {
                health.enter(at(second), wall);
                notes += 1;
            }
        }
        assert_eq!(notes, 11);
        health.add(&found(Kind::NoAudio, at(160)));
        assert!(health.note_due().is_some_and(|due| due <= at(161)), "something new does not wait");
        assert!(health.book.found[0].count >= 55, "{:?}", health.book);
        assert_eq!(health.book.found, health.book.untold);
    }

    /// An encoder that is broken in every way, for an hour.
    #[test]
    fn a_broken_encoder_cannot_flood() {
        let (mut health, mut told) = (Health::default(), Vec::new());
        for second in 0..3_600 {
            Kind::ALL.iter().for_each(|kind| health.untold.add(*kind, 1_000, at(second)));
            if health.due().is_some_and(|due| at(second) >= due) {
                health.take(at(second));
                told.push(second);
            }
        }
        assert_eq!(told.len(), 60, "{told:?}");
        let (mut health, mut told) = (Health::default(), 0);
        for second in 0..120 {
            let kind = Kind::ALL[second as usize % Kind::ALL.len()];
            health.untold.add(kind, 1, at(second));
            if health.due().is_some_and(|due| at(second) >= due) {
                health.take(at(second));
                told += 1;
            }
        }
        assert!(told <= 7, "a new kind every second was told in {told} reports");
    }
}
