//! What providers refuse, lose and delay, and what an operator reads about it (mission R34-R37, T1-T3).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::storage::{gcs, gcs_target, impatient, s3, s3_credential, s3_target};
use bytes::Bytes;
use recorder_runtime::clock::{Clock, SystemClock};
use recorder_tests::bucket::{Fault, Flavour, GcsServer, S3Options, S3Server};
use store::contract::{assert_same, noise, persist, read};
use store::{
    Blame, Bucket, CACHE_IMMUTABLE, CACHE_NO_STORE, Credential, Dialect, Error, If, Kind, ObjectMeta, Retry, Target,
    TargetKind, open, probe,
};

const MIB: usize = 1 << 20;

fn meta() -> ObjectMeta {
    ObjectMeta::of_type("video/mp4")
}

async fn put(bucket: &dyn Bucket, key: &str) -> Result<store::Stored, Error> {
    bucket.put(key, noise(1000, 1), &meta(), If::Any).await
}

async fn multipart(bucket: &dyn Bucket, key: &str) -> store::Stored {
    let upload = bucket.create_upload(key, &meta()).await.unwrap();
    let mut parts = Vec::new();
    for (number, length) in [(1, 5 * MIB), (2, 1000)] {
        parts.push(bucket.put_part(key, &upload, number, noise(length, 1)).await.unwrap());
    }
    bucket.complete(key, &upload, &parts, If::Any).await.unwrap()
}

fn answers(error: &Error) -> (Kind, Retry, Blame) {
    (error.kind, error.retry(), error.blame())
}

const NEVER: (Kind, Retry, Blame) = (Kind::Denied, Retry::Never, Blame::Destination);

#[tokio::test]
async fn r34_wrong_secret_is_the_destinations_and_never_retried() {
    for flavour in [Flavour::Aws, Flavour::Google] {
        let server = S3Server::start_with(S3Options { flavour, ..S3Options::default() }).await;
        let secret_access_key = "WRONG-secret-0123456789".to_owned();
        let credential =
            Credential::AccessKey { access_key_id: "AKTEST".into(), secret_access_key, session_token: None };
        let bucket = open(s3_target(&server), credential).await.unwrap();
        let error = put(&*bucket, "a.ts").await.unwrap_err();
        assert_eq!((answers(&error), error.code.as_str()), (NEVER, "SignatureDoesNotMatch"), "{error}");
        assert_eq!(error.status, Some(403));
        let text = format!("{error} {error:?} {bucket:?}");
        assert!(!text.contains("WRONG-secret"), "{text}");
        assert_eq!(bucket.head("a.ts").await.unwrap_err().kind, Kind::Denied);
        assert!(server.keys().is_empty());
    }
}

#[tokio::test]
async fn r34_unknown_key_and_missing_session_token_are_refused() {
    let options = S3Options { session_token: Some("TOKEN-abcdef".into()), ..S3Options::default() };
    let server = S3Server::start_with(options).await;
    put(&*s3(&server).await, "with-token").await.unwrap();
    let Credential::AccessKey { access_key_id, secret_access_key, .. } = s3_credential(&server) else { panic!() };
    let stale = Credential::AccessKey { access_key_id, secret_access_key, session_token: Some("OLD-TOKEN".into()) };
    let error = put(&*open(s3_target(&server), stale).await.unwrap(), "k").await.unwrap_err();
    assert_eq!((answers(&error), error.code.as_str()), (NEVER, "InvalidToken"));
    assert!(!format!("{error} {error:?}").contains("OLD-TOKEN"));
    assert_eq!(server.keys(), ["with-token"]);
}

#[tokio::test]
async fn r34_foreign_service_account_is_refused() {
    let (server, other) = (GcsServer::start().await, GcsServer::start().await);
    let key = other.service_account_json();
    let bucket = open(gcs_target(&server), Credential::ServiceAccountJson(key.clone())).await.unwrap();
    let private: serde_json::Value = serde_json::from_str(&key).unwrap();
    let secret = private["private_key"].as_str().unwrap().lines().nth(3).unwrap().to_owned();
    let errors = [
        put(&*bucket, "a.ts").await.unwrap_err(),
        bucket.create_upload("a.mp4", &meta()).await.unwrap_err(),
        bucket.head("a.ts").await.unwrap_err(),
        bucket.list("").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((answers(&error), error.code.as_str()), (NEVER, "authError"), "{error}");
        assert_eq!(error.message, "Invalid Credentials");
        assert!(!format!("{error} {error:?} {bucket:?}").contains(&secret));
    }
}

