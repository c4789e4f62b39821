//! A node that is emptied: publishers end or move, what is recorded is shipped, and the process leaves in time.

use std::time::{Duration, Instant};

use media::TrackKind;
use recorder_proto::pb::v1;
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::publisher::Source;
use recorder_tests::scene::{Clients, all_formats};
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::wait;
use v1::node_service_client::NodeServiceClient;
use v1::recording::{EndReason, State};

const FORMATS: [&str; 4] = ["AAC", "FLV", "HLS", "MP4"];
const DOMAIN: &str = "drain.push.example.com";

fn hls_only(window: i64) -> v1::Template {
    let wait = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let hls = v1::template::Hls { segment_duration: wait(1), resume_timeout: wait(window), ..Default::default() };
    v1::Template { hls: Some(hls), ..Default::default() }
}

async fn stage(template: v1::Template, settings: &[(&str, &str)]) -> Stage {
    let mut stage = Stage::start_with(seeds(1)[0], settings, &[]).await;
    stage.template("drain", template).await;
    stage
}

fn footage(stage: &Stage) -> std::sync::Arc<Footage> {
    Footage::encode(&Source { seconds: 4, ..Default::default() }, stage.cluster.folder())
}

async fn node_is(stage: &Stage, state: v1::node::State) {
    let mut nodes = NodeServiceClient::new(stage.cluster.api().await);
    wait::until(&format!("node 1 to be {state:?}"), async || {
        let request = v1::GetNodeRequest { name: "nodes/m1".into() };
        (nodes.get_node(request).await.ok()?.into_inner().state() == state).then_some(())
    })
    .await;
}

/// Reliability test 21: publishers that can reconnect are asked to, and every recording goes on at the
/// other node.
#[tokio::test(flavor = "multi_thread")]
async fn rolling_drain() {
    const STREAMS: u32 = 20;
    let mut stage = stage(hls_only(30), &[]).await;
    stage.cluster.start_node(2).await;
    let footage = footage(&stage);
    let mut publishers: Vec<_> =
        (0..STREAMS).map(|number| Publisher::new(DOMAIN, &format!("cam{number}"), number, &footage)).collect();
    for publisher in &mut publishers {
        publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    }
    publishers[0].sent_more(60).await;
    let mut nodes = NodeServiceClient::new(stage.cluster.api().await);
    let mode = v1::drain_node_request::Mode::Move.into();
    let request = v1::DrainNodeRequest { name: "nodes/m1".into(), mode, ..Default::default() };
    nodes.drain_node(request).await.unwrap();
    for publisher in &mut publishers {
        wait::until("to be asked to reconnect", async || publisher.is_asked_to_reconnect().then_some(())).await;
        publisher.cut().await;
        publisher.connect(2, stage.cluster.rtmp(2)).await.unwrap();
    }
    // Nobody new is let in meanwhile, and the node says why.
    let refused = Publisher::new(DOMAIN, "late", 99, &footage).connect(1, stage.cluster.rtmp(1)).await.unwrap_err();
    assert!(refused.contains("publish to another one"), "{refused}");
    node_is(&stage, v1::node::State::Drained).await;
    publishers[0].sent_more(60).await;
    let begun = Instant::now();
    assert_eq!(stage.cluster.nodes[0].terminate().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let log = stage.cluster.nodes[0].log_text();
    assert!(log.contains("everything is delivered"), "{log}");
    for publisher in &mut publishers {
        publisher.leave().await;
    }
    let mut clients = Clients::of(&stage.cluster).await;
    for publisher in &publishers {
        // The window is still open; an operator ends it.
        let waiting = clients.wait_for(DOMAIN, &publisher.name, 1, State::Interrupted).await.remove(0);
        clients.recordings.stop_recording(v1::StopRecordingRequest { name: waiting.name }).await.unwrap();
        let told = stage.outcome(DOMAIN, &publisher.name, 1).await;
        // The size of a playlist's file counts what its last epoch wrote.
        let verdict = stage.verify(publisher, &told, &["HLS"]);
        assert!(verdict.problems.iter().all(|problem| problem.contains(" bytes told, ")), "{:?}", verdict.problems);
        assert_eq!((told.len(), told[0].0.epoch), (1, 2));
        let longest = told[0].0.gaps.iter().filter_map(|gap| gap.duration.as_ref()).map(|gap| gap.seconds).max();
        assert!(longest.is_some_and(|seconds| seconds < 2), "{:?}", told[0].0.gaps);
    }
}

/// A drain that is called off lets publishers in again; meanwhile those who are there stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_waits_can_be_called_off() {
    let stage = stage(hls_only(0), &[]).await;
    let footage = footage(&stage);
    let mut publisher = Publisher::new(DOMAIN, "cam1", 1, &footage);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    publisher.sent_more(30).await;
    let mut nodes = NodeServiceClient::new(stage.cluster.api().await);
    let mode = v1::drain_node_request::Mode::Wait.into();
    nodes.drain_node(v1::DrainNodeRequest { name: "nodes/m1".into(), mode, ..Default::default() }).await.unwrap();
    let mut late = Publisher::new(DOMAIN, "late", 2, &footage);
    wait::until("newcomers to be refused", async || match late.connect(1, stage.cluster.rtmp(1)).await {
        Ok(()) => {
            late.leave().await;
            None
        }
        Err(refused) => refused.contains("publish to another one").then_some(()),
    })
    .await;
    publisher.sent_more(30).await;
    nodes.resume_node(v1::ResumeNodeRequest { name: "nodes/m1".into() }).await.unwrap();
    let mut back = Publisher::new(DOMAIN, "back", 3, &footage);
    wait::until("newcomers to be let in", async || back.connect(1, stage.cluster.rtmp(1)).await.ok()).await;
    assert!(publisher.is_publishing(), "who was there stayed");
}

