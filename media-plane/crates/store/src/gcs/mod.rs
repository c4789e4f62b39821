//! Google Cloud Storage with a service account, over its JSON API.
//!
//! Whole objects and streams go through Google's own client. Its uploads cannot be resumed by another process though,
//! and its control client is gRPC only, so uploads by parts (as resumable sessions, see [`session`]) and the small
//! operations speak the same JSON API directly.
mod failure;
mod json;
mod session;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use google_cloud_auth::credentials::service_account::{AccessSpecifier, Builder as ServiceAccount};
use google_cloud_auth::signer::Signer;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::builder::storage::{SignedUrlBuilder, WriteObject};
use google_cloud_storage::client::Storage;
use google_cloud_storage::model::Object;
use google_cloud_storage::streaming_source::StreamingSource;

use self::failure::client_failure;
use self::json::Json;
use self::session::Session;
use crate::attempt::AttemptLimit;
use crate::bucket::{Bucket, ByteStream, Capabilities, If, Listed, ObjectMeta, Part, Stored, Upload, UploadId};
use crate::checksum::{completed_before, made_of};
use crate::error::{Error, Kind, Secrets};
use crate::key;
use crate::open::{Credential, Target};

/// All that reading and writing objects needs, and no more.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// Google's own endpoint.
const GOOGLE: &str = "https://storage.googleapis.com";

/// What Google's client sends at once of a stream; a multiple of 256 KiB.
const STREAM_CHUNK: usize = 8 << 20;

/// Google's longest life of a signed URL.
const MAX_PRESIGN: Duration = Duration::from_secs(7 * 24 * 3600);

/// A bucket behind Google's JSON API.
#[derive(Debug)]
pub struct Gcs {
    client: Storage,
    json: Json,
    signer: Signer,
    bucket: String,
    endpoint: Option<String>,
    storage_class: String,
    kms_key: String,
    limit: AttemptLimit,
    secrets: Secrets,
    sessions: Mutex<HashMap<UploadId, Arc<tokio::sync::Mutex<Session>>>>,
}

impl Gcs {
    /// Makes a client; contacts nobody.
    pub(crate) async fn open(target: Target, credential: Credential) -> Result<Self, Error> {
        let Credential::ServiceAccountJson(text) = credential else {
            return Err(wrong(&target, "MissingCredentials", "the key file of a service account is needed"));
        };
        let secrets = secrets(&text);
        Self::build(target, &text, secrets.clone()).await.map_err(|error| error.scrubbed(&secrets))
    }

    async fn build(target: Target, text: &str, secrets: Secrets) -> Result<Self, Error> {
        if target.bucket.is_empty() {
            return Err(wrong(&target, "InvalidBucketName", "no bucket is named"));
        }
        // Without the parser's words, which quote what they could not read.
        let key: serde_json::Value = serde_json::from_str(text)
            .map_err(|_| wrong(&target, "InvalidCredentials", "the service account's key is not JSON"))?;
        let account = || ServiceAccount::new(key.clone()).with_access_specifier(AccessSpecifier::from_scopes([SCOPE]));
        let unusable = |_| wrong(&target, "InvalidCredentials", "the service account's key is not usable");
        let credentials = account().build().map_err(unusable)?;
        let signer = account().build_signer().map_err(unusable)?;
        let endpoint = match target.endpoint.trim_end_matches('/') {
            "" => None,
            own if own.starts_with("http://") || own.starts_with("https://") => Some(own.to_owned()),
            _ => return Err(wrong(&target, "InvalidEndpoint", "the endpoint must begin with http:// or https://")),
        };
        let mut client = Storage::builder()
            .with_credentials(credentials.clone())
            .with_retry_policy(NeverRetry)
            .with_resumable_upload_buffer_size(STREAM_CHUNK);
        if let Some(endpoint) = &endpoint {
            client = client.with_endpoint(endpoint);
        }
        let client =
            client.build().await.map_err(|error| wrong(&target, "InvalidTarget", &crate::error::chain(&error)))?;
        let base = endpoint.clone().unwrap_or_else(|| GOOGLE.to_owned());
        Ok(Self {
            client,
            json: Json::new(base, &target.bucket, credentials)?,
            signer,
            bucket: target.bucket,
            endpoint,
            storage_class: target.storage_class,
            kms_key: target.kms_key,
            limit: target.limit,
            secrets,
            sessions: Mutex::default(),
        })
    }

