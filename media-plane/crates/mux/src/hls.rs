//! HTTP Live Streaming with segments of transport stream or fragmented MP4.
//!
//! A segment ends at the first key frame after its aim (sound alone: at the frame). The playlist's target duration is
//! twice the aim and never changes; a picture group that would not fit below it is cut inside, which loses nothing: the
//! segments still join byte for byte. Holes and changes of coding begin a segment with a discontinuity.

mod fmp4;
mod packets;
mod playlist;
mod resume;
mod writer;

use std::collections::VecDeque;

use media::{CodecConfig, Frame, Gap, MediaTime, TrackKind};

use crate::Segment as Kind;
use crate::adts::Adts;
use crate::mp4::{MAX_SAMPLE, description};
use crate::notes::Opening;
use crate::picture::Picture;
use crate::split::{Change, Place, Split, Tally};
use crate::{
    Finished, Format, Muxer, ObjectId, ObjectPart, ObjectSpec, Options, Output, Reaction, Rejected, Restored, Summary,
};

use fmp4::Fmp4;
use packets::Streams;
use playlist::{Entry, Playlist};
use writer::{Writer, is_carried};

pub(crate) use packets::crc32;
pub use playlist::{init_name, segment_name};

/// Name of the playlist beside its segments.
pub const PLAYLIST_NAME: &str = "index.m3u8";
/// Extension and content type of segments.
const SEGMENT: (&str, &str) = ("ts", "video/mp2t");
/// Extension and content type of playlists.
const PLAYLIST: (&str, &str) = ("m3u8", "application/vnd.apple.mpegurl");
/// The longest aim of a segment: twice this is the longest target duration that a playlist is believed after a crash.
pub(crate) const LONGEST: std::time::Duration = std::time::Duration::from_secs(playlist::MAX_TARGET / 2);
/// Timestamps in milliseconds make a picture group of exactly the aim appear a little shorter.
const TOLERANCE: MediaTime = MediaTime(MediaTime::SCALE / 20);
/// A segment is cut inside its picture group this long before it would exceed the target duration.
const MARGIN: MediaTime = MediaTime(MediaTime::SCALE);
/// A pause longer than this between two segments belongs to neither.
const HOLE: MediaTime = MediaTime(MediaTime::SCALE / 2);

/// The HLS muxer.
#[derive(Debug)]
pub(crate) struct Hls {
    split: Split,
    options: Options,
    aim: MediaTime,
    /// `EXT-X-TARGETDURATION` in seconds.
    target: u64,
    packing: Packing,
    outputs: VecDeque<Output>,
    file: Option<File>,
    /// What comes next does not continue what came before.
    broken: bool,
    /// Coding has changed since the open segment began.
    changed: bool,
}

/// What segments are made of.
#[derive(Debug)]
enum Packing {
    Ts { writer: Writer, adts: Option<Adts> },
    Fmp4(Box<Fmp4>),
}

impl Packing {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Ts => Self::Ts { writer: Writer::default(), adts: None },
            Kind::Fmp4 => Self::Fmp4(Box::default()),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Ts { .. } => Kind::Ts,
            Self::Fmp4(_) => Kind::Fmp4,
        }
    }
}

#[derive(Debug)]
struct File {
    index: u32,
    playlist: Playlist,
    segment: Option<Segment>,
    segments: u32,
    /// Initialisation segments begun.
    inits: u32,
    /// A segment that an earlier process has opened without a byte in it.
    reserved: Option<ObjectId>,
}

impl File {
    fn new(index: u32, playlist: Playlist) -> Self {
        Self { index, playlist, segment: None, segments: 0, inits: 0, reserved: None }
    }

    fn playlist(&self, last: bool) -> Output {
        let object = ObjectId { file: self.index, part: ObjectPart::Playlist };
        Output::Playlist { object, body: self.playlist.body(), last }
    }
}

#[derive(Debug)]
struct Segment {
    object: ObjectId,
    number: u32,
    streams: Streams,
    discontinuity: bool,
    /// What is noted of it with its first fragment (fMP4).
    opening: Option<Opening>,
    /// Its initialisation segment, once that is known.
    init: Option<u32>,
    tally: Tally,
}

impl Hls {
    pub(crate) fn new(options: &Options) -> Self {
        let aim = options.segment_duration.max(std::time::Duration::from_secs(1));
        Self {
            split: Split::new(options.max_file_duration, Format::Hls).packed(options.segment),
            options: options.clone(),
            aim: MediaTime::from_duration(aim),
            target: (aim * 2).as_secs_f64().ceil() as u64,
            packing: Packing::new(options.segment),
            outputs: VecDeque::new(),
            file: None,
            broken: false,
            changed: false,
        }
    }

    pub(crate) fn restore(options: &Options, state: Restored) -> Self {
        // A file goes on as it was begun.
        let segment = state.open.as_ref().and_then(resume::packing).unwrap_or(options.segment);
        let mut muxer = Self::new(&Options { segment, ..options.clone() });
        muxer.split.restore(state.files);
        if let Some(open) = state.open {
            muxer.reopen(open);
        }
        muxer
    }

