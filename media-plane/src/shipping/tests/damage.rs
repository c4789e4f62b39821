//! Bytes that a disk has changed: objects end before the damage, and what is missing is told (reliability test 6).

use recorder_proto::facts::{FileAvailable, RecordingEnded};
use recorder_proto::pb::v1::gap::Reason;
use serde_json::Value;

use super::*;
use crate::manifest::tests::{ended, meta as recording_meta};
use crate::manifest::{Entry, RecordingMeta};

/// Bytes between two marks, which are a second apart.
const SECOND: usize = 1_000;
const SECONDS: usize = 6;

/// An object of some seconds, each durable by itself.
async fn record(yard: &Yard, writer: &mut Writer, object: ObjectId, from: usize) {
    writer.apply(Output::Open(spec(object))).unwrap();
    for second in from..from + SECONDS {
        let mark = Mark {
            media_time: MediaTime::from_millis((second as i64 + 1) * 1_000),
            video_frames: (second - from + 1) as u64 * 25,
            ..Mark::default()
        };
        writer.apply(Output::Append(object, pattern(SECOND, second as u8))).unwrap();
        writer.apply(Output::Commit(object, mark)).unwrap();
        yard.spool.flush().await;
    }
    writer.apply(Output::Close(object, of(from, from + SECONDS))).unwrap();
}

fn of(from: usize, to: usize) -> Summary {
    Summary { video_frames: (to - from) as u64 * 25, ..summary(from as i64 * 1_000, to as i64 * 1_000) }
}

/// Ends a recording as the recording side does.
async fn end(yard: &Yard, meta: &RecordingMeta) {
    let manifest = yard.manifests.handle(&key(&meta.output)).unwrap();
    let Entry::Ended(told) = ended(Vec::new()) else { unreachable!() };
    let told = manifest.end(*told);
    assert_eq!(told.gaps, []);
    manifest.noted(Entry::Ended(Box::new(told))).await;
    yard.spool.flush().await;
}

fn flip(yard: &Yard, meta: &OutputMeta, object: ObjectId, byte: usize, bit: u8) {
    let key = key(meta);
    let name = format!("{}.data", spool::object_name(object));
    let path = yard.dir.path().join(format!("spool/{}-e{}/{}/{name}", key.recording, key.epoch, key.format));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[byte] ^= 1 << bit;
    std::fs::write(path, bytes).unwrap();
}

/// The end of the recording with a hole, the file, and the manifest.
async fn outcome(yard: &Yard, meta: &RecordingMeta) -> (RecordingEnded, FileAvailable, Value) {
    let told = yard
        .fact(|kind| match kind {
            FactKind::RecordingEnded(ended) if !ended.gaps.is_empty() => Some(ended.clone()),
            _ => None,
        })
        .await;
    let available = yard.available().await;
    yard.fact(|kind| matches!(kind, FactKind::RecordingManifest(_)).then_some(())).await;
    let manifest = serde_json::from_slice(&yard.get(&meta.key).await).unwrap();
    yard.acknowledged_and_empty().await;
    (told, available, manifest)
}

fn check_hole(told: &RecordingEnded, meta: &RecordingMeta, from: usize, to: usize) {
    let [gap] = told.gaps.as_slice() else { panic!("{:?}", told.gaps) };
    assert_eq!(gap.reason, Reason::SpoolFailed);
    assert_eq!(gap.start_time, meta.output.wall.at(MediaTime::from_millis(from as i64 * 1_000)));
    assert_eq!(gap.duration_micros, (to - from) as u64 * 1_000_000);
}

