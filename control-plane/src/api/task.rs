//! TaskService: recording one stream for one span of time, now or later.
use prost::Message;
use recorder_db::tasks::{self as rows, Filter, Row};
use recorder_db::{AnyConnection, domains, templates};
use recorder_proto::names::TaskName;
use recorder_proto::pb::v1::task::State;
use recorder_proto::pb::v1::task_service_server::TaskService;
use recorder_proto::pb::v1::{
    CancelTaskRequest, CreateTaskRequest, GetTaskRequest, ListTasksRequest, ListTasksResponse, StopTaskRequest, Task,
};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use tonic::{Code, Request, Response, Status, async_trait};

use super::change::{Call, Tx};
use super::validate::{listed, only_name, quota};
use super::{Api, answer, template};
use crate::directives::task as directive;
use crate::domain::task::{OPEN, Ordered, is_open, most_at_once, ordered};
use crate::tasks;

const KIND: &str = "task";

#[async_trait]
impl TaskService for Api {
    async fn create_task(&self, request: Request<CreateTaskRequest>) -> Result<Response<Task>, Status> {
        answer(create(self, request.into_inner()).await)
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
        answer(get(self, request.into_inner()).await)
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        answer(list(self, request.into_inner()).await)
    }

    async fn stop_task(&self, request: Request<StopTaskRequest>) -> Result<Response<Task>, Status> {
        answer(stop(self, request.into_inner()).await)
    }

    async fn cancel_task(&self, request: Request<CancelTaskRequest>) -> Result<Response<Task>, Status> {
        answer(cancel(self, request.into_inner()).await)
    }
}

async fn create(api: &Api, request: CreateTaskRequest) -> Result<Task, Problem> {
    let mut violations = Violations::new();
    let id = match request.task_id.as_str() {
        "" => Some(api.mint.id(TaskName::COLLECTION, api.now())),
        given => violations.take("task_id", given.parse::<TaskName>()).map(TaskName::into_id),
    };
    let given = request.task.clone().unwrap_or_default();
    // Its times are judged again inside the transaction, by the moment that counts.
    ordered(&given, template::BUILT_IN, api.now(), &mut violations);
    violations.finish()?;
    let id = id.unwrap_or_default();
    let call = Call {
        method: "recorder.v1.TaskService/CreateTask",
        request_id: request.request_id.clone(),
        validate_only: request.validate_only,
    };
    let insert = move |tx: &mut Tx<'_>, _| {
        let mut violations = Violations::new();
        let order = ordered(&given, template::BUILT_IN, tx.now, &mut violations);
        violations.finish()?;
        let order = order.ok_or_else(|| Problem::internal("a task was neither read nor refused"))?;
        check(tx.connection, &id, &order)?;
        let now = tx.micros();
        let begins = order.start > tx.now;
        let row = Row {
            id,
            uid: tx.uid(),
            rev: 1,
            domain: order.stream.domain().to_owned(),
            app: order.stream.app().to_owned(),
            stream: order.stream.stream().to_owned(),
            template: order.template.into_id(),
            state: if begins { State::Scheduled } else { State::AwaitingStream } as i32,
            start_time: time::micros(order.start),
            end_time: time::micros(order.end),
            stop_time: None,
            due_time: Some(time::micros(if begins { order.start } else { order.end })),
            body: Task { labels: given.labels.clone(), ..Task::default() }.encode_to_vec(),
            create_time: now,
            update_time: now,
        };
        rows::insert(tx.connection, &row)?;
        tasks::inform(tx.connection, &row, tx.now)?;
        tasks::tell(tx.connection, &row, "task.created", tx.now)?;
        Ok(tasks::shown(tx.connection, &row, tx.now)?)
    };
    api.change(call, request, insert).await
}

/// What a task refers to must exist, and neither its stream nor the installation may have too many.
fn check(db: &mut AnyConnection, id: &str, order: &Ordered) -> Result<(), Problem> {
    if rows::get(db, id)?.is_some() {
        return Err(Problem::exists(KIND, &tasks::full_name(id)));
    }
    if domains::get(db, order.stream.domain())?.is_none() {
        return Err(Problem::not_found("domain", &format!("domains/{}", order.stream.domain())));
    }
    if templates::get(db, order.template.id())?.is_none() {
        return Err(Problem::not_found("template", &order.template.to_string()));
    }
    if directive::plan_of(db, order.template.id())?.is_none_or(|plan| plan.storage.is_none()) {
        let message = format!("{} names no storage, and there is no default one", order.template);
        return Err(Problem::wrong_state("NO_STORAGE", &order.template.to_string(), message));
    }
    let of_stream = Filter {
        domain: Some(order.stream.domain().to_owned()),
        app: Some(order.stream.app().to_owned()),
        stream: Some(order.stream.stream().to_owned()),
        ..still_open()
    };
    let others = rows::all(db, &of_stream)?;
    let within = (time::micros(order.start), time::micros(order.end));
    let spans: Vec<_> = others.iter().map(|row| (row.start_time, row.end_time)).collect();
    if most_at_once(&spans, within) >= limits::TASKS_AT_ONCE_MAX {
        return Err(too_many(order, &others, within));
    }
    quota("tasks", rows::count(db, &OPEN.map(|state| state as i32))?, limits::TASKS_OPEN_MAX)
}

