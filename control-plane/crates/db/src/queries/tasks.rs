//! Recording tasks: one stream, for one span of time.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::{Page, changed};
use crate::schema::{recordings, tasks};
use crate::{AnyConnection, Result};

/// A task. `body` is a [`v1::Task`] with what its creator gave.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = tasks, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    pub id: String,
    /// ULID; newest first by it.
    pub uid: String,
    pub rev: i64,
    pub domain: String,
    pub app: String,
    pub stream: String,
    /// Template id.
    pub template: String,
    /// [`v1::task::State`].
    pub state: i32,
    pub start_time: i64,
    pub end_time: i64,
    /// When it was stopped or withdrawn before its end.
    pub stop_time: Option<i64>,
    /// When a timer has to look at it again.
    pub due_time: Option<i64>,
    pub body: Vec<u8>,
    pub create_time: i64,
    pub update_time: i64,
}

/// What a list shows; None or empty is no condition.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Filter {
    pub domain: Option<String>,
    pub app: Option<String>,
    pub stream: Option<String>,
    pub template: Option<String>,
    /// [`v1::task::State`] values.
    pub states: Vec<i32>,
    /// Starts at or after.
    pub start_after: Option<i64>,
    /// Starts before.
    pub start_before: Option<i64>,
}

impl Row {
    /// The body, decoded.
    pub fn task(&self) -> Result<v1::Task> {
        crate::error::decode("tasks", &self.body)
    }
}

/// One task by id.
pub fn get(connection: &mut AnyConnection, id: &str) -> Result<Option<Row>> {
    Ok(tasks::table.find(id).first(connection).optional()?)
}

/// Every task that matches, newest first.
pub fn all(connection: &mut AnyConnection, filter: &Filter) -> Result<Vec<Row>> {
    page(connection, filter, &Page { before: None, limit: i64::MAX })
}

/// A page, newest first.
pub fn page(connection: &mut AnyConnection, filter: &Filter, page: &Page) -> Result<Vec<Row>> {
    let mut query = tasks::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(tasks::uid.lt(before.clone()));
    }
    if let Some(domain) = &filter.domain {
        query = query.filter(tasks::domain.eq(domain.clone()));
    }
    if let Some(app) = &filter.app {
        query = query.filter(tasks::app.eq(app.clone()));
    }
    if let Some(stream) = &filter.stream {
        query = query.filter(tasks::stream.eq(stream.clone()));
    }
    if let Some(template) = &filter.template {
        query = query.filter(tasks::template.eq(template.clone()));
    }
    if !filter.states.is_empty() {
        query = query.filter(tasks::state.eq_any(filter.states.clone()));
    }
    if let Some(start_after) = filter.start_after {
        query = query.filter(tasks::start_time.ge(start_after));
    }
    if let Some(start_before) = filter.start_before {
        query = query.filter(tasks::start_time.lt(start_before));
    }
    Ok(query.order(tasks::uid.desc()).limit(page.limit).load(connection)?)
}

/// The tasks that a timer has to look at by `now` (microseconds), the longest overdue first.
pub fn due(connection: &mut AnyConnection, now: i64, limit: i64) -> Result<Vec<Row>> {
    Ok(tasks::table.filter(tasks::due_time.le(now)).order(tasks::due_time.asc()).limit(limit).load(connection)?)
}

/// The recordings that a task has made, by id, oldest first, with their states.
pub fn recordings(connection: &mut AnyConnection, id: &str, limit: i64) -> Result<Vec<(String, i32)>> {
    Ok(recordings::table
        .filter(recordings::task.eq(id))
        .order(recordings::id.asc())
        .limit(limit)
        .select((recordings::id, recordings::state))
        .load(connection)?)
}

/// One recording of a task in one of these states, if there is one.
pub fn recording_in(connection: &mut AnyConnection, id: &str, states: &[i32]) -> Result<Option<String>> {
    Ok(recordings::table
        .filter(recordings::task.eq(id))
        .filter(recordings::state.eq_any(states.to_vec()))
        .order(recordings::id.asc())
        .select(recordings::id)
        .first(connection)
        .optional()?)
}

/// How many there are in these states.
pub fn count(connection: &mut AnyConnection, states: &[i32]) -> Result<i64> {
    Ok(tasks::table.filter(tasks::state.eq_any(states.to_vec())).count().get_result(connection)?)
}

/// Adds a task.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(tasks::table).values(row).execute(connection)?;
    Ok(())
}

/// Replaces what changes in a task's life, if the row still is at `row.rev`.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let rows = diesel::update(tasks::table.find(&row.id).filter(tasks::rev.eq(row.rev)))
        .set((
            tasks::rev.eq(row.rev + 1),
            tasks::state.eq(row.state),
            tasks::stop_time.eq(row.stop_time),
            tasks::due_time.eq(row.due_time),
            tasks::body.eq(&row.body),
            tasks::update_time.eq(row.update_time),
        ))
        .execute(connection)?;
    changed(rows)
}
