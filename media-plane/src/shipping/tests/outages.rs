//! Outages: how long files stand still, how often a failing bucket is asked, and what a backup storage takes.

use std::time::Instant;

use recorder_proto::facts::FileAvailable;
use serde_json::Value;
use store::{If, Kind, ObjectMeta};

use super::*;
use crate::manifest::RecordingMeta;
use crate::manifest::tests::{ended, meta as recording_meta};
use crate::shipping::meta::Continues;

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

pub fn refusing(refusal: Kind) -> Faults {
    Faults { refuse: 1.0, refusal, ..Faults::default() }
}

/// The same output of another recording.
fn of_recording(number: u8, format: Format) -> OutputMeta {
    let at = Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap();
    OutputMeta { recording: recorder_proto::ids::RecordingId::new(at, [number; 10]), ..meta(format) }
}

pub fn flv(yard: &Yard, meta: &OutputMeta, data: &Bytes) {
    let mut writer = yard.writer(meta);
    object(&mut writer, WHOLE, data.clone());
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
}

fn count(yard: &Yard, is_it: impl Fn(&FactKind) -> bool) -> usize {
    yard.facts().iter().filter(|fact| is_it(&fact.kind)).count()
}

fn availables(yard: &Yard) -> Vec<FileAvailable> {
    let available = |fact: Fact| match fact.kind {
        FactKind::FileAvailable(file) => Some(file),
        _ => None,
    };
    yard.facts().into_iter().filter_map(available).collect()
}

/// Test 8 of reliability.md in a short form.
#[tokio::test]
async fn bucket_down() {
    let patience = Patience { stalled_after: MILLIS(200), ..Patience::default() };
    let yard = Yard::patient(refusing(Kind::Timeout), patience);
    let recordings = [of_recording(1, Format::Flv), of_recording(2, Format::Flv)];
    let data = [pattern(3_000, 1), pattern(5_000, 2)];
    for (meta, data) in recordings.iter().zip(&data) {
        flv(&yard, meta, data);
    }
    wait(|| (count(&yard, |kind| matches!(kind, FactKind::UploadStalled(_))) == 2).then_some(())).await;
    let stalled = yard.fact(|kind| match kind {
        FactKind::UploadStalled(stalled) => Some(stalled.clone()),
        _ => None,
    });
    let stalled = stalled.await;
    assert!([3_000, 5_000].contains(&stalled.bytes_waiting));
    assert_eq!(stalled.error.map(|error| error.reason), Some("Injected".to_owned()));
    // Another kind of outage is the same episode.
    yard.bucket.set(refusing(Kind::Unavailable));
    tokio::time::sleep(patience.stalled_after * 2).await;
    yard.bucket.set(Faults::default());
    wait(|| (count(&yard, |kind| matches!(kind, FactKind::UploadRecovered(_))) == 2).then_some(())).await;
    wait(|| (availables(&yard).len() == 2).then_some(())).await;
    for (meta, data) in recordings.iter().zip(&data) {
        assert_eq!(yard.get(&meta.object_key(WHOLE)).await, data);
    }
    assert_eq!(count(&yard, |kind| matches!(kind, FactKind::UploadStalled(_))), 2, "one each");
    assert_eq!(count(&yard, |kind| matches!(kind, FactKind::UploadRecovered(_))), 2, "one each");
    yard.acknowledged_and_empty().await;
}

