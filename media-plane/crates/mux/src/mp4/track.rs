//! The sample table of one track while it grows: run lengths wherever media has them.

use media::{CodecConfig, MediaTime, TrackKind, opus};

use super::boxes::{MOVIE_SCALE, pre_skip};
use crate::notes::Sample;

/// Timestamps in milliseconds put sound up to this many milliseconds beside its sample count, which is the truth.
const SNAP_MILLIS: i64 = 2;
/// Packets of Opus are multiples of 2.5 ms long, in samples.
const OPUS_STEP: i64 = 120;
/// What a file ends with is not known to be longer than the longest frame of Opus, 60 ms, in samples.
const OPUS_LAST: i64 = 2_880;

/// Track time: 1/90 000 s for pictures, samples for sound.
#[derive(Debug)]
pub(super) struct TrackClock {
    pub(super) scale: u32,
    pace: Pace,
    /// Timeline position of tick 0.
    pub(super) zero: MediaTime,
    /// Ticks of the newest frame.
    last: Option<i64>,
    /// Duration of the newest frame but one.
    duration: i64,
}

/// What is known of the durations of frames.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// All are this long, in ticks.
    Each(i64),
    /// They are multiples of a step, and the first ones are heard this much later than their time, in ticks.
    Steps { skip: i64 },
    /// Nothing.
    Any,
}

impl TrackClock {
    pub(super) fn new(config: &CodecConfig, zero: MediaTime) -> Self {
        let (scale, pace, duration) = match config {
            CodecConfig::Aac(aac) => {
                let each = i64::from(aac.samples_per_frame);
                (aac.sample_rate, Pace::Each(each), each)
            }
            CodecConfig::Opus(config) => {
                (opus::SAMPLE_RATE, Pace::Steps { skip: pre_skip(config).into() }, i64::from(opus::SAMPLE_RATE) / 50)
            }
            _ => (MOVIE_SCALE, Pace::Any, i64::from(MOVIE_SCALE) / 30),
        };
        Self { scale, pace, zero, last: None, duration }
    }

    /// Ticks at the beginning that are decoded but not played.
    pub(super) fn skip(&self) -> i64 {
        if let Pace::Steps { skip } = self.pace { skip } else { 0 }
    }

    /// Goes on in a file of which only the end is known.
    pub(super) fn resume(&mut self, ends_at: MediaTime) {
        self.last = Some((ends_at - self.zero).to_scale(self.scale).max(1) - 1);
    }

    /// The frames of a new configuration have another length.
    pub(super) fn configured(&mut self, config: &CodecConfig) {
        if let CodecConfig::Aac(aac) = config {
            let frame = i64::from(aac.samples_per_frame) * i64::from(self.scale) / i64::from(aac.sample_rate.max(1));
            self.pace = Pace::Each(frame);
        }
    }

    /// Track time of the next frame; never before the one before.
    pub(super) fn advance(&mut self, dts: MediaTime) -> i64 {
        let mut ticks = (dts - self.zero).to_scale(self.scale).max(0);
        if let Some(last) = self.last {
            let frame = match self.pace {
                Pace::Each(frame) => Some(frame),
                Pace::Steps { .. } => Some((ticks - last + OPUS_STEP / 2).div_euclid(OPUS_STEP) * OPUS_STEP),
                Pace::Any => None,
            };
            if let Some(frame) = frame {
                let expected = last.saturating_add(frame);
                let snap = i64::from(self.scale) * SNAP_MILLIS / 1_000;
                if (ticks - expected).abs() <= snap {
                    ticks = expected;
                }
            }
            ticks = ticks.max(last + 1);
            self.duration = ticks - last;
        }
        self.last = Some(ticks);
        ticks
    }

    /// How long the newest frame lasts, as far as can be known without the next.
    pub(super) fn last_duration(&self) -> i64 {
        match self.pace {
            Pace::Each(frame) => frame,
            Pace::Steps { .. } => self.duration.min(OPUS_LAST),
            Pace::Any => self.duration.min(i64::from(self.scale)),
        }
    }
}

/// A table of which only the length is wanted keeps this much.
const KEPT: usize = 32;

/// Counts of equal values in a row.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub(super) runs: Vec<(u32, i32)>,
    /// Counted and forgotten.
    pub(super) dropped: u64,
}

impl Runs {
    fn push(&mut self, value: i32) {
        match self.runs.last_mut() {
            Some((count, last)) if *last == value => *count += 1,
            _ => self.runs.push((1, value)),
        }
    }

    fn forget(&mut self) {
        if self.runs.len() >= KEPT {
            self.dropped += self.runs.drain(..KEPT - 1).len() as u64;
        }
    }
}

