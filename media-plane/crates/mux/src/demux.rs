//! Reading back what was recorded: verification tooling, not a media library.
//!
//! Written independently of the muxers, straight from the specifications and strict where players are lenient, so that a
//! muxer's mistake is not repeated here. Used by the tests of the whole system and by the verification of recordings.

mod adts;
mod cursor;
mod flv;
mod mp4;
mod ts;

use bytes::{BufMut, Bytes, BytesMut};
use media::{MediaTime, TrackKind, h264};

pub use adts::demux as adts;
pub use flv::demux as flv;
pub use mp4::demux as mp4;
pub use ts::demux as ts;

/// One frame as a container gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Picture or sound.
    pub track: TrackKind,
    /// Decode time from the start of the file as the container counts it.
    pub dts: MediaTime,
    /// Presentation time on the same clock.
    pub pts: MediaTime,
    /// The container marks it as a place to start decoding.
    pub keyframe: bool,
    /// H.264 with 4-byte NAL lengths (without access unit delimiters when read from TS), or a raw AAC frame.
    pub payload: Bytes,
}

impl Sample {
    /// The payload without what containers may add or take away: see [`canonical`].
    pub fn canonical(&self) -> Bytes {
        canonical(self.track, &self.payload)
    }
}

/// Everything in a file, in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// Frames of both tracks.
    pub samples: Vec<Sample>,
    /// Video configurations (`avcC`) in order; TS has none.
    pub video: Vec<Bytes>,
    /// Audio configurations (ASC, or the contents of `dOps`) in order; rebuilt from the header for ADTS.
    pub audio: Vec<Bytes>,
}

impl Media {
    /// Frames of one track.
    pub fn track(&self, track: TrackKind) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.track == track)
    }
}

/// A file that breaks its format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {problem}")]
pub struct Corrupt {
    /// Where.
    pub at: usize,
    /// What is wrong there.
    pub problem: String,
}

/// The part of a frame that every container must preserve: H.264 without access unit delimiters and parameter sets,
/// which TS adds; sound as it is.
pub fn canonical(track: TrackKind, payload: &Bytes) -> Bytes {
    let extra = |nal: &[u8]| matches!(h264::nal_type(nal), Some(h264::SPS | h264::PPS | h264::AUD));
    if track == TrackKind::Audio || !h264::nals(payload).any(extra) {
        return payload.clone();
    }
    let mut out = BytesMut::with_capacity(payload.len());
    for nal in h264::nals(payload).filter(|nal| !extra(nal)) {
        out.put_u32(nal.len() as u32);
        out.put_slice(nal);
    }
    out.freeze()
}
