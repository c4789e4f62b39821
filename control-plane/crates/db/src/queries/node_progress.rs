//! How far the recordings of each node are: for people who watch, and for nothing else.
use diesel::prelude::*;

use crate::schema::node_progress;
use crate::{AnyConnection, Result};

/// What a node said last. `body` is a `recorder.node.v1.StreamDirectivesRequest.Progress`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = node_progress)]
#[allow(missing_docs)]
pub struct Row {
    pub node: String,
    pub body: Vec<u8>,
    pub update_time: i64,
}

/// Takes the place of what the node said before.
pub fn put(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let values = (node_progress::body.eq(&row.body), node_progress::update_time.eq(row.update_time));
    let changed = diesel::update(node_progress::table.find(&row.node)).set(values).execute(connection)?;
    if changed == 0 {
        diesel::insert_into(node_progress::table).values(row).execute(connection)?;
    }
    Ok(())
}

/// Who has said something, and when.
pub fn times(connection: &mut AnyConnection) -> Result<Vec<(String, i64)>> {
    Ok(node_progress::table.select((node_progress::node, node_progress::update_time)).load(connection)?)
}

/// What these nodes said.
pub fn of_nodes(connection: &mut AnyConnection, nodes: &[String]) -> Result<Vec<Row>> {
    Ok(node_progress::table.filter(node_progress::node.eq_any(nodes)).load(connection)?)
}
