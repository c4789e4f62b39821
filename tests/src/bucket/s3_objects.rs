//! S3's objects and uploads in memory, with S3's rules for parts and conditions.
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::s3::Flavour;
use super::{Change, StoredObject};

/// S3's smallest part but the last.
const MIN_PART: usize = 5 << 20;

/// What the server holds; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    state: Arc<Mutex<State>>,
    page_size: usize,
    flavour: Flavour,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, BTreeMap<String, StoredObject>>,
    uploads: BTreeMap<String, Open>,
    opened: u64,
    watcher: Option<Sender<Change>>,
}

#[derive(Debug)]
struct Open {
    bucket: String,
    key: String,
    object: StoredObject,
    parts: BTreeMap<i32, Held>,
}

/// A part, with its tag: counted once, so that completing a large upload takes no longer than a small one's.
#[derive(Debug)]
struct Held {
    body: Bytes,
    md5: String,
}

impl Objects {
    pub(super) fn new(page_size: usize, flavour: Flavour) -> Self {
        Self { state: Arc::default(), page_size, flavour }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn create_bucket(&self, name: &str) {
        self.lock().buckets.entry(name.to_owned()).or_default();
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> Option<StoredObject> {
        self.lock().buckets.get(bucket)?.get(key).cloned()
    }

    pub(super) fn keys(&self, bucket: &str) -> Vec<String> {
        self.lock().buckets.get(bucket).map(|objects| objects.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn changes(&self) -> Receiver<Change> {
        let (sender, receiver) = channel();
        self.lock().watcher = Some(sender);
        receiver
    }

    pub(super) fn forget(&self, bucket: &str, key: &str) {
        self.lock().buckets.get_mut(bucket).map(|objects| objects.remove(key));
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    fn existing(&self, bucket: &str, key: &str) -> S3Result<StoredObject> {
        let mut state = self.lock();
        let objects = state.bucket(bucket)?;
        objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
    }
}

impl State {
    fn bucket(&mut self, name: &str) -> S3Result<&mut BTreeMap<String, StoredObject>> {
        let missing = || s3_error!(NoSuchBucket, "The specified bucket does not exist");
        self.buckets.get_mut(name).ok_or_else(missing)
    }

    fn store(&mut self, bucket: &str, key: &str, object: StoredObject) -> S3Result<()> {
        let before = self.bucket(bucket)?.insert(key.to_owned(), object.clone());
        self.tell(Change { key: key.to_owned(), before, after: Some(object) });
        Ok(())
    }

    fn tell(&mut self, change: Change) {
        // A watcher that has left is forgotten.
        self.watcher = self.watcher.take().filter(|watcher| watcher.send(change).is_ok());
    }

    fn upload(&mut self, bucket: &str, key: &str, id: &str) -> S3Result<&mut Open> {
        self.bucket(bucket)?;
        let upload = self.uploads.get_mut(id).filter(|upload| upload.bucket == bucket && upload.key == key);
        upload.ok_or_else(|| s3_error!(NoSuchUpload, "The specified upload does not exist."))
    }

    fn absent(&mut self, bucket: &str, key: &str, condition: Option<&IfNoneMatch>) -> S3Result<()> {
        if condition.is_some() && self.bucket(bucket)?.contains_key(key) {
            return Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"));
        }
        Ok(())
    }
}

fn md5_of(body: &[u8]) -> String {
    hex::encode(Md5::digest(body))
}

fn crc_of(body: &[u8]) -> String {
    BASE64_STANDARD.encode(crc32c::crc32c(body).to_be_bytes())
}

fn tag(text: &str) -> Option<ETag> {
    Some(ETag::Strong(text.to_owned()))
}

async fn collect(body: Option<StreamingBlob>, declared: Option<&String>) -> S3Result<Bytes> {
    let mut bytes = BytesMut::new();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|_| s3_error!(IncompleteBody, "The body ended early"))?);
        }
    }
    if declared.is_some_and(|crc| *crc != crc_of(&bytes)) {
        return Err(s3_error!(BadDigest, "The CRC32C you specified did not match the calculated checksum."));
    }
    Ok(bytes.freeze())
}

fn described(
    content_type: Option<String>,
    cache_control: Option<String>,
    metadata: Option<Metadata>,
    storage_class: Option<StorageClass>,
    kms_key: Option<String>,
) -> StoredObject {
    StoredObject {
        content_type,
        cache_control,
        metadata: metadata.unwrap_or_default().into_iter().collect(),
        storage_class: storage_class.map(|class| class.as_str().to_owned()),
        kms_key,
        ..StoredObject::default()
    }
}

#[async_trait::async_trait]
impl S3 for Objects {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        self.lock().bucket(&input.bucket)?;
        let body = collect(input.body, input.checksum_crc32c.as_ref()).await?;
        let described = described(
            input.content_type,
            input.cache_control,
            input.metadata,
            input.storage_class,
            input.ssekms_key_id,
        );
        let etag = md5_of(&body);
        let mut state = self.lock();
        state.absent(&input.bucket, &input.key, input.if_none_match.as_ref())?;
        let object = StoredObject { body, etag: etag.clone(), ..described };
        state.store(&input.bucket, &input.key, object)?;
        Ok(S3Response::new(PutObjectOutput { e_tag: tag(&etag), ..Default::default() }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let mut state = self.lock();
        state.bucket(&input.bucket)?;
        state.opened += 1;
        let id = format!("upload-{}", state.opened);
        let object = described(
            input.content_type,
            input.cache_control,
            input.metadata,
            input.storage_class,
            input.ssekms_key_id,
        );
        let open = Open { bucket: input.bucket.clone(), key: input.key.clone(), object, parts: BTreeMap::new() };
        state.uploads.insert(id.clone(), open);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        self.lock().upload(&input.bucket, &input.key, &input.upload_id)?;
        let body = collect(input.body, input.checksum_crc32c.as_ref()).await?;
        let etag = md5_of(&body);
        self.lock()
            .upload(&input.bucket, &input.key, &input.upload_id)?
            .parts
            .insert(input.part_number, Held { body, md5: etag.clone() });
        Ok(S3Response::new(UploadPartOutput { e_tag: tag(&etag), ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let listed = input.multipart_upload.and_then(|listed| listed.parts).unwrap_or_default();
        let mut state = self.lock();
        let upload = state.upload(&input.bucket, &input.key, &input.upload_id)?;
        let (body, etag) = assemble(upload, &listed)?;
        let object = upload.object.clone();
        if input.checksum_crc32c.is_some_and(|crc| crc != crc_of(&body)) {
            return Err(s3_error!(BadDigest, "The CRC32C you specified did not match the calculated checksum."));
        }
        state.absent(&input.bucket, &input.key, input.if_none_match.as_ref())?;
        let object = StoredObject { body, etag: etag.clone(), parts: Some(listed.len()), ..object };
        state.store(&input.bucket, &input.key, object)?;
        state.uploads.remove(&input.upload_id);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: tag(&etag),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        let mut state = self.lock();
        state.upload(&input.bucket, &input.key, &input.upload_id)?;
        state.uploads.remove(&input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let after = input.part_number_marker.unwrap_or_default();
        let mut state = self.lock();
        let upload = state.upload(&input.bucket, &input.key, &input.upload_id)?;
        let rest: Vec<_> = upload.parts.range(after + 1..).collect();
        let page: Parts = rest.iter().take(self.page_size).map(|(number, body)| listed_part(**number, body)).collect();
        let more = rest.len() > page.len();
        let next = page.last().and_then(|part| part.part_number).filter(|_| more);
        Ok(S3Response::new(ListPartsOutput {
            parts: Some(page),
            is_truncated: Some(more),
            next_part_number_marker: next,
            ..Default::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        let after = (input.key_marker.unwrap_or_default(), input.upload_id_marker.unwrap_or_default());
        let mut state = self.lock();
        state.bucket(&input.bucket)?;
        let mut found: Vec<_> = state
            .uploads
            .iter()
            .filter(|(_, open)| open.bucket == input.bucket && open.key.starts_with(&prefix))
            .map(|(id, open)| (open.key.clone(), id.clone()))
            .filter(|upload| *upload > after)
            .collect();
        found.sort();
        let more = found.len() > self.page_size;
        found.truncate(self.page_size);
        let next = found.last().cloned().filter(|_| more);
        let uploads = found.into_iter().map(|(key, id)| MultipartUpload {
            key: Some(key),
            upload_id: Some(id),
            ..Default::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            is_truncated: Some(more),
            next_key_marker: next.clone().map(|(key, _)| key),
            next_upload_id_marker: next.map(|(_, id)| id),
            ..Default::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let object = self.existing(&input.bucket, &input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(i64::try_from(object.body.len()).unwrap()),
            e_tag: tag(&object.etag),
            checksum_crc32c: input.checksum_mode.map(|_| crc_of(&object.body)),
            content_type: object.content_type,
            cache_control: object.cache_control,
            ..Default::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let object = self.existing(&input.bucket, &input.key)?;
        let whole = object.body.len() as u64;
        let range = input.range.map(|range| range.check(whole)).transpose()?;
        let content_range = range.as_ref().map(|range| format!("bytes {}-{}/{whole}", range.start, range.end - 1));
        let body = match range {
            Some(range) => {
                object.body.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
            }
            None => object.body,
        };
        let length = i64::try_from(body.len()).unwrap();
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(length),
            content_range,
            e_tag: tag(&object.etag),
            content_type: object.content_type,
            cache_control: object.cache_control,
            body: Some(StreamingBlob::wrap(stream::iter([Ok::<_, std::io::Error>(body)]))),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let mut state = self.lock();
        let removed = state.bucket(&input.bucket)?.remove(&input.key);
        if removed.is_some() {
            state.tell(Change { key: input.key, before: removed.clone(), after: None });
        }
        if removed.is_none() && self.flavour == Flavour::Google {
            return Err(s3_error!(NoSuchKey, "The specified key does not exist."));
        }
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        let after = input.continuation_token.unwrap_or_default();
        let mut state = self.lock();
        let objects = state.bucket(&input.bucket)?;
        let found: Vec<_> = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after).collect();
        let page: Vec<_> = found.iter().take(self.page_size).map(|(key, object)| listed_object(key, object)).collect();
        let more = found.len() > page.len();
        let next = page.last().and_then(|object| object.key.clone()).filter(|_| more);
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(page.len()).ok(),
            contents: Some(page),
            is_truncated: Some(more),
            next_continuation_token: next,
            ..Default::default()
        }))
    }
}

fn listed_part(number: i32, held: &Held) -> Part {
    let body = &held.body;
    Part {
        part_number: Some(number),
        e_tag: tag(&held.md5),
        size: i64::try_from(body.len()).ok(),
        checksum_crc32c: Some(crc_of(body)),
        ..Default::default()
    }
}

fn listed_object(key: &str, object: &StoredObject) -> Object {
    Object {
        key: Some(key.to_owned()),
        size: i64::try_from(object.body.len()).ok(),
        e_tag: tag(&object.etag),
        ..Default::default()
    }
}

/// Body and tag of the object that the listed parts make.
fn assemble(upload: &Open, listed: &[CompletedPart]) -> S3Result<(Bytes, String)> {
    let (mut body, mut digests) = (BytesMut::new(), Vec::new());
    let mut before = 0;
    for (index, part) in listed.iter().enumerate() {
        let number = part.part_number.unwrap_or_default();
        if number <= before {
            return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
        }
        before = number;
        let held = upload.parts.get(&number).filter(|held| {
            let named = part.e_tag.as_ref().map(|etag| etag.value() == held.md5);
            named.unwrap_or_default() && part.checksum_crc32c.as_ref().is_none_or(|crc| *crc == crc_of(&held.body))
        });
        let Some(held) = held else {
            return Err(s3_error!(InvalidPart, "One or more of the specified parts could not be found."));
        };
        if index + 1 < listed.len() && held.body.len() < MIN_PART {
            return Err(s3_error!(EntityTooSmall, "Your proposed upload is smaller than the minimum allowed size"));
        }
        digests.extend_from_slice(&hex::decode(&held.md5).unwrap_or_default());
        body.extend_from_slice(&held.body);
    }
    if listed.is_empty() {
        return Err(s3_error!(InvalidRequest, "You must specify at least one part"));
    }
    Ok((body.freeze(), format!("{}-{}", md5_of(&digests), listed.len())))
}
