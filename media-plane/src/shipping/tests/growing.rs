//! Files that are sent while they grow.

use bytes::Bytes;
use media::MediaTime;
use mux::{Mark, ObjectSpec, Output};
use recorder_proto::format::Format;
use spool::Writer;
use store::{Bucket, Faults};

use super::{OutputMeta, WHOLE, Yard, key, meta, pattern, summary, wait};

pub const PART: usize = 5 << 20;

/// An output whose files go in parts of [`PART`] bytes.
pub fn growing(format: Format, head_last: bool) -> OutputMeta {
    OutputMeta { upload_while_recording: true, part_bytes: PART as u64, head_last, ..meta(format) }
}

pub fn begin(writer: &mut Writer) {
    let spec = ObjectSpec { object: WHOLE, extension: "bin", content_type: "video/mp4" };
    writer.apply(Output::Open(spec)).unwrap();
}

/// Adds bytes that are playable up to their end.
pub fn append(writer: &mut Writer, data: Bytes) {
    writer.apply(Output::Append(WHOLE, data)).unwrap();
    writer.apply(Output::Commit(WHOLE, Mark { media_time: MediaTime::from_millis(500), ..Mark::default() })).unwrap();
}

pub fn end(mut writer: Writer, head: Option<Bytes>) {
    if let Some(head) = head {
        writer.apply(Output::Head(WHOLE, head)).unwrap();
    }
    writer.apply(Output::Close(WHOLE, summary(0, 1_000))).unwrap();
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
}

/// A file that grows, begun.
pub fn begun(yard: &Yard, format: Format, head_last: bool) -> (OutputMeta, Writer) {
    let meta = growing(format, head_last);
    let mut writer = yard.writer(&meta);
    begin(&mut writer);
    (meta, writer)
}

/// A growing FLV with so many parts in the bucket, and some bytes more.
pub async fn sent(yard: &Yard, count: usize) -> (OutputMeta, Writer, Bytes) {
    let (meta, mut writer) = begun(yard, Format::Flv, false);
    let data = pattern(count * PART + 99, 2);
    append(&mut writer, data.clone());
    parts(yard, count as u64).await;
    (meta, writer, data)
}

/// Somebody else's bytes take the place of a part.
pub async fn replace_second_part(yard: &Yard) {
    let upload = yard.memory.list_uploads("").await.unwrap().remove(0);
    yard.memory.put_part(&upload.key, &upload.id, 2, pattern(PART, 99)).await.unwrap();
}

/// Waits until so many parts were sent.
pub async fn parts(yard: &Yard, count: u64) {
    wait(|| (yard.bucket.calls_of("put_part") >= count).then_some(())).await;
}

pub async fn assert_one(yard: &Yard, meta: &OutputMeta, whole: &[u8]) {
    let available = yard.available().await;
    assert_eq!(available.object_key, meta.object_key(WHOLE));
    assert_eq!(available.size_bytes, whole.len() as u64);
    assert!(yard.get(&available.object_key).await == whole, "other bytes");
    assert_eq!(yard.keys().await, [available.object_key]);
    assert_eq!(yard.memory.open_uploads(), 0);
}

