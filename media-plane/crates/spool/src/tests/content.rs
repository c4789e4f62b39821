//! What is read back is what was applied.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use media::{Av1Config, AvcConfig, Codec, CodecConfig, HevcConfig, MediaTime, VpxConfig};
use mux::{ObjectId, Output, Summary};
use proptest::prelude::*;

use super::{Bench, PLAYLIST, WHOLE, apply, key, mark, object, pattern, segment, spec, summary};
use crate::disk::Disk;
use crate::{Event, ObjectState};

/// A step of a random history over a few objects.
#[derive(Clone, Debug)]
enum Step {
    Open,
    Append(usize, usize),
    Mark(usize),
    Head(usize, usize),
    Close(usize),
    Playlist(usize),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Open),
        12 => (0usize..3, prop_oneof![0usize..300, 4_000usize..5_000, 30_000usize..90_000])
            .prop_map(|(at, len)| Step::Append(at, len)),
        6 => (0usize..3).prop_map(Step::Mark),
        1 => (0usize..3, 1usize..5_000).prop_map(|(at, len)| Step::Head(at, len)),
        2 => (0usize..3).prop_map(Step::Close),
        1 => (1usize..500).prop_map(Step::Playlist),
        1 => Just(Step::Flush),
    ]
}

#[derive(Default)]
struct Model {
    open: Vec<ObjectId>,
    opened: u32,
    head: BTreeMap<ObjectId, Bytes>,
    data: BTreeMap<ObjectId, BytesMut>,
    marked: BTreeMap<ObjectId, usize>,
    playlist: String,
}

impl Model {
    fn outputs(&mut self, step: &Step) -> Option<Output> {
        let at = |at: &usize| self.open.get(*at).copied();
        match step {
            Step::Open => {
                let id = segment(self.opened);
                self.opened += 1;
                self.open.push(id);
                self.data.insert(id, BytesMut::new());
                Some(Output::Open(spec(id)))
            }
            Step::Append(n, len) => {
                let id = at(n)?;
                let data = self.data.get_mut(&id)?;
                let bytes = pattern(*len, data.len() as u8);
                data.extend_from_slice(&bytes);
                Some(Output::Append(id, bytes))
            }
            Step::Mark(n) => {
                let id = at(n)?;
                self.marked.insert(id, self.data[&id].len());
                Some(mark(id, 40))
            }
            Step::Head(n, len) => {
                let id = at(n).filter(|id| !self.head.contains_key(id))?;
                self.head.insert(id, pattern(*len, 7));
                Some(Output::Head(id, pattern(*len, 7)))
            }
            Step::Close(n) => {
                let id = at(n)?;
                self.open.retain(|open| *open != id);
                Some(Output::Close(id, summary(u64::from(self.opened))))
            }
            Step::Playlist(len) => {
                self.playlist.push_str(&"x".repeat(*len));
                let body = Bytes::from(self.playlist.clone());
                Some(Output::Playlist { object: PLAYLIST, body, last: false })
            }
            Step::Flush => None,
        }
    }

