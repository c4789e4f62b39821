//! Streams that nobody may publish for a while.
use diesel::prelude::*;

use crate::schema::blocks;
use crate::{AnyConnection, Result};

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = blocks, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    pub domain: String,
    pub app: String,
    pub stream: String,
    /// In microseconds.
    pub until: i64,
    /// What publishers are told.
    pub reason: String,
}

/// Blocks a stream; the same again replaces the block.
pub fn put(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::delete(blocks::table.find((&row.domain, &row.app, &row.stream))).execute(connection)?;
    diesel::insert_into(blocks::table).values(row).execute(connection)?;
    Ok(())
}

/// Every block, by stream.
pub fn all(connection: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(blocks::table.order((blocks::domain.asc(), blocks::app.asc(), blocks::stream.asc())).load(connection)?)
}

/// The blocks of a domain, by stream.
pub fn of_domain(connection: &mut AnyConnection, domain: &str) -> Result<Vec<Row>> {
    Ok(blocks::table
        .filter(blocks::domain.eq(domain))
        .order((blocks::app.asc(), blocks::stream.asc()))
        .load(connection)?)
}

/// The domains of those that are over at `now`.
pub fn domains_over(connection: &mut AnyConnection, now: i64) -> Result<Vec<String>> {
    Ok(blocks::table.filter(blocks::until.le(now)).select(blocks::domain).distinct().load(connection)?)
}

/// Whether some are over at `now`.
pub fn any_over(connection: &mut AnyConnection, now: i64) -> Result<bool> {
    let over: i64 = blocks::table.filter(blocks::until.le(now)).count().get_result(connection)?;
    Ok(over > 0)
}

/// Removes those that are over at `now`.
pub fn prune(connection: &mut AnyConnection, now: i64) -> Result<usize> {
    Ok(diesel::delete(blocks::table.filter(blocks::until.le(now))).execute(connection)?)
}
