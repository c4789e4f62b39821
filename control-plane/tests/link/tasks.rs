//! Tasks between callers, timers and nodes: directives, states that follow from facts, restarts.
use recorder_proto::pb::node::Directive;
use recorder_proto::pb::node::directive::{Directive as Kind, Scheduled};
use recorder_proto::pb::v1::task::State;
use recorder_proto::pb::v1::task_service_client::TaskServiceClient;
use recorder_proto::pb::v1::{
    CancelTaskRequest, CreateTaskRequest, GetTaskRequest, StopTaskRequest, StreamRef, Task, Template,
    UpdateTemplateRequest,
};
use recorder_proto::time;
use tonic::transport::Channel;

use super::control::{Control, on_each, until};
use super::node::Node;
use super::story::{Story, at};

const DOMAIN: &str = "push.example.com";

impl Control {
    fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.api.clone())
    }

    async fn task(&self, name: &str) -> Task {
        self.tasks().get_task(GetTaskRequest { name: name.into() }).await.unwrap().into_inner()
    }

    async fn order(&self, id: &str, start: i64, end: i64) -> Task {
        let stream = StreamRef { domain: DOMAIN.into(), app: String::new(), stream: "cam1".into() };
        let wire = |seconds| Some(time::timestamp(at(seconds)));
        let labels = [("show".to_owned(), "ny".to_owned())].into();
        let (start_time, end_time) = (wire(start), wire(end));
        let task = Task { stream: Some(stream), start_time, end_time, labels, ..Task::default() };
        let request = CreateTaskRequest { task_id: id.into(), task: Some(task), ..Default::default() };
        self.tasks().create_task(request).await.unwrap().into_inner()
    }

    async fn stop_task(&self, name: &str) -> Task {
        self.tasks().stop_task(StopTaskRequest { name: name.into() }).await.unwrap().into_inner()
    }

    /// Waits for a state that a timer brings.
    async fn reaches(&self, name: &str, state: State) -> Task {
        until("the task's state", async || Some(self.task(name).await).filter(|task| task.state() == state)).await
    }

    async fn told_of(&self, task: &str) -> Vec<String> {
        self.told(task).await.into_iter().map(|(kind, _)| kind).collect()
    }
}

fn scheduled(directive: &Directive) -> &Scheduled {
    match &directive.directive {
        Some(Kind::Scheduled(scheduled)) => scheduled,
        other => panic!("no task: {other:?}"),
    }
}

/// A story that a task asked for.
fn recorded() -> Story {
    Story { task: Some("tasks/ny"), ..Story::new(DOMAIN, "cam1") }
}

#[test]
fn nodes_know_a_task_from_its_order_to_its_end() {
    on_each(async |control| {
        control.bind("default", DOMAIN).await;
        let mut node = Node::ready(&control, "m1").await;
        control.order("ny", 60, 120).await;
        let delta = node.follow().await;
        let task = scheduled(&delta.upserts[0]);
        assert_eq!((delta.upserts[0].name.as_str(), task.origin.as_str()), ("task/ny", "tasks/ny"));
        assert_eq!(task.stream.as_ref().unwrap().app, "live");
        assert_eq!(task.start_time.as_ref().and_then(time::datetime), Some(at(60)));
        assert_eq!(task.end_time.as_ref().and_then(time::datetime), Some(at(120)));
        assert!(!task.begun);
        let plan = task.plan.as_ref().unwrap();
        assert_eq!(plan.storage.as_ref().unwrap().name, "storages/library");
        assert_eq!(plan.template.as_ref().unwrap().labels["show"], "ny");
        // A change of the template reaches the task, and its start is no news for nodes.
        let patch = Template { name: "templates/default".into(), description: "new".into(), ..Template::default() };
        let update = UpdateTemplateRequest { template: Some(patch), ..Default::default() };
        control.templates().update_template(update).await.unwrap();
        let delta = node.follow().await;
        let changed = delta.upserts.iter().find(|directive| directive.name == "task/ny").unwrap();
        assert_eq!(scheduled(changed).plan.as_ref().unwrap().template.as_ref().unwrap().revision, 2);
        control.clock.advance(std::time::Duration::from_secs(60));
        control.reaches("ny", State::AwaitingStream).await;
        control.clock.advance(std::time::Duration::from_secs(60));
        control.reaches("ny", State::Expired).await;
        assert_eq!(node.follow().await.removed, ["task/ny"]);
        let told = ["task.created", "task.awaiting_stream", "task.expired"];
        assert_eq!(control.told_of("tasks/ny").await, told);
    });
}

