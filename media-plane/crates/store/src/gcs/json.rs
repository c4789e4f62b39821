//! The requests of Google's JSON API that its own client does not offer, and their answers.
use bytes::Bytes;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Map, Value, json};

use super::failure::{answered, no_token, unanswered};
use crate::bucket::{Listed, ObjectMeta, Stored, UploadId};
use crate::checksum::{crc32c_base64, crc32c_from_base64};
use crate::error::{Error, Kind};
use crate::key::percent_encode;

/// See [`crate::Bucket::list`].
pub(super) const MAX_LISTED: usize = 100_000;

/// Answers are small documents; a larger one is not Google's.
const MAX_ANSWER: usize = 8 << 20;

/// A bucket's requests.
#[derive(Debug)]
pub(super) struct Json {
    http: Client,
    base: String,
    bucket: String,
    credentials: Credentials,
}

/// How far a resumable session is.
#[derive(Debug)]
pub(super) enum Progress {
    /// So many bytes are safe at Google.
    Holds(u64),
    /// The object exists.
    Done(Stored),
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct Page {
    objects: Vec<Listed>,
    next: Option<String>,
}

impl Page {
    /// Adds the objects, returns the token of the next page.
    pub(super) fn append_to(self, objects: &mut Vec<Listed>) -> Option<String> {
        // A page without objects that promises more could go on forever.
        let next = self.next.filter(|_| !self.objects.is_empty());
        objects.extend(self.objects);
        next
    }
}

impl Json {
    pub(super) fn new(base: String, bucket: &str, credentials: Credentials) -> Result<Self, Error> {
        let failed = |error| Error::new("open", bucket, Kind::Unexpected, "NoHttpClient", error);
        // Redirects would carry the token elsewhere; 308 means "go on" here.
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build().map_err(failed)?;
        Ok(Self { http, base, bucket: bucket.to_owned(), credentials })
    }

    fn object_url(&self, key: &str) -> String {
        let (bucket, object) = (percent_encode(&self.bucket, b""), percent_encode(key, b""));
        format!("{}/storage/v1/b/{bucket}/o/{object}", self.base)
    }

    async fn request(
        &self,
        operation: &'static str,
        key: &str,
        method: Method,
        url: &str,
    ) -> Result<RequestBuilder, Error> {
        let token = self.credentials.headers(Default::default()).await;
        let headers: HeaderMap = match token.map_err(|error| no_token(operation, key, &error))? {
            CacheableResource::New { data, .. } => data,
            // Only an answer to a caller that names the token it has, which we do not.
            CacheableResource::NotModified => HeaderMap::new(),
        };
        Ok(self.http.request(method, url).headers(headers))
    }

