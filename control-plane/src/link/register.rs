//! A process starts (or cleanly stops) under a node id: epoch, lease, clock skew, and what becomes of its spool.
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::nodes::{self, Row};
use recorder_db::{AnyConnection, counters, recordings, streams};
use recorder_proto::Problem;
use recorder_proto::ids::BootId;
use recorder_proto::names::RecordingName;
use recorder_proto::pb::node::register_response::{SpoolVerdict, spool_verdict::Verdict};
use recorder_proto::pb::node::{DeregisterRequest, RegisterRequest, RegisterResponse, register_request::SpoolEntry};
use recorder_proto::pb::v1;
use recorder_proto::problem::Violations;
use recorder_proto::{limits, time};

use super::Result;
use super::drain::Order;
use super::{node, resume};
use crate::directives::{changelog, command};
use crate::domain::node::Fact;
use crate::{feed, ledger};

/// Boot ids are ULIDs or UUIDs; this only keeps nonsense out of the database.
const MAX_BOOT_ID: usize = 64;
const MAX_VERSION: usize = 128;
const MAX_ADDRESSES: usize = 16;

/// Counter of node epochs, one for all nodes: see [`node::by_epoch`].
const EPOCHS: &str = "node_epochs";

/// Refuses what must not get into the database.
pub(super) fn check(request: &RegisterRequest) -> Result<()> {
    let mut violations = Violations::new();
    violations.take("node", node::id(&request.node).map_err(|error| error.to_string()));
    let text = |value: &str, most: usize| value.len() <= most && !value.chars().any(char::is_control);
    let boot = !request.boot_id.is_empty() && text(&request.boot_id, MAX_BOOT_ID);
    violations.check(boot, "boot_id", format!("must be 1 to {MAX_BOOT_ID} printable characters"));
    let version = text(&request.version, MAX_VERSION);
    violations.check(version, "version", format!("must be up to {MAX_VERSION} printable characters"));
    let addresses = request.addresses.len() <= MAX_ADDRESSES
        && request.addresses.iter().all(|address| text(address, limits::URL_MAX_CHARACTERS));
    violations.check(addresses, "addresses", format!("must be up to {MAX_ADDRESSES} URLs"));
    let labels = request.labels.len() <= limits::LABELS_MAX
        && request.labels.iter().all(|(key, value)| {
            text(key, limits::LABEL_KEY_MAX_CHARACTERS) && text(value, limits::LABEL_VALUE_MAX_BYTES)
        });
    violations.check(labels, "labels", format!("must be up to {} short pairs", limits::LABELS_MAX));
    violations.finish()
}

/// Gives the process its epoch; every older epoch of the node is fenced from then on. The same boot asking again (its
/// reply was lost) gets the same epoch: a process must not fence itself.
pub(super) fn register(
    connection: &mut AnyConnection,
    request: &RegisterRequest,
    now: DateTime<Utc>,
    lease: Duration,
    lease_until: DateTime<Utc>,
) -> Result<RegisterResponse> {
    let id = node::id(&request.node)?;
    let known = nodes::get(connection, &id)?;
    let same_boot = known.as_ref().is_some_and(|row| row.boot_id == request.boot_id);
    if let Some(row) = known.as_ref().filter(|row| is_outlived(row, request, now)) {
        return Err(Problem::fenced(&format!("nodes/{id}"), u64::try_from(row.epoch).unwrap_or_default()));
    }
    let alive_until = known.as_ref().map_or(now, |row| time::from_micros(row.lease_until));
    let epoch = match &known {
        Some(row) if same_boot => row.epoch,
        _ => counters::next(connection, EPOCHS)?,
    };
    let skew = request.node_time.as_ref().and_then(time::datetime).map(|node| node - now).unwrap_or_default();
    let mut body = body(request, &id, epoch, now, skew);
    match known {
        Some(mut row) => {
            let draining = Order::of(&row).is_in_force();
            node::apply(connection, &mut row, &Fact::Registered { lease_until, draining }, now)?;
            if !same_boot {
                // A process that begins knows of no drain that could be called off.
                row.drain = row.drain.filter(|_| draining);
                end_streams(connection, &id, now)?;
            }
            if same_boot {
                // It found its way back; it did not start anew.
                body.start_time = row.node()?.start_time;
            }
            row.epoch = epoch;
            row.boot_id.clone_from(&request.boot_id);
            row.body = body.encode_to_vec();
            nodes::update(connection, &row)?;
            node::tell(connection, feed::NODE_UPDATED, &row, now)?;
        }
        None => {
            let row = Row {
                id: id.clone(),
                rev: 1,
                epoch,
                boot_id: request.boot_id.clone(),
                lease_until: time::micros(lease_until),
                applied_version: 0,
                state: v1::node::State::Active as i32,
                body: body.encode_to_vec(),
                create_time: time::micros(now),
                update_time: time::micros(now),
                drain: None,
            };
            nodes::insert(connection, &row)?;
            node::tell(connection, feed::NODE_CREATED, &row, now)?;
        }
    }
    let seen = Seen { same_boot, alive_until, now };
    let spool = request.spool.iter().map(|entry| verdict(connection, &id, entry, seen)).collect::<Result<_>>()?;
    Ok(RegisterResponse {
        node_epoch: u64::try_from(epoch).unwrap_or_default(),
        lease: Some(time::duration(lease)),
        spool,
        clock_skew: Some(wire_delta(skew)),
    })
}

