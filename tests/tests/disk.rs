//! The node's disk under pressure (reliability.md, tests 5 and 7): admission stops before it is full, and a node that
//! comes back to many open files goes on where it was.

use std::time::{Duration, Instant};

use media::TrackKind;
use recorder_proto::pb::v1;
use recorder_tests::bucket::Fault;
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::publisher::Source;
use recorder_tests::scene::{Clients, all_formats};
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::wait;
use v1::template::Flv;

const FORMATS: [&str; 4] = ["AAC", "FLV", "HLS", "MP4"];
const AWAY: Fault = Fault::Answer { status: 503, code: "ServiceUnavailable", message: "Please try again." };

/// Whether the node is ready, and why not.
async fn ready(stage: &Stage) -> (bool, String) {
    let (status, text) = stage.cluster.nodes[0].get("admin", "/readyz").await.expect("an answer");
    (status == 200, text)
}

/// Reliability test 5, end to end: the bucket is away until the spool is full.
#[tokio::test(flavor = "multi_thread")]
async fn disk_full() {
    let mut stage = Stage::start_with(seeds(1)[0], &[("RECORDER_SPOOL_LIMIT", "48MiB")], &[]).await;
    let domain = stage.template("all", all_formats()).await;
    let source = Source { seconds: 4, ..Default::default() };
    let plain = Footage::encode(&source, stage.cluster.folder());
    let rich = Footage::encode_padded(&source, stage.cluster.folder(), 6_000);
    let address = stage.cluster.rtmp(1).to_owned();
    let mut running = Publisher::new(&domain, "running", 1, &plain);
    running.connect(1, &address).await.unwrap();
    stage.s3.faults().add("*", AWAY, usize::MAX);
    let mut greedy = Publisher::new(&domain, "greedy", 2, &rich).at_pace(3.0);
    greedy.connect(1, &address).await.unwrap();
    wait::until("the node to refuse more", async || (!ready(&stage).await.0).then_some(())).await;
    let (_, why) = ready(&stage).await;
    assert!(why.contains("spool"), "{why}");
    let refused = Publisher::new(&domain, "late", 3, &plain).connect(1, &address).await;
    let Err(refused) = refused else { panic!("taken, although {why}; now {:?}", ready(&stage).await) };
    assert!(refused.contains("refused") && refused.contains("spool"), "{refused}");
    let mut clients = v1::node_service_client::NodeServiceClient::new(stage.cluster.api().await);
    wait::until("the control plane to know", async || {
        let request = v1::GetNodeRequest { name: "nodes/m1".into() };
        let node = clients.get_node(request).await.ok()?.into_inner();
        (node.spool_bytes * 10 >= node.spool_limit_bytes * 8).then_some(())
    })
    .await;
    // Those that run go on, into the part of the disk that is kept for them, until even that is full.
    let mut progress = (0, Instant::now());
    wait::until("the disk to be full", async || {
        let frames = greedy.frames(TrackKind::Video);
        if frames != progress.0 {
            progress = (frames, Instant::now());
        }
        (progress.1.elapsed() > Duration::from_secs(1)).then_some(())
    })
    .await;
    assert!(running.is_publishing() && greedy.is_publishing(), "back-pressure, not an end");
    stage.s3.faults().clear();
    let frames = (running.frames(TrackKind::Video), greedy.frames(TrackKind::Video));
    wait::until("both to go on", async || {
        let grown = running.frames(TrackKind::Video) > frames.0 + 30 && greedy.frames(TrackKind::Video) > frames.1 + 30;
        grown.then_some(())
    })
    .await;
    greedy.leave().await;
    wait::until("the node to take publishers again", async || ready(&stage).await.0.then_some(())).await;
    let mut late = Publisher::new(&domain, "late", 3, &plain);
    late.connect(1, &address).await.unwrap();
    wait::until("frames", async || (late.frames(TrackKind::Video) > 30).then_some(())).await;
    for publisher in [&mut running, &mut late] {
        publisher.leave().await;
    }
    for publisher in [&running, &greedy, &late] {
        let told = stage.outcome(&domain, &publisher.name, 1).await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0.state(), v1::recording::State::Succeeded);
        stage.verify(publisher, &told, &FORMATS).assert_clean(&publisher.name);
    }
    stage.no_open_uploads().await;
}

/// Reliability test 7, end to end: fifty files are open when the node is killed, one of them with parts in the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn restart_with_50_open_spools() {
    let mut stage = Stage::start(seeds(1)[0]).await;
    let flv = Flv { upload_while_recording: true, ..Default::default() };
    let domain = stage.template("flv", v1::Template { flv: Some(flv), ..Default::default() }).await;
    let source = Source { seconds: 4, kilobits: 150, ..Default::default() };
    let plain = Footage::encode(&source, stage.cluster.folder());
    let rich = Footage::encode_padded(&source, stage.cluster.folder(), 8_000);
    let address = stage.cluster.rtmp(1).to_owned();
    let mut publishers = Vec::new();
    for number in 0..50 {
        let footage = if number == 0 { &rich } else { &plain };
        let mut publisher = Publisher::new(&domain, &format!("cam{number}"), number, footage);
        publisher.connect(1, &address).await.unwrap();
        publishers.push(publisher);
    }
    wait::until("a part to be stored", async || {
        (stage.s3.faults().calls("UploadPart") >= 1 && publishers[49].frames(TrackKind::Video) > 45).then_some(())
    })
    .await;
    // A part takes seconds to fill: after a moment none is on its way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stage.kill_node(1);
    for publisher in &mut publishers {
        publisher.broken().await;
    }
    let begun = Instant::now();
    stage.cluster.start_node_detached(1).await;
    wait::until("the node to be ready", async || ready(&stage).await.0.then_some(())).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "ready after {:?}", begun.elapsed());
    let mut clients = Clients::of(&stage.cluster).await;
    wait::until("fifty recordings", async || {
        let request = v1::ListRecordingsRequest { page_size: 1_000, ..Default::default() };
        let recordings = clients.recordings.list_recordings(request).await.ok()?.into_inner().recordings;
        (recordings.len() == 50).then_some(())
    })
    .await;
    let mut parts = 0;
    for publisher in &publishers {
        let told = stage.outcome(&domain, &publisher.name, 1).await;
        assert_eq!(told[0].1.len(), 1, "{told:?}");
        let verdict = stage.verify(publisher, &told, &["FLV"]);
        verdict.assert_clean(&publisher.name);
        parts += verdict.objects.iter().filter_map(|key| stage.s3.object(key)?.parts).sum::<usize>();
    }
    assert_eq!(stage.s3.faults().calls("UploadPart"), parts as u64, "parts that were stored are not sent again");
    stage.no_open_uploads().await;
}
