//! Uploads by parts.
use std::sync::Arc;

use bytes::Bytes;

use super::{assert_same, noise, read};
use crate::bucket::{Bucket, If, ObjectMeta, Part, UploadId};
use crate::error::{Blame, Kind, Retry};

const MIB: usize = 1 << 20;

fn meta() -> ObjectMeta {
    ObjectMeta::of_type("video/mp4").label("stream", "one")
}

async fn put_parts(bucket: &dyn Bucket, key: &str, upload: &UploadId, bodies: &[Bytes]) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, body) in (1..).zip(bodies) {
        parts.push(bucket.put_part(key, upload, number, body.clone()).await.unwrap());
    }
    parts
}

pub async fn t1_multipart_of_more_than_20_mib(bucket: Arc<dyn Bucket>) {
    let bodies = [noise(8 * MIB, 1), noise(8 * MIB, 2), noise(5 * MIB + 77, 3)];
    let whole = bodies.concat();
    let upload = bucket.create_upload("big.mp4", &meta()).await.unwrap();
    let parts = put_parts(&*bucket, "big.mp4", &upload, &bodies).await;
    let stored = bucket.complete("big.mp4", &upload, &parts, If::Any).await.unwrap();
    assert_eq!(stored.size, whole.len() as u64);
    assert_eq!(stored.crc32c, Some(crc32c::crc32c(&whole)));
    let head = bucket.head("big.mp4").await.unwrap().unwrap();
    assert_eq!((head.size, &head.etag), (stored.size, &stored.etag));
    assert!(head.crc32c.is_none_or(|crc| Some(crc) == stored.crc32c));
    assert_same(&read(&*bucket, "big.mp4").await, &whole);
    assert_eq!(bucket.list_uploads("").await.unwrap(), []);
}

pub async fn part_one_last(bucket: Arc<dyn Bucket>) {
    let (head, tail) = (noise(5 * MIB, 1), noise(1000, 2));
    let upload = bucket.create_upload("fast.mp4", &meta()).await.unwrap();
    let two = bucket.put_part("fast.mp4", &upload, 2, tail.clone()).await.unwrap();
    let one = bucket.put_part("fast.mp4", &upload, 1, head.clone()).await;
    if !bucket.capabilities().parts_in_any_order {
        let error = one.unwrap_err();
        assert_eq!((error.kind, error.retry(), error.blame()), (Kind::Invalid, Retry::Never, Blame::Caller));
        return;
    }
    bucket.complete("fast.mp4", &upload, &[one.unwrap(), two], If::Any).await.unwrap();
    assert_same(&read(&*bucket, "fast.mp4").await, &[head, tail].concat());
}

pub async fn parts_are_replaced(bucket: Arc<dyn Bucket>) {
    let upload = bucket.create_upload("again.mp4", &meta()).await.unwrap();
    let first = bucket.put_part("again.mp4", &upload, 1, noise(5 * MIB, 1)).await.unwrap();
    let same = bucket.put_part("again.mp4", &upload, 1, noise(5 * MIB, 1)).await.unwrap();
    assert_eq!(first, same, "a repeated part is the same part");
    let other = bucket.put_part("again.mp4", &upload, 1, noise(5 * MIB, 2)).await;
    if !bucket.capabilities().parts_in_any_order {
        assert_eq!(other.unwrap_err().kind, Kind::Invalid);
        bucket.complete("again.mp4", &upload, &[first], If::Any).await.unwrap();
        assert_same(&read(&*bucket, "again.mp4").await, &noise(5 * MIB, 1));
        return;
    }
    let other = other.unwrap();
    assert_ne!(first.etag, other.etag);
    assert_eq!(bucket.list_parts("again.mp4", &upload).await.unwrap().len(), 1);
    bucket.complete("again.mp4", &upload, &[other], If::Any).await.unwrap();
    assert_same(&read(&*bucket, "again.mp4").await, &noise(5 * MIB, 2));
}