/// Test 10: however many files wait, a bucket that asks to slow down is asked one by one, in slots.
#[tokio::test]
async fn s3_slowdown() {
    const FILES: u8 = 50;
    const SLOT: Duration = Duration::from_millis(20);
    let yard = Yard::patient(refusing(Kind::Throttled), Patience { slot: SLOT, ..Patience::default() });
    let began = Instant::now();
    for number in 0..FILES {
        flv(&yard, &of_recording(number, Format::Flv), &pattern(500, number));
    }
    wait(|| (began.elapsed() > MILLIS(2_000)).then_some(())).await;
    let (asked, elapsed) = (yard.bucket.calls().values().sum::<u64>(), began.elapsed());
    // Each file asks once before anybody knows.
    let cap = u64::from(FILES) + (elapsed.as_millis() / SLOT.as_millis()) as u64 + 5;
    assert!(asked <= cap, "{asked} requests in {elapsed:?}, at most {cap}");
    assert!(asked > u64::from(FILES), "{asked}: it is asked again");
    yard.bucket.set(Faults::default());
    wait(|| (availables(&yard).len() == usize::from(FILES)).then_some(())).await;
    for number in 0..FILES {
        let key = of_recording(number, Format::Flv).object_key(WHOLE);
        assert_eq!(yard.get(&key).await, pattern(500, number));
    }
    yard.acknowledged_and_empty().await;
}

pub fn backed_up(formats: &[Format]) -> RecordingMeta {
    let mut meta = recording_meta(formats);
    let backup = Target {
        name: "storages/backup".into(),
        bucket: "b2".into(),
        prefix: "other".into(),
        ..meta.output.storage.clone()
    };
    meta.output.backup = Some(backup);
    meta
}

pub async fn in_backup(yard: &Yard) -> Vec<String> {
    yard.backup.list("").await.unwrap().into_iter().map(|listed| listed.key).collect()
}

