//! Files that never become whole, files after the first, and spools that cannot be read for a while.

use mux::{ObjectId, ObjectPart, Output, Summary};
use recorder_proto::facts::{FactKind, FileFailed, FileOpened};
use recorder_proto::format::Format;
use recorder_runtime::drain::Outcome;
use store::{Faults, Kind};

use super::{PLAYLIST, WHOLE, Yard, key, meta, object, open, pattern, playlist, segment, spec, summary};
use crate::shipping::upload::UploadError;

const SECOND: ObjectId = ObjectId { file: 1, part: ObjectPart::Whole };

async fn failed(yard: &Yard) -> FileFailed {
    yard.fact(|kind| match kind {
        FactKind::FileFailed(failed) => Some(failed.clone()),
        _ => None,
    })
    .await
}

async fn opened(yard: &Yard, index: u32) -> FileOpened {
    yard.fact(|kind| match kind {
        FactKind::FileOpened(opened) if opened.index.0 == index => Some(opened.clone()),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_file_opened_while_its_predecessor_uploads_has_its_own_start_time() {
    let yard = Yard::new(Faults { refuse: 1.0, ..Faults::default() });
    let meta = meta(Format::Flv);
    let mut writer = yard.writer(&meta);
    object(&mut writer, WHOLE, pattern(1_000, 1));
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    open(&mut writer, SECOND, pattern(1_000, 2));
    let second = opened(&yard, 1).await;
    assert_eq!(opened(&yard, 0).await.start_time, meta.wall.at);
    assert_eq!(second.start_time, meta.wall.at + chrono::TimeDelta::seconds(1));
    writer.finish();
}

#[tokio::test]
async fn an_opened_file_that_its_finished_output_never_closed_fails() {
    let yard = Yard::new(Faults::default());
    let mut writer = yard.writer(&meta(Format::Flv));
    object(&mut writer, WHOLE, pattern(1_000, 1));
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    open(&mut writer, SECOND, pattern(1_000, 2));
    writer.finish();
    let failed = failed(&yard).await;
    assert_eq!((failed.index.0, failed.error.reason.as_str()), (1, "FILE_INCOMPLETE"));
    assert_eq!(yard.available().await.index.0, 0, "the whole one ships");
}

#[tokio::test]
async fn a_file_without_a_byte_fails_instead_of_waiting_for_ever() {
    let yard = Yard::new(Faults::default());
    let mut writer = yard.writer(&meta(Format::Aac));
    let nothing = Summary { video_frames: 0, audio_frames: 0, ..summary(0, 0) };
    writer.apply(Output::Open(spec(WHOLE))).unwrap();
    writer.apply(Output::Close(WHOLE, nothing.clone())).unwrap();
    writer.apply(Output::FileDone(0, nothing)).unwrap();
    writer.finish();
    assert_eq!(failed(&yard).await.error.reason, "FILE_EMPTY");
    assert!(yard.keys().await.is_empty());
}

#[tokio::test]
async fn hls_without_its_last_playlist_fails_once_its_output_has_finished() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Hls);
    let mut writer = yard.writer(&meta);
    object(&mut writer, segment(0), pattern(1_000, 0));
    playlist(&mut writer, 1, false);
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
    let failed = failed(&yard).await;
    assert_eq!((failed.object_key, failed.error.reason.as_str()), (meta.object_key(PLAYLIST), "FILE_INCOMPLETE"));
}

#[tokio::test]
async fn a_writer_that_died_fails_its_open_file_and_does_not_hold_up_the_drain() {
    let yard = Yard::new(Faults::default());
    let mut writer = yard.writer(&meta(Format::Flv));
    object(&mut writer, WHOLE, pattern(1_000, 1));
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    open(&mut writer, SECOND, pattern(1_000, 2));
    drop(writer);
    let failed = failed(&yard).await;
    assert_eq!((failed.index.0, failed.error.reason.as_str()), (1, "OUTPUT_ABANDONED"));
    assert_eq!(yard.available().await.index.0, 0, "what was closed ships");
    assert_eq!(yard.drained().await, Outcome::Complete);
}

#[tokio::test]
async fn a_spool_that_cannot_be_read_for_a_while_fails_no_file() {
    let yard = Yard::new(Faults { refuse: 1.0, ..Faults::default() });
    let meta = meta(Format::Flv);
    let mut writer = yard.writer(&meta);
    object(&mut writer, WHOLE, pattern(1_000, 1));
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
    yard.fact(|kind| matches!(kind, FactKind::StorageFailing(_)).then_some(())).await;
    let key = key(&meta);
    let path = yard.dir.path().join(format!("spool/{}-e{}/{}/0-whole.data", key.recording, key.epoch, key.format));
    let aside = yard.dir.path().join("aside");
    // A directory in its place: an error of the operating system that is neither corruption nor a missing file.
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = yard.spool.read(&key, WHOLE, 0, 10).await.unwrap_err();
    assert!(!UploadError::from(error).is_final());
    yard.bucket.set(Faults::default());
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    let available = yard.available().await;
    assert_eq!(yard.get(&available.object_key).await, pattern(1_000, 1));
    assert!(!yard.facts().iter().any(|fact| matches!(fact.kind, FactKind::FileFailed(_))));
}

#[test]
fn out_of_descriptors_is_not_the_end_of_a_file_and_damage_is() {
    let io = |code| spool::Error::Io {
        path: "0-whole.data".into(),
        source: std::sync::Arc::new(std::io::Error::from_raw_os_error(code)),
    };
    let (enoent, eio, enfile, emfile) = (2, 5, 23, 24);
    for code in [eio, enfile, emfile] {
        assert!(!UploadError::from(io(code)).is_final(), "{code}");
    }
    assert!(!UploadError::from(spool::Error::Closed).is_final());
    let corrupt = spool::Error::Corrupt { path: "0-whole.data".into(), problem: "checksum".into() };
    let range = spool::Error::Range { object: "0-whole".into(), available: 1 };
    for lost in [io(enoent), corrupt, range, spool::Error::Unknown("0-whole".into())] {
        assert!(UploadError::from(lost).is_final());
    }
    assert!(UploadError::from(store::Error::new("put", "k", Kind::Invalid, "Invalid", "no")).is_final());
}
