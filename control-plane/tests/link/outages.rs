//! Either side goes away and comes back.
use recorder_proto::pb::node::RegisterRequest;
use recorder_proto::pb::node::register_request::SpoolEntry;
use recorder_proto::pb::node::register_response::spool_verdict::Verdict;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;

use super::control::{on_each, until};
use super::node::Node;
use super::story::{Story, at};

#[test]
fn a_restart_of_the_control_plane_loses_nothing_and_repeats_nothing() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        control.bind("default", "push.example.com").await;
        node.follow().await;
        let mut story = Story::new("push.example.com", "cam1");
        let before = vec![story.published(), story.started(), story.opened(0)];
        node.report(before.clone()).await;
        until("the acknowledgement to count", async || {
            (control.node("m1").await.directives_version == node.version).then_some(())
        })
        .await;
        let (held, epoch) = (node.version, node.epoch);
        node.hang_up();
        let events = control.events().await;

        let control = control.restart().await;
        let mut node = Node::register(&control, "m1", "boot-1").await;
        assert_eq!(node.epoch, epoch, "the same boot goes on");
        node.hello(held).await;
        let mut late = before;
        late.extend([story.ended(1), story.available(0)]);
        node.report(late).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Succeeded);
        assert!(control.events().await > events);
        control.bind("default", "two.example.com").await;
        let (_, version, delta) = node.delta().await;
        assert_eq!((version, delta.upserts.len()), (held + 1, 2), "no snapshot was needed, versions go on");
    });
}

#[test]
fn what_happened_while_the_control_plane_was_away_arrives_with_its_ids_and_times() {
    on_each(async |control| {
        let node = Node::ready(&control, "m1").await;
        drop(node);
        let mut story = Story::new("push.example.com", "cam1");
        let facts =
            vec![story.published(), story.started(), story.opened(0), story.ended(1), story.available(0), story.left()];
        let control = control.restart().await;
        // The node was restarted in the meantime, too.
        let mut node = Node::register(&control, "m1", "boot-2").await;
        node.client.claim_recording(story.claim(node.epoch)).await.unwrap();
        node.report(facts).await;
        let recording = control.recording(&story.name()).await;
        assert_eq!(recording.state(), State::Succeeded);
        assert_eq!(recording.start_time, Some(recorder_proto::time::timestamp(at(1))));
        assert_eq!(recording.end_time, Some(recorder_proto::time::timestamp(at(30))));
        let listed = control.recordings().list_recordings(v1::ListRecordingsRequest::default()).await.unwrap();
        assert_eq!(listed.into_inner().recordings.len(), 1, "one recording");
    });
}

#[test]
fn a_node_whose_disk_was_replaced_begins_a_new_log() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.ended(1), story.available(0)];
        node.report(facts).await;
        node.hang_up();
        let mut fresh = Node::register(&control, "m1", "boot-2").await;
        let mut next = Story::new("push.example.com", "cam2");
        let first = next.started();
        assert_eq!(first.sequence, 1);
        fresh.report(vec![first]).await;
        assert_eq!(control.recording(&next.name()).await.state(), State::Recording, "it is news, not a repetition");
        let fact = next.opened(0);
        fresh.report(vec![fact.clone()]).await;
        fresh.report(vec![fact]).await;
        assert_eq!(control.files(&next.name()).await.len(), 1);
    });
}

#[test]
fn a_node_learns_at_registration_what_becomes_of_its_spool() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut running = Story::new("push.example.com", "cam1");
        let fact = running.started();
        node.report(vec![fact]).await;
        let mut over = running.another("cam2");
        let facts = vec![over.started(), over.ended(0)];
        node.report(facts).await;
        let unknown = Story::new("push.example.com", "cam3");
        let entry = |story: &Story| SpoolEntry { recording: story.name(), epoch: 1, bytes_unshipped: 10, open: true };
        let request = RegisterRequest {
            node: "m1".into(),
            boot_id: "boot-2".into(),
            spool: vec![entry(&running), entry(&over), entry(&unknown)],
            node_time: Some(recorder_proto::time::timestamp(at(600))),
            ..Default::default()
        };
        let rebooted = Node::register_with(&control, request).await;
        let verdicts: Vec<Verdict> = rebooted.registered.spool.iter().map(|verdict| verdict.verdict()).collect();
        assert_eq!(verdicts, [Verdict::Finalize; 3], "the template waits for nobody");
        assert_eq!(rebooted.registered.clock_skew.unwrap().seconds, 600);
        assert_eq!(control.node("m1").await.clock_skew.unwrap().seconds, 600, "and it is shown");
    });
}
