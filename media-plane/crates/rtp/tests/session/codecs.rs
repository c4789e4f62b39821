//! Packets one by one, of H.265, AV1, VP9 and VP8: what their RTP formats allow and captures do not show.

use std::time::Duration;

use bytes::Bytes;
use media::CodecConfig;
use media::ingest::Event;
use proptest::prelude::*;
use rtp::{Format, Output, Packet, Session, Settings};

const VIDEO: u8 = 96;

/// A session fed packet by packet; every packet arrives 1 ms after the one before.
struct Feed {
    session: Session,
    sequence: u16,
    now: Duration,
}

impl Feed {
    fn new(format: Format) -> Self {
        let settings = Settings { formats: [(VIDEO, format)].into(), ..Settings::default() };
        Self { session: Session::new(settings), sequence: 65_530, now: Duration::from_secs(5) }
    }

    fn send(&mut self, picture: u32, marker: bool, payload: &[u8]) -> &mut Self {
        self.lose(1);
        self.now += Duration::from_millis(1);
        self.session.push_rtp(Packet {
            payload_type: VIDEO,
            marker,
            sequence_number: self.sequence,
            timestamp: picture * 3_000,
            ssrc: 7,
            rid: None,
            payload: Bytes::copy_from_slice(payload),
            arrival: self.now,
        });
        self
    }

    fn lose(&mut self, packets: u16) -> &mut Self {
        self.sequence = self.sequence.wrapping_add(packets);
        self
    }

    fn finish(&mut self) -> Vec<Output> {
        while let Some(due) = self.session.next_timeout().filter(|due| *due <= self.now + Duration::from_secs(2)) {
            self.session.handle_timeout(due);
        }
        self.session.end();
        std::iter::from_fn(|| self.session.poll()).collect()
    }

    fn frames(&mut self) -> Vec<Vec<u8>> {
        let outputs = self.finish();
        let frame = |output: &Output| match output {
            Output::Event(Event::Frame(frame)) => Some(frame.data.to_vec()),
            _ => None,
        };
        outputs.iter().filter_map(frame).collect()
    }
}

fn sizes(outputs: &[Output]) -> Vec<(u32, u32)> {
    let size = |output: &Output| match output {
        Output::Event(Event::Config(_, config)) => config.picture_size(),
        _ => None,
    };
    outputs.iter().filter_map(size).collect()
}

/// A VP8 key frame of this size, as long as its header.
fn vp8_key(width: u16, height: u16) -> Vec<u8> {
    let ([w0, w1], [h0, h1]) = (width.to_le_bytes(), height.to_le_bytes());
    vec![0x10, 2, 0, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, 7, 7]
}

const VP8_INTER: &[u8] = &[0x11, 1, 0, 9];

fn with(descriptor: &[u8], frame: &[u8]) -> Vec<u8> {
    [descriptor, frame].concat()
}

#[test]
fn vp8_descriptors_of_every_length_are_taken_off() {
    let key = vp8_key(320, 180);
    for descriptor in [
        &[0x10][..],
        &[0x90, 0x80, 0x11],
        &[0x90, 0x80, 0x91, 0x22],
        &[0x90, 0xe0, 0x81, 0x22, 5, 0x20],
        &[0x90, 0x20, 0x40],
        &[0x90, 0x40, 0x40],
        &[0x90, 0x00],
    ] {
        let mut feed = Feed::new(Format::Vp8);
        let out = feed.send(1, true, &with(descriptor, &key)).send(2, true, &with(&[0x10], VP8_INTER)).frames();
        assert_eq!(out, [key.clone(), VP8_INTER.to_vec()], "{descriptor:02x?}");
    }
}

#[test]
fn vp8_partitions_and_parts_make_one_frame_and_another_size_another_configuration() {
    let (key, other) = (vp8_key(320, 180), vp8_key(640, 360));
    let mut feed = Feed::new(Format::Vp8);
    feed.send(1, false, &with(&[0x10], &key)).send(1, false, &[0x00, 1]).send(1, true, &[0x11, 2]);
    let outputs = feed.send(2, true, &with(&[0x10], VP8_INTER)).send(3, true, &with(&[0x10], &other)).finish();
    assert_eq!(sizes(&outputs), [(320, 180), (640, 360)]);
    let Output::Event(Event::Frame(first)) = &outputs[2] else { panic!("{outputs:?}") };
    assert_eq!(first.data, with(&key, &[1, 2]));
}

