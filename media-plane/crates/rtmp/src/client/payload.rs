//! Bodies of audio and video messages.

/// A decoder configuration record for 320x180, constrained baseline, from x264.
pub const AVC_RECORD: &[u8] = &[
    0x01, 0x42, 0xc0, 0x0d, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x06, 0x7e, 0x7c, 0x04, 0x40,
    0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0f, 0x03, 0xc5, 0x0a, 0xa8, 0x01, 0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];
/// The same encoder at 640x360.
pub const AVC_RECORD_640: &[u8] = &[
    0x01, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0xc0, 0x44,
    0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x58, 0xba, 0x80, 0x01, 0x00, 0x04, 0x68, 0xce,
    0x0f, 0xc8,
];
/// AAC-LC, 44.1 kHz, stereo.
pub const ASC: &[u8] = &[0x12, 0x10];

/// AVC sequence header.
pub fn avc_header(record: &[u8]) -> Vec<u8> {
    [&[0x17, 0, 0, 0, 0], record].concat()
}

/// AVC frame of `size` bytes in one NAL unit (at least 2), with a composition offset in milliseconds.
pub fn avc_frame(keyframe: bool, composition: i32, size: usize) -> Vec<u8> {
    let size = size.max(2);
    let [_, c0, c1, c2] = composition.to_be_bytes();
    let (first, nal) = if keyframe { (0x17, 0x65) } else { (0x27, 0x41) };
    let mut body = vec![first, 1, c0, c1, c2];
    body.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    body.push(nal);
    // The first bit says "slice begins at macroblock 0"; the pattern has no start codes in it.
    body.extend((1..size).map(|index| 0x80 | (index % 0x7f) as u8));
    body
}

/// AAC sequence header.
pub fn aac_header(asc: &[u8]) -> Vec<u8> {
    [&[0xaf, 0], asc].concat()
}

/// Raw AAC access unit of `size` bytes.
pub fn aac_frame(size: usize) -> Vec<u8> {
    let mut body = vec![0xaf, 1];
    body.extend((0..size).map(|index| if index == 0 { 0x21 } else { (index % 251) as u8 }));
    body
}

/// Sequence header of Opus (Enhanced RTMP v2): an identification header of RFC 7845.
pub fn opus_header(channels: u8, pre_skip: u16) -> Vec<u8> {
    let [low, high] = pre_skip.to_le_bytes();
    [&[0x90], &b"OpusOpusHead"[..], &[1, channels, low, high, 0x80, 0xbb, 0, 0, 0, 0, 0]].concat()
}

/// One Opus packet (Enhanced RTMP v2).
pub fn opus_frame(packet: &[u8]) -> Vec<u8> {
    [&[0x91], &b"Opus"[..], packet].concat()
}
