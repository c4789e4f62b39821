//! The fragmented layout: complete at every commit mark, only ever appended to.

use std::collections::VecDeque;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use media::{CodecConfig, Frame, Gap, MediaTime, TrackKind, opus};

use super::boxes::{Boxes, creation_time};
use super::track::TrackClock;
use super::{MAX_SAMPLE, description, head, spec, track_id};
use crate::past::{self, Past};
use crate::split::{Change, Place, Split};
use crate::{
    Finished, Format, Muxer, ObjectId, ObjectPart, Options, Output, Reaction, Rejected, Restored, RestoredObject,
};

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

/// See the module. The tracks of a file are those known when its first fragment is written; another track or a changed
/// configuration begins a new file at once, because the head of this one is out.
#[derive(Debug)]
pub(crate) struct Fragmented {
    split: Split,
    wall_anchor: Option<SystemTime>,
    outputs: VecDeque<Output>,
    file: Option<File>,
}

#[derive(Debug)]
struct File {
    object: ObjectId,
    /// Tracks of the head, once it is out.
    tracks: Option<Tracks>,
    sequence: u32,
    /// The open fragment.
    video: Vec<Frame>,
    audio: Vec<Frame>,
    starts_at: MediaTime,
    bytes: usize,
}

impl File {
    fn new(object: ObjectId, starts_at: MediaTime) -> Self {
        let (video, audio) = (Vec::new(), Vec::new());
        Self { object, tracks: None, sequence: 0, video, audio, starts_at, bytes: 0 }
    }

    /// There is no open fragment.
    fn is_empty(&self) -> bool {
        self.video.is_empty() && self.audio.is_empty()
    }
}

#[derive(Debug)]
struct Tracks {
    video: Option<TrackClock>,
    audio: Option<TrackClock>,
}

