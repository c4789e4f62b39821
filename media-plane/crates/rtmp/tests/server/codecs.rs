//! FLV tags as every encoder sends them, and as some do.

use media::ingest::{Event, Metadata, Rejection};
use media::{Codec, CodecConfig, TrackKind};
use rtmp::amf0::{Value, Writer};
use rtmp::client::{Shape, payload};
use rtmp::kind;

use crate::peer::Peer;

#[test]
fn e10_e11_equal_headers_are_swallowed_and_changed_ones_reported() {
    let mut peer = Peer::publishing();
    for record in [payload::AVC_RECORD, payload::AVC_RECORD, payload::AVC_RECORD_640, payload::AVC_RECORD_640] {
        peer.feed(&peer.client.video(0, &payload::avc_header(record))).unwrap();
    }
    for asc in [payload::ASC, payload::ASC, &[0x11, 0x90], &[0x11, 0x90], payload::ASC] {
        peer.feed(&peer.client.audio(0, &payload::aac_header(asc))).unwrap();
    }
    let seen: Vec<String> = peer
        .configs()
        .iter()
        .map(|config| match config {
            CodecConfig::Avc(avc) => format!("{}x{}", avc.width, avc.height),
            CodecConfig::Aac(aac) => format!("{} Hz", aac.sample_rate),
            CodecConfig::Opus(opus) => format!("opus {} channels", opus.channels),
            other => format!("{:?}", other.codec()),
        })
        .collect();
    assert_eq!(seen, ["320x180", "640x360", "44100 Hz", "48000 Hz", "44100 Hz"]);
    assert!(peer.rejections().is_empty());
}

#[test]
fn e10_frames_before_their_configuration_are_rejected_and_counted() {
    let mut peer = Peer::publishing();
    peer.feed(&peer.client.audio(0, &payload::aac_frame(20))).unwrap();
    peer.feed(&peer.client.video(0, &payload::avc_frame(true, 0, 20))).unwrap();
    peer.feed(&peer.client.audio(23, &payload::aac_frame(20))).unwrap();
    let early = Rejection::BeforeConfig;
    assert_eq!(peer.rejections(), [(TrackKind::Audio, early), (TrackKind::Video, early), (TrackKind::Audio, early)]);
    peer.feed(&peer.client.audio(0, &payload::aac_header(payload::ASC))).unwrap();
    peer.feed(&peer.client.audio(46, &payload::aac_frame(20))).unwrap();
    assert_eq!(peer.times(TrackKind::Audio), [46]);
}

#[test]
fn e8_composition_offsets_are_signed() {
    let mut peer = Peer::publishing();
    peer.feed(&peer.client.video(0, &payload::avc_header(payload::AVC_RECORD))).unwrap();
    let offsets = [0, 1, 80, -1, -40, 0x007f_ffff, -0x0080_0000];
    for offset in offsets {
        peer.feed(&peer.client.video(40, &payload::avc_frame(false, offset, 30))).unwrap();
    }
    let seen: Vec<i32> = peer.frames(TrackKind::Video).iter().map(|frame| frame.composition).collect();
    assert_eq!(seen, offsets);
}

#[test]
fn e10_adts_is_taken_off_even_without_a_configuration() {
    let unit = [0x21, 0x10, 0x04, 0x60];
    let adts = |payload: &[u8]| {
        let length = payload.len() + 7;
        let header =
            [0xff, 0xf1, 0x50, 0x80 | (length >> 11) as u8, (length >> 3) as u8, (length << 5) as u8 | 0x1f, 0xfc];
        [&header[..], payload].concat()
    };
    let mut peer = Peer::publishing();
    peer.feed(&peer.client.audio(100, &[&[0xaf, 1][..], &adts(&unit), &adts(&unit), &adts(&unit)].concat())).unwrap();
    assert!(matches!(peer.configs()[..], [CodecConfig::Aac(aac)] if aac.sample_rate == 44_100 && aac.channels == 2));
    assert_eq!(peer.times(TrackKind::Audio), [100, 123, 146]);
    assert!(peer.frames(TrackKind::Audio).iter().all(|frame| frame.data[..] == unit));
    peer.feed(&peer.client.audio(169, &[&[0xaf, 1][..], &adts(&unit), &[0xff, 0xf1]].concat())).unwrap();
    assert_eq!(peer.times(TrackKind::Audio), [100, 123, 146, 169]);
    assert_eq!(peer.rejections(), [(TrackKind::Audio, Rejection::Malformed)]);
}

