//! Notes of muxers and of outputs, marks with counts, and what is remembered of released objects.

use bytes::Bytes;
use mux::{Mark, Output};
use serde_json::json;

use super::{Bench, WHOLE, apply, key, mark, object, pattern, segment, spec, summary};
use crate::journal::MAGIC;
use crate::{ObjectState, Record, ReleasedObject};

fn note(text: &'static str) -> Output {
    Output::Note(WHOLE, Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn notes_come_back_up_to_the_mark_and_go_on_after_it() {
    let bench = Bench::new();
    let mut writer = bench.writer("mp4");
    apply(&mut writer, [Output::Open(spec(WHOLE)), note("a"), Output::Append(WHOLE, pattern(100, 1)), note("b")]);
    apply(&mut writer, [mark(WHOLE, 80)]);
    bench.spool.flush().await;
    apply(&mut writer, [note("c"), mark(WHOLE, 120)]);
    bench.spool.flush().await;
    apply(&mut writer, [Output::Append(WHOLE, pattern(50, 2)), note("after the mark")]);
    drop(writer);
    let bench = bench.restart().await;
    let found = &bench.stored[0].objects[0];
    assert_eq!(found.notes, "abc");
    let mark_found = Mark { media_time: media::MediaTime::from_millis(120), video_frames: 3, audio_frames: 0 };
    assert_eq!(found.state, ObjectState::Open { bytes: 100, mark: Some(mark_found) });
    let mut writer = bench.spool.reopen(&key("mp4")).unwrap();
    apply(&mut writer, [Output::Append(WHOLE, pattern(9, 3)), note("d"), mark(WHOLE, 160)]);
    drop(writer);
    let bench = bench.restart().await;
    assert_eq!(bench.stored[0].objects[0].notes, "abcd");
    let mut writer = bench.spool.reopen(&key("mp4")).unwrap();
    apply(&mut writer, [Output::Close(WHOLE, summary(4))]);
    drop(writer);
    let bench = bench.restart().await;
    assert_eq!(bench.stored[0].objects[0].notes, "abcd", "its file is not done");
    let mut writer = bench.spool.reopen(&key("mp4")).unwrap();
    apply(&mut writer, [Output::FileDone(0, summary(4))]);
    drop(writer);
    let bench = bench.restart().await;
    assert_eq!(bench.stored[0].objects[0].notes, "");
}

#[tokio::test]
async fn notes_cost_no_sync() {
    let bench = Bench::with(|config| config.flush_interval = std::time::Duration::from_secs(3_600), Default::default());
    let mut writer = bench.writer("mp4");
    apply(&mut writer, [Output::Open(spec(WHOLE)), Output::Append(WHOLE, pattern(100, 1)), mark(WHOLE, 80)]);
    bench.spool.flush().await;
    let first = bench.spool.disk().faults().syncs();
    for _ in 0..50 {
        apply(&mut writer, [note("n"), Output::Append(WHOLE, pattern(100, 1)), mark(WHOLE, 80)]);
        writer.note(json!("beside")).unwrap();
    }
    bench.spool.flush().await;
    assert_eq!(bench.spool.disk().faults().syncs() - first, 2, "data and journal");
}

#[tokio::test]
async fn notes_of_an_output_come_back_in_order() {
    let bench = Bench::new();
    let mut writer = bench.writer("manifest");
    for number in 0..3 {
        writer.note(json!({ "gap": number })).unwrap();
        let late = Record::Note(json!({ "codec": number }));
        bench.spool.record(&key("manifest"), late).await.unwrap();
    }
    drop(writer);
    let bench = bench.restart().await.restart().await;
    let expected: Vec<_> = (0..3).flat_map(|n| [json!({ "gap": n }), json!({ "codec": n })]).collect();
    assert_eq!(bench.stored[0].notes, expected);
    bench.spool.reopen(&key("manifest")).unwrap().finish();
    bench.spool.flush().await;
    assert!(bench.spool.meta(&key("manifest")).is_none(), "an output of notes alone ends with its writer");
}

#[tokio::test]
async fn what_was_released_is_remembered_object_by_object() {
    let bench = Bench::new();
    let mut writer = bench.writer("hls");
    for number in 0..3 {
        apply(&mut writer, object(segment(number), pattern(1_000, number as u8)));
    }
    bench.spool.flush().await;
    for number in [1, 0] {
        let object = segment(number);
        for record in
            [Record::Committed { object, etag: "e".into(), size: 1_000 }, Record::Reported { object, sequence: 1 }]
        {
            bench.spool.record(&key("hls"), record).await.unwrap();
        }
        bench.spool.release(&key("hls"), object).await.unwrap();
    }
    drop(writer);
    let bench = bench.restart().await.restart().await;
    let expected = |number: u32| ReleasedObject {
        object: segment(number),
        size: 1_000,
        crc32c: crc32c::crc32c(&pattern(1_000, number as u8)),
        summary: Some(summary(25)),
    };
    assert_eq!(bench.stored[0].released[0].objects, [expected(1), expected(0)]);
}

/// A journal as the version before wrote it: shorter extents, playlists without checksum, no flush records.
fn version_1() -> Vec<u8> {
    let mut journal = b"RECSPL1\n".to_vec();
    let mut record = |body: &[u8]| {
        journal.extend_from_slice(&(body.len() as u32).to_le_bytes());
        journal.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
        journal.extend_from_slice(body);
    };
    record(br#"J{"create":{"key":"x","meta":{"storage":"s"}}}"#);
    record(br#"J{"open":{"object":"0-whole","extension":"flv","content_type":"video/x-flv"}}"#);
    let crc = |len| crc32c::crc32c(&pattern(len, 1)).to_le_bytes();
    let mut extent = |offset: u64, len: u64, marked: u64| {
        let mut body = b"E\0\0\0\0\0\0\0\0\0".to_vec();
        body.extend_from_slice(&offset.to_le_bytes());
        body.extend_from_slice(&len.to_le_bytes());
        body.extend_from_slice(&crc((offset + len) as usize));
        body.extend_from_slice(&marked.to_le_bytes());
        body.extend_from_slice(&crc(marked as usize));
        body.extend_from_slice(&90_000_i64.to_le_bytes());
        record(&body);
    };
    extent(0, 600, 500);
    extent(600, 300, 900);
    record(b"P\0\0\0\0\x03\0\0\0\0\0\0\0\0\0#EXTM3U\n");
    journal
}

#[tokio::test]
async fn a_node_upgraded_with_a_full_spool_ships_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = crate::output::output_dir(dir.path(), &key("flv"));
    std::fs::create_dir_all(&output).unwrap();
    std::fs::write(output.join("journal"), version_1()).unwrap();
    std::fs::write(output.join("0-whole.data"), pattern(900, 1)).unwrap();
    let bench = Bench::at(dir, |_| {}, Default::default());
    let stored = &bench.stored[0];
    assert_eq!(stored.meta, json!({"storage": "s"}));
    let mark_found = Mark { media_time: media::MediaTime(90_000), ..Mark::default() };
    assert_eq!(stored.objects[0].state, ObjectState::Open { bytes: 900, mark: Some(mark_found) });
    assert_eq!(stored.playlists[0].body, "#EXTM3U\n");
    let mut writer = bench.spool.reopen(&key("flv")).unwrap();
    apply(&mut writer, [Output::Append(WHOLE, pattern(100, 9)), note("n"), mark(WHOLE, 2_000)]);
    drop(writer);
    let bench = bench.restart().await;
    let found = &bench.stored[0].objects[0];
    assert!(matches!(found.state, ObjectState::Open { bytes: 1_000, .. }), "{found:?}");
    assert_eq!(found.notes, "n");
    assert_eq!(bench.whole("flv", WHOLE).await, [pattern(900, 1), pattern(100, 9)].concat());
    let journal = std::fs::read(output.join("journal")).unwrap();
    assert!(!journal.starts_with(MAGIC), "continued as it was");
}
