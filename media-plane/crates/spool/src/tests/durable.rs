//! What a restart finds, and when bytes may go.

use bytes::Bytes;
use mux::Output;
use serde_json::json;

use super::{Bench, PLAYLIST, WHOLE, apply, key, mark, object, pattern, segment, spec, summary};
use crate::{Committed, Error, ObjectState, Part, Record};

fn committed(object: mux::ObjectId) -> Record {
    Record::Committed { object, etag: "\"etag\"".into(), size: 1_000 }
}

fn reported(object: mux::ObjectId) -> Record {
    Record::Reported { object, sequence: 42 }
}

#[tokio::test]
async fn closed_objects_are_found_after_a_restart_with_their_meta() {
    let bench = Bench::new();
    let mut writer = bench.writer("flv");
    apply(&mut writer, object(WHOLE, pattern(70_000, 5)));
    apply(&mut writer, [Output::FileDone(0, summary(25))]);
    writer.finish();
    let bench = bench.restart().await;
    let stored = &bench.stored[0];
    assert_eq!((stored.key.clone(), stored.finished), (key("flv"), true));
    assert_eq!(stored.meta, json!({"storage": "storages/library", "format": "flv"}));
    assert_eq!(stored.files[0].summary, summary(25));
    assert_eq!(stored.objects[0].spec, spec(WHOLE));
    assert_eq!(bench.whole("flv", WHOLE).await, pattern(70_000, 5));
}

#[tokio::test]
async fn shipping_records_survive_a_restart() {
    let bench = Bench::new();
    let mut writer = bench.writer("flv");
    apply(&mut writer, object(WHOLE, pattern(1_000, 5)));
    bench.spool.flush().await;
    let part = |number| Record::PartDone { object: WHOLE, number, etag: format!("p{number}"), crc32c: 1, len: 8 };
    let created = Record::UploadCreated { object: WHOLE, key: "a/b.flv".into(), upload_id: "u-1".into() };
    for record in [created, part(2), part(1), committed(WHOLE), reported(WHOLE)] {
        bench.spool.record(&key("flv"), record).await.unwrap();
    }
    drop(writer);
    let bench = bench.restart().await;
    let found = &bench.stored[0].objects[0];
    let upload = found.upload.as_ref().unwrap();
    assert_eq!((upload.key.as_str(), upload.upload_id.as_str()), ("a/b.flv", "u-1"));
    let expected = |number| Part { number, etag: format!("p{number}"), crc32c: 1, len: 8 };
    assert_eq!(upload.parts, [expected(2), expected(1)]);
    assert_eq!(found.committed, Some(Committed { etag: "\"etag\"".into(), size: 1_000 }));
    assert_eq!(found.reported, Some(42));
}

#[tokio::test]
async fn r4_bytes_go_only_after_committed_and_reported() {
    let bench = Bench::new();
    let mut writer = bench.writer("flv");
    apply(&mut writer, object(WHOLE, pattern(1_000, 5)));
    bench.spool.flush().await;
    let data = bench.output_dir("flv").join("0-whole.data");
    let refused = |result| matches!(result, Err(Error::NotReleasable(_)));
    assert!(refused(bench.spool.release(&key("flv"), WHOLE).await));
    bench.spool.record(&key("flv"), committed(WHOLE)).await.unwrap();
    assert!(refused(bench.spool.release(&key("flv"), WHOLE).await));
    bench.spool.record(&key("flv"), reported(WHOLE)).await.unwrap();
    assert!(data.exists());
    let before = bench.spool.usage().bytes;
    bench.spool.release(&key("flv"), WHOLE).await.unwrap();
    assert!(!data.exists());
    assert!(bench.spool.usage().bytes <= before - 1_000 + 200);
    assert!(matches!(bench.spool.release(&key("flv"), WHOLE).await, Err(Error::Unknown(_))));
    assert!(bench.output_dir("flv").join("journal").exists());
    writer.finish();
    bench.spool.flush().await;
    assert!(!bench.dir.path().join(key("flv").parent()).exists());
    assert_eq!(bench.spool.usage().bytes, 0);
}

#[tokio::test]
async fn a_playlist_is_released_only_as_its_last_text() {
    let bench = Bench::new();
    let mut writer = bench.writer("hls");
    let playlist = |last| Output::Playlist { object: PLAYLIST, body: Bytes::from_static(b"#EXTM3U\n"), last };
    apply(&mut writer, [playlist(false)]);
    bench.spool.flush().await;
    for record in [committed(PLAYLIST), reported(PLAYLIST)] {
        bench.spool.record(&key("hls"), record).await.unwrap();
    }
    assert!(bench.spool.release(&key("hls"), PLAYLIST).await.is_err());
    apply(&mut writer, [playlist(true)]);
    bench.spool.flush().await;
    assert!(bench.spool.release(&key("hls"), PLAYLIST).await.is_err(), "the new text is not committed");
    for record in [committed(PLAYLIST), reported(PLAYLIST)] {
        bench.spool.record(&key("hls"), record).await.unwrap();
    }
    bench.spool.release(&key("hls"), PLAYLIST).await.unwrap();
}

