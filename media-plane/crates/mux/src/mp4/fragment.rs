//! Movie fragments: frames of both tracks that are written together, and the head that names the tracks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use media::{CodecConfig, Frame, MediaTime, TrackKind, opus};

use super::boxes::Boxes;
use super::track::TrackClock;
use super::{description, head, track_id};
use crate::past::Past;
use crate::split::Split;
use crate::{ObjectId, Output};

/// Sound in a fragment: what is not yet in one would be lost in a crash, and a fragment costs a hundred bytes.
const AIM: MediaTime = MediaTime(MediaTime::SCALE / 25);
/// The first fragment waits this long for a track that is expected: the head, which goes before it, names all tracks.
const MAX_WAIT: MediaTime = MediaTime(3 * MediaTime::SCALE);
/// The most a fragment holds, in bytes of payload.
const MAX_BYTES: usize = 8 << 20;
/// The same in frames.
const MAX_FRAMES: usize = 1_024;

/// Sample flags: depends on no other sample.
const SYNC: u32 = 0x0200_0000;
/// Sample flags: depends on others and is not a sync sample.
const NOT_SYNC: u32 = 0x0101_0000;

/// The open fragment behind those that are written.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    /// Tracks of the head, once it is out.
    tracks: Option<Tracks>,
    /// Those of the head before, whose clocks go on where nothing of the track has changed.
    former: Option<Tracks>,
    sequence: u32,
    video: Vec<Frame>,
    audio: Vec<Frame>,
    starts_at: MediaTime,
    bytes: usize,
}

#[derive(Debug)]
struct Tracks {
    video: Option<Track>,
    audio: Option<Track>,
}

/// A track as the head describes it.
#[derive(Debug)]
struct Track {
    config: CodecConfig,
    clock: TrackClock,
}

impl Track {
    fn new(config: CodecConfig, zero: MediaTime) -> Self {
        let clock = TrackClock::new(&config, zero - lead(&config));
        Self { config, clock }
    }
}

impl Tracks {
    fn of(&self, kind: TrackKind) -> Option<&Track> {
        match kind {
            TrackKind::Video => self.video.as_ref(),
            TrackKind::Audio => self.audio.as_ref(),
        }
    }

    /// As the head of the file has them.
    fn resume(split: &Split, past: &Past) -> Option<Self> {
        let zero = past.zero.filter(|_| past.fragments > 0)?;
        let track = |is_there: bool, kind| {
            let mut track = Track::new(description(split, kind).filter(|_| is_there)?, zero);
            track.clock.resume(past.tally.ends_at);
            Some(track)
        };
        let tracks =
            Self { video: track(past.tracks.0, TrackKind::Video), audio: track(past.tracks.1, TrackKind::Audio) };
        (past.tracks == (tracks.video.is_some(), tracks.audio.is_some())).then_some(tracks)
    }
}

/// A sample of the run being written.
struct Sample {
    duration: u32,
    size: u32,
    flags: u32,
    composition: i32,
}

impl Fragments {
    /// Behind the fragments of an earlier process; `None` when the head before them is not known.
    pub(crate) fn resume(split: &Split, past: &Past) -> Option<Self> {
        let tracks = Some(Tracks::resume(split, past)?);
        Some(Self { tracks, sequence: past.fragments, ..Self::default() })
    }

    /// There is no open fragment.
    pub(crate) fn is_empty(&self) -> bool {
        self.video.is_empty() && self.audio.is_empty()
    }

    /// The head is out.
    pub(crate) fn has_head(&self) -> bool {
        self.tracks.is_some()
    }

    /// The head has the track, or is not out yet.
    pub(crate) fn is_declared(&self, track: TrackKind) -> bool {
        self.tracks.as_ref().is_none_or(|tracks| tracks.of(track).is_some())
    }

    /// The head is out and describes the track otherwise than its frames are coded now.
    pub(crate) fn is_described_otherwise(&self, split: &Split, track: TrackKind) -> bool {
        let declared = self.tracks.as_ref().and_then(|tracks| tracks.of(track));
        declared.is_some_and(|declared| description(split, track).as_ref() != Some(&declared.config))
    }