    /// One attempt, its secrets scrubbed from what comes back.
    async fn attempt<T, F>(&self, operation: &'static str, key: &str, bytes: u64, work: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.limit.run(operation, key, bytes, work).await.map_err(|error| error.scrubbed(&self.secrets))
    }

    /// A write through Google's client with everything set but its body.
    fn write<P>(&self, key: &str, body: P, meta: &ObjectMeta, condition: If) -> WriteObject<P>
    where
        P: StreamingSource + Send + Sync + 'static,
    {
        let bucket = format!("projects/_/buckets/{}", self.bucket);
        let mut write = self.client.write_object(bucket, key, body).set_content_type(&meta.content_type);
        if let Some(cache_control) = &meta.cache_control {
            write = write.set_cache_control(cache_control);
        }
        if !meta.user.is_empty() {
            write = write.set_metadata(&meta.user);
        }
        if !self.storage_class.is_empty() {
            write = write.set_storage_class(&self.storage_class);
        }
        if !self.kms_key.is_empty() {
            write = write.set_kms_key(&self.kms_key);
        }
        if condition == If::Absent {
            write = write.set_if_generation_match(0_i64);
        }
        write
    }

    /// What this process knows of an upload; nothing for one that another process began.
    fn session(&self, upload: &UploadId) -> Arc<tokio::sync::Mutex<Session>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sessions.entry(upload.clone()).or_default())
    }

    fn forget(&self, upload: &UploadId) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(upload);
    }
}

fn wrong(target: &Target, code: &str, message: &str) -> Error {
    Error::new("open", &target.bucket, Kind::Misconfigured, code, message)
}

/// The private key and each of its lines.
fn secrets(text: &str) -> Secrets {
    let key = serde_json::from_str::<serde_json::Value>(text).ok();
    let private = key.as_ref().and_then(|key| key.get("private_key")).and_then(|key| key.as_str()).unwrap_or_default();
    let lines = private.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned);
    Secrets::new(lines.chain([text.to_owned()]))
}

fn stored(operation: &'static str, key: &str, object: &Object, expected: u64, crc: u32) -> Result<Stored, Error> {
    let theirs = object.checksums.as_ref().and_then(|checksums| checksums.crc32c);
    let size = u64::try_from(object.size).unwrap_or_default();
    if size != expected || theirs.is_some_and(|theirs| theirs != crc) {
        let message = format!("the stored object differs from what was sent ({size} of {expected} bytes)");
        return Err(Error::new(operation, key, Kind::Corrupted, "ChecksumMismatch", message));
    }
    Ok(Stored { size, etag: object.etag.trim_matches('"').to_owned(), crc32c: theirs.or(Some(crc)) })
}

#[async_trait]
impl Bucket for Gcs {
    async fn put(&self, key: &str, body: Bytes, meta: &ObjectMeta, condition: If) -> Result<Stored, Error> {
        const OPERATION: &str = "put";
        key::check(OPERATION, key)?;
        let (bytes, crc) = (body.len() as u64, crc32c::crc32c(&body));
        let body = Whole(Some(body));
        // Held in memory already, so one request whatever its size.
        let write =
            self.write(key, body, meta, condition).with_known_crc32c(crc).with_resumable_upload_threshold(usize::MAX);
        let sent = async { write.send_buffered().await.map_err(|error| client_failure(OPERATION, key, &error)) };
        let object = self.attempt(OPERATION, key, bytes, sent).await?;
        stored(OPERATION, key, &object, bytes, crc)
    }

    async fn create_upload(&self, key: &str, meta: &ObjectMeta) -> Result<UploadId, Error> {
        const OPERATION: &str = "create_upload";
        key::check(OPERATION, key)?;
        let opened = self.json.open_session(OPERATION, key, meta, &self.storage_class, &self.kms_key);
        let upload = self.attempt(OPERATION, key, 0, opened).await?;
        *self.session(&upload).lock().await = Session::fresh();
        Ok(upload)
    }