    fn whole(&self, id: &ObjectId) -> Bytes {
        let mut whole = BytesMut::from(self.head.get(id).cloned().unwrap_or_default().as_ref());
        whole.extend_from_slice(&self.data[id]);
        whole.freeze()
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let bench = Bench::with(|config| config.flush_bytes = 100_000, Disk::default());
    let mut writer = bench.writer("hls");
    let mut model = Model::default();
    for step in &steps {
        if matches!(step, Step::Flush) {
            bench.spool.flush().await;
        }
        if let Some(output) = model.outputs(step) {
            writer.apply(output).unwrap();
        }
    }
    bench.spool.flush().await;
    prop_assert_eq!(bench.spool.usage().queued, 0);
    let live = bench.spool.clone();
    for id in model.data.keys() {
        let expected = if model.open.contains(id) {
            let data: Bytes = model.data[id].clone().freeze();
            data.slice(..model.marked.get(id).copied().unwrap_or(0))
        } else {
            model.whole(id)
        };
        let read = live.read(&key("hls"), *id, 0, usize::MAX).await.unwrap();
        prop_assert!(read == expected, "{id:?}: {} bytes read, {} expected", read.len(), expected.len());
        let middle = read.len() / 3;
        let piece = live.read(&key("hls"), *id, middle as u64, 1000).await.unwrap();
        prop_assert_eq!(&piece[..], &expected[middle..(middle + 1000).min(expected.len())]);
    }
    drop(writer);
    drop(live);
    let bench = bench.restart().await;
    let stored = bench.stored.first().unwrap();
    prop_assert_eq!(stored.objects.len(), model.data.len());
    for found in &stored.objects {
        let id = found.spec.object;
        match &found.state {
            ObjectState::Closed { size, crc32c, .. } => {
                let whole = model.whole(&id);
                prop_assert_eq!(*size, whole.len() as u64);
                prop_assert_eq!(*crc32c, crc32c::crc32c(&whole));
                prop_assert!(!model.open.contains(&id));
            }
            ObjectState::Open { bytes, .. } => {
                prop_assert_eq!(*bytes, model.marked.get(&id).copied().unwrap_or(0) as u64);
            }
        }
    }
    let playlist = stored.playlists.first().map(|playlist| playlist.body.clone()).unwrap_or_default();
    prop_assert_eq!(playlist, model.playlist.as_bytes());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_read_back(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}

#[tokio::test]
async fn a_file_with_a_head_reads_as_one_object() {
    let mut bench = Bench::new();
    let mut writer = bench.writer("mp4");
    let (head, data) = (pattern(3_000, 1), pattern(100_000, 2));
    apply(&mut writer, [Output::Open(spec(WHOLE)), Output::Append(WHOLE, data.clone()), mark(WHOLE, 10)]);
    apply(&mut writer, [Output::Head(WHOLE, head.clone()), Output::Close(WHOLE, summary(3))]);
    apply(&mut writer, [Output::FileDone(0, summary(3))]);
    writer.finish();
    let (size, crc) = bench
        .event(|event| match event {
            Event::Closed { size, crc32c, .. } => Some((*size, *crc32c)),
            _ => None,
        })
        .await;
    let expected = [head, data].concat();
    assert_eq!((size, crc), (103_000, crc32c::crc32c(&expected)));
    assert_eq!(bench.whole("mp4", WHOLE).await, expected);
    let across = bench.spool.read(&key("mp4"), WHOLE, 2_990, 20).await.unwrap();
    assert_eq!(across, expected[2_990..3_010]);
    bench.event(|event| matches!(event, Event::FileDone { file: 0, .. }).then_some(())).await;
    bench.event(|event| matches!(event, Event::Finished { .. }).then_some(())).await;
}

#[tokio::test]
async fn events_come_in_order_and_a_closed_object_needs_no_durable() {
    let mut bench = Bench::new();
    let mut writer = bench.writer("hls");
    apply(&mut writer, object(segment(0), pattern(50_000, 1)));
    let body = Bytes::from_static(b"#EXTM3U\nseg0\n");
    apply(&mut writer, [Output::Playlist { object: PLAYLIST, body: body.clone(), last: false }]);
    bench.spool.flush().await;
    let opened = bench.events.try_next();
    assert!(matches!(&opened, Some(Event::Opened { spec, .. }) if spec.object == segment(0)), "{opened:?}");
    assert_eq!(bench.spool.meta(&key("hls")).unwrap()["format"], "hls");
    let first = bench.events.try_next();
    assert!(matches!(&first, Some(Event::Closed { spec, .. }) if spec.object == segment(0)), "{first:?}");
    let second = bench.events.try_next();
    assert!(matches!(&second, Some(Event::Playlist { body: told, .. }) if *told == body), "{second:?}");
    assert!(bench.events.try_next().is_none());
}

#[tokio::test]
async fn unread_durable_events_do_not_pile_up() {
    let mut bench = Bench::new();
    let mut writer = bench.writer("flv");
    apply(&mut writer, [Output::Open(spec(WHOLE))]);
    for round in 0..10 {
        apply(&mut writer, [Output::Append(WHOLE, pattern(1_000, 1)), mark(WHOLE, round)]);
        bench.spool.flush().await;
    }
    assert!(matches!(bench.events.try_next(), Some(Event::Opened { .. })));
    let event = bench.events.try_next();
    assert!(matches!(&event, Some(Event::Durable { bytes: 10_000, .. })), "{event:?}");
    assert!(bench.events.try_next().is_none());
}

/// Of x265, libaom and libvpx, 322x182.
const HEVC: &[u8] = &[
    0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x3c, 0xf0, 0x00, 0xfc, 0xfd, 0xf8, 0xf8,
    0x00, 0x00, 0x0f, 0x03, 0xa0, 0x00, 0x01, 0x00, 0x18, 0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00,
    0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x95, 0x98, 0x09, 0xa1, 0x00, 0x01, 0x00, 0x2a,
    0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0xa0,
    0x0a, 0x48, 0x0b, 0x9c, 0x95, 0x96, 0x56, 0x69, 0x24, 0xca, 0xf0, 0x16, 0x80, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80,
    0x00, 0x00, 0x0c, 0x84, 0xa2, 0x00, 0x01, 0x00, 0x07, 0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40,
];
const AV1: &[u8] =
    &[0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0b, 0x00, 0x00, 0x00, 0x04, 0x3d, 0x06, 0xd4, 0xda, 0xf9, 0x00, 0x40];
const VP9: &[u8] = &[0x82, 0x49, 0x83, 0x42, 0x00, 0x14, 0x10, 0x0b, 0x50, 0x5a, 0x5a];

#[tokio::test]
async fn the_muxers_summary_survives_a_restart() {
    let config = AvcConfig {
        record: pattern(40, 1),
        sps: vec![pattern(20, 2)],
        pps: vec![pattern(4, 3)],
        length_size: 4,
        width: 1920,
        height: 1080,
        profile: 100,
        level: 41,
    };
    let hevc = HevcConfig { length_size: 2, ..HevcConfig::parse(Bytes::from_static(HEVC)).unwrap() };
    let av1 = Av1Config::parse(Bytes::from_static(AV1)).unwrap();
    let vpx = VpxConfig::from_vp9_keyframe(VP9).unwrap();
    let others = [
        CodecConfig::Hevc(hevc.into()),
        CodecConfig::Av1(av1.into()),
        CodecConfig::Vp9(vpx.clone().into()),
        CodecConfig::Vp8(vpx.into()),
    ];
    for config in [CodecConfig::Avc(config.into())].into_iter().chain(others) {
        survives(config).await;
    }
}

async fn survives(config: CodecConfig) {
    let expected = Summary {
        starts_at: MediaTime(-5),
        ends_at: MediaTime(900_000),
        video_frames: 250,
        audio_frames: 0,
        video: Some(config),
        audio: Some(CodecConfig::Unsupported(Codec::Other(9))),
    };
    let bench = Bench::new();
    let mut writer = bench.writer("flv");
    apply(&mut writer, [Output::Open(spec(WHOLE)), Output::Append(WHOLE, pattern(10, 1))]);
    apply(&mut writer, [Output::Close(WHOLE, expected.clone()), Output::FileDone(0, expected.clone())]);
    writer.finish();
    let bench = bench.restart().await;
    let stored = &bench.stored[0];
    assert_eq!(stored.files[0].summary, expected);
    let ObjectState::Closed { summary, .. } = &stored.objects[0].state else { panic!("still open") };
    assert_eq!(*summary, expected);
}
