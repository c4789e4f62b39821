//! VerifyRecording against every kind of storage: what is whole is told so, and every kind of damage is named. The media
//! node is played by the test, so that it knows each byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use recorder_proto::facts::{Fact, FactKind, FileAvailable, RecordingManifest, RecordingStarted};
use recorder_proto::format::Format;
use recorder_proto::ids::{Epoch, EventId, FileIndex, RecordingId, Sequence, SessionId};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::node::{RegisterRequest, ReportFactsRequest};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::storage::{FileSystem, Gcs, S3, Target};
use recorder_proto::pb::v1::verify_recording_request::Depth;
use recorder_proto::pb::v1::verify_recording_response::{Verdict, object::Outcome};
use recorder_runtime::clock::{Clock, SystemClock};
use recorder_tests::bucket::{BUCKET, GcsServer, S3Server};
use recorder_tests::process::Process;
use recorder_tests::scene::Clients;
use serde_json::json;
use store::{Bucket, If, ObjectMeta, crc32c_base64};
use tonic::transport::Channel;

const DOMAIN: &str = "push.example.com";

/// A control plane and the recording that a test node tells it of.
struct Scene {
    _control: Process,
    clients: Clients,
    bucket: Arc<dyn Bucket>,
    recording: String,
    _folder: tempfile::TempDir,
}

/// Bytes that are no other object's.
fn bytes(seed: u8, length: usize) -> Bytes {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<u8>>().into()
}

fn crc(bytes: &[u8]) -> String {
    crc32c_base64(crc32c::crc32c(bytes))
}

async fn start(folder: &tempfile::TempDir) -> (Process, Clients, Channel) {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let any = || "127.0.0.1:0".to_owned();
    let settings = [
        ("RECORDER_DATABASE_URL", format!("sqlite://{}", path("control.db"))),
        ("RECORDER_API_LISTEN", any()),
        ("RECORDER_LINK_LISTEN", any()),
        ("RECORDER_ADMIN_LISTEN", any()),
        ("RECORDER_PLAYBACK_LISTEN", any()),
        ("RECORDER_LIBRARY_ROOT", path("library")),
        ("RECORDER_SEAL_KEY_FILE", path("seal.key")),
    ];
    let control = Process::start("recorder-control", &folder.path().join("control"), &settings).await;
    let api = Channel::from_shared(control.url("api")).unwrap().connect().await.unwrap();
    let link = Channel::from_shared(control.url("link")).unwrap().connect().await.unwrap();
    (control, Clients::over(&api), link)
}

impl Scene {
    /// Puts an MP4 of some megabytes, a playlist with two segments and a manifest into the bucket, and reports them.
    async fn new(
        target: impl FnOnce(&std::path::Path) -> Target,
        bucket: impl AsyncFnOnce(&std::path::Path) -> Arc<dyn Bucket>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (control, mut clients, link) = start(&folder).await;
        clients.storage("place", target(folder.path())).await;
        let bucket = bucket(folder.path()).await;
        let recording = RecordingId::new(SystemClock::new().now(), rand::random());
        report(link, recording, put_all(bucket.as_ref()).await).await;
        Self { _control: control, clients, bucket, recording: format!("recordings/{recording}"), _folder: folder }
    }

    async fn put(&self, key: &str, body: Bytes) {
        let kind = ObjectMeta::of_type("application/octet-stream");
        self.bucket.put(key, body, &kind, If::Any).await.unwrap();
    }

    /// Outcome by key, and the verdict.
    async fn verify(&mut self, depth: Depth) -> (BTreeMap<String, Outcome>, Verdict) {
        let request = v1::VerifyRecordingRequest { name: self.recording.clone(), depth: depth as i32 };
        let mut stream = self.clients.recordings.verify_recording(request).await.unwrap().into_inner();
        let (mut found, mut done) = (BTreeMap::new(), 0);
        while let Some(message) = stream.message().await.unwrap() {
            let progress = message.progress.unwrap();
            assert!(progress.objects_done >= done && progress.objects_total >= progress.objects_done);
            done = progress.objects_done;
            let verdict = message.verdict();
            if let Some(object) = message.object {
                let outcome = object.outcome();
                assert_eq!(outcome == Outcome::Ok, object.error.is_none(), "{object:?}");
                assert!(found.insert(object.object_key, outcome).is_none(), "each object once");
            }
            if verdict != Verdict::Unspecified {
                assert_eq!(done as usize, found.len());
                assert!(stream.message().await.unwrap().is_none(), "the verdict is the last word");
                return (found, verdict);
            }
        }
        panic!("no verdict; found {found:?}")
    }
}

