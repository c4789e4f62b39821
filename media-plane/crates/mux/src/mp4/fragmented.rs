//! The fragmented layout: complete at every commit mark, only ever appended to.

use std::collections::VecDeque;
use std::time::SystemTime;

use media::{CodecConfig, Frame, Gap, TrackKind};

use super::boxes::creation_time;
use super::fragment::Fragments;
use super::{MAX_SAMPLE, description, spec};
use crate::past::{self, Past};
use crate::split::{Change, Place, Split};
use crate::{
    Finished, Format, Muxer, ObjectId, ObjectPart, Options, Output, Reaction, Rejected, Restored, RestoredObject,
};

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
    fragments: Fragments,
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
        let fragments = Fragments::resume(&self.split, &past);
        let is_lost = object.len > 0 && fragments.is_none();
        self.file = Some(File { object: object.spec.object, fragments: fragments.unwrap_or_default() });
        if is_lost {
            self.close();
        }
    }

    fn open(&mut self, frame: &Frame) {
        let object = ObjectId { file: self.split.begin(frame), part: ObjectPart::Whole };
        self.outputs.push_back(Output::Open(spec(object)));
        self.file = Some(File { object, fragments: Fragments::default() });
    }

    fn close(&mut self) {
        self.fragment(None);
        if let Some(file) = self.file.take() {
            let summary = self.split.end();
            self.outputs.push_back(Output::Close(file.object, summary.clone()));
            self.outputs.push_back(Output::FileDone(file.object.file, summary));
        }
    }

    /// Writes the open fragment, in front of `next`; in front of the first one the head of the file.
    fn fragment(&mut self, next: Option<&Frame>) {
        let Some(file) = self.file.as_mut().filter(|file| !file.fragments.is_empty()) else { return };
        if !file.fragments.has_head() {
            let zero = file.fragments.earliest(&self.split);
            self.split.notes.zero(zero);
            let wall = self.wall_anchor.and_then(|anchor| anchor.checked_add(zero.as_duration()));
            let head = file.fragments.head(&self.split, zero, creation_time(wall));
            self.outputs.push_back(Output::Append(file.object, head));
        }
        let (video, audio) = file.fragments.write(next, file.object, &mut self.outputs);
        self.split.notes.fragment(video, audio);
        if let Some(note) = self.split.notes.take() {
            self.outputs.push_back(Output::Note(file.object, note));
        }
        self.outputs.push_back(Output::Commit(file.object, self.split.mark()));
    }
}

impl Muxer for Fragmented {
    fn push(&mut self, frame: &Frame) -> Result<(), Rejected> {
        let place = self.split.place(frame)?;
        if frame.data.len() > MAX_SAMPLE {
            return Err(Rejected::Malformed(format!("{} bytes do not fit into a sample", frame.data.len())));
        }
        let file = self.file.as_ref();
        if place == Place::NewFile || file.is_some_and(|file| file.fragments.is_over(&self.split, frame)) {
            self.fragment(Some(frame));
        }
        let is_declared = self.file.as_ref().is_none_or(|file| file.fragments.is_declared(frame.track));
        if place == Place::NewFile || !is_declared {
            self.close();
            self.open(frame);
        }
        self.split.count(frame);
        if let Some(file) = &mut self.file {
            file.fragments.add(frame);
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
