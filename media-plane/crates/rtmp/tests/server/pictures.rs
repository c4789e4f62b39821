//! E13, E14: H.265, AV1, VP9 and VP8 as Enhanced RTMP carries them, and H.265 under the numbers it had before.

use media::TrackKind::Video;
use media::ingest::Rejection;
use media::{Codec, CodecConfig};
use rtmp::client::payload::{self, AV1_RECORD, AVC_RECORD, HEVC_RECORD, VP8_KEY, VP9_KEY, enhanced_video};

use crate::peer::Peer;

/// An IDR slice and another one of H.265, with 4-byte lengths.
const IDR: &[u8] = &[0, 0, 0, 4, 0x26, 0x01, 0xaf, 7];
const SLICE: &[u8] = &[0, 0, 0, 4, 0x02, 0x01, 0xd0, 9];
/// A shown key frame and another frame of AV1.
const KEY_FRAME: &[u8] = &[0x32, 3, 0x10, 7, 7];
const INTER_FRAME: &[u8] = &[0x32, 3, 0x30, 8, 8];

fn feed(peer: &mut Peer, time: u32, body: &[u8]) {
    peer.feed(&peer.client.video(time, body)).unwrap();
}

/// Time, composition, key frame and payload of every picture.
fn pictures(peer: &Peer) -> Vec<(u32, i32, bool, Vec<u8>)> {
    let all = peer.frames(Video);
    all.iter().map(|frame| (frame.time.value, frame.composition, frame.keyframe, frame.data.to_vec())).collect()
}

fn sizes(peer: &Peer) -> Vec<(Codec, (u32, u32))> {
    peer.configs().iter().map(|config| (config.codec(), config.picture_size().unwrap_or_default())).collect()
}

#[test]
fn e13_h265_by_four_cc_with_composition_times() {
    let mut peer = Peer::publishing();
    feed(&mut peer, 0, &enhanced_video(true, 3, b"hvc1", IDR));
    assert_eq!(peer.rejections(), [(Video, Rejection::BeforeConfig)]);
    feed(&mut peer, 0, &enhanced_video(true, 0, b"hvc1", HEVC_RECORD));
    feed(&mut peer, 0, &enhanced_video(true, 0, b"hvc1", HEVC_RECORD));
    assert_eq!(sizes(&peer), [(Codec::H265, (322, 182))], "an equal record is no news");
    feed(&mut peer, 40, &enhanced_video(true, 1, b"hvc1", &[&[0, 0, 80], IDR].concat()));
    feed(&mut peer, 80, &enhanced_video(false, 1, b"hvc1", &[&[0xff, 0xff, 0xd8], SLICE].concat()));
    feed(&mut peer, 120, &enhanced_video(false, 3, b"hvc1", SLICE));
    // The tag calls it an inter frame, the picture is one to start with.
    feed(&mut peer, 160, &enhanced_video(false, 3, b"hvc1", IDR));
    // OBS ends sequences at time 0; HDR metadata has no picture.
    feed(&mut peer, 0, &enhanced_video(true, 2, b"hvc1", &[]));
    feed(&mut peer, 160, &enhanced_video(true, 4, b"hvc1", &[2, 0, 1, 0x61]));
    let expected = [
        (40, 80, true, IDR.to_vec()),
        (80, -40, false, SLICE.to_vec()),
        (120, 0, false, SLICE.to_vec()),
        (160, 0, true, IDR.to_vec()),
    ];
    assert_eq!(pictures(&peer), expected);
    assert_eq!(peer.rejections().len(), 1);
    feed(&mut peer, 200, &enhanced_video(true, 3, b"hvc1", &[0, 0, 9, 9, 1]));
    feed(&mut peer, 200, &enhanced_video(true, 0, b"hvc1", &HEVC_RECORD[..40]));
    feed(&mut peer, 200, &enhanced_video(true, 1, b"hvc1", &[0, 0]));
    assert_eq!(peer.rejections()[1..], [(Video, Rejection::Malformed); 3]);
}

#[test]
fn e13_h265_under_its_unofficial_number_and_under_that_of_h264() {
    for id in [12, 7] {
        let mut peer = Peer::publishing();
        feed(&mut peer, 0, &[&[0x10 | id, 0, 0, 0, 0], HEVC_RECORD].concat());
        feed(&mut peer, 40, &[&[0x10 | id, 1, 0, 0, 80], IDR].concat());
        feed(&mut peer, 80, &[&[0x20 | id, 1, 0, 0, 0], SLICE].concat());
        assert_eq!(sizes(&peer), [(Codec::H265, (322, 182))], "id {id}");
        assert_eq!(pictures(&peer), [(40, 80, true, IDR.to_vec()), (80, 0, false, SLICE.to_vec())], "id {id}");
        feed(&mut peer, 120, &payload::avc_header(AVC_RECORD));
        feed(&mut peer, 120, &payload::avc_frame(true, 0, 30));
        assert_eq!(sizes(&peer).last(), Some(&(Codec::H264, (320, 180))), "H.264 may follow");
        assert!(pictures(&peer).len() == 3 && peer.rejections().is_empty());
    }
}

#[test]
fn e13_lengths_of_two_bytes_become_four() {
    let mut record = HEVC_RECORD.to_vec();
    record[21] = 0x0d;
    let mut peer = Peer::publishing();
    feed(&mut peer, 0, &enhanced_video(true, 0, b"hvc1", &record));
    feed(&mut peer, 0, &enhanced_video(true, 3, b"hvc1", &IDR[2..]));
    assert_eq!(pictures(&peer), [(0, 0, true, IDR.to_vec())]);
}