#[test]
fn a_task_goes_with_its_recording_to_the_last_file() {
    on_each(async |control| {
        control.bind("default", DOMAIN).await;
        let mut node = Node::ready(&control, "m1").await;
        control.order("ny", 0, 3_600).await;
        node.follow().await;
        let mut story = recorded();
        let facts = vec![story.published(), story.started(), story.opened(0)];
        node.report(facts).await;
        let task = control.task("ny").await;
        assert_eq!((task.state(), task.recordings.as_slice()), (State::Running, &[story.name()][..]));
        let known = control.recording(&story.name()).await;
        let origin = recorder_proto::pb::v1::recording::Origin::Task("tasks/ny".into());
        assert_eq!(known.origin, Some(origin));
        // The next recording of it has an id of its own in object keys.
        assert!(scheduled(&node.follow().await.upserts[0]).begun);
        let stopped = control.stop_task("ny").await;
        assert_eq!((stopped.state(), stopped.stop_time.is_some()), (State::Stopping, true));
        assert_eq!(node.follow().await.removed, ["task/ny"], "what makes the node end it");
        assert_eq!(control.stop_task("ny").await, stopped, "once more");
        let facts = vec![story.ended(1)];
        node.report(facts).await;
        assert_eq!(control.task("ny").await.state(), State::Stopping, "a file is on its way");
        let facts = vec![story.available(0)];
        node.report(facts).await;
        assert_eq!(control.task("ny").await.state(), State::Succeeded);
        let told = ["task.created", "task.started", "task.stopping", "task.succeeded"];
        assert_eq!(control.told_of("tasks/ny").await, told);
    });
}

#[test]
fn a_publisher_who_comes_back_makes_a_second_recording_and_a_lost_file_a_failure() {
    on_each(async |control| {
        control.bind("default", DOMAIN).await;
        let mut node = Node::ready(&control, "m1").await;
        control.order("ny", 0, 3_600).await;
        let mut first = recorded();
        let facts = vec![first.started(), first.opened(0), first.ended(1), first.available(0)];
        node.report(facts).await;
        assert_eq!(control.task("ny").await.state(), State::AwaitingStream, "its time is not over");
        let mut second = Story { task: Some("tasks/ny"), ..first.another("cam1") };
        let facts = vec![second.started(), second.opened(0)];
        node.report(facts).await;
        let task = control.task("ny").await;
        assert_eq!((task.state(), task.recordings.len()), (State::Running, 2));
        let facts = vec![second.ended(1), second.failed(0, "no such bucket")];
        node.report(facts).await;
        control.clock.advance(std::time::Duration::from_secs(3_600));
        let failed = control.reaches("ny", State::Failed).await;
        assert!(failed.error.unwrap().message.contains("no such bucket"));
        let told = ["created", "started", "interrupted", "started", "interrupted", "failed"];
        let told: Vec<String> = told.iter().map(|kind| format!("task.{kind}")).collect();
        assert_eq!(control.told_of("tasks/ny").await, told);
    });
}

#[test]
fn timers_outlive_the_process() {
    on_each(async |control| {
        control.bind("default", DOMAIN).await;
        control.order("ny", 60, 120).await;
        control.order("over", 30, 45).await;
        let clock = control.clock.clone();
        let control = control.restart_after(async |_| clock.advance(std::time::Duration::from_secs(61))).await;
        control.reaches("ny", State::AwaitingStream).await;
        control.reaches("over", State::Expired).await;
        let mut node = Node::ready(&control, "m1").await;
        assert!(node.held.contains_key("task/ny") && !node.held.contains_key("task/over"));
        let mut story = recorded();
        let facts = vec![story.started(), story.opened(0)];
        node.report(facts).await;
        let control = control.restart().await;
        control.clock.advance(std::time::Duration::from_secs(60));
        control.reaches("ny", State::Stopping).await;
    });
}

