//! A storage that is away, refuses or is not there, end to end (reliability.md, tests 8, 11 and 12): recordings go on,
//! nothing is lost, and it is told once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media::TrackKind;
use recorder_proto::pb::v1;
use recorder_tests::bucket::{BUCKET, Fault, S3Server};
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::publisher::Source;
use recorder_tests::scene::{Clients, all_formats};
use recorder_tests::stage::{STORAGE, Stage, s3_target, seeds};
use recorder_tests::wait;
use v1::storage::S3;
use v1::template::{Flv, Hls};

const FORMATS: [&str; 2] = ["FLV", "HLS"];

const EVER: usize = usize::MAX;

fn flv_and_hls() -> v1::Template {
    let hls = Hls { segment_duration: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..Hls::default() };
    v1::Template { flv: Some(Flv::default()), hls: Some(hls), ..v1::Template::default() }
}

fn footage(stage: &Stage) -> Arc<Footage> {
    Footage::encode(&Source { seconds: 4, gop: 15, ..Default::default() }, stage.cluster.folder())
}

async fn frames(publisher: &Publisher, count: usize) {
    wait::until("frames to be sent", async || (publisher.frames(TrackKind::Video) >= count).then_some(())).await;
}

async fn logged(stage: &Stage, words: &str, times: usize) {
    wait::until(words, async || (lines(stage, words).len() >= times).then_some(())).await;
}

