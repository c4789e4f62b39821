//! Amazon S3, servers that speak its protocol, and Google over HMAC keys.
//!
//! Checksums: towards AWS we send CRC32C of every body and of the whole object and AWS refuses what does not match.
//! Others refuse or ignore such headers (Google's XML API refuses them, R37, T2), so they get none; there the signed
//! SHA-256 of the body guards the way. The SDK's own checksums are off both ways, because its default (CRC32 trailers
//! in `aws-chunked` bodies) is what breaks Google and old servers. No ACL is ever sent (T3).
mod client;
mod failure;

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, ServerSideEncryption,
    StorageClass,
};
use bytes::Bytes;

use self::client::metadata;
use self::failure::failure;
use crate::attempt::AttemptLimit;
use crate::bucket::{Bucket, Capabilities, If, Listed, ObjectMeta, Part, Stored, Upload, UploadId};
use crate::checksum::{completed_before, crc32c_base64, crc32c_from_base64, crc32c_of_parts, made_of};
use crate::error::{Error, Kind, Secrets};
use crate::key;
use crate::open::{Credential, Dialect, Target};

/// Listing is for tests, checks and tidying up; a bucket with more below one prefix is not walked.
const MAX_LISTED: usize = 100_000;

/// S3's longest life of a presigned URL.
const MAX_PRESIGN: Duration = Duration::from_secs(7 * 24 * 3600);

/// A bucket behind the S3 protocol.
#[derive(Debug)]
pub struct S3 {
    client: Client,
    bucket: String,
    dialect: Dialect,
    storage_class: Option<StorageClass>,
    kms_key: Option<String>,
    limit: AttemptLimit,
    secrets: Secrets,
}

impl S3 {
    /// Makes a client; contacts nobody.
    pub(crate) fn open(target: Target, credential: Credential) -> Result<Self, Error> {
        let dialect = client::dialect(&target);
        let (client, secrets) = client::connect(&target, dialect, credential)?;
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self {
            client,
            dialect,
            storage_class: named(&target.storage_class).map(|class| StorageClass::from(class.as_str())),
            kms_key: named(&target.kms_key),
            bucket: target.bucket,
            limit: target.limit,
            secrets,
        })
    }

    fn aws(&self) -> bool {
        self.dialect == Dialect::Aws
    }

    /// One attempt, its secrets scrubbed from what comes back.
    async fn attempt<T, F>(&self, operation: &'static str, key: &str, bytes: u64, work: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.limit.run(operation, key, bytes, work).await.map_err(|error| error.scrubbed(&self.secrets))
    }

    /// Where the server cannot check "only if absent" itself, we look: better than nothing against a slip, no guard
    /// against a race (see [`Bucket::capabilities`]). What `parts` make is no obstacle: an earlier attempt got through.
    async fn look_before(
        &self,
        operation: &'static str,
        key: &str,
        parts: &[Part],
        condition: If,
    ) -> Result<(), Error> {
        if condition == If::Any || self.aws() || self.head(key).await?.is_none_or(|held| made_of(&held, parts)) {
            return Ok(());
        }
        Err(Error::new(operation, key, Kind::AlreadyExists, "PreconditionFailed", "there is such an object"))
    }

    /// The header that makes the server check.
    fn none_match(&self, condition: If) -> Option<String> {
        (condition == If::Absent && self.aws()).then(|| "*".to_owned())
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        self.kms_key.as_ref().map(|_| ServerSideEncryption::AwsKms)
    }
}