    /// Whether another head has to be written for these tracks (picture, sound) as they are coded now. Only between
    /// fragments.
    pub(crate) fn renew(&mut self, split: &Split, wanted: (bool, bool)) -> bool {
        let fits = |kind, wanted| match self.tracks.as_ref().and_then(|tracks| tracks.of(kind)) {
            Some(declared) => wanted && description(split, kind).as_ref() == Some(&declared.config),
            None => !wanted,
        };
        if self.tracks.is_some() && fits(TrackKind::Video, wanted.0) && fits(TrackKind::Audio, wanted.1) {
            return false;
        }
        self.former = self.tracks.take().or(self.former.take());
        true
    }

    /// What follows has a head of its own. Only between fragments.
    pub(crate) fn forget_head(&mut self) {
        (self.tracks, self.former) = (None, None);
    }

    /// Takes a frame into the open fragment.
    pub(crate) fn add(&mut self, frame: &Frame) {
        if self.is_empty() {
            self.starts_at = frame.dts;
        }
        self.bytes += frame.data.len();
        match frame.track {
            TrackKind::Video => self.video.push(frame.clone()),
            TrackKind::Audio => self.audio.push(frame.clone()),
        }
    }

    /// Whether the frame begins a fragment. Every picture does, when its predecessor's duration is known with it: what a
    /// crash costs is one picture and the sound beside it.
    pub(crate) fn is_over(&self, split: &Split, frame: &Frame) -> bool {
        if self.is_empty() {
            return false;
        }
        let is_full = self.bytes + frame.data.len() > MAX_BYTES || self.video.len() + self.audio.len() >= MAX_FRAMES;
        let is_missing = |track, frames: &[Frame]| frames.is_empty() && split.is_live(track, frame.dts);
        let is_waiting = self.tracks.is_none()
            && (is_missing(TrackKind::Video, &self.video) || is_missing(TrackKind::Audio, &self.audio));
        if is_full || is_waiting {
            return is_full || frame.dts - self.starts_at >= MAX_WAIT;
        }
        match frame.track {
            TrackKind::Video => !self.video.is_empty(),
            TrackKind::Audio => self.audio.first().is_some_and(|first| frame.dts - first.dts >= AIM),
        }
    }

    /// Nothing may be shown before 0, so the earliest of all times is the zero of both tracks.
    pub(crate) fn earliest(&self, split: &Split) -> MediaTime {
        let lead = description(split, TrackKind::Audio).map(|config| lead(&config)).unwrap_or_default();
        let video = self.video.iter().map(|frame| frame.dts.min(frame.pts));
        let audio = self.audio.iter().map(|frame| frame.dts.min(frame.pts) + lead);
        video.chain(audio).min().unwrap_or_default()
    }

    /// The head, in front of the first fragment: it has the tracks of which that has frames. `zero` is what their times
    /// count from.
    pub(crate) fn head(&mut self, split: &Split, zero: MediaTime, created: u64) -> Bytes {
        let mut former = self.former.take();
        let (mut old_video, mut old_audio) = match &mut former {
            Some(former) => (former.video.take(), former.audio.take()),
            None => (None, None),
        };
        let track = |kind, frames: &[Frame], old: &mut Option<Track>| {
            let config = description(split, kind).filter(|_| !frames.is_empty())?;
            let same = old.take().filter(|old| old.config == config);
            Some(same.unwrap_or_else(|| Track::new(config, zero)))
        };
        let video = track(TrackKind::Video, &self.video, &mut old_video);
        let audio = track(TrackKind::Audio, &self.audio, &mut old_audio);
        let both = [(TrackKind::Video, &video), (TrackKind::Audio, &audio)].into_iter();
        let both = both.filter_map(|(kind, track)| track.as_ref().map(|track| (kind, track)));
        let configs: Vec<_> = both.map(|(kind, track)| (kind, track.config.clone(), track.clock.scale)).collect();
        let head = head::init(&configs, created);
        self.tracks = Some(Tracks { video, audio });
        Bytes::from(head)
    }

