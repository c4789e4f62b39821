//! Frames into transport stream packets: Annex B with delimiters and parameter sets, ADTS, and times that never run
//! backwards.

use bytes::{Bytes, BytesMut};
use media::{Frame, TrackKind, h264, h265};

use super::packets::{Continuity, Pes, Stream, Streams};
use crate::adts::Adts;
use crate::picture::Picture;

/// Added to every time, in 1/90 000 s: the timeline may begin 10 s before zero, and PTS may precede the first DTS.
pub(super) const TIME_OFFSET: i64 = 20 * 90_000;
/// Memory is taken from the allocator in pieces of at least this.
const CHUNK: usize = 16 << 10;
const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// Access unit delimiters that allow any slice type.
const AVC_DELIMITER: &[u8] = &[9, 0xf0];
/// See `AVC_DELIMITER`.
const HEVC_DELIMITER: &[u8] = &[h265::AUD << 1, 1, 0x50];

/// Writes one program, whose counters and clocks go on across segments and files.
#[derive(Debug, Default)]
pub(super) struct Writer {
    continuity: Continuity,
    buffer: BytesMut,
    /// How far video DTS are moved ahead of the timeline's so that no PTS precedes its DTS: grows to the largest
    /// negative composition offset seen.
    reorder: i64,
    last_video_dts: i64,
}

impl Writer {
    /// Goes on behind what an earlier process has written.
    pub(super) fn resume() -> Self {
        Self { continuity: Continuity::broken(), ..Self::default() }
    }

    /// PAT and PMT, with which every segment begins.
    pub(super) fn tables(&mut self, streams: Streams, is_hevc: bool) {
        self.reserve(1_024);
        self.continuity.tables(&mut self.buffer, streams, is_hevc);
    }

    pub(super) fn video(&mut self, frame: &Frame, picture: &Picture) {
        let (pts, dts) = self.video_times(frame);
        let first = h264::nals(&frame.data).next().unwrap_or_default();
        let (delimiter, has_delimiter, has_sets, sets): (_, _, _, [&[Bytes]; 3]) = match picture {
            Picture::Avc(avc) => {
                let has_delimiter = h264::nal_type(first) == Some(h264::AUD);
                (AVC_DELIMITER, has_delimiter, h264::contains_sps(&frame.data), [&[], &avc.sps, &avc.pps])
            }
            Picture::Hevc(hevc) => {
                let has_delimiter = h265::nal_type(first) == Some(h265::AUD);
                (HEVC_DELIMITER, has_delimiter, h265::contains_sps(&frame.data), [&hevc.vps, &hevc.sps, &hevc.pps])
            }
            // Transport streams do not carry the others, and so they are never configured.
            Picture::Av1(_) | Picture::Vp8(_) | Picture::Vp9(_) => return,
        };
        let sets = || sets.into_iter().flatten().filter(|_| frame.keyframe && !has_sets);
        let before = sets().map(|set| set.len() + START_CODE.len()).sum::<usize>();
        // Length prefixes and start codes are equally long.
        let size = before + frame.data.len() + if has_delimiter { 0 } else { START_CODE.len() + delimiter.len() };
        self.reserve(size + size / 16 + 1_024);
        let pes = Pes { stream: Stream::Video, pts, dts, random_access: frame.keyframe, clock: true };
        let mut writer = self.continuity.pes(&mut self.buffer, pes, size);
        let mut nals = h264::nals(&frame.data);
        writer.write(&START_CODE);
        writer.write(if has_delimiter { nals.next().unwrap_or_default() } else { delimiter });
        for nal in sets().map(|set| &set[..]).chain(nals) {
            writer.write(&START_CODE);
            writer.write(nal);
        }
    }

    /// `clock`: the program has no picture to carry its clock.
    pub(super) fn audio(&mut self, frame: &Frame, adts: &Adts, clock: bool) {
        // A frame too long was refused before.
        let Ok(size) = adts.frame_length(frame.data.len()) else { return };
        let head = adts.head(size);
        self.reserve(size + size / 16 + 1_024);
        let time = frame.dts.0 + TIME_OFFSET;
        let pes = Pes { stream: Stream::Audio, pts: time, dts: time, random_access: clock, clock };
        let mut writer = self.continuity.pes(&mut self.buffer, pes, size);
        writer.write(&head.fixed);
        writer.write(head.program_config);
        writer.write(&frame.data);
    }

    /// What was written since the last call.
    pub(super) fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// Adds nothing to a frame without negative offsets; the first one with a larger negative offset than any before
    /// moves all later DTS ahead, and is itself moved by as little as keeps DTS increasing.
    fn video_times(&mut self, frame: &Frame) -> (i64, i64) {
        let (pts, dts) = (frame.pts.0 + TIME_OFFSET, frame.dts.0 + TIME_OFFSET);
        self.reorder = self.reorder.max(dts - pts);
        let dts = (dts - self.reorder).max(self.last_video_dts + 1);
        self.last_video_dts = dts;
        (pts.max(dts), dts)
    }

    fn reserve(&mut self, size: usize) {
        if self.buffer.capacity() - self.buffer.len() < size {
            self.buffer.reserve(size.max(CHUNK));
        }
    }
}

/// Which elementary stream carries frames of a track.
pub(super) const fn is_carried(streams: Streams, track: TrackKind) -> bool {
    match track {
        TrackKind::Video => streams.video,
        TrackKind::Audio => streams.audio,
    }
}
