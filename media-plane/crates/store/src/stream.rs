//! A body of unknown length as a put or a multipart upload.
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::bucket::{Bucket, ByteStream, If, ObjectMeta, Part, Stored, UploadId};
use crate::error::{Error, Kind};

/// See [`Bucket::upload_stream`].
pub(crate) async fn by_parts<B: Bucket + ?Sized>(
    bucket: &B,
    key: &str,
    body: ByteStream,
    meta: &ObjectMeta,
    part_size: u64,
    condition: If,
) -> Result<Stored, Error> {
    let limits = bucket.capabilities();
    let size = part_size.clamp(limits.min_part, limits.max_part);
    let mut pieces = Pieces { body, rest: BytesMut::new(), size: usize::try_from(size).unwrap_or(usize::MAX), key };
    let first = pieces.next().await?;
    if first.len() < pieces.size {
        return bucket.put(key, first, meta, condition).await;
    }
    let upload = bucket.create_upload(key, meta).await?;
    match parts(bucket, &upload, first, &mut pieces, limits.max_parts).await {
        Ok(parts) => bucket.complete(key, &upload, &parts, condition).await,
        Err(error) => {
            // Best effort: what cannot be aborted now is found by list_uploads later.
            if let Err(left) = bucket.abort(key, &upload).await {
                tracing::debug!(key, error = %left, "an upload that failed could not be aborted");
            }
            Err(error)
        }
    }
}

async fn parts<B: Bucket + ?Sized>(
    bucket: &B,
    upload: &UploadId,
    first: Bytes,
    pieces: &mut Pieces<'_>,
    max_parts: u32,
) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    let mut piece = first;
    for number in 1..=max_parts {
        let last = piece.len() < pieces.size;
        parts.push(bucket.put_part(pieces.key, upload, number, piece).await?);
        if last {
            return Ok(parts);
        }
        piece = pieces.next().await?;
        if piece.is_empty() {
            return Ok(parts);
        }
    }
    let message = format!("more than {max_parts} parts of {} bytes", pieces.size);
    Err(Error::new("upload_stream", pieces.key, Kind::Invalid, "TooManyParts", message))
}

/// Cuts a stream into pieces of one size; a shorter one is the last.
struct Pieces<'a> {
    body: ByteStream,
    rest: BytesMut,
    size: usize,
    key: &'a str,
}

impl Pieces<'_> {
    async fn next(&mut self) -> Result<Bytes, Error> {
        while self.rest.len() < self.size {
            match self.body.next().await {
                Some(Ok(bytes)) => self.rest.extend_from_slice(&bytes),
                Some(Err(error)) => {
                    return Err(Error::new("upload_stream", self.key, Kind::Source, "SourceFailed", error));
                }
                None => break,
            }
        }
        let length = self.rest.len().min(self.size);
        Ok(self.rest.split_to(length).freeze())
    }
}