/// Whether a process that started later holds the node's id: the older one was cut off when that came, and must not take
/// the id back. Once the lease is over anybody may have it, however its clock goes.
fn is_outlived(row: &Row, request: &RegisterRequest, now: DateTime<Utc>) -> bool {
    let started = |boot: &str| boot.parse::<BootId>().ok().map(BootId::made_at);
    match (started(&request.boot_id), started(&row.boot_id)) {
        (Some(asking), Some(holding)) => asking < holding && row.lease_until > time::micros(now),
        _ => false,
    }
}

/// The process says that it stops cleanly and owns nothing.
pub(super) fn deregister(
    connection: &mut AnyConnection,
    request: &DeregisterRequest,
    now: DateTime<Utc>,
) -> Result<()> {
    let id = node::id(&request.node)?;
    let mut row = node::current(connection, &id, request.node_epoch)?;
    node::apply(connection, &mut row, &Fact::Deregistered, now)?;
    end_streams(connection, &id, now)?;
    Ok(nodes::update(connection, &row)?)
}

fn body(request: &RegisterRequest, id: &str, epoch: i64, now: DateTime<Utc>, skew: chrono::TimeDelta) -> v1::Node {
    let capacity = request.capacity.clone().unwrap_or_default();
    v1::Node {
        name: format!("nodes/{id}"),
        version: request.version.clone(),
        boot_id: request.boot_id.clone(),
        epoch: u64::try_from(epoch).unwrap_or_default(),
        addresses: request.addresses.clone(),
        labels: request.labels.clone(),
        spool_limit_bytes: capacity.spool_limit_bytes,
        clock_skew: Some(wire_delta(skew)),
        start_time: Some(time::timestamp(now)),
        ..v1::Node::default()
    }
}

/// Whether the recording may still go on here, and until when it waits. What is over, or unknown, is closed and shipped;
/// what another epoch took over is shipped under the epoch it was written with.
fn verdict(connection: &mut AnyConnection, node: &str, entry: &SpoolEntry, seen: Seen) -> Result<SpoolVerdict> {
    let id = entry.recording.parse::<RecordingName>().ok();
    let row = match &id {
        Some(name) => recordings::get(connection, &name.0.to_string())?,
        None => None,
    };
    let epoch = i64::try_from(entry.epoch).unwrap_or(i64::MAX);
    let (verdict, deadline) = match &row {
        Some(row) if row.epoch > epoch || (row.epoch == epoch && row.node != node) => (Verdict::ShipAsOrphan, None),
        Some(row) if resume::RUNNING.contains(&row.state) => waits(connection, row, seen)?,
        // Its end was only presumed while nothing was heard from here; the process never stopped recording.
        Some(row)
            if entry.open && seen.same_boot && row.epoch == epoch && ledger::revive(connection, row, seen.now)? =>
        {
            (Verdict::Resume, None)
        }
        _ => (Verdict::Finalize, None),
    };
    Ok(SpoolVerdict {
        recording: entry.recording.clone(),
        verdict: verdict as i32,
        epoch: entry.epoch,
        resume_deadline: deadline.map(time::timestamp),
    })
}

/// How the process was known before it registered now.
#[derive(Clone, Copy)]
struct Seen {
    /// It never went away; only its connection did.
    same_boot: bool,
    /// The end of the lease that it held before, or now without one.
    alive_until: DateTime<Utc>,
    now: DateTime<Utc>,
}

/// Whether a running recording of this node still waits for its publisher.
fn waits(
    connection: &mut AnyConnection,
    row: &recordings::Row,
    seen: Seen,
) -> Result<(Verdict, Option<DateTime<Utc>>)> {
    let body = row.recording()?;
    let told = body.resume_deadline.as_ref().and_then(time::datetime);
    let deadline = match told {
        Some(told) => told,
        // The publisher may never have noticed.
        None if seen.same_boot => return Ok((Verdict::Resume, None)),
        None => {
            let window = chrono::TimeDelta::from_std(resume::window(connection, &body)?);
            let since = seen.alive_until.min(seen.now);
            since.checked_add_signed(window.unwrap_or(chrono::TimeDelta::MAX)).unwrap_or(DateTime::<Utc>::MAX_UTC)
        }
    };
    Ok(if deadline > seen.now { (Verdict::Resume, Some(deadline)) } else { (Verdict::Finalize, None) })
}

/// The publishers of a process that is gone are gone too.
fn end_streams(connection: &mut AnyConnection, node: &str, now: DateTime<Utc>) -> Result<()> {
    let filter = streams::Filter { node: Some(node.to_owned()), ..streams::Filter::default() };
    let page = recorder_db::Page { before: None, limit: i64::from(u16::MAX) };
    for mut row in streams::page(connection, &filter, &page)? {
        row.end_time = Some(time::micros(now));
        streams::update(connection, &row)?;
        changelog::remove(connection, &command::disconnect_name(&row.session), now)?;
        let subject = format!("streams/{}", row.session);
        feed::append(connection, feed::Stamp::fresh(now), "stream.ended", &subject, row.body)?;
    }
    Ok(())
}

/// A difference of clocks, which may be negative.
fn wire_delta(delta: chrono::TimeDelta) -> prost_types::Duration {
    prost_types::Duration { seconds: delta.num_seconds(), nanos: delta.subsec_nanos() }
}
