//! Which template records which domain.
use diesel::prelude::*;

use super::Page;
use crate::schema::bindings;
use crate::{AnyConnection, Result};

/// A template bound to a domain, or to one app of it.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = bindings)]
#[allow(missing_docs)]
pub struct Row {
    pub domain: String,
    /// Empty for every app.
    pub app: String,
    pub template: String,
    pub uid: String,
    pub create_time: i64,
}

/// What a list shows; None is no condition.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Filter {
    pub domain: Option<String>,
    pub template: Option<String>,
}

/// One binding by its key.
pub fn get(connection: &mut AnyConnection, domain: &str, app: &str, template: &str) -> Result<Option<Row>> {
    Ok(bindings::table.find((domain, app, template)).first(connection).optional()?)
}

/// Every binding, oldest first; for compiling directives.
pub fn all(connection: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(bindings::table.order(bindings::uid.asc()).load(connection)?)
}

/// A page, newest first.
pub fn page(connection: &mut AnyConnection, filter: &Filter, page: &Page) -> Result<Vec<Row>> {
    let mut query = bindings::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(bindings::uid.lt(before.clone()));
    }
    if let Some(domain) = &filter.domain {
        query = query.filter(bindings::domain.eq(domain.clone()));
    }
    if let Some(template) = &filter.template {
        query = query.filter(bindings::template.eq(template.clone()));
    }
    Ok(query.order(bindings::uid.desc()).limit(page.limit).load(connection)?)
}

/// The bindings of a template.
pub fn of_template(connection: &mut AnyConnection, template: &str) -> Result<Vec<Row>> {
    Ok(bindings::table.filter(bindings::template.eq(template)).order(bindings::uid).load(connection)?)
}

/// The bindings of a domain.
pub fn of_domain(connection: &mut AnyConnection, domain: &str) -> Result<Vec<Row>> {
    Ok(bindings::table.filter(bindings::domain.eq(domain)).order(bindings::uid).load(connection)?)
}

/// Adds a binding.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(bindings::table).values(row).execute(connection)?;
    Ok(())
}

/// How many bindings a domain has.
pub fn count_of_domain(connection: &mut AnyConnection, domain: &str) -> Result<i64> {
    Ok(bindings::table.filter(bindings::domain.eq(domain)).count().get_result(connection)?)
}

/// Removes a binding; false when there was none.
pub fn delete(connection: &mut AnyConnection, row: &Row) -> Result<bool> {
    Ok(diesel::delete(bindings::table.find((&row.domain, &row.app, &row.template))).execute(connection)? > 0)
}
