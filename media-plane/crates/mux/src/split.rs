//! Where API files begin and end: one rule for all containers.
//!
//! A file whose limit has passed, or that was asked to end, goes on until the next video key frame, so that the next
//! file can be decoded alone; without live video it ends at the next frame. A stream that sends no key frame for another
//! half of the limit is cut anyway: the limit bounds files, and joined in order they still lose nothing.

use std::time::Duration;

use media::{AacConfig, Codec, CodecConfig, Frame, Gap, GapReason, MediaTime, TrackKind};

use crate::notes::Notes;
use crate::past::Past;
use crate::picture::Picture;
use crate::sound::Sound;
use crate::{Format, Mark, Rejected, Segment, Summary};

/// A track without a frame for this long is not waited for: without a picture, sound alone decides where to cut.
const SILENCE: MediaTime = MediaTime(10 * MediaTime::SCALE);
/// Distances longer than this are holes, not the duration of a frame.
const MAX_FRAME_DURATION: i64 = MediaTime::SCALE;
/// Frame duration when a file has only one frame of video.
const DEFAULT_DURATION: i64 = MediaTime::SCALE / 30;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Into the open file.
    Here,
    /// Into a new file.
    NewFile,
}

/// What a configuration means to the open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The same as before, or the track has no frame in the open file yet.
    None,
    /// Different from that of frames in the open file.
    Changed,
    /// Of another codec than the frames in the open file; those that follow count from their first key frame.
    Recoded,
    /// The codec cannot be carried; the track is left out from here on.
    Unsupported,
}

/// The state shared by all muxers: configurations, the open file's extent, pending cuts.
#[derive(Debug)]
pub(crate) struct Split {
    /// Current configurations.
    pub(crate) video: Option<Picture>,
    /// See `video`.
    pub(crate) audio: Option<Sound>,
    /// What the open object is to note with its next mark.
    pub(crate) notes: Notes,
    /// Configurations of the newest frames in the open file.
    used: Used,
    /// Those that the notes of the open object tell.
    noted: Used,
    noted_start: Option<MediaTime>,
    format: Format,
    /// How segments are packed, where there are any.
    segment: Segment,
    limit: Option<MediaTime>,
    file: Option<Tally>,
    files: u32,
    cut_at_key: bool,
    cut_now: bool,
    last_video: Option<MediaTime>,
    last_audio: Option<MediaTime>,
    /// Pictures were lost: the next ones cannot be decoded before a key frame.
    needs_key: bool,
}

/// Configurations in use.
#[derive(Debug, Default)]
struct Used {
    video: Option<Picture>,
    audio: Option<Sound>,
}

impl Split {
    pub(crate) fn new(limit: Option<Duration>, format: Format) -> Self {
        Self {
            video: None,
            audio: None,
            notes: Notes::default(),
            used: Used::default(),
            noted: Used::default(),
            noted_start: None,
            format,
            segment: Segment::Ts,
            limit: limit.map(MediaTime::from_duration),
            file: None,
            files: 0,
            cut_at_key: false,
            cut_now: false,
            last_video: None,
            last_audio: None,
            needs_key: false,
        }
    }

    /// Of segments that are packed like this.
    pub(crate) fn packed(self, segment: Segment) -> Self {
        Self { segment, ..self }
    }

    fn carries(&self, codec: Codec) -> bool {
        self.format.carries_in(self.segment, codec)
    }