    fn open_file(&mut self, frame: &Frame) {
        let index = self.split.begin(frame);
        let object = ObjectId { file: index, part: ObjectPart::Playlist };
        let (extension, content_type) = PLAYLIST;
        self.outputs.push_back(Output::Open(ObjectSpec { object, extension, content_type }));
        self.file = Some(File::new(index, Playlist::new(self.target, self.packing.kind())));
        if let Packing::Fmp4(fmp4) = &mut self.packing {
            fmp4.fragments.forget_head();
        }
        (self.broken, self.changed) = (false, false);
    }

    fn end_file(&mut self, next: Option<&Frame>) {
        self.close_segment(next);
        let Some(mut file) = self.file.take() else { return };
        if let Some(object) = file.reserved.take() {
            self.outputs.push_back(Output::Close(object, Summary::default()));
        }
        if file.playlist.segments().next().is_some() {
            file.playlist.end();
            self.outputs.push_back(file.playlist(true));
        }
        self.outputs.push_back(Output::FileDone(file.index, self.split.end()));
    }

    fn open_segment(&mut self, frame: &Frame) {
        let (streams, is_new) = match &mut self.packing {
            Packing::Ts { .. } => {
                let is_in = |track| frame.track == track || self.split.is_live(track, frame.dts);
                (Streams { video: is_in(TrackKind::Video), audio: is_in(TrackKind::Audio) }, false)
            }
            Packing::Fmp4(fmp4) => {
                let is_new = fmp4.begin(&self.split, frame);
                (fmp4.streams(), is_new)
            }
        };
        let part = match self.packing {
            Packing::Ts { .. } => ObjectPart::Segment,
            Packing::Fmp4(_) => ObjectPart::Fragment,
        };
        let Some(file) = &mut self.file else { return };
        let reserved = file.reserved.take();
        let object = reserved.unwrap_or(ObjectId { file: file.index, part: part(file.segments) });
        let number = resume::number(object.part).unwrap_or(file.segments);
        let discontinuity = (std::mem::take(&mut self.broken) || is_new) && number > 0;
        let Some(whole) = self.split.tally() else { return };
        let opening = Opening {
            discontinuity,
            video: streams.video,
            audio: streams.audio,
            starts_at: whole.starts_at,
            video_frames: whole.video.frames,
            audio_frames: whole.audio.frames,
            init: None,
        };
        let (tally, mut noted) = (whole.part(frame.dts), Some(opening));
        self.split.begin_object();
        let (extension, content_type) = match &mut self.packing {
            Packing::Ts { writer, .. } => {
                writer.tables(streams, matches!(self.split.video, Some(Picture::Hevc(_))));
                self.split.notes.segment(&opening);
                noted = None;
                SEGMENT
            }
            Packing::Fmp4(_) => fmp4::SEGMENT,
        };
        file.segment = Some(Segment { object, number, streams, discontinuity, opening: noted, init: None, tally });
        file.segments = number.saturating_add(1);
        self.changed = false;
        if reserved.is_none() {
            self.outputs.push_back(Output::Open(ObjectSpec { object, extension, content_type }));
        }
    }

    /// Ends the open segment in front of `next`, and names it in the playlist.
    fn end_segment(&mut self, next: Option<&Frame>) {
        self.close_segment(next);
        self.outputs.extend(self.file.as_ref().map(|file| file.playlist(false)));
    }

    fn close_segment(&mut self, next: Option<&Frame>) {
        self.fragment(next);
        let Some(file) = &mut self.file else { return };
        let Some(segment) = file.segment.take() else { return };
        let (starts_at, ends_at) = (segment.tally.starts_at, segment.tally.ends_at);
        // Exact durations add up only from start to start, but a hole is nobody's media.
        let end = match next {
            Some(next) if next.dts > starts_at && next.dts <= ends_at + HOLE => next.dts,
            _ => ends_at,
        };
        let Segment { object, number, discontinuity, init, tally, .. } = segment;
        let entry = Entry { number, init, duration: end - starts_at, discontinuity, wall_time: None };
        self.list(starts_at, entry);
        self.outputs.push_back(Output::Close(object, self.split.describe(&tally)));
    }

    /// Adds a segment that begins at `starts_at` to the playlist.
    fn list(&mut self, starts_at: MediaTime, mut entry: Entry) {
        let Some(file) = &mut self.file else { return };
        entry.duration = entry.duration.min(MediaTime::from_millis(self.target as i64 * 1_000));
        entry.wall_time = self.options.wall_anchor.and_then(|anchor| anchor.checked_add(starts_at.as_duration()));
        file.playlist.add(&entry);
    }

    /// Whether the frame begins a segment, and whether that does not continue the one before.
    fn segment_break(&self, frame: &Frame, segment: &Segment) -> Option<bool> {
        let length = frame.dts - segment.tally.starts_at;
        let is_hole = frame.dts > segment.tally.ends_at + MARGIN;
        if self.broken || !is_carried(segment.streams, frame.track) {
            return Some(true);
        }
        if self.changed && self.is_described_otherwise(frame.track) {
            return Some(true);
        }
        let is_exceeding = length + MARGIN > MediaTime::from_millis(self.target as i64 * 1_000);
        let is_picture = frame.track == TrackKind::Video;
        let can_start =
            if self.split.is_live(TrackKind::Video, frame.dts) { is_picture && frame.keyframe } else { true };
        if is_exceeding || can_start && (self.changed || length + TOLERANCE >= self.aim) {
            return Some(self.changed || is_exceeding && is_hole);
        }
        None
    }