/// Waits until the backup has nothing; its objects go after the manifest is due.
pub async fn emptied(yard: &Yard) {
    let empty = async {
        while !in_backup(yard).await.is_empty() {
            tokio::time::sleep(MILLIS(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), empty).await.expect("the backup keeps objects");
}

pub async fn manifest(yard: &Yard, meta: &RecordingMeta) -> Value {
    // Not by its fact, which is gone once it is acknowledged.
    wait(|| yard.memory.meta(&meta.key)).await;
    serde_json::from_slice(&yard.get(&meta.key).await).unwrap()
}

/// The control plane takes every fact until it stops.
pub fn acknowledging(yard: &Yard) -> tokio::task::JoinHandle<()> {
    let log = yard.log.clone();
    tokio::spawn(async move {
        let mut appended = log.appended();
        loop {
            log.acknowledge(*appended.borrow_and_update());
            if appended.changed().await.is_err() {
                return;
            }
        }
    })
}

/// Test 12: a bucket that is not there. Whole files go to the backup; the HLS file that has begun waits; what went away
/// comes back.
#[tokio::test]
async fn wrong_region_or_bucket() {
    let yard = Yard::new(Faults::default());
    let meta = backed_up(&[Format::Hls, Format::Flv]);
    let handle = yard.manifests.create(meta.clone()).unwrap();
    let mut hls = yard.writer(&meta.output_of(Format::Hls));
    object(&mut hls, segment(0), pattern(100, 1));
    playlist(&mut hls, 1, false);
    let list = meta.output.object_key(PLAYLIST);
    while yard.memory.head(&list).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    yard.bucket.set(refusing(Kind::Misconfigured));
    let flv_meta = meta.output_of(Format::Flv);
    flv(&yard, &flv_meta, &pattern(4_000, 2));
    object(&mut hls, segment(1), pattern(200, 3));
    playlist(&mut hls, 2, true);
    hls.apply(Output::FileDone(0, summary(0, 2_000))).unwrap();
    hls.finish();
    handle.note(ended(vec![]));
    let moved = yard.available().await;
    assert_eq!((moved.storage.to_string().as_str(), moved.format), ("storages/backup", Format::Flv));
    let target = flv_meta.backup.clone().unwrap();
    let there = flv_meta.object_key_in(&target, WHOLE);
    assert_eq!((&moved.object_key, &moved.uri), (&there, &format!("s3://b2/{there}")));
    assert_eq!(in_backup(&yard).await, [there], "the whole file, and nothing of the HLS one");
    assert!(!yard.keys().await.contains(&flv_meta.object_key(WHOLE)));
    yard.bucket.set(Faults::default());
    let acknowledging = acknowledging(&yard);
    let document = manifest(&yard, &meta).await;
    let storages: Vec<_> = document["files"].as_array().unwrap().iter().map(|file| file["storage"].clone()).collect();
    assert_eq!(storages, ["storages/s3", "storages/s3"]);
    assert_eq!(yard.get(&flv_meta.object_key(WHOLE)).await, pattern(4_000, 2));
    assert_eq!(yard.get(&meta.output.object_key(segment(1))).await, pattern(200, 3));
    emptied(&yard).await;
    acknowledging.abort();
    yard.acknowledged_and_empty().await;
    assert_eq!(yard.memory.open_uploads(), 0);
}

/// An HLS file that begins while its storage is away goes to the backup as one, and comes back as one, across restarts.
#[tokio::test]
async fn an_hls_file_is_never_split_and_is_copied_back_after_restarts() {
    let segments = [0, 1, 2, 3].map(ObjectPart::Segment);
    let fmp4 = [ObjectPart::Init(0), ObjectPart::Fragment(0), ObjectPart::Init(1), ObjectPart::Fragment(1)];
    for parts in [segments, fmp4] {
        moves_as_one(parts.map(|part| ObjectId { file: 0, part })).await;
    }
}

async fn moves_as_one(objects: [ObjectId; 4]) {
    let patience = Patience { backup_after: MILLIS(50), ..Patience::default() };
    let mut yard = Yard::patient(refusing(Kind::Unavailable), patience);
    let meta = backed_up(&[Format::Hls]);
    let handle = yard.manifests.create(meta.clone()).unwrap();
    let mut hls = yard.writer(&meta.output);
    for (number, id) in (0..3).zip(objects) {
        object(&mut hls, id, pattern(100 + number as usize, 1));
        playlist(&mut hls, number + 1, false);
    }
    let target = meta.output.backup.clone().unwrap();
    let there = |object| meta.output.object_key_in(&target, object);
    while yard.backup.head(&there(PLAYLIST)).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    // It goes on there although its own storage works again meanwhile.
    yard.bucket.set(Faults::default());
    object(&mut hls, objects[3], pattern(103, 1));
    playlist(&mut hls, 4, true);
    hls.apply(Output::FileDone(0, summary(0, 4_000))).unwrap();
    yard.bucket.set(refusing(Kind::Denied));
    hls.finish();
    handle.note(ended(vec![]));
    let moved = yard.available().await;
    assert_eq!((moved.storage.to_string().as_str(), moved.objects), ("storages/backup", 5));
    assert_eq!(in_backup(&yard).await.len(), 5);
    assert_eq!(yard.keys().await, Vec::<String>::new());
    // The control plane has it, so the spool lets it go: what is left is the backup's.
    let task = acknowledging(&yard);
    wait(|| (yard.spool.usage().bytes < 8_000).then_some(())).await;
    task.abort();
    yard = yard.restart(refusing(Kind::Denied)).await;
    yard = yard.restart(Faults::default()).await;
    let task = acknowledging(&yard);
    let document = manifest(&yard, &meta).await;
    task.abort();
    assert_eq!(document["files"][0]["storage"], "storages/s3");
    for object in document["files"][0]["objects"].as_array().unwrap() {
        let body = yard.get(object["key"].as_str().unwrap()).await;
        assert_eq!(object["crc32c"], Value::from(store::crc32c_base64(crc32c::crc32c(&body))));
    }
    assert_eq!(yard.keys().await.len(), 6, "four segments, playlist, manifest");
    emptied(&yard).await;
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn the_playlist_of_a_later_epoch_begins_with_the_one_before() {
    let yard = Yard::new(Faults::default());
    let first = meta(Format::Hls);
    let before = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:30\n#EXTINF:1.0,\n0.ts\n#EXT-X-ENDLIST\n";
    let put = |text: &'static str| {
        let (memory, key) = (Arc::clone(&yard.memory), first.object_key(PLAYLIST));
        async move { memory.put(&key, Bytes::from_static(text.as_bytes()), &ObjectMeta::default(), If::Any).await.unwrap() }
    };
    put(before).await;
    let continues = Some(Continues { key: first.object_key(PLAYLIST) });
    let second = OutputMeta { epoch: Epoch(2), continues, ..meta(Format::Hls) };
    let mut hls = yard.writer(&second);
    object(&mut hls, segment(0), pattern(100, 1));
    playlist(&mut hls, 1, false);
    let own = second.object_key(PLAYLIST);
    while yard.memory.head(&own).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let early = yard.get(&own).await;
    let folder = first.object_key(PLAYLIST).rsplit('/').nth(1).unwrap().to_owned();
    let expected =
        format!("TARGETDURATION:30\n#EXTINF:1.0,\n../{folder}/0.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:1.0,\n0.ts\n");
    assert!(String::from_utf8_lossy(&early).ends_with(&expected), "{early:?}");
    // A zombie that still writes to the old one, and a restart: the beginning stays what it was.
    put("#EXTM3U\n#EXT-X-TARGETDURATION:99\n#EXTINF:1.0,\n0.ts\n#EXTINF:1.0,\n1.ts\n").await;
    drop(hls);
    let yard = yard.restart(Faults::default()).await;
    let mut hls = yard.spool.reopen(&key(&second)).unwrap();
    object(&mut hls, segment(1), pattern(100, 2));
    playlist(&mut hls, 2, true);
    hls.apply(Output::FileDone(0, summary(0, 2_000))).unwrap();
    hls.finish();
    let available = yard.available().await;
    let late = yard.get(&own).await;
    assert!(late.starts_with(&early), "{late:?}");
    assert!(late.ends_with(b"1.ts\n#EXT-X-ENDLIST\n"));
    assert_eq!(available.size_bytes, 200 + late.len() as u64);
    yard.acknowledged_and_empty().await;
}

/// A predecessor that never wrote a playlist: this one stands for itself.
#[tokio::test]
async fn without_an_earlier_playlist_there_is_nothing_to_splice() {
    let yard = Yard::new(Faults::default());
    let continues = Some(Continues { key: "nowhere/index.m3u8".into() });
    let second = OutputMeta { epoch: Epoch(2), continues, ..meta(Format::Hls) };
    let mut hls = yard.writer(&second);
    object(&mut hls, segment(0), pattern(100, 1));
    playlist(&mut hls, 1, true);
    hls.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    hls.finish();
    yard.available().await;
    let text = yard.get(&second.object_key(PLAYLIST)).await;
    assert!(text.starts_with(b"#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:1.0,\n0.ts\n#EXT-X-ENDLIST"), "{text:?}");
    yard.acknowledged_and_empty().await;
}

/// Test 11, as the bucket sees it: once the key works again the same upload goes on, and no part is sent twice.
#[tokio::test]
async fn credential_revoked_midway() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Flv);
    let data = pattern(11 << 20, 3);
    yard.bucket.refuse_next("put_part", Kind::Denied);
    flv(&yard, &meta, &data);
    let failing = yard.fact(|kind| match kind {
        FactKind::StorageFailing(failing) => Some(failing.clone()),
        _ => None,
    });
    assert_eq!(failing.await.error.code, 7, "PERMISSION_DENIED");
    yard.available().await;
    assert!(yard.get(&meta.object_key(WHOLE)).await == data);
    assert_eq!(yard.bucket.calls_of("create_upload"), 1, "the same upload");
    let size = data.len() as u64;
    assert_eq!(yard.bucket.calls_of("put_part"), 1 + size.div_ceil(store::part_size(size)), "one refused");
    yard.fact(|kind| matches!(kind, FactKind::StorageRecovered(_)).then_some(())).await;
}
