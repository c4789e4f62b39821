//! Keeps tasks in line with their times and recordings, whoever has changed those: a timer, a fact or a caller.
use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::streams;
use recorder_db::tasks::{self, Row};
use recorder_db::{AnyConnection, Page, Result, recordings};
use recorder_proto::pb::v1::recording::State as Of;
use recorder_proto::pb::v1::task::State;
use recorder_proto::pb::v1::{StreamRef, Task};
use recorder_proto::time;
use tonic_types::pb::Status;

use crate::api::validate::etag;
use crate::directives::status::{self, Stage};
use crate::directives::{names, task as directive};
use crate::domain::task::{self, Made, Times};
use crate::feed;

/// Names of recordings shown with a task; a flapping publisher can make more.
const SHOWN: i64 = 1_000;

/// A recording of a task has changed its state.
///
/// # Errors
/// When the database fails.
pub(crate) fn follow(db: &mut AnyConnection, id: &str, now: DateTime<Utc>) -> Result<()> {
    // A restored database may know recordings of tasks that it does not know.
    match tasks::get(db, id)? {
        Some(row) => settle(db, row, now).map(drop),
        None => Ok(()),
    }
}

/// Writes down how far a task has come, and tells whoever has to know; gives the row as it is then.
///
/// # Errors
/// When the database fails.
pub(crate) fn settle(db: &mut AnyConnection, mut row: Row, now: DateTime<Utc>) -> Result<Row> {
    let before = of(row.state);
    let times = times(&row);
    let (made, error) = made(db, &row, &times, now)?;
    // Nobody asks the nodes again once they were told to forget it.
    let refused = before == State::Failed && !made.any;
    let state = if refused { before } else { task::state(&times, made, now) };
    let due = task::due(&times, state, made).map(time::micros);
    if state == before && due == row.due_time {
        return Ok(row);
    }
    if state != before {
        let error = error.filter(|_| state == State::Failed);
        row.body = Task { error, ..row.task()? }.encode_to_vec();
    }
    row.state = state as i32;
    row.due_time = due;
    let row = write(db, row, now)?;
    if state != before {
        inform(db, &row, now)?;
        tell(db, &row, kind(before, state), now)?;
    }
    Ok(row)
}

/// Writes a row that the caller has changed.
///
/// # Errors
/// When the database fails.
pub(crate) fn write(db: &mut AnyConnection, row: Row, now: DateTime<Utc>) -> Result<Row> {
    let row = Row { update_time: time::micros(now), ..row };
    tasks::update(db, &row)?;
    Ok(Row { rev: row.rev + 1, ..row })
}

/// Lets the nodes know of a task as it is, or forget it.
///
/// # Errors
/// When the database fails.
pub(crate) fn inform(db: &mut AnyConnection, row: &Row, now: DateTime<Utc>) -> Result<()> {
    if task::is_open(of(row.state)) { directive::tell(db, row, now) } else { directive::withdraw(db, &row.id, now) }
}

/// Appends an event about a task.
///
/// # Errors
/// When the database fails.
pub(crate) fn tell(db: &mut AnyConnection, row: &Row, kind: &str, now: DateTime<Utc>) -> Result<()> {
    let task = shown(db, row, now)?;
    feed::append(db, feed::Stamp::fresh(now), kind, &task.name, task.encode_to_vec())
}

/// The task as users see it.
///
/// # Errors
/// When the database fails.
pub(crate) fn shown(db: &mut AnyConnection, row: &Row, now: DateTime<Utc>) -> Result<Task> {
    let given = row.task()?;
    let state = of(row.state);
    let error = match given.error {
        None if task::is_open(state) => refusal(db, &row.id, now)?,
        error => error,
    };
    let made = tasks::recordings(db, &row.id, SHOWN)?;
    let at = |micros: i64| Some(time::timestamp(time::from_micros(micros)));
    Ok(Task {
        name: full_name(&row.id),
        stream: Some(StreamRef { domain: row.domain.clone(), app: row.app.clone(), stream: row.stream.clone() }),
        template: format!("templates/{}", row.template),
        start_time: at(row.start_time),
        end_time: at(row.end_time),
        state: row.state,
        error,
        recordings: made.into_iter().map(|(id, _)| format!("recordings/{id}")).collect(),
        stop_time: row.stop_time.and_then(at),
        create_time: at(row.create_time),
        update_time: at(row.update_time),
        etag: etag(&row.uid, row.rev),
        ..given
    })
}

