//! Whole parts are away or slow (reliability.md, tests 18, 34, 35): recording does not depend on them.
// Times of the machine are what is compared here.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use media::TrackKind;
use rand::Rng;
use recorder_proto::pb::v1;
use recorder_tests::bucket::StoredObject;
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::prefix::Watch;
use recorder_tests::publisher::Source;
use recorder_tests::reading::{beside, playlist};
use recorder_tests::scene::{Clients, all_formats};
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::{probe, slow, wait};
use v1::template::Hls;

const FORMATS: [&str; 4] = ["AAC", "FLV", "HLS", "MP4"];

fn short_segments(window: i64) -> v1::Template {
    let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
    let resume_timeout = (window > 0).then(|| seconds(window));
    v1::Template {
        hls: Some(Hls { segment_duration: Some(seconds(1)), resume_timeout, ..Default::default() }),
        ..v1::Template::default()
    }
}

async fn frames(publisher: &Publisher, count: usize) {
    wait::until("frames to be sent", async || (publisher.frames(TrackKind::Video) >= count).then_some(())).await;
}

fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
}

fn at(time: &Option<prost_types::Timestamp>) -> SystemTime {
    let time = time.as_ref().expect("a time");
    SystemTime::UNIX_EPOCH + Duration::new(time.seconds as u64, time.nanos as u32)
}

/// Reliability test 18: the control plane is off during a whole publish (10 min in `make soak-outages`).
#[tokio::test(flavor = "multi_thread")]
async fn control_down_at_publish() {
    let mut stage = Stage::start(seeds(1)[0]).await;
    let domain = stage.template("all", all_formats()).await;
    let footage = Footage::encode(&Source { seconds: 4, ..Default::default() }, stage.cluster.folder());
    stage.cluster.control.take().unwrap().kill();
    let before = SystemTime::now();
    let mut publisher = Publisher::new(&domain, "cam1", 1, &footage);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    frames(&publisher, wait::outage(5) * 30).await;
    publisher.leave().await;
    // The bucket's secret comes from the control plane, so that until it is back the files wait on the node.
    wait::until("the recording to end", async || {
        stage.cluster.nodes[0].log_text().contains("recording ended").then_some(())
    })
    .await;
    let after = SystemTime::now();
    stage.cluster.start_control().await;
    let told = stage.outcome(&domain, "cam1", 1).await;
    stage.verify(&publisher, &told, &FORMATS).assert_clean("published without a control plane");
    let (recording, _) = &told[0];
    let ids: Vec<String> = stage.s3.keys().iter().map(|key| key.split('/').nth(4).unwrap().to_owned()).collect();
    assert!(ids.iter().all(|id| recording.name == format!("recordings/{id}")), "{ids:?} {}", recording.name);
    let (start, end) = (at(&recording.start_time), at(&recording.end_time));
    assert!(before <= start && start < end && end <= after, "{before:?} {start:?} {end:?} {after:?}");
    let length = end.duration_since(start).unwrap().as_secs_f64();
    let frames = publisher.frames(TrackKind::Video) as u32;
    let sent = footage.time_of(TrackKind::Video, frames) as f64 / 1_000.0;
    assert!((length - sent).abs() < 0.7, "{length} s of {sent} s");
    assert_eq!(recording.protocol(), v1::protocol::Kind::Rtmp);
    assert_eq!(recording.epoch, 1);
    let bindings = Clients::of(&stage.cluster).await.domains.list_bindings(v1::ListBindingsRequest::default()).await;
    let binding = bindings.unwrap().into_inner().bindings.remove(0).name;
    assert_eq!(recording.origin, Some(v1::recording::Origin::Binding(binding)));
}

