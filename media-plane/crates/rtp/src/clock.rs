//! RTP timestamps of both tracks to one clock (RFC 3550, 6.4.1).
//!
//! RTP timestamps start anywhere and run at the speed of the device that made them; sender reports say what the
//! publisher's wall clock read at one of them. With reports of both tracks, time is the publisher's wall clock. Until
//! then, and for publishers that send none, both tracks are put on the clock of their arrival by their least delay.
//! Every change of mind is slewed: the picture by at most 5 %, where nobody notices, the sound by at most 0.5 %; on
//! arrival times alone both at the same 0.5 % or 0.05 %, so that a slower way cannot pull them apart.

mod reports;
mod source;

use std::collections::HashMap;
use std::time::Duration;

use media::TrackKind;
use media::ingest::SourceTime;

use crate::counts::ClockCounts;
use reports::Early;
use source::{MILLIS, Nanos, SECOND, Source};

/// Ticks per second of what comes out: that of the recorder's timeline.
pub(crate) const SCALE: u32 = 90_000;
/// Without a sender report for so long, arrival takes over again.
const REPORTS_EXPIRE: Nanos = 60 * SECOND;
/// A source aligned by its first arrival is improved upon quickly for so long.
const SETTLING: Nanos = 3 * SECOND;
/// Arrival puts the picture so much nearer to the sound than it is: it was still catching up when it began to leave.
const APART: Nanos = 100 * MILLIS;
/// No encoder delays one track by so much more than the other; reports that say so are wrong.
const ABSURD: Nanos = 3 * SECOND;
/// The clock is not moved by more than this share of a single pause.
const MAX_PAUSE: Nanos = 10 * SECOND;

/// The clock of a publisher.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    sources: HashMap<u32, Source>,
    video: Track,
    audio: Track,
    /// Time minus the publisher's wall clock, once reports of both tracks were there.
    base: Option<Nanos>,
    early: Early,
    counts: ClockCounts,
}

/// What is delivered of one track.
#[derive(Debug, Default)]
struct Track {
    /// The source being delivered, or the first that was seen.
    source: Option<u32>,
    /// Added to the source's time.
    offset: Nanos,
    /// The delay of this track that arrival times are held against.
    delay: Nanos,
    /// Source time of the newest frame delivered.
    latest: Option<Nanos>,
}

impl Clock {
    /// Takes a packet of a source, newer than all of it before, at its arrival.
    pub(crate) fn observe(&mut self, kind: TrackKind, ssrc: u32, rate: u32, timestamp: u32, arrival: Duration) {
        let arrival = nanos(arrival);
        let alone = self.is_in_time(other(kind), arrival);
        if let Some(source) = self.sources.get_mut(&ssrc) {
            let jumped = u64::from(source.observe(timestamp, arrival, alone));
            self.counts.timestamp_jumps += jumped;
            self.counts.sound_jumps += if kind == TrackKind::Audio { jumped } else { 0 };
            return self.synchronise(arrival);
        }
        let track = self.track(kind);
        let time = arrival - track.delay - track.offset;
        track.source.get_or_insert(ssrc);
        self.sources.insert(ssrc, Source::new(kind, rate, timestamp, time, arrival));
        if let Some(report) = self.early.take(ssrc) {
            self.report(ssrc, report.ntp, report.timestamp, report.arrival);
        }
    }

    /// Forgets a source that is gone.
    pub(crate) fn forget(&mut self, ssrc: u32) {
        if ![self.video.source, self.audio.source].contains(&Some(ssrc)) {
            self.sources.remove(&ssrc);
        }
    }

    /// Sender reports have put both tracks on one clock.
    pub(crate) fn is_synchronised(&self) -> bool {
        self.base.is_some()
    }

    /// A track sends faster than time passes, so that nobody knows yet what its times are.
    pub(crate) fn is_catching_up(&self, now: Duration) -> bool {
        self.is_catching_up_at(nanos(now))
    }

    fn is_catching_up_at(&self, now: Nanos) -> bool {
        let chosen = [self.video.source, self.audio.source].into_iter().flatten();
        chosen.filter_map(|ssrc| self.sources.get(&ssrc)).any(|source| source.is_catching_up(now))
    }