    /// Writes the open fragment in front of `next`, and gives what the head has: picture, sound. The head has to be out.
    pub(crate) fn write(
        &mut self,
        next: Option<&Frame>,
        object: ObjectId,
        outputs: &mut VecDeque<Output>,
    ) -> (bool, bool) {
        let Some(tracks) = &mut self.tracks else { return (false, false) };
        self.sequence = self.sequence.saturating_add(1);
        let next_of = |kind| next.filter(|frame| frame.track == kind).map(|frame| frame.dts);
        let mut runs = Vec::with_capacity(2);
        for (kind, track, frames) in
            [(TrackKind::Video, &mut tracks.video, &self.video), (TrackKind::Audio, &mut tracks.audio, &self.audio)]
        {
            if let Some(track) = track.as_mut().filter(|_| !frames.is_empty()) {
                runs.push((kind, run(&mut track.clock, frames, next_of(kind))));
            }
        }
        let mut boxes = moof(self.sequence, &runs);
        boxes.u32(u32::try_from(self.bytes + 8).unwrap_or(u32::MAX));
        boxes.put(b"mdat");
        outputs.push_back(Output::Append(object, Bytes::from(boxes.bytes)));
        for frame in self.video.drain(..) {
            outputs.push_back(Output::Append(object, frame.data));
        }
        // Frames of sound are small: one piece costs less than many.
        let mut sound = BytesMut::with_capacity(self.audio.iter().map(|frame| frame.data.len()).sum());
        self.audio.drain(..).for_each(|frame| sound.extend_from_slice(&frame.data));
        if !sound.is_empty() {
            outputs.push_back(Output::Append(object, sound.freeze()));
        }
        self.bytes = 0;
        (tracks.video.is_some(), tracks.audio.is_some())
    }
}

/// How much later than its time the first frame is heard: the head of the file says that what a decoder of Opus has to drop
/// is not played. Where the publisher has named that, times are those of what is put out with it.
fn lead(config: &CodecConfig) -> MediaTime {
    match config {
        CodecConfig::Opus(config) => {
            MediaTime(i64::from(config.pre_skip) * MediaTime::SCALE / i64::from(opus::SAMPLE_RATE))
        }
        _ => MediaTime::ZERO,
    }
}

/// Decode time of the first sample, and the samples.
fn run(clock: &mut TrackClock, frames: &[Frame], next: Option<MediaTime>) -> (u64, Vec<Sample>) {
    let times: Vec<i64> = frames.iter().map(|frame| clock.advance(frame.dts)).collect();
    let next = next.map(|next| (next - clock.zero).to_scale(clock.scale));
    let ends = times.iter().skip(1).copied().map(Some).chain([next]);
    let samples = times.iter().zip(ends).zip(frames).map(|((start, end), frame)| {
        let duration = end.map(|end| end - start).filter(|length| *length > 0).unwrap_or_else(|| clock.last_duration());
        Sample {
            duration: u32::try_from(duration).unwrap_or(0),
            size: frame.data.len() as u32,
            flags: if frame.keyframe { SYNC } else { NOT_SYNC },
            composition: i32::try_from((frame.pts - frame.dts).to_scale(clock.scale)).unwrap_or(0),
        }
    });
    let samples = samples.collect();
    (times.first().copied().unwrap_or(0).max(0) as u64, samples)
}

fn moof(sequence: u32, runs: &[(TrackKind, (u64, Vec<Sample>))]) -> Boxes {
    let mut boxes = Boxes::default();
    let mut offsets = Vec::with_capacity(2);
    boxes.nest(b"moof", |b| {
        b.full(b"mfhd", 0, 0, |b| b.u32(sequence));
        for (kind, (start, samples)) in runs {
            b.nest(b"traf", |b| {
                // Offsets count from the start of this moof.
                b.full(b"tfhd", 0, 0x2_0000, |b| b.u32(track_id(*kind)));
                b.full(b"tfdt", 1, 0, |b| b.u64(*start));
                // Data offset; and per sample: duration, size, flags, signed composition offset.
                b.full(b"trun", 1, 0xf01, |b| {
                    b.u32(samples.len() as u32);
                    offsets.push((b.bytes.len(), samples.iter().map(|sample| sample.size).sum::<u32>()));
                    b.u32(0);
                    for Sample { duration, size, flags, composition } in samples {
                        b.u32(*duration);
                        b.u32(*size);
                        b.u32(*flags);
                        b.u32(composition.cast_unsigned());
                    }
                });
            });
        }
    });
    let mut data = boxes.bytes.len() as u32 + 8;
    for (at, size) in offsets {
        boxes.patch(at, data);
        data += size;
    }
    boxes
}