#[tokio::test]
async fn parts_go_while_the_file_grows() {
    let yard = Yard::new(Faults::default());
    let (meta, mut writer) = begun(&yard, Format::Flv, false);
    let data = pattern(2 * PART + 777, 3);
    append(&mut writer, data.slice(..PART + 5));
    parts(&yard, 1).await;
    // Not playable yet, so not durable in the sense that counts.
    writer.apply(Output::Append(WHOLE, data.slice(PART + 5..2 * PART + 100))).unwrap();
    yard.spool.flush().await;
    assert_eq!(yard.bucket.calls_of("put_part"), 1);
    append(&mut writer, data.slice(2 * PART + 100..));
    parts(&yard, 2).await;
    assert!(yard.keys().await.is_empty(), "nothing is visible before the end");
    end(writer, None);
    assert_one(&yard, &meta, &data).await;
    let calls = |name| yard.bucket.calls_of(name);
    let told = ["create_upload", "put_part", "complete", "head", "put", "list_parts", "list_uploads"].map(calls);
    assert_eq!(told, [1, 3, 1, 1, 0, 0, 0], "the rest, the completion and a look are all that remained");
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn a_head_known_last_goes_as_part_one_with_the_media_kept_back_for_it() {
    let yard = Yard::new(Faults::default());
    let (meta, mut writer) = begun(&yard, Format::Mp4, true);
    let (head, media) = (pattern(1_234, 1), pattern(3 * PART + 99, 2));
    append(&mut writer, media.slice(..2 * PART - 1));
    yard.spool.flush().await;
    assert_eq!(yard.bucket.calls_of("create_upload"), 0);
    append(&mut writer, media.slice(2 * PART - 1..));
    parts(&yard, 2).await;
    let upload = yard.memory.list_uploads("").await.unwrap().remove(0);
    let held = yard.memory.list_parts(&upload.key, &upload.id).await.unwrap();
    assert_eq!(held.iter().map(|part| part.number).collect::<Vec<_>>(), [2, 3]);
    end(writer, Some(head.clone()));
    assert_one(&yard, &meta, &[head, media].concat()).await;
    assert_eq!(yard.bucket.calls_of("put_part"), 4);
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn a_short_file_is_one_plain_put() {
    for head_last in [false, true] {
        let yard = Yard::new(Faults::default());
        let (meta, mut writer) = begun(&yard, Format::Mp4, head_last);
        append(&mut writer, pattern(PART - 2_000, 4));
        end(writer, head_last.then(|| pattern(1_000, 5)));
        let head = if head_last { pattern(1_000, 5) } else { Bytes::new() };
        assert_one(&yard, &meta, &[head, pattern(PART - 2_000, 4)].concat()).await;
        assert_eq!((yard.bucket.calls_of("create_upload"), yard.bucket.calls_of("put")), (0, 1));
    }
}

/// Google with a service account: the media is an object of its own until the head joins it.
#[tokio::test]
async fn a_head_known_last_is_joined_where_parts_go_in_order() {
    let yard = Yard::in_order(Faults::default());
    let (meta, mut writer) = begun(&yard, Format::Mp4, true);
    let (head, media) = (pattern(1_234, 1), pattern(3 * PART + 99, 2));
    append(&mut writer, media.clone());
    parts(&yard, 3).await;
    end(writer, Some(head.clone()));
    assert_one(&yard, &meta, &[head, media].concat()).await;
    assert_eq!((yard.bucket.calls_of("put_part"), yard.bucket.calls_of("compose")), (4, 1));
}

#[tokio::test]
async fn the_same_upload_goes_on_after_a_restart_and_nothing_is_sent_twice() {
    for head_last in [false, true] {
        let yard = Yard::new(Faults::default());
        let (meta, mut writer) = begun(&yard, Format::Mp4, head_last);
        let (head, media) = (pattern(321, 1), pattern(5 * PART + 99, 2));
        append(&mut writer, media.slice(..3 * PART + 17));
        // With its head last, the first part's worth of media is kept back, and goes at the end.
        let (sent, left) = if head_last { (2, 4) } else { (3, 3) };
        parts(&yard, sent).await;
        wait(|| (journal(&yard, &meta).matches("PartDone").count() as u64 == sent).then_some(())).await;
        let before = yard.memory.list_uploads("").await.unwrap();
        std::mem::forget(writer);
        let yard = yard.restart(Faults::default()).await;
        let mut writer = yard.spool.reopen(&key(&meta)).unwrap();
        append(&mut writer, media.slice(3 * PART + 17..));
        parts(&yard, 2).await;
        assert_eq!(yard.memory.list_uploads("").await.unwrap(), before);
        end(writer, head_last.then(|| head.clone()));
        let head = if head_last { head } else { Bytes::new() };
        assert_one(&yard, &meta, &[head, media].concat()).await;
        assert_eq!((yard.bucket.calls_of("put_part"), yard.bucket.calls_of("create_upload")), (left, 0), "{head_last}");
        yard.acknowledged_and_empty().await;
    }
}

#[tokio::test]
async fn a_session_goes_on_after_a_restart() {
    for head_last in [false, true] {
        let yard = Yard::in_order(Faults::default());
        let (meta, mut writer) = begun(&yard, Format::Mp4, head_last);
        let (head, media) = (pattern(321, 1), pattern(5 * PART + 99, 2));
        append(&mut writer, media.slice(..3 * PART + 17));
        parts(&yard, 3).await;
        std::mem::forget(writer);
        let yard = yard.restart(Faults::default()).await;
        let writer = {
            let mut writer = yard.spool.reopen(&key(&meta)).unwrap();
            append(&mut writer, media.slice(3 * PART + 17..));
            writer
        };
        end(writer, head_last.then(|| head.clone()));
        let head = if head_last { head } else { Bytes::new() };
        assert_one(&yard, &meta, &[head, media].concat()).await;
        assert_eq!((yard.bucket.calls_of("put_part"), yard.bucket.calls_of("create_upload")), (3, 0), "{head_last}");
    }
}

/// ListParts is the truth: what the bucket holds under a number counts only if it is made of our bytes.
#[tokio::test]
async fn parts_that_are_not_ours_are_sent_again() {
    let yard = Yard::new(Faults::default());
    let (meta, writer, data) = sent(&yard, 3).await;
    replace_second_part(&yard).await;
    std::mem::forget(writer);
    let yard = yard.restart(Faults::default()).await;
    end(yard.spool.reopen(&key(&meta)).unwrap(), None);
    assert_one(&yard, &meta, &data).await;
    assert_eq!(yard.bucket.calls_of("put_part"), 2, "the wrong one and the last");
}

/// A create whose id never reached the journal, and one that somebody else made under another key.
#[tokio::test]
async fn r7_uploads_of_a_lost_create_are_found_and_others_are_left_alone() {
    let yard = Yard::new(Faults { refuse: 1.0, ..Faults::default() });
    let (meta, mut writer) = begun(&yard, Format::Flv, false);
    let data = pattern(2 * PART, 2);
    append(&mut writer, data.clone());
    wait(|| (yard.bucket.calls_of("create_upload") >= 1).then_some(())).await;
    let ours = meta.object_key(WHOLE);
    let theirs = format!("{ours}.bak");
    for key in [&ours, &ours, &theirs] {
        yard.memory.create_upload(key, &Default::default()).await.unwrap();
    }
    std::mem::forget(writer);
    let yard = yard.restart(Faults::default()).await;
    end(yard.spool.reopen(&key(&meta)).unwrap(), None);
    let available = yard.available().await;
    assert!(yard.get(&available.object_key).await == data);
    let left: Vec<_> = yard.memory.list_uploads("").await.unwrap().into_iter().map(|upload| upload.key).collect();
    assert_eq!(left, [theirs]);
    assert_eq!(yard.bucket.calls_of("create_upload"), 0, "one of them was taken over");
}

#[tokio::test]
async fn an_upload_that_vanished_begins_anew() {
    let yard = Yard::new(Faults::default());
    let (meta, mut writer) = begun(&yard, Format::Flv, false);
    let data = pattern(3 * PART + 7, 2);
    append(&mut writer, data.slice(..2 * PART));
    parts(&yard, 2).await;
    let upload = yard.memory.list_uploads("").await.unwrap().remove(0);
    yard.memory.abort(&upload.key, &upload.id).await.unwrap();
    append(&mut writer, data.slice(2 * PART..));
    end(writer, None);
    assert_one(&yard, &meta, &data).await;
}

/// A store that wants parts of one size (R2) refuses the completion; the file comes all the same.
#[tokio::test]
async fn uneven_parts_refused_are_sent_again_in_equal_ones() {
    let yard = Yard::new(Faults::default());
    let (meta, mut writer) = begun(&yard, Format::Mp4, true);
    let (head, media) = (pattern(1_234, 1), pattern(2 * PART + 99, 2));
    append(&mut writer, media.clone());
    parts(&yard, 1).await;
    let upload = yard.memory.list_uploads("").await.unwrap().remove(0);
    yard.bucket.refuse_times("complete", store::Kind::Invalid, 2);
    end(writer, Some(head.clone()));
    assert_one(&yard, &meta, &[head, media].concat()).await;
    assert_eq!(yard.bucket.calls_of("create_upload"), 2);
    let gone = yard.memory.list_parts(&upload.key, &upload.id).await.unwrap_err();
    assert_eq!(gone.kind, store::Kind::NoSuchUpload);
}

/// What the storage refuses for good is sent after the file is closed, in another upload.
#[tokio::test]
async fn r7_an_upload_that_is_refused_while_the_file_grows_is_aborted() {
    let yard = Yard::new(Faults::default());
    let (meta, mut writer) = begun(&yard, Format::Flv, false);
    append(&mut writer, pattern(PART, 2));
    parts(&yard, 1).await;
    yard.bucket.refuse_next("put_part", store::Kind::Invalid);
    append(&mut writer, pattern(PART, 3));
    wait(|| (yard.memory.open_uploads() == 0 || yard.bucket.calls_of("put_part") >= 2).then_some(())).await;
    end(writer, None);
    assert_one(&yard, &meta, &[pattern(PART, 2), pattern(PART, 3)].concat()).await;
}

fn journal(yard: &Yard, meta: &OutputMeta) -> String {
    let key = key(meta);
    let path = yard.dir.path().join(format!("spool/{}-e{}/{}/journal", key.recording, key.epoch, key.format));
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}
