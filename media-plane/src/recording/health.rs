//! The health report of a recording: what was found is merged, so that a broken encoder cannot flood the control plane.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::TimeDelta;
use media::health::{Kind, Tally};
use recorder_proto::facts::{AbnormalSpan, RecordingAbnormal};
use recorder_proto::health::Abnormality;
use recorder_proto::pb::v1::health::Kind as ApiKind;

use super::Recording;

/// What is found at once, in both tracks for example, is told at once.
const SETTLING: Duration = Duration::from_secs(1);
/// Pause before something of another kind is told.
const NEWS: Duration = Duration::from_secs(5);
/// Pause before more of the same is told; the vendor merges for up to two minutes.
const MERGED: Duration = Duration::from_secs(60);

/// What was found, and what of it is told.
#[derive(Debug, Default)]
pub(super) struct Health {
    untold: Tally,
    /// A bit for each kind that was ever told.
    told: u32,
    /// When something was told, on the monotonic clock.
    last: Option<Duration>,
}

impl Health {
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
        self.health.untold.merge(found);
    }

    /// Media could not be written.
    pub(super) fn write_failed(&mut self) {
        self.health.untold.add(Kind::WriteFailed, 1, self.node.clock.monotonic());
    }

    /// When [`Self::tell_health_if_due`] has something to tell, on the monotonic clock.
    pub fn health_due(&self) -> Option<Duration> {
        self.health.due()
    }

    /// Tells what is due.
    pub fn tell_health_if_due(&mut self, now: Duration) {
        if self.health.due().is_some_and(|at| now >= at) {
            self.tell_health(now);
        }
    }

    /// Tells whatever is not told yet.
    pub(super) fn tell_health(&mut self, now: Duration) {
        if self.health.untold.is_empty() {
            return;
        }
        let (taken, wall) = (self.health.take(now), self.node.clock.now());
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
        let found: Vec<AbnormalSpan> = taken.iter().map(span).collect();
        let kinds: Vec<&str> = found.iter().map(|span| span.kind.as_str_name()).collect();
        tracing::info!(recording = %self.id(), stream = %self.stream(), ?kinds, "abnormal");
        self.tell(RecordingAbnormal { found });
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
