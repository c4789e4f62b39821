//! RetryUploads end to end: a bucket that refuses for good loses its files to another one, and what failed is tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media::TrackKind;
use recorder_proto::pb::v1;
use recorder_tests::accounting::Ledger;
use recorder_tests::bucket::{BUCKET, Fault, S3Server};
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::publisher::Source;
use recorder_tests::scene::{Clients, all_formats, tree};
use recorder_tests::stage::{Stage, s3_target, seeds};
use recorder_tests::{verify, wait, whip};
use v1::recording::State;
use v1::verify_recording_response::Verdict;

const FORMATS: [&str; 4] = ["AAC", "FLV", "HLS", "MP4"];
const DENIED: Fault = Fault::Answer { status: 403, code: "AccessDenied", message: "Access denied." };
/// What no later attempt can change, as far as a node can tell.
const INVALID: Fault = Fault::Answer { status: 400, code: "InvalidArgument", message: "No such thing." };

/// A stage with one more bucket, which no template names.
struct Scene {
    stage: Stage,
    spare: S3Server,
    clients: Clients,
    domain: String,
    publisher: Publisher,
}

impl Scene {
    async fn new() -> Self {
        let mut stage = Stage::start(seeds(1)[0]).await;
        let spare = S3Server::start("AKSPARE", "SKSPARE-keep-me-secret").await;
        let mut clients = Clients::of(&stage.cluster).await;
        let target = Some(s3_target(&spare));
        let storage = Some(v1::Storage { target, prefix: "kept".into(), ..Default::default() });
        let request = v1::CreateStorageRequest { storage_id: "spare".into(), storage, ..Default::default() };
        clients.storages.create_storage(request).await.unwrap();
        let domain = stage.template("all", all_formats()).await;
        let footage: Arc<Footage> =
            Footage::encode(&Source { seconds: 4, gop: 15, ..Default::default() }, stage.cluster.folder());
        let publisher = Publisher::new(&domain, "cam1", 1, &footage);
        Self { stage, spare, clients, domain, publisher }
    }

    /// Publishes some seconds while the bucket answers so.
    async fn publish(&mut self, fault: Fault, state: State) -> v1::Recording {
        self.stage.s3.faults().add("*", fault, usize::MAX);
        self.publisher.connect(1, self.stage.cluster.rtmp(1)).await.unwrap();
        let publisher = &self.publisher;
        wait::until("frames", async || (publisher.frames(TrackKind::Video) >= 90).then_some(())).await;
        self.publisher.leave().await;
        self.clients.wait_for(&self.domain, "cam1", 1, state).await.remove(0)
    }

    async fn retry(&mut self, recording: &v1::Recording, storage: &str) {
        let request = v1::RetryUploadsRequest { name: recording.name.clone(), storage: storage.into() };
        self.clients.recordings.retry_uploads(request).await.unwrap();
    }

    async fn outcome(&self) -> verify::Told {
        self.stage.outcome(&self.domain, "cam1", 1).await.remove(0)
    }