impl Tracks {
    /// As the head of the file has them.
    fn resume(split: &Split, past: &Past) -> Option<Self> {
        let zero = past.zero.filter(|_| past.fragments > 0)?;
        let clock = |is_there: bool, kind| {
            let mut clock = clock_of(&description(split, kind).filter(|_| is_there)?, zero);
            clock.resume(past.tally.ends_at);
            Some(clock)
        };
        let tracks =
            Self { video: clock(past.tracks.0, TrackKind::Video), audio: clock(past.tracks.1, TrackKind::Audio) };
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

impl Fragmented {
    pub(crate) fn new(options: &Options) -> Self {
        let split = Split::new(options.max_file_duration, Format::Mp4);
        Self { split, wall_anchor: options.wall_anchor, outputs: VecDeque::new(), file: None }
    }

    pub(crate) fn restore(options: &Options, state: Restored) -> Self {
        let mut muxer = Self::new(options);
        if let Some(object) = past::take_up(&mut muxer.split, &mut muxer.outputs, state) {
            muxer.resume(&object);
        }
        muxer
    }

    /// Goes on behind the last fragment; in a file whose head is not known nothing can follow.
    fn resume(&mut self, object: &RestoredObject) {
        let past = Past::of(object);
        self.split.resume(&past);
        let tracks = Tracks::resume(&self.split, &past);
        let is_lost = object.len > 0 && tracks.is_none();
        self.file =
            Some(File { tracks, sequence: past.fragments, ..File::new(object.spec.object, past.tally.ends_at) });
        if is_lost {
            self.close();
        }
    }

    fn open(&mut self, frame: &Frame) {
        let object = ObjectId { file: self.split.begin(frame), part: ObjectPart::Whole };
        self.outputs.push_back(Output::Open(spec(object)));
        self.file = Some(File::new(object, frame.dts));
    }

    fn close(&mut self) {
        self.fragment(None);
        if let Some(file) = self.file.take() {
            let summary = self.split.end();
            self.outputs.push_back(Output::Close(file.object, summary.clone()));
            self.outputs.push_back(Output::FileDone(file.object.file, summary));
        }
    }

    /// The head of the file, in front of its first fragment.
    fn init(&mut self) {
        let Some(file) = &mut self.file else { return };
        // Nothing may be shown before 0, so the earliest of all times is the zero of both tracks.
        let lead = description(&self.split, TrackKind::Audio).map(|config| lead(&config)).unwrap_or_default();
        let video = file.video.iter().map(|frame| frame.dts.min(frame.pts));
        let audio = file.audio.iter().map(|frame| frame.dts.min(frame.pts) + lead);
        let zero = video.chain(audio).min().unwrap_or_default();
        let mut configs = Vec::new();
        let mut clock = |kind, frames: &[Frame]| {
            let config = description(&self.split, kind).filter(|_| !frames.is_empty())?;
            let clock = clock_of(&config, zero);
            configs.push((kind, config, clock.scale));
            Some(clock)
        };
        let video = clock(TrackKind::Video, &file.video);
        let audio = clock(TrackKind::Audio, &file.audio);
        file.tracks = Some(Tracks { video, audio });
        self.split.notes.zero(zero);
        let wall = self.wall_anchor.and_then(|anchor| anchor.checked_add(zero.as_duration()));
        let init = head::init(&configs, creation_time(wall));
        self.outputs.push_back(Output::Append(file.object, Bytes::from(init)));
    }

    /// Writes the open fragment, in front of `next`.
    fn fragment(&mut self, next: Option<&Frame>) {
        let Some(file) = self.file.as_ref().filter(|file| !file.is_empty()) else { return };
        if file.tracks.is_none() {
            self.init();
        }
        let Some(file) = &mut self.file else { return };
        let Some(tracks) = &mut file.tracks else { return };
        file.sequence += 1;
        self.split.notes.fragment(tracks.video.is_some(), tracks.audio.is_some());
        let next_of = |kind| next.filter(|frame| frame.track == kind).map(|frame| frame.dts);
        let mut runs = Vec::with_capacity(2);
        for (kind, clock, frames) in
            [(TrackKind::Video, &mut tracks.video, &file.video), (TrackKind::Audio, &mut tracks.audio, &file.audio)]
        {
            if let Some(clock) = clock.as_mut().filter(|_| !frames.is_empty()) {
                runs.push((kind, run(clock, frames, next_of(kind))));
            }
        }
        let mut boxes = moof(file.sequence, &runs);
        boxes.u32(u32::try_from(file.bytes + 8).unwrap_or(u32::MAX));
        boxes.put(b"mdat");
        let object = file.object;
        self.outputs.push_back(Output::Append(object, Bytes::from(boxes.bytes)));
        for frame in file.video.drain(..) {
            self.outputs.push_back(Output::Append(object, frame.data));
        }
        // Frames of sound are small: one piece costs less than many.
        let mut sound = BytesMut::with_capacity(file.audio.iter().map(|frame| frame.data.len()).sum());
        file.audio.drain(..).for_each(|frame| sound.extend_from_slice(&frame.data));
        if !sound.is_empty() {
            self.outputs.push_back(Output::Append(object, sound.freeze()));
        }
        file.bytes = 0;
        if let Some(note) = self.split.notes.take() {
            self.outputs.push_back(Output::Note(object, note));
        }
        self.outputs.push_back(Output::Commit(object, self.split.mark()));
    }

    /// The head of the file has the track, or is not out yet.
    fn is_declared(&self, track: TrackKind) -> bool {
        match self.file.as_ref().and_then(|file| file.tracks.as_ref()) {
            Some(tracks) if track == TrackKind::Video => tracks.video.is_some(),
            Some(tracks) => tracks.audio.is_some(),
            None => true,
        }
    }

    /// Whether the frame begins a fragment. Every picture does, when its predecessor's duration is known with it: what a
    /// crash costs is one picture and the sound beside it.
    fn is_fragment_over(&self, frame: &Frame) -> bool {
        let Some(file) = self.file.as_ref().filter(|file| !file.is_empty()) else { return false };
        let is_full = file.bytes + frame.data.len() > MAX_BYTES || file.video.len() + file.audio.len() >= MAX_FRAMES;
        let is_missing = |track, frames: &[Frame]| frames.is_empty() && self.split.is_live(track, frame.dts);
        let is_waiting = file.tracks.is_none()
            && (is_missing(TrackKind::Video, &file.video) || is_missing(TrackKind::Audio, &file.audio));
        if is_full || is_waiting {
            return is_full || frame.dts - file.starts_at >= MAX_WAIT;
        }
        match frame.track {
            TrackKind::Video => !file.video.is_empty(),
            TrackKind::Audio => file.audio.first().is_some_and(|first| frame.dts - first.dts >= AIM),
        }
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

fn clock_of(config: &CodecConfig, zero: MediaTime) -> TrackClock {
    TrackClock::new(config, zero - lead(config))
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

impl Muxer for Fragmented {
    fn push(&mut self, frame: &Frame) -> Result<(), Rejected> {
        let place = self.split.place(frame)?;
        if frame.data.len() > MAX_SAMPLE {
            return Err(Rejected::Malformed(format!("{} bytes do not fit into a sample", frame.data.len())));
        }
        if place == Place::NewFile || self.is_fragment_over(frame) {
            self.fragment(Some(frame));
        }
        if place == Place::NewFile || !self.is_declared(frame.track) {
            self.close();
            self.open(frame);
        }
        self.split.count(frame);
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.is_empty() {
            file.starts_at = frame.dts;
        }
        file.bytes += frame.data.len();
        match frame.track {
            TrackKind::Video => file.video.push(frame.clone()),
            TrackKind::Audio => file.audio.push(frame.clone()),
        }
        Ok(())
    }

    fn config(&mut self, track: TrackKind, config: &CodecConfig) -> Reaction {
        // The open fragment belongs to the configuration before this one.
        let before = description(&self.split, track);
        if before.is_some() && before.as_ref() != Some(config) {
            self.fragment(None);
        }
        match self.split.configure(track, config) {
            Change::Unsupported => Reaction::Unsupported,
            Change::Changed | Change::Recoded => {
                self.split.cut_now();
                Reaction::CutHere
            }
            Change::None => Reaction::Continue,
        }
    }

    fn gap(&mut self, gap: Gap) {
        self.split.gap(gap);
        self.fragment(None);
    }

    fn cut(&mut self) {
        self.split.cut();
    }

    fn close_file(&mut self) {
        self.close();
        self.split.reopen_at_key();
    }

    fn suspend(&mut self) {
        self.fragment(None);
    }

    fn finish(mut self: Box<Self>) -> Finished {
        self.close();
        Finished { outputs: self.outputs.into(), files: self.split.files() }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