#[tokio::test]
async fn an_open_object_is_cut_to_its_mark_and_goes_on() {
    let bench = Bench::new();
    let mut writer = bench.writer("flv");
    apply(&mut writer, [Output::Open(spec(WHOLE)), Output::Append(WHOLE, pattern(900, 1)), mark(WHOLE, 80)]);
    apply(&mut writer, [Output::Append(WHOLE, pattern(50, 2))]);
    bench.spool.flush().await;
    drop(writer);
    let bench = bench.restart().await;
    let stored = &bench.stored[0];
    assert!(!stored.finished);
    let mark = Some(mux::Mark { media_time: media::MediaTime::from_millis(80), video_frames: 2, audio_frames: 0 });
    assert_eq!(stored.objects[0].state, ObjectState::Open { bytes: 900, mark });
    assert_eq!(bench.whole("flv", WHOLE).await, pattern(900, 1));
    let mut writer = bench.spool.reopen(&key("flv")).unwrap();
    assert!(bench.spool.reopen(&key("flv")).is_err(), "one writer at a time");
    apply(&mut writer, [Output::Append(WHOLE, pattern(100, 3)), Output::Close(WHOLE, summary(1))]);
    writer.finish();
    let bench = bench.restart().await;
    let expected = [pattern(900, 1), pattern(100, 3)].concat();
    assert_eq!(bench.whole("flv", WHOLE).await, expected);
    let ObjectState::Closed { crc32c, .. } = bench.stored[0].objects[0].state else { panic!("still open") };
    assert_eq!(crc32c, crc32c::crc32c(&expected));
}

#[tokio::test]
async fn what_was_released_is_counted_after_a_restart() {
    let bench = Bench::new();
    let mut writer = bench.writer("hls");
    for number in 0..3 {
        apply(&mut writer, object(segment(number), pattern(1_000, 1)));
    }
    bench.spool.flush().await;
    for number in 0..2 {
        for record in [committed(segment(number)), reported(segment(number))] {
            bench.spool.record(&key("hls"), record).await.unwrap();
        }
        bench.spool.release(&key("hls"), segment(number)).await.unwrap();
    }
    drop(writer);
    let bench = bench.restart().await;
    let stored = &bench.stored[0];
    assert_eq!(stored.objects.iter().map(|object| object.spec.object).collect::<Vec<_>>(), [segment(2)]);
    assert_eq!((stored.released[0].objects.len(), stored.released[0].bytes()), (2, 2_000));
}

#[tokio::test]
async fn keys_that_are_no_names_and_second_writers_are_refused() {
    let bench = Bench::new();
    for format in ["", "../x", "a/b", "h l s", "ts\0", &"x".repeat(65)] {
        assert!(matches!(bench.spool.create(key(format), &json!({})), Err(Error::Key { .. })), "{format:?}");
    }
    let _writer = bench.writer("hls");
    assert!(matches!(bench.spool.create(key("hls"), &json!({})), Err(Error::Key { .. })));
    let second = crate::Spool::open(crate::Config::new(bench.dir.path()));
    assert!(matches!(second, Err(Error::Locked(_))));
}

#[tokio::test]
async fn a_muxer_that_breaks_the_order_is_told() {
    let bench = Bench::new();
    let mut writer = bench.writer("flv");
    let append = || Output::Append(WHOLE, pattern(1, 1));
    assert!(matches!(writer.apply(append()), Err(Error::Sequence { .. })));
    apply(&mut writer, object(WHOLE, pattern(10, 1)));
    assert!(matches!(writer.apply(append()), Err(Error::Sequence { .. })));
    assert!(matches!(writer.apply(Output::Close(WHOLE, summary(1))), Err(Error::Sequence { .. })));
    bench.spool.flush().await;
    assert_eq!(bench.whole("flv", WHOLE).await, pattern(10, 1));
}

#[tokio::test]
async fn an_output_without_objects_leaves_nothing() {
    let bench = Bench::new();
    bench.writer("flv").finish();
    bench.spool.flush().await;
    assert!(!bench.dir.path().join(key("flv").parent()).exists());
    assert!(matches!(bench.spool.reopen(&key("flv")), Err(Error::Unknown(_))));
}
