//! Reliability test 17: two processes under one node id; and one process that stands still.

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::node_service_client::NodeServiceClient;
use std::time::Duration;

use recorder_tests::cluster::Cluster;
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::process::Process;
use recorder_tests::publisher::Source;
use recorder_tests::road;
use recorder_tests::scene::all_formats;
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::wait;

/// The older process is cut off and leaves with a clear line; the newer one has the node.
#[tokio::test(flavor = "multi_thread")]
async fn same_node_id_twice() {
    let mut cluster = Cluster::start().await;
    let mut nodes = NodeServiceClient::new(cluster.api().await);
    let get = v1::GetNodeRequest { name: "m1".into() };
    let before = nodes.get_node(get.clone()).await.unwrap().into_inner();
    let folder = cluster.folder().join("twin");
    let any = || "127.0.0.1:0".to_owned();
    let settings = [
        ("RECORDER_NODE_ID", "m1".to_owned()),
        ("RECORDER_LINK_CONTROL", cluster.control.as_ref().unwrap().url("link")),
        ("RECORDER_SPOOL_PATH", folder.join("spool").display().to_string()),
        ("RECORDER_LIBRARY_ROOT", cluster.library().display().to_string()),
        ("RECORDER_RTMP_LISTEN", any()),
        ("RECORDER_HTTP_LISTEN", any()),
        ("RECORDER_ADMIN_LISTEN", any()),
    ];
    let mut twin = Process::start("recorder-media", &folder, &settings).await;
    let older = &mut cluster.nodes[0];
    let code = wait::until("the older process to leave", async || older.exit_code()).await;
    assert_ne!(code, 0);
    let log = older.log_text();
    let said = log.lines().rev().find(|line| line.contains("another process"));
    assert!(said.is_some(), "no clear line at its end:\n{log}");
    let after = nodes.get_node(get).await.unwrap().into_inner();
    assert!(after.epoch > before.epoch && after.boot_id != before.boot_id, "{after:?}");
    assert_eq!(after.state(), v1::node::State::Active);
    assert!(twin.is_running());
}

/// The smallest window that is honoured: an acknowledgement is due after every read.
const WINDOW: u32 = 1_024;
/// Pictures, and bytes of them, that are more than a receive queue holds: most of them wait at the publisher's side.
const PICTURES: usize = 100;
const IN_THE_SOCKETS: u64 = 3_000_000;

/// A node with a stream of 9 Mbit/s, whose publisher wants everything to be acknowledged.
async fn stage(settings: &[(&str, &str)]) -> (Stage, String, Publisher) {
    let mut stage = Stage::start_with(seeds(1)[0], settings, &[]).await;
    let domain = stage.template("all", all_formats()).await;
    let footage = Footage::encode_padded(&Source { seconds: 4, ..Default::default() }, stage.cluster.folder(), 9_000);
    let mut publisher = Publisher::new(&domain, "cam1", 1, &footage).acknowledged_every(WINDOW);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    publisher.sent_more(60).await;
    (stage, domain, publisher)
}

/// The process stands still while its publisher sends on, and then closes its connection without waiting for anything.
async fn abandoned_while_it_stands_still(stage: &Stage, publisher: &mut Publisher) {
    let before = publisher.bytes();
    stage.cluster.nodes[0].pause();
    publisher.sent_more(PICTURES).await;
    publisher.abandon().await;
    let sent = publisher.bytes() - before;
    assert!(sent >= IN_THE_SOCKETS, "{sent} bytes are in the sockets");
}

async fn nothing_is_lost(stage: &Stage, domain: &str, publisher: &Publisher) {
    let told = stage.outcome(domain, "cam1", 1).await;
    let verdict = stage.verify(publisher, &told, &["AAC", "FLV", "HLS", "MP4"]);
    for (format, accounting) in &verdict.formats {
        let lost = accounting.lost.len();
        assert_eq!(accounting.problems(Duration::ZERO), "", "{format}: {lost} of {} frames lost", accounting.sent);
    }
}

/// A publisher sends into the sockets of a process that stands still, and is gone when it goes on: all of it is there.
/// One byte sent to a publisher that is gone would make its system throw away what still waits there.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_the_process_stood_still_is_recorded() {
    let (stage, domain, mut publisher) = stage(&[]).await;
    abandoned_while_it_stands_still(&stage, &mut publisher).await;
    stage.cluster.nodes[0].go_on();
    nothing_is_lost(&stage, &domain, &publisher).await;
}

/// The process stands still for longer than a publisher may be silent: it was not silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_stand_still_is_not_the_publishers_silence() {
    let (stage, domain, mut publisher) = stage(&[("RECORDER_RTMP_IDLE_TIMEOUT", "1s")]).await;
    abandoned_while_it_stands_still(&stage, &mut publisher).await;
    stage.cluster.nodes[0].go_on();
    nothing_is_lost(&stage, &domain, &publisher).await;
}

/// The publisher is back at the same node before that goes on: its new connection does not come before the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_returns_to_a_process_that_stood_still_loses_nothing() {
    let (stage, domain, mut publisher) = stage(&[]).await;
    abandoned_while_it_stands_still(&stage, &mut publisher).await;
    let go_on = async { stage.cluster.nodes[0].go_on() };
    tokio::join!(publisher.connect(1, stage.cluster.rtmp(1)), go_on).0.unwrap();
    publisher.sent_more(60).await;
    publisher.leave().await;
    nothing_is_lost(&stage, &domain, &publisher).await;
}

/// What the publisher has left behind comes over a slow road, but a little faster than it was made.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_slowly_after_a_stand_still_is_recorded() {
    let mut stage = Stage::start(seeds(1)[0]).await;
    let domain = stage.template("all", all_formats()).await;
    let source = Source { seconds: 4, ..Default::default() };
    let footage = Footage::encode_padded(&source, stage.cluster.folder(), 2_000);
    let mut publisher = Publisher::new(&domain, "cam1", 1, &footage).acknowledged_every(WINDOW);
    let road = road::to(stage.cluster.rtmp(1), 370_000).await;
    publisher.connect(1, &road).await.unwrap();
    publisher.sent_more(60).await;
    stage.cluster.nodes[0].pause();
    publisher.sent_more(150).await;
    publisher.abandon().await;
    stage.cluster.nodes[0].go_on();
    nothing_is_lost(&stage, &domain, &publisher).await;
}
