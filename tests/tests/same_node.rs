//! Reliability test 17: two processes under one node id.

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::node_service_client::NodeServiceClient;
use recorder_tests::cluster::Cluster;
use recorder_tests::process::Process;
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
