//! Storages that work.

use std::time::Duration;

use mux::{ObjectId, ObjectPart, Output};
use recorder_proto::facts::FactKind;
use recorder_proto::format::Format;
use recorder_runtime::drain::Outcome;
use store::{Bucket, Faults, crc32c_base64};

use super::{PLAYLIST, WHOLE, Yard, key, meta, object, open, pattern, playlist, segment, summary, wait};

#[tokio::test]
async fn a_small_file_is_put_confirmed_reported_and_released() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Flv);
    let mut writer = yard.writer(&meta);
    let data = pattern(300_000, 1);
    object(&mut writer, WHOLE, data.clone());
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();

    let file = yard.available().await;
    assert_eq!(file.object_key, format!("rec/live/cam/{}.flv", meta.recording));
    assert_eq!(file.uri, format!("s3://b/{}", file.object_key));
    assert_eq!(yard.get(&file.object_key).await, data);
    assert_eq!((file.size_bytes, file.objects, file.duration_micros), (300_000, 1, 1_000_000));
    assert_eq!(file.crc32c, crc32c_base64(crc32c::crc32c(&data)));
    assert_eq!(file.content_type, "video/x-flv");
    assert_eq!((file.start_time - meta.wall.at).num_milliseconds(), 0);
    assert_eq!((file.end_time - meta.wall.at).num_milliseconds(), 1_000);

    let stored = yard.memory.meta(&file.object_key).unwrap();
    assert_eq!(stored.content_type, "video/x-flv");
    assert!(stored.cache_control.unwrap().contains("immutable"));
    assert_eq!(stored.user["team_name"], "%C3%9Cnit 7");

    let kinds: Vec<_> = yard.facts().iter().map(|fact| fact.kind.event_type()).collect();
    assert_eq!(kinds, ["file.opened", "file.available"]);
    assert!(yard.facts().iter().all(|fact| fact.recording == Some(meta.recording) && fact.epoch == meta.epoch));
    assert!(yard.bucket.calls_of("head") >= 1, "r3: looked at before it is told");
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn r4_nothing_is_released_before_the_fact_is_acknowledged() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Flv);
    let mut writer = yard.writer(&meta);
    object(&mut writer, WHOLE, pattern(1_000, 1));
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
    yard.available().await;
    yard.log.acknowledge(1);
    yard.spool.flush().await;
    let kept = yard.spool.read(&key(&meta), WHOLE, 0, 5_000).await.unwrap();
    assert_eq!(kept, pattern(1_000, 1), "file.opened alone releases no file");
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn r33_a_large_file_goes_in_parts() {
    let yard = Yard::new(Faults::default());
    let mut writer = yard.writer(&meta(Format::Flv));
    let data = pattern(20 << 20, 3);
    object(&mut writer, WHOLE, data.clone());
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
    let file = yard.available().await;
    assert!(yard.get(&file.object_key).await == data);
    assert_eq!((yard.bucket.calls_of("put"), yard.bucket.calls_of("put_part")), (0, 3));
    assert_eq!(yard.memory.list_uploads("").await.unwrap(), []);
}

#[tokio::test]
async fn r8_hls_ships_segments_then_the_playlist_and_lets_segments_go_while_recording() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Hls);
    let mut writer = yard.writer(&meta);
    let base = format!("rec/live/cam/{}", meta.recording);
    for number in 0..3 {
        object(&mut writer, segment(number), pattern(50_000, number as u8));
        playlist(&mut writer, number + 1, false);
    }
    let wanted = format!("{base}/index.m3u8");
    wait(|| yard.memory.meta(&wanted)).await;
    assert_eq!(yard.memory.meta(&wanted).unwrap().cache_control.as_deref(), Some("no-store"));
    let text = yard.get(&wanted).await;
    for line in std::str::from_utf8(&text).unwrap().lines().filter(|line| line.ends_with(".ts")) {
        assert!(yard.memory.meta(&format!("{base}/{line}")).is_some(), "r8: {line} is named but not there");
    }
    // The control plane knows the file: its segments need not stay.
    let released = async {
        loop {
            yard.log.acknowledge(*yard.log.appended().borrow());
            if yard.spool.read(&key(&meta), segment(0), 0, 1).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), released).await.expect("segment 0 stays");

    object(&mut writer, segment(3), pattern(50_000, 3));
    playlist(&mut writer, 4, true);
    writer.apply(Output::FileDone(0, summary(0, 4_000))).unwrap();
    writer.finish();
    let file = yard.available().await;
    assert_eq!(file.object_key, wanted);
    let text = yard.get(&wanted).await;
    assert!(text.ends_with(b"#EXT-X-ENDLIST\n"));
    assert_eq!((file.objects, file.size_bytes), (5, 200_000 + text.len() as u64));
    assert!(file.crc32c.is_empty());
    for number in 0..4 {
        let segment = yard.memory.meta(&format!("{base}/{number}.ts")).unwrap();
        assert_eq!(segment.content_type, "video/mp2t");
        assert!(segment.cache_control.unwrap().contains("max-age"));
        assert_eq!(yard.get(&format!("{base}/{number}.ts")).await, pattern(50_000, number as u8));
    }
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn each_cut_is_a_file_of_its_own() {
    let yard = Yard::new(Faults::default());
    let mut writer = yard.writer(&meta(Format::Flv));
    for file in 0..3u32 {
        let whole = ObjectId { file, part: ObjectPart::Whole };
        object(&mut writer, whole, pattern(1_000, file as u8));
        let from = i64::from(file) * 1_000;
        writer.apply(Output::FileDone(file, summary(from, from + 1_000))).unwrap();
        yard.spool.flush().await;
    }
    writer.finish();
    let third = yard
        .fact(|kind| match kind {
            FactKind::FileAvailable(available) if available.index.get() == 2 => Some(available.clone()),
            _ => None,
        })
        .await;
    assert!(third.object_key.ends_with("-2.flv"), "{}", third.object_key);
    yard.acknowledged_and_empty().await;
    assert_eq!(yard.keys().await.len(), 3);
}

#[tokio::test]
async fn a_drain_waits_for_the_last_upload() {
    let yard = Yard::new(Faults { refuse_first: 3, ..Faults::default() });
    let meta = meta(Format::Flv);
    let mut writer = yard.writer(&meta);
    object(&mut writer, WHOLE, pattern(1_000, 1));
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
    let memory = std::sync::Arc::clone(&yard.memory);
    assert_eq!(yard.drained().await, Outcome::Complete);
    assert_eq!(memory.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_open_file_is_told_before_it_is_complete() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Hls);
    let mut writer = yard.writer(&meta);
    open(&mut writer, segment(0), pattern(10, 1));
    let opened = yard
        .fact(|kind| match kind {
            FactKind::FileOpened(opened) => Some(opened.clone()),
            _ => None,
        })
        .await;
    assert_eq!(opened.object_key, meta.object_key(PLAYLIST));
    assert_eq!(opened.start_time, meta.wall.at);
}