/// Reliability test 6: one bit anywhere behind the first mark of a closed file that waits for its bucket.
#[tokio::test]
async fn spool_bit_flip() {
    for seed in 0..12_usize {
        let byte = SECOND + (seed * 7_919 + 13) % ((SECONDS - 1) * SECOND);
        let good = byte / SECOND;
        let yard = Yard::new(DOWN);
        let meta = recording_meta(&[Format::Flv]);
        yard.manifests.create(meta.clone()).unwrap();
        let output = meta.output_of(Format::Flv);
        let mut writer = yard.writer(&output);
        record(&yard, &mut writer, WHOLE, 0).await;
        writer.apply(Output::FileDone(0, of(0, SECONDS))).unwrap();
        writer.finish();
        end(&yard, &meta).await;
        flip(&yard, &output, WHOLE, byte, (seed % 8) as u8);
        let yard = yard.restart(Faults::default()).await;
        let (told, file, manifest) = outcome(&yard, &meta).await;
        let whole: Vec<u8> = (0..good).flat_map(|second| pattern(SECOND, second as u8)).collect();
        assert_eq!(yard.get(&file.object_key).await, whole, "seed {seed}: byte {byte}");
        assert_eq!(file.size_bytes, whole.len() as u64, "seed {seed}");
        assert_eq!(file.crc32c, store::crc32c_base64(crc32c::crc32c(&whole)), "seed {seed}");
        assert_eq!(file.duration_micros, good as u64 * 1_000_000, "seed {seed}");
        check_hole(&told, &meta, good, SECONDS);
        assert_eq!(manifest["state"], "INCOMPLETE", "seed {seed}: {manifest}");
        assert_eq!(manifest["gaps"][0]["reason"], "SPOOL_FAILED");
        assert_eq!(manifest["files"][0]["video_frames"], good as u64 * 25);
    }
}

#[tokio::test]
async fn a_damaged_segment_ends_early_and_the_rest_of_its_playlist_is_whole() {
    let yard = Yard::new(DOWN);
    let meta = recording_meta(&[Format::Hls]);
    yard.manifests.create(meta.clone()).unwrap();
    let output = meta.output_of(Format::Hls);
    let mut writer = yard.writer(&output);
    for number in 0..3 {
        record(&yard, &mut writer, segment(number), number as usize * SECONDS).await;
        playlist(&mut writer, number + 1, number == 2);
    }
    writer.apply(Output::FileDone(0, of(0, 3 * SECONDS))).unwrap();
    writer.finish();
    end(&yard, &meta).await;
    flip(&yard, &output, segment(1), 2 * SECOND + 1, 0);
    let yard = yard.restart(Faults::default()).await;
    let (told, file, manifest) = outcome(&yard, &meta).await;
    check_hole(&told, &meta, SECONDS + 2, 2 * SECONDS);
    assert_eq!(yard.get(&output.object_key(segment(1))).await.len(), 2 * SECOND);
    assert_eq!(yard.get(&output.object_key(segment(2))).await.len(), SECONDS * SECOND);
    assert_eq!((file.objects, file.duration_micros), (4, 3 * SECONDS as u64 * 1_000_000));
    assert_eq!(manifest["files"][0]["video_frames"], (2 * SECONDS + 2) as u64 * 25);
    assert_eq!(manifest["state"], "INCOMPLETE");
}

/// While the recording still runs its end is told with the hole, once.
#[tokio::test]
async fn damage_before_the_end_is_told_with_the_end() {
    let yard = Yard::new(DOWN);
    let meta = recording_meta(&[Format::Flv]);
    let manifest = yard.manifests.create(meta.clone()).unwrap();
    let output = meta.output_of(Format::Flv);
    let mut writer = yard.writer(&output);
    record(&yard, &mut writer, WHOLE, 0).await;
    writer.apply(Output::FileDone(0, of(0, SECONDS))).unwrap();
    yard.fact(|kind| matches!(kind, FactKind::StorageFailing(_)).then_some(())).await;
    flip(&yard, &output, WHOLE, 3 * SECOND, 7);
    yard.bucket.set(Faults::default());
    assert_eq!(yard.available().await.size_bytes, 3 * SECOND as u64);
    let Entry::Ended(told) = ended(Vec::new()) else { unreachable!() };
    check_hole(&manifest.end(*told), &meta, 3, SECONDS);
    assert!(!yard.facts().iter().any(|fact| matches!(fact.kind, FactKind::RecordingEnded(_))));
    writer.finish();
}
