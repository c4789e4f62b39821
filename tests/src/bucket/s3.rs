//! An S3 server: signatures checked by `s3s`, objects and rules ours, and Google's flavour of it.
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use recorder_runtime::clock::{Clock, SystemClock};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

use super::faults::{Fault, Faults};
use super::s3_objects::Objects;
use super::serve::{Server, listen};
use super::throttle::Throttle;
use super::{BUCKET, Change, StoredObject};

/// Stricter than Amazon's quarter of an hour, which the library below keeps to by our own clock.
const MOST_SKEW: TimeDelta = TimeDelta::minutes(5);

/// Whose rules the server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Amazon's: checksums and conditional writes work.
    Aws,
    /// Google's XML API: refuses checksum headers, `aws-chunked` bodies and conditions on writes; deleting what is
    /// not there is a 404; its front end edits `Accept-Encoding`, so that header must not be signed.
    Google,
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The one key that is known.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// When set, requests must carry it (temporary credentials).
    pub session_token: Option<String>,
    /// Rules.
    pub flavour: Flavour,
    /// When set, requests signed for another region are refused with this one named.
    pub region: Option<String>,
    /// Entries on one page of a listing.
    pub page_size: usize,
    /// How far its clock is before ours; requests signed for a time more than 5 minutes off are refused.
    pub clock_ahead: Duration,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            access_key: "AKTEST".to_owned(),
            secret_key: "SKTEST-very-secret".to_owned(),
            session_token: None,
            flavour: Flavour::Aws,
            region: None,
            page_size: 1000,
            clock_ahead: Duration::ZERO,
        }
    }
}

/// A running S3 server with one bucket, [`BUCKET`].
#[derive(Debug)]
pub struct S3Server {
    server: Server,
    objects: Objects,
    faults: Arc<Faults>,
    throttle: Arc<Throttle>,
    options: S3Options,
}

impl S3Server {
    /// Amazon's flavour with this key.
    pub async fn start(access_key: &str, secret_key: &str) -> Self {
        let (access_key, secret_key) = (access_key.to_owned(), secret_key.to_owned());
        Self::start_with(S3Options { access_key, secret_key, ..S3Options::default() }).await
    }

    /// As told.
    pub async fn start_with(options: S3Options) -> Self {
        let objects = Objects::new(options.page_size, options.flavour);
        objects.create_bucket(BUCKET);
        let mut builder = S3ServiceBuilder::new(objects.clone());
        builder.set_auth(SimpleAuth::from_single(options.access_key.clone(), options.secret_key.as_str()));
        let service = builder.build();
        let faults = Arc::new(Faults::default());
        let throttle = Arc::new(Throttle::default());
        let (front_faults, front_options, line) = (Arc::clone(&faults), options.clone(), Arc::clone(&throttle));
        let server = listen(move |request| {
            answer(line.slow(request), service.clone(), Arc::clone(&front_faults), front_options.clone())
        })
        .await;
        Self { server, objects, faults, throttle, options }
    }

    /// `http://127.0.0.1:port`; use path style.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// As started.
    pub fn options(&self) -> &S3Options {
        &self.options
    }

    /// Faults and counters.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// From now on its line takes so many bytes a second; 0: as many as come.
    pub fn limit(&self, bytes_per_second: u64) {
        self.throttle.set(bytes_per_second);
    }

    /// Every change from now on, in order; a new watcher takes the place of the one before.
    pub fn changes(&self) -> std::sync::mpsc::Receiver<Change> {
        self.objects.changes()
    }

    /// Drops an object of [`BUCKET`] without going through the protocol.
    pub fn forget(&self, key: &str) {
        self.objects.forget(BUCKET, key);
    }

    /// One more bucket.
    pub fn create_bucket(&self, name: &str) {
        self.objects.create_bucket(name);
    }

    /// An object of [`BUCKET`] without going through the protocol.
    pub fn object(&self, key: &str) -> Option<StoredObject> {
        self.objects.object(BUCKET, key)
    }

    /// Keys in [`BUCKET`].
    pub fn keys(&self) -> Vec<String> {
        self.objects.keys(BUCKET)
    }

    /// Open multipart uploads in all buckets.
    pub fn open_uploads(&self) -> usize {
        self.objects.open_uploads()
    }
}

async fn answer(
    request: Request<Body>,
    mut service: S3Service,
    faults: Arc<Faults>,
    options: S3Options,
) -> Option<Response<Body>> {
    let operation = operation(&request);
    let fault = faults.meet(operation, request.headers().keys().map(|name| name.as_str()));
    match &fault {
        Some(Fault::DropRequest) => return None,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Answer { status, code, message }) => return Some(error(*status, code, message, None)),
        Some(Fault::OtherRegion(region)) => {
            let message = "The bucket you are attempting to access must be addressed using the specified endpoint.";
            return Some(error(301, "PermanentRedirect", message, Some(region)));
        }
        Some(Fault::ErrorInOk) => {
            return Some(error(200, "InternalError", "We encountered an internal error. Please try again.", None));
        }
        _ => {}
    }
    let date = (options.clock_ahead > Duration::ZERO).then(|| clock(&options));
    let stamped = |mut response: Response<Body>| {
        if let Some(date) = &date {
            response
                .headers_mut()
                .insert("date", date.format("%a, %d %b %Y %H:%M:%S GMT").to_string().parse().unwrap());
        }
        response
    };
    if let Some(refusal) = refusal(&request, &options) {
        return Some(stamped(refusal));
    }
    if let Some(Fault::Delay(time)) = &fault {
        tokio::time::sleep(*time).await;
    }
    let response = tower::Service::call(&mut service, request).await.ok()?.map(Body::new);
    let response = stamped(response);
    (fault != Some(Fault::DropReply)).then_some(response)
}

