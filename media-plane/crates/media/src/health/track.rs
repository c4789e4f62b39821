//! The clock of one track as its publisher runs it.

use std::time::Duration;

use super::rules;
use crate::ingest::{RawFrame, SourceTime};
use crate::timeline::{convert, unwrapped_step};
use crate::{CodecConfig, MediaTime, TrackKind, opus};

/// How a frame's time follows from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is none before on this clock.
    First,
    /// The same.
    Static,
    /// A little back.
    Back,
    /// Somewhere else.
    Jump,
    /// On, by so many ticks.
    On(i64),
}

/// See the module. Positions and lengths in ticks of [`MediaTime`].
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) time: Option<SourceTime>,
    arrival: Duration,
    /// Where the newest frame is; tracks on one scale share the origin.
    pub(super) position: i64,
    /// How far it has gone by steps that are none too long, jumps aside.
    pub(super) walked: i64,
    /// How far the other one had gone at the newest frame of this one.
    pub(super) mark: i64,
    /// It was announced, or has come.
    pub(super) expected: bool,
    /// Its absence was told.
    pub(super) absent: bool,
    pub(super) config: Option<CodecConfig>,
    /// Frames in a row with one timestamp, less one.
    pub(super) same: u32,
    /// Length of the newest sound frame; 0 = not known.
    length: i64,
    /// Where the next sound frame should be.
    due: Option<i64>,
    steps: Steps,
    pace: Pace,
    /// How long pictures have come at the announced rate.
    steady: i64,
    since_key: i64,
    /// The length of this group of pictures was told.
    long: bool,
}

/// The steps of the window that is open.
#[derive(Debug, Default)]
struct Steps {
    length: i64,
    all: u32,
    odd: u32,
}

/// How fast the publisher sends.
#[derive(Debug, Default)]
struct Pace {
    walked: i64,
    arrival: Duration,
    real_time: bool,
}

impl Track {
    /// From now on it is waited for.
    pub(super) fn expect(&mut self, other_walked: i64) {
        if !self.expected {
            (self.expected, self.mark) = (true, other_walked);
        }
    }

    /// Another source follows.
    pub(super) fn restart(&mut self) {
        *self = Self { config: self.config.take(), ..Self::default() };
    }

    /// Takes the time of the next frame. `other` = the position and time of the other track, and how far it has gone.
    pub(super) fn step(&mut self, frame: &RawFrame, arrival: Duration, other: &Self) -> Step {
        let elapsed = MediaTime::from_duration(arrival.saturating_sub(self.arrival)).0;
        let Some(last) = self.time.filter(|time| time.scale == frame.time.scale) else {
            self.begin(frame.time, arrival, other);
            return Step::First;
        };
        let step = convert(unwrapped_step(last, frame.time), last.scale);
        self.position = self.position.saturating_add(step);
        (self.time, self.arrival) = (Some(frame.time), arrival);
        let passed = other.walked - self.mark;
        let kind = match step {
            0 => Step::Static,
            ..0 if step >= -rules::JUMP => Step::Back,
            ..0 => Step::Jump,
            _ if self.pace.real_time && step - passed.max(elapsed) > rules::JUMP => Step::Jump,
            _ if step - passed > rules::JUMP_WHEN_FAST && step - elapsed > rules::JUMP => Step::Jump,
            _ => Step::On(step),
        };
        match kind {
            Step::On(step) => {
                self.walked = self.walked.saturating_add(step.min(rules::LONGEST_STEP));
                self.pace.look(self.walked, arrival);
            }
            Step::Jump => {
                (self.due, self.steps, self.steady) = (None, Steps::default(), 0);
                (self.pace.walked, self.pace.arrival) = (self.walked, arrival);
            }
            Step::Back => self.steady = 0,
            Step::Static | Step::First => {}
        }
        self.same = if kind == Step::Static { self.same.saturating_add(1) } else { 0 };
        kind
    }

    fn begin(&mut self, time: SourceTime, arrival: Duration, other: &Self) {
        self.position = match other.time.filter(|other| other.scale == time.scale) {
            Some(known) => other.position.saturating_add(convert(unwrapped_step(known, time), time.scale)),
            None => convert(i64::from(time.value), time.scale),
        };
        (self.time, self.arrival, self.due) = (Some(time), arrival, None);
        (self.pace.walked, self.pace.arrival) = (self.walked, arrival);
    }