#[test]
fn vp8_a_frame_that_none_builds_on_may_be_lost_alone_and_no_other() {
    for (reference, left) in [(0x00, 2), (0x20, 4)] {
        let mut feed = Feed::new(Format::Vp8);
        feed.send(1, true, &with(&[0x10], &vp8_key(320, 180))).send(2, true, &with(&[0x10], VP8_INTER));
        feed.send(3, false, &with(&[0x10 | reference], VP8_INTER)).lose(1).send(3, true, &[reference, 1]);
        let out = feed.send(4, true, &with(&[0x10], VP8_INTER)).send(5, true, &with(&[0x10], VP8_INTER)).frames();
        assert_eq!(out.len(), left, "{reference:02x}");
    }
}

/// A VP9 key frame of profile 0 and this size, with some bytes behind its header.
fn vp9_key(width: u16, height: u16) -> Vec<u8> {
    // Marker, profile, key frame, shown: 0x82; then the sync code, the colours (BT.601, limited), sizes less one.
    let bits = (0b0010_u64 << 32) | u64::from(width - 1) << 16 | u64::from(height - 1);
    let mut frame = vec![0x82, 0x49, 0x83, 0x42];
    frame.extend((bits << 28).to_be_bytes());
    frame.extend([1, 2, 3]);
    frame
}

const VP9_INTER: &[u8] = &[0x86, 0, 1, 2];

#[test]
fn vp9_descriptors_of_both_modes_are_taken_off() {
    let key = vp9_key(320, 180);
    let structure = [0x1a, 1, 64, 0, 180, 1, 0x24, 1];
    for (first, second) in [
        (with(&[0x0c], &key), with(&[0x4c], VP9_INTER)),
        (with(&[0x8c, 0x11], &key), with(&[0xcc, 0x92, 0x34], VP9_INTER)),
        (with(&[0xac, 0x11, 0x00, 0x07], &key), with(&[0xec, 0x12, 0x20, 0x08], VP9_INTER)),
        (with(&[0xbc, 0x11, 0x00], &key), with(&[0xfc, 0x12, 0x00, 0x03, 0x05, 0x02], VP9_INTER)),
        (with(&[&[0x8e, 0x11][..], &structure].concat(), &key), with(&[0xcc, 0x12], VP9_INTER)),
    ] {
        let mut feed = Feed::new(Format::Vp9);
        let out = feed.send(1, true, &first).send(2, true, &second).frames();
        assert_eq!(out, [key.clone(), VP9_INTER.to_vec()], "{first:02x?}");
    }
}

#[test]
fn vp9_spatial_layers_become_one_superframe_with_the_size_that_is_shown() {
    let (base, upper) = (vp9_key(160, 90), vec![0x86; 300]);
    // Two layers, 160x90 and 320x180.
    let structure = [0x30, 0, 160, 0, 90, 1, 64, 0, 180];
    let mut feed = Feed::new(Format::Vp9);
    feed.send(1, false, &with(&[&[0x2e, 0x00, 0x00][..], &structure].concat(), &base));
    feed.send(1, false, &with(&[0x28, 0x03, 0x00], &upper[..200]));
    feed.send(1, true, &with(&[0x24, 0x03, 0x00], &upper[200..]));
    let outputs = feed.send(2, true, &with(&[0x6c, 0x00, 0x01], VP9_INTER)).finish();
    assert_eq!(sizes(&outputs), [(320, 180)]);
    let Output::Event(Event::Frame(first)) = &outputs[2] else { panic!("{outputs:?}") };
    // Two bytes a size, two frames.
    let index = [0xc9, base.len() as u8, 0, 44, 1, 0xc9];
    assert_eq!(first.data, [&base[..], &upper, &index].concat());
    assert!(first.keyframe);
    let mut feed = Feed::new(Format::Vp9);
    feed.send(1, true, &with(&[0x0c], &base)).send(2, false, &with(&[0x6c, 0x00, 0x01], VP9_INTER)).lose(1);
    let out = feed.send(2, true, &with(&[0x24, 0x03, 0x01], &upper)).send(3, true, &with(&[0x4c], VP9_INTER)).frames();
    assert_eq!(out.len(), 1, "half an upper layer is no picture");
}

/// A sequence header of 96x64 as SVT-AV1 makes it, without size; frames whose first byte says what they are.
const SEQUENCE: &[u8] = &[0x08, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x9b, 0x5f, 0x30, 0x08];
const AV1_KEY: &[u8] = &[0x30, 0x10, 1, 2, 3];
const AV1_INTER: &[u8] = &[0x30, 0x30, 4, 5];

