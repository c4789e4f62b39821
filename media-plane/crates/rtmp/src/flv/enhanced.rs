//! The extended headers of Enhanced RTMP v2: packet types, modifiers, multitrack, FourCC.

use bytes::{Buf, Bytes};
use media::Codec;

/// Packet types that audio and video share; the others differ.
pub(super) mod packet {
    pub(in crate::flv) const SEQUENCE_START: u8 = 0;
    pub(in crate::flv) const CODED_FRAMES: u8 = 1;
    pub(in crate::flv) const CODED_FRAMES_X: u8 = 3;
    pub(in crate::flv) const VIDEO_METADATA: u8 = 4;
    pub(in crate::flv) const MPEG2TS_SEQUENCE_START: u8 = 5;
    pub(in crate::flv) const AUDIO_MULTITRACK: u8 = 5;
    pub(in crate::flv) const VIDEO_MULTITRACK: u8 = 6;
    pub(in crate::flv) const MOD_EX: u8 = 7;
}

/// How tracks are laid out in a multitrack message.
const ONE_TRACK: u8 = 0;
const MANY_TRACKS_MANY_CODECS: u8 = 2;
/// The track of players and recorders that know of only one.
const DEFAULT_TRACK: u8 = 0;
/// Signals "two more bytes hold the size".
const LONG_MODIFIER: usize = 256;

/// One packet of the default track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Type id, see [`packet`].
    pub(super) kind: u8,
    /// Codec.
    pub(super) four_cc: [u8; 4],
    /// What follows the headers.
    pub(super) body: Bytes,
}

/// Skips any number of modifiers (timestamp offsets below a millisecond, and what may come). Returns the packet type
/// they end with; `None` when cut short.
pub(super) fn skip_modifiers(mut kind: u8, body: &mut Bytes) -> Option<u8> {
    while kind == packet::MOD_EX {
        let mut size = usize::from(body.try_get_u8().ok()?) + 1;
        if size == LONG_MODIFIER {
            size = usize::from(body.try_get_u16().ok()?) + 1;
        }
        if body.len() < size {
            return None;
        }
        body.advance(size);
        kind = body.try_get_u8().ok()? & 0x0f;
    }
    Some(kind)
}

/// Reads FourCC and, with `multitrack`, finds the default track. The outer `None` means malformed, the inner that the
/// message is only about other tracks.
pub(super) fn read_packet(mut kind: u8, multitrack: u8, mut body: Bytes) -> Option<Option<Packet>> {
    if kind != multitrack {
        let four_cc = take_four_cc(&mut body)?;
        return Some(Some(Packet { kind, four_cc, body }));
    }
    let layout = body.try_get_u8().ok()?;
    kind = layout & 0x0f;
    let layout = layout >> 4;
    let mut four_cc = [0; 4];
    if layout != MANY_TRACKS_MANY_CODECS {
        four_cc = take_four_cc(&mut body)?;
    }
    while !body.is_empty() {
        if layout == MANY_TRACKS_MANY_CODECS {
            four_cc = take_four_cc(&mut body)?;
        }
        let track = body.try_get_u8().ok()?;
        let size = if layout == ONE_TRACK { body.len() } else { usize::try_from(take_u24(&mut body)?).ok()? };
        if body.len() < size {
            return None;
        }
        let payload = body.split_to(size);
        if track == DEFAULT_TRACK {
            return Some(Some(Packet { kind, four_cc, body: payload }));
        }
    }
    Some(None)
}

fn take_four_cc(body: &mut Bytes) -> Option<[u8; 4]> {
    let four_cc = *body.first_chunk::<4>()?;
    body.advance(4);
    Some(four_cc)
}

fn take_u24(body: &mut Bytes) -> Option<u32> {
    let [a, b, c] = *body.first_chunk::<3>()?;
    body.advance(3);
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The signed 24-bit number at the start, and what follows it.
pub(super) fn take_i24(body: &mut Bytes) -> Option<i32> {
    let value = take_u24(body)?;
    Some(((value << 8) as i32) >> 8)
}

/// The codec a FourCC names. What has no name of its own becomes the FLV id of the extended header.
pub(super) fn codec(four_cc: &[u8]) -> Codec {
    /// FLV audio format 9, "extended header".
    const EXTENDED: u8 = 9;
    match four_cc {
        b"avc1" => Codec::H264,
        b"hvc1" => Codec::H265,
        b"av01" => Codec::Av1,
        b"vp08" => Codec::Vp8,
        b"vp09" => Codec::Vp9,
        b"mp4a" => Codec::Aac,
        b"Opus" => Codec::Opus,
        b".mp3" => Codec::Mp3,
        _ => Codec::Other(EXTENDED),
    }
}
