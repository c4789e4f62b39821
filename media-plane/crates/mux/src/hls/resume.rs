//! Going on with the playlist and the segments of an earlier process.

use crate::Segment as Kind;
use crate::notes::Opening;
use crate::past::Past;
use crate::split::Tally;
use crate::{Mark, ObjectPart, Output, RestoredFile, RestoredObject, Summary};

use super::packets::Streams;
use super::playlist::{Entry, Playlist};
use super::writer::Writer;
use super::{File, Hls, Packing, Segment};

impl Hls {
    /// Takes over a file: names the segments that were closed but not yet listed, and opens the one that was open.
    pub(super) fn reopen(&mut self, open: RestoredFile) {
        let (playlist, has_end) = match open.playlist.as_deref().and_then(Playlist::resume) {
            Some((playlist, has_end)) => (Some(playlist), has_end),
            None => (None, false),
        };
        let kind = self.packing.kind();
        let (inits, others): (Vec<_>, Vec<_>) = open.objects.into_iter().partition(is_init);
        let of_kind = |object: RestoredObject| Some((number(object.spec.object.part)?, object));
        let mut segments: Vec<(u32, RestoredObject)> = others.into_iter().filter_map(of_kind).collect();
        segments.sort_by_key(|(number, _)| *number);
        if playlist.is_none() && segments.is_empty() && inits.is_empty() {
            // Nothing of the file was begun: its index is free.
            return self.split.restore(open.file);
        }
        let mut file = File::new(open.file, playlist.unwrap_or_else(|| Playlist::new(self.target, kind)));
        file.playlist.pack(kind);
        for object in &inits {
            // It is whole, or nothing that counts refers to it.
            if object.closed.is_none() {
                self.outputs.push_back(Output::Close(object.spec.object, Summary::default()));
            }
        }
        let named = file.playlist.inits().chain(inits.iter().filter_map(|object| init(object.spec.object.part)));
        file.inits = named.max().map_or(0, |number| number.saturating_add(1));
        self.target = file.playlist.target().unwrap_or(self.target);
        let listed: Vec<u32> = file.playlist.segments().collect();
        file.segments = listed.iter().max().map_or(0, |number| number.saturating_add(1));
        self.file = Some(file);
        self.split.resume(&whole(&segments));
        if let Packing::Ts { writer, .. } = &mut self.packing {
            *writer = Writer::resume();
        }
        self.adapt();
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
            let entry = Entry {
                number,
                init: opening.init,
                duration: ends_at - starts_at,
                discontinuity: opening.discontinuity,
                wall_time: None,
            };
            if !is_listed && past.tally.frames() > 0 {
                self.list(starts_at, entry);
            }
            return;
        }
        self.close_segment(None);
        let Some(file) = &mut self.file else { return };
        let streams = Streams { video: opening.video, audio: opening.audio };
        let Opening { discontinuity, init, .. } = opening;
        let (object, tally) = (object.spec.object, past.tally);
        file.segment = Some(Segment { object, number, streams, discontinuity, opening: None, init, tally });
    }
}

/// How the segments of a file are packed, if it has any.
pub(super) fn packing(open: &RestoredFile) -> Option<Kind> {
    let of_part = |object: &RestoredObject| match object.spec.object.part {
        ObjectPart::Segment(_) => Some(Kind::Ts),
        ObjectPart::Fragment(_) | ObjectPart::Init(_) => Some(Kind::Fmp4),
        ObjectPart::Whole | ObjectPart::Playlist => None,
    };
    let listed = || Playlist::resume(open.playlist.as_deref()?)?.0.packing();
    open.objects.iter().find_map(of_part).or_else(listed)
}

/// The number of a segment.
pub(super) fn number(part: ObjectPart) -> Option<u32> {
    if let ObjectPart::Segment(number) | ObjectPart::Fragment(number) = part { Some(number) } else { None }
}

fn init(part: ObjectPart) -> Option<u32> {
    if let ObjectPart::Init(number) = part { Some(number) } else { None }
}

fn is_init(object: &RestoredObject) -> bool {
    init(object.spec.object.part).is_some()
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
