//! Both tracks of a publication, against each other and against what was said of them.

use std::time::Duration;

use super::track::{Step, Track};
use super::{Kind, Tally, rules};
use crate::ingest::{Event, Metadata, RawFrame, Rejection};
use crate::timeline::convert;
use crate::{CodecConfig, MediaTime, TrackKind};

/// See the module.
#[derive(Debug, Default)]
pub struct Detector {
    video: Track,
    audio: Track,
    /// Ticks from picture to picture, as announced.
    cadence: Option<i64>,
    /// How far video and audio had gone when they were first seen apart.
    apart: Option<(i64, i64)>,
    /// That they are was told.
    apart_told: bool,
    tally: Tally,
}

impl Detector {
    /// Before the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was found; whoever tells of it empties it.
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Takes an event of the protocol session that arrived at `at`. Frames are left to [`Self::frame`].
    pub fn event(&mut self, event: &Event, at: Duration) {
        match event {
            Event::Frame(_) => {}
            Event::Metadata(metadata) => self.announced(metadata),
            Event::Config(track, config) => self.configured(*track, config, at),
            // Of a codec that is not recorded nothing is dropped by accident: the track is absent.
            Event::Rejected(_, Rejection::UnsupportedCodec) => {}
            Event::Rejected(track, Rejection::BeforeConfig | Rejection::Malformed) => self.dropped(*track, 1, at),
            Event::Lost { track, frames, .. } => self.dropped(*track, (*frames).max(1), at),
        }
    }

    /// The source went away; the next frame is of another one, whose configurations still follow from those before.
    pub fn interrupt(&mut self) {
        self.video.restart();
        self.audio.restart();
        (self.cadence, self.apart, self.apart_told) = (None, None, false);
    }

    /// Takes an access unit that arrived at `arrival`.
    pub fn frame(&mut self, frame: &RawFrame, arrival: Duration) {
        let is_video = frame.track == TrackKind::Video;
        let (own, other) =
            if is_video { (&mut self.video, &mut self.audio) } else { (&mut self.audio, &mut self.video) };
        let tally = &mut self.tally;
        let mut found = |video, audio| tally.add(if is_video { video } else { audio }, 1, arrival);
        let step = own.step(frame, arrival, other);
        match step {
            Step::Jump => found(Kind::VideoTimestampJump, Kind::AudioTimestampJump),
            Step::Back => found(Kind::VideoTimestampInvalid, Kind::AudioTimestampInvalid),
            Step::Static => {
                let most = if is_video { rules::STATIC_PICTURES } else { rules::STATIC_SOUNDS };
                if own.same + 1 == most {
                    found(Kind::VideoTimestampStatic, Kind::AudioTimestampStatic);
                }
            }
            Step::First | Step::On(_) => {}
        }
        if frame.composition != 0 && convert(i64::from(frame.composition), frame.time.scale).abs() > rules::COMPOSITION
        {
            found(Kind::VideoTimestampInvalid, Kind::AudioTimestampInvalid);
        }
        if own.is_uneven(frame, step) {
            found(Kind::VideoTimestampUneven, Kind::AudioTimestampUneven);
        }
        if is_video {
            if own.is_too_long(step, frame.keyframe) {
                tally.add(Kind::GopAbnormal, 1, arrival);
            }
            if let (Step::On(step), Some(cadence)) = (step, self.cadence) {
                tally.add(Kind::VideoFramesDropped, own.missing_pictures(step, cadence), arrival);
            }
        } else {
            tally.add(Kind::AudioFramesDropped, own.missing_sound(), arrival);
        }
        (own.expected, own.absent, own.mark) = (true, false, other.walked);
        if other.expected && !other.absent && own.walked - other.mark >= rules::ABSENT {
            other.absent = true;
            tally.add(if is_video { Kind::NoAudio } else { Kind::NoVideo }, 1, arrival);
        }
        self.compare(arrival);
    }

    /// Tracks that are a little apart because one starts later, or is late, are not: both have to go on so.
    fn compare(&mut self, arrival: Duration) {
        let (video, audio) = (&self.video, &self.audio);
        let (Some(picture), Some(sound)) = (video.time, audio.time) else { return };
        if picture.scale != sound.scale || (video.position - audio.position).abs() <= rules::APART {
            (self.apart, self.apart_told) = (None, false);
            return;
        }
        let (video_then, audio_then) = *self.apart.get_or_insert((video.walked, audio.walked));
        let gone = (video.walked - video_then).min(audio.walked - audio_then);
        if gone >= rules::APART_FOR && !std::mem::replace(&mut self.apart_told, true) {
            self.tally.add(Kind::TimestampsApart, 1, arrival);
        }
    }

    fn announced(&mut self, metadata: &Metadata) {
        if metadata.video.is_some() {
            self.video.expect(self.audio.walked);
        }
        if metadata.audio.is_some() {
            self.audio.expect(self.video.walked);
        }
        let rate = metadata.frame_rate.filter(|rate| (1.0..=240.0).contains(rate));
        self.cadence = rate.map(|rate| (MediaTime::SCALE as f64 / rate) as i64);
    }

    fn configured(&mut self, track: TrackKind, config: &CodecConfig, at: Duration) {
        let (own, other) = match track {
            TrackKind::Video => (&mut self.video, &self.audio),
            TrackKind::Audio => (&mut self.audio, &self.video),
        };
        own.expect(other.walked);
        let Some(before) = own.config.replace(config.clone()).filter(|before| before != config) else { return };
        let is_other_size = before.picture_size() != config.picture_size();
        let kind = match before.codec() == config.codec() && is_other_size {
            true => Kind::ResolutionChanged,
            false => Kind::CodecChanged,
        };
        self.tally.add(kind, 1, at);
    }

    fn dropped(&mut self, track: TrackKind, frames: u64, at: Duration) {
        let kind = match track {
            TrackKind::Video => Kind::VideoFramesDropped,
            TrackKind::Audio => Kind::AudioFramesDropped,
        };
        self.tally.add(kind, frames, at);
    }
}