    /// Takes over a configuration.
    pub(crate) fn configure(&mut self, track: TrackKind, config: &CodecConfig) -> Change {
        let tally = self.file.as_ref();
        match (track, config) {
            (TrackKind::Video, config) => {
                let Some(picture) = Picture::of(config).filter(|picture| self.carries(picture.codec())) else {
                    self.video = None;
                    return Change::Unsupported;
                };
                let used = tally.is_some_and(|tally| tally.video.frames > 0);
                let changed = used && self.video.as_ref().is_some_and(|old| *old != picture);
                let coded = self.used.video.as_ref().filter(|_| used).map(Picture::codec);
                let recoded = coded.is_some_and(|coded| coded != picture.codec());
                self.needs_key |= recoded;
                // One that is only repeated stays the very same, which makes it cheap to compare.
                self.video = self.video.take().filter(|old| *old == picture).or(Some(picture));
                match (recoded, changed) {
                    (true, _) => Change::Recoded,
                    (false, true) => Change::Changed,
                    (false, false) => Change::None,
                }
            }
            (TrackKind::Audio, config) => {
                let sound = Sound::of(config).filter(|sound| self.carries(sound.codec()));
                let used = tally.is_some_and(|tally| tally.audio.frames > 0);
                let changed = used && self.audio.is_some() && self.audio != sound;
                match sound {
                    None => self.audio = None,
                    Some(sound) => self.audio = self.audio.take().filter(|old| *old == sound).or(Some(sound)),
                }
                match (&self.audio, changed) {
                    (None, _) => Change::Unsupported,
                    (_, true) => Change::Changed,
                    (_, false) => Change::None,
                }
            }
        }
    }

    /// The configuration of sound that is AAC.
    pub(crate) fn aac(&self) -> Option<&AacConfig> {
        self.audio.as_ref().and_then(Sound::aac)
    }

    /// The open file ends at the next key frame.
    pub(crate) fn cut(&mut self) {
        self.cut_at_key = self.file.is_some();
    }

    /// The file was closed between two frames: the next one begins at a key frame again.
    pub(crate) fn reopen_at_key(&mut self) {
        self.last_video = None;
    }

    /// Goes on counting files behind those of an earlier process.
    pub(crate) fn restore(&mut self, files: u32) {
        self.files = files;
    }

    /// Goes on with the open file of an earlier process.
    pub(crate) fn resume(&mut self, past: &Past) {
        let seen = |track: &TrackTally| (track.frames > 0).then_some(past.tally.ends_at);
        (self.last_video, self.last_audio) = (seen(&past.tally.video), seen(&past.tally.audio));
        (self.video, self.audio) = (past.video.clone(), past.audio.clone());
        self.used = Used { video: past.video.clone(), audio: past.audio.clone() };
        self.noted = Used { video: past.video.clone(), audio: past.audio.clone() };
        self.noted_start = past.starts_at;
        self.needs_key = true;
        self.file = Some(past.tally.clone());
    }

    /// The open file up to here.
    pub(crate) fn mark(&self) -> Mark {
        self.file.as_ref().map(Tally::mark).unwrap_or_default()
    }

    /// The open file ends at the next frame.
    pub(crate) fn cut_now(&mut self) {
        self.cut_now = self.file.is_some();
    }

    /// Silence across a hole says nothing about a track.
    pub(crate) fn gap(&mut self, gap: Gap) {
        for last in [&mut self.last_video, &mut self.last_audio].into_iter().flatten() {
            *last = (*last).max(gap.resumes_at);
        }
        // A clock that jumps has lost nothing, and frames that did not arrive are followed by ones that can be shown.
        self.needs_key |= !matches!(gap.reason, GapReason::FramesRejected | GapReason::FramesLost);
    }

    /// Where the frame goes; changes nothing.
    pub(crate) fn place(&self, frame: &Frame) -> Result<Place, Rejected> {
        let configured = match frame.track {
            TrackKind::Video => self.video.is_some(),
            TrackKind::Audio => self.audio.is_some(),
        };
        if !configured {
            return Err(Rejected::NoConfig);
        }
        let is_picture = frame.track == TrackKind::Video;
        if is_picture && !frame.keyframe && (self.needs_key || self.last_video.is_none()) {
            return Err(Rejected::WaitingForKeyFrame);
        }
        let Some(tally) = &self.file else { return Ok(Place::NewFile) };
        if self.cut_now || self.is_cut_before(frame, tally) { Ok(Place::NewFile) } else { Ok(Place::Here) }
    }

