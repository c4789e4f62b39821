//! Taking nodes out of service: drained, resumed, forgotten, watched.
use std::time::Duration;

use recorder_proto::pb::node::DeregisterRequest;
use recorder_proto::pb::node::stream_directives_request::Heartbeat;
use recorder_proto::pb::node::stream_directives_response::{Drain, Message};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::drain_node_request::Mode;
use recorder_proto::pb::v1::node::State;
use recorder_proto::pb::v1::node_service_client::NodeServiceClient;
use recorder_proto::pb::v1::watch_nodes_response::Kind;
use tonic::transport::Channel;

use super::control::{Control, PATIENCE, on_each, refused, until};
use super::node::Node;
use super::story::Story;

fn nodes(control: &Control) -> NodeServiceClient<Channel> {
    NodeServiceClient::new(control.api.clone())
}

async fn drain(control: &Control, seconds: i64, mode: Mode) -> v1::Node {
    let deadline = Some(prost_types::Duration { seconds, nanos: 0 });
    let request = v1::DrainNodeRequest { name: "m1".into(), deadline, mode: mode as i32 };
    nodes(control).drain_node(request).await.unwrap().into_inner()
}

async fn resume(control: &Control) -> v1::Node {
    nodes(control).resume_node(v1::ResumeNodeRequest { name: "m1".into() }).await.unwrap().into_inner()
}

/// The next order that the node hears of.
async fn ordered(node: &mut Node) -> Drain {
    match node.next().await.message {
        Some(Message::Drain(drain)) => drain,
        other => panic!("expected a drain, got {other:?}"),
    }
}

async fn events(control: &Control, kind: &'static str) -> usize {
    let rows = control.scratch.db.read(|db| recorder_db::events::after(db, 0, 1_000)).await.unwrap();
    rows.iter().filter(|row| row.kind == kind).count()
}

#[test]
fn a_node_is_told_to_drain_is_drained_when_it_has_nothing_left_and_comes_back() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        assert_eq!(drain(&control, 600, Mode::Move).await.state(), State::Draining);
        let order = ordered(&mut node).await;
        assert_eq!((order.deadline.unwrap().seconds, order.move_publishers, order.cancelled), (600, true, false));

        // Sent before the order arrived: a node that still accepts is not drained, however idle.
        node.heartbeat(Heartbeat { accepting: true, ..Default::default() }).await;
        node.heartbeat(Heartbeat { spool_bytes: 7, ..Default::default() }).await;
        until("the heartbeat to count", async || (control.node("m1").await.spool_bytes == 7).then_some(())).await;
        assert_eq!(control.node("m1").await.state(), State::Draining);
        node.heartbeat(Heartbeat::default()).await;
        until("the node to be drained", async || (control.node("m1").await.state() == State::Drained).then_some(()))
            .await;
        assert_eq!((events(&control, "node.draining").await, events(&control, "node.drained").await), (1, 1));

        node.heartbeat(Heartbeat::default()).await;
        assert_eq!(resume(&control).await.state(), State::Active);
        assert!(ordered(&mut node).await.cancelled);
        assert_eq!(resume(&control).await.state(), State::Active, "once more changes nothing");
    });
}

#[test]
fn a_drain_outlives_connections_processes_and_the_control_plane() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        drain(&control, 60, Mode::Wait).await;
        ordered(&mut node).await;
        node.hang_up();
        control.clock.advance(Duration::from_secs(20));
        let control = control.restart().await;
        let mut node = Node::register(&control, "m1", "boot-2").await;
        assert_eq!(control.node("m1").await.state(), State::Draining);
        node.hello(0).await;
        node.settle().await;
        let order = ordered(&mut node).await;
        assert_eq!((order.deadline.unwrap().seconds, order.move_publishers), (40, false), "counted from the order");

        // It hears of the end although it was away when that came.
        node.hang_up();
        resume(&control).await;
        node.hello(0).await;
        node.settle().await;
        assert!(ordered(&mut node).await.cancelled);
        let fresh = Node::ready(&control, "m1").await;
        assert_eq!(fresh.epoch, node.epoch + 1);
        assert_eq!(control.node("m1").await.state(), State::Active);
    });
}

#[test]
fn a_node_that_runs_a_recording_is_not_drained() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let fact = story.started();
        node.report(vec![fact]).await;
        drain(&control, 0, Mode::Unspecified).await;
        let order = ordered(&mut node).await;
        assert_eq!((order.deadline, order.move_publishers), (None, false), "it waits, for ever if need be");
        node.heartbeat(Heartbeat { cpu_load: 0.25, ..Default::default() }).await;
        until("the heartbeat to count", async || (control.node("m1").await.cpu_load > 0.2).then_some(())).await;
        let facts = vec![story.ended(1), story.available(0)];
        node.report(facts).await;
        assert_eq!(control.node("m1").await.state(), State::Draining, "its publisher could have come back");
        node.heartbeat(Heartbeat::default()).await;
        until("the node to be drained", async || (control.node("m1").await.state() == State::Drained).then_some(()))
            .await;
    });
}