/// One track of a progressive file.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) kind: TrackKind,
    pub(super) clock: TrackClock,
    /// Configurations in order of first use.
    pub(super) configs: Vec<CodecConfig>,
    /// Number of the sample (from 1) at which the configuration of the same index begins.
    pub(super) config_starts: Vec<u32>,
    pub(super) samples: u32,
    /// Durations of all samples but the last.
    pub(super) durations: Runs,
    pub(super) compositions: Runs,
    /// Numbers of samples where decoding can start.
    pub(super) key_samples: Vec<u32>,
    /// Others that were counted and forgotten.
    dropped_keys: u64,
    /// Smallest composition offset, at most 0.
    pub(super) min_composition: i64,
    /// Presentation extent in ticks of the track, without the end of the last frame.
    pub(super) presentation: (i64, i64),
}

impl Track {
    pub(super) fn new(first: &Sample, config: &CodecConfig) -> Self {
        Self {
            kind: first.track,
            clock: TrackClock::new(config, first.dts),
            configs: Vec::new(),
            config_starts: Vec::new(),
            samples: 0,
            durations: Runs::default(),
            compositions: Runs::default(),
            key_samples: Vec::new(),
            dropped_keys: 0,
            min_composition: 0,
            presentation: (i64::MAX, i64::MIN),
        }
    }

    pub(super) fn push(&mut self, frame: &Sample, config: &CodecConfig) {
        if self.configs.last() != Some(config) {
            self.configs.push(config.clone());
            self.config_starts.push(self.samples + 1);
            self.clock.configured(config);
        }
        let before = self.clock.last;
        let ticks = self.clock.advance(frame.dts);
        if let Some(before) = before {
            self.durations.push(i32::try_from(ticks - before).unwrap_or(i32::MAX));
        }
        let composition = (frame.pts - frame.dts).to_scale(self.clock.scale);
        self.samples += 1;
        self.compositions.push(i32::try_from(composition).unwrap_or(0));
        self.min_composition = self.min_composition.min(composition);
        if frame.keyframe {
            self.key_samples.push(self.samples);
        }
        let (first, last) = self.presentation;
        let shown = ticks + composition;
        self.presentation = (first.min(shown), last.max(shown));
    }

    /// Forgets what has been counted, for one who only wants to know how long its tables are.
    pub(super) fn forget(&mut self) {
        self.durations.forget();
        self.compositions.forget();
        if self.key_samples.len() >= KEPT {
            self.dropped_keys += self.key_samples.drain(..).len() as u64;
        }
    }

    /// Decoding can start at every sample.
    pub(super) fn is_all_keys(&self) -> bool {
        self.dropped_keys + self.key_samples.len() as u64 >= u64::from(self.samples)
    }

    /// All frames are shown in the order in which they are decoded.
    pub(super) fn is_in_order(&self) -> bool {
        self.compositions.dropped == 0 && self.compositions.runs.iter().all(|(_, offset)| *offset == 0)
    }

    /// Bytes that the entries of tables take which are forgotten.
    pub(super) fn dropped(&self) -> u64 {
        let keys = if self.is_all_keys() { 0 } else { self.dropped_keys };
        8 * (self.durations.dropped + self.compositions.dropped) + 4 * keys
    }

    /// Sum of all durations, in ticks of the track.
    pub(super) fn media_duration(&self) -> i64 {
        self.clock.last.unwrap_or(0) + self.clock.last_duration()
    }

    /// When its first frame is shown, on the timeline.
    pub(super) fn shown_at(&self) -> MediaTime {
        let (first, _) = self.presentation;
        self.clock.zero + MediaTime(self.to_movie(first + self.lead()))
    }

    /// How much later than the time of its first frame that is heard, in ticks. Where the publisher named what decoders
    /// drop, times are those of what they put out; RTP names none, and its times are those of what was said.
    fn lead(&self) -> i64 {
        match self.configs.first() {
            Some(CodecConfig::Opus(config)) => config.pre_skip.into(),
            _ => 0,
        }
    }

    /// How long it is shown, in movie ticks.
    pub(super) fn shown_for(&self) -> i64 {
        let (first, last) = self.presentation;
        self.to_movie(self.media_duration().max(last - first + self.clock.last_duration()) - self.clock.skip())
    }

    /// Ticks of the track in movie ticks.
    pub(super) fn to_movie(&self, ticks: i64) -> i64 {
        let scale = i128::from(self.clock.scale.max(1));
        let movie = (i128::from(ticks) * i128::from(MOVIE_SCALE) + scale / 2).div_euclid(scale);
        i64::try_from(movie).unwrap_or(i64::MAX)
    }
}