pub async fn one_small_part(bucket: Arc<dyn Bucket>) {
    let upload = bucket.create_upload("small.flv", &meta()).await.unwrap();
    let parts = put_parts(&*bucket, "small.flv", &upload, &[noise(13, 1)]).await;
    bucket.complete("small.flv", &upload, &parts, If::Any).await.unwrap();
    assert_same(&read(&*bucket, "small.flv").await, &noise(13, 1));
}

pub async fn nothing_is_visible_before_complete(bucket: Arc<dyn Bucket>) {
    let upload = bucket.create_upload("later.mp4", &meta()).await.unwrap();
    put_parts(&*bucket, "later.mp4", &upload, &[noise(5 * MIB, 1), noise(10, 2)]).await;
    assert_eq!(bucket.head("later.mp4").await.unwrap(), None);
    assert_eq!(bucket.list("").await.unwrap(), []);
    bucket.abort("later.mp4", &upload).await.unwrap();
}

pub async fn if_absent_on_complete(bucket: Arc<dyn Bucket>) {
    bucket.put("taken.mp4", noise(10, 1), &meta(), If::Any).await.unwrap();
    let upload = bucket.create_upload("taken.mp4", &meta()).await.unwrap();
    let parts = put_parts(&*bucket, "taken.mp4", &upload, &[noise(20, 2)]).await;
    let error = bucket.complete("taken.mp4", &upload, &parts, If::Absent).await.unwrap_err();
    assert_eq!((error.kind, error.retry()), (Kind::AlreadyExists, Retry::Never));
    assert_same(&read(&*bucket, "taken.mp4").await, &noise(10, 1));
    bucket.delete("taken.mp4").await.unwrap();
    bucket.complete("taken.mp4", &upload, &parts, If::Absent).await.unwrap();
    assert_same(&read(&*bucket, "taken.mp4").await, &noise(20, 2));
}

pub async fn parts_are_listed(bucket: Arc<dyn Bucket>) {
    let upload = bucket.create_upload("listed.mp4", &meta()).await.unwrap();
    assert_eq!(bucket.list_parts("listed.mp4", &upload).await.unwrap(), []);
    let bodies = [noise(5 * MIB, 1), noise(6 * MIB, 2), noise(3, 3)];
    let parts = put_parts(&*bucket, "listed.mp4", &upload, &bodies).await;
    let listed = bucket.list_parts("listed.mp4", &upload).await.unwrap();
    let told = |parts: &[Part]| -> Vec<_> { parts.iter().map(|p| (p.number, p.size, p.etag.clone())).collect() };
    assert_eq!(told(&listed), told(&parts));
    bucket.complete("listed.mp4", &upload, &listed, If::Any).await.unwrap();
    assert_same(&read(&*bucket, "listed.mp4").await, &bodies.concat());
}

pub async fn uploads_are_listed(bucket: Arc<dyn Bucket>) {
    let mut opened = Vec::new();
    for key in ["p/1", "p/2", "q/1", "p/1"] {
        opened.push((key, bucket.create_upload(key, &meta()).await.unwrap()));
    }
    assert_ne!(opened[0].1, opened[3].1, "two uploads of one key are two");
    if bucket.capabilities().lists_uploads {
        let listed = async |prefix: &str| -> Vec<_> {
            let mut uploads: Vec<_> =
                bucket.list_uploads(prefix).await.unwrap().into_iter().map(|upload| (upload.key, upload.id)).collect();
            uploads.sort();
            uploads
        };
        let mut expected: Vec<_> = opened.iter().map(|(key, id)| ((*key).to_owned(), id.clone())).collect();
        expected.sort();
        assert_eq!(listed("").await, expected);
        assert_eq!(listed("q/").await, [("q/1".to_owned(), opened[2].1.clone())]);
    }
    for (key, upload) in &opened {
        bucket.abort(key, upload).await.unwrap();
    }
    assert_eq!(bucket.list_uploads("").await.unwrap(), []);
}