    /// Every frame of every format is in the spare bucket, and everybody says so.
    async fn all_is_in_the_spare_bucket(&mut self) {
        let told = self.outcome().await;
        let (recording, files) = &told;
        assert_eq!((recording.state(), recording.error.as_ref()), (State::Succeeded, None));
        assert_eq!(files.len(), 4);
        for file in files {
            assert_eq!(file.uri, format!("s3://{BUCKET}/{}", file.object_key), "{file:?}");
            assert!(file.object_key.starts_with("kept/"), "{file:?}");
        }
        let sessions = self.publisher.sent();
        let ledger = Ledger {
            stream: self.publisher.number,
            footage: &self.publisher.footage,
            sessions: &sessions,
            crashes: &self.stage.crashes,
        };
        let fetch = |key: &str| self.spare.object(key).map(|object| object.body);
        let told = [told.clone()];
        verify::verify(&ledger, &told, &FORMATS, verify::ALLOWANCE, &fetch).assert_clean("in the spare bucket");
        let mp4 = files.iter().find(|file| file.object_key.ends_with(".mp4")).unwrap();
        let request = v1::GeneratePlaybackUrlRequest { name: mp4.name.clone(), ttl: None };
        let url = self.clients.recordings.generate_playback_url(request).await.unwrap().into_inner().url;
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        assert_eq!(whip::request(host, "GET", &format!("/{path}"), &[], "").await.status, 200, "{url}");
        let name = recording.name.clone();
        let clients = &mut self.clients;
        let manifest = wait::until("the manifest to be told of", async || {
            let request = v1::GetRecordingRequest { name: name.clone() };
            clients.recordings.get_recording(request).await.ok()?.into_inner().manifest
        })
        .await;
        assert_eq!(manifest.storage, "storages/spare");
        let document = fetch(&manifest.object_key).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["state"], "SUCCEEDED");
        for file in document["files"].as_array().unwrap() {
            assert_eq!((&file["storage"], &file["state"]), (&"storages/spare".into(), &"AVAILABLE".into()), "{file}");
        }
        assert_eq!(self.verdict(&name).await, Verdict::Intact);
        self.spool_is_empty().await;
    }

    async fn verdict(&mut self, name: &str) -> Verdict {
        let request = v1::VerifyRecordingRequest { name: name.into(), depth: 0 };
        let mut stream = self.clients.recordings.verify_recording(request).await.unwrap().into_inner();
        let mut verdict = Verdict::Unspecified;
        while let Some(message) = stream.message().await.unwrap() {
            if let Some(problem) = message.object.as_ref().and_then(|object| object.error.as_ref()) {
                panic!("{problem:?}");
            }
            verdict = message.verdict();
        }
        verdict
    }

    async fn spool_is_empty(&self) {
        let spool = self.stage.cluster.folder().join("m1/spool");
        let is_media = |path: &String| path.ends_with(".data");
        wait::until_or(
            &"the spool to be empty",
            || format!("{:?}", tree(&spool)),
            async || (!tree(&spool).iter().any(is_media)).then_some(()),
        )
        .await;
    }

    /// The bucket works again: nothing goes there any more, and nothing is open there.
    async fn nothing_comes_back(&mut self, name: &str) {
        self.stage.s3.faults().clear();
        let left = self.stage.cluster.folder().join("m1/spool/state/leftovers.json");
        let read = || std::fs::read_to_string(&left).unwrap_or_else(|error| format!("{}: {error}", left.display()));
        wait::until_or(&"what was left to be tidied", read, async || (read() == "[]").then_some(())).await;
        assert_eq!((self.stage.s3.keys(), self.stage.s3.open_uploads()), (Vec::new(), 0));
        assert_eq!(self.spare.open_uploads(), 0);
        let request = v1::DeleteRecordingRequest { name: name.into(), delete_objects: true, ..Default::default() };
        self.clients.recordings.delete_recording(request).await.unwrap();
        assert_eq!(self.spare.keys(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_refuses_for_good_loses_its_files_to_another() {
    let mut scene = Scene::new().await;
    let recording = scene.publish(DENIED, State::Finalizing).await;
    let asked = Instant::now();
    scene.retry(&recording, "storages/spare").await;
    scene.outcome().await;
    let took = asked.elapsed();
    eprintln!("all files of a recording are in another bucket {} ms after RetryUploads", took.as_millis());
    assert!(took < Duration::from_secs(15), "{took:?}");
    scene.all_is_in_the_spare_bucket().await;
    scene.nothing_comes_back(&recording.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_reach_another_bucket_although_their_node_is_killed_on_the_way() {
    let mut scene = Scene::new().await;
    let recording = scene.publish(DENIED, State::Finalizing).await;
    scene.retry(&recording, "storages/spare").await;
    scene.stage.kill_node(1);
    scene.stage.cluster.start_node(1).await;
    scene.all_is_in_the_spare_bucket().await;
    scene.nothing_comes_back(&recording.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_files_failed_succeeds_when_they_are_tried_again() {
    let mut scene = Scene::new().await;
    let recording = scene.publish(INVALID, State::Failed).await;
    let files = scene.outcome().await.1;
    assert!(files.iter().all(|file| file.state() == v1::file::State::Failed && file.bytes_kept > 0), "{files:?}");
    scene.stage.s3.faults().clear();
    scene.retry(&recording, "").await;
    let recording = scene.clients.wait_for(&scene.domain, "cam1", 1, State::Succeeded).await.remove(0);
    let told = scene.stage.outcome(&scene.domain, "cam1", 1).await;
    scene.stage.verify(&scene.publisher, &told, &FORMATS).assert_clean("tried again");
    scene.spool_is_empty().await;
    assert_eq!(scene.verdict(&recording.name).await, Verdict::Intact);
    scene.stage.no_open_uploads().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_failed_reach_another_bucket() {
    let mut scene = Scene::new().await;
    let recording = scene.publish(INVALID, State::Failed).await;
    scene.retry(&recording, "storages/spare").await;
    scene.clients.wait_for(&scene.domain, "cam1", 1, State::Succeeded).await;
    scene.all_is_in_the_spare_bucket().await;
    scene.nothing_comes_back(&recording.name).await;
}
