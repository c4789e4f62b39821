//! Live publishers, whether recorded or not.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::{Page, changed};
use crate::schema::streams;
use crate::{AnyConnection, Result};

/// A publish session. `body` is a [`v1::Stream`].
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = streams, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    /// ULID; newest first by it.
    pub session: String,
    pub rev: i64,
    pub domain: String,
    pub app: String,
    pub stream: String,
    pub node: String,
    pub start_time: i64,
    /// None while it is live.
    pub end_time: Option<i64>,
    pub body: Vec<u8>,
}

/// What a list shows; None is no condition.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Filter {
    pub domain: Option<String>,
    pub app: Option<String>,
    pub stream: Option<String>,
    pub node: Option<String>,
    /// Show ended sessions too.
    pub ended: bool,
}

impl Row {
    /// The body, decoded.
    pub fn stream(&self) -> Result<v1::Stream> {
        crate::error::decode("streams", &self.body)
    }
}

/// One session, live or ended.
pub fn get(connection: &mut AnyConnection, session: &str) -> Result<Option<Row>> {
    Ok(streams::table.find(session).first(connection).optional()?)
}

/// A page, newest first.
pub fn page(connection: &mut AnyConnection, filter: &Filter, page: &Page) -> Result<Vec<Row>> {
    let mut query = streams::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(streams::session.lt(before.clone()));
    }
    if let Some(domain) = &filter.domain {
        query = query.filter(streams::domain.eq(domain.clone()));
    }
    if let Some(app) = &filter.app {
        query = query.filter(streams::app.eq(app.clone()));
    }
    if let Some(stream) = &filter.stream {
        query = query.filter(streams::stream.eq(stream.clone()));
    }
    if let Some(node) = &filter.node {
        query = query.filter(streams::node.eq(node.clone()));
    }
    if !filter.ended {
        query = query.filter(streams::end_time.is_null());
    }
    Ok(query.order(streams::session.desc()).limit(page.limit).load(connection)?)
}

/// Adds a session.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(streams::table).values(row).execute(connection)?;
    Ok(())
}

/// Replaces what changes in a session's life, if the row still is at `row.rev`.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let rows = diesel::update(streams::table.find(&row.session).filter(streams::rev.eq(row.rev)))
        .set((
            streams::rev.eq(row.rev + 1),
            streams::node.eq(&row.node),
            streams::end_time.eq(row.end_time),
            streams::body.eq(&row.body),
        ))
        .execute(connection)?;
    changed(rows)
}

/// Forgets sessions that ended before `time` (microseconds); returns how many.
pub fn prune(connection: &mut AnyConnection, time: i64) -> Result<usize> {
    Ok(diesel::delete(streams::table.filter(streams::end_time.lt(time))).execute(connection)?)
}
