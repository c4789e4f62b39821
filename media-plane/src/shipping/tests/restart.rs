//! A process that dies, and the next one.

use mux::Output;
use recorder_proto::facts::FactKind;
use recorder_proto::format::Format;
use store::{Bucket, Faults};

use super::{DOWN, PLAYLIST, WHOLE, Yard, key, meta, object, open, pattern, playlist, segment, summary, wait};

#[tokio::test]
async fn closed_files_ship_after_a_restart() {
    let yard = Yard::new(DOWN);
    for format in [Format::Flv, Format::Mp4] {
        let mut writer = yard.writer(&meta(format));
        object(&mut writer, WHOLE, pattern(100_000, 1));
        writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
        writer.finish();
    }
    yard.fact(|kind| matches!(kind, FactKind::StorageFailing(_)).then_some(())).await;
    let yard = yard.restart(Faults::default()).await;
    for format in [Format::Flv, Format::Mp4] {
        let available = yard
            .fact(|kind| match kind {
                FactKind::FileAvailable(file) if file.format == format => Some(file.clone()),
                _ => None,
            })
            .await;
        assert_eq!(yard.get(&available.object_key).await, pattern(100_000, 1));
    }
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn a_multipart_upload_goes_on_where_it_was() {
    let yard = Yard::new(Faults::default());
    // The first attempt of the third part never ends well.
    let mut writer = yard.writer(&meta(Format::Flv));
    let data = pattern(20 << 20, 9);
    open(&mut writer, WHOLE, data.clone());
    writer.apply(Output::Close(WHOLE, summary(0, 1_000))).unwrap();
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    while yard.bucket.calls_of("put_part") < 2 {
        tokio::task::yield_now().await;
    }
    yard.bucket.set(DOWN);
    writer.finish();
    let before = yard.memory.list_uploads("").await.unwrap();
    let yard = yard.restart(Faults::default()).await;
    let available = yard.available().await;
    assert!(yard.get(&available.object_key).await == data);
    if !before.is_empty() {
        assert_eq!(yard.bucket.calls_of("create_upload"), 0, "the upload was not begun anew");
        assert!(yard.bucket.calls_of("put_part") < 3, "parts were sent twice");
    }
    assert_eq!(yard.memory.list_uploads("").await.unwrap(), []);
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn hls_goes_on_with_segments_already_gone() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Hls);
    let mut writer = yard.writer(&meta);
    object(&mut writer, segment(0), pattern(1_000, 0));
    playlist(&mut writer, 1, false);
    let text = meta.object_key(PLAYLIST);
    wait(|| yard.memory.meta(&text)).await;
    let released = async {
        loop {
            yard.log.acknowledge(*yard.log.appended().borrow());
            if yard.spool.read(&key(&meta), segment(0), 0, 1).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), released).await.expect("segment 0 stays");
    yard.bucket.set(DOWN);
    object(&mut writer, segment(1), pattern(1_000, 1));
    playlist(&mut writer, 2, true);
    writer.apply(Output::FileDone(0, summary(0, 2_000))).unwrap();
    writer.finish();
    yard.spool.flush().await;
    let yard = yard.restart(Faults::default()).await;
    let available = yard.available().await;
    let text = yard.get(&available.object_key).await;
    assert_eq!((available.objects, available.size_bytes), (3, 2_000 + text.len() as u64));
    assert_eq!(yard.bucket.calls_of("put"), 2, "segment 0 is not sent again");
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn a_file_that_was_open_is_live_until_its_reopened_writer_closes_it() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Flv);
    let mut writer = yard.writer(&meta);
    open(&mut writer, WHOLE, pattern(5_000, 1));
    writer.apply(Output::Append(WHOLE, pattern(33, 2))).unwrap();
    yard.spool.flush().await;
    // A process that dies drops nothing.
    let yard = yard.restart(Faults::default()).await;
    let mut writer = yard.spool.reopen(&key(&meta)).unwrap();
    writer.apply(Output::Close(WHOLE, summary(0, 1_000))).unwrap();
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
    let available = yard.available().await;
    assert_eq!(yard.get(&available.object_key).await, pattern(5_000, 1));
    assert_eq!(available.duration_micros, 1_000_000);
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn what_was_reported_is_not_told_again_but_released() {
    let yard = Yard::new(Faults::default());
    let mut writer = yard.writer(&meta(Format::Flv));
    object(&mut writer, WHOLE, pattern(1_000, 1));
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
    yard.available().await;
    yard.spool.flush().await;
    let noted = async {
        // The record follows the fact.
        while !journal(&yard).contains("Reported") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), noted).await.expect("never noted");
    let facts = yard.facts().len();
    let yard = yard.restart(Faults::default()).await;
    yard.acknowledged_and_empty().await;
    assert_eq!(*yard.log.appended().borrow(), facts as u64);
    assert_eq!(yard.bucket.calls_of("put"), 0);
}

fn journal(yard: &Yard) -> String {
    let key = key(&meta(Format::Flv));
    let path = yard.dir.path().join(format!("spool/{}-e{}/{}/journal", key.recording, key.epoch, key.format));
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}
