//! Publishers that are sent away, and uploads that are tried at once: commands to the node that they concern.
use recorder_proto::pb::node::directive::{Control as Command, Directive as Kind, control::Action};
use recorder_proto::pb::node::stream_directives_response::Delta;
use recorder_proto::pb::v1;
use tonic::Code;

use super::control::{Control, on_each, refused};
use super::node::Node;
use super::story::Story;

fn commands(delta: &Delta) -> Vec<Command> {
    let of = |directive: &recorder_proto::pb::node::Directive| match &directive.directive {
        Some(Kind::Control(control)) => Some(control.clone()),
        _ => None,
    };
    delta.upserts.iter().filter_map(of).collect()
}

fn request(story: &Story, seconds: i64) -> v1::DisconnectPublisherRequest {
    v1::DisconnectPublisherRequest {
        name: format!("streams/{}", story.session),
        reason: "abuse".into(),
        block_for: Some(prost_types::Duration { seconds, nanos: 0 }),
    }
}

async fn live(control: &Control) -> (Node, Story) {
    control.bind("default", "push.example.com").await;
    let mut node = Node::ready(control, "m1").await;
    let mut story = Story::new("push.example.com", "cam1");
    let facts = vec![story.published()];
    node.report(facts).await;
    (node, story)
}

#[test]
fn a_publisher_is_closed_by_its_node_and_its_stream_blocked_by_all() {
    on_each(async |control| {
        let (mut node, mut story) = live(&control).await;
        let mut other = Node::ready(&control, "m2").await;
        let shown = control.streams().disconnect_publisher(request(&story, 300)).await.unwrap().into_inner();
        assert_eq!(shown.name, format!("streams/{}", story.session));
        let block = |delta: &Delta| match &delta.upserts[0].directive {
            Some(Kind::Domain(policy)) => policy.blocks.clone(),
            other => panic!("{other:?}"),
        };
        let first = node.follow().await;
        let [blocked] = &block(&first)[..] else { panic!("{first:?}") };
        assert_eq!((blocked.app.as_str(), blocked.stream.as_str(), blocked.reason.as_str()), ("live", "cam1", "abuse"));
        assert_eq!(blocked.end_time.unwrap().seconds, super::control::START + 300);
        let commands = match commands(&first) {
            none if none.is_empty() => commands(&node.follow().await),
            commands => commands,
        };
        let [command] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!((command.action(), command.reason.as_str()), (Action::Disconnect, "abuse"));
        assert_eq!(command.recording, format!("streams/{}", story.session));
        assert_eq!(block(&other.follow().await).len(), 1, "every node keeps it away");

        let facts = vec![story.left()];
        node.report(facts).await;
        let removed = node.follow().await.removed;
        assert_eq!(removed, [format!("control/disconnect-{}", story.session)], "the command is over with its session");
        let problem = refused(control.streams().disconnect_publisher(request(&story, 0)).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::NotFound, "STREAM_NOT_FOUND"));
    });
}

#[test]
fn without_a_block_the_publisher_may_come_back() {
    on_each(async |control| {
        let (mut node, story) = live(&control).await;
        control.streams().disconnect_publisher(request(&story, 0)).await.unwrap();
        let delta = node.follow().await;
        assert_eq!((commands(&delta).len(), delta.upserts.len()), (1, 1), "{delta:?}");
        let wrong = v1::DisconnectPublisherRequest {
            reason: "x".repeat(256),
            block_for: Some(prost_types::Duration { seconds: 86_401, nanos: 0 }),
            ..request(&story, 0)
        };
        let problem = refused(control.streams().disconnect_publisher(wrong).await);
        let fields: Vec<&str> = problem.fields.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["reason", "block_for"], "{problem}");
    });
}

#[test]
fn waiting_uploads_are_tried_at_once_and_the_command_ends_with_them() {
    on_each(async |control| {
        control.bind("default", "push.example.com").await;
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        node.client.claim_recording(story.claim(node.epoch)).await.unwrap();
        let facts = vec![story.started(), story.opened(0), story.ended(1)];
        node.report(facts).await;
        let retry = |storage: &str| v1::RetryUploadsRequest { name: story.name(), storage: storage.into() };
        let other = retry("storages/nowhere");
        assert_eq!(refused(control.recordings().retry_uploads(other).await).reason, "STORAGE_NOT_FOUND");
        let (first, again) = (retry("storages/library"), retry(""));
        let shown = control.recordings().retry_uploads(first).await.unwrap().into_inner();
        assert_eq!(shown.state(), v1::recording::State::Finalizing);
        let one = commands(&node.follow().await).remove(0);
        assert_eq!((one.action(), one.recording), (Action::RetryUploads, story.name()));
        control.recordings().retry_uploads(again).await.unwrap();
        let two = commands(&node.follow().await).remove(0);
        assert_ne!(one.command_id, two.command_id, "each is a command of its own");
        let done = retry("");
        let facts = vec![story.available(0)];
        node.report(facts).await;
        assert_eq!(node.follow().await.removed, [format!("control/retry-{}", story.recording)]);
        control.recordings().retry_uploads(done).await.expect("nothing to do is no mistake");
    });
}

#[test]
fn files_that_failed_for_good_are_told_of() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.ended(1), story.failed(0, "damaged")];
        node.report(facts).await;
        let request = v1::RetryUploadsRequest { name: story.name(), storage: String::new() };
        let problem = refused(control.recordings().retry_uploads(request).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, "NOTHING_TO_RETRY"));
    });
}
