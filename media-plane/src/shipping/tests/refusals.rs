//! Stores that refuse what they were given, and what only some stores can or allow.

use std::collections::BTreeSet;

use recorder_proto::facts::FileAvailable;
use store::{If, Kind, ObjectMeta};

use super::growing::{PART, append, assert_one, begun, end, parts, replace_second_part, sent};
use super::outages::{acknowledging, backed_up, emptied, flv, in_backup, manifest, refusing};
use super::*;
use crate::manifest::tests::ended;
use crate::shipping::backup::CopyBack;
use crate::shipping::meta::Continues;

const SHORT: Patience = Patience {
    stalled_after: Duration::from_millis(100),
    backup_after: Duration::from_millis(50),
    slot: Duration::ZERO,
    side_by_side: 4,
};

/// A late request of an attempt that was given up replaces a part: the completion names a tag that is no more.
#[tokio::test]
async fn r3_a_part_that_was_replaced_late_lost_the_file() {
    let yard = Yard::new(Faults::default());
    let (meta, writer, data) = sent(&yard, 3).await;
    replace_second_part(&yard).await;
    end(writer, None);
    assert_one(&yard, &meta, &data).await;
    assert_eq!((yard.bucket.calls_of("create_upload"), yard.bucket.calls_of("put_part")), (1, 5), "one part again");
    yard.acknowledged_and_empty().await;
}

/// Neither does it help that the bucket holds what it should: it is begun anew, once.
#[tokio::test]
async fn an_upload_that_is_refused_again_is_sent_in_another() {
    let yard = Yard::new(Faults::default());
    let (meta, writer, data) = sent(&yard, 2).await;
    yard.bucket.refuse_times("complete", Kind::Invalid, 2);
    end(writer, None);
    assert_one(&yard, &meta, &data).await;
    assert_eq!(yard.bucket.calls_of("create_upload"), 2);
}

#[tokio::test]
async fn an_upload_that_is_always_refused_is_told() {
    let yard = Yard::new(Faults::default());
    let (_, mut writer) = begun(&yard, Format::Flv, false);
    append(&mut writer, pattern(2 * PART, 2));
    parts(&yard, 2).await;
    yard.bucket.refuse_times("complete", Kind::Invalid, u32::MAX);
    end(writer, None);
    yard.fact(|kind| matches!(kind, FactKind::FileFailed(_)).then_some(())).await;
    assert_eq!(yard.bucket.calls_of("complete"), 3);
    wait(|| (yard.memory.open_uploads() == 0).then_some(())).await;
}

/// Hours may pass before a long file is closed.
#[tokio::test]
async fn a_growing_file_that_stood_still_was_told_only_once_it_was_closed() {
    let yard = Yard::patient(refusing(Kind::Timeout), SHORT);
    let (meta, mut writer) = begun(&yard, Format::Flv, false);
    append(&mut writer, pattern(PART + 10, 2));
    let stalled = yard.fact(|kind| match kind {
        FactKind::UploadStalled(stalled) => Some(stalled.clone()),
        _ => None,
    });
    assert_eq!(stalled.await.bytes_waiting, PART as u64 + 10);
    yard.bucket.set(Faults::default());
    yard.fact(|kind| matches!(kind, FactKind::UploadRecovered(_)).then_some(())).await;
    end(writer, None);
    assert_one(&yard, &meta, &pattern(PART + 10, 2)).await;
}

async fn availables(yard: &Yard, count: usize) -> Vec<(u64, FileAvailable)> {
    let available = |fact: Fact| match fact.kind {
        FactKind::FileAvailable(file) => Some((fact.sequence.0, file)),
        _ => None,
    };
    wait(|| {
        let found: Vec<_> = yard.facts().into_iter().filter_map(available).collect();
        (found.len() >= count).then_some(found)
    })
    .await
}

