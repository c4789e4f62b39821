//! Taking a media node out of service, and back: the order is kept with the node and told on its link.
use std::time::Duration;

use chrono::TimeDelta;
use recorder_db::nodes::{self, Row};
use recorder_db::recordings::{self, Filter};
use recorder_db::{AnyConnection, Page, files};
use recorder_proto::names::NodeName;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::drain_node_request::Mode;
use recorder_proto::pb::v1::file::State as FileState;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, time};

use super::Api;
use super::node::shown;
use super::validate::only_name;
use crate::domain::node::Fact;
use crate::feed;
use crate::ledger;
use crate::link::drain::Order;
use crate::link::node;
use crate::link::resume::RUNNING;

/// The longest deadline of a drain: longer than the longest file.
const DEADLINE_MAX: Duration = Duration::from_secs(86_400);

/// Media that is on a node only: still being written, on its way, or given up for now.
const UNSHIPPED: [i32; 3] = [FileState::Open as i32, FileState::Uploading as i32, FileState::Failed as i32];

/// Orders a node to take nothing new. Asking again changes deadline and mode.
pub(super) async fn drain(api: &Api, request: v1::DrainNodeRequest) -> Result<v1::Node, Problem> {
    let name: NodeName = only_name("name", &request.name)?;
    let mut violations = Violations::new();
    let deadline = match &request.deadline {
        None => Some(Duration::ZERO),
        Some(wire) => time::std_duration(wire).filter(|deadline| *deadline <= DEADLINE_MAX),
    };
    violations.check(deadline.is_some(), "deadline", format!("must be 0s to {}s", DEADLINE_MAX.as_secs()));
    let mode = Mode::try_from(request.mode);
    violations.check(mode.is_ok(), "mode", "must be WAIT or MOVE");
    violations.finish()?;
    let now = api.now();
    let deadline =
        deadline.filter(|deadline| !deadline.is_zero()).and_then(|deadline| TimeDelta::from_std(deadline).ok());
    let order = Order::Drain {
        deadline: deadline.and_then(|deadline| now.checked_add_signed(deadline)).map(time::micros),
        move_publishers: mode == Ok(Mode::Move),
    };
    api.db
        .write(move |db| {
            let mut row = existing(db, &name)?;
            row.drain = order.kept();
            node::apply(db, &mut row, &Fact::DrainRequested, now)?;
            store(db, row, now)
        })
        .await
}

/// Calls a drain off.
pub(super) async fn resume(api: &Api, request: v1::ResumeNodeRequest) -> Result<v1::Node, Problem> {
    let name: NodeName = only_name("name", &request.name)?;
    let now = api.now();
    api.db
        .write(move |db| {
            let mut row = existing(db, &name)?;
            if !Order::of(&row).is_in_force() {
                return shown(db, &row, now);
            }
            row.drain = Order::CalledOff.kept();
            let lease_until = time::from_micros(row.lease_until);
            // One that has stopped stays drained until it is started.
            if lease_until > now {
                node::apply(db, &mut row, &Fact::ResumeRequested { lease_until }, now)?;
            }
            store(db, row, now)
        })
        .await
}

/// Removes a node for good, on demand with the media that only it has.
pub(super) async fn forget(api: &Api, request: v1::ForgetNodeRequest) -> Result<(), Problem> {
    let name: NodeName = only_name("name", &request.name)?;
    let now = api.now();
    api.db
        .write(move |db| {
            let row = existing(db, &name)?;
            let lease = node::state(&row).lease_until();
            if lease.is_some_and(|lease| lease > now) {
                let message = "the node is alive; drain it or switch it off first";
                return Err(Problem::wrong_state("NODE_ALIVE", &name.to_string(), message));
            }
            let held = files::held_by(db, &row.id, &UNSHIPPED)?;
            let filter = Filter { node: Some(row.id.clone()), states: RUNNING.to_vec(), ..Filter::default() };
            let running = recordings::page(db, &filter, &Page { before: None, limit: i64::MAX })?;
            let spooled = row.node()?.spool_bytes;
            let owns = !held.is_empty() || !running.is_empty() || spooled > 0;
            if owns && !request.accept_loss {
                let message = format!(
                    "the node still owns {} files, {} running recordings and {spooled} bytes that are in no storage; \
                     start it again, or give them up with accept_loss",
                    held.len(),
                    running.len()
                );
                return Err(Problem::wrong_state("NODE_OWNS_MEDIA", &name.to_string(), message));
            }
            for recording in running {
                let at = time::from_micros(row.lease_until.max(recording.start_time));
                ledger::presume_ended(db, recording, at, &format!("{name} was forgotten"), now)?;
            }
            for file in held {
                if let Some(recording) = recordings::get(db, &file.recording)? {
                    ledger::lose_file(db, recording, file, &row.id, now)?;
                }
            }
            node::tell(db, feed::NODE_DELETED, &row, now)?;
            nodes::delete(db, &row.id)?;
            Ok(())
        })
        .await
}

fn existing(db: &mut AnyConnection, name: &NodeName) -> Result<Row, Problem> {
    nodes::get(db, name.id())?.ok_or_else(|| Problem::not_found("node", &name.to_string()))
}

fn store(db: &mut AnyConnection, mut row: Row, now: chrono::DateTime<chrono::Utc>) -> Result<v1::Node, Problem> {
    row.update_time = time::micros(now);
    nodes::update(db, &row)?;
    // The event makes every replica look at its nodes again, whatever has changed of the order.
    node::tell(db, feed::NODE_UPDATED, &row, now)?;
    shown(db, &row, now)
}