const MP4: usize = 9_000_000;
const OBJECTS: [&str; 5] = ["a.mp4", "h/0.ts", "h/1.ts", "h/index.m3u8", "manifest.json"];

async fn put_all(bucket: &dyn Bucket) -> Vec<FactKind> {
    let playlist =
        Bytes::from_static(b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:4,\n0.ts\n#EXTINF:4,\n1.ts\n#EXT-X-ENDLIST\n");
    let (zero, one, mp4) = (bytes(1, 70_000), bytes(2, 50_000), bytes(3, MP4));
    let piece = |key: &str, body: &Bytes| json!({ "key": key, "size": body.len(), "crc32c": crc(body) });
    let manifest = json!({ "version": 1, "files": [
        { "key": "h/index.m3u8", "objects": [
            piece("h/0.ts", &zero), piece("h/1.ts", &one), piece("h/index.m3u8", &playlist),
        ] },
        { "key": "a.mp4", "size": MP4 },
    ] });
    let manifest = Bytes::from(manifest.to_string());
    let kind = ObjectMeta::of_type("application/octet-stream");
    let all = [
        ("h/0.ts", &zero),
        ("h/1.ts", &one),
        ("h/index.m3u8", &playlist),
        ("a.mp4", &mp4),
        ("manifest.json", &manifest),
    ];
    for (key, body) in all {
        bucket.put(key, body.clone(), &kind, If::Any).await.unwrap();
    }
    let now = SystemClock::new().now();
    let file = |format, key: &str, size: usize, crc32c: String| FileAvailable {
        format,
        index: FileIndex(0),
        storage: "place".parse().unwrap(),
        object_key: key.into(),
        uri: bucket.uri(key),
        content_type: String::new(),
        size_bytes: size as u64,
        objects: 1,
        crc32c,
        object_etag: String::new(),
        start_time: now,
        end_time: now,
        duration_micros: 8_000_000,
        video: None,
        audio: None,
        available_time: now,
    };
    vec![
        file(Format::Hls, "h/index.m3u8", 120_000, String::new()).into(),
        file(Format::Mp4, "a.mp4", MP4, crc(&mp4)).into(),
        RecordingManifest {
            storage: "place".parse().unwrap(),
            object_key: "manifest.json".into(),
            uri: bucket.uri("manifest.json"),
            size_bytes: manifest.len() as u64,
            crc32c: crc(&manifest),
        }
        .into(),
    ]
}

async fn report(link: Channel, recording: RecordingId, facts: Vec<FactKind>) {
    let mut client = NodeLinkServiceClient::new(link);
    let register = RegisterRequest { node: "m1".into(), boot_id: "b".into(), ..Default::default() };
    let node_epoch = client.register(register).await.unwrap().into_inner().node_epoch;
    let now = SystemClock::new().now();
    let started = RecordingStarted {
        stream: StreamKey::new(DOMAIN, "live", "cam1").unwrap(),
        session: SessionId::new(now, rand::random()),
        protocol: v1::protocol::Kind::Rtmp,
        origin: "rules/all".into(),
        also: Vec::new(),
        template: "default".parse().unwrap(),
        template_revision: 1,
        storage: "place".parse().unwrap(),
        labels: BTreeMap::new(),
        formats: vec![Format::Hls, Format::Mp4],
        start_time: now,
        claim_key: "k".into(),
    };
    let kinds = std::iter::once(started.into()).chain(facts);
    let fact = |(at, kind): (usize, FactKind)| {
        (&Fact {
            sequence: Sequence(at as u64 + 1),
            id: EventId::new(now, rand::random()),
            time: now,
            recording: Some(recording),
            epoch: Epoch(1),
            kind,
        })
            .into()
    };
    let facts = kinds.enumerate().map(fact).collect();
    let outbox = tokio_stream::once(ReportFactsRequest { node_epoch, facts });
    let mut answers = client.report_facts(outbox).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().refusals, []);
}