    fn is_cut_before(&self, frame: &Frame, tally: &Tally) -> bool {
        if tally.is_fresh || self.limit.is_none() && !self.cut_at_key {
            return false;
        }
        let is_first = match frame.track {
            TrackKind::Video => tally.video.frames == 0,
            TrackKind::Audio => tally.audio.frames == 0,
        };
        // A track that is seconds ahead of the other does not end a file that has nothing of it yet.
        let at = if is_first { frame.dts.min(tally.ends_at) } else { frame.dts };
        let length = at - tally.starts_at;
        let is_over = self.limit.is_some_and(|limit| length >= limit);
        if !is_over && !self.cut_at_key {
            return false;
        }
        let is_overdue = self.limit.is_some_and(|limit| length.0 >= limit.0 / 2 * 3);
        let is_video_live = self.last_video.is_some() && self.is_live(TrackKind::Video, frame.dts);
        is_overdue || !is_video_live || (frame.track == TrackKind::Video && frame.keyframe)
    }

    /// Frames of the track have come, and not only long ago.
    pub(crate) fn is_heard(&self, track: TrackKind, at: MediaTime) -> bool {
        let last = match track {
            TrackKind::Video => self.last_video,
            TrackKind::Audio => self.last_audio,
        };
        last.is_some() && self.is_live(track, at)
    }

    /// The track is configured and its frames come.
    pub(crate) fn is_live(&self, track: TrackKind, at: MediaTime) -> bool {
        let (configured, last) = match track {
            TrackKind::Video => (self.video.is_some(), self.last_video),
            TrackKind::Audio => (self.audio.is_some(), self.last_audio),
        };
        configured && last.is_none_or(|last| at - last < SILENCE)
    }

    /// Starts a file with this frame and gives its index. The one before must have been ended with [`Split::end`].
    pub(crate) fn begin(&mut self, frame: &Frame) -> u32 {
        (self.cut_at_key, self.cut_now) = (false, false);
        self.file = Some(Tally::new(frame.dts));
        self.used = Used::default();
        self.begin_object();
        self.files += 1;
        self.files - 1
    }

    /// The notes of an object tell everything it needs, whatever was noted for the one before.
    pub(crate) fn begin_object(&mut self) {
        self.noted = Used::default();
        self.noted_start = None;
        self.notes.take();
    }

    /// Takes a frame into the open file, which is one object.
    pub(crate) fn count(&mut self, frame: &Frame) {
        self.see(frame);
        self.add(frame);
        self.note_start();
    }

    /// Takes notice of a frame.
    #[inline]
    pub(crate) fn see(&mut self, frame: &Frame) {
        match frame.track {
            TrackKind::Video => (self.last_video, self.needs_key) = (Some(frame.dts), false),
            TrackKind::Audio => self.last_audio = Some(frame.dts),
        }
    }

    /// Counts a frame that is being written into the open file.
    #[inline]
    pub(crate) fn add(&mut self, frame: &Frame) {
        let is_same = match frame.track {
            TrackKind::Video => match (&self.noted.video, &self.video) {
                (Some(noted), Some(picture)) => noted.is(picture),
                (None, None) => true,
                _ => false,
            },
            TrackKind::Audio => match (&self.noted.audio, &self.audio) {
                (Some(noted), Some(sound)) => noted.is(sound),
                (None, None) => true,
                _ => false,
            },
        };
        if !is_same {
            self.note_config(frame.track);
        }
        if let Some(tally) = &mut self.file {
            tally.count(frame, self.audio.as_ref());
        }
    }

    #[cold]
    fn note_config(&mut self, track: TrackKind) {
        match track {
            TrackKind::Video => {
                (self.noted.video, self.used.video) = (self.video.clone(), self.video.clone());
                self.video.iter().for_each(|picture| self.notes.picture(picture));
            }
            TrackKind::Audio => {
                (self.noted.audio, self.used.audio) = (self.audio.clone(), self.audio.clone());
                self.audio.iter().for_each(|sound| self.notes.sound(sound));
            }
        }
    }

    /// Notes where the file, which is one object, begins.
    #[inline]
    pub(crate) fn note_start(&mut self) {
        if let Some(starts_at) = self.file.as_ref().map(|tally| tally.starts_at) {
            self.note_start_at(starts_at);
        }
    }