/// As they leave: with their size.
fn whole(obus: &[&[u8]]) -> Vec<u8> {
    obus.iter().flat_map(|obu| [&[obu[0] | 2, obu.len() as u8 - 1][..], &obu[1..]].concat()).collect()
}

fn element(obu: &[u8]) -> Vec<u8> {
    [&[obu.len() as u8][..], obu].concat()
}

#[test]
fn av1_elements_with_and_without_lengths_and_over_packets_are_the_same_unit() {
    let expected = whole(&[SEQUENCE, AV1_KEY]);
    let sized_obu = [&[AV1_KEY[0] | 2, 4][..], &AV1_KEY[1..]].concat();
    let packets: [Vec<Vec<u8>>; 6] = [
        vec![[&[0x28][..], &element(SEQUENCE), AV1_KEY].concat()],
        vec![[&[0x08][..], &element(SEQUENCE), &element(AV1_KEY)].concat()],
        vec![[&[0x28][..], &element(SEQUENCE), &sized_obu].concat()],
        vec![[&[0x18][..], SEQUENCE].concat(), [&[0x10][..], AV1_KEY].concat()],
        vec![
            [&[0x68][..], &element(SEQUENCE), &AV1_KEY[..2]].concat(),
            [&[0xd0][..], &AV1_KEY[2..3]].concat(),
            [&[0x90][..], &AV1_KEY[3..]].concat(),
        ],
        // A temporal delimiter and padding are of no use.
        vec![[&[0x08, 2, 0x12, 0][..], &element(SEQUENCE), &element(AV1_KEY), &element(&[0x78, 1, 0x80])].concat()],
    ];
    for packets in packets {
        let mut feed = Feed::new(Format::Av1);
        let last = packets.len() - 1;
        for (index, packet) in packets.iter().enumerate() {
            feed.send(1, index == last, packet);
        }
        let out = feed.send(2, true, &[&[0x10][..], AV1_INTER].concat()).frames();
        assert_eq!(out, [expected.clone(), whole(&[AV1_INTER])], "{packets:02x?}");
    }
}

#[test]
fn av1_a_key_frame_whose_sequence_header_was_lost_is_not_shown_and_one_without_any_is_told() {
    let key = [&[0x28][..], &element(SEQUENCE), AV1_KEY].concat();
    let alone = [&[0x10][..], AV1_KEY].concat();
    let mut feed = Feed::new(Format::Av1);
    feed.send(1, true, &key).lose(1).send(2, true, &alone).send(3, true, &[&[0x10][..], AV1_INTER].concat());
    assert_eq!(feed.send(4, true, &key).frames().len(), 2);
    let outputs = Feed::new(Format::Av1).send(1, true, &alone).send(2, true, &alone).finish();
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(Event::Rejected(..)))), "{outputs:?}");
}

#[test]
fn h265_layers_that_nobody_decodes_are_left_out_and_aggregates_taken_apart() {
    let mut feed = Feed::new(Format::H265 { parameter_sets: h265_sets() });
    let (idr, upper): (&[u8], &[u8]) = (&[0x26, 1, 0xaf, 1, 2], &[0x26, 9, 0xaf, 3]);
    let aggregate = [&[0x60, 1, 0, 5][..], idr, &[0, 4], upper].concat();
    let outputs = feed
        .send(1, true, &aggregate)
        .send(2, false, &[0x62, 1, 0x81, 0xd0, 8])
        .send(2, true, &[0x62, 1, 0x41, 9])
        .finish();
    let frames: Vec<_> = outputs
        .iter()
        .filter_map(|output| if let Output::Event(Event::Frame(frame)) = output { Some(&frame.data[..]) } else { None })
        .collect();
    assert_eq!(frames, [&[&[0, 0, 0, 5][..], idr].concat()[..], &[0, 0, 0, 5, 2, 1, 0xd0, 8, 9]]);
    let config = outputs
        .iter()
        .find_map(|output| if let Output::Event(Event::Config(_, config)) = output { Some(config) } else { None });
    let Some(CodecConfig::Hevc(hevc)) = config else { panic!("{outputs:?}") };
    assert_eq!((hevc.width, hevc.height, hevc.vps.len()), (96, 64, 1), "the sets of the SDP are enough");
}

