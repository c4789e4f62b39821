//! Where API files begin and end: one rule for all containers.
//!
//! A file whose limit has passed, or that was asked to end, goes on until the next video key frame, so that the next
//! file can be decoded alone; without live video it ends at the next frame. A stream that sends no key frame for another
//! half of the limit is cut anyway: the limit bounds files, and joined in order they still lose nothing.

use std::sync::Arc;
use std::time::Duration;

use media::{AacConfig, AvcConfig, CodecConfig, Frame, Gap, MediaTime, TrackKind};

use crate::{Mark, Rejected, Summary};

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
    /// The codec cannot be carried; the track is left out from here on.
    Unsupported,
}

/// The state shared by all muxers: configurations, the open file's extent, pending cuts.
#[derive(Debug)]
pub(crate) struct Split {
    /// Current configurations.
    pub(crate) video: Option<Arc<AvcConfig>>,
    /// See `video`.
    pub(crate) audio: Option<Arc<AacConfig>>,
    carries_video: bool,
    limit: Option<MediaTime>,
    file: Option<Tally>,
    files: u32,
    cut_at_key: bool,
    cut_now: bool,
    last_video: Option<MediaTime>,
    last_audio: Option<MediaTime>,
}

impl Split {
    pub(crate) fn new(limit: Option<Duration>, carries_video: bool) -> Self {
        Self {
            video: None,
            audio: None,
            carries_video,
            limit: limit.map(MediaTime::from_duration),
            file: None,
            files: 0,
            cut_at_key: false,
            cut_now: false,
            last_video: None,
            last_audio: None,
        }
    }

    /// Takes over a configuration.
    pub(crate) fn configure(&mut self, track: TrackKind, config: &CodecConfig) -> Change {
        let tally = self.file.as_ref();
        match (track, config) {
            (TrackKind::Video, CodecConfig::Avc(avc)) if self.carries_video => {
                let used = tally.is_some_and(|tally| tally.video.frames > 0);
                let changed = used && self.video.as_ref().is_some_and(|old| old != avc);
                self.video = Some(avc.clone());
                if changed { Change::Changed } else { Change::None }
            }
            (TrackKind::Audio, CodecConfig::Aac(aac)) => {
                let used = tally.is_some_and(|tally| tally.audio.frames > 0);
                let changed = used && self.audio.as_ref().is_some_and(|old| old != aac);
                self.audio = Some(aac.clone());
                if changed { Change::Changed } else { Change::None }
            }
            (track, _) => {
                match track {
                    TrackKind::Video => self.video = None,
                    TrackKind::Audio => self.audio = None,
                }
                Change::Unsupported
            }
        }
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
        if is_picture && !frame.keyframe && self.last_video.is_none() {
            return Err(Rejected::WaitingForKeyFrame);
        }
        let Some(tally) = &self.file else { return Ok(Place::NewFile) };
        if self.cut_now || self.is_cut_before(frame, tally) { Ok(Place::NewFile) } else { Ok(Place::Here) }
    }

    fn is_cut_before(&self, frame: &Frame, tally: &Tally) -> bool {
        let length = frame.dts - tally.starts_at;
        let is_over = self.limit.is_some_and(|limit| length >= limit);
        if !is_over && !self.cut_at_key {
            return false;
        }
        let is_overdue = self.limit.is_some_and(|limit| length.0 >= limit.0 / 2 * 3);
        let is_video_live = self.last_video.is_some() && self.is_live(TrackKind::Video, frame.dts);
        is_overdue || !is_video_live || (frame.track == TrackKind::Video && frame.keyframe)
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
        self.files += 1;
        self.files - 1
    }

    /// Counts a frame into the open file.
    pub(crate) fn count(&mut self, frame: &Frame) {
        match frame.track {
            TrackKind::Video => self.last_video = Some(frame.dts),
            TrackKind::Audio => self.last_audio = Some(frame.dts),
        }
        if let Some(tally) = &mut self.file {
            tally.count(frame, self.audio.as_deref());
        }
    }

    /// Ends the open file.
    pub(crate) fn end(&mut self) -> Summary {
        self.file.take().map(|tally| self.describe(&tally)).unwrap_or_default()
    }

    /// A summary of any extent with the configurations of now.
    pub(crate) fn describe(&self, tally: &Tally) -> Summary {
        Summary {
            starts_at: tally.starts_at,
            ends_at: tally.ends_at,
            video_frames: tally.video.frames,
            audio_frames: tally.audio.frames,
            video: self.video.clone().filter(|_| tally.video.frames > 0).map(CodecConfig::Avc),
            audio: self.audio.clone().filter(|_| tally.audio.frames > 0).map(CodecConfig::Aac),
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
}

/// The extent of one track.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrackTally {
    pub(crate) frames: u64,
    last: MediaTime,
    duration: i64,
}

impl Tally {
    pub(crate) fn mark(&self) -> Mark {
        Mark { media_time: self.ends_at, video_frames: self.video.frames, audio_frames: self.audio.frames }
    }

    pub(crate) fn new(starts_at: MediaTime) -> Self {
        Self { starts_at, ends_at: starts_at, video: TrackTally::default(), audio: TrackTally::default() }
    }

    pub(crate) fn count(&mut self, frame: &Frame, aac: Option<&AacConfig>) {
        self.starts_at = self.starts_at.min(frame.dts);
        let end = match frame.track {
            TrackKind::Video => self.video.count(frame.dts, None),
            TrackKind::Audio => self.audio.count(frame.dts, aac.map(frame_duration)),
        };
        self.ends_at = self.ends_at.max(end);
    }
}

impl TrackTally {
    /// The end of the frame.
    fn count(&mut self, dts: MediaTime, duration: Option<i64>) -> MediaTime {
        let step = dts.0 - self.last.0;
        if let Some(duration) = duration {
            self.duration = duration;
        } else if self.frames > 0 && step <= MAX_FRAME_DURATION {
            self.duration = step;
        }
        self.frames += 1;
        self.last = dts;
        dts + MediaTime(if self.duration > 0 { self.duration } else { DEFAULT_DURATION })
    }
}

/// Duration of an AAC frame in timeline ticks.
pub(crate) fn frame_duration(aac: &AacConfig) -> i64 {
    i64::from(aac.samples_per_frame) * MediaTime::SCALE / i64::from(aac.sample_rate.max(1))
}