#[test]
fn what_cannot_be_a_drain_is_refused() {
    on_each(async |control| {
        let _node = Node::ready(&control, "m1").await;
        let request = v1::DrainNodeRequest {
            name: "m1".into(),
            deadline: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            mode: 77,
        };
        let problem = refused(nodes(&control).drain_node(request).await);
        let fields: Vec<String> = problem.fields.into_iter().map(|field| field.field).collect();
        assert_eq!(fields, ["deadline", "mode"]);
        let request = v1::DrainNodeRequest { name: "nodes/nobody".into(), ..Default::default() };
        assert_eq!(refused(nodes(&control).drain_node(request).await).reason, "NODE_NOT_FOUND");
        let problem = refused(nodes(&control).resume_node(v1::ResumeNodeRequest { name: "nobody".into() }).await);
        assert_eq!(problem.reason, "NODE_NOT_FOUND");
    });
}

#[test]
fn a_node_is_forgotten_with_its_media_only_on_demand() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.opened(1), story.available(0)];
        node.report(facts).await;
        let forget = |accept_loss| v1::ForgetNodeRequest { name: "m1".into(), accept_loss };
        assert_eq!(refused(nodes(&control).forget_node(forget(true)).await).reason, "NODE_ALIVE");
        node.hang_up();
        control.clock.advance(Duration::from_secs(16));
        let problem = refused(nodes(&control).forget_node(forget(false)).await);
        assert_eq!(problem.reason, "NODE_OWNS_MEDIA");
        assert!(problem.message.contains("1 files"), "{problem}");
        nodes(&control).forget_node(forget(true)).await.unwrap();
        let problem = refused(nodes(&control).get_node(v1::GetNodeRequest { name: "m1".into() }).await);
        assert_eq!(problem.reason, "NODE_NOT_FOUND");
        let states: Vec<_> = control.files(&story.name()).await.iter().map(v1::File::state).collect();
        assert_eq!(states, [v1::file::State::Available, v1::file::State::Lost]);
        let recording = control.recording(&story.name()).await;
        assert_eq!(recording.state(), v1::recording::State::Incomplete);
        assert_eq!(recording.end_reason(), v1::recording::EndReason::NodeLost);
        assert_eq!(events(&control, "file.lost").await, 1);

        // It was only unplugged: the truth about the media wins.
        let mut back = Node::register(&control, "m1", "boot-2").await;
        let facts = vec![story.ended(2), story.available(1)];
        back.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.state(), v1::recording::State::Succeeded);
    });
}

#[test]
fn a_node_that_stopped_with_nothing_left_is_forgotten_without_ado() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let request = DeregisterRequest { node: "m1".into(), node_epoch: node.epoch };
        node.client.deregister(request).await.unwrap();
        nodes(&control).forget_node(v1::ForgetNodeRequest { name: "m1".into(), accept_loss: false }).await.unwrap();
        let listed = nodes(&control).list_nodes(v1::ListNodesRequest::default()).await.unwrap().into_inner();
        assert_eq!(listed.nodes, []);
    });
}

struct Watch {
    stream: tonic::Streaming<v1::WatchNodesResponse>,
    token: String,
}

impl Watch {
    async fn open(control: &Control, resume_token: &str) -> Self {
        let request = v1::WatchNodesRequest { resume_token: resume_token.into() };
        Self { stream: nodes(control).watch_nodes(request).await.unwrap().into_inner(), token: String::new() }
    }

    async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        while told.len() < count {
            let message = tokio::time::timeout(PATIENCE, self.stream.message()).await.expect("a message in time");
            let message = message.unwrap().expect("the watch is open");
            if !message.resume_token.is_empty() {
                self.token = message.resume_token;
            }
            let kind = Kind::try_from(message.kind).unwrap();
            if kind != Kind::Bookmark {
                let node = message.node.unwrap();
                told.push(format!("{} {} {}", kind.as_str_name(), node.name, node.state().as_str_name()));
            }
        }
        told
    }
}

#[test]
fn a_watch_of_nodes_tells_what_is_and_what_changes() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut watch = Watch::open(&control, "").await;
        assert_eq!(watch.told(1).await, ["CURRENT nodes/m1 ACTIVE"]);
        Node::register(&control, "m2", "boot-1").await;
        assert_eq!(watch.told(1).await, ["UPDATED nodes/m2 ACTIVE"]);
        drain(&control, 0, Mode::Wait).await;
        assert_eq!(watch.told(2).await, ["UPDATED nodes/m1 DRAINING"; 2]);
        let token = watch.token.clone();
        ordered(&mut node).await;
        node.heartbeat(Heartbeat::default()).await;
        assert_eq!(watch.told(1).await, ["UPDATED nodes/m1 DRAINED"]);
        let request = v1::ForgetNodeRequest { name: "m1".into(), accept_loss: false };
        nodes(&control).forget_node(request).await.unwrap();
        let mut again = Watch::open(&control, &token).await;
        assert_eq!(again.told(2).await, ["UPDATED nodes/m1 DRAINED", "REMOVED nodes/m1 DRAINED"]);
        let request = v1::WatchNodesRequest { resume_token: "nonsense".into() };
        assert_eq!(refused(nodes(&control).watch_nodes(request).await).reason, "RESUME_TOKEN_EXPIRED");
    });
}
