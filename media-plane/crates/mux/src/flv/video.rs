//! What stands before the payload of a video tag: FLV 10.1, E.4.3, for H.264, and Enhanced RTMP for everything else.

use bytes::Bytes;
use media::Codec;

use crate::picture::Picture;

/// Flag, frame type and packet type, FourCC, composition time.
pub(super) const MAX_PREFIX: usize = 8;

/// "The header is the extended one", and frame types.
const EXTENDED: u8 = 0x80;
const KEY: u8 = 0x10;
const INTER: u8 = 0x20;
/// Packet types of the extended header. Only the first kind of coded frames has a composition time, and of all codecs
/// here only H.265 has it there.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const CODED_FRAMES_X: u8 = 3;

/// `None` for H.264, which every player knows by its number.
fn four_cc(codec: Codec) -> Option<[u8; 4]> {
    match codec {
        Codec::H265 => Some(*b"hvc1"),
        Codec::Av1 => Some(*b"av01"),
        Codec::Vp9 => Some(*b"vp09"),
        Codec::Vp8 => Some(*b"vp08"),
        _ => None,
    }
}

/// `videocodecid` of `onMetaData`.
pub(super) fn codec_id(codec: Codec) -> f64 {
    four_cc(codec).map_or(7.0, |four_cc| u32::from_be_bytes(four_cc).into())
}

/// Prefix and payload of the tag that holds a configuration.
pub(super) fn sequence_start(picture: &Picture) -> (Vec<u8>, &Bytes) {
    let record = match picture {
        Picture::Avc(avc) => &avc.record,
        Picture::Hevc(hevc) => &hevc.record,
        Picture::Av1(av1) => &av1.record,
        Picture::Vp8(vpx) | Picture::Vp9(vpx) => &vpx.record,
    };
    let prefix = match four_cc(picture.codec()) {
        None => vec![0x17, 0, 0, 0, 0],
        Some(four_cc) => [&[EXTENDED | KEY | SEQUENCE_START], &four_cc[..]].concat(),
    };
    (prefix, record)
}

/// Prefix of a frame that is shown `offset` milliseconds after it is decoded.
pub(super) fn coded_frame(codec: Codec, keyframe: bool, offset: i32) -> Prefix {
    let [_, high, middle, low] = offset.to_be_bytes();
    let kind = if keyframe { KEY } else { INTER };
    let mut prefix = Prefix::default();
    let Some(four_cc) = four_cc(codec) else {
        prefix.put(&[kind | 7, 1, high, middle, low]);
        return prefix;
    };
    let has_offset = codec == Codec::H265 && offset != 0;
    // What has no offset in H.265 saves three bytes; the other codecs have none to write.
    let packet = if codec == Codec::H265 && !has_offset { CODED_FRAMES_X } else { CODED_FRAMES };
    prefix.put(&[EXTENDED | kind | packet]);
    prefix.put(&four_cc);
    if has_offset {
        prefix.put(&[high, middle, low]);
    }
    prefix
}

/// A few bytes without an allocation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prefix {
    bytes: [u8; MAX_PREFIX],
    len: usize,
}

impl Prefix {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

impl std::ops::Deref for Prefix {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