/// The control plane was away when the task ran: its state follows what the node tells afterwards.
#[test]
fn facts_that_come_late_reopen_what_seemed_to_have_expired() {
    on_each(async |control| {
        control.bind("default", DOMAIN).await;
        let mut node = Node::ready(&control, "m1").await;
        control.order("ny", 0, 10).await;
        control.clock.advance(std::time::Duration::from_secs(10));
        control.reaches("ny", State::Expired).await;
        let mut story = recorded();
        let facts = vec![story.started(), story.opened(0)];
        node.report(facts).await;
        assert_eq!(control.task("ny").await.state(), State::Stopping);
        let facts = vec![story.ended(1), story.available(0)];
        node.report(facts).await;
        assert_eq!(control.task("ny").await.state(), State::Succeeded);
    });
}

#[test]
fn a_task_that_a_node_refuses_says_so_and_fails() {
    on_each(async |control| {
        control.bind("default", DOMAIN).await;
        let mut node = Node::ready(&control, "m1").await;
        control.order("ny", 0, 10).await;
        let (nonce, version, _) = node.delta().await;
        node.nack(&nonce, version, "task/ny", "this node cannot write to tape").await;
        let refused = async || control.task("ny").await.error;
        let error = until("the refusal", refused).await;
        assert!(error.message.contains("tape"));
        control.clock.advance(std::time::Duration::from_secs(10));
        let failed = control.reaches("ny", State::Failed).await;
        assert!(failed.error.unwrap().message.contains("tape"));
    });
}

#[test]
fn a_claim_is_enough_to_know_that_a_task_records() {
    on_each(async |control| {
        control.bind("default", DOMAIN).await;
        let mut node = Node::ready(&control, "m1").await;
        control.order("ny", 5, 3_600).await;
        let claim = recorded().claim(node.epoch);
        node.client.claim_recording(claim).await.unwrap();
        assert_eq!(control.task("ny").await.state(), State::Running, "the node's clock is ahead");
        let cancel = CancelTaskRequest { name: "ny".into() };
        let refusal = control.tasks().cancel_task(cancel).await.unwrap_err();
        assert!(refusal.message().contains("RUNNING"), "{refusal:?}");
    });
}

/// Two nodes that begin a task unknown to each other would both write to the keys of its bare id.
#[test]
fn only_one_recording_of_a_task_is_ever_said_to_be_the_first() {
    on_each(async |control| {
        control.bind("default", DOMAIN).await;
        let (mut one, mut two) = (Node::ready(&control, "m1").await, Node::ready(&control, "m2").await);
        control.order("ny", 0, 3_600).await;
        let delta = one.follow().await;
        assert_eq!(scheduled(&delta.upserts[0]).node, "", "the stream is not live");
        let (first, second) = (recorded(), recorded());
        let granted = two.client.claim_recording(first.claim(two.epoch)).await.unwrap().into_inner();
        assert!(granted.first_of_task, "{granted:?}");
        let again = two.client.claim_recording(first.claim(two.epoch)).await.unwrap().into_inner();
        assert_eq!(again, granted, "the same key, the same answer");
        let other = one.client.claim_recording(second.claim(one.epoch)).await.unwrap().into_inner();
        assert!(!other.first_of_task && other.recording == second.name(), "{other:?}");
    });
}

/// The node that has the stream need not ask, and nobody else is told that it is the first.
#[test]
fn the_node_that_has_the_stream_when_a_task_is_ordered_begins_it_under_its_bare_id() {
    on_each(async |control| {
        control.bind("default", DOMAIN).await;
        let (mut one, mut two) = (Node::ready(&control, "m1").await, Node::ready(&control, "m2").await);
        let mut story = recorded();
        let fact = story.published();
        one.report(vec![fact]).await;
        control.order("ny", 0, 3_600).await;
        let delta = one.follow().await;
        assert_eq!(scheduled(&delta.upserts[0]).node, "m1");
        let moved = recorded();
        let refused = two.client.claim_recording(moved.claim(two.epoch)).await.unwrap().into_inner();
        assert!(!refused.first_of_task, "{refused:?}");
        let delta = one.follow().await;
        let told = scheduled(&delta.upserts[0]);
        assert_eq!((told.node.as_str(), told.begun), ("m1", true), "decided once");
    });
}
