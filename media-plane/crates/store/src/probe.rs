//! Whether a storage works, step by step, in the provider's own words (the API's TestStorage).
use bytes::Bytes;

use crate::bucket::{Bucket, If, ObjectMeta};
use crate::error::{Error, Kind};
use crate::key::join_key;

/// One step of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// `write`, `read`, `multipart`, `delete`.
    pub name: &'static str,
    /// Whether it worked.
    pub ok: bool,
    /// What the provider said when it did not.
    pub error: Option<Error>,
    /// How long it took.
    pub seconds: f64,
}

/// Writes, reads back and deletes an object below `prefix`, and uploads one in two parts. Steps that make no sense
/// after a failure are not tried; what was written is deleted as far as the storage allows.
pub async fn probe(bucket: &dyn Bucket, prefix: &str) -> Vec<Step> {
    let name = format!("recorder-probe-{:016x}", rand::random::<u64>());
    let small = join_key(prefix, &format!("{name}.txt"));
    let large = join_key(prefix, &format!("{name}.bin"));
    let mut steps = Vec::new();
    if timed(&mut steps, "write", write(bucket, &small)).await {
        timed(&mut steps, "read", read(bucket, &small)).await;
        let parts = timed(&mut steps, "multipart", multipart(bucket, &large)).await;
        timed(&mut steps, "delete", delete(bucket, &small, parts.then_some(large.as_str()))).await;
    }
    steps
}

async fn timed(steps: &mut Vec<Step>, name: &'static str, work: impl Future<Output = Result<(), Error>>) -> bool {
    let started = tokio::time::Instant::now();
    let error = work.await.err();
    let ok = error.is_none();
    steps.push(Step { name, ok, error, seconds: started.elapsed().as_secs_f64() });
    ok
}

const BODY: &[u8] = b"This object shows that the recorder can write here. It may be deleted.\n";

async fn write(bucket: &dyn Bucket, key: &str) -> Result<(), Error> {
    let stored = bucket.put(key, Bytes::from_static(BODY), &ObjectMeta::of_type("text/plain"), If::Any).await?;
    same(key, "write", stored.size, BODY.len() as u64)
}

async fn read(bucket: &dyn Bucket, key: &str) -> Result<(), Error> {
    let head = bucket.head(key).await?;
    same(key, "read", head.map_or(0, |head| head.size), BODY.len() as u64)?;
    let body = bucket.get_range(key, 0..BODY.len() as u64).await?;
    if body == BODY {
        return Ok(());
    }
    Err(Error::new("read", key, Kind::Corrupted, "Corrupted", "other bytes came back than were written"))
}

async fn multipart(bucket: &dyn Bucket, key: &str) -> Result<(), Error> {
    let meta = ObjectMeta::of_type("application/octet-stream");
    let upload = bucket.create_upload(key, &meta).await?;
    let first = usize::try_from(bucket.capabilities().min_part).unwrap_or_default();
    let work = async {
        let parts = [
            bucket.put_part(key, &upload, 1, vec![0x5a; first].into()).await?,
            bucket.put_part(key, &upload, 2, Bytes::from_static(BODY)).await?,
        ];
        let stored = bucket.complete(key, &upload, &parts, If::Any).await?;
        same(key, "multipart", stored.size, (first + BODY.len()) as u64)
    };
    let result = work.await;
    if result.is_err() {
        // The first error is the one to report.
        let _ = bucket.abort(key, &upload).await;
    }
    result
}

async fn delete(bucket: &dyn Bucket, small: &str, large: Option<&str>) -> Result<(), Error> {
    let first = bucket.delete(small).await;
    if let Some(large) = large {
        bucket.delete(large).await?;
    }
    first?;
    match bucket.head(small).await? {
        None => Ok(()),
        Some(_) => Err(Error::new("delete", small, Kind::Unexpected, "NotDeleted", "the object is still there")),
    }
}

fn same(key: &str, operation: &'static str, found: u64, expected: u64) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    let message = format!("{found} bytes are there, {expected} were written");
    Err(Error::new(operation, key, Kind::Corrupted, "Corrupted", message))
}
