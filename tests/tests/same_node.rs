//! Reliability test 17: two processes under one node id; and one process that stands still.

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::node_service_client::NodeServiceClient;
use std::time::Duration;

use recorder_tests::cluster::Cluster;
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::process::Process;
use recorder_tests::publisher::Source;
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

/// A publisher sends into the sockets of a process that stands still, and is gone when it goes on: all of it is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_the_process_stood_still_is_recorded() {
    let mut stage = Stage::start(seeds(1)[0]).await;
    let domain = stage.template("all", all_formats()).await;
    let source = Source { seconds: 4, kilobits: 4_000, ..Default::default() };
    let footage = Footage::encode(&source, stage.cluster.folder());
    let mut publisher = Publisher::new(&domain, "cam1", 1, &footage);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    publisher.sent_more(60).await;
    stage.cluster.nodes[0].pause();
    publisher.sent_more(60).await;
    publisher.abandon().await;
    stage.cluster.nodes[0].go_on();
    let told = stage.outcome(&domain, "cam1", 1).await;
    let verdict = stage.verify(&publisher, &told, &["AAC", "FLV", "HLS", "MP4"]);
    for (format, accounting) in &verdict.formats {
        assert_eq!(accounting.problems(Duration::ZERO), "", "{format}");
    }
}
