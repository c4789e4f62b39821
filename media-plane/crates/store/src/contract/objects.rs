//! Whole objects.
use std::sync::Arc;

use bytes::Bytes;

use super::{assert_same, noise, read};
use crate::bucket::{Bucket, If, ObjectMeta};
use crate::error::{Blame, Kind, Retry};
use crate::probe::probe;

fn meta() -> ObjectMeta {
    ObjectMeta::of_type("video/mp2t").cached(crate::CACHE_IMMUTABLE).label("stream", "Zoë's 1st")
}

pub async fn put_then_read_back(bucket: Arc<dyn Bucket>) {
    let body = noise(100_000, 1);
    let stored = bucket.put("live/a/0.ts", body.clone(), &meta(), If::Any).await.unwrap();
    assert_eq!(stored.size, 100_000);
    assert!(stored.crc32c.is_none_or(|crc| crc == crc32c::crc32c(&body)));
    let head = bucket.head("live/a/0.ts").await.unwrap().unwrap();
    assert_eq!((head.size, &head.etag), (stored.size, &stored.etag));
    assert!(!head.etag.is_empty() && !head.etag.contains('"'));
    assert_same(&read(&*bucket, "live/a/0.ts").await, &body);
}

pub async fn ranges_are_cut_at_the_end(bucket: Arc<dyn Bucket>) {
    let body = noise(1000, 2);
    bucket.put("r", body.clone(), &meta(), If::Any).await.unwrap();
    for (range, expected) in
        [(0..10, 0..10), (990..2000, 990..1000), (1000..1001, 0..0), (5000..6000, 0..0), (7..7, 0..0)]
    {
        let found = bucket.get_range("r", range.clone()).await.unwrap();
        assert_eq!(found, body.slice(expected), "{range:?}");
    }
}

pub async fn missing_objects(bucket: Arc<dyn Bucket>) {
    assert_eq!(bucket.head("not/there").await.unwrap(), None);
    for range in [0..10, 0..0] {
        let error = bucket.get_range("not/there", range).await.unwrap_err();
        assert_eq!((error.kind, error.retry(), error.blame()), (Kind::NotFound, Retry::Never, Blame::Caller));
    }
    bucket.delete("not/there").await.unwrap();
}

pub async fn zero_byte_object(bucket: Arc<dyn Bucket>) {
    let stored = bucket.put("empty", Bytes::new(), &meta(), If::Any).await.unwrap();
    assert_eq!(stored.size, 0);
    assert_eq!(bucket.head("empty").await.unwrap().unwrap().size, 0);
    assert_eq!(read(&*bucket, "empty").await, Bytes::new());
}

pub async fn overwrite_replaces(bucket: Arc<dyn Bucket>) {
    let first = bucket.put("playlist.m3u8", noise(500, 3), &meta(), If::Any).await.unwrap();
    let second = bucket.put("playlist.m3u8", noise(300, 4), &meta(), If::Any).await.unwrap();
    assert_ne!(first.etag, second.etag);
    assert_same(&read(&*bucket, "playlist.m3u8").await, &noise(300, 4));
    assert_eq!(bucket.list("").await.unwrap().len(), 1);
}

pub async fn if_absent_refuses_the_second(bucket: Arc<dyn Bucket>) {
    bucket.put("once", noise(10, 5), &meta(), If::Absent).await.unwrap();
    let error = bucket.put("once", noise(10, 6), &meta(), If::Absent).await.unwrap_err();
    assert_eq!((error.kind, error.retry(), error.blame()), (Kind::AlreadyExists, Retry::Never, Blame::Caller));
    assert_same(&read(&*bucket, "once").await, &noise(10, 5));
}

pub async fn unicode_and_spaces_in_keys(bucket: Arc<dyn Bucket>) {
    let keys = ["a b/ü.ts", "日本/語 (1).mp4", "plus+and&=?#%41.flv", "tilde~'quote'!*,;:@$", "..a/...", "a/b..c"];
    for (seed, key) in keys.iter().enumerate() {
        let body = noise(64, seed as u64);
        bucket.put(key, body.clone(), &meta(), If::Any).await.unwrap();
        assert_same(&read(&*bucket, key).await, &body);
        assert_eq!(bucket.list(key).await.unwrap()[0].key, *key);
    }
    assert_eq!(bucket.list("").await.unwrap().len(), keys.len());
    for key in keys {
        bucket.delete(key).await.unwrap();
    }
    assert_eq!(bucket.list("").await.unwrap(), []);
}

pub async fn bad_keys_are_refused(bucket: Arc<dyn Bucket>) {
    for key in ["", "/", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", "a\0b", "a/./b"] {
        let refused = [
            bucket.put(key, noise(1, 1), &meta(), If::Any).await.map(drop),
            bucket.create_upload(key, &meta()).await.map(drop),
            bucket.get_range(key, 0..1).await.map(drop),
            bucket.head(key).await.map(drop),
            bucket.delete(key).await,
        ];
        for result in refused {
            let error = result.unwrap_err();
            assert_eq!((error.kind, error.retry()), (Kind::Invalid, Retry::Never), "{key:?}");
        }
    }
    assert_eq!(bucket.list("").await.unwrap(), []);
}

pub async fn list_by_prefix(bucket: Arc<dyn Bucket>) {
    for key in ["a/1", "a/2", "a/b/3", "ab", "b/1"] {
        bucket.put(key, noise(key.len(), 9), &meta(), If::Any).await.unwrap();
    }
    let found = async |prefix: &str| -> Vec<String> {
        bucket.list(prefix).await.unwrap().into_iter().map(|object| format!("{}:{}", object.key, object.size)).collect()
    };
    assert_eq!(found("").await, ["a/1:3", "a/2:3", "a/b/3:5", "ab:2", "b/1:3"]);
    assert_eq!(found("a/").await, ["a/1:3", "a/2:3", "a/b/3:5"]);
    assert_eq!(found("a").await, ["a/1:3", "a/2:3", "a/b/3:5", "ab:2"]);
    assert_eq!(found("a/b/3").await, ["a/b/3:5"]);
    assert!(found("c").await.is_empty());
}

pub async fn delete_twice(bucket: Arc<dyn Bucket>) {
    bucket.put("gone", noise(10, 1), &meta(), If::Any).await.unwrap();
    bucket.delete("gone").await.unwrap();
    assert_eq!(bucket.head("gone").await.unwrap(), None);
    bucket.delete("gone").await.unwrap();
}

pub async fn uris_name_the_object(bucket: Arc<dyn Bucket>) {
    let uri = bucket.uri("live/a.mp4");
    let (scheme, rest) = uri.split_once("://").unwrap();
    assert!(["s3", "gs", "library", "memory"].contains(&scheme), "{uri}");
    assert!(rest.ends_with("live/a.mp4"), "{uri}");
}

pub async fn probe_passes_every_step(bucket: Arc<dyn Bucket>) {
    let steps = probe(&*bucket, "check/").await;
    let names: Vec<_> = steps.iter().map(|step| step.name).collect();
    assert_eq!(names, ["write", "read", "multipart", "delete"]);
    assert!(steps.iter().all(|step| step.ok && step.error.is_none()), "{steps:?}");
    assert!(steps.iter().map(|step| step.seconds).sum::<f64>() > 0.0);
    assert_eq!(bucket.list("").await.unwrap(), []);
    assert_eq!(bucket.list_uploads("").await.unwrap(), []);
}