/// A file system, Google with HMAC keys and most of S3's relatives: what has arrived is known by reading it.
#[tokio::test]
async fn a_copy_back_whose_source_is_deleted_waited_for_ever_where_heads_tell_no_checksum() {
    let buckets = (Arc::new(Memory::without_checksums()), Arc::new(Memory::without_checksums()));
    let yard = Yard::at(tempfile::tempdir().unwrap(), buckets, refusing(Kind::Denied), SHORT);
    let meta = backed_up(&[Format::Flv]);
    let handle = yard.manifests.create(meta.clone()).unwrap();
    let flv_meta = meta.output_of(Format::Flv);
    flv(&yard, &flv_meta, &pattern(4_000, 2));
    handle.note(ended(vec![]));
    let moved = yard.available().await;
    assert_eq!(moved.storage.to_string(), "storages/backup");
    let task = acknowledging(&yard);
    wait(|| (yard.spool.usage().bytes < 4_000).then_some(())).await;
    task.abort();
    // A process that died after it had deleted the source, and before it had noted that.
    let yard = yard.restart(refusing(Kind::Denied)).await;
    yard.memory.put(&flv_meta.object_key(WHOLE), pattern(4_000, 2), &ObjectMeta::default(), If::Any).await.unwrap();
    yard.backup.delete(&moved.object_key).await.unwrap();
    let yard = yard.restart(Faults::default()).await;
    let task = acknowledging(&yard);
    assert_eq!(manifest(&yard, &meta).await["files"][0]["storage"], "storages/s3");
    task.abort();
    assert_eq!(yard.get(&flv_meta.object_key(WHOLE)).await, pattern(4_000, 2));
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn a_copy_back_that_the_control_plane_refused_deleted_the_only_file_it_knew() {
    let yard = Yard::patient(refusing(Kind::Denied), SHORT);
    let meta = backed_up(&[Format::Flv]);
    let handle = yard.manifests.create(meta.clone()).unwrap();
    flv(&yard, &meta.output_of(Format::Flv), &pattern(4_000, 2));
    handle.note(ended(vec![]));
    let moved = yard.available().await;
    yard.bucket.set(Faults::default());
    let (sequence, back) = availables(&yard, 2).await.remove(1);
    assert_eq!(back.storage.to_string(), "storages/s3");
    yard.log.refuse(sequence);
    let task = acknowledging(&yard);
    manifest(&yard, &meta).await;
    task.abort();
    assert_eq!(in_backup(&yard).await, [moved.object_key]);
    assert_eq!(yard.get(&back.object_key).await, pattern(4_000, 2));
}

/// A credential need not be able to list or to delete.
#[tokio::test]
async fn a_copy_back_without_the_right_to_list_uploads_never_ended() {
    let yard = Yard::patient(refusing(Kind::Denied), SHORT);
    let meta = backed_up(&[Format::Flv]);
    let handle = yard.manifests.create(meta.clone()).unwrap();
    flv(&yard, &meta.output_of(Format::Flv), &pattern(4_000, 2));
    handle.note(ended(vec![]));
    yard.available().await;
    yard.bucket.refuse_times("list_uploads", Kind::Denied, u32::MAX);
    yard.bucket.set(Faults::default());
    let task = acknowledging(&yard);
    manifest(&yard, &meta).await;
    task.abort();
    emptied(&yard).await;
}

#[tokio::test]
async fn one_file_was_copied_back_twice_at_once() {
    let (copies, mut returning) = Copies::new();
    let meta = backed_up(&[Format::Flv]);
    let yard = Yard::new(Faults::default());
    flv(&yard, &meta.output_of(Format::Flv), &pattern(10, 2));
    let available = yard.available().await;
    let summary = summary(0, 1_000);
    for _ in 0..2 {
        let file = crate::shipping::report::available_entry(&meta.output, &available, &summary);
        copies.send(CopyBack { meta: Arc::new(meta.output_of(Format::Flv)), file, pieces: Vec::new() });
    }
    assert!(returning.try_recv().is_ok());
    assert!(returning.try_recv().is_err());
}

/// What an earlier epoch wrote is named relative to the playlist: elsewhere nothing of it would be found.
#[tokio::test]
async fn a_playlist_that_goes_on_another_went_to_a_storage_without_its_beginning() {
    let yard = Yard::patient(refusing(Kind::Denied), SHORT);
    let mut meta = backed_up(&[Format::Hls]).output;
    meta.continues = Some(Continues { key: "before/index.m3u8".into() });
    let mut hls = yard.writer(&meta);
    object(&mut hls, segment(0), pattern(100, 1));
    playlist(&mut hls, 1, true);
    hls.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    hls.finish();
    wait(|| (yard.bucket.calls_of("put") >= 5).then_some(())).await;
    assert_eq!(in_backup(&yard).await, Vec::<String>::new());
    yard.bucket.set(Faults::default());
    assert_eq!(yard.available().await.storage.to_string(), "storages/s3");
}

/// The state folder was lost and the spool was not: another fact's acknowledgement must not let the bytes go.
#[tokio::test]
async fn r4_a_new_fact_log_released_files_of_which_nobody_was_told() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Flv);
    flv(&yard, &meta, &pattern(1_000, 1));
    let (first, _) = availables(&yard, 1).await.remove(0);
    wait(|| journal(&yard, &meta).contains("Reported").then_some(())).await;
    std::fs::remove_dir_all(yard.dir.path().join("state")).unwrap();
    let yard = yard.restart(Faults::default()).await;
    let (again, _) = availables(&yard, 1).await.remove(0);
    assert!(again > first, "{again}");
    assert!(yard.spool.read(&key(&meta), WHOLE, 0, 1).await.is_ok(), "kept until that is acknowledged");
    // The same once more, although by now the sequences are known.
    wait(|| (journal(&yard, &meta).matches("Reported").count() == 2).then_some(())).await;
    let yard = yard.restart(Faults::default()).await;
    assert_eq!(availables(&yard, 1).await.len(), 1, "and only told again when it is lost");
    yard.acknowledged_and_empty().await;
}