fn too_many(order: &Ordered, others: &[Row], within: (i64, i64)) -> Problem {
    let most = limits::TASKS_AT_ONCE_MAX;
    let overlapping = others.iter().filter(|row| row.start_time < within.1 && row.end_time > within.0);
    let names = listed(overlapping.map(|row| tasks::full_name(&row.id)));
    let message = format!("at most {most} tasks may record {} at once; these do or will: {names}", order.stream);
    let mut problem = Problem::new(Code::ResourceExhausted, "TOO_MANY_TASKS", message.clone());
    problem.details.quotas = vec![(order.stream.to_string(), message)];
    problem.retry = recorder_proto::problem::Retry::Never;
    problem
}

/// Tasks that record, or may yet.
fn still_open() -> Filter {
    Filter { states: OPEN.map(|state| state as i32).to_vec(), ..Filter::default() }
}

async fn get(api: &Api, request: GetTaskRequest) -> Result<Task, Problem> {
    let name: TaskName = only_name("name", &request.name)?;
    let now = api.now();
    api.db
        .read(move |db| {
            let row = existing(db, &name)?;
            Ok(tasks::shown(db, &row, now)?)
        })
        .await
}

async fn list(api: &Api, request: ListTasksRequest) -> Result<ListTasksResponse, Problem> {
    let mut violations = Violations::new();
    let filter = filter(&request, &mut violations);
    let scope = ListTasksRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let (size, token) = (request.page_size, &request.page_token);
    let paging = api.tokens.paging(&mut violations, "TaskService/ListTasks", &scope, size, token);
    violations.finish()?;
    let (page, now, tokens) = (paging.page(), api.now(), api.tokens.clone());
    api.db
        .read(move |db| {
            let mut rows = rows::page(db, &filter, &page)?;
            let next_page_token = tokens.next(&paging, &mut rows, |row| row.uid.clone());
            let tasks = rows.iter().map(|row| tasks::shown(db, row, now)).collect::<Result<_, _>>()?;
            Ok(ListTasksResponse { tasks, next_page_token })
        })
        .await
}

fn filter(request: &ListTasksRequest, violations: &mut Violations) -> Filter {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let stream = request.stream.clone().unwrap_or_default();
    for state in &request.states {
        let known = State::try_from(*state).is_ok();
        violations.check(known, "states", format!("{state} is not a state of a task"));
    }
    let micros = |wire: &prost_types::Timestamp| time::datetime(wire).map(time::micros);
    Filter {
        domain: given(&stream.domain.strip_prefix("domains/").unwrap_or(&stream.domain).to_ascii_lowercase()),
        app: given(&stream.app),
        stream: given(&stream.stream),
        template: None,
        states: request.states.iter().copied().filter(|state| *state != 0).collect(),
        start_after: request.start_after.as_ref().and_then(micros),
        start_before: request.start_before.as_ref().and_then(micros),
    }
}

async fn stop(api: &Api, request: StopTaskRequest) -> Result<Task, Problem> {
    let name: TaskName = only_name("name", &request.name)?;
    let call = Call::plain("recorder.v1.TaskService/StopTask");
    let finish = move |tx: &mut Tx<'_>, _| {
        let row = existing(tx.connection, &name)?;
        let row = end(tx, row)?;
        Ok(tasks::shown(tx.connection, &row, tx.now)?)
    };
    api.change(call, request, finish).await
}

async fn cancel(api: &Api, request: CancelTaskRequest) -> Result<Task, Problem> {
    let name: TaskName = only_name("name", &request.name)?;
    let call = Call::plain("recorder.v1.TaskService/CancelTask");
    let withdraw = move |tx: &mut Tx<'_>, _| {
        let row = existing(tx.connection, &name)?;
        // Its start may have come, only the timer has not.
        let row = tasks::settle(tx.connection, row, tx.now)?;
        let row = match tasks::of(row.state) {
            State::Cancelled => row,
            State::Scheduled => end(tx, row)?,
            state => {
                let state = state.as_str_name();
                let message = format!("{name} is {state}; only one that has not started can be cancelled: StopTask");
                return Err(Problem::wrong_state("TASK_STARTED", &name.to_string(), message));
            }
        };
        Ok(tasks::shown(tx.connection, &row, tx.now)?)
    };
    api.change(call, request, withdraw).await
}

/// Ends a task early; one that is over stays as it is, and one that has not started is withdrawn.
pub(super) fn end(tx: &mut Tx<'_>, row: Row) -> Result<Row, Problem> {
    let mut row = tasks::settle(tx.connection, row, tx.now)?;
    let state = tasks::of(row.state);
    if !is_open(state) {
        return Ok(row);
    }
    row.stop_time = Some(tx.micros());
    if state != State::Scheduled {
        let row = tasks::write(tx.connection, row, tx.now)?;
        return Ok(tasks::settle(tx.connection, row, tx.now)?);
    }
    row.state = State::Cancelled as i32;
    row.due_time = None;
    let row = tasks::write(tx.connection, row, tx.now)?;
    tasks::inform(tx.connection, &row, tx.now)?;
    tasks::tell(tx.connection, &row, "task.cancelled", tx.now)?;
    Ok(row)
}

/// The tasks that need a template.
pub(super) fn of_template(db: &mut AnyConnection, template: &str) -> Result<Vec<Row>, Problem> {
    Ok(rows::all(db, &Filter { template: Some(template.to_owned()), ..still_open() })?)
}

/// The tasks that wait for streams of a domain, or record one.
pub(super) fn of_domain(db: &mut AnyConnection, domain: &str) -> Result<Vec<Row>, Problem> {
    Ok(rows::all(db, &Filter { domain: Some(domain.to_owned()), ..still_open() })?)
}

fn existing(db: &mut AnyConnection, name: &TaskName) -> Result<Row, Problem> {
    rows::get(db, name.id())?.ok_or_else(|| Problem::not_found(KIND, &name.to_string()))
}
