//! The row of a node: found by id or epoch, moved from state to state.
use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::AnyConnection;
use recorder_db::nodes::{self, Row};
use recorder_proto::names::NodeName;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::node::State;
use recorder_proto::{Problem, time};

use super::Result;
use super::drain::Order;
use crate::domain::node::{Event, Fact, Node};
use crate::feed;

/// The bare id of `m1` or `nodes/m1`.
pub(super) fn id(name: &str) -> Result<String> {
    let parsed = name.parse::<NodeName>();
    Ok(parsed.map_err(|error| Problem::invalid_field("node", error.to_string()))?.into_id())
}

/// The node that speaks under this epoch. Epochs come from one counter for all nodes, so that an epoch alone says which
/// boot of which node it is; one that nobody has (any more) is fenced.
pub(super) fn by_epoch(connection: &mut AnyConnection, epoch: u64) -> Result<Row> {
    let found = nodes::by_epoch(connection, i64::try_from(epoch).unwrap_or(i64::MAX))?;
    found.ok_or_else(|| {
        let message = format!("node epoch {epoch} is not in force; register again");
        Problem::wrong_state("EPOCH_FENCED", "nodes", message)
    })
}

/// The node by id, if it speaks under the epoch in force.
pub(super) fn current(connection: &mut AnyConnection, id: &str, epoch: u64) -> Result<Row> {
    let row = nodes::get(connection, id)?.ok_or_else(|| Problem::not_found("node", &format!("nodes/{id}")))?;
    match u64::try_from(row.epoch) {
        Ok(current) if current == epoch => Ok(row),
        current => Err(super::fenced(id, current.unwrap_or_default())),
    }
}

/// The node's sign of life. One that is drained keeps its lease without becoming active again.
pub(super) fn heard(
    connection: &mut AnyConnection,
    row: &mut Row,
    lease_until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<()> {
    apply(connection, row, &Fact::Heard { lease_until, draining: Order::of(row).is_in_force() }, now)?;
    if row.state == State::Drained as i32 {
        row.lease_until = time::micros(lease_until);
    }
    Ok(())
}

/// What the row says of the state machine.
pub(crate) fn state(row: &Row) -> Node {
    let lease_until = time::from_micros(row.lease_until);
    match State::try_from(row.state).unwrap_or_default() {
        State::Draining => Node::Draining { lease_until },
        State::Drained => Node::Drained,
        State::Lost => Node::Lost,
        State::Active | State::Unspecified => Node::Active { lease_until },
    }
}

/// Applies a fact to the row (which the caller then writes) and tells of it. A fact that cannot follow changes nothing.
pub(crate) fn apply(connection: &mut AnyConnection, row: &mut Row, fact: &Fact, now: DateTime<Utc>) -> Result<()> {
    let Ok((next, event)) = state(row).apply(fact) else { return Ok(()) };
    row.state = wire(next) as i32;
    row.lease_until = next.lease_until().map_or(row.lease_until.min(time::micros(now)), time::micros);
    row.update_time = time::micros(now);
    if let Some(event) = event {
        let kind = match event {
            Event::Lost => "node.lost",
            Event::Returned => "node.returned",
            Event::Draining => "node.draining",
            Event::Drained => "node.drained",
        };
        tell(connection, kind, row, now)?;
    }
    Ok(())
}

/// Tells those who watch nodes.
pub(crate) fn tell(connection: &mut AnyConnection, kind: &str, row: &Row, now: DateTime<Utc>) -> Result<()> {
    let node = v1::Node { state: row.state, epoch: u64::try_from(row.epoch).unwrap_or_default(), ..row.node()? };
    let stamp = feed::Stamp::fresh(now);
    Ok(feed::append(connection, stamp, kind, &format!("nodes/{}", row.id), node.encode_to_vec())?)
}

fn wire(state: Node) -> State {
    match state {
        Node::Active { .. } => State::Active,
        Node::Draining { .. } => State::Draining,
        Node::Drained => State::Drained,
        Node::Lost => State::Lost,
    }
}
