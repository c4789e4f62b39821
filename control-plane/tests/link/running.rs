//! What changes of configuration do to recordings that run, and commands to them.
use recorder_proto::pb::node::directive::{Directive as Kind, control::Action};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;

use super::control::{Control, on_each, refused};
use super::node::Node;
use super::story::Story;

async fn recording(control: &Control, node: &mut Node, story: &mut Story) {
    control.bind(story.template, story.stream.domain()).await;
    node.follow().await;
    node.client.claim_recording(story.claim(node.epoch)).await.unwrap();
    let facts = vec![story.published(), story.started(), story.opened(0)];
    node.report(facts).await;
}

#[test]
fn r13_unbinding_leaves_the_running_recording_alone() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        recording(&control, &mut node, &mut story).await;
        let request = v1::UnbindTemplateRequest {
            template: "default".into(),
            domains: vec!["push.example.com".into()],
            ..Default::default()
        };
        control.domains().unbind_template(request).await.unwrap();
        let delta = node.follow().await;
        assert!(delta.upserts.is_empty(), "no command to the running recording: {delta:?}");
        assert_eq!(control.recording(&story.name()).await.state(), State::Recording);
        let facts = vec![story.ended(1), story.available(0)];
        node.report(facts).await;
        let done = control.recording(&story.name()).await;
        assert_eq!((done.state(), done.template.as_str()), (State::Succeeded, "templates/default"));
    });
}

#[test]
fn c5_a_template_that_changes_keeps_its_old_revision_in_running_recordings() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        recording(&control, &mut node, &mut story).await;
        let template =
            v1::Template { name: "templates/default".into(), description: "later".into(), ..Default::default() };
        let request = v1::UpdateTemplateRequest { template: Some(template), ..Default::default() };
        control.templates().update_template(request).await.unwrap();
        let delta = node.follow().await;
        let Some(Kind::Standing(standing)) = &delta.upserts[0].directive else { panic!("{delta:?}") };
        let next = standing.plan.as_ref().unwrap().template.as_ref().unwrap();
        assert_eq!(next.revision, 2, "the next publish uses the new revision");
        assert_eq!(control.recording(&story.name()).await.template_revision, 1);
    });
}

#[test]
fn template_change_while_recording() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        control.template("show").await;
        let mut story = Story { template: "show", ..Story::new("push.example.com", "cam1") };
        recording(&control, &mut node, &mut story).await;
        let template =
            v1::Template { name: "templates/show".into(), path: "{StreamID}/{RecordId}".into(), ..Default::default() };
        let request = v1::UpdateTemplateRequest { template: Some(template), ..Default::default() };
        control.templates().update_template(request).await.unwrap();
        let delta = node.follow().await;
        assert!(
            delta.upserts.iter().all(|directive| matches!(directive.directive, Some(Kind::Standing(_)))),
            "{delta:?}"
        );
        let request = v1::CreateRuleRequest {
            rule_id: "vip".into(),
            rule: Some(v1::Rule {
                domain: "push.example.com".into(),
                stream: "vip-*".into(),
                template: "show".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        recorder_proto::pb::v1::rule_service_client::RuleServiceClient::new(control.api.clone())
            .create_rule(request)
            .await
            .unwrap();
        node.follow().await;
        let delete = |force| v1::DeleteTemplateRequest { name: "show".into(), force, ..Default::default() };
        let problem = refused(control.templates().delete_template(delete(false)).await);
        assert_eq!(problem.reason, "TEMPLATE_IN_USE");
        let mut referrers: Vec<String> =
            problem.details.preconditions.iter().map(|violation| violation.subject.clone()).collect();
        referrers.sort();
        assert_eq!(referrers, ["domains/push.example.com/bindings/show", "rules/vip"]);

        // The next publish comes under the new revision, beside the one that runs.
        let mut next = story.another("cam2");
        (next.template, next.revision) = ("show", 2);
        node.client.claim_recording(next.claim(node.epoch)).await.unwrap();
        let fact = next.started();
        node.report(vec![fact]).await;
        let request = v1::UnbindTemplateRequest {
            template: "show".into(),
            domains: vec!["push.example.com".into()],
            ..Default::default()
        };
        control.domains().unbind_template(request).await.unwrap();
        assert!(node.follow().await.upserts.is_empty(), "no command to what runs");
        let mut story = Story { sequence: next.sequence, ..story };
        let facts = vec![story.ended(1), story.available(0)];
        node.report(facts).await;
        let (old, new) = (control.recording(&story.name()).await, control.recording(&next.name()).await);
        assert_eq!((old.state(), old.template_revision), (State::Succeeded, 1));
        assert_eq!((new.state(), new.template_revision), (State::Recording, 2));
    });
}

