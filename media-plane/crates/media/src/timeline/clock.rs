//! Unwraps the publisher's counters and keeps the publication's clock going across whatever they do.

use std::time::Duration;

use super::{Counts, Timed};
use crate::ingest::{RawFrame, SourceTime};
use crate::{CodecConfig, Frame, Gap, GapReason, MediaTime, TrackKind};

/// A step back of more than this is a restarted clock; less is jitter, and the frame is moved instead.
const MAX_BACKWARD: i64 = MediaTime::SCALE;
/// A step forward of more than this, while the other track did not pass the time either, is a jumped clock.
const MAX_FORWARD: i64 = 10 * MediaTime::SCALE;
/// Tracks this far apart still belong to one clock (publishers start them seconds apart).
const MAX_APART: i64 = 10 * MediaTime::SCALE;
/// How far after the last frame the timeline resumes at least: the other track's first frames interleave within this.
const MIN_RESUME: i64 = MediaTime::SCALE / 10;
/// No stall longer than this is taken from arrival times: nothing waits so long for a publisher without an interruption.
const MAX_STALL: i64 = 1_800 * MediaTime::SCALE;
/// The longest interruption: a publisher is waited for for half an hour, after it took a while to notice that it is gone.
const MAX_INTERRUPTION: i64 = 2 * MAX_STALL;
/// Composition offsets beyond this are garbage; no encoder reorders over ten seconds.
const MAX_COMPOSITION: i64 = 10 * MediaTime::SCALE;
/// Frames with one timestamp may run ahead of it by this much (a few sound frames sent as one); more, and the counter
/// stands still.
const MAX_LEAD: i64 = MediaTime::SCALE / 5;
/// Frame duration assumed until the track shows its own.
const DEFAULT_DURATION: i64 = MediaTime::SCALE / 30;

/// Output time = source time + `base` of the track. A jump changes the base; both tracks move by the same amount, each
/// when its own timestamps jump, so that picture and sound keep their offset.
#[derive(Debug, Default)]
pub(super) struct Clock {
    video: Track,
    audio: Track,
    /// Newest output time of any track, and when it arrived.
    latest: Option<(i64, Duration)>,
    /// Output minus source time since the last jump.
    base: i64,
    /// Counts jumps; a track with a lower number has not jumped yet.
    epoch: u64,
    /// The next frame begins a new source clock.
    interrupted: Option<GapReason>,
    /// How long nothing came before `latest` was noted, in ticks: the absence of an earlier process.
    before: i64,
}

#[derive(Debug, Default)]
struct Track {
    source: Option<Source>,
    /// Last output DTS.
    last: Option<i64>,
    /// Frame duration, for frames whose timestamps stand still.
    duration: i64,
    /// The duration comes from the codec's configuration.
    exact: bool,
    /// Frames in front of the next one did not arrive.
    lost: bool,
}

/// A track's counter since it was last given an anchor.
#[derive(Clone, Copy, Debug)]
struct Source {
    time: SourceTime,
    /// The counter without wraps.
    ticks: i64,
    /// Added to this track's source time on top of the common base, when its clock is not the other track's.
    align: i64,
    base: i64,
    epoch: u64,
}

impl Source {
    /// Source time in timeline ticks, on the clock both tracks share.
    fn shared(&self) -> i64 {
        convert(self.ticks, self.time.scale).saturating_add(self.align)
    }

    fn advanced(&self, time: SourceTime) -> Self {
        Self { time, ticks: self.ticks.saturating_add(unwrapped_step(self.time, time)), ..*self }
    }
}

impl Clock {
    pub(super) fn configured(&mut self, track: TrackKind, config: &CodecConfig) {
        if let CodecConfig::Aac(aac) = config {
            let duration = i64::from(aac.samples_per_frame) * MediaTime::SCALE / i64::from(aac.sample_rate.max(1));
            let track = self.track(track);
            (track.duration, track.exact) = (duration, true);
        }
    }

    pub(super) fn lost(&mut self, track: TrackKind) {
        self.track(track).lost = true;
    }

    pub(super) fn interrupt(&mut self, reason: GapReason) {
        if self.latest.is_some() && self.interrupted.is_none() {
            self.interrupted = Some(reason);
        }
    }

