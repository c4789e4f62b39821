//! TaskService over the wire: what may be ordered, found, stopped and withdrawn.

use chrono::DateTime;
use recorder_proto::pb::v1::task::State;
use recorder_proto::pb::v1::*;
use recorder_proto::time;
use tonic::Code;

use crate::support::{Control, EPOCH, bad_fields, on_each, reason, refused};

const DOMAIN: &str = "push.example.com";
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(time::timestamp(DateTime::from_timestamp(EPOCH + seconds, 0).unwrap()))
}

fn stream(stream: &str) -> Option<StreamRef> {
    Some(StreamRef { domain: DOMAIN.into(), app: String::new(), stream: stream.into() })
}

/// Of `cam`, between these seconds from now.
fn between(start: i64, end: i64) -> Task {
    Task { stream: stream("cam"), start_time: at(start), end_time: at(end), ..Task::default() }
}

async fn domain(control: &Control) {
    let request = CreateDomainRequest { domain_id: DOMAIN.into(), ..Default::default() };
    control.domains().create_domain(request).await.unwrap();
}

async fn try_create(control: &Control, id: &str, task: Task) -> Result<tonic::Response<Task>, tonic::Status> {
    let request = CreateTaskRequest { task_id: id.into(), task: Some(task), ..Default::default() };
    control.tasks().create_task(request).await
}

async fn create(control: &Control, id: &str, task: Task) -> Task {
    try_create(control, id, task).await.unwrap().into_inner()
}

async fn get(control: &Control, name: &str) -> Task {
    control.tasks().get_task(GetTaskRequest { name: name.into() }).await.unwrap().into_inner()
}

async fn stop(control: &Control, name: &str) -> Result<tonic::Response<Task>, tonic::Status> {
    control.tasks().stop_task(StopTaskRequest { name: name.into() }).await
}

async fn cancel(control: &Control, name: &str) -> Result<tonic::Response<Task>, tonic::Status> {
    control.tasks().cancel_task(CancelTaskRequest { name: name.into() }).await
}

async fn names(control: &Control, request: ListTasksRequest) -> Vec<String> {
    let listed = control.tasks().list_tasks(request).await.unwrap().into_inner();
    listed.tasks.into_iter().map(|task| task.name).collect()
}

#[test]
fn r17_a_task_that_says_nothing_records_now_for_a_day_with_the_default_template() {
    on_each(async |control| {
        domain(&control).await;
        let task = create(&control, "", Task { stream: stream("cam"), ..Task::default() }).await;
        assert!(task.name.starts_with("tasks/t-"), "{}", task.name);
        assert_eq!((task.template.as_str(), task.state()), ("templates/default", State::AwaitingStream));
        assert_eq!(task.stream.as_ref().unwrap().app, "live");
        assert_eq!((task.start_time, task.end_time), (at(0), at(DAY)));
        assert_eq!((task.stop_time, task.recordings.len(), task.error.clone()), (None, 0, None));
        assert_eq!(get(&control, &task.name).await, task);
        let labels = [("team".to_owned(), "news".to_owned())];
        let later = Task { labels: labels.clone().into(), ..between(HOUR, 2 * HOUR) };
        let later = create(&control, "ny", later).await;
        assert_eq!((later.name.as_str(), later.state()), ("tasks/ny", State::Scheduled));
        assert_eq!((later.start_time, later.end_time), (at(HOUR), at(2 * HOUR)));
        assert_eq!(later.labels, labels.into());
        assert!(!later.etag.is_empty() && later.create_time == at(0));
        assert_eq!(get(&control, "ny").await, later);
    });
}

#[test]
fn what_cannot_be_ordered_is_refused_by_name() {
    on_each(async |control| {
        let task = || Task { stream: stream("cam"), ..Task::default() };
        assert_eq!(reason(try_create(&control, "a", task()).await), (Code::NotFound, "DOMAIN_NOT_FOUND".into()));
        domain(&control).await;
        let unknown = Task { template: "nope".into(), ..task() };
        let problem = refused(try_create(&control, "a", unknown).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::NotFound, "TEMPLATE_NOT_FOUND"));
        assert!(problem.message.contains("templates/nope"), "never a silent default: {problem}");
        for (given, fields) in [
            (Task::default(), vec!["task.stream"]),
            (Task { stream: stream(""), ..task() }, vec!["task.stream"]),
            (Task { template: "T!".into(), ..between(-61, DAY) }, vec!["task.start_time", "task.template"]),
            (between(7 * DAY + 1, 7 * DAY + 2), vec!["task.end_time", "task.start_time"]),
            (between(0, DAY + 1), vec!["task.end_time"]),
            (between(HOUR, HOUR), vec!["task.end_time"]),
            (between(6 * DAY + 23 * HOUR, 7 * DAY + 1), vec!["task.end_time"]),
        ] {
            assert_eq!(bad_fields(try_create(&control, "a", given.clone()).await), fields, "{given:?}");
        }
        assert_eq!(bad_fields(try_create(&control, "N Y", task()).await), ["task_id"]);
        create(&control, "a", between(HOUR, DAY)).await;
        let problem = refused(try_create(&control, "a", between(2 * HOUR, DAY)).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::AlreadyExists, "TASK_EXISTS"));
    });
}

