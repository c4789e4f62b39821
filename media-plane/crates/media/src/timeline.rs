//! From the publisher's clocks to one continuous timeline: joins split pictures, then gives every frame its time.
//!
//! Two stages. `assemble` joins messages that are one access unit; `clock` unwraps each track's counter and maps it
//! onto the publication's timeline, whatever the publisher's clock does. Neither reads a clock or blocks.

mod assemble;
mod clock;
#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::health::{Detector, Tally};
use crate::ingest::{Event, RawFrame};
use crate::{CodecConfig, Frame, Gap, GapReason, MediaTime, TrackKind};

use assemble::Assembler;
use clock::Clock;
pub(crate) use clock::{convert, unwrapped_step};

/// What leaves the timeline, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Timed {
    /// The configuration of a track: precedes the frames that need it.
    Config(TrackKind, CodecConfig),
    /// A hole: what follows continues at [`Gap::resumes_at`].
    Gap(Gap),
    /// A frame with its time.
    Frame(Frame),
}

/// What the timeline had to correct.
///
/// Every frame that goes in comes out, or is counted as `merged` or `rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames pushed.
    pub received: u64,
    /// Frames that came out.
    pub emitted: u64,
    /// Messages joined to the access unit before them.
    pub merged: u64,
    /// Frames without payload or without a time scale.
    pub rejected: u64,
    /// Frames moved by one tick because their time did not advance.
    pub bumped: u64,
    /// Frames whose timestamp equalled the one before; spaced by the track's frame duration instead.
    pub repeated: u64,
    /// Jumps of the publisher's clock, each with a [`Gap`].
    pub jumps: u64,
    /// Composition offsets beyond reason, replaced by 0.
    pub composition: u64,
    /// Tracks whose clock has nothing to do with the other track's and which were aligned by arrival.
    pub aligned_by_arrival: u64,
}

/// The publication's one clock. See the module.
///
/// The first frame is at [`MediaTime::ZERO`]; the other track may begin up to 10 s before it, at a negative
/// time, if the publisher says so.
#[derive(Debug, Default)]
pub struct Timeline {
    assembler: Assembler,
    clock: Clock,
    counts: Counts,
    health: Detector,
}

impl Timeline {
    /// A timeline that starts with the next frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a frame that arrived at `arrival` (on any monotonic clock; only differences count, and only when the
    /// publisher's own clock has jumped). A video frame comes out when the next one shows that it is complete.
    pub fn push(&mut self, frame: RawFrame, arrival: Duration, out: &mut Vec<Timed>) {
        self.counts.received += 1;
        if frame.data.is_empty() || frame.time.scale == 0 {
            self.counts.rejected += 1;
            return;
        }
        let (clock, counts, health) = (&mut self.clock, &mut self.counts, &mut self.health);
        self.assembler.push(frame, arrival, &mut |frame, arrival, merged| {
            counts.merged += merged;
            health.frame(&frame, arrival);
            clock.push(frame, arrival, counts, out);
        });
    }

    /// Passes a configuration through, in order with the frames.
    pub fn config(&mut self, track: TrackKind, config: CodecConfig, out: &mut Vec<Timed>) {
        self.flush(out);
        self.clock.configured(track, &config);
        if track == TrackKind::Video {
            self.assembler.configured(config.codec());
        }
        out.push(Timed::Config(track, config));
    }

    /// Frames of this track did not arrive: its next one comes after a [`Gap`] that reaches from its last one to it.
    pub fn lost(&mut self, track: TrackKind, out: &mut Vec<Timed>) {
        self.flush(out);
        self.clock.lost(track);
    }

    /// The source went away; the next frame begins a new source clock after a [`Gap`] for this reason, as long as the
    /// pause between the arrivals. The first of several reasons counts.
    pub fn interrupt(&mut self, reason: GapReason, out: &mut Vec<Timed>) {
        self.flush(out);
        self.health.interrupt();
        self.clock.interrupt(reason);
    }

    /// Goes on with the timeline of an earlier process, which ended at `latest`; that was `ago` before `now`. The first
    /// frame comes after a [`Gap`] for this reason, as long as that and the wait from `now` on; of no track anything comes
    /// at or before `latest`.
    pub fn go_on(&mut self, latest: MediaTime, ago: Duration, now: Duration, reason: GapReason) {
        self.clock.go_on(latest, ago, now, reason);
    }

    /// Lets go of the frame held back; call at the end of the publication.
    pub fn flush(&mut self, out: &mut Vec<Timed>) {
        let (clock, counts, health) = (&mut self.clock, &mut self.counts, &mut self.health);
        self.assembler.flush(&mut |frame, arrival, merged| {
            counts.merged += merged;
            health.frame(&frame, arrival);
            clock.push(frame, arrival, counts, out);
        });
    }

    /// Looks at an event that arrived at `at` for the health report only; frames are looked at when they are whole.
    pub fn watch(&mut self, event: &Event, at: Duration) {
        self.health.event(event, at);
    }

    /// What is abnormal in what came.
    pub fn health(&mut self) -> &mut Tally {
        self.health.tally()
    }

    /// What was corrected so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}
