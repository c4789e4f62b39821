//! Rules for streams: exact or by glob, recording or skipping.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::{Page, changed};
use crate::schema::rules;
use crate::{AnyConnection, Result};

/// A rule. `body` is a [`v1::Rule`] without name, state, times and etag.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = rules, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    pub id: String,
    pub uid: String,
    pub rev: i64,
    pub domain: String,
    pub app: String,
    pub stream: String,
    pub template: Option<String>,
    pub body: Vec<u8>,
    pub create_time: i64,
    pub update_time: i64,
}

/// What a list shows; None is no condition.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Filter {
    pub domain: Option<String>,
    pub template: Option<String>,
}

impl Row {
    /// The body, decoded.
    pub fn rule(&self) -> Result<v1::Rule> {
        crate::error::decode("rules", &self.body)
    }
}

/// One rule by id.
pub fn get(connection: &mut AnyConnection, id: &str) -> Result<Option<Row>> {
    Ok(rules::table.find(id).first(connection).optional()?)
}

/// Every rule, oldest first; for compiling directives.
pub fn all(connection: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(rules::table.order(rules::uid.asc()).load(connection)?)
}

/// Ids after the last one of the page before (empty: the first page).
pub fn ids(connection: &mut AnyConnection, after: &str, limit: i64) -> Result<Vec<String>> {
    Ok(rules::table
        .filter(rules::id.gt(after))
        .order(rules::id.asc())
        .select(rules::id)
        .limit(limit)
        .load(connection)?)
}

/// How many there are.
pub fn count(connection: &mut AnyConnection) -> Result<i64> {
    Ok(rules::table.count().get_result(connection)?)
}

/// A page, newest first.
pub fn page(connection: &mut AnyConnection, filter: &Filter, page: &Page) -> Result<Vec<Row>> {
    let mut query = rules::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(rules::uid.lt(before.clone()));
    }
    if let Some(domain) = &filter.domain {
        query = query.filter(rules::domain.eq(domain.clone()));
    }
    if let Some(template) = &filter.template {
        query = query.filter(rules::template.eq(template.clone()));
    }
    Ok(query.order(rules::uid.desc()).limit(page.limit).load(connection)?)
}

/// The rules that record with a template.
pub fn of_template(connection: &mut AnyConnection, template: &str) -> Result<Vec<Row>> {
    Ok(rules::table.filter(rules::template.eq(template)).order(rules::uid).load(connection)?)
}

/// The rules of a domain.
pub fn of_domain(connection: &mut AnyConnection, domain: &str) -> Result<Vec<Row>> {
    Ok(rules::table.filter(rules::domain.eq(domain)).order(rules::uid).load(connection)?)
}

/// The rules for exactly this app and stream pattern of a domain.
pub fn of_pattern(connection: &mut AnyConnection, domain: &str, app: &str, stream: &str) -> Result<Vec<Row>> {
    Ok(rules::table
        .filter(rules::domain.eq(domain))
        .filter(rules::app.eq(app))
        .filter(rules::stream.eq(stream))
        .order(rules::uid)
        .load(connection)?)
}

/// Adds a rule.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(rules::table).values(row).execute(connection)?;
    Ok(())
}

/// Replaces what users set, if the row still is at `row.rev`.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let rows = diesel::update(rules::table.find(&row.id).filter(rules::rev.eq(row.rev)))
        .set((
            rules::rev.eq(row.rev + 1),
            rules::domain.eq(&row.domain),
            rules::app.eq(&row.app),
            rules::stream.eq(&row.stream),
            rules::template.eq(row.template.as_deref()),
            rules::body.eq(&row.body),
            rules::update_time.eq(row.update_time),
        ))
        .execute(connection)?;
    changed(rows)
}

/// Removes a rule; false when there was none.
pub fn delete(connection: &mut AnyConnection, id: &str) -> Result<bool> {
    Ok(diesel::delete(rules::table.find(id)).execute(connection)? > 0)
}
