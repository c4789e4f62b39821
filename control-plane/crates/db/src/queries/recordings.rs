//! Recordings: a fold over facts and user intent.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::{Page, changed};
use crate::schema::recordings;
use crate::{AnyConnection, Result};

/// A recording. `body` is a [`v1::Recording`].
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = recordings, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    /// ULID; newest first by it.
    pub id: String,
    pub rev: i64,
    pub domain: String,
    pub app: String,
    pub stream: String,
    /// [`v1::recording::State`].
    pub state: i32,
    /// Fencing epoch.
    pub epoch: i64,
    pub node: String,
    /// Template id.
    pub template: String,
    /// Storage id.
    pub storage: String,
    /// Task id, when a task asked for it.
    pub task: Option<String>,
    /// Publish session that feeds it; empty when none.
    pub session: String,
    pub start_time: i64,
    pub update_time: i64,
    pub body: Vec<u8>,
    /// A [`v1::Recording`]: as it was when the current epoch took over; None in the first.
    pub inherited: Option<Vec<u8>>,
}

/// What a list shows; None or empty is no condition.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Filter {
    pub domain: Option<String>,
    pub app: Option<String>,
    pub stream: Option<String>,
    /// [`v1::recording::State`] values.
    pub states: Vec<i32>,
    pub task: Option<String>,
    pub template: Option<String>,
    pub storage: Option<String>,
    pub node: Option<String>,
    pub session: Option<String>,
    /// Started at or after.
    pub start_after: Option<i64>,
    /// Started before.
    pub start_before: Option<i64>,
}

impl Row {
    /// The body, decoded.
    pub fn recording(&self) -> Result<v1::Recording> {
        crate::error::decode("recordings", &self.body)
    }

    /// What the current epoch took over, decoded; empty in the first.
    pub fn inherited(&self) -> Result<v1::Recording> {
        self.inherited
            .as_deref()
            .map_or_else(|| Ok(v1::Recording::default()), |body| crate::error::decode("recordings", body))
    }
}

/// One recording by id.
pub fn get(connection: &mut AnyConnection, id: &str) -> Result<Option<Row>> {
    Ok(recordings::table.find(id).first(connection).optional()?)
}

/// Those of these ids that there are.
pub fn of_ids(connection: &mut AnyConnection, ids: &[String]) -> Result<Vec<Row>> {
    Ok(recordings::table.filter(recordings::id.eq_any(ids)).load(connection)?)
}

/// A page, newest first.
pub fn page(connection: &mut AnyConnection, filter: &Filter, page: &Page) -> Result<Vec<Row>> {
    let mut query = recordings::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(recordings::id.lt(before.clone()));
    }
    if let Some(domain) = &filter.domain {
        query = query.filter(recordings::domain.eq(domain.clone()));
    }
    if let Some(app) = &filter.app {
        query = query.filter(recordings::app.eq(app.clone()));
    }
    if let Some(stream) = &filter.stream {
        query = query.filter(recordings::stream.eq(stream.clone()));
    }
    if !filter.states.is_empty() {
        query = query.filter(recordings::state.eq_any(filter.states.clone()));
    }
    if let Some(task) = &filter.task {
        query = query.filter(recordings::task.eq(task.clone()));
    }
    if let Some(template) = &filter.template {
        query = query.filter(recordings::template.eq(template.clone()));
    }
    if let Some(storage) = &filter.storage {
        query = query.filter(recordings::storage.eq(storage.clone()));
    }
    if let Some(node) = &filter.node {
        query = query.filter(recordings::node.eq(node.clone()));
    }
    if let Some(session) = &filter.session {
        query = query.filter(recordings::session.eq(session.clone()));
    }
    if let Some(start_after) = filter.start_after {
        query = query.filter(recordings::start_time.ge(start_after));
    }
    if let Some(start_before) = filter.start_before {
        query = query.filter(recordings::start_time.lt(start_before));
    }
    Ok(query.order(recordings::id.desc()).limit(page.limit).load(connection)?)
}

/// Adds a recording.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(recordings::table).values(row).execute(connection)?;
    Ok(())
}

/// Replaces what changes in a recording's life, if the row still is at `row.rev`.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let rows = diesel::update(recordings::table.find(&row.id).filter(recordings::rev.eq(row.rev)))
        .set((
            recordings::rev.eq(row.rev + 1),
            recordings::state.eq(row.state),
            recordings::epoch.eq(row.epoch),
            recordings::node.eq(&row.node),
            recordings::storage.eq(&row.storage),
            recordings::session.eq(&row.session),
            recordings::start_time.eq(row.start_time),
            recordings::update_time.eq(row.update_time),
            recordings::body.eq(&row.body),
            recordings::inherited.eq(row.inherited.as_deref()),
        ))
        .execute(connection)?;
    changed(rows)
}

/// Removes a recording with its claims and files; false when there was none.
pub fn delete(connection: &mut AnyConnection, id: &str) -> Result<bool> {
    Ok(diesel::delete(recordings::table.find(id)).execute(connection)? > 0)
}