#[test]
fn three_tasks_at_once_may_record_a_stream_and_a_fourth_is_refused() {
    on_each(async |control| {
        domain(&control).await;
        create(&control, "a", between(0, 2 * HOUR)).await;
        create(&control, "b", between(HOUR, 3 * HOUR)).await;
        create(&control, "c", between(HOUR + 60, 2 * HOUR)).await;
        let problem = refused(try_create(&control, "d", between(0, DAY)).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::ResourceExhausted, "TOO_MANY_TASKS"));
        for told in ["at most 3", "push.example.com/live/cam", "tasks/a", "tasks/b", "tasks/c"] {
            assert!(problem.message.contains(told), "{told}: {problem}");
        }
        assert_eq!(problem.details.quotas[0].0, "push.example.com/live/cam");
        // Beside them, on another stream, or when one of them is stopped.
        create(&control, "before", between(0, HOUR + 60)).await;
        create(&control, "after", between(2 * HOUR, 3 * HOUR)).await;
        let other = Task { stream: stream("other"), ..between(0, DAY) };
        create(&control, "other", other).await;
        let another = between(HOUR + 60, 2 * HOUR);
        assert_eq!(reason(try_create(&control, "d", another.clone()).await).1, "TOO_MANY_TASKS");
        cancel(&control, "c").await.unwrap();
        create(&control, "d", another).await;
    });
}

#[test]
fn the_same_request_again_is_the_same_task_and_a_rehearsal_is_none() {
    on_each(async |control| {
        domain(&control).await;
        let request = CreateTaskRequest {
            task: Some(between(HOUR, DAY)),
            request_id: "r1".into(),
            ..CreateTaskRequest::default()
        };
        let first = control.tasks().create_task(request.clone()).await.unwrap().into_inner();
        control.advance(2);
        let second = control.tasks().create_task(request.clone()).await.unwrap().into_inner();
        assert_eq!(first, second);
        let rehearsal = CreateTaskRequest { request_id: String::new(), validate_only: true, ..request.clone() };
        let told = control.tasks().create_task(rehearsal).await.unwrap().into_inner();
        assert_eq!(told.state(), State::Scheduled);
        assert_eq!(names(&control, ListTasksRequest::default()).await, [first.name]);
        let other = CreateTaskRequest { task: Some(between(HOUR, 2 * HOUR)), ..request };
        assert_eq!(reason(control.tasks().create_task(other).await).1, "REQUEST_ID_REUSED");
    });
}

#[test]
fn a_task_that_has_not_started_is_withdrawn_and_one_that_has_is_stopped() {
    on_each(async |control| {
        domain(&control).await;
        for id in ["a", "b"] {
            create(&control, id, between(HOUR, DAY)).await;
        }
        let cancelled = cancel(&control, "a").await.unwrap().into_inner();
        assert_eq!((cancelled.state(), cancelled.stop_time), (State::Cancelled, at(0)));
        assert_eq!(cancel(&control, "a").await.unwrap().into_inner(), cancelled, "once more");
        assert_eq!(stop(&control, "a").await.unwrap().into_inner(), cancelled, "what is over stays");
        assert_eq!(stop(&control, "b").await.unwrap().into_inner().state(), State::Cancelled, "it never started");
        let running = create(&control, "c", between(0, DAY)).await;
        assert_eq!(running.state(), State::AwaitingStream);
        let problem = refused(cancel(&control, "c").await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, "TASK_STARTED"));
        assert!(problem.message.contains("AWAITING_STREAM") && problem.message.contains("StopTask"), "{problem}");
        control.advance(60);
        let stopped = stop(&control, "c").await.unwrap().into_inner();
        assert_eq!((stopped.state(), stopped.stop_time), (State::Expired, at(60)), "nobody published");
        assert_eq!(stop(&control, "tasks/c").await.unwrap().into_inner(), stopped);
        assert_eq!(reason(cancel(&control, "c").await).1, "TASK_STARTED");
        for missing in [stop(&control, "x").await, cancel(&control, "x").await] {
            assert_eq!(reason(missing), (Code::NotFound, "TASK_NOT_FOUND".into()));
        }
        assert_eq!(bad_fields(stop(&control, "").await), ["name"]);
        assert_eq!(bad_fields(cancel(&control, "N Y").await), ["name"]);
        let nobody = control.tasks().get_task(GetTaskRequest { name: "x".into() }).await;
        assert_eq!(reason(nobody), (Code::NotFound, "TASK_NOT_FOUND".into()));
    });
}

/// The start has come, only no timer has looked yet.
#[test]
fn a_task_is_not_withdrawn_once_its_start_has_come() {
    on_each(async |control| {
        domain(&control).await;
        create(&control, "a", between(10, DAY)).await;
        control.advance(10);
        assert_eq!(reason(cancel(&control, "a").await).1, "TASK_STARTED");
    });
}

