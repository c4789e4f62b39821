//! Google Cloud Storage's JSON API: tokens checked, objects in memory, resumable uploads with all their rules.
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::faults::{Fault, Faults};
use super::gcs_account::Account;
use super::gcs_objects::{Chunk, Objects, Refusal};
use super::serve::{Server, listen};
use super::{BUCKET, StoredObject};

/// Larger than any body that tests send.
const MAX_BODY: usize = 256 << 20;

/// A running server with one bucket, [`BUCKET`], and one service account.
///
/// Operations have S3's names in [`Faults`]; a resumable upload's are `CreateMultipartUpload`, `UploadPart` (also the
/// last chunk and the question how far it is), `AbortMultipartUpload`; joining objects is `ComposeObject`.
#[derive(Debug)]
pub struct GcsServer {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    objects: Objects,
    faults: Faults,
    account: Account,
    /// Sessions are named by it: Google's client leaves the port out of its `Host` header.
    base: OnceLock<String>,
}

impl GcsServer {
    /// With a new account.
    pub async fn start() -> Self {
        let (objects, faults) = (Objects::default(), Faults::default());
        let shared = Arc::new(Shared { objects, faults, account: Account::new(), base: OnceLock::new() });
        shared.objects.create_bucket(BUCKET);
        let front = Arc::clone(&shared);
        let server = listen(move |request| answer(request, Arc::clone(&front))).await;
        let _ = shared.base.set(format!("http://{}", server.address));
        Self { server, shared }
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The account's key file.
    pub fn service_account_json(&self) -> String {
        self.shared.account.json()
    }

    /// Faults and counters.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// One more bucket.
    pub fn create_bucket(&self, name: &str) {
        self.shared.objects.create_bucket(name);
    }

    /// An object of [`BUCKET`] without going through the protocol.
    pub fn object(&self, key: &str) -> Option<StoredObject> {
        self.shared.objects.object(BUCKET, key).ok().map(|(object, _)| object)
    }

    /// Keys in [`BUCKET`].
    pub fn keys(&self) -> Vec<String> {
        self.shared.objects.list(BUCKET, "", "", usize::MAX).map(|(page, _)| page).unwrap_or_default()
    }

    /// Removes an object without going through the protocol.
    pub fn forget(&self, key: &str) {
        let _ = self.shared.objects.delete(BUCKET, key);
    }

    /// Resumable sessions that were neither finished nor cancelled.
    pub fn open_uploads(&self) -> usize {
        self.shared.objects.open_sessions()
    }
}

/// A request taken apart.
struct Call {
    path: Vec<String>,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
    base: String,
}

impl Call {
    fn query(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

async fn answer(request: Request<Body>, shared: Arc<Shared>) -> Option<Response<Body>> {
    let (parts, body) = request.into_parts();
    let host = parts.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let query_text = parts.uri.query().unwrap_or_default();
    let path: Vec<String> = parts.uri.path().trim_start_matches('/').split('/').map(decode).collect();
    let query: BTreeMap<String, String> = query_text
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(&value.replace('+', " "))))
        .collect();
    let operation = operation(&parts.method, &path, &query);
    let fault = shared.faults.meet(operation, parts.headers.keys().map(|name| name.as_str()));
    match &fault {
        Some(Fault::DropRequest) => return None,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Answer { status, code, message }) => {
            return Some(error(&Refusal { status: *status, reason: code, message: (*message).to_owned() }));
        }
        _ => {}
    }
    let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let signed_url = operation == "GetSigned" && shared.account.accepts_url(&host, parts.uri.path(), query_text);
    if !signed_url && !shared.account.accepts_token(authorization) {
        return Some(error(&Refusal::new(401, "authError", "Invalid Credentials")));
    }
    let body = to_bytes(body, MAX_BODY).await.ok()?;
    if let Some(Fault::Delay(time)) = &fault {
        tokio::time::sleep(*time).await;
    }
    let base = shared.base.get().cloned().unwrap_or_default();
    let call = Call { path, query, headers: parts.headers, body, base };
    let half = fault == Some(Fault::HalfChunk);
    let response = route(&call, operation, &shared.objects, half).unwrap_or_else(|refusal| error(&refusal));
    (fault != Some(Fault::DropReply)).then_some(response)
}