#[test]
fn e5_the_end_of_a_sequence_is_no_frame() {
    let mut peer = Peer::publishing();
    peer.feed(&peer.client.video(0, &payload::avc_header(payload::AVC_RECORD))).unwrap();
    peer.feed(&peer.client.video(5000, &payload::avc_frame(true, 0, 30))).unwrap();
    peer.events.clear();
    peer.feed(&peer.client.video(0, &[0x17, 2, 0, 0, 0])).unwrap();
    peer.feed(&peer.client.video(0, &[0x57, 0])).unwrap();
    peer.feed(&peer.client.video(0, &[0x27, 1, 0, 0, 0])).unwrap();
    peer.feed(&peer.client.video(0, &[0x27, 1, 0, 0, 0, 0, 0, 0, 0])).unwrap();
    assert!(peer.events.is_empty(), "{:?}", peer.events);
}

#[test]
fn e11_payloads_are_normalised() {
    let mut peer = Peer::publishing();
    peer.feed(&peer.client.video(0, &payload::avc_header(payload::AVC_RECORD))).unwrap();
    let annex_b = [&[0x17, 1, 0, 0, 0][..], &[0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 0x88, 0x84, 1]].concat();
    peer.feed(&peer.client.video(0, &annex_b)).unwrap();
    let lengths = [0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 4, 0x65, 0x88, 0x84, 1];
    assert_eq!(peer.frames(TrackKind::Video)[0].data[..], lengths);
    let broken = [0x27, 1, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0x41, 0x9a];
    peer.feed(&peer.client.video(40, &broken)).unwrap();
    assert_eq!(peer.rejections(), [(TrackKind::Video, Rejection::Malformed)]);

    // A record that announces 2-byte lengths.
    let mut record = payload::AVC_RECORD.to_vec();
    record[4] = 0xfd;
    peer.feed(&peer.client.video(80, &payload::avc_header(&record))).unwrap();
    peer.feed(&peer.client.video(80, &[0x27, 1, 0, 0, 0, 0, 3, 0x41, 0x9a, 2])).unwrap();
    assert_eq!(peer.frames(TrackKind::Video)[1].data[..], [0, 0, 0, 3, 0x41, 0x9a, 2]);
}

#[test]
fn e12_a_recovery_point_is_a_key_frame_whatever_the_tag_says() {
    let mut peer = Peer::publishing();
    peer.feed(&peer.client.video(0, &payload::avc_header(payload::AVC_RECORD))).unwrap();
    let recovery = [0x27, 1, 0, 0, 0, 0, 0, 0, 5, 6, 6, 1, 0xc4, 0x80, 0, 0, 0, 3, 0x41, 0x9a, 0x02];
    peer.feed(&peer.client.video(0, &recovery)).unwrap();
    peer.feed(&peer.client.video(40, &payload::avc_frame(false, 0, 30))).unwrap();
    let keys: Vec<bool> = peer.frames(TrackKind::Video).iter().map(|frame| frame.keyframe).collect();
    assert_eq!(keys, [true, false]);
}