/// `tasks/{id}`.
pub(crate) fn full_name(id: &str) -> String {
    format!("tasks/{id}")
}

/// The state of a row.
pub(crate) fn of(state: i32) -> State {
    State::try_from(state).unwrap_or_default()
}

fn times(row: &Row) -> Times {
    Times {
        start: time::from_micros(row.start_time),
        end: time::from_micros(row.end_time),
        stopped: row.stop_time.map(time::from_micros),
        withdrawn: of(row.state) == State::Cancelled,
    }
}

/// What has come of a task, and what is to be said if that makes it a failure.
fn made(db: &mut AnyConnection, row: &Row, times: &Times, now: DateTime<Utc>) -> Result<(Made, Option<Status>)> {
    let mut one_in = |states: &[Of]| {
        let states: Vec<i32> = states.iter().map(|state| *state as i32).collect();
        tasks::recording_in(db, &row.id, &states)
    };
    let running = one_in(&[Of::Starting, Of::Recording, Of::Interrupted])?.is_some();
    let mut made = Made { any: running, running, ..Made::default() };
    if running {
        return Ok((made, None));
    }
    made.finishing = one_in(&[Of::Finalizing])?.is_some();
    made.any = made.finishing || one_in(&[Of::Succeeded, Of::Incomplete, Of::Failed])?.is_some();
    if now < times.over() || made.finishing {
        return Ok((made, None));
    }
    if made.any {
        let error = failure(db, &row.id)?;
        return Ok((Made { failed: error.is_some(), ..made }, error));
    }
    let error = refusal(db, &row.id, now)?;
    made.refused = error.is_some();
    made.live = is_live(db, row)?;
    Ok((made, error))
}

/// What the first recording that lacks something says. One with holes but with all its files is no failure.
fn failure(db: &mut AnyConnection, id: &str) -> Result<Option<Status>> {
    for (recording, state) in tasks::recordings(db, id, SHOWN)? {
        if ![Of::Incomplete as i32, Of::Failed as i32].contains(&state) {
            continue;
        }
        let body = recordings::get(db, &recording)?.map(|row| row.recording()).transpose()?.unwrap_or_default();
        if body.error.is_some() {
            return Ok(body.error);
        }
    }
    Ok(None)
}

/// In the words of a node that cannot do it.
fn refusal(db: &mut AnyConnection, id: &str, now: DateTime<Utc>) -> Result<Option<Status>> {
    let standings = status::standings(db, &[names::task(id)], now)?;
    let refused = standings.into_iter().find(|standing| standing.stage == Stage::Rejected);
    Ok(refused.and_then(|standing| standing.error))
}

fn is_live(db: &mut AnyConnection, row: &Row) -> Result<bool> {
    let filter = streams::Filter {
        domain: Some(row.domain.clone()),
        app: Some(row.app.clone()),
        stream: Some(row.stream.clone()),
        ..streams::Filter::default()
    };
    Ok(!streams::page(db, &filter, &Page { before: None, limit: 1 })?.is_empty())
}

fn kind(before: State, after: State) -> &'static str {
    match after {
        State::AwaitingStream if before == State::Running => "task.interrupted",
        State::AwaitingStream => "task.awaiting_stream",
        State::Running => "task.started",
        State::Stopping => "task.stopping",
        State::Succeeded => "task.succeeded",
        State::Failed => "task.failed",
        State::Cancelled => "task.cancelled",
        State::Expired => "task.expired",
        State::Scheduled | State::Unspecified => "task.updated",
    }
}