fn operation(method: &Method, path: &[String], query: &BTreeMap<String, String>) -> &'static str {
    let first = path.first().map(String::as_str).unwrap_or_default();
    let resumable = query.contains_key("upload_id");
    match (method, first, path.len()) {
        (&Method::PUT, "upload", _) if resumable => "UploadPart",
        (&Method::DELETE, "upload", _) if resumable => "AbortMultipartUpload",
        (&Method::POST, "upload", _) if query.get("uploadType").is_some_and(|kind| kind == "resumable") => {
            "CreateMultipartUpload"
        }
        (&Method::POST, "upload", _) => "PutObject",
        (&Method::POST, "storage", 7) if path.last().is_some_and(|last| last == "compose") => "ComposeObject",
        (&Method::GET, "storage", 5) => "ListObjectsV2",
        (&Method::GET, "storage", _) if query.get("alt").is_some_and(|alt| alt == "media") => "GetObject",
        (&Method::GET, "storage", _) => "HeadObject",
        (&Method::DELETE, "storage", _) => "DeleteObject",
        (&Method::GET, _, _) if query.contains_key("X-Goog-Signature") => "GetSigned",
        _ => "Other",
    }
}

/// `/storage/v1/b/{bucket}/o[/{object}]` and `/upload/storage/v1/b/{bucket}/o`; the object is one segment.
fn route(call: &Call, operation: &str, objects: &Objects, half: bool) -> Result<Response<Body>, Refusal> {
    let at = |index: usize| call.path.get(index).map(String::as_str).unwrap_or_default();
    match operation {
        "PutObject" => put(call, at(4), objects),
        "CreateMultipartUpload" => {
            let resource: Value = serde_json::from_slice(&call.body).unwrap_or_default();
            let id = objects.open_session(at(4), call.query("name"), &resource, condition(call))?;
            let url = format!("{}/upload/storage/v1/b/{}/o?uploadType=resumable&upload_id={id}", call.base, at(4));
            Ok(Response::builder().header("location", url).body(Body::empty()).unwrap())
        }
        "UploadPart" => chunk(call, objects, half),
        "AbortMultipartUpload" => {
            objects.cancel_session(call.query("upload_id"))?;
            Ok(Response::builder().status(499).body(Body::empty()).unwrap())
        }
        "ListObjectsV2" => {
            let limit = call.query("maxResults").parse().unwrap_or(1000);
            let (names, next) = objects.list(at(3), call.query("prefix"), call.query("pageToken"), limit)?;
            let described = |name: &String| objects.object(at(3), name).map(|_| objects.describe(at(3), name));
            let items: Vec<Value> = names.iter().flat_map(described).flatten().collect();
            Ok(document(&json!({"kind": "storage#objects", "items": items, "nextPageToken": next})))
        }
        "HeadObject" => Ok(document(&objects.describe(at(3), at(5))?)),
        "GetObject" => media(call, &objects.object(at(3), at(5))?.0),
        "ComposeObject" => {
            let request: Value = serde_json::from_slice(&call.body).unwrap_or_default();
            let sources = request["sourceObjects"].as_array().cloned().unwrap_or_default();
            let names: Vec<&str> = sources.iter().filter_map(|source| source["name"].as_str()).collect();
            objects.compose(at(3), at(5), &names, &request["destination"], condition(call))?;
            Ok(document(&objects.describe(at(3), at(5))?))
        }
        "GetSigned" => media(call, &objects.object(at(0), &call.path[1..].join("/"))?.0),
        "DeleteObject" => {
            objects.delete(at(3), at(5))?;
            Ok(Response::builder().status(204).body(Body::empty()).unwrap())
        }
        _ => Err(Refusal::new(501, "notImplemented", "This emulator has no such operation.")),
    }
}

fn condition(call: &Call) -> Option<i64> {
    call.query("ifGenerationMatch").parse().ok()
}