/// Publishers that do not leave by themselves are closed before the deadline, their recordings delivered.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_waits_for_publishers_until_the_deadline() {
    let settings = [("RECORDER_DRAIN_MODE", "wait"), ("RECORDER_DRAIN_DEADLINE", "4s")];
    let mut stage = stage(all_formats(), &settings).await;
    let footage = footage(&stage);
    let mut publisher = Publisher::new(DOMAIN, "cam1", 1, &footage);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    publisher.sent_more(30).await;
    let begun = Instant::now();
    assert_eq!(stage.cluster.nodes[0].terminate().await, Some(0));
    let took = begun.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(6)).contains(&took), "{took:?}");
    publisher.broken().await;
    stage.crashes.push(recorder_tests::accounting::Crash { node: 1, at: publisher.sent()[0].ended.unwrap().0 });
    let told = stage.outcome(DOMAIN, "cam1", 1).await;
    stage.verify(&publisher, &told, &FORMATS).assert_clean("until the deadline");
    assert_eq!(told[0].0.end_reason(), EndReason::NodeDrained);
    assert!(publisher.frames(TrackKind::Video) >= 90, "it went on while the node waited");
}

/// Reliability test 22: the bucket takes too little to be done by the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_mid_upload_deadline() {
    const DEADLINE: Duration = Duration::from_secs(3);
    let settings = [("RECORDER_DRAIN_MODE", "move"), ("RECORDER_DRAIN_DEADLINE", "3s")];
    let mut stage = stage(all_formats(), &settings).await;
    let footage = Footage::encode_padded(&Source { seconds: 4, ..Default::default() }, stage.cluster.folder(), 16_000);
    let mut publisher = Publisher::new(DOMAIN, "cam1", 1, &footage).at_pace(4.0);
    stage.s3.limit(100_000);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    publisher.sent_more(240).await;
    publisher.leave().await;
    let begun = Instant::now();
    assert_eq!(stage.cluster.nodes[0].terminate().await, Some(0));
    assert!(begun.elapsed() < DEADLINE + Duration::from_secs(2), "{:?}", begun.elapsed());
    let log = stage.cluster.nodes[0].log_text();
    assert!(log.contains("these bytes ship after the next start"), "{log}");
    stage.s3.limit(0);
    stage.cluster.start_node(1).await;
    let told = stage.outcome(DOMAIN, "cam1", 1).await;
    stage.verify(&publisher, &told, &FORMATS).assert_clean("after the deadline");
    stage.no_open_uploads().await;
}