#[test]
fn stop_is_a_command_to_the_node_that_records_and_to_nobody_else() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        recording(&control, &mut node, &mut story).await;
        let mut other = Node::ready(&control, "m2").await;

        let request = v1::StopRecordingRequest { name: story.name() };
        let stopped = control.recordings().stop_recording(request.clone()).await.unwrap().into_inner();
        assert_eq!(stopped.state(), State::Recording, "the effect is visible as facts");
        let delta = node.follow().await;
        let Some(Kind::Control(command)) = &delta.upserts[0].directive else { panic!("{delta:?}") };
        assert_eq!((command.action(), command.recording.as_str(), command.epoch), (Action::Stop, &*story.name(), 1));
        assert!(!command.command_id.is_empty());
        assert_eq!(other.follow().await.upserts, [], "the other node only hears that the version moved");

        control.recordings().stop_recording(request.clone()).await.unwrap();
        let facts = vec![story.ended(1), story.available(0)];
        node.report(facts).await;
        let delta = node.follow().await;
        assert_eq!((delta.upserts.len(), delta.removed.len()), (0, 1), "asking twice was one command, now over");
        let over = control.recordings().stop_recording(request).await.unwrap().into_inner();
        assert_eq!(over.state(), State::Succeeded, "stopping what is over changes nothing");
    });
}

#[test]
fn each_split_is_a_command_of_its_own_and_over_with_the_recording() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        recording(&control, &mut node, &mut story).await;
        let request = v1::SplitRecordingRequest { name: story.name() };
        let mut ids = Vec::new();
        for _ in 0..2 {
            let split = control.recordings().split_recording(request.clone()).await.unwrap().into_inner();
            assert_eq!(split.state(), State::Recording);
            let delta = node.follow().await;
            let Some(Kind::Control(command)) = &delta.upserts[0].directive else { panic!("{delta:?}") };
            let expected = (Action::Split, &*story.name(), 1);
            assert_eq!((command.action(), command.recording.as_str(), command.epoch), expected);
            ids.push(command.command_id.clone());
        }
        assert_ne!(ids[0], ids[1]);
        let events = control.scratch.db.read(|db| recorder_db::events::after(db, 0, 1000)).await.unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == "recording.split").count(), 2);
        let facts = vec![story.ended(1), story.available(0)];
        node.report(facts).await;
        let delta = node.follow().await;
        assert_eq!((delta.upserts.len(), delta.removed.len()), (0, 1));
        let problem = refused(control.recordings().split_recording(request).await);
        assert_eq!(problem.reason, "RECORDING_NOT_RUNNING");
        assert!(
            problem.message.contains("is SUCCEEDED; only what is being recorded can be split"),
            "{}",
            problem.message
        );
        let nobody = v1::SplitRecordingRequest { name: Story::new("push.example.com", "cam1").name() };
        assert_eq!(refused(control.recordings().split_recording(nobody).await).reason, "RECORDING_NOT_FOUND");
    });
}

#[test]
fn stopping_what_never_was_is_not_found() {
    on_each(async |control| {
        let name = Story::new("push.example.com", "cam1").name();
        let request = v1::StopRecordingRequest { name: name.clone() };
        let problem = refused(control.recordings().stop_recording(request).await);
        assert_eq!(problem.reason, "RECORDING_NOT_FOUND");
    });
}

#[test]
fn the_stream_of_a_recording_shows_it_and_ends() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        recording(&control, &mut node, &mut story).await;
        let listed = control.streams().list_streams(v1::ListStreamsRequest::default()).await.unwrap().into_inner();
        let [stream] = listed.streams.as_slice() else { panic!("{listed:?}") };
        assert_eq!((stream.node.as_str(), stream.encoder.as_str()), ("nodes/m1", "test"));
        assert_eq!(stream.recordings, [story.name()]);
        let get = v1::GetStreamRequest { name: stream.name.clone() };
        assert_eq!(control.streams().get_stream(get.clone()).await.unwrap().get_ref(), stream);
        node.report(vec![story.left()]).await;
        assert_eq!(refused(control.streams().get_stream(get).await).reason, "STREAM_NOT_FOUND");
        let listed = control.streams().list_streams(v1::ListStreamsRequest::default()).await.unwrap().into_inner();
        assert_eq!(listed.streams, []);
    });
}