/// Reliability test 34: after every single write into the bucket each playlist in it is valid, and what it names plays;
/// also while the node is killed and the publisher returns.
#[tokio::test(flavor = "multi_thread")]
async fn hls_prefix_property() {
    let mut stage = Stage::start(seeds(1)[0]).await;
    let changes = stage.s3.changes();
    let calm = stage.template("calm", short_segments(0)).await;
    let stormy = stage.template("stormy", short_segments(8)).await;
    let source = Source { seconds: 4, gop: 15, ..Default::default() };
    let footage = Footage::encode(&source, stage.cluster.folder());
    let mut publishers = [Publisher::new(&calm, "cam1", 1, &footage), Publisher::new(&stormy, "cam2", 2, &footage)];
    let address = stage.cluster.rtmp(1).to_owned();
    for publisher in &mut publishers {
        publisher.connect(1, &address).await.unwrap();
    }
    frames(&publishers[1], 120).await;
    stage.random_pause(Duration::ZERO, Duration::from_secs(1)).await;
    stage.kill_node(1);
    for publisher in &mut publishers {
        publisher.broken().await;
    }
    stage.cluster.start_node(1).await;
    publishers[1].connect(1, &address).await.unwrap();
    frames(&publishers[1], 240).await;
    publishers[1].leave().await;
    for (publisher, domain) in publishers.iter().zip([&calm, &stormy]) {
        let told = stage.outcome(domain, &publisher.name, 1).await;
        stage.verify(publisher, &told, &["HLS"]).assert_clean(&publisher.name);
        assert_eq!(told.len(), 1);
    }
    let (mut watch, mut versions, mut objects) = (Watch::default(), Vec::new(), BTreeMap::new());
    while let Ok(change) = changes.try_recv() {
        watch.see(&change);
        if let Some(object) = change.after {
            if change.key.ends_with(".m3u8") {
                versions.push((change.key.clone(), object.clone()));
            }
            objects.insert(change.key, object);
        }
    }
    assert_eq!(watch.problems, Vec::<String>::new());
    assert!(versions.len() >= 10, "{} versions", versions.len());
    for _ in 0..4 {
        let (key, version) = &versions[stage.random.random_range(0..versions.len())];
        plays(key, version, &objects);
    }
}

/// A player that came at that instant would have played it.
fn plays(key: &str, version: &StoredObject, objects: &BTreeMap<String, StoredObject>) {
    let folder = tempfile::tempdir().unwrap();
    let write = |key: &str, body: &[u8]| {
        let path = folder.path().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, body).unwrap();
        path
    };
    let parsed = playlist(key, &version.body).unwrap();
    for segment in &parsed.segments {
        let key = beside(key, &segment.uri);
        write(&key, &objects[&key].body);
    }
    // Without an end ffmpeg would wait for more.
    let end: &[u8] = if parsed.end_list { b"" } else { b"#EXT-X-ENDLIST\n" };
    probe::decodes(&write(key, &[&version.body, end].concat()));
}

/// Reliability test 35, without transcoding, which does not exist: the disk takes 5 MB/s, no processor is free, and over
/// a line of 1 Mbit/s nothing reaches the bucket in time; but no publisher notices, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn slow_everything() {
    let folder = tempfile::tempdir().unwrap();
    let disk = slow::disk(folder.path(), "/spool/", 5_000_000);
    let settings: Vec<(&str, &str)> = disk.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut stage = Stage::start_with(seeds(1)[0], &settings, &[]).await;
    let domain = stage.template("all", all_formats()).await;
    let footage = Footage::encode(&Source { seconds: 4, ..Default::default() }, stage.cluster.folder());
    let mut publishers = Vec::new();
    stage.s3.limit(125_000);
    let busy = slow::Busy::start();
    for number in 0..4 {
        let mut publisher = Publisher::new(&domain, &format!("cam{number}"), number, &footage);
        publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
        publishers.push(publisher);
    }
    frames(&publishers[3], 300).await;
    for publisher in &mut publishers {
        publisher.leave().await;
        let slowest = publisher.sent().iter().map(|session| session.longest_write).max().unwrap();
        assert!(slowest < Duration::from_secs(1), "{} was blocked for {slowest:?}", publisher.name);
    }
    drop(busy);
    let there: usize = stage.s3.keys().iter().map(|key| stage.fetch(key).unwrap().len()).sum();
    assert!(there < 2_000_000, "{there} bytes came over a slow line");
    let (_, metrics) = stage.cluster.nodes[0].get("admin", "/metrics").await.unwrap();
    let syncs = |what: &str| value(&metrics, &format!("recorder_spool_fsync_seconds_{what}"));
    let sync = syncs("sum") / syncs("count");
    assert!(sync > 0.02, "a sync took {sync} s: that is no slow disk");
    assert_eq!(stage.cluster.nodes[0].get("admin", "/readyz").await.unwrap().0, 200);
    stage.s3.limit(0);
    for publisher in &publishers {
        let told = stage.outcome(&domain, &publisher.name, 1).await;
        stage.verify(publisher, &told, &FORMATS).assert_clean(&publisher.name);
    }
    stage.no_open_uploads().await;
}