pub async fn abort_frees_the_upload(bucket: Arc<dyn Bucket>) {
    let upload = bucket.create_upload("never.mp4", &meta()).await.unwrap();
    let parts = put_parts(&*bucket, "never.mp4", &upload, &[noise(5 * MIB, 1)]).await;
    bucket.abort("never.mp4", &upload).await.unwrap();
    bucket.abort("never.mp4", &upload).await.unwrap();
    let gone = [
        bucket.put_part("never.mp4", &upload, 2, noise(5 * MIB, 2)).await.map(drop),
        bucket.list_parts("never.mp4", &upload).await.map(drop),
        bucket.complete("never.mp4", &upload, &parts, If::Any).await.map(drop),
    ];
    for result in gone {
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.retry()), (Kind::NoSuchUpload, Retry::Never), "{error}");
    }
    assert_eq!(bucket.head("never.mp4").await.unwrap(), None);
}

pub async fn complete_again_is_a_success(bucket: Arc<dyn Bucket>) {
    let upload = bucket.create_upload("twice.mp4", &meta()).await.unwrap();
    let parts = put_parts(&*bucket, "twice.mp4", &upload, &[noise(5 * MIB, 1), noise(9, 2)]).await;
    let first = bucket.complete("twice.mp4", &upload, &parts, If::Any).await.unwrap();
    let second = bucket.complete("twice.mp4", &upload, &parts, If::Any).await.unwrap();
    assert_eq!((first.size, first.etag), (second.size, second.etag));
    // Something else under that key is not ours.
    bucket.put("twice.mp4", noise(100, 3), &meta(), If::Any).await.unwrap();
    let error = bucket.complete("twice.mp4", &upload, &parts, If::Any).await.unwrap_err();
    assert_eq!(error.kind, Kind::NoSuchUpload);
    assert_eq!(bucket.list("").await.unwrap().len(), 1);
}

pub async fn foreign_parts_are_refused(bucket: Arc<dyn Bucket>) {
    let upload = bucket.create_upload("odd.mp4", &meta()).await.unwrap();
    let parts = put_parts(&*bucket, "odd.mp4", &upload, &[noise(5 * MIB, 1)]).await;
    let foreign = Part { number: 2, size: 5, etag: "00000000000000000000000000000000".into(), crc32c: Some(1) };
    let error = bucket.complete("odd.mp4", &upload, &[parts[0].clone(), foreign], If::Any).await.unwrap_err();
    assert_eq!((error.kind, error.retry(), error.blame()), (Kind::Invalid, Retry::Never, Blame::Caller), "{error}");
    assert_eq!(bucket.head("odd.mp4").await.unwrap(), None);
    bucket.complete("odd.mp4", &upload, &parts, If::Any).await.unwrap();
}

pub async fn objects_are_joined(bucket: Arc<dyn Bucket>) {
    let (head, tail) = (noise(1000, 1), noise(3 * MIB, 2));
    for (key, body) in [("joined.mp4.head", &head), ("joined.mp4.media", &tail)] {
        bucket.put(key, body.clone(), &meta(), If::Any).await.unwrap();
    }
    let sources = ["joined.mp4.head".to_owned(), "joined.mp4.media".to_owned()];
    let joined = bucket.compose("joined.mp4", &sources, &meta()).await;
    if !bucket.capabilities().composes {
        assert_eq!(joined.unwrap_err().kind, Kind::Unsupported);
        assert_eq!(bucket.head("joined.mp4").await.unwrap(), None);
        return;
    }
    let whole = [head, tail].concat();
    let (joined, found) = (joined.unwrap(), bucket.head("joined.mp4").await.unwrap().unwrap());
    assert_eq!((joined.size, joined.crc32c), (whole.len() as u64, Some(crc32c::crc32c(&whole))));
    assert_eq!((found.size, &found.etag), (joined.size, &joined.etag));
    assert_same(&read(&*bucket, "joined.mp4").await, &whole);
    assert_eq!(bucket.list("").await.unwrap().len(), 3, "the sources stay");
    let missing = ["joined.mp4.head".to_owned(), "nothing".to_owned()];
    let error = bucket.compose("never.mp4", &missing, &meta()).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound, "{error}");
    assert_eq!(bucket.head("never.mp4").await.unwrap(), None);
}
