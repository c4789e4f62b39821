//! Claims of recordings.
use recorder_proto::pb::node::ValidateEpochsRequest;
use recorder_proto::pb::node::validate_epochs_request::Item;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;
use tonic::Code;

use super::control::{on_each, refused};
use super::node::Node;
use super::story::Story;

#[test]
fn the_same_claim_gets_the_same_answer() {
    on_each(async |control| {
        let mut node = Node::register(&control, "m1", "boot-1").await;
        let mut story = Story::new("push.example.com", "cam1");
        story.labels = [("team".to_owned(), "news".to_owned())].into();
        let first = node.client.claim_recording(story.claim(node.epoch)).await.unwrap().into_inner();
        assert_eq!((first.recording.clone(), first.epoch), (story.name(), 1), "the id is the node's");
        let again = node.client.claim_recording(story.claim(node.epoch)).await.unwrap().into_inner();
        assert_eq!(again, first);
        let recording = control.recording(&story.name()).await;
        assert_eq!((recording.state(), recording.template_revision), (State::Starting, 1));
        assert_eq!((recording.labels, recording.protocol), (story.labels.clone(), v1::protocol::Kind::Rtmp as i32));
        assert_eq!(recording.storage, "storages/library");

        let mut rebooted = Node::register(&control, "m1", "boot-2").await;
        let claim = story.claim(rebooted.epoch);
        let replayed = rebooted.client.claim_recording(claim).await.unwrap().into_inner();
        assert_eq!(replayed, first, "after a restart of the node as well");
    });
}

#[test]
fn an_id_belongs_to_the_node_that_had_it_first() {
    on_each(async |control| {
        let mut one = Node::register(&control, "m1", "boot-1").await;
        let mut two = Node::register(&control, "m2", "boot-1").await;
        let story = Story::new("push.example.com", "cam1");
        one.client.claim_recording(story.claim(one.epoch)).await.unwrap();
        let mut theirs = story.claim(two.epoch);
        theirs.claim_key = "another".into();
        let problem = refused(two.client.claim_recording(theirs).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::AlreadyExists, "RECORDING_EXISTS"));
    });
}

#[test]
fn a_claim_that_makes_no_sense_is_told_everything_that_is_wrong() {
    on_each(async |control| {
        let mut node = Node::register(&control, "m1", "boot-1").await;
        let mut claim = Story::new("push.example.com", "cam1").claim(node.epoch);
        claim.claim_key.clear();
        claim.origin = "gossip/1".into();
        claim.proposed_recording = "recordings/../../etc".into();
        claim.stream = None;
        let problem = refused(node.client.claim_recording(claim).await);
        let fields: Vec<String> = problem.fields.into_iter().map(|violation| violation.field).collect();
        assert_eq!(fields, ["claim_key", "stream", "origin", "proposed_recording"]);
    });
}

#[test]
fn an_epoch_can_be_checked_before_something_irreversible() {
    on_each(async |control| {
        let mut node = Node::register(&control, "m1", "boot-1").await;
        let story = Story::new("push.example.com", "cam1");
        node.client.claim_recording(story.claim(node.epoch)).await.unwrap();
        let item = |recording: String, epoch| Item { recording, epoch };
        let unknown = Story::new("push.example.com", "cam2").name();
        let items = vec![item(story.name(), 1), item(unknown, 1)];
        let request = ValidateEpochsRequest { node_epoch: node.epoch, items };
        let reply = node.client.validate_epochs(request).await.unwrap().into_inner();
        assert!(reply.stale.is_empty(), "what is not known is nobody else's: {:?}", reply.stale);
        let mut other = Node::register(&control, "m2", "boot-1").await;
        let items = vec![item(story.name(), 1)];
        let request = ValidateEpochsRequest { node_epoch: other.epoch, items };
        let reply = other.client.validate_epochs(request).await.unwrap().into_inner();
        assert_eq!(reply.stale, [story.name()], "another node has it");
    });
}

#[test]
fn a_recording_whose_facts_are_still_on_their_way_is_not_stale() {
    on_each(async |control| {
        let mut node = Node::register(&control, "m1", "boot-1").await;
        let mut fresh = Story::new("push.example.com", "cam1");
        let items = vec![Item { recording: fresh.name(), epoch: 1 }];
        let request = ValidateEpochsRequest { node_epoch: node.epoch, items };
        let reply = node.client.validate_epochs(request.clone()).await.unwrap().into_inner();
        assert!(reply.stale.is_empty(), "{:?}", reply.stale);
        let fact = fresh.started();
        node.report(vec![fact]).await;
        let reply = node.client.validate_epochs(request).await.unwrap().into_inner();
        assert!(reply.stale.is_empty(), "{:?}", reply.stale);
    });
}
