//! FLV (Adobe Flash Video File Format 10.1): strictly appendable, so that it can be uploaded while it is recorded.
//!
//! Nothing is ever patched: no duration, no file size, no key frame index in the header.

mod script;
mod video;

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};
use media::{Codec, CodecConfig, Frame, Gap, GapReason, MediaTime, TrackKind};

use crate::past::{self, Past};
use crate::picture::Picture;
use crate::scratch::Scratch;
use crate::split::{Change, Place, Split};
use video::MAX_PREFIX;

use crate::{
    Finished, Format, Muxer, ObjectId, ObjectPart, ObjectSpec, Options, Output, Reaction, Rejected, Restored,
    RestoredObject,
};

const TAG_AUDIO: u8 = 8;
const TAG_VIDEO: u8 = 9;
const TAG_SCRIPT: u8 = 18;
/// Frames up to this size are copied into one piece with their tag header; larger ones travel as they are.
const COPY_LIMIT: usize = 1 << 10;
/// A tag's size field has 24 bits; at most eight bytes of it are ours.
const MAX_PAYLOAD: usize = 0xff_ffff - MAX_PREFIX;
/// Frames wait at most this long for the first frame of the other track, which may be the earlier one.
const MAX_WAIT: MediaTime = MediaTime(MediaTime::SCALE);
/// The same as a number of frames.
const MAX_WAITING: usize = 256;

/// The FLV muxer.
#[derive(Debug)]
pub(crate) struct Flv {
    split: Split,
    outputs: VecDeque<Output>,
    scratch: Scratch,
    file: Option<File>,
}

#[derive(Debug)]
struct File {
    object: ObjectId,
    /// First frames, until the timestamp 0 is known.
    waiting: Vec<Frame>,
    /// Timeline position of timestamp 0: the smallest first DTS, so that none is negative.
    base: Option<MediaTime>,
    /// Timestamp of the newest tag in milliseconds.
    last: u32,
    /// The next frame of the track comes after a repeated configuration: decoders start anew behind a hole.
    video_due: bool,
    audio_due: bool,
}

impl File {
    fn new(object: ObjectId) -> Self {
        Self { object, waiting: Vec::new(), base: None, last: 0, video_due: false, audio_due: false }
    }

    fn due(&mut self, track: TrackKind) -> &mut bool {
        match track {
            TrackKind::Video => &mut self.video_due,
            TrackKind::Audio => &mut self.audio_due,
        }
    }
}

impl Flv {
    pub(crate) fn new(options: &Options) -> Self {
        let split = Split::new(options.max_file_duration, Format::Flv);
        Self { split, outputs: VecDeque::new(), scratch: Scratch::default(), file: None }
    }

    pub(crate) fn restore(options: &Options, state: Restored) -> Self {
        let mut muxer = Self::new(options);
        if let Some(object) = past::take_up(&mut muxer.split, &mut muxer.outputs, state) {
            muxer.resume(&object);
        }
        muxer
    }

    /// Goes on behind the last tag; without knowing where timestamp 0 is, that cannot be, and the file ends there.
    fn resume(&mut self, object: &RestoredObject) {
        let past = Past::of(object);
        self.split.resume(&past);
        let base = past.zero.filter(|_| object.len > 0);
        let last = base.map(|base| millis(past.tally.ends_at - base)).unwrap_or_default();
        let due = base.is_some();
        self.file = Some(File { base, last, video_due: due, audio_due: due, ..File::new(object.spec.object) });
        if object.len > 0 && base.is_none() {
            self.close();
        }
    }

    fn open(&mut self, frame: &Frame) {
        let object = ObjectId { file: self.split.begin(frame), part: ObjectPart::Whole };
        self.outputs.push_back(Output::Open(ObjectSpec { object, extension: "flv", content_type: "video/x-flv" }));
        self.file = Some(File::new(object));
    }

    fn close(&mut self) {
        self.release();
        if let Some(file) = self.file.take() {
            let summary = self.split.end();
            self.outputs.push_back(Output::Close(file.object, summary.clone()));
            self.outputs.push_back(Output::FileDone(file.object.file, summary));
        }
    }

    /// Every expected track has shown its first frame, or was waited for long enough.
    fn is_base_known(&self, file: &File) -> bool {
        let seen = |track| file.waiting.iter().any(|frame| frame.track == track);
        let times = || file.waiting.iter().map(|frame| frame.dts);
        let newest = times().max().unwrap_or_default();
        let complete = [TrackKind::Video, TrackKind::Audio]
            .into_iter()
            .all(|track| seen(track) || !self.split.is_live(track, newest));
        let span = newest - times().min().unwrap_or_default();
        complete || span >= MAX_WAIT || file.waiting.len() >= MAX_WAITING
    }

    /// Writes the head of the file and the frames that waited for it.
    fn release(&mut self) {
        let Some(file) = self.file.as_mut().filter(|file| file.base.is_none()) else { return };
        let waiting = std::mem::take(&mut file.waiting);
        file.base = waiting.iter().map(|frame| frame.dts).min();
        if let Some(base) = file.base {
            self.split.notes.zero(base);
            self.head();
            for frame in &waiting {
                self.tag_frame(frame);
            }
        }
    }

    fn head(&mut self) {
        let Some(file) = &self.file else { return };
        let object = file.object;
        let flags = u8::from(self.split.video.is_some()) | u8::from(self.split.audio.is_some()) << 2;
        let script = script::on_meta_data(self.split.video.as_ref(), self.split.aac());
        self.scratch.reserve(13).put_slice(&[b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]);
        self.tag(object, TAG_SCRIPT, 0, &[], &script);
        self.sequence_header(TrackKind::Video);
        self.sequence_header(TrackKind::Audio);
    }