#[tokio::test]
async fn r34_unusable_credentials_are_named_without_quoting_them() {
    let server = GcsServer::start().await;
    for text in ["{\"private_key\": \"hush-hush\"", "{\"private_key\": \"hush-hush\"}", "hush-hush"] {
        let credential = Credential::ServiceAccountJson(text.to_owned());
        assert!(!format!("{credential:?}").contains("hush"));
        let error = open(gcs_target(&server), credential).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (Kind::Misconfigured, "InvalidCredentials"));
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
    let wrong = Credential::AccessKey { access_key_id: "a".into(), secret_access_key: "b".into(), session_token: None };
    assert_eq!(open(gcs_target(&server), wrong).await.unwrap_err().code, "MissingCredentials");
}

#[tokio::test]
async fn r35_missing_bucket_is_named_by_the_provider() {
    let s3_server = S3Server::start("AK", "SK-secret").await;
    let gcs_server = GcsServer::start().await;
    let missing = |target: Target| Target { bucket: "no-such-bucket".into(), ..target };
    let s3 = open(missing(s3_target(&s3_server)), s3_credential(&s3_server)).await.unwrap();
    let account = Credential::ServiceAccountJson(gcs_server.service_account_json());
    let gcs = open(missing(gcs_target(&gcs_server)), account).await.unwrap();
    for (bucket, code) in [(s3, "NoSuchBucket"), (gcs, "notFound")] {
        for error in [
            put(&*bucket, "a").await.unwrap_err(),
            bucket.create_upload("a", &meta()).await.unwrap_err(),
            bucket.list("").await.unwrap_err(),
        ] {
            assert_eq!(answers(&error), (Kind::Misconfigured, Retry::Never, Blame::Destination), "{error}");
            assert_eq!((error.code.as_str(), error.status), (code, Some(404)));
            assert!(error.message.starts_with("The specified bucket does not exist"), "{error}");
        }
    }
}

#[tokio::test]
async fn r36_wrong_region_names_the_right_one() {
    let server =
        S3Server::start_with(S3Options { region: Some("ap-southeast-1".into()), ..S3Options::default() }).await;
    put(&*s3(&server).await, "right").await.unwrap();
    let wrong = Target { region: "eu-west-1".into(), ..s3_target(&server) };
    let bucket = open(wrong, s3_credential(&server)).await.unwrap();
    for error in [put(&*bucket, "k").await.unwrap_err(), bucket.head("k").await.unwrap_err()] {
        assert_eq!(answers(&error), (Kind::Misconfigured, Retry::Never, Blame::Destination), "{error}");
        assert_eq!(error.right_region.as_deref(), Some("ap-southeast-1"));
        assert!(error.to_string().contains("the bucket is in region \"ap-southeast-1\""), "{error}");
    }
    server.faults().add("PutObject", Fault::OtherRegion("us-west-2"), 1);
    let error = put(&*s3(&server).await, "k").await.unwrap_err();
    assert_eq!((error.code.as_str(), error.status), ("PermanentRedirect", Some(301)));
    assert_eq!(error.right_region.as_deref(), Some("us-west-2"));
}

#[tokio::test]
async fn r37_google_gets_no_checksums_and_amazon_gets_its_own() {
    let seen = async |flavour| -> (BTreeSet<String>, BTreeSet<String>) {
        let server = S3Server::start_with(S3Options { flavour, ..S3Options::default() }).await;
        let bucket = s3(&server).await;
        put(&*bucket, "a.ts").await.unwrap();
        multipart(&*bucket, "a.mp4").await;
        (server.faults().headers("PutObject"), server.faults().headers("UploadPart"))
    };
    let checksums = |headers: &BTreeSet<String>| -> Vec<String> {
        headers.iter().filter(|name| name.contains("checksum") || name.contains("trailer")).cloned().collect()
    };
    let (put, part) = seen(Flavour::Google).await;
    assert!(checksums(&put).is_empty() && checksums(&part).is_empty(), "{put:?} {part:?}");
    assert!(!put.contains("x-amz-acl") && !put.contains("content-encoding"));
    let (put, part) = seen(Flavour::Aws).await;
    assert_eq!(
        (checksums(&put), checksums(&part)),
        (vec!["x-amz-checksum-crc32c".into()], vec!["x-amz-checksum-crc32c".into()])
    );
    assert!(!put.contains("x-amz-acl") && !put.contains("x-amz-trailer"));
}

