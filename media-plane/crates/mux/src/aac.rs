//! `.aac` files: ADTS frames one after another. Time is the number of frames; holes close up.

use std::collections::VecDeque;

use bytes::BufMut;
use media::{CodecConfig, Frame, Gap, TrackKind};

use crate::adts::Adts;
use crate::past::{self, Past};
use crate::scratch::Scratch;
use crate::split::{Change, Place, Split};
use crate::{Finished, Format, Muxer, ObjectId, ObjectPart, ObjectSpec, Options, Output, Reaction, Rejected, Restored};

/// The ADTS muxer.
#[derive(Debug)]
pub(crate) struct Aac {
    split: Split,
    adts: Option<Adts>,
    outputs: VecDeque<Output>,
    scratch: Scratch,
    object: Option<ObjectId>,
}

impl Aac {
    pub(crate) fn new(options: &Options) -> Self {
        let split = Split::new(options.max_file_duration, Format::Aac);
        Self { split, adts: None, outputs: VecDeque::new(), scratch: Scratch::default(), object: None }
    }

    pub(crate) fn restore(options: &Options, state: Restored) -> Self {
        let mut muxer = Self::new(options);
        if let Some(object) = past::take_up(&mut muxer.split, &mut muxer.outputs, state) {
            muxer.split.resume(&Past::of(&object));
            muxer.adts = muxer.split.aac().and_then(Adts::new);
            muxer.object = Some(object.spec.object);
        }
        muxer
    }

    fn close(&mut self) {
        if let Some(object) = self.object.take() {
            let summary = self.split.end();
            self.outputs.push_back(Output::Close(object, summary.clone()));
            self.outputs.push_back(Output::FileDone(object.file, summary));
        }
    }
}

impl Muxer for Aac {
    fn push(&mut self, frame: &Frame) -> Result<(), Rejected> {
        let place = self.split.place(frame)?;
        let adts = self.adts.as_ref().ok_or(Rejected::NoConfig)?;
        let length = adts.frame_length(frame.data.len())?;
        if place == Place::NewFile {
            self.close();
            let object = ObjectId { file: self.split.begin(frame), part: ObjectPart::Whole };
            self.outputs.push_back(Output::Open(ObjectSpec { object, extension: "aac", content_type: "audio/aac" }));
            self.object = Some(object);
        }
        self.split.count(frame);
        let Some(object) = self.object else { return Ok(()) };
        let Some(adts) = &self.adts else { return Ok(()) };
        let head = adts.head(length);
        let buffer = self.scratch.reserve(length);
        buffer.put_slice(&head.fixed);
        buffer.put_slice(head.program_config);
        buffer.put_slice(&frame.data);
        self.outputs.push_back(Output::Append(object, self.scratch.take()));
        if let Some(note) = self.split.notes.take() {
            self.outputs.push_back(Output::Note(object, note));
        }
        self.outputs.push_back(Output::Commit(object, self.split.mark()));
        Ok(())
    }

    fn config(&mut self, track: TrackKind, config: &CodecConfig) -> Reaction {
        let change = self.split.configure(track, config);
        if track == TrackKind::Video {
            return Reaction::Unsupported;
        }
        self.adts = self.split.aac().and_then(Adts::new);
        if self.adts.is_none() {
            self.split.audio = None;
            return Reaction::Unsupported;
        }
        if change == Change::Changed {
            // Few players follow a new rate or layout inside a file.
            self.split.cut_now();
            return Reaction::CutHere;
        }
        Reaction::Continue
    }

    fn gap(&mut self, gap: Gap) {
        self.split.gap(gap);
    }

    fn cut(&mut self) {
        self.split.cut();
    }

    fn close_file(&mut self) {
        self.close();
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