    /// The time of the next frame of a track, in ticks.
    pub(crate) fn time(&mut self, kind: TrackKind, ssrc: u32, timestamp: u32) -> i64 {
        let Some(source) = self.sources.get(&ssrc) else { return 0 };
        let (time, delay) = (source.locate_frame(timestamp), source.delay());
        let is_new = source.seen - source.aligned < SETTLING;
        self.choose(kind, ssrc);
        let (target, is_reported) = self.target(kind);
        let peer = self.target(other(kind)).0 - self.track_ref(other(kind)).offset;
        let track = self.track(kind);
        let step = time.saturating_sub(track.latest.unwrap_or(time)).clamp(0, MAX_PAUSE);
        let wanted = target - track.offset;
        let per_mille_tenths = match (is_reported, kind) {
            (true, TrackKind::Video) => 500,
            (true, TrackKind::Audio) => 50,
            (false, TrackKind::Video) if wanted < 0 && (is_new || wanted - peer < -APART) => 500,
            (false, _) if wanted < 0 => 50,
            (false, _) => 5,
        };
        let most = step / 10_000 * per_mille_tenths;
        track.offset += if track.latest.is_none() { wanted } else { wanted.clamp(-most, most) };
        if is_reported {
            // Where reports end, arrival goes on from here.
            track.delay = delay - track.offset;
        }
        let ticks = ticks(time + track.offset);
        track.latest = Some(track.latest.map_or(time, |latest| latest.max(time)));
        self.counts.correction_micros = (target - self.track(kind).offset) / 1_000;
        ticks
    }

    /// Where a frame would be, without delivering it.
    pub(crate) fn preview(&self, kind: TrackKind, ssrc: u32, timestamp: u32) -> i64 {
        let time = self.sources.get(&ssrc).map_or(0, |source| source.locate_frame(timestamp));
        let track = self.track_ref(kind);
        let offset = if track.latest.is_some() { track.offset } else { self.target(kind).0 };
        ticks(time + offset)
    }

    /// What was corrected.
    pub(crate) fn counts(&self) -> ClockCounts {
        self.counts
    }

    /// From now on this source is what the track is made of.
    fn choose(&mut self, kind: TrackKind, ssrc: u32) {
        if self.track(kind).source == Some(ssrc) {
            return;
        }
        self.track(kind).source = Some(ssrc);
        // Where its first arrival put the new source is nobody's time; more may be known by now.
        self.track(kind).offset = self.target(kind).0;
    }

    /// The offset a track should have, and whether sender reports say so.
    fn target(&self, kind: TrackKind) -> (Nanos, bool) {
        let track = self.track_ref(kind);
        let Some(source) = track.source.and_then(|ssrc| self.sources.get(&ssrc)) else { return (track.offset, false) };
        let by_arrival = source.delay() - track.delay;
        let relation = source.believed().filter(|relation| source.seen - relation.at < REPORTS_EXPIRE);
        match self.base.zip(relation).map(|(base, relation)| base.saturating_add(relation.value)) {
            Some(by_report) if by_report.saturating_sub(by_arrival).saturating_abs() <= ABSURD => (by_report, true),
            _ => (by_arrival, false),
        }
    }

    fn is_in_time(&self, kind: TrackKind, now: Nanos) -> bool {
        let source = self.track_ref(kind).source.and_then(|ssrc| self.sources.get(&ssrc));
        source.is_some_and(|source| now - source.seen < SECOND && source.lateness() < SECOND)
    }

    fn track(&mut self, kind: TrackKind) -> &mut Track {
        match kind {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        }
    }

    fn track_ref(&self, kind: TrackKind) -> &Track {
        match kind {
            TrackKind::Video => &self.video,
            TrackKind::Audio => &self.audio,
        }
    }
}

/// Ticks as the wrapping counter that [`media::Timeline`] takes for the publisher's clock.
pub(crate) fn source_time(ticks: i64) -> SourceTime {
    SourceTime { value: ticks as u32, scale: SCALE }
}

fn other(kind: TrackKind) -> TrackKind {
    match kind {
        TrackKind::Video => TrackKind::Audio,
        TrackKind::Audio => TrackKind::Video,
    }
}

fn nanos(time: Duration) -> Nanos {
    // A century; nothing here is that old, and sums of a few stay in range.
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX).min(100 * 366 * 86_400 * SECOND)
}

fn ticks(time: Nanos) -> i64 {
    let (whole, rest) = (time.div_euclid(SECOND), time.rem_euclid(SECOND));
    whole * i64::from(SCALE) + (rest * 9 + 50_000) / 100_000
}
