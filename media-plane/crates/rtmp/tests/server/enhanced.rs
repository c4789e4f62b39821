//! E14, E16: the extended headers of Enhanced RTMP v2.

use media::TrackKind::{Audio, Video};
use media::ingest::Rejection;
use media::{Codec, CodecConfig, OpusConfig};
use rtmp::client::payload;

use crate::peer::Peer;

/// Key frame, given packet type, H.264.
fn avc1(packet_type: u8, body: &[u8]) -> Vec<u8> {
    [&[0x90 | packet_type], &b"avc1"[..], body].concat()
}

const NAL: &[u8] = &[0, 0, 0, 3, 0x65, 0x88, 0x84];

fn ready() -> Peer {
    let mut peer = Peer::publishing();
    peer.feed(&peer.client.video(0, &avc1(0, payload::AVC_RECORD))).unwrap();
    peer
}

#[test]
fn e14_h264_by_four_cc_is_h264() {
    let mut peer = ready();
    peer.feed(&peer.client.video(0, &payload::avc_header(payload::AVC_RECORD))).unwrap();
    assert!(matches!(peer.configs()[..], [CodecConfig::Avc(avc)] if avc.width == 320), "the legacy form says the same");
    peer.feed(&peer.client.video(40, &avc1(1, &[&[0xff, 0xff, 0xd8], NAL].concat()))).unwrap();
    peer.feed(&peer.client.video(80, &avc1(3, NAL))).unwrap();
    let inter = [&[0xa3], &b"avc1"[..], &[0, 0, 0, 3, 0x41, 0x9a, 1]].concat();
    peer.feed(&peer.client.video(120, &inter)).unwrap();
    let seen: Vec<_> =
        peer.frames(Video).iter().map(|frame| (frame.time.value, frame.composition, frame.keyframe)).collect();
    assert_eq!(seen, [(40, -40, true), (80, 0, true), (120, 0, false)]);
    assert_eq!(peer.frames(Video)[0].data[..], *NAL);
}

#[test]
fn e14_packet_types_without_a_picture_are_passed_over() {
    let mut peer = ready();
    peer.events.clear();
    for packet_type in [2, 4, 8, 9, 15] {
        peer.feed(&peer.client.video(0, &avc1(packet_type, &[1, 2, 3]))).unwrap();
    }
    // A command frame (seek marker) has no FourCC.
    peer.feed(&peer.client.video(0, &[0xd1, 0])).unwrap();
    assert!(peer.events.is_empty(), "{:?}", peer.events);
}

#[test]
fn e14_modifiers_are_skipped() {
    let mut peer = ready();
    // A nanosecond offset (3 bytes), then one of 300 bytes with the long size, then the frame.
    let long = [&[0xff, 0x01, 0x2b][..], &[9; 300], &[0x03]].concat();
    let body = [&[0x97, 0x02, 1, 2, 3, 0x07], &long[..], b"avc1", NAL].concat();
    peer.feed(&peer.client.video(40, &body)).unwrap();
    assert_eq!(peer.times(Video), [40]);
    assert_eq!(peer.frames(Video)[0].data[..], *NAL);
    for cut in 1..body.len() - NAL.len() - 4 {
        peer.feed(&peer.client.video(80, &body[..cut])).unwrap();
    }
    assert_eq!(peer.times(Video), [40]);
    assert!(peer.rejections().iter().all(|rejection| *rejection == (Video, Rejection::Malformed)));
}

#[test]
fn e16_of_many_tracks_the_first_is_read() {
    let mut peer = ready();
    let other: &[u8] = &[0, 0, 0, 2, 0x65, 0xee];
    let one_track = [&[0x96, 0x03], &b"avc1"[..], &[0], NAL].concat();
    let another_track = [&[0x96, 0x03], &b"avc1"[..], &[1], other].concat();
    let many = [&[0x96, 0x13], &b"avc1"[..], &[1, 0, 0, 6], other, &[0, 0, 0, 7], NAL].concat();
    let many_codecs = [&[0x96, 0x23], &b"hvc1"[..], &[1, 0, 0, 6], other, b"avc1", &[0, 0, 0, 7], NAL].concat();
    for (time, body) in [(0, &one_track), (10, &another_track), (20, &many), (30, &many_codecs)] {
        peer.feed(&peer.client.video(time, body)).unwrap();
    }
    assert_eq!(peer.times(Video), [0, 20, 30]);
    assert!(peer.frames(Video).iter().all(|frame| frame.data[..] == *NAL));
    assert!(peer.rejections().is_empty());
    let lying = [&[0x96, 0x13], &b"avc1"[..], &[0, 0, 0, 99], NAL].concat();
    peer.feed(&peer.client.video(40, &lying)).unwrap();
    assert_eq!(peer.rejections(), [(Video, Rejection::Malformed)]);
}