#[test]
fn e13_other_codecs_are_named_once_and_rejected_each_time() {
    let mut peer = Peer::publishing();
    for body in [&[0x14, 0][..], &[0x14, 1], &[0x22, 9]] {
        peer.feed(&peer.client.video(0, body)).unwrap();
    }
    for body in [[0x2f, 1], [0x2f, 2], [0xb2, 1], [0x72, 1]] {
        peer.feed(&peer.client.audio(0, &body)).unwrap();
    }
    let codecs: Vec<Codec> = peer
        .configs()
        .iter()
        .map(|config| match config {
            CodecConfig::Unsupported(codec) => *codec,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codecs, [Codec::Other(4), Codec::Other(2), Codec::Mp3, Codec::Other(11), Codec::Other(7)]);
    assert_eq!(peer.rejections().len(), 7);
    peer.feed(&peer.client.video(0, &payload::avc_header(payload::AVC_RECORD))).unwrap();
    assert!(matches!(peer.configs().last(), Some(CodecConfig::Avc(_))), "and H.264 may follow");
}

fn metadata(value: &Value, prefix: bool, message_kind: u8) -> Option<Metadata> {
    let mut peer = Peer::publishing();
    let writer = if prefix { Writer::new().string("@setDataFrame") } else { Writer::new() };
    let mut body = writer.string("onMetaData").value(value).finish();
    if message_kind == kind::DATA_AMF3 {
        body.insert(0, 0);
    }
    peer.feed(&peer.client.message(Shape::full(5, 0), message_kind, 1, &body)).unwrap();
    match peer.media()[..] {
        [] => None,
        [Event::Metadata(metadata)] => Some(metadata.clone()),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn e9_metadata_in_every_form() {
    let number = |name: &str, value: f64| (name.to_owned(), Value::Number(value));
    let text = |name: &str, value: &str| (name.to_owned(), Value::String(value.to_owned()));
    let plain = vec![
        number("width", 1280.0),
        number("height", 720.0),
        number("framerate", 30.0),
        number("videocodecid", 7.0),
        number("audiocodecid", 10.0),
        text("encoder", "obs-output module (libobs version 30.0.0)"),
    ];
    let expected = Metadata {
        encoder: Some("obs-output module (libobs version 30.0.0)".to_owned()),
        video: Some(Codec::H264),
        audio: Some(Codec::Aac),
        width: Some(1280.0),
        height: Some(720.0),
        frame_rate: Some(30.0),
    };
    for prefix in [true, false] {
        for message_kind in [kind::DATA_AMF0, kind::DATA_AMF3] {
            for value in [Value::Object(plain.clone()), Value::EcmaArray(plain.clone())] {
                assert_eq!(metadata(&value, prefix, message_kind), Some(expected.clone()));
            }
        }
    }
    for (video, audio, codecs) in [
        (text("videocodecid", "avc1"), text("audiocodecid", "mp4a"), (Some(Codec::H264), Some(Codec::Aac))),
        (number("videocodecid", 1_635_148_593.0), number("audiocodecid", 2.0), (Some(Codec::H264), Some(Codec::Mp3))),
        (text("videocodecid", "hvc1"), text("audiocodecid", "Opus"), (Some(Codec::H265), Some(Codec::Opus))),
        (number("videocodecid", 0.0), number("audiocodecid", f64::NAN), (None, None)),
        (number("videocodecid", -7.0), number("audiocodecid", 1e300), (None, None)),
        (text("videocodecid", ""), ("audiocodecid".to_owned(), Value::Boolean(true)), (None, None)),
    ] {
        let value = Value::Object(vec![video, audio, number("width", f64::INFINITY)]);
        let seen = metadata(&value, true, kind::DATA_AMF0).unwrap();
        assert_eq!((seen.video, seen.audio), codecs);
        assert_eq!(seen.width, None);
    }
    assert_eq!(metadata(&Value::Null, true, kind::DATA_AMF0), Some(Metadata::default()), "nothing claimed");
}

#[test]
fn e9_metadata_that_cannot_be_read_is_no_reason_to_stop() {
    let mut peer = Peer::publishing();
    let local_encoding =
        b"\x02\x00\x0aonMetaData\x03\x00\x05title\x02\x00\x02\xc4\xe3\x00\x05width\x00\x40\x84\x00\x00\x00\x00\x00\x00";
    let no_end = peer.client.message(Shape::full(5, 0), kind::DATA_AMF0, 1, local_encoding);
    peer.feed(&no_end).unwrap();
    assert!(matches!(peer.media()[..], [Event::Metadata(claims)] if claims.width == Some(640.0)));
    peer.events.clear();
    for body in [
        &b"\x02\x00\x0aonMetaData\x0a\xff\xff\xff\xff"[..],
        b"\x02\x00\x09onCuePoin\x05",
        b"\x02\xff",
        b"\x05",
        &[3; 300],
    ] {
        peer.feed(&peer.client.message(Shape::full(5, 0), kind::DATA_AMF0, 1, body)).unwrap();
    }
    assert!(peer.events.is_empty());
}

#[test]
fn e9_repeated_metadata_is_swallowed_and_changed_metadata_reported() {
    let mut peer = Peer::publishing();
    for width in [640.0, 640.0, 1280.0, 1280.0] {
        peer.feed(&peer.client.metadata(&[("width".to_owned(), Value::Number(width))])).unwrap();
    }
    let widths: Vec<Option<f64>> = peer
        .media()
        .iter()
        .map(|event| match event {
            Event::Metadata(claims) => claims.width,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(widths, [Some(640.0), Some(1280.0)]);
}
