//! What is known of an object that an earlier process has left.

use std::collections::VecDeque;

use bytes::Bytes;
use media::MediaTime;

use crate::notes::{Opening, Record, Story, sane};
use crate::picture::Picture;
use crate::sound::Sound;
use crate::split::{Split, Tally};
use crate::{Mark, ObjectId, ObjectPart, Output, Restored, RestoredFile, RestoredObject, Summary};

/// The sum of an object's notes and its mark.
#[derive(Debug)]
pub(crate) struct Past {
    /// First DTS, as noted.
    pub(crate) starts_at: Option<MediaTime>,
    /// Configurations of the newest frames.
    pub(crate) video: Option<Picture>,
    /// See `video`.
    pub(crate) audio: Option<Sound>,
    /// Timeline position of timestamp 0.
    pub(crate) zero: Option<MediaTime>,
    /// Fragments written, and whether their file has a picture and sound.
    pub(crate) fragments: u32,
    pub(crate) tracks: (bool, bool),
    pub(crate) opening: Option<Opening>,
    pub(crate) tally: Tally,
}

impl Past {
    /// Of an object in which nothing is.
    pub(crate) fn nothing() -> Self {
        Self {
            starts_at: None,
            video: None,
            audio: None,
            zero: None,
            fragments: 0,
            tracks: (false, false),
            opening: None,
            tally: Tally { is_fresh: true, ..Tally::new(MediaTime::ZERO) },
        }
    }

    /// Of an object without a byte nothing else counts.
    pub(crate) fn of(object: &RestoredObject) -> Self {
        let mut past = Self::nothing();
        if let Some(summary) = &object.closed {
            past.opening = Story::new(&object.notes).find_map(opening);
            past.close(summary);
        } else if object.len > 0 {
            past.read(&object.notes);
            past.up_to(object.mark.unwrap_or_default());
        }
        past
    }

    fn read(&mut self, notes: &Bytes) {
        for record in Story::new(notes) {
            match record {
                Record::Start(at) => self.starts_at = Some(at),
                Record::Picture(picture) => self.video = Some(picture),
                Record::Sound(sound) => self.audio = Some(sound),
                Record::Zero(at) => self.zero = Some(at),
                Record::Fragment { video, audio } => {
                    self.fragments = self.fragments.saturating_add(1);
                    self.tracks = (video, audio);
                }
                Record::Segment(opening) => self.opening = Some(opening),
                Record::Sample(_) => {}
            }
        }
    }

    fn up_to(&mut self, mark: Mark) {
        let media_time = sane(mark.media_time.0).or(self.starts_at).unwrap_or_default();
        let starts_at = self.starts_at.unwrap_or(media_time).min(media_time);
        self.tally = Tally::of(starts_at, Mark { media_time, ..mark });
    }

    fn close(&mut self, summary: &Summary) {
        let Summary { starts_at, ends_at, video_frames, audio_frames, video, audio } = summary;
        let (starts_at, ends_at) = (sane(starts_at.0).unwrap_or_default(), sane(ends_at.0).unwrap_or_default());
        self.starts_at = Some(starts_at);
        if let Some(picture) = video.as_ref().and_then(Picture::of) {
            self.video = Some(picture);
        }
        if let Some(sound) = audio.as_ref().and_then(Sound::of) {
            self.audio = Some(sound);
        }
        let mark = Mark { media_time: ends_at, video_frames: *video_frames, audio_frames: *audio_frames };
        self.tally = Tally::of(starts_at, mark);
    }
}

fn opening(record: Record) -> Option<Opening> {
    if let Record::Segment(opening) = record { Some(opening) } else { None }
}

/// Takes up a format whose files are one object where it was left, and gives the object that is still open. A file that
/// was not begun leaves its index free; of one that is closed only the end has to be told again.
pub(crate) fn take_up(split: &mut Split, outputs: &mut VecDeque<Output>, state: Restored) -> Option<RestoredObject> {
    split.restore(state.files);
    let RestoredFile { file, objects, .. } = state.open?;
    let id = ObjectId { file, part: ObjectPart::Whole };
    let Some(object) = objects.into_iter().find(|object| object.spec.object == id) else {
        split.restore(file);
        return None;
    };
    if let Some(summary) = object.closed {
        outputs.push_back(Output::FileDone(file, summary));
        return None;
    }
    Some(object)
}