#[test]
fn tasks_are_listed_by_stream_state_and_start_page_by_page() {
    on_each(async |control| {
        domain(&control).await;
        create(&control, "now", between(0, DAY)).await;
        create(&control, "later", between(HOUR, DAY)).await;
        create(&control, "other", Task { stream: stream("other"), ..between(2 * HOUR, DAY) }).await;
        cancel(&control, "other").await.unwrap();
        let all = ListTasksRequest::default;
        let states = |states: &[State]| states.iter().map(|state| *state as i32).collect();
        for (request, expected) in [
            (all(), vec!["tasks/other", "tasks/later", "tasks/now"]),
            (ListTasksRequest { stream: stream("cam"), ..all() }, vec!["tasks/later", "tasks/now"]),
            (
                ListTasksRequest {
                    stream: Some(StreamRef { domain: "PUSH.example.com".into(), ..StreamRef::default() }),
                    ..all()
                },
                vec!["tasks/other", "tasks/later", "tasks/now"],
            ),
            (ListTasksRequest { states: states(&[State::Cancelled]), ..all() }, vec!["tasks/other"]),
            (
                ListTasksRequest { states: states(&[State::Scheduled, State::AwaitingStream]), ..all() },
                vec!["tasks/later", "tasks/now"],
            ),
            (ListTasksRequest { start_after: at(HOUR), ..all() }, vec!["tasks/other", "tasks/later"]),
            (ListTasksRequest { start_before: at(HOUR), ..all() }, vec!["tasks/now"]),
        ] {
            assert_eq!(names(&control, request.clone()).await, expected, "{request:?}");
        }
        let first = ListTasksRequest { page_size: 2, ..all() };
        let page = control.tasks().list_tasks(first.clone()).await.unwrap().into_inner();
        assert_eq!(page.tasks.len(), 2);
        let second = ListTasksRequest { page_token: page.next_page_token, ..first.clone() };
        let page = control.tasks().list_tasks(second).await.unwrap().into_inner();
        assert_eq!((page.tasks[0].name.as_str(), page.next_page_token.as_str()), ("tasks/now", ""));
        let foreign = ListTasksRequest { page_token: "AAAA".into(), states: vec![99], ..first };
        assert_eq!(bad_fields(control.tasks().list_tasks(foreign).await), ["page_token", "states"]);
    });
}

#[test]
fn what_an_open_task_needs_is_not_deleted() {
    on_each(async |control| {
        domain(&control).await;
        let template = CreateTemplateRequest { template_id: "show".into(), ..Default::default() };
        control.templates().create_template(template).await.unwrap();
        create(&control, "ny", Task { template: "show".into(), ..between(HOUR, DAY) }).await;
        for force in [false, true] {
            let delete = DeleteTemplateRequest { name: "show".into(), force, ..Default::default() };
            let problem = refused(control.templates().delete_template(delete).await);
            assert_eq!((problem.reason.as_str(), problem.code), ("TEMPLATE_IN_USE", Code::FailedPrecondition));
            assert_eq!(problem.details.preconditions[0].subject, "tasks/ny", "{problem}");
        }
        let delete = |force| DeleteDomainRequest { name: DOMAIN.into(), force, ..Default::default() };
        let problem = refused(control.domains().delete_domain(delete(false)).await);
        assert_eq!((problem.reason.as_str(), problem.details.preconditions.len()), ("DOMAIN_IN_USE", 1));
        control.domains().delete_domain(delete(true)).await.unwrap();
        assert_eq!(get(&control, "ny").await.state(), State::Cancelled);
        let delete = DeleteTemplateRequest { name: "show".into(), ..Default::default() };
        control.templates().delete_template(delete).await.unwrap();
        assert_eq!(get(&control, "ny").await.template, "templates/show", "what was ordered stays on record");
    });
}

#[test]
fn a_task_is_told_of_beside_what_else_records_a_stream() {
    on_each(async |control| {
        let bind = BindTemplateRequest {
            template: "default".into(),
            domains: vec![DOMAIN.into()],
            create_domains: true,
            ..Default::default()
        };
        control.domains().bind_template(bind).await.unwrap();
        create(&control, "now", between(0, HOUR)).await;
        create(&control, "later", between(HOUR, DAY)).await;
        create(&control, "other", Task { stream: stream("other"), ..between(0, DAY) }).await;
        let request = ExplainMatchRequest { stream: stream("cam") };
        let told = control.rules().explain_match(request).await.unwrap().into_inner();
        let candidates: Vec<_> = told.candidates.iter().map(|one| (one.source.as_str(), one.chosen)).collect();
        let binding = "domains/push.example.com/bindings/default";
        assert_eq!(candidates, [("tasks/now", true), ("tasks/later", false), (binding, true)]);
        assert_eq!(told.templates, ["templates/default"]);
        assert!(told.candidates[0].why.contains("beside whatever rules and bindings do"), "{told:?}");
    });
}