    pub(super) fn go_on(&mut self, latest: MediaTime, ago: Duration, now: Duration, reason: GapReason) {
        self.latest = Some((latest.0, now));
        (self.video.last, self.audio.last) = (Some(latest.0), Some(latest.0));
        self.before = MediaTime::from_duration(ago).0;
        self.interrupted = Some(reason);
    }

    pub(super) fn push(&mut self, frame: RawFrame, arrival: Duration, counts: &mut Counts, out: &mut Vec<Timed>) {
        let repeated = self.track(frame.track).source.is_some_and(|source| source.time == frame.time);
        let source = self.locate(&frame, arrival, counts, out);
        let mut dts = source.shared().saturating_add(source.base);
        let track = self.track(frame.track);
        track.source = Some(source);
        let was_lost = std::mem::take(&mut track.lost);
        if let Some(last) = track.last {
            dts = track.advance(last, dts, repeated, counts);
            if was_lost {
                let (starts_at, resumes_at) = (MediaTime(last), MediaTime(dts));
                out.push(Timed::Gap(Gap { starts_at, resumes_at, reason: GapReason::FramesLost }));
            }
        }
        track.last = Some(dts);
        if self.latest.is_none_or(|(latest, _)| dts > latest) {
            self.latest = Some((dts, arrival));
        }
        let mut composition = convert(i64::from(frame.composition), frame.time.scale);
        if composition.abs() > MAX_COMPOSITION {
            counts.composition += 1;
            composition = 0;
        }
        counts.emitted += 1;
        out.push(Timed::Frame(Frame {
            track: frame.track,
            dts: MediaTime(dts),
            pts: MediaTime(dts.saturating_add(composition)),
            keyframe: frame.keyframe,
            data: frame.data,
        }));
    }

    /// Finds where on the shared source clock the frame is, starting a new epoch if the publisher's clock jumped.
    fn locate(&mut self, frame: &RawFrame, arrival: Duration, counts: &mut Counts, out: &mut Vec<Timed>) -> Source {
        if let Some(reason) = self.interrupted.take() {
            (self.video.source, self.audio.source) = (None, None);
            let fresh = Source { time: frame.time, ticks: i64::from(frame.time.value), align: 0, base: 0, epoch: 0 };
            let resumes_at = self.resume(arrival, MAX_INTERRUPTION);
            return self.jump(fresh, resumes_at, reason, out);
        }
        let other = self.other(frame.track).source;
        let Some(previous) = self.track(frame.track).source.filter(|source| source.time.scale == frame.time.scale)
        else {
            return self.first_of_track(frame, other, arrival, counts);
        };
        let source = previous.advanced(frame.time);
        let last = self.track(frame.track).last.unwrap_or(0);
        let step = source.shared().saturating_add(source.base).saturating_sub(last);
        let repeated = source.ticks == previous.ticks;
        if repeated || (-MAX_BACKWARD..=MAX_FORWARD).contains(&step) {
            return source;
        }
        if let Some(other) = other {
            let apart = source.shared().saturating_sub(other.shared());
            // Only this track was silent: the other one passed the time, so it is real.
            if step > 0 && other.epoch == source.epoch && apart <= MAX_FORWARD {
                return source;
            }
            // The other track has jumped before, and this one follows.
            if other.epoch > source.epoch && apart.abs() <= MAX_APART {
                return Source { base: other.base, epoch: other.epoch, ..source };
            }
        }
        counts.jumps += 1;
        let resumes_at = self.resume(arrival, MAX_STALL);
        self.jump(source, resumes_at, GapReason::FramesRejected, out)
    }

