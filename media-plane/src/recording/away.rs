//! A recording whose publisher is away: how long it waits, format by format, and how it goes on.
//!
//! The window counts from the last frame, whatever ended the publisher (goodbye, lost connection, silence): a gap of at
//! most `resume_timeout` is one file. Formats wait each for its own time; the recording waits for the longest.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use media::GapReason;
use recorder_proto::facts::{RecordingInterrupted, RecordingResumed};
use recorder_proto::ids::SessionId;
use recorder_proto::pb::v1::recording::EndReason;

use super::report::{gap_reason, span};
use super::{Recording, micros};
use crate::manifest::Entry;

/// Since when nothing comes.
#[derive(Clone, Copy, Debug)]
pub struct Absence {
    /// How long at the moment `noted`.
    gone: Duration,
    /// On the monotonic clock.
    noted: Duration,
    /// Why.
    pub(super) reason: GapReason,
}

impl Absence {
    /// An absence that has lasted for `gone` at `now` on the monotonic clock.
    pub fn new(gone: Duration, now: Duration, reason: GapReason) -> Self {
        Self { gone, noted: now, reason }
    }

    /// How long it has lasted.
    fn lasted(&self, now: Duration) -> Duration {
        self.gone.saturating_add(now.saturating_sub(self.noted))
    }

    /// When it will have lasted for `length`, on the monotonic clock.
    fn when(&self, length: Duration) -> Duration {
        self.noted.saturating_add(length.saturating_sub(self.gone))
    }
}

/// What a recording without publisher does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Look again at this moment of the monotonic clock.
    Until(Duration),
    /// It has waited long enough.
    Over(EndReason),
}

impl Recording {
    /// The longest time any of its formats waits for its publisher.
    pub fn window(&self) -> Duration {
        self.outputs.iter().map(super::output::OutputPipe::window).max().unwrap_or_default()
    }

    /// Whether its publisher is away.
    pub fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// The publisher is away. What there is becomes durable; formats whose time is over close their files.
    pub fn publisher_lost(&mut self, absence: Absence, now: Duration) -> Waiting {
        if self.away.is_some() {
            return self.wait(now);
        }
        self.away = Some(absence);
        let waiting = self.wait(now);
        if matches!(waiting, Waiting::Until(_)) {
            let since = moment_before(self.node.clock.now(), absence.lasted(now));
            let window = TimeDelta::from_std(self.window()).unwrap_or(TimeDelta::MAX);
            let interrupted = RecordingInterrupted {
                since,
                resume_deadline: since.checked_add_signed(window).unwrap_or(since),
                reason: gap_reason(absence.reason),
                media_duration_micros: micros(self.media_duration()),
                outputs: self.totals(),
            };
            tracing::info!(recording = %self.id(), stream = %self.stream(), until = %interrupted.resume_deadline, "waiting");
            self.note(Entry::Interrupted(interrupted.clone()));
            self.tell(interrupted);
        }
        waiting
    }

    /// Goes on waiting as an earlier process did: what there was to tell is told.
    pub fn still_lost(&mut self, absence: Absence, now: Duration) -> Waiting {
        self.away = Some(absence);
        self.wait(now)
    }

    /// What is due at `now`.
    pub fn wait(&mut self, now: Duration) -> Waiting {
        let Some(absence) = self.away else { return Waiting::Until(Duration::MAX) };
        let gone = absence.lasted(now);
        let window = self.window();
        let left = self.max_duration.map(|limit| limit.saturating_sub(self.recorded()));
        if left.is_some_and(|left| gone >= left && left < window) {
            return Waiting::Over(EndReason::MaxDuration);
        }
        if gone >= window {
            return Waiting::Over(EndReason::ResumeTimeout);
        }
        let mut next = left.map_or(window, |left| left.min(window));
        self.every_output(|output| {
            let due = output.wait(gone)?;
            next = due.map_or(next, |due| next.min(due));
            Ok(())
        });
        if self.outputs.is_empty() {
            return Waiting::Over(EndReason::Error);
        }
        Waiting::Until(absence.when(next))
    }

    /// The publisher is back under this session; what its first frame shows is told then.
    pub fn publisher_returned(&mut self, session: SessionId) {
        self.session = session;
    }

    /// The first frame after an absence.
    pub(super) fn resumed(&mut self, gap: &media::Gap) {
        let gap = span(&self.wall(), gap);
        let resumed = RecordingResumed { session: self.session, time: self.node.clock.now(), gap };
        tracing::info!(recording = %self.id(), stream = %self.stream(), "the publisher is back");
        self.told_session = self.session;
        self.note(Entry::Resumed(resumed.clone()));
        self.tell(resumed);
    }
}

fn moment_before(now: DateTime<Utc>, lasted: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(lasted).ok().and_then(|lasted| now.checked_sub_signed(lasted)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_counts_from_the_last_frame_even_across_a_restart() {
        let seconds = Duration::from_secs;
        // 40 s gone when the process was 1 s old.
        let absence = Absence::new(seconds(40), seconds(1), GapReason::NodeCrashed);
        assert_eq!(absence.lasted(seconds(6)), seconds(45));
        assert_eq!(absence.when(seconds(60)), seconds(21));
        assert_eq!(absence.when(seconds(10)), seconds(1), "never before it was noted");
    }
}
