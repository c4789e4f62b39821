//! What nodes refused, and from that how far a directive has come.
use diesel::prelude::*;

use crate::schema::{directives, node_acks, nodes};
use crate::{AnyConnection, Result};

/// A directive that a node could not apply.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = node_acks)]
#[allow(missing_docs)]
pub struct Row {
    pub node: String,
    pub directive: String,
    pub version: i64,
    /// A prost-encoded google.rpc.Status.
    pub error: Vec<u8>,
}

/// How far a directive has come among the nodes that hold a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nodes that applied its current version.
    pub applied: u32,
    /// Nodes with a lease.
    pub total: u32,
    /// The refusal of one node, as a prost-encoded google.rpc.Status.
    pub error: Option<Vec<u8>>,
}

/// Notes a refusal, replacing an older one of the same node and directive.
pub fn put(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    delete(connection, &row.node, &row.directive)?;
    diesel::insert_into(node_acks::table).values(row).execute(connection)?;
    Ok(())
}

/// Forgets a refusal.
pub fn delete(connection: &mut AnyConnection, node: &str, directive: &str) -> Result<()> {
    diesel::delete(node_acks::table.find((node, directive))).execute(connection)?;
    Ok(())
}

/// Forgets every refusal of a node; when it registers anew.
pub fn clear(connection: &mut AnyConnection, node: &str) -> Result<()> {
    diesel::delete(node_acks::table.filter(node_acks::node.eq(node))).execute(connection)?;
    Ok(())
}

/// The refusals of a node.
pub fn of_node(connection: &mut AnyConnection, node: &str) -> Result<Vec<Row>> {
    Ok(node_acks::table.filter(node_acks::node.eq(node)).order(node_acks::directive).load(connection)?)
}

/// How far each of these directives has come at `now` (microseconds), in the same order; None for one that is not (or no
/// longer) in force.
pub fn progress(connection: &mut AnyConnection, names: &[String], now: i64) -> Result<Vec<Option<Progress>>> {
    let versions: Vec<(String, i64)> = directives::table
        .filter(directives::name.eq_any(names))
        .select((directives::name, directives::version))
        .load(connection)?;
    let leased: Vec<(String, i64)> =
        nodes::table.filter(nodes::lease_until.gt(now)).select((nodes::id, nodes::applied_version)).load(connection)?;
    let refusals: Vec<Row> = node_acks::table.filter(node_acks::directive.eq_any(names)).load(connection)?;
    let of = |name: &String| {
        let version = versions.iter().find(|(known, _)| known == name)?.1;
        let mut progress = Progress { total: u32::try_from(leased.len()).unwrap_or(u32::MAX), ..Progress::default() };
        for (node, applied_version) in &leased {
            let refused =
                refusals.iter().find(|row| row.node == *node && row.directive == *name && row.version >= version);
            match refused {
                Some(row) => progress.error = Some(row.error.clone()),
                None if *applied_version >= version => progress.applied += 1,
                None => {}
            }
        }
        Some(progress)
    };
    Ok(names.iter().map(of).collect())
}