    async fn put_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part, Error> {
        const OPERATION: &str = "put_part";
        let bytes = body.len() as u64;
        let session = self.session(upload);
        let sent = async { session.lock().await.put_part(&self.json, key, upload, number, body).await };
        self.attempt(OPERATION, key, bytes, sent).await
    }

    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<Part>, Error> {
        let session = self.session(upload);
        let asked = async { session.lock().await.list_parts(&self.json, key, upload).await };
        let parts = self.attempt("list_parts", key, 0, asked).await;
        if parts.as_ref().is_err_and(|error| error.kind == Kind::NoSuchUpload) {
            self.forget(upload);
        }
        parts
    }

    async fn complete(&self, key: &str, upload: &UploadId, parts: &[Part], condition: If) -> Result<Stored, Error> {
        const OPERATION: &str = "complete";
        // A session's condition is fixed when it is opened, when ours is not known yet.
        if condition == If::Absent && self.head(key).await?.is_some_and(|held| !made_of(&held, parts)) {
            let message = "there is such an object";
            return Err(Error::new(OPERATION, key, Kind::AlreadyExists, "conditionNotMet", message));
        }
        let session = self.session(upload);
        let sent = async { session.lock().await.complete(&self.json, key, upload, parts).await };
        match self.attempt(OPERATION, key, 0, sent).await {
            Err(gone) if gone.kind == Kind::NoSuchUpload => {
                self.forget(upload);
                completed_before(self.head(key).await?, parts, gone)
            }
            Err(error) => Err(error),
            Ok(stored) => {
                self.forget(upload);
                Ok(stored)
            }
        }
    }

    async fn compose(&self, key: &str, sources: &[String], meta: &ObjectMeta) -> Result<Stored, Error> {
        const OPERATION: &str = "compose";
        key::check(OPERATION, key)?;
        let joined = self.json.compose(OPERATION, key, sources, meta, &self.storage_class, &self.kms_key);
        self.attempt(OPERATION, key, 0, joined).await
    }

    async fn abort(&self, key: &str, upload: &UploadId) -> Result<(), Error> {
        self.attempt("abort", key, 0, self.json.close_session("abort", key, upload)).await?;
        self.forget(upload);
        Ok(())
    }

    async fn list_uploads(&self, _prefix: &str) -> Result<Vec<Upload>, Error> {
        // Google lists no resumable sessions; they end by themselves after a week and cost nothing.
        Ok(Vec::new())
    }

