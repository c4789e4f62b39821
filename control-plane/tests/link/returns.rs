//! Nodes that are not heard of for a while, and what they record meanwhile: an end that was only presumed is taken back.
use std::time::Duration;

use recorder_proto::Problem;
use recorder_proto::pb::node::register_response::spool_verdict::Verdict;
use recorder_proto::pb::node::stream_directives_request::Heartbeat;
use recorder_proto::pb::node::{DeregisterRequest, GetSnapshotRequest};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::file::State as FileState;
use recorder_proto::pb::v1::recording::{EndReason, State};

use super::control::{Control, on_each, until};
use super::node::Node;
use super::resuming::{patient, verdicts};
use super::story::Story;

/// The node that is gone is given up this much later than its lease ends, and then some.
const GIVEN_UP: Duration = Duration::from_secs(15 + 301);

async fn kinds_of(control: &Control, story: &Story) -> Vec<String> {
    let rows = control.scratch.db.read(|db| recorder_db::events::after(db, 0, 1_000)).await.unwrap();
    rows.into_iter().filter(|row| row.subject == story.name()).map(|row| row.kind).collect()
}

/// A recording that waits for nobody on `m2`, which then says that it owns nothing: the timer ends it as soon as it may.
async fn bygone(control: &Control) -> Story {
    let mut node = Node::ready(control, "m2").await;
    let mut story = Story::new("push.example.com", "bygone");
    let facts = vec![story.started(), story.opened(0)];
    node.report(facts).await;
    let request = DeregisterRequest { node: "m2".into(), node_epoch: node.epoch };
    node.client.deregister(request).await.unwrap();
    story
}

/// The end that nobody told of.
async fn presumed(control: &Control, story: &Story) -> v1::Recording {
    until("the recording to be given up", async || {
        let shown = control.recording(&story.name()).await;
        let error = shown.error.as_ref().map(Problem::from);
        error.is_some_and(|error| error.reason == "NODE_LOST").then_some(shown)
    })
    .await
}

/// A recording of one open file on `m1`.
async fn running(control: &Control) -> (Node, Story) {
    let mut node = Node::ready(control, "m1").await;
    let mut story = Story::new("push.example.com", "cam1");
    let facts = vec![story.published(), story.started(), story.opened(0)];
    node.report(facts).await;
    (node, story)
}

/// The same, given up because nothing was heard of it.
async fn given_up(control: &Control) -> (Node, Story) {
    let (node, story) = running(control).await;
    control.clock.advance(GIVEN_UP);
    presumed(control, &story).await;
    (node, story)
}

#[test]
fn an_outage_longer_than_the_lease_ends_no_live_recording() {
    on_each(async |control| {
        let (mut node, story) = running(&control).await;
        let witness = bygone(&control).await;
        node.hang_up();
        // The control plane is away for ten minutes; its timers tick before any node finds its way back.
        let clock = control.clock.clone();
        let control = control.restart_after(async |_| clock.advance(Duration::from_secs(600))).await;
        until("the timers to look", async || (control.node("m1").await.state() == v1::node::State::Lost).then_some(()))
            .await;
        let told = verdicts(&control, "m1", "boot-1", &[(&story, 1)]).await;
        assert_eq!(told, [(Verdict::Resume, 1, 0)]);
        let mut node = Node::register(&control, "m1", "boot-1").await;
        node.hello(0).await;
        node.settle().await;
        control.clock.advance(Duration::from_secs(21));
        node.heartbeat(Heartbeat { streams: 1, recordings: 1, ..Default::default() }).await;
        assert_eq!(presumed(&control, &witness).await.end_reason(), EndReason::NodeLost);
        assert_eq!(control.recording(&story.name()).await.state(), State::Recording);
        let kinds = kinds_of(&control, &story).await;
        assert!(!kinds.iter().any(|kind| kind == "recording.ended"), "{kinds:?}");
    });
}

#[test]
fn a_recording_that_waits_for_nobody_does_not_end_with_the_lease_of_its_node() {
    on_each(async |control| {
        let (_node, story) = running(&control).await;
        let witness = bygone(&control).await;
        control.clock.advance(Duration::from_secs(60));
        presumed(&control, &witness).await;
        assert_eq!(control.node("m1").await.state(), v1::node::State::Lost);
        assert_eq!(control.recording(&story.name()).await.state(), State::Recording, "it may only be cut off");
        control.clock.advance(GIVEN_UP);
        presumed(&control, &story).await;
    });
}