/// S3's name for what is asked.
fn operation(request: &Request<Body>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let has_key = request.uri().path().trim_start_matches('/').split_once('/').is_some_and(|(_, key)| !key.is_empty());
    match (request.method(), has_key) {
        (&Method::PUT, true) if has("uploadId") => "UploadPart",
        (&Method::PUT, true) => "PutObject",
        (&Method::POST, true) if has("uploads") => "CreateMultipartUpload",
        (&Method::POST, true) if has("uploadId") => "CompleteMultipartUpload",
        (&Method::DELETE, true) if has("uploadId") => "AbortMultipartUpload",
        (&Method::DELETE, true) => "DeleteObject",
        (&Method::GET, true) if has("uploadId") => "ListParts",
        (&Method::GET, true) => "GetObject",
        (&Method::HEAD, true) => "HeadObject",
        (&Method::GET, false) if has("uploads") => "ListMultipartUploads",
        (&Method::GET, false) => "ListObjectsV2",
        _ => "Other",
    }
}

fn refusal(request: &Request<Body>, options: &S3Options) -> Option<Response<Body>> {
    let headers = request.headers();
    if let Some(expected) = &options.session_token {
        let token = text(headers, "x-amz-security-token");
        if token != Some(expected.as_str()) {
            return Some(error(400, "InvalidToken", "The provided token is malformed or otherwise invalid.", None));
        }
    }
    if let Some(signed) = text(headers, "x-amz-date").filter(|_| options.clock_ahead > Duration::ZERO) {
        let signed = NaiveDateTime::parse_from_str(signed, "%Y%m%dT%H%M%SZ").unwrap().and_utc();
        if (clock(options) - signed).abs() > MOST_SKEW {
            let message = "The difference between the request time and the current time is too large.";
            return Some(error(403, "RequestTimeTooSkewed", message, None));
        }
    }
    let signed = text(headers, "authorization").unwrap_or_default();
    // Credential=<key>/<date>/<region>/s3/aws4_request
    let region = signed.split("Credential=").nth(1).and_then(|credential| credential.split('/').nth(2));
    if let (Some(expected), Some(region)) = (&options.region, region)
        && expected != region
    {
        let message =
            format!("The authorization header is malformed; the region '{region}' is wrong; expecting '{expected}'");
        return Some(error(400, "AuthorizationHeaderMalformed", &message, Some(expected)));
    }
    (options.flavour == Flavour::Google).then(|| google_refusal(request.method(), headers, signed)).flatten()
}

/// What time it is there.
fn clock(options: &S3Options) -> DateTime<Utc> {
    SystemClock::new().now() + options.clock_ahead
}

fn google_refusal(method: &Method, headers: &HeaderMap, signed: &str) -> Option<Response<Body>> {
    let checksum = headers.keys().find(|name| {
        let name = name.as_str();
        name.starts_with("x-amz-checksum-") || name.starts_with("x-amz-sdk-checksum") || name == "x-amz-trailer"
    });
    if let Some(name) = checksum {
        return Some(error(400, "InvalidArgument", &format!("Unsupported header {name}."), None));
    }
    let hash = text(headers, "x-amz-content-sha256").unwrap_or_default();
    let encoding = text(headers, "content-encoding").unwrap_or_default();
    if hash.starts_with("STREAMING-") || encoding.contains("aws-chunked") {
        return Some(error(400, "InvalidArgument", "Chunked signing is not supported.", None));
    }
    let conditional = headers.contains_key("if-none-match") || headers.contains_key("if-match");
    if conditional && matches!(*method, Method::PUT | Method::POST) {
        return Some(error(501, "NotImplemented", "Preconditions are not supported.", None));
    }
    let signed_headers = signed.split("SignedHeaders=").nth(1).unwrap_or_default();
    if signed_headers.split(',').next().unwrap_or_default().contains("accept-encoding") {
        let message = "The request signature we calculated does not match the signature you provided.";
        return Some(error(403, "SignatureDoesNotMatch", message, None));
    }
    None
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn error(status: u16, code: &str, message: &str, region: Option<&str>) -> Response<Body> {
    let place = region.map(|region| format!("<Region>{region}</Region>")).unwrap_or_default();
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{place}\
         <RequestId>0</RequestId></Error>"
    );
    let mut response = Response::builder().status(status).header("content-type", "application/xml");
    if let Some(region) = region {
        response = response.header("x-amz-bucket-region", region);
    }
    response.body(Body::from(xml)).unwrap()
}