/// The same story in every storage: whole, then damaged in every way that there is.
async fn every_damage_is_named(mut scene: Scene) {
    let whole: BTreeMap<String, Outcome> = OBJECTS.map(|key| (key.to_owned(), Outcome::Ok)).into();
    for depth in [Depth::Unspecified, Depth::Full, Depth::Head] {
        assert_eq!(scene.verify(depth).await, (whole.clone(), Verdict::Intact), "{depth:?}");
    }
    let with = |damaged: &[(&str, Outcome)]| {
        let mut expected = whole.clone();
        expected.extend(damaged.iter().map(|(key, outcome)| ((*key).to_owned(), *outcome)));
        (expected, Verdict::Damaged)
    };
    let mut flipped = bytes(3, MP4).to_vec();
    flipped[MP4 - 7] ^= 0x10;
    scene.put("a.mp4", flipped.into()).await;
    scene.put("h/1.ts", bytes(2, 49_999)).await;
    scene.bucket.delete("h/0.ts").await.unwrap();
    let damaged =
        with(&[("a.mp4", Outcome::ChecksumMismatch), ("h/1.ts", Outcome::SizeMismatch), ("h/0.ts", Outcome::Missing)]);
    assert_eq!(scene.verify(Depth::Full).await, damaged);
    scene.put("manifest.json", Bytes::from_static(b"{}")).await;
    scene.put("h/index.m3u8", Bytes::from_static(b"<html>gone</html>")).await;
    scene.put("a.mp4", bytes(3, MP4)).await;
    let (found, verdict) = scene.verify(Depth::Full).await;
    assert_eq!(verdict, Verdict::Damaged);
    let expected =
        [("a.mp4", Outcome::Ok), ("h/index.m3u8", Outcome::Unreadable), ("manifest.json", Outcome::SizeMismatch)];
    assert_eq!(found, expected.map(|(key, outcome)| (key.to_owned(), outcome)).into(), "without a manifest");
    scene.put("h/index.m3u8", Bytes::from_static(b"#EXTM3U\n0.ts\n1.ts\n")).await;
    let (found, _) = scene.verify(Depth::Full).await;
    assert_eq!((found["h/0.ts"], found["h/1.ts"]), (Outcome::Missing, Outcome::Ok), "its entries have to be there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_verified() {
    let target = |_: &std::path::Path| Target::FileSystem(FileSystem { directory: "place".into() });
    let scene = Scene::new(target, async |folder| {
        let target = store::Target::file_system(folder.join("library"), "place");
        store::open(target, store::Credential::None).await.unwrap()
    });
    every_damage_is_named(scene.await).await;
}

fn s3_target(server: &S3Server, secret: &str) -> S3 {
    S3 {
        bucket: BUCKET.into(),
        region: "us-east-1".into(),
        endpoint: server.endpoint(),
        path_style: true,
        access_key_id: "AK".into(),
        secret_access_key: secret.into(),
        ..S3::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_bucket_is_verified() {
    let server = S3Server::start("AK", "SK").await;
    let target = |_: &std::path::Path| Target::S3(s3_target(&server, "SK"));
    every_damage_is_named(Scene::new(target, async |_| crate::storage::s3(&server).await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_google_bucket_is_verified() {
    let server = GcsServer::start().await;
    let target = |_: &std::path::Path| {
        Target::Gcs(Gcs {
            bucket: BUCKET.into(),
            endpoint: server.endpoint(),
            service_account_json: server.service_account_json(),
            ..Gcs::default()
        })
    };
    every_damage_is_named(Scene::new(target, async |_| crate::storage::gcs(&server).await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_refuses_is_unreadable_in_its_own_words() {
    let server = S3Server::start("AK", "SK").await;
    let target = |_: &std::path::Path| Target::S3(s3_target(&server, "revoked"));
    let mut scene = Scene::new(target, async |_| crate::storage::s3(&server).await).await;
    let (found, verdict) = scene.verify(Depth::Head).await;
    assert_eq!(verdict, Verdict::Damaged);
    assert!(found.len() == 3 && found.values().all(|outcome| *outcome == Outcome::Unreadable), "{found:?}");
    let request = v1::VerifyRecordingRequest { name: "recordings/01JD0000000000000000000000".into(), depth: 0 };
    let refused = scene.clients.recordings.verify_recording(request).await.unwrap_err();
    assert_eq!(recorder_proto::Problem::from(&refused).reason, "RECORDING_NOT_FOUND");
}