    /// The initialisation segment does not fit the frames of this track any more.
    fn is_described_otherwise(&self, track: TrackKind) -> bool {
        match &self.packing {
            Packing::Ts { .. } => false,
            Packing::Fmp4(fmp4) => fmp4.fragments.is_described_otherwise(&self.split, track),
        }
    }

    fn check(&self, frame: &Frame) -> Result<(), Rejected> {
        match &self.packing {
            Packing::Ts { adts, .. } if frame.track == TrackKind::Audio => {
                adts.as_ref().ok_or(Rejected::NoConfig)?.frame_length(frame.data.len())?;
            }
            Packing::Fmp4(_) if frame.data.len() > MAX_SAMPLE => {
                return Err(Rejected::Malformed(format!("{} bytes do not fit into a sample", frame.data.len())));
            }
            _ => {}
        }
        Ok(())
    }

    /// The open segment has this frame: it is written, or kept for the fragment it belongs to.
    fn write(&mut self, frame: &Frame) {
        let Some(segment) = self.file.as_mut().and_then(|file| file.segment.as_mut()) else { return };
        segment.tally.count(frame, self.split.audio.as_ref());
        self.split.note_start_at(segment.tally.starts_at);
        let bytes = match &mut self.packing {
            Packing::Fmp4(fmp4) => return fmp4.fragments.add(frame),
            Packing::Ts { writer, adts } => {
                match (frame.track, &self.split.video, adts) {
                    (TrackKind::Video, Some(picture), _) => writer.video(frame, picture),
                    (TrackKind::Audio, _, Some(adts)) => writer.audio(frame, adts, !segment.streams.video),
                    _ => {}
                }
                writer.take()
            }
        };
        self.outputs.push_back(Output::Append(segment.object, bytes));
        if let Some(note) = self.split.notes.take() {
            self.outputs.push_back(Output::Note(segment.object, note));
        }
        self.outputs.push_back(Output::Commit(segment.object, segment.tally.mark()));
    }

    /// The configuration of sound as segments need it.
    fn adapt(&mut self) -> bool {
        let Packing::Ts { adts, .. } = &mut self.packing else { return true };
        *adts = self.split.aac().and_then(Adts::new);
        adts.is_some()
    }
}

impl Muxer for Hls {
    fn push(&mut self, frame: &Frame) -> Result<(), Rejected> {
        let place = self.split.place(frame)?;
        self.check(frame)?;
        if place == Place::NewFile {
            self.end_file(Some(frame));
            self.open_file(frame);
        }
        if let Packing::Fmp4(fmp4) = &self.packing
            && fmp4.fragments.is_over(&self.split, frame)
        {
            self.fragment(Some(frame));
        }
        let segment = self.file.as_ref().and_then(|file| file.segment.as_ref());
        match segment.map(|segment| self.segment_break(frame, segment)) {
            None => self.open_segment(frame),
            Some(Some(is_broken)) => {
                self.end_segment(Some(frame));
                self.broken = is_broken;
                self.open_segment(frame);
            }
            Some(None) => {}
        }
        self.split.see(frame);
        self.split.add(frame);
        self.write(frame);
        Ok(())
    }

    fn config(&mut self, track: TrackKind, config: &CodecConfig) -> Reaction {
        // The open fragment belongs to the configuration before this one.
        let before = description(&self.split, track);
        if before.is_some() && before.as_ref() != Some(config) {
            self.fragment(None);
        }
        let change = self.split.configure(track, config);
        if track == TrackKind::Audio && !self.adapt() {
            self.split.audio = None;
            return Reaction::Unsupported;
        }
        self.changed |= self.is_described_otherwise(track);
        match change {
            Change::Unsupported => Reaction::Unsupported,
            Change::Changed | Change::Recoded => {
                self.changed = true;
                Reaction::Continue
            }
            Change::None => Reaction::Continue,
        }
    }

    fn gap(&mut self, gap: Gap) {
        self.split.gap(gap);
        // Timestamps go on across frames that did not arrive: for a player that is no discontinuity.
        let is_broken = self.file.is_some() && gap.reason != media::GapReason::FramesLost;
        if is_broken {
            self.fragment(None);
        }
        self.broken |= is_broken;
    }

    fn cut(&mut self) {
        self.split.cut();
    }

    fn close_file(&mut self) {
        self.end_file(None);
        self.split.reopen_at_key();
    }

    fn suspend(&mut self) {
        if self.file.as_ref().is_some_and(|file| file.segment.is_some()) {
            self.end_segment(None);
        }
    }

    fn finish(mut self: Box<Self>) -> Finished {
        self.end_file(None);
        Finished { outputs: self.outputs.into(), files: self.split.files() }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