#[test]
fn e13_codecs_by_four_cc() {
    let mut peer = Peer::publishing();
    for packet_type in [0, 1, 3, 2] {
        peer.feed(&peer.client.video(0, &[&[0x90 | packet_type], &b"vvc1"[..], &[0; 8]].concat())).unwrap();
    }
    assert_eq!(peer.configs(), [&CodecConfig::Unsupported(Codec::Other(9))]);
    assert_eq!(peer.rejections(), [(Video, Rejection::UnsupportedCodec); 2]);
    for (four_cc, codec) in [(b".mp3", Codec::Mp3), (b"ac-3", Codec::Other(9))] {
        let mut peer = Peer::publishing();
        for packet_type in [0, 4, 1, 2] {
            peer.feed(&peer.client.audio(0, &[&[0x90 | packet_type], &four_cc[..], &[0; 8]].concat())).unwrap();
        }
        assert_eq!(peer.configs(), [&CodecConfig::Unsupported(codec)]);
        assert_eq!(peer.rejections(), [(Audio, Rejection::UnsupportedCodec)]);
    }
}

#[test]
fn e14_aac_by_four_cc_is_aac() {
    let mut peer = Peer::publishing();
    let unit = [0x21, 0x10, 0x04];
    let body = |packet_type: u8, rest: &[u8]| [&[0x90 | packet_type], &b"mp4a"[..], rest].concat();
    peer.feed(&peer.client.audio(0, &body(1, &unit))).unwrap();
    peer.feed(&peer.client.audio(0, &body(0, payload::ASC))).unwrap();
    peer.feed(&peer.client.audio(23, &body(1, &unit))).unwrap();
    let track_one = [&[0x95, 0x01], &b"mp4a"[..], &[1], &unit].concat();
    let track_zero = [&[0x95, 0x01], &b"mp4a"[..], &[0], &unit].concat();
    let modified = [&[0x97, 0x02, 0, 0, 1, 0x01], &b"mp4a"[..], &unit].concat();
    for (time, body) in [(30, track_one), (46, track_zero), (69, modified)] {
        peer.feed(&peer.client.audio(time, &body)).unwrap();
    }
    assert_eq!(peer.rejections(), [(Audio, Rejection::BeforeConfig)]);
    assert_eq!(peer.times(Audio), [23, 46, 69]);
    assert!(peer.frames(Audio).iter().all(|frame| frame.data[..] == unit));
}

#[test]
fn e13_opus_by_four_cc_is_opus() {
    let mut peer = Peer::publishing();
    let body = |packet_type: u8, rest: &[u8]| [&[0x90 | packet_type], &b"Opus"[..], rest].concat();
    let head = |channels: u8| [&b"OpusHead"[..], &[1, channels, 0x38, 1, 0x80, 0xbb, 0, 0, 0, 0, 0]].concat();
    let packet: &[u8] = &[0xfc, 0xff, 0xfe];
    peer.feed(&peer.client.audio(0, &body(1, packet))).unwrap();
    for (time, body) in [(0, body(0, &head(2))), (0, body(0, &head(2))), (10, body(1, packet)), (30, body(1, packet))] {
        peer.feed(&peer.client.audio(time, &body)).unwrap();
    }
    let first = OpusConfig { channels: 2, pre_skip: 312, sample_rate_in: 48_000 };
    assert_eq!(peer.configs(), [&CodecConfig::Opus(first.clone().into())], "an equal header is no news");
    assert_eq!(peer.times(Audio), [10, 30]);
    assert!(peer.frames(Audio).iter().all(|frame| frame.data[..] == *packet));
    // Packets that are none, headers that are none, and AAC in between.
    for body in [body(1, &[]), body(1, &[0xff, 0x3f]), body(0, &[1, 2, 3]), body(0, &head(6))] {
        peer.feed(&peer.client.audio(40, &body)).unwrap();
    }
    peer.feed(&peer.client.audio(40, &payload::aac_frame(9))).unwrap();
    assert_eq!(
        peer.rejections()[1..],
        [(Audio, Rejection::Malformed); 4].into_iter().chain([(Audio, Rejection::BeforeConfig)]).collect::<Vec<_>>()
    );
    peer.feed(&peer.client.audio(50, &body(1, packet))).unwrap();
    assert_eq!(peer.times(Audio), [10, 30, 50], "the header in force is still that of Opus");
    peer.feed(&peer.client.audio(60, &payload::aac_header(payload::ASC))).unwrap();
    peer.feed(&peer.client.audio(60, &body(1, packet))).unwrap();
    peer.feed(&peer.client.audio(60, &body(0, &head(1)))).unwrap();
    peer.feed(&peer.client.audio(70, &body(1, packet))).unwrap();
    assert_eq!(peer.times(Audio), [10, 30, 50, 70]);
    assert_eq!(peer.configs().len(), 3);
}
