//! MP4 (ISO/IEC 14496-12, -14, -15) in two layouts: [`FastStart`] with the index in front, [`Fragmented`] growing.
//!
//! The boxes are written here rather than built from a box library's types: a progressive file's index is made of its
//! notes by whoever stores them, so that a 12-hour file needs no memory while it grows, and tens of megabytes for the
//! moment in which `moov` is made.

mod boxes;
mod fragment;
mod fragmented;
mod head;
mod index;
mod track;

use std::collections::VecDeque;
use std::time::SystemTime;

use media::{CodecConfig, Frame, Gap, TrackKind};

use crate::notes::{Sample, Samples};
use crate::past::{self, Past};
use crate::picture::Picture;
use crate::scratch::Scratch;
use crate::sound::Sound;
use crate::split::{Change, Place, Split};
use crate::{
    Finished, Format, Muxer, ObjectId, ObjectPart, ObjectSpec, Options, Output, Reaction, Rejected, Restored,
    RestoredObject,
};

use index::{Outline, replay};

pub(crate) use boxes::creation_time;
pub(crate) use fragment::Fragments;
pub(crate) use fragmented::Fragmented;
pub use index::Index;

/// Extension and content type.
const KIND: (&str, &str) = ("mp4", "video/mp4");
/// A sample's size shares 32 bits with its track.
pub(crate) const MAX_SAMPLE: usize = i32::MAX as usize;

const fn track_id(kind: TrackKind) -> u32 {
    match kind {
        TrackKind::Video => boxes::VIDEO_ID,
        TrackKind::Audio => boxes::AUDIO_ID,
    }
}

/// The configuration of a track as a sample description.
pub(crate) fn description(split: &Split, kind: TrackKind) -> Option<CodecConfig> {
    match kind {
        TrackKind::Video => split.video.as_ref().map(Picture::config),
        TrackKind::Audio => split.audio.as_ref().map(Sound::config),
    }
}

fn spec(object: ObjectId) -> ObjectSpec {
    let (extension, content_type) = KIND;
    ObjectSpec { object, extension, content_type }
}

/// The progressive layout: samples are appended as they come, `moov` goes in front when the file is closed.
///
/// Every sample is noted, and `moov` is made of the notes, after a crash as well. A configuration that changes gets a
/// sample description of its own and a cut at the next key frame. A hole becomes the duration of the frame before it, in
/// both tracks alike.
#[derive(Debug)]
pub(crate) struct FastStart {
    split: Split,
    wall_anchor: Option<SystemTime>,
    outputs: VecDeque<Output>,
    scratch: Scratch,
    file: Option<File>,
}

#[derive(Debug)]
struct File {
    object: ObjectId,
    bytes: u64,
    outline: Outline,
    notes: Samples,
}

impl File {
    fn new(object: ObjectId) -> Self {
        Self { object, bytes: 0, outline: Outline::default(), notes: Samples::default() }
    }

    /// As an earlier process left it, with whether it can be gone on with.
    fn resume(object: &RestoredObject) -> (Self, bool) {
        let mut file = Self::new(object.spec.object);
        let replayed = replay(&object.notes, object.len, |sample, config| file.outline.push(sample, config));
        (file.bytes, file.notes) = (object.len, replayed.samples);
        (file, replayed.is_whole)
    }
}

impl FastStart {
    pub(crate) fn new(options: &Options) -> Self {
        let split = Split::new(options.max_file_duration, Format::Mp4);
        let (outputs, scratch) = (VecDeque::new(), Scratch::default());
        Self { split, wall_anchor: options.wall_anchor, outputs, scratch, file: None }
    }

    pub(crate) fn restore(options: &Options, state: Restored) -> Self {
        let mut muxer = Self::new(options);
        if let Some(object) = past::take_up(&mut muxer.split, &mut muxer.outputs, state) {
            muxer.resume(&object);
        }
        muxer
    }

    /// Goes on behind the last sample. Bytes that no note accounts for cannot be followed by others: the file ends there.
    fn resume(&mut self, object: &RestoredObject) {
        let (file, is_whole) = File::resume(object);
        let mut past = Past::of(object);
        (past.tally.video.frames, past.tally.audio.frames) = file.outline.counts();
        self.split.resume(&past);
        self.file = Some(file);
        if !is_whole {
            self.close();
        }
    }

    fn open(&mut self, frame: &Frame) {
        let object = ObjectId { file: self.split.begin(frame), part: ObjectPart::Whole };
        self.outputs.push_back(Output::Open(spec(object)));
        self.file = Some(File::new(object));
    }

    fn close(&mut self) {
        let Some(file) = self.file.take() else { return };
        let summary = self.split.end();
        let wall = self.wall_anchor.and_then(|anchor| anchor.checked_add(summary.starts_at.as_duration()));
        if file.bytes > 0 {
            let index = file.outline.index(file.bytes, boxes::creation_time(wall));
            self.outputs.push_back(Output::Index(file.object, index));
        }
        self.outputs.push_back(Output::Close(file.object, summary.clone()));
        self.outputs.push_back(Output::FileDone(file.object.file, summary));
    }
}

impl Muxer for FastStart {
    fn push(&mut self, frame: &Frame) -> Result<(), Rejected> {
        let place = self.split.place(frame)?;
        let config = description(&self.split, frame.track).ok_or(Rejected::NoConfig)?;
        if frame.data.len() > MAX_SAMPLE {
            return Err(Rejected::Malformed(format!("{} bytes do not fit into a sample", frame.data.len())));
        }
        if place == Place::NewFile {
            self.close();
            self.open(frame);
        }
        self.split.count(frame);
        let Some(file) = &mut self.file else { return Ok(()) };
        let object = file.object;
        let Frame { track, dts, pts, keyframe, ref data } = *frame;
        let sample = Sample { track, dts, pts, keyframe, size: data.len() as u32 };
        file.outline.push(&sample, &config);
        file.bytes += data.len() as u64;
        self.outputs.push_back(Output::Append(object, data.clone()));
        if let Some(note) = self.split.notes.take() {
            self.outputs.push_back(Output::Note(object, note));
        }
        file.notes.write(self.scratch.reserve(Samples::MAX_RECORD), &sample);
        self.outputs.push_back(Output::Note(object, self.scratch.take()));
        self.outputs.push_back(Output::Commit(object, self.split.mark()));
        Ok(())
    }

    fn config(&mut self, track: TrackKind, config: &CodecConfig) -> Reaction {
        match self.split.configure(track, config) {
            Change::Unsupported => Reaction::Unsupported,
            Change::Changed | Change::Recoded => {
                self.split.cut();
                Reaction::CutHere
            }
            Change::None => Reaction::Continue,
        }
    }

    fn gap(&mut self, gap: Gap) {
        self.split.gap(gap);
    }

    fn cut(&mut self) {
        self.split.cut();
    }

    fn close_file(&mut self) {
        self.close();
        self.split.reopen_at_key();
    }

    fn suspend(&mut self) {}

    fn finish(mut self: Box<Self>) -> Finished {
        self.close();
        Finished { outputs: self.outputs.into(), files: self.split.files() }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
