//! Frames of both tracks in one order, held back at the start until the clock is known.

use std::collections::VecDeque;
use std::time::Duration;

use media::ingest::{Event, RawFrame};
use media::{CodecConfig, TrackKind};

use crate::clock::{self, Clock};
use crate::composition::DecodeTimes;
use crate::opus;
use crate::picture::{Missing, reorders};
use crate::stream::Unit;

/// Frames held at most, of each track.
const MAX_HELD: usize = 1_024;
/// Bytes held at most, of both.
const MAX_HELD_BYTES: usize = 16 << 20;
/// A publisher that sends what it had piled up is waited for this many times as long as any other.
const CATCHING_UP: u32 = 5;
/// And looked at again after this time.
const AGAIN: Duration = Duration::from_millis(50);
/// Sound missing for less than this is made up by any decoder so that nobody hears it: 100 ms, in ticks.
const CONCEALED: i64 = clock::SCALE as i64 / 10;

/// What waits to be delivered.
#[derive(Debug)]
pub(crate) struct Release {
    hold: Duration,
    began: Option<Duration>,
    /// When what was held back leaves anyway.
    due: Option<Duration>,
    is_open: bool,
    video: Queue,
    audio: Queue,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(u32, Unit)>,
    config: Option<CodecConfig>,
    /// Where what was delivered so far ends.
    ends: Option<i64>,
    source: Option<u32>,
    decode_times: DecodeTimes,
}

impl Release {
    /// Nothing leaves until both tracks are synchronised or this has passed.
    pub(crate) fn new(hold: Duration) -> Self {
        let (video, audio) = (Queue::default(), Queue::default());
        Self { hold, began: None, due: None, is_open: hold.is_zero(), video, audio, bytes: 0 }
    }

    /// The first packet came.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.began.get_or_insert(now);
        self.due.get_or_insert(now + self.hold);
    }

    /// Holds nothing back any more.
    pub(crate) fn open(&mut self) {
        self.is_open = true;
    }

    pub(crate) fn advance(&mut self, now: Duration, synchronised: bool, catching_up: bool) {
        let is_due = self.deadline().is_some_and(|at| now >= at);
        if is_due && catching_up && self.began.is_some_and(|began| now < began + self.hold * CATCHING_UP) {
            self.due = Some(now + AGAIN);
        } else {
            self.is_open |= is_due;
        }
        self.is_open |= synchronised || self.is_full();
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due.filter(|_| !self.is_open)
    }

    pub(crate) fn push(&mut self, kind: TrackKind, ssrc: u32, unit: Unit) {
        self.bytes += unit.data.len();
        self.queue(kind).waiting.push_back((ssrc, unit));
    }

    /// Another source follows from this timestamp on: what waits of the one before for that time and later is not
    /// needed. Gives how many frames that is.
    pub(crate) fn turn(&mut self, kind: TrackKind, ssrc: u32, timestamp: u32, clock: &Clock) -> u64 {
        let from = clock.preview(kind, ssrc, timestamp);
        let mut unneeded = 0;
        while let Some((_, unit)) =
            self.queue(kind).waiting.pop_back_if(|(of, unit)| clock.preview(kind, *of, unit.timestamp) >= from)
        {
            self.bytes = self.bytes.saturating_sub(unit.data.len());
            unneeded += 1;
        }
        unneeded
    }

    /// Delivers what can be. A track is not waited for unless it is `blocked`: then it has packets already, and its next
    /// frame may be earlier than what the other one has.
    pub(crate) fn drain(&mut self, clock: &mut Clock, blocked: (bool, bool), mut emit: impl FnMut(Event)) {
        if !self.is_open {
            return;
        }
        while let Some(kind) = self.next(clock, blocked) {
            let Some((ssrc, unit)) = self.queue(kind).waiting.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(unit.data.len());
            self.queue(kind).deliver(kind, ssrc, unit, clock, &mut emit);
        }
    }

    fn next(&self, clock: &Clock, (video, audio): (bool, bool)) -> Option<TrackKind> {
        let at =
            |kind, queue: &Queue| queue.waiting.front().map(|(ssrc, unit)| clock.preview(kind, *ssrc, unit.timestamp));
        match (at(TrackKind::Video, &self.video), at(TrackKind::Audio, &self.audio)) {
            (Some(picture), Some(sound)) if picture <= sound => Some(TrackKind::Video),
            (Some(_), Some(_)) => Some(TrackKind::Audio),
            (Some(_), None) if !audio || self.is_full() => Some(TrackKind::Video),
            (None, Some(_)) if !video || self.is_full() => Some(TrackKind::Audio),
            _ => None,
        }
    }

    fn is_full(&self) -> bool {
        self.video.waiting.len().max(self.audio.waiting.len()) > MAX_HELD || self.bytes > MAX_HELD_BYTES
    }

    fn queue(&mut self, kind: TrackKind) -> &mut Queue {
        match kind {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        }
    }
}

impl Queue {
    fn deliver(&mut self, kind: TrackKind, ssrc: u32, unit: Unit, clock: &mut Clock, emit: &mut impl FnMut(Event)) {
        if self.config.as_ref().is_none_or(|config| *config != unit.config) {
            self.config = Some(unit.config.clone());
            emit(Event::Config(kind, unit.config.clone()));
        }
        let shown = clock.time(kind, ssrc, unit.timestamp);
        let is_switch = self.source.replace(ssrc).is_some_and(|source| source != ssrc);
        if is_switch {
            self.decode_times.turn();
        }
        let ticks = match kind {
            TrackKind::Video if reorders(&unit.config) => self.decode_times.next(shown),
            TrackKind::Video | TrackKind::Audio => self.decode_times.in_order(shown),
        };
        let hole = self.ends.map_or(0, |ends| ticks - ends);
        // What a new source lost before its first frame it cannot know; only time tells.
        let missing = unit.missing.or((is_switch && hole > CONCEALED).then(Missing::default));
        if let Some(missing) = missing.filter(|_| kind == TrackKind::Video || hole > CONCEALED) {
            emit(Event::Lost { track: kind, packets: missing.packets, frames: missing.frames });
        }
        let samples = if kind == TrackKind::Audio { opus::samples(&unit.data).unwrap_or(0) } else { 0 };
        self.ends = Some(ticks + i64::from(samples) * i64::from(clock::SCALE) / i64::from(media::opus::SAMPLE_RATE));
        emit(Event::Frame(RawFrame {
            track: kind,
            time: clock::source_time(ticks),
            composition: i32::try_from(shown - ticks).unwrap_or(0).max(0),
            keyframe: unit.keyframe,
            data: unit.data,
        }));
    }
}