#[tokio::test]
async fn compatible_servers_get_the_common_core_only() {
    let server = S3Server::start_with(S3Options { flavour: Flavour::Google, ..S3Options::default() }).await;
    let target = Target { dialect: None, kind: TargetKind::S3, ..s3_target(&server) };
    let bucket = open(target, s3_credential(&server)).await.unwrap();
    assert!(!bucket.capabilities().conditional_put && !bucket.capabilities().conditional_commit);
    bucket.put("a", noise(10, 1), &meta(), If::Absent).await.unwrap();
    multipart(&*bucket, "b").await;
    assert_eq!(bucket.uri("b"), "s3://rec/b");
}

#[tokio::test]
async fn t4_metadata_class_and_key_reach_the_object() {
    let server = S3Server::start("AK", "SK-secret").await;
    let target = Target { storage_class: "STANDARD_IA".into(), kms_key: "key-1".into(), ..s3_target(&server) };
    let bucket = open(target, s3_credential(&server)).await.unwrap();
    let playlist = ObjectMeta::of_type("application/vnd.apple.mpegurl").cached(CACHE_NO_STORE).label("stream", "a b");
    bucket.put("live.m3u8", noise(100, 1), &playlist, If::Any).await.unwrap();
    let object = server.object("live.m3u8").unwrap();
    assert_eq!(object.content_type.as_deref(), Some("application/vnd.apple.mpegurl"));
    assert_eq!(object.cache_control.as_deref(), Some("no-store"));
    assert_eq!(object.metadata["stream"], "a b");
    assert_eq!(object.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(object.kms_key.as_deref(), Some("key-1"));
    multipart(&*bucket, "a.mp4").await;
    let object = server.object("a.mp4").unwrap();
    assert_eq!((object.content_type.as_deref(), object.parts), (Some("video/mp4"), Some(2)));
    assert_eq!(object.storage_class.as_deref(), Some("STANDARD_IA"));

    let server = GcsServer::start().await;
    let target = Target { storage_class: "NEARLINE".into(), ..gcs_target(&server) };
    let account = Credential::ServiceAccountJson(server.service_account_json());
    let bucket = open(target, account).await.unwrap();
    let segment = ObjectMeta::of_type("video/mp2t").cached(CACHE_IMMUTABLE).label("stream", "Zoë");
    bucket.put("0.ts", noise(100, 1), &segment, If::Any).await.unwrap();
    let upload = bucket.create_upload("1.ts", &segment).await.unwrap();
    let part = bucket.put_part("1.ts", &upload, 1, noise(10, 1)).await.unwrap();
    bucket.complete("1.ts", &upload, &[part], If::Any).await.unwrap();
    for key in ["0.ts", "1.ts"] {
        let object = server.object(key).unwrap();
        assert_eq!(object.content_type.as_deref(), Some("video/mp2t"), "{key}");
        assert_eq!(object.cache_control.as_deref(), Some(CACHE_IMMUTABLE));
        assert_eq!((object.metadata["stream"].as_str(), object.storage_class.as_deref()), ("Zoë", Some("NEARLINE")));
    }
}

#[tokio::test]
async fn throttling_and_outages_call_for_patience() {
    let s3_server = S3Server::start("AK", "SK-secret").await;
    let slow = Fault::Answer { status: 503, code: "SlowDown", message: "Please reduce your request rate." };
    let down = Fault::Answer { status: 500, code: "InternalError", message: "We encountered an internal error." };
    let skew = Fault::Answer {
        status: 403,
        code: "RequestTimeTooSkewed",
        message: "The difference between the request time and the server's time is too large.",
    };
    s3_server.faults().add("PutObject", slow, 1);
    s3_server.faults().add("PutObject", down, 1);
    s3_server.faults().add("PutObject", skew, 1);
    let bucket = s3(&s3_server).await;
    for (code, kind, blame) in [
        ("SlowDown", Kind::Throttled, Blame::Destination),
        ("InternalError", Kind::Unavailable, Blame::Destination),
        ("RequestTimeTooSkewed", Kind::ClockSkew, Blame::Node),
    ] {
        let error = put(&*bucket, "a").await.unwrap_err();
        assert_eq!((answers(&error), error.code.as_str()), ((kind, Retry::Backoff, blame), code), "{error}");
    }
    put(&*bucket, "a").await.unwrap();
    assert_eq!(s3_server.faults().calls("PutObject"), 4, "the SDK repeats nothing by itself");

    let gcs_server = GcsServer::start().await;
    let slow = Fault::Answer { status: 429, code: "rateLimitExceeded", message: "The object exceeded the rate limit" };
    let down = Fault::Answer { status: 503, code: "backendError", message: "Backend Error" };
    gcs_server.faults().add("PutObject", slow, 1);
    gcs_server.faults().add("PutObject", down, 1);
    let bucket = gcs(&gcs_server).await;
    for (code, kind) in [("rateLimitExceeded", Kind::Throttled), ("backendError", Kind::Unavailable)] {
        let error = put(&*bucket, "a").await.unwrap_err();
        let expected = (kind, Retry::Backoff, Blame::Destination);
        assert_eq!((answers(&error), error.code.as_str()), (expected, code), "{error}");
    }
    put(&*bucket, "a").await.unwrap();
    assert_eq!(gcs_server.faults().calls("PutObject"), 3, "the client repeats nothing by itself");
}

#[tokio::test]
async fn t1_error_in_a_200_is_no_success() {
    let server = S3Server::start("AK", "SK-secret").await;
    let bucket = s3(&server).await;
    let upload = bucket.create_upload("a.mp4", &meta()).await.unwrap();
    let part = bucket.put_part("a.mp4", &upload, 1, noise(100, 1)).await.unwrap();
    server.faults().add("CompleteMultipartUpload", Fault::ErrorInOk, 1);
    let error = bucket.complete("a.mp4", &upload, std::slice::from_ref(&part), If::Any).await.unwrap_err();
    assert_eq!(answers(&error), (Kind::Unavailable, Retry::Backoff, Blame::Destination), "{error}");
    assert_eq!((error.code.as_str(), error.status), ("InternalError", Some(200)));
    assert!(server.keys().is_empty());
    bucket.complete("a.mp4", &upload, &[part], If::Any).await.unwrap();
    assert_eq!(server.keys(), ["a.mp4"]);
}

#[tokio::test]
async fn silence_ends_in_a_timeout_and_hang_ups_are_told_apart() {
    let server = S3Server::start("AK", "SK-secret").await;
    let gcs_server = GcsServer::start().await;
    let account = Credential::ServiceAccountJson(gcs_server.service_account_json());
    let s3_target = Target { limit: impatient(), ..s3_target(&server) };
    let gcs_target = Target { limit: impatient(), ..gcs_target(&gcs_server) };
    let cases = [
        (open(s3_target, s3_credential(&server)).await.unwrap(), server.faults()),
        (open(gcs_target, account).await.unwrap(), gcs_server.faults()),
    ];
    for (bucket, faults) in cases {
        for operation in ["PutObject", "HeadObject", "CreateMultipartUpload"] {
            faults.add(operation, Fault::Hang, 1);
            faults.add(operation, Fault::DropRequest, 1);
        }
        for (kind, retry) in [(Kind::Timeout, Retry::Backoff), (Kind::Interrupted, Retry::Now)] {
            for error in [
                put(&*bucket, "a").await.unwrap_err(),
                bucket.head("a").await.unwrap_err(),
                bucket.create_upload("a", &meta()).await.unwrap_err(),
            ] {
                assert_eq!(answers(&error), (kind, retry, Blame::Destination), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_unreachable() {
    let server = S3Server::start("AK", "SK-secret").await;
    let credential = s3_credential(&server);
    let target = s3_target(&server);
    drop(server);
    // The port was just given back; nobody listens there.
    let error = persist_error(open(target, credential).await.unwrap()).await;
    assert_eq!(answers(&error), (Kind::Unreachable, Retry::Backoff, Blame::Destination), "{error}");
}

/// The first error that says that nobody is there: until the listener's task is gone, connections are reset instead.
async fn persist_error(bucket: Arc<dyn Bucket>) -> Error {
    for _ in 0..200 {
        match put(&*bucket, "a").await {
            Err(error) if error.kind != Kind::Interrupted => return error,
            _ => tokio::task::yield_now().await,
        }
    }
    panic!("somebody still answers")
}

#[tokio::test]
async fn d3_9_lost_replies_on_the_wire_make_one_object() {
    let s3_server = S3Server::start("AK", "SK-secret").await;
    let google = S3Server::start_with(S3Options { flavour: Flavour::Google, ..S3Options::default() }).await;
    let gcs_server = GcsServer::start().await;
    let cases: [(Arc<dyn Bucket>, _); 3] = [
        (s3(&s3_server).await, s3_server.faults()),
        (s3(&google).await, google.faults()),
        (gcs(&gcs_server).await, gcs_server.faults()),
    ];
    for (seed, (bucket, faults)) in (1..).zip(cases) {
        faults.chance("*", Fault::DropReply, 0.3, seed);
        let meta = meta();
        let bodies: Vec<Bytes> = (0..2).map(|seed| noise(5 * MIB + 1, seed)).collect();
        let upload = persist(|| bucket.create_upload("lost.mp4", &meta)).await;
        let mut parts = Vec::new();
        for (number, body) in (1..).zip(&bodies) {
            parts.push(persist(|| bucket.put_part("lost.mp4", &upload, number, body.clone())).await);
        }
        let stored = persist(|| bucket.complete("lost.mp4", &upload, &parts, If::Any)).await;
        let segments: Vec<Bytes> = (0..20).map(|seed| noise(2000, seed)).collect();
        for (number, segment) in segments.iter().enumerate() {
            let key = format!("hls/{number:02}.ts");
            persist(|| bucket.put(&key, segment.clone(), &meta, If::Any)).await;
        }
        faults.clear();
        assert_eq!(stored.crc32c, Some(crc32c::crc32c(&bodies.concat())));
        assert_same(&read(&*bucket, "lost.mp4").await, &bodies.concat());
        assert_eq!(bucket.list("").await.unwrap().len(), 21, "{bucket:?}");
        assert_same(&read(&*bucket, "hls/07.ts").await, &segments[7]);
    }
}

#[tokio::test]
async fn t2_google_sessions_go_on_after_a_restart_and_after_half_chunks() {
    let server = GcsServer::start().await;
    let whole = noise(21 * MIB + 12_345, 7);
    let before = gcs(&server).await;
    let upload = before.create_upload("big.mp4", &meta()).await.unwrap();
    server.faults().add("UploadPart", Fault::HalfChunk, 2);
    before.put_part("big.mp4", &upload, 1, whole.slice(..8 * MIB)).await.unwrap();
    before.put_part("big.mp4", &upload, 2, whole.slice(8 * MIB..16 * MIB + 100)).await.unwrap();
    drop(before);
    // A new process knows the session's name and the spool, no more.
    let after = gcs(&server).await;
    let mut parts = after.list_parts("big.mp4", &upload).await.unwrap();
    let held: Vec<_> = parts.iter().map(|part| (part.number, part.size)).collect();
    assert_eq!(held, [(1, 8 * MIB as u64), (2, 8 * MIB as u64)], "the last 100 bytes were not safe yet");
    let again = after.put_part("big.mp4", &upload, 2, whole.slice(8 * MIB..16 * MIB + 100)).await.unwrap_err();
    assert_eq!(again.kind, Kind::Invalid, "nothing is stored twice");
    parts.push(after.put_part("big.mp4", &upload, 3, whole.slice(16 * MIB..20 * MIB + 1)).await.unwrap());
    parts.push(after.put_part("big.mp4", &upload, 4, whole.slice(20 * MIB + 1..)).await.unwrap());
    let stored = after.complete("big.mp4", &upload, &parts, If::Any).await.unwrap();
    assert_eq!((stored.size, stored.crc32c), (whole.len() as u64, Some(crc32c::crc32c(&whole))));
    assert_same(&server.object("big.mp4").unwrap().body, &whole);
    assert_eq!(server.open_uploads(), 0);
}

#[tokio::test]
async fn dropped_calls_leave_a_google_session_usable() {
    let server = GcsServer::start().await;
    let bucket = gcs(&server).await;
    let upload = bucket.create_upload("a.mp4", &meta()).await.unwrap();
    let (one, two) = (noise(3 * MIB, 1), noise(2 * MIB, 2));
    server.faults().add("UploadPart", Fault::Delay(Duration::from_secs(3600)), 1);
    let call = bucket.put_part("a.mp4", &upload, 1, one.clone());
    assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err());
    let mut parts = vec![bucket.put_part("a.mp4", &upload, 1, one.clone()).await.unwrap()];
    parts.push(bucket.put_part("a.mp4", &upload, 2, two.clone()).await.unwrap());
    bucket.complete("a.mp4", &upload, &parts, If::Any).await.unwrap();
    assert_same(&server.object("a.mp4").unwrap().body, &[one, two].concat());
}

#[tokio::test]
async fn presigned_urls_read_without_credentials() {
    let aws = S3Server::start("AK", "SK-secret").await;
    let gcs_server = GcsServer::start().await;
    for bucket in [s3(&aws).await, gcs(&gcs_server).await] {
        bucket.put("a/b c.mp4", noise(1000, 1), &meta(), If::Any).await.unwrap();
        let url = bucket.presign("a/b c.mp4", Duration::from_secs(600)).await.unwrap();
        assert!(!url.contains("SK-secret"));
        assert_eq!(http_get(&url).await, (200, noise(1000, 1)), "{url}");
        let (status, _) = http_get(&url.replace("b%20c", "other")).await;
        assert!([401, 403].contains(&status), "{status}");
    }
}

/// A plain GET over a plain socket.
async fn http_get(url: &str) -> (u16, Bytes) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
    (status, Bytes::copy_from_slice(&answer[end + 4..]))
}

#[tokio::test]
async fn probe_tells_which_step_fails_in_the_providers_words() {
    let server = S3Server::start("AK", "SK-secret").await;
    let denied = Fault::Answer { status: 403, code: "AccessDenied", message: "Access Denied" };
    let bucket = s3(&server).await;
    server.faults().add("DeleteObject", denied.clone(), usize::MAX);
    let steps = probe(&*bucket, "live").await;
    let told: Vec<_> = steps.iter().map(|step| (step.name, step.ok)).collect();
    assert_eq!(told, [("write", true), ("read", true), ("multipart", true), ("delete", false)]);
    assert_eq!(steps[3].error.as_ref().unwrap().message, "Access Denied");
    assert!(server.keys().iter().all(|key| key.starts_with("live/recorder-probe-")));

    server.faults().add("UploadPart", denied.clone(), 1);
    let steps = probe(&*bucket, "live").await;
    assert_eq!((steps[2].name, steps[2].ok), ("multipart", false));
    assert_eq!(server.open_uploads(), 0, "the failed upload was given up");

    server.faults().add("PutObject", denied, 1);
    let steps = probe(&*bucket, "live").await;
    assert_eq!(steps.len(), 1);
    assert_eq!((steps[0].name, steps[0].ok), ("write", false));
    assert_eq!(steps[0].error.as_ref().unwrap().code, "AccessDenied");
}

#[tokio::test]
async fn amazons_conditions_are_atomic() {
    let server = S3Server::start("AK", "SK-secret").await;
    let bucket = s3(&server).await;
    assert!(bucket.capabilities().conditional_put && bucket.capabilities().conditional_commit);
    assert_eq!(s3_target(&server).dialect, Some(Dialect::Aws));
    let writers = (0..8).map(|seed| {
        let bucket = Arc::clone(&bucket);
        tokio::spawn(async move { bucket.put("once", noise(100, seed), &meta(), If::Absent).await })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!((error.kind, error.code.as_str()), (Kind::AlreadyExists, "PreconditionFailed")),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(server.faults().calls("HeadObject"), 0, "asked in the write itself");
}

/// Test 14 of reliability.md, in reverse: the server's clock is 10 minutes before ours.
#[tokio::test]
async fn clock_skew_sigv4() {
    let clock_ahead = Duration::from_secs(600);
    let server = S3Server::start_with(S3Options { clock_ahead, ..S3Options::default() }).await;
    let bucket = s3(&server).await;
    let error = put(&*bucket, "a.ts").await.unwrap_err();
    assert_eq!(answers(&error), (Kind::ClockSkew, Retry::Backoff, Blame::Node), "{error}");
    assert_eq!(error.code, "RequestTimeTooSkewed");
    let theirs = error.server_time.unwrap();
    let stored = put(&*bucket, "a.ts").await.unwrap();
    assert_eq!(stored.size, 1000);
    // It is kept for later requests, of every kind.
    multipart(&*bucket, "b.ts").await;
    assert!(bucket.head("b.ts").await.unwrap().is_some());
    let skewed = server.faults().calls("PutObject");
    assert_eq!(skewed, 2, "one refused, one taken");
    let ahead = i64::from(theirs.get()) - SystemClock::new().now().timestamp();
    assert!((590..=600).contains(&ahead), "{ahead}");
}