/// `uploadType=media`, or `multipart/related` with a description first.
fn put(call: &Call, bucket: &str, objects: &Objects) -> Result<Response<Body>, Refusal> {
    let malformed = || Refusal::new(400, "badRequest", "Malformed multipart body.");
    let (resource, body) = match call.query("uploadType") {
        "media" => (json!({"contentType": call.header("content-type")}), call.body.clone()),
        "multipart" => {
            let boundary = call.header("content-type").split("boundary=").nth(1).ok_or_else(malformed)?;
            related(&call.body, boundary.trim_matches('"')).ok_or_else(malformed)?
        }
        _ => return Err(Refusal::new(400, "badRequest", "Unknown upload type.")),
    };
    let name =
        if call.query("name").is_empty() { resource["name"].as_str().unwrap_or_default() } else { call.query("name") };
    objects.put(bucket, name, &resource, body, None, condition(call))?;
    Ok(document(&objects.describe(bucket, name)?))
}

fn related(body: &Bytes, boundary: &str) -> Option<(Value, Bytes)> {
    let find = |from: usize, text: &str| {
        let rest = body.get(from..)?;
        rest.windows(text.len()).position(|window| window == text.as_bytes()).map(|at| from + at)
    };
    let delimiter = format!("\r\n--{boundary}");
    let json_start = find(0, "\r\n\r\n")? + 4;
    let json_end = find(json_start, &delimiter)?;
    let media_start = find(json_end + delimiter.len(), "\r\n\r\n")? + 4;
    let end = format!("{delimiter}--");
    let tail = body.len().checked_sub(end.len() + 2)?.max(media_start);
    let media_end = find(tail, &end)?;
    let resource = serde_json::from_slice(body.get(json_start..json_end)?).ok()?;
    Some((resource, body.slice(media_start..media_end)))
}

fn chunk(call: &Call, objects: &Objects, half: bool) -> Result<Response<Body>, Refusal> {
    let malformed = || Refusal::new(400, "badRequest", "Invalid Content-Range.");
    let range = call.header("content-range").strip_prefix("bytes ").ok_or_else(malformed)?;
    let (span, total) = range.split_once('/').ok_or_else(malformed)?;
    let total = if total == "*" { None } else { Some(total.parse::<u64>().map_err(|_| malformed())?) };
    let start = match span.split_once('-') {
        Some((first, last)) => {
            let first: u64 = first.parse().map_err(|_| malformed())?;
            let last: u64 = last.parse().map_err(|_| malformed())?;
            if last + 1 - first != call.body.len() as u64 {
                return Err(malformed());
            }
            Some(first)
        }
        None => None,
    };
    let hash = call.header("x-goog-hash").split(',').find_map(|hash| hash.trim().strip_prefix("crc32c="));
    match objects.chunk(call.query("upload_id"), start, total, &call.body, hash, half)? {
        Chunk::Done(bucket, key) => Ok(document(&objects.describe(&bucket, &key)?)),
        Chunk::Holds(bytes) => {
            let mut response = Response::builder().status(308);
            if let Some(last) = bytes.checked_sub(1) {
                response = response.header("range", format!("bytes=0-{last}"));
            }
            Ok(response.body(Body::empty()).unwrap())
        }
    }
}

fn media(call: &Call, object: &StoredObject) -> Result<Response<Body>, Refusal> {
    let whole = object.body.len();
    let Some((first, last)) = call.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Ok(Response::builder().body(Body::from(object.body.clone())).unwrap());
    };
    let first: usize = first.parse().unwrap_or(usize::MAX);
    let end = last.parse::<usize>().map_or(whole, |last| last.saturating_add(1)).min(whole);
    if first >= end {
        return Err(Refusal::new(416, "requestedRangeNotSatisfiable", "Request range not satisfiable"));
    }
    let range = format!("bytes {first}-{}/{whole}", end - 1);
    let response = Response::builder().status(206).header("content-range", range);
    Ok(response.body(Body::from(object.body.slice(first..end))).unwrap())
}

fn document(value: &Value) -> Response<Body> {
    Response::builder().header("content-type", "application/json").body(Body::from(value.to_string())).unwrap()
}

fn error(refusal: &Refusal) -> Response<Body> {
    let Refusal { status, reason, message } = refusal;
    let errors = json!([{"domain": "global", "reason": reason, "message": message}]);
    let body = json!({"error": {"code": status, "message": message, "errors": errors}});
    let response = Response::builder().status(*status).header("content-type", "application/json");
    response.body(Body::from(body.to_string())).unwrap()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = escaped.and_then(|digits| u8::from_str_radix(&String::from_utf8_lossy(digits), 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
