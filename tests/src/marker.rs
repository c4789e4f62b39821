//! Numbers inside frames: a mark that every container keeps and every decoder skips, so that each frame of a recording
//! can be told from any other and held against the log of what was sent.
//!
//! Picture: a user data SEI message in front of the slices. Sound: a data stream element in front of the others, which
//! is byte aligned. Both carry printable text only, so that no start code can appear.

use bytes::{BufMut, Bytes, BytesMut};
use media::{Codec, TrackKind, h264};
use mux::demux::canonical;

/// Names our SEI messages among others'.
const UUID: &[u8; 16] = b"recorder-numbers";
/// Begins the text of a mark.
const MAGIC: &[u8; 4] = b"FRM:";
/// stream (8), session (4), counter (8), CRC32C of the frame (8), in hexadecimal.
const TEXT: usize = 4 + 8 + 4 + 8 + 8;
/// SEI payload type "user data unregistered".
const USER_DATA: u8 = 5;
/// A data stream element with instance tag 0 and no alignment: its data begins at the third byte.
const DATA_STREAM_ELEMENT: u8 = 0x80;

/// Which frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Number of the publisher's stream.
    pub stream: u32,
    /// Number of the connection.
    pub session: u16,
    /// Number of the frame within connection and track, from 0.
    pub counter: u32,
}

impl Mark {
    fn text(self, frame: &[u8]) -> String {
        let Self { stream, session, counter } = self;
        let magic = String::from_utf8_lossy(MAGIC);
        format!("{magic}{stream:08x}{session:04x}{counter:08x}{:08x}", crc32c::crc32c(frame))
    }

    /// The mark in `text`, if it is one and `frame` is the frame it was made for.
    fn parse(text: &[u8], frame: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(text.get(..TEXT)?.strip_prefix(MAGIC)?).ok()?;
        let number = |from: usize, to: usize| u32::from_str_radix(digits.get(from..to)?, 16).ok();
        if number(20, 28)? != crc32c::crc32c(frame) {
            return None;
        }
        Some(Self { stream: number(0, 8)?, session: number(8, 12)?.try_into().ok()?, counter: number(12, 20)? })
    }
}

/// What marks are put into.
fn codec(track: TrackKind) -> Codec {
    match track {
        TrackKind::Video => Codec::H264,
        TrackKind::Audio => Codec::Aac,
    }
}

/// The frame with the mark in front. Pictures have 4-byte NAL lengths.
pub fn put(mark: Mark, track: TrackKind, frame: &Bytes) -> Bytes {
    let text = mark.text(&canonical(codec(track), frame));
    let mut out = BytesMut::with_capacity(frame.len() + 64);
    if track == TrackKind::Video {
        let size = UUID.len() + text.len();
        // NAL header, payload type, payload size, payload, stop bit.
        out.put_u32(size as u32 + 4);
        out.put_slice(&[h264::SEI, USER_DATA, size as u8]);
        out.put_slice(UUID);
        out.put_slice(text.as_bytes());
        out.put_u8(0x80);
    } else {
        out.put_slice(&[DATA_STREAM_ELEMENT, text.len() as u8]);
        out.put_slice(text.as_bytes());
    }
    out.put_slice(frame);
    out.freeze()
}

/// The mark of a recorded frame; `None` when it has none or is not, bit by bit, what was marked.
pub fn get(track: TrackKind, frame: &Bytes) -> Option<Mark> {
    if track == TrackKind::Audio {
        let rest = frame.strip_prefix(&[DATA_STREAM_ELEMENT, TEXT as u8])?;
        let (text, frame) = rest.split_at_checked(TEXT)?;
        return Mark::parse(text, frame);
    }
    let is_ours = |nal: &[u8]| nal.get(3..19) == Some(&UUID[..]) && h264::nal_type(nal) == Some(h264::SEI);
    let frame = canonical(codec(track), frame);
    let mut text = None;
    let mut others = BytesMut::with_capacity(frame.len());
    for nal in h264::nals(&frame) {
        if is_ours(nal) {
            text = nal.get(19..19 + TEXT).map(<[u8]>::to_vec);
        } else {
            others.put_u32(nal.len() as u32);
            others.put_slice(nal);
        }
    }
    Mark::parse(&text?, &others)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { stream: 7, session: 3, counter: 0x1234_5678 };

    fn frame(nals: &[&[u8]]) -> Bytes {
        nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
    }

    #[test]
    fn marks_survive_what_containers_add_and_show_every_damage() {
        let picture = frame(&[&[0x06, 1, 1, 0, 0x80], &[0x65, 0x88, 1, 2, 3]]);
        let marked = put(MARK, TrackKind::Video, &picture);
        assert_eq!(get(TrackKind::Video, &marked), Some(MARK));
        // Parameter sets and a delimiter in front, as TS has them.
        let in_ts: Bytes = [&frame(&[&[9, 0xf0], &[0x67, 1], &[0x68, 2]])[..], &marked].concat().into();
        assert_eq!(get(TrackKind::Video, &in_ts), Some(MARK));
        assert_eq!(get(TrackKind::Video, &picture), None);
        let sound = Bytes::from_static(&[0x21, 1, 2, 3]);
        let marked_sound = put(MARK, TrackKind::Audio, &sound);
        assert_eq!(get(TrackKind::Audio, &marked_sound), Some(MARK));
        for (track, marked) in [(TrackKind::Video, marked), (TrackKind::Audio, marked_sound)] {
            let mut damaged = marked.to_vec();
            *damaged.last_mut().unwrap() ^= 1;
            assert_eq!(get(track, &damaged.into()), None);
        }
    }
}
