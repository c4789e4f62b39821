//! MP4 (ISO/IEC 14496-12, -14, -15) in two layouts: [`FastStart`] with the index in front, [`Fragmented`] growing.
//!
//! The boxes are written here rather than built from a box library's types: sample tables stay run-length encoded from
//! the first frame to the bytes of `moov`, so that a 12-hour file needs tens of megabytes, not gigabytes.

mod boxes;
mod fragmented;
mod head;
mod track;

use std::collections::VecDeque;
use std::time::SystemTime;

use bytes::Bytes;
use media::{CodecConfig, Frame, Gap, TrackKind};

use crate::split::{Change, Place, Split};
use crate::{Finished, Muxer, ObjectId, ObjectPart, ObjectSpec, Options, Output, Reaction, Rejected, Restored};

use track::Track;

pub(crate) use fragmented::Fragmented;

/// Extension and content type.
const KIND: (&str, &str) = ("mp4", "video/mp4");
/// A sample's size shares 32 bits with its track.
const MAX_SAMPLE: usize = i32::MAX as usize;

const fn track_id(kind: TrackKind) -> u32 {
    match kind {
        TrackKind::Video => boxes::VIDEO_ID,
        TrackKind::Audio => boxes::AUDIO_ID,
    }
}

/// The configuration of a track as a sample description.
fn description(split: &Split, kind: TrackKind) -> Option<CodecConfig> {
    match kind {
        TrackKind::Video => split.video.clone().map(CodecConfig::Avc),
        TrackKind::Audio => split.audio.clone().map(CodecConfig::Aac),
    }
}

fn spec(object: ObjectId) -> ObjectSpec {
    let (extension, content_type) = KIND;
    ObjectSpec { object, extension, content_type }
}

/// The progressive layout: samples are appended as they come, `moov` goes in front when the file is closed.
///
/// There are no commit marks: without its tables a truncated object is not playable. A configuration that changes gets
/// a sample description of its own and a cut at the next key frame. A hole becomes the duration of the frame before it,
/// in both tracks alike.
#[derive(Debug)]
pub(crate) struct FastStart {
    split: Split,
    wall_anchor: Option<SystemTime>,
    outputs: VecDeque<Output>,
    file: Option<File>,
}

#[derive(Debug)]
struct File {
    object: ObjectId,
    video: Option<Track>,
    audio: Option<Track>,
    /// See [`head::Order`].
    order: Vec<u32>,
    bytes: u64,
}

impl FastStart {
    pub(crate) fn new(options: &Options) -> Self {
        let split = Split::new(options.max_file_duration, true);
        Self { split, wall_anchor: options.wall_anchor, outputs: VecDeque::new(), file: None }
    }

    pub(crate) fn restore(options: &Options, state: Restored) -> Self {
        let mut muxer = Self::new(options);
        muxer.split.restore(state.files);
        muxer
    }

    fn open(&mut self, frame: &Frame) {
        let object = ObjectId { file: self.split.begin(frame), part: ObjectPart::Whole };
        self.outputs.push_back(Output::Open(spec(object)));
        self.file = Some(File { object, video: None, audio: None, order: Vec::new(), bytes: 0 });
    }

    fn close(&mut self) {
        let Some(file) = self.file.take() else { return };
        let summary = self.split.end();
        let wall = self.wall_anchor.and_then(|anchor| anchor.checked_add(summary.starts_at.as_duration()));
        let tracks: Vec<&Track> = [&file.video, &file.audio].into_iter().flatten().collect();
        let head = head::head(&tracks, &file.order, file.bytes, boxes::creation_time(wall));
        self.outputs.push_back(Output::Head(file.object, Bytes::from(head)));
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
        let track = match frame.track {
            TrackKind::Video => &mut file.video,
            TrackKind::Audio => &mut file.audio,
        };
        track.get_or_insert_with(|| Track::new(frame.track, &config, frame)).push(frame, &config);
        file.order.push((frame.data.len() as u32) << 1 | u32::from(frame.track == TrackKind::Audio));
        file.bytes += frame.data.len() as u64;
        self.outputs.push_back(Output::Append(file.object, frame.data.clone()));
        Ok(())
    }

    fn config(&mut self, track: TrackKind, config: &CodecConfig) -> Reaction {
        match self.split.configure(track, config) {
            Change::Unsupported => Reaction::Unsupported,
            Change::Changed => {
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