    fn first_of_track(
        &mut self,
        frame: &RawFrame,
        other: Option<Source>,
        arrival: Duration,
        counts: &mut Counts,
    ) -> Source {
        let value = i64::from(frame.time.value);
        let mut source = Source { time: frame.time, ticks: value, align: 0, base: self.base, epoch: self.epoch };
        let Some(other) = other else {
            if self.latest.is_some() {
                // This very track began to count in another unit: go on from what is out.
                source.base = self.resume(arrival, MAX_STALL).saturating_sub(source.shared());
            } else {
                source.base = source.shared().saturating_neg();
            }
            self.base = source.base;
            return source;
        };
        (source.base, source.epoch) = (other.base, other.epoch);
        if other.time.scale == frame.time.scale {
            source.ticks = other.ticks.saturating_add(unwrapped_step(other.time, frame.time));
            source.align = other.align;
            if source.shared().saturating_sub(other.shared()).abs() <= MAX_APART {
                return source;
            }
        }
        counts.aligned_by_arrival += 1;
        if let Some((latest, at)) = self.latest {
            let now = latest.saturating_add(ticks_between(at, arrival).min(MAX_FORWARD));
            source.align = source.align.saturating_add(now.saturating_sub(source.shared().saturating_add(source.base)));
        }
        source
    }

    /// Begins a new epoch in which this frame resumes the timeline.
    fn jump(&mut self, source: Source, resumes_at: i64, reason: GapReason, out: &mut Vec<Timed>) -> Source {
        let (latest, _) = self.latest.unwrap_or_default();
        self.before = 0;
        self.epoch += 1;
        self.base = resumes_at.saturating_sub(source.shared());
        out.push(Timed::Gap(Gap { starts_at: MediaTime(latest), resumes_at: MediaTime(resumes_at), reason }));
        Source { base: self.base, epoch: self.epoch, ..source }
    }

    /// With the publisher's clock gone, arrival is the only witness of how long the hole is.
    fn resume(&self, arrival: Duration, longest: i64) -> i64 {
        let (latest, at) = self.latest.unwrap_or((0, arrival));
        let away = ticks_between(at, arrival).saturating_add(self.before);
        latest.saturating_add(away.clamp(MIN_RESUME, longest))
    }

    fn track(&mut self, kind: TrackKind) -> &mut Track {
        match kind {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        }
    }

    fn other(&self, kind: TrackKind) -> &Track {
        match kind {
            TrackKind::Video => &self.audio,
            TrackKind::Audio => &self.video,
        }
    }
}

impl Track {
    /// The DTS to use instead of `dts`, so that it strictly increases.
    fn advance(&mut self, last: i64, dts: i64, repeated: bool, counts: &mut Counts) -> i64 {
        if repeated {
            counts.repeated += 1;
            let duration = if self.duration > 0 { self.duration } else { DEFAULT_DURATION };
            let spaced = last.saturating_add(duration);
            let lead = spaced.saturating_sub(dts);
            if lead > MAX_LEAD
                && let Some(source) = &mut self.source
            {
                // The counter stands still for good: from now on frames make the time.
                source.align = source.align.saturating_add(lead);
            }
            return spaced.max(dts);
        }
        if dts <= last {
            counts.bumped += 1;
            return last.saturating_add(1);
        }
        if !self.exact && dts - last <= MediaTime::SCALE {
            self.duration = dts - last;
        }
        dts
    }
}

/// The signed step between two counter values of one scale, seen through a wrap at 2^32 or (OBS masks the top bit of
/// the timestamp) at 2^31.
pub(crate) fn unwrapped_step(from: SourceTime, to: SourceTime) -> i64 {
    let step = i64::from(to.value.wrapping_sub(from.value) as i32);
    let halved = step + (1 << 31);
    let near = |step: i64| convert(step, to.scale).abs() <= MAX_FORWARD;
    if !near(step) && near(halved) && from.value < 1 << 31 && to.value < 1 << 31 { halved } else { step }
}

/// Ticks of a scale in those of the timeline.
pub(crate) fn convert(ticks: i64, scale: u32) -> i64 {
    // The scales there are, without a division of 128 bits for every frame.
    if let (1_000 | 90_000, Some(exact)) = (scale, ticks.checked_mul(MediaTime::SCALE / i64::from(scale.max(1)))) {
        return exact.clamp(i64::MIN / 4, i64::MAX / 4);
    }
    let scale = i128::from(scale.max(1));
    let scaled = i128::from(ticks) * i128::from(MediaTime::SCALE) + scale / 2;
    scaled.div_euclid(scale).clamp(i128::from(i64::MIN / 4), i128::from(i64::MAX / 4)) as i64
}

fn ticks_between(earlier: Duration, later: Duration) -> i64 {
    MediaTime::from_duration(later.saturating_sub(earlier)).0
}