#[test]
fn h265_a_picture_of_the_highest_temporal_layer_may_be_lost_alone_and_no_lower_one() {
    for (lost_layer, left) in [(2u8, 5), (1, 3)] {
        let mut feed = Feed::new(Format::H265 { parameter_sets: h265_sets() });
        // TSA_N of the layer above, so that it is known.
        feed.send(1, true, &[0x26, 1, 0xaf]).send(2, true, &[0x02, 1, 0xd0]).send(3, true, &[0x04, 2, 0xd0]);
        // A picture of kind TSA_N in two slices, with one packet missing between them.
        feed.send(4, false, &[0x04, lost_layer, 0xd0]).lose(1).send(4, true, &[0x04, lost_layer, 0x50]);
        let out = feed.send(5, true, &[0x02, 1, 0xd0]).send(6, true, &[0x02, 1, 0xd0]).frames();
        assert_eq!(out.len(), left, "layer {lost_layer}");
    }
}

/// Those of the capture of GStreamer.
fn h265_sets() -> Vec<Bytes> {
    let bytes = include_bytes!("captured/gstreamer-h265.rtp");
    let frame = &bytes[5..5 + u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize];
    let nals = media::h265::annex_b_nals(frame).filter(|nal| (32..=34).contains(&(nal[0] >> 1 & 63)));
    nals.map(Bytes::copy_from_slice).collect()
}

fn hostile_payload() -> impl Strategy<Value = Vec<u8>> {
    let anything = proptest::collection::vec(any::<u8>(), 0..60);
    let capture = prop::sample::select(vec![
        &include_bytes!("captured/gstreamer-h265.rtp")[..],
        &include_bytes!("captured/ffmpeg-av1.rtp")[..],
        &include_bytes!("captured/gstreamer-vp9.rtp")[..],
        &include_bytes!("captured/ffmpeg-vp8.rtp")[..],
    ]);
    let torn = (capture, any::<prop::sample::Index>(), 0usize..120, any::<u8>(), 0usize..20).prop_map(
        |(bytes, at, length, value, place)| {
            let start = at.index(bytes.len());
            let mut part = bytes[start..(start + length).min(bytes.len())].to_vec();
            if let Some(byte) = part.get_mut(place) {
                *byte = value;
            }
            part
        },
    );
    let sets = prop::sample::select(h265_sets()).prop_map(|set| set.to_vec());
    let starts = prop::sample::select(vec![
        with(&[0x10], &vp8_key(64, 48)),
        with(&[0x0c], &vp9_key(64, 48)),
        [&[0x28][..], &element(SEQUENCE), AV1_KEY].concat(),
        vec![0x26, 1, 0xaf, 1],
    ]);
    prop_oneof![anything, torn, sets, starts]
}

proptest! {
    #[test]
    fn garbage_never_panics_and_no_more_leaves_than_came(
        which in 0usize..4,
        packets in proptest::collection::vec((hostile_payload(), any::<bool>(), 0u16..3, 0u32..2), 0..80),
    ) {
        let h265 = Format::H265 { parameter_sets: Vec::new() };
        let format = [h265, Format::Av1, Format::Vp9, Format::Vp8][which].clone();
        let (mut feed, mut picture, mut given) = (Feed::new(format), 0, 0);
        for (payload, marker, lost, step) in packets {
            picture += step;
            given += payload.len();
            feed.lose(lost).send(picture, marker, &payload);
        }
        let out = feed.frames();
        // A NAL unit of three bytes takes five in an aggregate and seven in a frame.
        prop_assert!(out.iter().map(Vec::len).sum::<usize>() <= 3 * given);
        prop_assert!(out.iter().all(|frame| !frame.is_empty()));
    }
}

/// A frame that never ends costs no more than the bound.
#[test]
fn frames_without_end_are_bounded() {
    for (format, first, next) in [
        (Format::H265 { parameter_sets: h265_sets() }, &[0x62, 1, 0x93][..], &[0x62, 1, 0x13][..]),
        (Format::Av1, &[0x58, 0x30, 0x10], &[0xd0]),
        (Format::Vp9, &[0x08, 0x82], &[0x00]),
        (Format::Vp8, &[0x10, 0x10], &[0x00]),
    ] {
        let mut feed = Feed::new(format);
        feed.send(1, false, first);
        let part = [next, &[0; 60_000]].concat();
        for _ in 0..300 {
            feed.send(1, false, &part);
        }
        assert!(feed.send(1, true, next).frames().is_empty());
        assert_eq!(feed.session.counts().video.frames_dropped, 1);
    }
}