    pub(super) async fn head(&self, operation: &'static str, key: &str) -> Result<Option<Stored>, Error> {
        let request = self.request(operation, key, Method::GET, &self.object_url(key)).await?;
        match send(operation, key, request).await {
            Ok(answer) => Ok(Some(stored(operation, key, &document(operation, key, answer).await?)?)),
            Err(error) if error.status == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn read(&self, operation: &'static str, key: &str, first: u64, last: u64) -> Result<Bytes, Error> {
        let request = self.request(operation, key, Method::GET, &self.object_url(key)).await?;
        let request = request.query(&[("alt", "media")]).header(RANGE, format!("bytes={first}-{last}"));
        match send(operation, key, request).await {
            Ok(answer) => bounded(operation, key, answer, last - first + 1).await,
            Err(error) if error.status == Some(416) => Ok(Bytes::new()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete(&self, operation: &'static str, key: &str) -> Result<(), Error> {
        let request = self.request(operation, key, Method::DELETE, &self.object_url(key)).await?;
        match send(operation, key, request).await {
            Err(error) if error.status != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) async fn list(&self, operation: &'static str, prefix: &str, token: Option<&str>) -> Result<Page, Error> {
        let url = format!("{}/storage/v1/b/{}/o", self.base, percent_encode(&self.bucket, b""));
        let mut request = self.request(operation, prefix, Method::GET, &url).await?.query(&[("prefix", prefix)]);
        if let Some(token) = token {
            request = request.query(&[("pageToken", token)]);
        }
        let page = document(operation, prefix, send(operation, prefix, request).await?).await?;
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let objects = items.iter().filter_map(|item| {
            Some(Listed { key: item.get("name")?.as_str()?.to_owned(), size: number(item.get("size")?)? })
        });
        let next = page.get("nextPageToken").and_then(Value::as_str).map(str::to_owned);
        Ok(Page { objects: objects.collect(), next })
    }

    pub(super) async fn open_session(
        &self,
        operation: &'static str,
        key: &str,
        meta: &ObjectMeta,
        storage_class: &str,
        kms_key: &str,
    ) -> Result<UploadId, Error> {
        let url = format!("{}/upload/storage/v1/b/{}/o", self.base, percent_encode(&self.bucket, b""));
        let mut request = self.request(operation, key, Method::POST, &url).await?;
        request = request.query(&[("uploadType", "resumable"), ("name", key)]);
        if !kms_key.is_empty() {
            request = request.query(&[("kmsKeyName", kms_key)]);
        }
        let resource = resource(key, meta, storage_class);
        let request = request.header(CONTENT_TYPE, "application/json").body(resource.to_string());
        let answer = send(operation, key, request).await?;
        match answer.headers().get(LOCATION).and_then(|location| location.to_str().ok()) {
            Some(location) => Ok(UploadId::new(location)),
            None => Err(Error::new(operation, key, Kind::Unexpected, "NoSession", "the answer names no session")),
        }
    }

    /// Asks how far a session is.
    pub(super) async fn session_progress(
        &self,
        operation: &'static str,
        key: &str,
        session: &UploadId,
    ) -> Result<Progress, Error> {
        self.send_chunk(operation, key, session, "bytes */*".to_owned(), Bytes::new(), None).await
    }

    /// Sends bytes from `offset`; `end` is the whole size when these are the last ones.
    pub(super) async fn send_bytes(
        &self,
        operation: &'static str,
        key: &str,
        session: &UploadId,
        offset: u64,
        body: Bytes,
        end: Option<(u64, Option<u32>)>,
    ) -> Result<Progress, Error> {
        let total = end.map_or_else(|| "*".to_owned(), |(size, _)| size.to_string());
        let range = match (offset + body.len() as u64).checked_sub(1).filter(|_| !body.is_empty()) {
            Some(last) => format!("bytes {offset}-{last}/{total}"),
            None => format!("bytes */{total}"),
        };
        self.send_chunk(operation, key, session, range, body, end.and_then(|(_, crc)| crc)).await
    }

    async fn send_chunk(
        &self,
        operation: &'static str,
        key: &str,
        session: &UploadId,
        range: String,
        body: Bytes,
        crc: Option<u32>,
    ) -> Result<Progress, Error> {
        let mut request = self.request(operation, key, Method::PUT, session.as_str()).await?;
        request = request.header(CONTENT_RANGE, range).header(CONTENT_LENGTH, body.len());
        if let Some(crc) = crc {
            request = request.header("x-goog-hash", format!("crc32c={}", crc32c_base64(crc)));
        }
        let answer = request.body(body).send().await.map_err(|error| unanswered(operation, key, &error))?;
        if answer.status().as_u16() == 308 {
            let held = answer.headers().get(RANGE).and_then(|range| range.to_str().ok());
            let last = held.and_then(|range| range.rsplit('-').next()).and_then(|last| last.parse::<u64>().ok());
            return Ok(Progress::Holds(last.map_or(0, |last| last.saturating_add(1))));
        }
        let object = document(operation, key, checked(operation, key, answer).await?).await?;
        Ok(Progress::Done(stored(operation, key, &object)?))
    }

    /// Joins objects to one.
    pub(super) async fn compose(
        &self,
        operation: &'static str,
        key: &str,
        sources: &[String],
        meta: &ObjectMeta,
        storage_class: &str,
        kms_key: &str,
    ) -> Result<Stored, Error> {
        let url = format!("{}/compose", self.object_url(key));
        let mut request = self.request(operation, key, Method::POST, &url).await?;
        if !kms_key.is_empty() {
            request = request.query(&[("kmsKeyName", kms_key)]);
        }
        let sources: Vec<Value> = sources.iter().map(|name| json!({ "name": name })).collect();
        let body = json!({ "sourceObjects": sources, "destination": resource(key, meta, storage_class) });
        let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        stored(operation, key, &document(operation, key, send(operation, key, request).await?).await?)
    }

    pub(super) async fn close_session(
        &self,
        operation: &'static str,
        key: &str,
        session: &UploadId,
    ) -> Result<(), Error> {
        let request = self.request(operation, key, Method::DELETE, session.as_str()).await?;
        match send(operation, key, request.header(CONTENT_LENGTH, 0)).await {
            // 499 is how Google says "cancelled"; a session that was completed or forgotten cannot be cancelled.
            Err(error) if !matches!(error.status, Some(400 | 404 | 410 | 499)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// An object's description for the JSON API.
fn resource(key: &str, meta: &ObjectMeta, storage_class: &str) -> Value {
    let mut resource =
        Map::from_iter([("name".to_owned(), json!(key)), ("contentType".to_owned(), json!(meta.content_type))]);
    if let Some(cache_control) = &meta.cache_control {
        resource.insert("cacheControl".to_owned(), json!(cache_control));
    }
    if !meta.user.is_empty() {
        resource.insert("metadata".to_owned(), json!(meta.user));
    }
    if !storage_class.is_empty() {
        resource.insert("storageClass".to_owned(), json!(storage_class));
    }
    Value::Object(resource)
}

/// 64-bit numbers come as strings.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn stored(operation: &'static str, key: &str, object: &Value) -> Result<Stored, Error> {
    let size = object.get("size").and_then(number);
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    match size {
        Some(size) => Ok(Stored {
            size,
            etag: text("etag").unwrap_or_default().trim_matches('"').to_owned(),
            crc32c: text("crc32c").and_then(crc32c_from_base64),
        }),
        None => Err(Error::new(operation, key, Kind::Unexpected, "UnreadableAnswer", "the answer is no object")),
    }
}

async fn send(operation: &'static str, key: &str, request: RequestBuilder) -> Result<Response, Error> {
    let answer = request.send().await.map_err(|error| unanswered(operation, key, &error))?;
    checked(operation, key, answer).await
}

async fn checked(operation: &'static str, key: &str, answer: Response) -> Result<Response, Error> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = bounded(operation, key, answer, MAX_ANSWER as u64).await.unwrap_or_default();
    Err(answered(operation, key, status.as_u16(), &body))
}

async fn document(operation: &'static str, key: &str, answer: Response) -> Result<Value, Error> {
    let body = bounded(operation, key, answer, MAX_ANSWER as u64).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::new(operation, key, Kind::Unexpected, "UnreadableAnswer", error))
}

/// A body of at most `limit` bytes: a server that sends more than was asked for must not fill memory.
async fn bounded(operation: &'static str, key: &str, mut answer: Response, limit: u64) -> Result<Bytes, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unanswered(operation, key, &error))? {
        body.extend_from_slice(&chunk);
        if body.len() as u64 > limit {
            return Err(Error::new(operation, key, Kind::Unexpected, "TooLong", "more bytes came than were asked for"));
        }
    }
    Ok(body.into())
}