    /// Takes a picture; whether the group that it belongs to, or ends, has just become too long.
    pub(super) fn is_too_long(&mut self, step: Step, keyframe: bool) -> bool {
        if let Step::On(step) = step {
            // Where no pictures were sent, no key frame could be.
            self.since_key = self.since_key.saturating_add(step.min(rules::ABSENT));
        }
        let is_long = self.since_key > rules::GOP;
        let is_news = is_long && !std::mem::replace(&mut self.long, is_long);
        if keyframe {
            (self.since_key, self.long) = (0, false);
        }
        is_news
    }

    /// Pictures that are missing in front of this one, where every `cadence` ticks there should be one.
    pub(super) fn missing_pictures(&mut self, step: i64, cadence: i64) -> u64 {
        // Milliseconds round a step by up to one, and a picture may be taken a little late.
        let tolerance = (cadence / 5).max(MediaTime::SCALE * 3 / 1_000);
        if (step - cadence).abs() <= tolerance {
            self.steady = self.steady.saturating_add(step);
            return 0;
        }
        let was_steady = std::mem::take(&mut self.steady) >= rules::STEADY;
        let missing = (step + cadence / 2) / cadence - 1;
        let is_hole = missing >= rules::MISSING_PICTURES && step - cadence >= rules::HOLE && !self.absent;
        if was_steady && is_hole { missing.unsigned_abs() } else { 0 }
    }

    /// Sound frames that are missing in front of this one. Frames of one timestamp add up to what the clock then leaves
    /// out.
    pub(super) fn missing_sound(&mut self) -> u64 {
        let length = self.exact_length();
        if length == 0 {
            return 0;
        }
        let hole = self.position - self.due.unwrap_or(self.position);
        self.due = Some(self.due.unwrap_or(self.position).clamp(self.position, self.position + rules::LEAD) + length);
        if hole < rules::HOLE || self.absent { 0 } else { ((hole + length / 2) / length).unsigned_abs() }
    }

    /// Length of every frame, where the codec says so.
    fn exact_length(&self) -> i64 {
        let Some(CodecConfig::Aac(aac)) = &self.config else { return 0 };
        i64::from(aac.samples_per_frame) * MediaTime::SCALE / i64::from(aac.sample_rate.max(1))
    }

    /// Takes a step; whether the window that ends with it is uneven.
    pub(super) fn is_uneven(&mut self, frame: &RawFrame, step: Step) -> bool {
        let step = match step {
            Step::On(step) if step <= rules::LONGEST_STEP => step,
            Step::Static => 0,
            Step::First | Step::Back | Step::Jump | Step::On(_) => {
                // What follows a hole is judged by its own length.
                self.length = 0;
                return false;
            }
        };
        let (is_odd, most) = match frame.track {
            TrackKind::Video => (step < rules::CLOSE_PICTURES, rules::UNEVEN_PICTURES),
            TrackKind::Audio => (self.is_odd_sound(&frame.data, step), rules::UNEVEN_SOUNDS),
        };
        let steps = &mut self.steps;
        (steps.length, steps.all, steps.odd) =
            (steps.length + step, steps.all.saturating_add(1), steps.odd.saturating_add(u32::from(is_odd)));
        if steps.length < rules::WINDOW {
            return false;
        }
        let Steps { all, odd, .. } = std::mem::take(steps);
        all >= rules::WINDOW_STEPS && u64::from(odd) * 100 >= u64::from(all) * u64::from(most)
    }

    fn is_odd_sound(&mut self, data: &[u8], step: i64) -> bool {
        let exact = self.exact_length();
        let next = match &self.config {
            Some(CodecConfig::Opus(_)) => {
                let samples = i64::from(opus::packet_samples(data).unwrap_or(0));
                samples * MediaTime::SCALE / i64::from(opus::SAMPLE_RATE)
            }
            _ => exact,
        };
        // A step follows from the frame before. Discontinuous sound leaves out what is silent.
        let length = std::mem::replace(&mut self.length, next);
        length > 0 && (step * 2 < length || exact > 0 && step * 2 > length * 3)
    }
}

impl Pace {
    fn look(&mut self, walked: i64, arrival: Duration) {
        let elapsed = MediaTime::from_duration(arrival.saturating_sub(self.arrival)).0;
        let walk = walked - self.walked;
        if walk.max(elapsed) >= rules::PACE {
            self.real_time = walk * 2 <= elapsed * 3;
            (self.walked, self.arrival) = (walked, arrival);
        }
    }
}
