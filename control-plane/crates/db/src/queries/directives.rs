//! The resolved directives as they are, and the log that deltas are made of.
use diesel::prelude::*;

use super::counters;
use crate::schema::{directive_log, directives};
use crate::{AnyConnection, Result};

/// Names in one statement: databases take a limited number of variables.
const NAMED_AT_ONCE: usize = 500;

/// A directive in force; `body` is the compiler's business.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = directives)]
#[allow(missing_docs)]
pub struct Row {
    pub name: String,
    /// The version that last changed it.
    pub version: i64,
    pub body: Vec<u8>,
}

/// One line of the log; no body is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = directive_log, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Change {
    pub version: i64,
    pub name: String,
    pub body: Option<Vec<u8>>,
    pub time: i64,
}

/// The newest version; 0 before the first directive.
pub fn version(connection: &mut AnyConnection) -> Result<i64> {
    counters::current(connection, counters::DIRECTIVES)
}

/// The next version: one per transaction that changes directives.
pub fn next_version(connection: &mut AnyConnection) -> Result<i64> {
    counters::next(connection, counters::DIRECTIVES)
}

/// Every directive in force, by name.
pub fn all(connection: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(directives::table.order(directives::name.asc()).load(connection)?)
}

/// A page of the directives in force, by name, after the last name of the page before (empty: the first page).
pub fn page(connection: &mut AnyConnection, after: &str, limit: i64) -> Result<Vec<Row>> {
    Ok(directives::table
        .filter(directives::name.gt(after))
        .order(directives::name.asc())
        .limit(limit)
        .load(connection)?)
}

/// Those of the named directives that are in force.
pub fn named(connection: &mut AnyConnection, names: &[String]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for names in names.chunks(NAMED_AT_ONCE) {
        rows.extend(directives::table.filter(directives::name.eq_any(names)).load::<Row>(connection)?);
    }
    Ok(rows)
}

/// The names of those that are in force.
pub fn in_force(connection: &mut AnyConnection, names: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for names in names.chunks(NAMED_AT_ONCE) {
        let named = directives::table.filter(directives::name.eq_any(names));
        found.extend(named.select(directives::name).load::<String>(connection)?);
    }
    Ok(found)
}

/// One directive.
pub fn get(connection: &mut AnyConnection, name: &str) -> Result<Option<Row>> {
    Ok(directives::table.find(name).first(connection).optional()?)
}

/// Puts (`body`) or removes (None) a directive, and logs it under `version`.
pub fn apply(connection: &mut AnyConnection, change: &Change) -> Result<()> {
    diesel::delete(directives::table.find(&change.name)).execute(connection)?;
    if let Some(body) = &change.body {
        let row = Row { name: change.name.clone(), version: change.version, body: body.clone() };
        diesel::insert_into(directives::table).values(&row).execute(connection)?;
    }
    diesel::insert_into(directive_log::table).values(change).execute(connection)?;
    Ok(())
}

/// [`apply`] for many changes of different directives, in few statements.
pub fn apply_all(connection: &mut AnyConnection, changes: &[Change]) -> Result<()> {
    for changes in changes.chunks(NAMED_AT_ONCE) {
        let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
        diesel::delete(directives::table.filter(directives::name.eq_any(names))).execute(connection)?;
        let row = |change: &Change| {
            let body = change.body.clone()?;
            Some(Row { name: change.name.clone(), version: change.version, body })
        };
        let rows: Vec<Row> = changes.iter().filter_map(row).collect();
        // Inserts of many rows exist for each database alone.
        match connection {
            AnyConnection::Pg(connection) => {
                diesel::insert_into(directives::table).values(&rows).execute(connection)?;
                diesel::insert_into(directive_log::table).values(changes).execute(connection)?;
            }
            AnyConnection::Sqlite(connection) => {
                diesel::insert_into(directives::table).values(&rows).execute(connection)?;
                diesel::insert_into(directive_log::table).values(changes).execute(connection)?;
            }
        }
    }
    Ok(())
}

/// Changes after a version, oldest first, and no more than so many.
pub fn changes_after(connection: &mut AnyConnection, version: i64, limit: i64) -> Result<Vec<Change>> {
    Ok(directive_log::table
        .filter(directive_log::version.gt(version))
        .order((directive_log::version.asc(), directive_log::name.asc()))
        .limit(limit)
        .load(connection)?)
}

/// The oldest version that the log still covers; None when the log is empty.
pub fn oldest_change(connection: &mut AnyConnection) -> Result<Option<i64>> {
    Ok(directive_log::table
        .select(directive_log::version)
        .order(directive_log::version.asc())
        .first(connection)
        .optional()?)
}

/// Forgets changes up to and including a version.
pub fn prune(connection: &mut AnyConnection, version: i64) -> Result<usize> {
    Ok(diesel::delete(directive_log::table.filter(directive_log::version.le(version))).execute(connection)?)
}