#[test]
fn a_presumed_end_is_taken_back_when_the_same_process_registers_again() {
    on_each(async |control| {
        let (mut node, mut story) = given_up(&control).await;
        let told = verdicts(&control, "m1", "boot-1", &[(&story, 1)]).await;
        assert_eq!(told, [(Verdict::Resume, 1, 0)], "it records all the time");
        let shown = control.recording(&story.name()).await;
        assert_eq!((shown.state(), shown.end_time, shown.error), (State::Recording, None, None));
        control.recordings().stop_recording(v1::StopRecordingRequest { name: story.name() }).await.unwrap();
        let directives = stops(&mut node).await;
        assert_eq!(directives.len(), 1, "it can be stopped again: {directives:?}");
        let facts = vec![story.ended(1), story.available(0)];
        node.report(facts).await;
        let done = control.recording(&story.name()).await;
        assert_eq!((done.state(), done.error), (State::Succeeded, None));
        let kinds = kinds_of(&control, &story).await;
        let ended = kinds.iter().filter(|kind| *kind == "recording.ended").count();
        assert!(kinds.iter().any(|kind| kind == "recording.resumed") && ended == 2, "{kinds:?}");
    });
}

#[test]
fn a_presumed_end_stands_when_the_process_is_another() {
    on_each(async |control| {
        let (_node, story) = given_up(&control).await;
        let told = verdicts(&control, "m1", "boot-2", &[(&story, 1)]).await;
        assert_eq!(told, [(Verdict::Finalize, 1, 0)], "whoever recorded it is gone, and nobody is waited for");
        presumed(&control, &story).await;
    });
}

#[test]
fn a_presumed_end_is_taken_back_by_whatever_shows_that_media_comes() {
    on_each(async |control| {
        let (mut node, mut story) = given_up(&control).await;
        let fact = story.opened(1);
        let id = fact.id.clone();
        node.report(vec![fact]).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Recording, "it opens files");
        let rows = control.scratch.db.read(|db| recorder_db::events::after(db, 0, 1_000)).await.unwrap();
        let own = rows.iter().find(|row| row.id == id).map(|row| row.kind.as_str());
        assert_eq!(own, Some("file.opened"), "the fact is the event with its id");

        control.clock.advance(GIVEN_UP);
        presumed(&control, &story).await;
        let mut session = story.clone();
        let snapshot = recorder_proto::facts::StreamSnapshot {
            session: story.session,
            stream: story.stream.clone(),
            protocol: v1::protocol::Kind::Rtmp,
            remote_address: String::new(),
            encoder: String::new(),
            start_time: super::story::at(0),
            tracks: Vec::new(),
            recordings: vec![story.recording],
        };
        let fact = session.aside(50, snapshot);
        node.report(vec![fact]).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Recording, "its session is announced");
    });
}

/// The stop commands in force for this node.
async fn stops(node: &mut Node) -> Vec<String> {
    let request = GetSnapshotRequest { node: "nodes/m1".into() };
    let shown = node.client.get_snapshot(request).await.unwrap().into_inner();
    shown.directives.into_iter().map(|directive| directive.name).filter(|name| name.contains("stop-")).collect()
}

#[test]
fn a_stop_that_its_node_never_heard_of_stays_as_the_reason_and_not_as_a_directive_for_ever() {
    on_each(async |control| {
        let (mut node, story) = running(&control).await;
        control.recordings().stop_recording(v1::StopRecordingRequest { name: story.name() }).await.unwrap();
        assert_eq!(stops(&mut node).await.len(), 1);
        control.clock.advance(GIVEN_UP);
        assert_eq!(presumed(&control, &story).await.end_reason(), EndReason::Stopped);
        assert_eq!(stops(&mut node).await, Vec::<String>::new());
        let told = verdicts(&control, "m1", "boot-1", &[(&story, 1)]).await;
        assert_eq!(told, [(Verdict::Resume, 1, 0)], "it records all the time");
        assert_eq!(stops(&mut node).await.len(), 1, "and is told at last");
    });
}

#[test]
fn what_nobody_reports_on_counts_as_ended_until_its_node_returns() {
    on_each(async |control| {
        patient(&control).await;
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        story.revision = 2;
        let facts = vec![story.published(), story.started(), story.opened(0)];
        node.report(facts).await;
        control.clock.advance(Duration::from_secs(15 + 299));
        until("the node to be lost", async || {
            (control.node("m1").await.state() == v1::node::State::Lost).then_some(())
        })
        .await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Recording, "it may only be cut off");
        control.clock.advance(Duration::from_secs(2));
        let ended = until("the recording to be given up", async || {
            Some(control.recording(&story.name()).await).filter(|shown| shown.state() == State::Finalizing)
        })
        .await;
        assert_eq!(ended.end_reason(), v1::recording::EndReason::NodeLost);
        let error = Problem::from(&ended.error.unwrap());
        assert!(error.reason == "NODE_LOST" && error.message.contains("nodes/m1"), "{error}");
        assert_eq!(control.files(&story.name()).await[0].state(), FileState::Open, "who knows");

        // The node had been cut off, and recorded on.
        let facts = vec![story.opened(1), story.available(0)];
        node.report(facts).await;
        let facts = vec![story.ended(2), story.available(1)];
        node.report(facts).await;
        let done = control.recording(&story.name()).await;
        assert_eq!((done.state(), done.end_reason()), (State::Succeeded, v1::recording::EndReason::PublisherEnded));
        assert_eq!(done.error, None);
    });
}