/// A process that died while it noted what its last fact tells of: the playlist's note was durable, a segment's not.
#[tokio::test]
async fn segments_of_a_released_playlist_stayed_in_the_spool_for_ever() {
    let yard = Yard::new(refusing(Kind::Unavailable));
    let meta = meta(Format::Hls);
    let mut hls = yard.writer(&meta);
    object(&mut hls, segment(0), pattern(100, 1));
    playlist(&mut hls, 1, true);
    hls.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    hls.finish();
    yard.fact(|kind| matches!(kind, FactKind::StorageFailing(_)).then_some(())).await;
    let output = key(&meta);
    for object in [segment(0), PLAYLIST] {
        let done = spool::Record::Committed { object, etag: "e".into(), size: 100 };
        yard.spool.record(&output, done).await.unwrap();
    }
    yard.spool.record(&output, spool::Record::Reported { object: PLAYLIST, sequence: 1 }).await.unwrap();
    yard.spool.release(&output, PLAYLIST).await.unwrap();
    let yard = yard.restart(Faults::default()).await;
    yard.acknowledged_and_empty().await;
    assert_eq!(yard.bucket.calls_of("put"), 0);
}

/// A bad sector was tried for ever.
#[test]
fn read_errors_of_one_object_are_counted_until_it_counts_as_lost() {
    let mut progress = crate::shipping::progress::Progress::default();
    let broken = |code| spool::Error::Io {
        path: "0-whole.data".into(),
        source: Arc::new(std::io::Error::from_raw_os_error(code)),
    };
    let verdicts: BTreeSet<bool> = (0..19).map(|_| progress.unreadable(&broken(5))).collect();
    assert_eq!(verdicts, [false].into());
    assert!(!progress.unreadable(&broken(24)), "too many open files pass by themselves");
    assert!(progress.unreadable(&broken(5)));
}

fn journal(yard: &Yard, meta: &OutputMeta) -> String {
    let key = key(meta);
    let path = yard.dir.path().join(format!("spool/{}-e{}/{}/journal", key.recording, key.epoch, key.format));
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}