fn unquoted(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

fn size(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or_default()
}

fn numbered(operation: &'static str, key: &str, number: u32) -> Result<i32, Error> {
    match i32::try_from(number) {
        Ok(wire) if (1..=Capabilities::S3.max_parts).contains(&number) => Ok(wire),
        _ => {
            let message = format!("part number {number} is not within 1 and 10,000");
            Err(Error::new(operation, key, Kind::Invalid, "InvalidPartNumber", message))
        }
    }
}

#[async_trait]
impl Bucket for S3 {
    async fn put(&self, key: &str, body: Bytes, meta: &ObjectMeta, condition: If) -> Result<Stored, Error> {
        const OPERATION: &str = "put";
        key::check(OPERATION, key)?;
        self.look_before(OPERATION, key, &[], condition).await?;
        let (bytes, crc) = (body.len() as u64, crc32c::crc32c(&body));
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(&meta.content_type)
            .set_cache_control(meta.cache_control.clone())
            .set_metadata(metadata(&meta.user))
            .set_storage_class(self.storage_class.clone())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_if_none_match(self.none_match(condition))
            .set_checksum_crc32_c(self.aws().then(|| crc32c_base64(crc)))
            .body(Body::from(body));
        let reply = async { request.send().await.map_err(|error| failure(OPERATION, key, &error)) };
        let reply = self.attempt(OPERATION, key, bytes, reply).await?;
        Ok(Stored { size: bytes, etag: unquoted(reply.e_tag()), crc32c: Some(crc) })
    }

    async fn create_upload(&self, key: &str, meta: &ObjectMeta) -> Result<UploadId, Error> {
        const OPERATION: &str = "create_upload";
        key::check(OPERATION, key)?;
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .content_type(&meta.content_type)
            .set_cache_control(meta.cache_control.clone())
            .set_metadata(metadata(&meta.user))
            .set_storage_class(self.storage_class.clone())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_checksum_algorithm(self.aws().then_some(ChecksumAlgorithm::Crc32C))
            .set_checksum_type(self.aws().then_some(ChecksumType::FullObject));
        let reply = async { request.send().await.map_err(|error| failure(OPERATION, key, &error)) };
        match self.attempt(OPERATION, key, 0, reply).await?.upload_id() {
            Some(id) if !id.is_empty() => Ok(UploadId::new(id)),
            _ => Err(Error::new(OPERATION, key, Kind::Unexpected, "NoUploadId", "the answer names no upload")),
        }
    }

    async fn put_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part, Error> {
        const OPERATION: &str = "put_part";
        let (bytes, crc) = (body.len() as u64, crc32c::crc32c(&body));
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload.as_str())
            .part_number(numbered(OPERATION, key, number)?)
            .set_checksum_crc32_c(self.aws().then(|| crc32c_base64(crc)))
            .body(Body::from(body));
        let reply = async { request.send().await.map_err(|error| failure(OPERATION, key, &error)) };
        let reply = self.attempt(OPERATION, key, bytes, reply).await?;
        Ok(Part { number, size: bytes, etag: unquoted(reply.e_tag()), crc32c: Some(crc) })
    }

    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<Part>, Error> {
        const OPERATION: &str = "list_parts";
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let request = self
                .client
                .list_parts()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload.as_str())
                .set_part_number_marker(after.take());
            let reply = async { request.send().await.map_err(|error| failure(OPERATION, key, &error)) };
            let page = self.attempt(OPERATION, key, 0, reply).await?;
            parts.extend(page.parts().iter().filter_map(|part| {
                Some(Part {
                    number: part.part_number().and_then(|number| u32::try_from(number).ok())?,
                    size: size(part.size()),
                    etag: unquoted(part.e_tag()),
                    crc32c: part.checksum_crc32_c().and_then(crc32c_from_base64),
                })
            }));
            after = page.next_part_number_marker().map(str::to_owned);
            let more = page.is_truncated().unwrap_or_default() && after.is_some() && !page.parts().is_empty();
            if !more || parts.len() > MAX_LISTED {
                return Ok(parts);
            }
        }
    }

    async fn complete(&self, key: &str, upload: &UploadId, parts: &[Part], condition: If) -> Result<Stored, Error> {
        const OPERATION: &str = "complete";
        self.look_before(OPERATION, key, parts, condition).await?;
        let crc = crc32c_of_parts(parts);
        let mut listed = CompletedMultipartUpload::builder();
        for part in parts {
            let crc = part.crc32c.filter(|_| self.aws()).map(crc32c_base64);
            let number = numbered(OPERATION, key, part.number)?;
            let part = CompletedPart::builder().part_number(number).e_tag(&part.etag).set_checksum_crc32_c(crc);
            listed = listed.parts(part.build());
        }
        let whole = crc.filter(|_| self.aws()).map(crc32c_base64);
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload.as_str())
            .set_if_none_match(self.none_match(condition))
            .set_checksum_type(whole.as_ref().map(|_| ChecksumType::FullObject))
            .set_checksum_crc32_c(whole)
            .multipart_upload(listed.build());
        let reply = async { request.send().await.map_err(|error| failure(OPERATION, key, &error)) };
        let reply = match self.attempt(OPERATION, key, 0, reply).await {
            Err(gone) if gone.kind == Kind::NoSuchUpload => {
                return completed_before(self.head(key).await?, parts, gone);
            }
            reply => reply?,
        };
        // Amazon answers 200 before it is done and may put an error into the body (T1); an answer without a tag is
        // no success, whatever its status.
        match reply.e_tag() {
            Some(etag) if !etag.is_empty() => {
                let size = parts.iter().map(|part| part.size).sum();
                Ok(Stored { size, etag: unquoted(Some(etag)), crc32c: crc })
            }
            _ => {
                let message = "the answer to complete names no object";
                Err(Error::new(OPERATION, key, Kind::Unavailable, "NoETag", message).with_status(200))
            }
        }
    }

    async fn abort(&self, key: &str, upload: &UploadId) -> Result<(), Error> {
        const OPERATION: &str = "abort";
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(upload.as_str());
        let reply = async { request.send().await.map_err(|error| failure(OPERATION, key, &error)) };
        match self.attempt(OPERATION, key, 0, reply).await {
            Err(error) if error.kind != Kind::NoSuchUpload => Err(error),
            _ => Ok(()),
        }
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Upload>, Error> {
        const OPERATION: &str = "list_uploads";
        let mut uploads = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let request = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(prefix)
                .set_key_marker(key_marker.take())
                .set_upload_id_marker(id_marker.take());
            let reply = async { request.send().await.map_err(|error| failure(OPERATION, prefix, &error)) };
            let page = self.attempt(OPERATION, prefix, 0, reply).await?;
            uploads.extend(page.uploads().iter().filter_map(|upload| {
                Some(Upload { key: upload.key()?.to_owned(), id: UploadId::new(upload.upload_id()?) })
            }));
            key_marker = page.next_key_marker().map(str::to_owned);
            id_marker = page.next_upload_id_marker().map(str::to_owned);
            let more = page.is_truncated().unwrap_or_default() && key_marker.is_some() && !page.uploads().is_empty();
            if !more || uploads.len() > MAX_LISTED {
                return Ok(uploads);
            }
        }
    }

    async fn head(&self, key: &str) -> Result<Option<Stored>, Error> {
        const OPERATION: &str = "head";
        key::check(OPERATION, key)?;
        let mode = self.aws().then_some(ChecksumMode::Enabled);
        let request = self.client.head_object().bucket(&self.bucket).key(key).set_checksum_mode(mode);
        let reply = async { request.send().await.map_err(|error| failure(OPERATION, key, &error)) };
        match self.attempt(OPERATION, key, 0, reply).await {
            Ok(reply) => Ok(Some(Stored {
                size: size(reply.content_length()),
                etag: unquoted(reply.e_tag()),
                crc32c: reply.checksum_crc32_c().and_then(crc32c_from_base64),
            })),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        const OPERATION: &str = "get_range";
        key::check(OPERATION, key)?;
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            let missing = || Error::new(OPERATION, key, Kind::NotFound, "NoSuchKey", "there is no such object");
            return self.head(key).await?.map(|_| Bytes::new()).ok_or_else(missing);
        };
        let request =
            self.client.get_object().bucket(&self.bucket).key(key).range(format!("bytes={}-{last}", range.start));
        let read = async {
            let reply = request.send().await.map_err(|error| failure(OPERATION, key, &error))?;
            let body = reply.body.collect().await;
            body.map(|body| body.into_bytes())
                .map_err(|error| Error::transport(OPERATION, key, &crate::error::chain(&error)))
        };
        match self.attempt(OPERATION, key, range.end - range.start, read).await {
            Err(error) if error.code == "InvalidRange" || error.status == Some(416) => Ok(Bytes::new()),
            body => body,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        const OPERATION: &str = "delete";
        key::check(OPERATION, key)?;
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        let reply = async { request.send().await.map_err(|error| failure(OPERATION, key, &error)) };
        match self.attempt(OPERATION, key, 0, reply).await {
            // Amazon answers 204 for what is not there, Google 404.
            Err(error) if error.kind != Kind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        const OPERATION: &str = "list";
        let mut objects = Vec::new();
        let mut token = None;
        loop {
            let request =
                self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).set_continuation_token(token.take());
            let reply = async { request.send().await.map_err(|error| failure(OPERATION, prefix, &error)) };
            let page = self.attempt(OPERATION, prefix, 0, reply).await?;
            objects.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| Some(Listed { key: object.key()?.to_owned(), size: size(object.size()) })),
            );
            if objects.len() > MAX_LISTED {
                return Err(Error::new(
                    OPERATION,
                    prefix,
                    Kind::Invalid,
                    "TooManyObjects",
                    "more than 100,000 objects",
                ));
            }
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() || page.contents().is_empty() {
                return Ok(objects);
            }
        }
    }

    async fn presign(&self, key: &str, ttl: Duration) -> Result<String, Error> {
        const OPERATION: &str = "presign";
        key::check(OPERATION, key)?;
        let config = PresigningConfig::expires_in(ttl.min(MAX_PRESIGN))
            .map_err(|error| Error::new(OPERATION, key, Kind::Invalid, "InvalidExpiry", error))?;
        let request = self.client.get_object().bucket(&self.bucket).key(key).presigned(config).await;
        request
            .map(|request| request.uri().to_owned())
            .map_err(|error| failure(OPERATION, key, &error).scrubbed(&self.secrets))
    }

    fn uri(&self, key: &str) -> String {
        let scheme = if self.dialect == Dialect::Google { "gs" } else { "s3" };
        format!("{scheme}://{}/{key}", self.bucket)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { conditional_put: self.aws(), conditional_commit: self.aws(), ..Capabilities::S3 }
    }
}
