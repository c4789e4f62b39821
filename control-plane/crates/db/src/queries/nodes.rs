//! Media nodes: epoch, lease, and what they report of themselves.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::{Page, changed};
use crate::schema::nodes;
use crate::{AnyConnection, Result};

/// A media node. `body` is a [`v1::Node`].
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = nodes, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    pub id: String,
    pub rev: i64,
    /// Grows with every registration; facts under an older one are fenced.
    pub epoch: i64,
    pub boot_id: String,
    pub lease_until: i64,
    pub applied_version: i64,
    /// [`v1::node::State`] as last decided; an expired lease overrides it.
    pub state: i32,
    pub body: Vec<u8>,
    pub create_time: i64,
    pub update_time: i64,
    /// What an operator asked for and has not called off; the link's business.
    pub drain: Option<Vec<u8>>,
}

/// The part of a [`Row`] that its directive stream follows.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
#[allow(missing_docs)]
pub struct Ordered {
    pub id: String,
    pub epoch: i64,
    pub drain: Option<Vec<u8>>,
}

impl Row {
    /// The body, decoded.
    pub fn node(&self) -> Result<v1::Node> {
        crate::error::decode("nodes", &self.body)
    }
}

/// One node by id.
pub fn get(connection: &mut AnyConnection, id: &str) -> Result<Option<Row>> {
    Ok(nodes::table.find(id).first(connection).optional()?)
}

/// The node whose epoch this is now; epochs are unique among nodes.
pub fn by_epoch(connection: &mut AnyConnection, epoch: i64) -> Result<Option<Row>> {
    Ok(nodes::table.filter(nodes::epoch.eq(epoch)).first(connection).optional()?)
}

/// Every node, by id.
pub fn all(connection: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(nodes::table.order(nodes::id.asc()).load(connection)?)
}

/// Which process of every node is in force, and its order.
pub fn orders(connection: &mut AnyConnection) -> Result<Vec<Ordered>> {
    Ok(nodes::table.select((nodes::id, nodes::epoch, nodes::drain)).load(connection)?)
}

/// A page, by id descending (nodes are named, not minted).
pub fn page(connection: &mut AnyConnection, page: &Page) -> Result<Vec<Row>> {
    let mut query = nodes::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(nodes::id.lt(before.clone()));
    }
    Ok(query.order(nodes::id.desc()).limit(page.limit).load(connection)?)
}

/// Adds a node.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(nodes::table).values(row).execute(connection)?;
    Ok(())
}

/// Replaces everything but id and create time, if the row still is at `row.rev`.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let rows = diesel::update(nodes::table.find(&row.id).filter(nodes::rev.eq(row.rev)))
        .set((
            nodes::rev.eq(row.rev + 1),
            nodes::epoch.eq(row.epoch),
            nodes::boot_id.eq(&row.boot_id),
            nodes::lease_until.eq(row.lease_until),
            nodes::applied_version.eq(row.applied_version),
            nodes::state.eq(row.state),
            nodes::body.eq(&row.body),
            nodes::update_time.eq(row.update_time),
            nodes::drain.eq(row.drain.as_deref()),
        ))
        .execute(connection)?;
    changed(rows)
}

/// Nodes whose lease ran out at or before `now` though their state is `state`.
pub fn expired(connection: &mut AnyConnection, state: i32, now: i64) -> Result<Vec<Row>> {
    Ok(nodes::table
        .filter(nodes::state.eq(state))
        .filter(nodes::lease_until.le(now))
        .order(nodes::id.asc())
        .load(connection)?)
}

/// Removes a node; false when there was none.
pub fn delete(connection: &mut AnyConnection, id: &str) -> Result<bool> {
    Ok(diesel::delete(nodes::table.find(id)).execute(connection)? > 0)
}
