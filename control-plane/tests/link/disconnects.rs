//! Publishers that are sent away: commands to the node that they concern.
use recorder_proto::pb::node::directive::{Control as Command, Directive as Kind, control::Action};
use recorder_proto::pb::node::stream_directives_response::Delta;
use recorder_proto::pb::v1;
use tonic::Code;

use super::control::{Control, on_each, refused};
use super::node::Node;
use super::story::Story;

pub fn commands(delta: &Delta) -> Vec<Command> {
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
