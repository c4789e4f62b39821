//! Up to where the facts of each node are durable here.
use diesel::prelude::*;

use crate::schema::facts_seen;
use crate::{AnyConnection, Result};

/// The high-water mark of a node.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = facts_seen)]
#[allow(missing_docs)]
pub struct Row {
    pub node: String,
    /// The node epoch under which the last fact came.
    pub node_epoch: i64,
    /// The last sequence that is applied.
    pub sequence: i64,
    pub update_time: i64,
}

/// The mark of a node; None before its first fact.
pub fn get(connection: &mut AnyConnection, node: &str) -> Result<Option<Row>> {
    Ok(facts_seen::table.find(node).first(connection).optional()?)
}

/// Sets the mark of a node.
pub fn put(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::delete(facts_seen::table.find(&row.node)).execute(connection)?;
    diesel::insert_into(facts_seen::table).values(row).execute(connection)?;
    Ok(())
}
