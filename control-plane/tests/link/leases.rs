//! Leases: a node is lost when it is not heard of, and back when it is.
use std::time::Duration;

use recorder_proto::pb::node::DeregisterRequest;
use recorder_proto::pb::node::stream_directives_request::Heartbeat;
use recorder_proto::pb::node::stream_directives_response::Message;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::node::State;

use super::control::{Control, on_each, on_each_with, until};
use super::node::Node;

async fn events_of(control: &Control, kind: &'static str) -> usize {
    let rows = control.scratch.db.read(|db| recorder_db::events::after(db, 0, 1_000)).await.unwrap();
    rows.iter().filter(|row| row.kind == kind).count()
}

#[test]
fn a_node_that_falls_silent_is_lost_and_returns_with_its_next_heartbeat() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let heartbeat = Heartbeat { streams: 3, recordings: 2, cpu_load: 0.5, spool_bytes: 77, ..Default::default() };
        node.heartbeat(heartbeat.clone()).await;
        let active =
            until("the heartbeat to count", async || Some(control.node("m1").await).filter(|node| node.streams == 3))
                .await;
        assert_eq!((active.state(), active.recordings, active.spool_bytes), (State::Active, 2, 77));

        control.clock.advance(Duration::from_secs(16));
        assert_eq!(control.node("m1").await.state(), State::Lost, "the lease is 15 s");
        until("the timer to notice", async || (events_of(&control, "node.lost").await == 1).then_some(())).await;
        control.bind("default", "push.example.com").await;
        assert_eq!(control.binding("push.example.com").await.nodes_total, 0, "it does not count meanwhile");

        node.heartbeat(heartbeat).await;
        until("the node to return", async || (control.node("m1").await.state() == State::Active).then_some(())).await;
        assert_eq!(events_of(&control, "node.returned").await, 1);
        node.follow().await;
        until("the binding to be active", async || {
            (control.binding("push.example.com").await.state() == v1::binding::State::Active).then_some(())
        })
        .await;
    });
}

#[test]
fn a_clean_stop_is_not_a_loss() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let request = DeregisterRequest { node: "m1".into(), node_epoch: node.epoch };
        node.client.deregister(request).await.unwrap();
        assert_eq!(control.node("m1").await.state(), State::Drained);
        control.clock.advance(Duration::from_secs(60));
        assert_eq!(control.node("m1").await.state(), State::Drained);
        let again = Node::register(&control, "m1", "boot-2").await;
        assert_eq!(control.node("m1").await.state(), State::Active);
        assert_eq!(control.node("m1").await.epoch, again.epoch);
    });
}

#[test]
fn a_quiet_stream_gets_bookmarks() {
    on_each_with(&["--link-lease", "1s"], async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let bookmark = node.heard().await.unwrap().unwrap();
        assert!(matches!(bookmark.message, Some(Message::Bookmark(_))), "{bookmark:?}");
        assert_eq!((bookmark.nonce.as_str(), bookmark.version), ("", node.version));
    });
}

#[test]
fn the_drain_ends_directive_streams() {
    on_each(async |mut control| {
        let mut node = Node::ready(&control, "m1").await;
        let stopped = control.stop();
        let status = loop {
            match node.heard().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a reason is given"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), tonic::Code::Unavailable);
        stopped.await;
    });
}
