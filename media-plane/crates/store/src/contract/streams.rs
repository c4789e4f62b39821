//! Streams, and attempts whose replies are lost.
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;

use super::{assert_same, noise, persist, read};
use crate::bucket::{Bucket, ByteStream, If, ObjectMeta};
use crate::error::{Blame, Kind};
use crate::unreliable::{Faults, Unreliable};

const PART: u64 = 5 << 20;

fn meta() -> ObjectMeta {
    ObjectMeta::of_type("video/x-flv")
}

/// In pieces that fit nothing.
fn streamed(body: &Bytes) -> ByteStream {
    let pieces: Vec<_> = body.chunks(77_777).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(stream::iter(pieces))
}

pub async fn short_stream_is_one_object(bucket: Arc<dyn Bucket>) {
    for (key, length) in [("none.flv", 0), ("short.flv", 200_000)] {
        let body = noise(length, 1);
        let stored = bucket.upload_stream(key, streamed(&body), &meta(), PART, If::Any).await.unwrap();
        assert_eq!((stored.size, stored.crc32c), (length as u64, Some(crc32c::crc32c(&body))));
        assert_same(&read(&*bucket, key).await, &body);
    }
}

pub async fn long_stream_is_one_object(bucket: Arc<dyn Bucket>) {
    for (key, length) in [("even.flv", 2 * PART), ("odd.flv", 4 * PART + 12_345)] {
        let body = noise(usize::try_from(length).unwrap(), 2);
        let stored = bucket.upload_stream(key, streamed(&body), &meta(), PART, If::Any).await.unwrap();
        assert_eq!((stored.size, stored.crc32c), (length, Some(crc32c::crc32c(&body))));
        assert_same(&read(&*bucket, key).await, &body);
    }
    assert_eq!(bucket.list_uploads("").await.unwrap(), []);
}

pub async fn failed_stream_leaves_nothing(bucket: Arc<dyn Bucket>) {
    for good in [1000, 11 << 20] {
        let pieces = vec![Ok(noise(good, 1)), Err(std::io::Error::other("the spool is gone"))];
        let error =
            bucket.upload_stream("cut.flv", Box::pin(stream::iter(pieces)), &meta(), PART, If::Any).await.unwrap_err();
        assert_eq!((error.kind, error.blame()), (Kind::Source, Blame::Caller));
        assert!(error.message.contains("the spool is gone"));
        assert_eq!(bucket.head("cut.flv").await.unwrap(), None);
        assert_eq!(bucket.list_uploads("").await.unwrap(), []);
    }
}

/// R-2 and reliability test 9: everything is applied, every first reply is lost.
pub async fn lost_replies_and_retries_make_one_object(bucket: Arc<dyn Bucket>) {
    let faulty = Unreliable::new(Arc::clone(&bucket), Faults { lose_replies_first: 1, ..Faults::default() });
    let (segment, meta) = (noise(10_000, 1), meta());
    let stored = persist(|| faulty.put("hls/0.ts", segment.clone(), &meta, If::Any)).await;
    assert_eq!(stored.crc32c, Some(crc32c::crc32c(&segment)));
    let bodies = [noise(5 << 20, 2), noise(5 << 20, 3), noise(99, 4)];
    let upload = persist(|| faulty.create_upload("lost.mp4", &meta)).await;
    let mut parts = Vec::new();
    for (number, body) in (1..).zip(&bodies) {
        parts.push(persist(|| faulty.put_part("lost.mp4", &upload, number, body.clone())).await);
    }
    let stored = persist(|| faulty.complete("lost.mp4", &upload, &parts, If::Absent)).await;
    assert_eq!(stored.size, bodies.iter().map(|body| body.len() as u64).sum::<u64>());
    assert_eq!([faulty.calls_of("put"), faulty.calls_of("put_part"), faulty.calls_of("complete")], [2, 6, 2]);
    assert_same(&read(&*bucket, "hls/0.ts").await, &segment);
    assert_same(&read(&*bucket, "lost.mp4").await, &bodies.concat());
    let keys: Vec<_> = bucket.list("").await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["hls/0.ts", "lost.mp4"]);
    // The upload whose name got lost with the first reply is found and given up.
    for upload in bucket.list_uploads("lost").await.unwrap() {
        bucket.abort(&upload.key, &upload.id).await.unwrap();
    }
    assert_eq!(bucket.list_uploads("").await.unwrap(), []);
}