    /// The configuration of a track, valid from here on.
    fn sequence_header(&mut self, track: TrackKind) {
        let Some((object, last)) = self.file.as_ref().map(|file| (file.object, file.last)) else { return };
        match track {
            TrackKind::Video => {
                if let Some(picture) = self.split.video.clone() {
                    let (prefix, record) = video::sequence_start(&picture);
                    self.tag(object, TAG_VIDEO, last, &prefix, record);
                }
            }
            TrackKind::Audio => {
                if let Some(asc) = self.split.aac().map(|aac| aac.asc.clone()) {
                    self.tag(object, TAG_AUDIO, last, &[0xaf, 0], &asc);
                }
            }
        }
    }

    fn tag_frame(&mut self, frame: &Frame) {
        self.split.add(frame);
        self.split.note_start();
        let Some(file) = &mut self.file else { return };
        let base = file.base.unwrap_or(frame.dts);
        file.last = millis(frame.dts - base);
        let (object, timestamp, dts) = (file.object, file.last, i64::from(file.last));
        if std::mem::take(file.due(frame.track)) {
            self.sequence_header(frame.track);
        }
        match frame.track {
            TrackKind::Video => {
                let offset = ((frame.pts - base).as_millis() - dts).clamp(-0x80_0000, 0x7f_ffff) as i32;
                let codec = self.split.video.as_ref().map(Picture::codec).unwrap_or(Codec::H264);
                let prefix = video::coded_frame(codec, frame.keyframe, offset);
                self.tag(object, TAG_VIDEO, timestamp, &prefix, &frame.data);
            }
            TrackKind::Audio => self.tag(object, TAG_AUDIO, timestamp, &[0xaf, 1], &frame.data),
        }
        if let Some(note) = self.split.notes.take() {
            self.outputs.push_back(Output::Note(object, note));
        }
        self.outputs.push_back(Output::Commit(object, self.split.mark()));
    }

    fn tag(&mut self, object: ObjectId, kind: u8, timestamp: u32, prefix: &[u8], payload: &Bytes) {
        let size = prefix.len() + payload.len();
        let copied = payload.len() <= COPY_LIMIT;
        let buffer = self.scratch.reserve(11 + prefix.len() + 4 + if copied { payload.len() } else { 0 });
        buffer.put_u32(u32::from(kind) << 24 | size as u32 & 0xff_ffff);
        buffer.put_u32(timestamp.rotate_left(8));
        buffer.put_slice(&[0, 0, 0]);
        buffer.put_slice(prefix);
        if copied {
            buffer.put_slice(payload);
        } else {
            self.outputs.push_back(Output::Append(object, self.scratch.take()));
            self.outputs.push_back(Output::Append(object, payload.clone()));
        }
        self.scratch.reserve(4).put_u32(size as u32 + 11);
        self.outputs.push_back(Output::Append(object, self.scratch.take()));
    }
}

/// A tag's timestamp.
fn millis(time: MediaTime) -> u32 {
    u32::try_from(time.as_millis().max(0)).unwrap_or(u32::MAX)
}

impl Muxer for Flv {
    fn push(&mut self, frame: &Frame) -> Result<(), Rejected> {
        let place = self.split.place(frame)?;
        if frame.data.len() > MAX_PAYLOAD {
            return Err(Rejected::Malformed(format!("{} bytes do not fit into an FLV tag", frame.data.len())));
        }
        if place == Place::NewFile {
            self.close();
            self.open(frame);
        }
        self.split.see(frame);
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.base.is_some() {
            self.tag_frame(frame);
            return Ok(());
        }
        file.waiting.push(frame.clone());
        if self.file.as_ref().is_some_and(|file| self.is_base_known(file)) {
            self.release();
        }
        Ok(())
    }

    fn config(&mut self, track: TrackKind, config: &CodecConfig) -> Reaction {
        // Frames that wait belong to the configuration before this one.
        let is_late = self.file.as_ref().is_some_and(|file| file.base.is_some());
        let before = (self.split.video.clone(), self.split.audio.clone());
        if !is_late && self.file.as_ref().is_some_and(|file| file.waiting.iter().any(|frame| frame.track == track)) {
            self.release();
        }
        match self.split.configure(track, config) {
            Change::Unsupported => return Reaction::Unsupported,
            // Players take one codec a track from beginning to end.
            Change::Recoded => {
                self.split.cut();
                return Reaction::CutHere;
            }
            Change::None | Change::Changed => {}
        }
        let is_new = before != (self.split.video.clone(), self.split.audio.clone());
        let is_now = |file: &mut File| file.base.is_some() && !*file.due(track);
        if is_new && self.file.as_mut().is_some_and(is_now) {
            self.sequence_header(track);
        }
        Reaction::Continue
    }

    fn gap(&mut self, gap: Gap) {
        // Timestamps jump with the timeline; players show the last picture meanwhile.
        self.release();
        self.split.gap(gap);
        if let Some(file) = self.file.as_mut().filter(|file| file.base.is_some())
            && !matches!(gap.reason, GapReason::FramesRejected | GapReason::FramesLost)
        {
            (file.video_due, file.audio_due) = (true, true);
        }
    }

    fn cut(&mut self) {
        self.split.cut();
    }

    fn close_file(&mut self) {
        self.close();
        self.split.reopen_at_key();
    }

    fn suspend(&mut self) {
        self.release();
    }

    fn finish(mut self: Box<Self>) -> Finished {
        self.close();
        Finished { outputs: self.outputs.into(), files: self.split.files() }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
