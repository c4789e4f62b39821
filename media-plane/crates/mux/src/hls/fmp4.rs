//! Fragmented MP4 in segments (RFC 8216, 3.3): an initialisation segment in front, fragments of both tracks in each.
//!
//! The tracks of an initialisation segment are those that have frames when the first fragment behind it is written. Other
//! tracks, or the same ones coded otherwise, are introduced by another initialisation segment and a discontinuity.

use std::time::SystemTime;

use bytes::Bytes;
use media::{Frame, MediaTime, TrackKind};

use super::packets::Streams;
use super::{File, Hls, Packing};
use crate::mp4::{Fragments, creation_time};
use crate::split::Split;
use crate::{Mark, ObjectId, ObjectPart, ObjectSpec, Output, Summary};

/// Extension and content type of segments.
pub(super) const SEGMENT: (&str, &str) = ("m4s", "video/iso.segment");
/// Extension and content type of initialisation segments.
const INIT: (&str, &str) = ("mp4", "video/mp4");
/// What times count from: the same for all files, processes and changes, so that they go on over all of them. The
/// timeline may begin 10 s before zero, and decoders of Opus have something to drop before.
pub(super) const ZERO: MediaTime = MediaTime(-20 * MediaTime::SCALE);
/// A segment says what it is (ISO/IEC 14496-12, 8.16.2).
const TYPE: &[u8] = b"\0\0\0\x18stypmsdh\0\0\0\0msdhiso6";

/// The fragments being written.
#[derive(Debug, Default)]
pub(super) struct Fmp4 {
    pub(super) fragments: Fragments,
}

impl Fmp4 {
    /// A segment begins with this frame: whether another initialisation segment has to come before.
    pub(super) fn begin(&mut self, split: &Split, frame: &Frame) -> bool {
        let is_wanted = |track| frame.track == track || split.is_heard(track, frame.dts);
        self.fragments.renew(split, (is_wanted(TrackKind::Video), is_wanted(TrackKind::Audio)))
    }

    /// The tracks of the segment as far as they are known: any may still come before the head is out.
    pub(super) fn streams(&self) -> Streams {
        let declared = |track| self.fragments.is_declared(track);
        Streams { video: declared(TrackKind::Video), audio: declared(TrackKind::Audio) }
    }
}

impl Hls {
    /// Writes the open fragment in front of `next`.
    pub(super) fn fragment(&mut self, next: Option<&Frame>) {
        let Packing::Fmp4(fmp4) = &mut self.packing else { return };
        let Some(file) = &mut self.file else { return };
        let Some(starts_at) = file.segment.as_ref().map(|segment| segment.tally.starts_at) else { return };
        if fmp4.fragments.is_empty() {
            return;
        }
        if !fmp4.fragments.has_head() {
            let created = created(self.options.wall_anchor, starts_at);
            let head = fmp4.fragments.head(&self.split, ZERO, created);
            self.outputs.extend(file.init(head, starts_at));
        }
        let init = file.inits.checked_sub(1);
        let Some(segment) = &mut file.segment else { return };
        if let Some(opening) = segment.opening.take() {
            segment.init = init;
            segment.streams = fmp4.streams();
            let Streams { video, audio } = segment.streams;
            self.split.notes.segment(&crate::notes::Opening { video, audio, init, ..opening });
            self.outputs.push_back(Output::Append(segment.object, Bytes::from_static(TYPE)));
        }
        fmp4.fragments.write(next, segment.object, &mut self.outputs);
        if let Some(note) = self.split.notes.take() {
            self.outputs.push_back(Output::Note(segment.object, note));
        }
        self.outputs.push_back(Output::Commit(segment.object, segment.tally.mark()));
    }
}

impl File {
    /// The next initialisation segment, whole.
    fn init(&mut self, bytes: Bytes, at: MediaTime) -> [Output; 4] {
        let object = ObjectId { file: self.index, part: ObjectPart::Init(self.inits) };
        self.inits = self.inits.saturating_add(1);
        let (extension, content_type) = INIT;
        let mark = Mark { media_time: at, ..Mark::default() };
        let summary = Summary { starts_at: at, ends_at: at, ..Summary::default() };
        [
            Output::Open(ObjectSpec { object, extension, content_type }),
            Output::Append(object, bytes),
            Output::Commit(object, mark),
            Output::Close(object, summary),
        ]
    }
}

fn created(anchor: Option<SystemTime>, at: MediaTime) -> u64 {
    creation_time(anchor.and_then(|anchor| anchor.checked_add(at.as_duration())))
}