/// Lines of the node's log.
fn lines(stage: &Stage, words: &str) -> Vec<String> {
    let log = stage.cluster.nodes[0].log_text();
    log.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

/// Test 8 of reliability.md: the bucket fails for the whole of two recordings (seconds here, half an hour in
/// `make soak-outages`).
#[tokio::test(flavor = "multi_thread")]
async fn bucket_down() {
    let mut stage = Stage::start_with(seeds(1)[0], &[("RECORDER_UPLOAD_STALLED_AFTER", "1s")], &[]).await;
    let domain = stage.template("all", flv_and_hls()).await;
    let footage = footage(&stage);
    let unavailable = Fault::Answer { status: 503, code: "ServiceUnavailable", message: "Come back later." };
    stage.s3.faults().add("*", unavailable, EVER);
    let mut publishers = [Publisher::new(&domain, "cam1", 1, &footage), Publisher::new(&domain, "cam2", 2, &footage)];
    let address = stage.cluster.rtmp(1).to_owned();
    for publisher in &mut publishers {
        publisher.connect(1, &address).await.unwrap();
    }
    let outage = wait::outage(3);
    frames(&publishers[1], outage * 30).await;
    for publisher in &mut publishers {
        publisher.leave().await;
    }
    // Both files of both recordings.
    logged(&stage, "an upload stands still", 4).await;
    assert!(stage.s3.keys().is_empty());
    stage.s3.faults().clear();
    let healed = Instant::now();
    let mut told = Vec::new();
    for publisher in &publishers {
        told.push(stage.outcome(&domain, &publisher.name, 1).await);
    }
    // Storages are tried anew at most half a minute after they work again.
    let drained = healed.elapsed().saturating_sub(Duration::from_secs(30)).as_secs_f64();
    assert!(drained <= outage as f64 / 3.0, "{drained} s for a backlog of {outage} s");
    for (publisher, told) in publishers.iter().zip(&told) {
        stage.verify(publisher, told, &FORMATS).assert_clean(&publisher.name);
    }
    logged(&stage, "an upload goes on", 4).await;
    assert_eq!(lines(&stage, "an upload stands still").len(), 4, "once each");
    assert_eq!(lines(&stage, "an upload goes on").len(), 4, "once each");
    stage.no_open_uploads().await;
}

/// Test 11 of reliability.md: the provider refuses the key from some moment on; a new one is given, and nobody touches
/// the node.
#[tokio::test(flavor = "multi_thread")]
async fn credential_revoked_midway() {
    let mut stage = Stage::start(seeds(1)[0]).await;
    let domain = stage.template("all", flv_and_hls()).await;
    let footage = footage(&stage);
    let mut publisher = Publisher::new(&domain, "cam1", 1, &footage);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    frames(&publisher, 60).await;
    let refused = Fault::Answer { status: 403, code: "InvalidAccessKeyId", message: "The key does not exist." };
    stage.s3.faults().add("*", refused, EVER);
    let mut clients = Clients::of(&stage.cluster).await;
    let name = format!("storages/{STORAGE}");
    let mut failing = async || {
        let request = v1::GetStorageRequest { name: name.clone() };
        let storage = clients.storages.get_storage(request).await.ok()?.into_inner();
        (storage.state() == v1::storage::State::Failing).then_some(storage)
    };
    let storage = wait::until("the storage to be failing", async || failing().await).await;
    assert_eq!(storage.last_error.unwrap().code, 7, "PERMISSION_DENIED");
    logged(&stage, "InvalidAccessKeyId", 1).await;
    let before = publisher.frames(TrackKind::Video);
    frames(&publisher, before + 60).await;
    publisher.leave().await;
    stage.s3.faults().clear();
    let storage = v1::Storage { name, target: Some(s3_target(&stage.s3)), ..Default::default() };
    let request = v1::UpdateStorageRequest { storage: Some(storage), ..Default::default() };
    let mut clients = Clients::of(&stage.cluster).await;
    let updated = clients.storages.update_storage(request).await.unwrap().into_inner();
    let told = stage.outcome(&domain, "cam1", 1).await;
    stage.verify(&publisher, &told, &FORMATS).assert_clean("after the new key");
    stage.no_open_uploads().await;
    let secret = stage.s3.options().secret_key.as_str();
    let logs = [&stage.cluster.nodes[0], stage.cluster.control.as_ref().unwrap()].map(|process| process.log_text());
    assert!(logs.iter().all(|log| !log.contains(secret)), "a secret in a log");
    assert!(!format!("{updated:?} {told:?}").contains(secret), "a secret in a reply");
}

/// Test 12 of reliability.md: the bucket is elsewhere; whole files go to the backup storage and come back.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_region_or_bucket() {
    let mut stage = Stage::start_with(seeds(1)[0], &[("RECORDER_UPLOAD_BACKUP_AFTER", "2s")], &[]).await;
    let other = S3Server::start("AKOTHER", "SKOTHER-keep-me-secret").await;
    let mut clients = Clients::of(&stage.cluster).await;
    other.create_bucket("spare");
    let v1::storage::Target::S3(target) = s3_target(&other) else { unreachable!() };
    clients.storage("spare", v1::storage::Target::S3(S3 { bucket: "spare".into(), ..target })).await;
    let storage =
        v1::Storage { name: format!("storages/{STORAGE}"), backup: "storages/spare".into(), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["backup".into()] });
    let request = v1::UpdateStorageRequest { storage: Some(storage), update_mask, ..Default::default() };
    clients.storages.update_storage(request).await.unwrap();
    let domain = stage.template("all", all_formats()).await;
    let footage = footage(&stage);
    stage.s3.faults().add("*", Fault::OtherRegion("eu-central-1"), EVER);
    let mut publisher = Publisher::new(&domain, "cam1", 1, &footage);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    frames(&publisher, 90).await;
    publisher.leave().await;
    let told = stage.outcome(&domain, "cam1", 1).await;
    let files = &told[0].1;
    assert_eq!(files.len(), 4);
    for file in files {
        assert_eq!(file.uri, format!("s3://spare/{}", file.object_key));
    }
    let stored = other.faults().calls("PutObject");
    assert!(stored > 4, "{stored}: whole files, segments included");
    assert_eq!((stage.s3.keys().len(), other.open_uploads()), (0, 0));
    stage.s3.faults().clear();
    let what = "every file to be back";
    wait::until(what, async || {
        let told = stage.outcome(&domain, "cam1", 1).await;
        told[0].1.iter().all(|file| file.uri == format!("s3://{BUCKET}/{}", file.object_key)).then_some(())
    })
    .await;
    let told = stage.outcome(&domain, "cam1", 1).await;
    stage.verify(&publisher, &told, &["AAC", "FLV", "HLS", "MP4"]).assert_clean("back from the backup");
    let deleted = || other.faults().calls("DeleteObject");
    wait::until("the copies to be deleted", async || (deleted() >= 4).then_some(())).await;
    let is_manifest = |key: &String| key.ends_with("manifest.json");
    wait::until("the manifest", async || stage.s3.keys().iter().any(is_manifest).then_some(())).await;
    let key = stage.s3.keys().into_iter().find(is_manifest).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&stage.fetch(&key).unwrap()).unwrap();
    for file in manifest["files"].as_array().unwrap() {
        assert_eq!(file["storage"], format!("storages/{STORAGE}"));
    }
    let log = stage.cluster.nodes[0].log_text();
    assert!([&stage.s3, &other].iter().all(|server| !log.contains(&server.options().secret_key)), "a secret in a log");
    stage.no_open_uploads().await;
}
