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
use media::{Codec, MediaTime, TrackKind, h264, h265};

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
    /// Of what.
    pub codec: Codec,
    /// As [`media::Frame::data`], but without access unit delimiters when read from TS.
    pub payload: Bytes,
}

impl Sample {
    /// The payload without what containers may add or take away: see [`canonical`].
    pub fn canonical(&self) -> Bytes {
        canonical(self.codec, &self.payload)
    }
}

/// Everything in a file, in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// Frames of both tracks.
    pub samples: Vec<Sample>,
    /// Video configurations (the contents of `avcC`, `hvcC`, `av1C` or `vpcC`) in order; TS has none.
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

/// The part of a frame that every container must preserve: H.264 and H.265 without access unit delimiters and parameter
/// sets, which TS adds; everything else as it is.
pub fn canonical(codec: Codec, payload: &Bytes) -> Bytes {
    let extra = |nal: &[u8]| match codec {
        Codec::H264 => matches!(h264::nal_type(nal), Some(h264::SPS | h264::PPS | h264::AUD)),
        Codec::H265 => matches!(h265::nal_type(nal), Some(h265::VPS..=h265::AUD)),
        _ => false,
    };
    if !matches!(codec, Codec::H264 | Codec::H265) || !h264::nals(payload).any(extra) {
        return payload.clone();
    }
    let mut out = BytesMut::with_capacity(payload.len());
    for nal in h264::nals(payload).filter(|nal| !extra(nal)) {
        out.put_u32(nal.len() as u32);
        out.put_slice(nal);
    }
    out.freeze()
}
