//! Joins messages that together are one access unit (some encoders send SEI, parameter sets and slices one by one).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;

use crate::ingest::RawFrame;
use crate::{Codec, TrackKind, h264, h265};

/// Sound held behind an incomplete picture: enough for a picture every half second, little enough to cost nothing.
const MAX_HELD_AUDIO: usize = 32;
/// And its bytes: frames are a few hundred, so only an attack gets here.
const MAX_HELD_AUDIO_BYTES: usize = 1 << 20;
/// Joined access units stay below this; more is an attack, and becomes frames of its own.
const MAX_ACCESS_UNIT: usize = 16 << 20;
/// Messages that may join one access unit, so that joining stays linear.
const MAX_PARTS: usize = 64;

/// Takes a complete frame, when its last part arrived, and how many messages were joined to it.
pub(super) type Emit<'a> = dyn FnMut(RawFrame, Duration, u64) + 'a;

/// Holds back the newest picture until the next one shows that it is complete, and the sound after it.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    coding: Coding,
    picture: Option<Picture>,
    audio: VecDeque<(RawFrame, Duration)>,
    audio_bytes: usize,
}

/// How it is seen that a picture is complete.
#[derive(Clone, Copy, Debug, Default)]
enum Coding {
    #[default]
    Avc,
    Hevc,
    /// Nothing has to be seen: a message is a picture.
    Whole,
}

impl Coding {
    fn contains_vcl(self, data: &[u8]) -> bool {
        match self {
            Self::Avc => h264::contains_vcl(data),
            Self::Hevc => h265::contains_vcl(data),
            Self::Whole => true,
        }
    }

    fn starts_new_access_unit(self, data: &[u8]) -> bool {
        match self {
            Self::Avc => h264::starts_new_access_unit(data),
            Self::Hevc => h265::starts_new_access_unit(data),
            Self::Whole => true,
        }
    }
}

#[derive(Debug)]
struct Picture {
    coding: Coding,
    frame: RawFrame,
    arrival: Duration,
    /// Further messages of the same access unit.
    parts: Vec<RawFrame>,
    bytes: usize,
    has_slice: bool,
}

impl Assembler {
    /// Pictures that follow are of this codec. Call it when nothing is held.
    pub(super) fn configured(&mut self, codec: Codec) {
        self.coding = match codec {
            Codec::Av1 | Codec::Vp8 | Codec::Vp9 => Coding::Whole,
            Codec::H265 => Coding::Hevc,
            _ => Coding::Avc,
        };
    }

    pub(super) fn push(&mut self, frame: RawFrame, arrival: Duration, emit: &mut Emit<'_>) {
        if frame.track == TrackKind::Audio {
            if self.picture.is_none() {
                return emit(frame, arrival, 0);
            }
            self.audio_bytes += frame.data.len();
            self.audio.push_back((frame, arrival));
            if self.audio.len() >= MAX_HELD_AUDIO || self.audio_bytes > MAX_HELD_AUDIO_BYTES {
                self.flush(emit);
            }
            return;
        }
        if let Some(picture) = &mut self.picture {
            if picture.accepts(&frame) {
                return picture.add(frame, arrival);
            }
            self.flush(emit);
        }
        if let Coding::Whole = self.coding {
            return emit(frame, arrival, 0);
        }
        self.picture = Some(Picture::new(self.coding, frame, arrival));
    }

    pub(super) fn flush(&mut self, emit: &mut Emit<'_>) {
        if let Some(picture) = self.picture.take() {
            let (merged, arrival) = (picture.parts.len() as u64, picture.arrival);
            emit(picture.join(), arrival, merged);
        }
        self.audio_bytes = 0;
        for (frame, arrival) in self.audio.drain(..) {
            emit(frame, arrival, 0);
        }
    }
}

impl Picture {
    fn new(coding: Coding, frame: RawFrame, arrival: Duration) -> Self {
        let (bytes, has_slice) = (frame.data.len(), coding.contains_vcl(&frame.data));
        Self { coding, frame, arrival, parts: Vec::new(), bytes, has_slice }
    }

    /// The slices decide; the time only has a say where the bitstream has none.
    fn accepts(&self, next: &RawFrame) -> bool {
        if self.parts.len() >= MAX_PARTS || self.bytes + next.data.len() > MAX_ACCESS_UNIT {
            return false;
        }
        if !self.has_slice {
            return true;
        }
        let same_time = next.time == self.frame.time;
        !self.coding.starts_new_access_unit(&next.data) && (same_time || !self.coding.contains_vcl(&next.data))
    }

    fn add(&mut self, next: RawFrame, arrival: Duration) {
        if !self.has_slice && self.coding.contains_vcl(&next.data) {
            // The time of an access unit is that of its picture, not of the SEI sent ahead.
            (self.frame.time, self.frame.composition) = (next.time, next.composition);
            self.has_slice = true;
        }
        self.frame.keyframe |= next.keyframe;
        self.bytes += next.data.len();
        self.arrival = arrival;
        self.parts.push(next);
    }

    fn join(mut self) -> RawFrame {
        if !self.parts.is_empty() {
            let mut data = BytesMut::with_capacity(self.bytes);
            data.extend_from_slice(&self.frame.data);
            for part in &self.parts {
                data.extend_from_slice(&part.data);
            }
            self.frame.data = data.freeze();
        }
        self.frame
    }
}
