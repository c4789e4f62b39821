//! What is abnormal in the stream, on its way to the recordings that are made of it.

use std::time::Duration;

use media::TrackKind;
use media::health::Kind;

use super::Publication;
use crate::recording::Recording;

impl Publication {
    /// Hands on what was found, and has told what is due. Costs a look when there is nothing.
    pub(super) fn weigh(&mut self, now: Duration) {
        if !self.timeline.health().is_empty() {
            self.hand_on();
        }
        self.recordings.iter_mut().for_each(|recording| recording.tell_health_if_due(now));
    }

    /// Jumps of a track's clock that the protocol session has taken out.
    pub fn clock_jumped(&mut self, track: TrackKind, times: u64, now: Duration) {
        let kind = match track {
            TrackKind::Video => Kind::VideoTimestampJump,
            TrackKind::Audio => Kind::AudioTimestampJump,
        };
        self.timeline.health().add(kind, times, now);
        self.weigh(now);
    }

    /// When a recording has something to tell, on the monotonic clock.
    pub(super) fn health_due(&self) -> Option<Duration> {
        self.recordings.iter().filter_map(Recording::health_due).min()
    }

    /// What is found while the first recordings are about to begin waits for them. Of a stream that is not recorded
    /// nobody is told anything.
    fn hand_on(&mut self) {
        let is_beginning = self.tracks.is_none() || self.starting.is_some();
        if self.recordings.is_empty() && is_beginning {
            return;
        }
        let found = self.timeline.health().take();
        self.recordings.iter_mut().for_each(|recording| recording.found(&found));
    }
}