    async fn head(&self, key: &str) -> Result<Option<Stored>, Error> {
        key::check("head", key)?;
        self.attempt("head", key, 0, self.json.head("head", key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        const OPERATION: &str = "get_range";
        key::check(OPERATION, key)?;
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            let missing = || Error::new(OPERATION, key, Kind::NotFound, "notFound", "there is no such object");
            return self.head(key).await?.map(|_| Bytes::new()).ok_or_else(missing);
        };
        let read = self.json.read(OPERATION, key, range.start, last);
        self.attempt(OPERATION, key, range.end - range.start, read).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        key::check("delete", key)?;
        self.attempt("delete", key, 0, self.json.delete("delete", key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let mut objects = Vec::new();
        let mut token = None;
        loop {
            let page = self.json.list("list", prefix, token.as_deref());
            token = self.attempt("list", prefix, 0, page).await?.append_to(&mut objects);
            if objects.len() > json::MAX_LISTED {
                return Err(Error::new("list", prefix, Kind::Invalid, "TooManyObjects", "more than 100,000 objects"));
            }
            if token.is_none() {
                return Ok(objects);
            }
        }
    }

    async fn presign(&self, key: &str, ttl: Duration) -> Result<String, Error> {
        const OPERATION: &str = "presign";
        key::check(OPERATION, key)?;
        let bucket = format!("projects/_/buckets/{}", self.bucket);
        let mut url = SignedUrlBuilder::for_object(bucket, key).with_expiration(ttl.min(MAX_PRESIGN));
        if let Some(endpoint) = &self.endpoint {
            url = url.with_endpoint(endpoint);
        }
        url.sign_with(&self.signer)
            .await
            .map_err(|error| Error::new(OPERATION, key, Kind::Invalid, "SigningFailed", crate::error::chain(&error)))
            .map_err(|error| error.scrubbed(&self.secrets))
    }

    fn uri(&self, key: &str) -> String {
        format!("gs://{}/{key}", self.bucket)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_commit: false,
            parts_in_any_order: false,
            lists_uploads: false,
            composes: true,
            min_part: session::QUANTUM,
            max_parts: u32::MAX,
            ..Capabilities::S3
        }
    }

    /// Through Google's client, which sends the stream as one resumable upload.
    async fn upload_stream(
        &self,
        key: &str,
        body: ByteStream,
        meta: &ObjectMeta,
        _part_size: u64,
        condition: If,
    ) -> Result<Stored, Error> {
        const OPERATION: &str = "upload_stream";
        key::check(OPERATION, key)?;
        let progress = Arc::new(Mutex::new(Progress::default()));
        let source = Source { body: Mutex::new(body), progress: Arc::clone(&progress) };
        let write = self.write(key, source, meta, condition);
        // The limit is for one chunk: a stream lasts as long as its source.
        let stalled = progress_stalls(&progress, self.limit.for_bytes(2 * STREAM_CHUNK as u64));
        let object = tokio::select! {
            sent = write.send_buffered() => sent.map_err(|error| {
                let failed = progress.lock().unwrap_or_else(PoisonError::into_inner).failed.take();
                match failed {
                    Some(words) => Error::new(OPERATION, key, Kind::Source, "SourceFailed", words),
                    None => client_failure(OPERATION, key, &error).scrubbed(&self.secrets),
                }
            })?,
            () = stalled => {
                let message = "the stream makes no progress";
                return Err(Error::new(OPERATION, key, Kind::Timeout, "Timeout", message));
            }
        };
        let (bytes, crc) = {
            let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            (progress.bytes, progress.crc)
        };
        stored(OPERATION, key, &object, bytes, crc)
    }
}

/// A body that is there already.
struct Whole(Option<Bytes>);

impl StreamingSource for Whole {
    type Error = std::io::Error;

    async fn next(&mut self) -> Option<Result<Bytes, Self::Error>> {
        self.0.take().map(Ok)
    }

    async fn size_hint(&self) -> Result<google_cloud_storage::streaming_source::SizeHint, Self::Error> {
        let length = self.0.as_ref().map_or(0, Bytes::len);
        Ok(google_cloud_storage::streaming_source::SizeHint::with_exact(length as u64))
    }
}

/// What has been taken from a stream so far.
#[derive(Debug, Default)]
struct Progress {
    bytes: u64,
    crc: u32,
    ended: bool,
    failed: Option<String>,
}

/// A stream as Google's client takes it.
struct Source {
    /// Behind a lock only because the client wants its sources `Sync`.
    body: Mutex<ByteStream>,
    progress: Arc<Mutex<Progress>>,
}

impl StreamingSource for Source {
    type Error = std::io::Error;

    async fn next(&mut self) -> Option<Result<Bytes, Self::Error>> {
        let next = self.body.get_mut().unwrap_or_else(PoisonError::into_inner).next().await;
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match &next {
            Some(Ok(bytes)) => {
                progress.bytes += bytes.len() as u64;
                progress.crc = crc32c::crc32c_append(progress.crc, bytes);
            }
            Some(Err(error)) => progress.failed = Some(error.to_string()),
            None => progress.ended = true,
        }
        next
    }
}

/// Ends when nothing was taken from the stream for that long.
async fn progress_stalls(progress: &Mutex<Progress>, limit: Duration) {
    let mark = || {
        let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        (progress.bytes, progress.ended)
    };
    let mut before = mark();
    loop {
        tokio::time::sleep(limit).await;
        let now = mark();
        if now == before {
            return;
        }
        before = now;
    }
}