#[test]
fn e13_av1_without_delimiters_and_with_a_changed_header_in_band() {
    let mut peer = Peer::publishing();
    let unit = [&[0x12, 0], &AV1_RECORD[4..], KEY_FRAME].concat();
    feed(&mut peer, 0, &enhanced_video(false, 1, b"av01", INTER_FRAME));
    assert_eq!(peer.rejections(), [(Video, Rejection::BeforeConfig)]);
    feed(&mut peer, 0, &enhanced_video(true, 0, b"av01", AV1_RECORD));
    feed(&mut peer, 40, &enhanced_video(true, 1, b"av01", &unit));
    feed(&mut peer, 80, &enhanced_video(false, 3, b"av01", INTER_FRAME));
    assert_eq!(sizes(&peer), [(Codec::Av1, (322, 182))], "the header in band says the same");
    let expected = [(40, 0, true, unit[2..].to_vec()), (80, 0, false, INTER_FRAME.to_vec())];
    assert_eq!(pictures(&peer), expected);
    // Level 2.0 instead of 2.1 or whatever: any other header is another configuration.
    let mut other = AV1_RECORD[4..].to_vec();
    other[4] ^= 1;
    feed(&mut peer, 120, &enhanced_video(true, 1, b"av01", &[&other, KEY_FRAME].concat()));
    feed(&mut peer, 160, &enhanced_video(true, 1, b"av01", &[&other, KEY_FRAME].concat()));
    assert_eq!(peer.configs().len(), 2);
    assert_eq!(peer.times(Video), [40, 80, 120, 160]);
    feed(&mut peer, 200, &enhanced_video(true, 1, b"av01", &[0x32, 200, 1]));
    feed(&mut peer, 200, &enhanced_video(true, 0, b"av01", &[0x80, 0, 0, 0, 9]));
    assert_eq!(peer.rejections()[1..], [(Video, Rejection::Malformed); 2]);
}

#[test]
fn e13_av1_whose_record_has_no_header_waits_for_a_key_frame() {
    let mut peer = Peer::publishing();
    feed(&mut peer, 0, &enhanced_video(true, 0, b"av01", &AV1_RECORD[..4]));
    feed(&mut peer, 0, &enhanced_video(false, 1, b"av01", INTER_FRAME));
    assert!(peer.configs().is_empty());
    feed(&mut peer, 40, &enhanced_video(true, 1, b"av01", &[&AV1_RECORD[4..], KEY_FRAME].concat()));
    assert_eq!((sizes(&peer), peer.times(Video)), (vec![(Codec::Av1, (322, 182))], vec![40]));
    assert_eq!(peer.rejections(), [(Video, Rejection::BeforeConfig)]);
}

#[test]
fn e13_vp9_and_vp8_tell_their_size_with_key_frames() {
    for (four_cc, codec, key) in [(b"vp09", Codec::Vp9, VP9_KEY), (b"vp08", Codec::Vp8, VP8_KEY)] {
        let mut peer = Peer::publishing();
        let record = [1, 0, 0, 0, 0, 41, 0x82, 1, 1, 1, 0, 0];
        feed(&mut peer, 0, &enhanced_video(true, 0, four_cc, &record));
        assert!(peer.configs().is_empty());
        let inter: &[u8] = &[0x87, 0x49, 7];
        feed(&mut peer, 0, &enhanced_video(false, 1, four_cc, inter));
        assert_eq!(peer.rejections(), [(Video, Rejection::BeforeConfig)]);
        for (time, keyframe, body) in [(40, true, key), (80, false, inter), (120, true, key)] {
            feed(&mut peer, time, &enhanced_video(keyframe, 1, four_cc, body));
        }
        assert_eq!(sizes(&peer), [(codec, (322, 182))], "told once");
        let (CodecConfig::Vp9(config) | CodecConfig::Vp8(config)) = peer.configs()[0] else { panic!("{codec:?}") };
        assert_eq!((config.level, &config.record[..]), (41, &record[4..]), "as announced");
        let keys: Vec<bool> = pictures(&peer).iter().map(|(_, _, keyframe, _)| *keyframe).collect();
        assert_eq!(keys, [true, false, true]);
        feed(&mut peer, 160, &enhanced_video(true, 0, four_cc, &[1, 2, 3]));
        assert_eq!(peer.rejections()[1..], [(Video, Rejection::Malformed)]);
    }
}

#[test]
fn e13_another_codec_counts_from_its_configuration_on() {
    let mut peer = Peer::publishing();
    feed(&mut peer, 0, &enhanced_video(true, 0, b"hvc1", HEVC_RECORD));
    feed(&mut peer, 0, &enhanced_video(true, 3, b"hvc1", IDR));
    feed(&mut peer, 40, &payload::avc_frame(true, 0, 30));
    assert_eq!(peer.rejections(), [(Video, Rejection::BeforeConfig)]);
    feed(&mut peer, 40, &enhanced_video(true, 1, b"vp09", VP9_KEY));
    feed(&mut peer, 80, &enhanced_video(true, 3, b"hvc1", IDR));
    feed(&mut peer, 80, &enhanced_video(true, 0, b"hvc1", HEVC_RECORD));
    feed(&mut peer, 80, &enhanced_video(true, 3, b"hvc1", IDR));
    let codecs: Vec<Codec> = peer.configs().iter().map(|config| config.codec()).collect();
    assert_eq!(codecs, [Codec::H265, Codec::Vp9, Codec::H265]);
    assert_eq!(peer.times(Video), [0, 40, 80]);
    assert_eq!(peer.rejections().len(), 2);
}