    /// Notes where the object begins, if that is news.
    #[inline]
    pub(crate) fn note_start_at(&mut self, starts_at: MediaTime) {
        if self.noted_start != Some(starts_at) {
            self.note_new_start(starts_at);
        }
    }

    #[cold]
    fn note_new_start(&mut self, starts_at: MediaTime) {
        self.noted_start = Some(starts_at);
        self.notes.start(starts_at);
    }

    /// The open file so far.
    pub(crate) fn tally(&self) -> Option<&Tally> {
        self.file.as_ref()
    }

    /// Ends the open file.
    pub(crate) fn end(&mut self) -> Summary {
        self.file.take().map(|tally| self.describe(&tally)).unwrap_or_default()
    }

    /// A summary of any extent with the configurations of its newest frames.
    pub(crate) fn describe(&self, tally: &Tally) -> Summary {
        Summary {
            starts_at: tally.starts_at,
            ends_at: tally.ends_at,
            video_frames: tally.video.frames,
            audio_frames: tally.audio.frames,
            video: self.used.video.as_ref().filter(|_| tally.video.frames > 0).map(Picture::config),
            audio: self.used.audio.as_ref().filter(|_| tally.audio.frames > 0).map(Sound::config),
        }
    }

    /// Files begun so far.
    pub(crate) fn files(&self) -> u32 {
        self.files
    }
}

/// The extent of a file or segment.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) starts_at: MediaTime,
    /// Never moves back, although the duration of the newest picture is a guess until the next comes.
    pub(crate) ends_at: MediaTime,
    pub(crate) video: TrackTally,
    pub(crate) audio: TrackTally,
    /// It came empty from an earlier process: the first frame says where it begins.
    pub(crate) is_fresh: bool,
}

/// The extent of one track.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrackTally {
    pub(crate) frames: u64,
    last: Option<MediaTime>,
    duration: i64,
}

impl Tally {
    pub(crate) fn mark(&self) -> Mark {
        Mark { media_time: self.ends_at, video_frames: self.video.frames, audio_frames: self.audio.frames }
    }

    pub(crate) fn new(starts_at: MediaTime) -> Self {
        let (video, audio) = (TrackTally::default(), TrackTally::default());
        Self { starts_at, ends_at: starts_at, video, audio, is_fresh: false }
    }

    pub(crate) fn frames(&self) -> u64 {
        self.video.frames.saturating_add(self.audio.frames)
    }

    /// A part of this file that begins now: pictures are as long as they were.
    pub(crate) fn part(&self, starts_at: MediaTime) -> Self {
        let mut part = Self::new(starts_at);
        part.video.duration = self.video.duration;
        part
    }

    /// An extent of which only this is known.
    pub(crate) fn of(starts_at: MediaTime, mark: Mark) -> Self {
        let track = |frames| TrackTally { frames, ..TrackTally::default() };
        let (video, audio) = (track(mark.video_frames), track(mark.audio_frames));
        Self { starts_at, ends_at: mark.media_time.max(starts_at), video, audio, is_fresh: false }
    }

    pub(crate) fn count(&mut self, frame: &Frame, sound: Option<&Sound>) {
        if std::mem::take(&mut self.is_fresh) {
            (self.starts_at, self.ends_at) = (frame.dts, frame.dts);
        }
        self.starts_at = self.starts_at.min(frame.dts);
        let end = match frame.track {
            TrackKind::Video => self.video.count(frame.dts, None),
            TrackKind::Audio => self.audio.count(frame.dts, sound.map(|sound| sound.duration(&frame.data))),
        };
        self.ends_at = self.ends_at.max(end);
    }
}

impl TrackTally {
    /// The end of the frame.
    fn count(&mut self, dts: MediaTime, duration: Option<i64>) -> MediaTime {
        let step = self.last.map(|last| (dts - last).0);
        if let Some(duration) = duration {
            self.duration = duration;
        } else if let Some(step) = step.filter(|step| *step <= MAX_FRAME_DURATION) {
            self.duration = step;
        }
        self.frames = self.frames.saturating_add(1);
        self.last = Some(dts);
        dts + MediaTime(if self.duration > 0 { self.duration } else { DEFAULT_DURATION })
    }
}
