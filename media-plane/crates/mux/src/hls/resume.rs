//! Going on with the playlist and the segments of an earlier process.

use crate::adts::Adts;
use crate::past::Past;
use crate::split::Tally;
use crate::{Mark, ObjectPart, Output, RestoredFile, RestoredObject};

use super::packets::Streams;
use super::playlist::{Entry, Playlist};
use super::writer::Writer;
use super::{File, Hls, Segment};

impl Hls {
    /// Takes over a file: names the segments that were closed but not yet listed, and opens the one that was open.
    pub(super) fn reopen(&mut self, open: RestoredFile) {
        let (playlist, has_end) = match open.playlist.as_deref().and_then(Playlist::resume) {
            Some((playlist, has_end)) => (Some(playlist), has_end),
            None => (None, false),
        };
        let mut segments: Vec<(u32, RestoredObject)> = open.objects.into_iter().filter_map(numbered).collect();
        segments.sort_by_key(|(number, _)| *number);
        if playlist.is_none() && segments.is_empty() {
            // Nothing of the file was begun: its index is free.
            return self.split.restore(open.file);
        }
        let mut file = File::new(open.file, self.target);
        file.playlist = playlist.unwrap_or(file.playlist);
        self.target = file.playlist.target().unwrap_or(self.target);
        let listed: Vec<u32> = file.playlist.segments().collect();
        file.segments = listed.iter().max().map_or(0, |number| number.saturating_add(1));
        self.file = Some(file);
        self.split.resume(&whole(&segments));
        self.writer = Writer::resume();
        self.adts = self.split.aac().and_then(Adts::new);
        self.broken = true;
        if has_end {
            self.file = None;
            let summary = self.split.end();
            return self.outputs.push_back(Output::FileDone(open.file, summary));
        }
        let before = listed.len();
        for (number, object) in segments {
            self.take_segment(number, &object, listed.contains(&number));
        }
        if let Some(file) = self.file.as_ref().filter(|file| file.playlist.segments().count() > before) {
            self.outputs.push_back(file.playlist(false));
        }
    }

    fn take_segment(&mut self, number: u32, object: &RestoredObject, is_listed: bool) {
        let Some(file) = &mut self.file else { return };
        file.segments = file.segments.max(number.saturating_add(1));
        if object.closed.is_none() && object.len == 0 {
            file.reserved = Some(object.spec.object);
            return;
        }
        let past = Past::of(object);
        let opening = past.opening.unwrap_or_default();
        let (starts_at, ends_at) = (past.tally.starts_at, past.tally.ends_at);
        if object.closed.is_some() {
            let entry =
                Entry { number, duration: ends_at - starts_at, discontinuity: opening.discontinuity, wall_time: None };
            if !is_listed && past.tally.frames() > 0 {
                self.list(starts_at, entry);
            }
            return;
        }
        self.close_segment(None);
        let Some(file) = &mut self.file else { return };
        let streams = Streams { video: opening.video, audio: opening.audio };
        let discontinuity = opening.discontinuity;
        file.segment = Some(Segment { object: object.spec.object, number, streams, discontinuity, tally: past.tally });
    }
}

fn numbered(object: RestoredObject) -> Option<(u32, RestoredObject)> {
    if let ObjectPart::Segment(number) = object.spec.object.part { Some((number, object)) } else { None }
}

/// What the segments amount to. The opening of a segment counts all before it, known or not.
fn whole(segments: &[(u32, RestoredObject)]) -> Past {
    let mut sum = Past::nothing();
    for (_, object) in segments {
        let past = Past::of(object);
        if past.tally.frames() == 0 {
            continue;
        }
        let (mut mark, mut starts_at) = (sum.tally.mark(), sum.tally.starts_at);
        if sum.tally.is_fresh {
            mark.media_time = past.tally.ends_at;
        }
        if let Some(opening) = past.opening {
            (mark.video_frames, mark.audio_frames) = (opening.video_frames, opening.audio_frames);
            starts_at = opening.starts_at;
        } else if sum.tally.is_fresh {
            starts_at = past.tally.starts_at;
        }
        sum.tally = Tally::of(
            starts_at.min(past.tally.starts_at),
            Mark {
                media_time: past.tally.ends_at.max(mark.media_time),
                video_frames: mark.video_frames.saturating_add(past.tally.video.frames),
                audio_frames: mark.audio_frames.saturating_add(past.tally.audio.frames),
            },
        );
        sum.video = past.video.or(sum.video);
        sum.audio = past.audio.or(sum.audio);
    }
    sum
}
