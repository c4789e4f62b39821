//! What happens because time has passed. All state is in the database: a restart forgets nothing, and several replicas
//! may run the same timers.
mod steady;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_db::recordings::{self, Filter, Row};
use recorder_db::{AnyConnection, Db, Page, blocks, events, nodes, streams};
use recorder_proto::Problem;
use recorder_proto::pb::v1::node::State as NodeState;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::time;
use recorder_runtime::clock::Clock;
use recorder_runtime::drain::Signal;

use crate::directives::source::Source;
use crate::directives::{changelog, compile};
use crate::domain::node::Fact;
use crate::ledger;
use crate::link::node;
use crate::link::resume::{self, Pause, RUNNING};
use steady::Steady;

/// Leases are checked this often: a lost node shows at most so much late.
const LEASE_INTERVAL: Duration = Duration::from_secs(1);

/// Recordings of nodes that are gone are looked for this often; those that a living node forgot, with the pruning.
const RECORDING_INTERVAL: Duration = Duration::from_secs(2);

/// How much longer than it said a node that is alive may take to tell how a recording ended; and how long a node that is
/// merely lost, which may be well and cut off, has from its last sign of life, whatever its recordings wait for. A false
/// end costs more than a late one: the node records on meanwhile.
const GRACE: TimeDelta = TimeDelta::minutes(5);

/// Recordings read at a time.
const PAGE: i64 = 500;

/// Recordings ended in one go; the next tick goes on. A transaction must not keep other writers waiting for long.
const BATCH: usize = 200;

/// Tasks whose start or end has come show it at most so much late.
const TASK_INTERVAL: Duration = Duration::from_secs(1);

/// Old events, streams and versions are forgotten this often.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// Runs the timers until the drain begins. `lease` is how long a node counts as alive after its last heartbeat.
pub async fn run(db: Db, clock: Arc<dyn Clock>, lease: Duration, retention: Duration, drain: Signal) {
    let mut steady = Steady::new(lease);
    let mut leases = tokio::time::interval(LEASE_INTERVAL);
    let mut recordings = tokio::time::interval(RECORDING_INTERVAL);
    let mut due = tokio::time::interval(TASK_INTERVAL);
    let mut prunes = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        let turn = tokio::select! {
            () = drain.draining() => return,
            _ = leases.tick() => Turn::Leases,
            _ = recordings.tick() => Turn::Recordings,
            _ = due.tick() => Turn::Tasks,
            _ = prunes.tick() => Turn::Prune,
        };
        // Not before the tick: what was waited for is part of the time that passed.
        steady.look(&*clock);
        let (now, certain) = (clock.now(), steady.is_long_enough(&*clock));
        let outcome = match turn {
            Turn::Leases => expire(&db, now).await,
            Turn::Tasks => tasks::settle(&db, now).await,
            Turn::Recordings if certain => presume(&db, now, false).await,
            Turn::Recordings => Ok(()),
            Turn::Prune if certain => presume(&db, now, true).await.and(prune(&db, now, retention).await),
            Turn::Prune => prune(&db, now, retention).await,
        };
        if let Err(problem) = outcome {
            steady.interrupted();
            // The next tick tries again; readiness tells the operator.
            tracing::debug!(%problem, "timers cannot reach the database");
        }
    }
}

/// What is due.
enum Turn {
    Leases,
    Recordings,
    Tasks,
    Prune,
}

/// Marks nodes whose lease ran out as lost. Looks before it writes, since mostly there is nothing to do.
async fn expire(db: &Db, now: DateTime<Utc>) -> Result<(), Problem> {
    if db.read(move |db| expired(db, now)).await?.is_empty() {
        return Ok(());
    }
    let lost = db.write(move |db| {
        let rows = expired(db, now)?;
        let mut lost = Vec::new();
        for mut row in rows {
            node::apply(db, &mut row, &Fact::LeaseExpired, now)?;
            nodes::update(db, &row)?;
            lost.push(row.id);
        }
        Ok::<_, Problem>(lost)
    });
    for node in lost.await? {
        tracing::warn!(node, "lease ran out: node is lost until it is heard of again");
        metrics::counter!(recorder_runtime::metrics::NODE_LEASE_EXPIRED_TOTAL).increment(1);
    }
    Ok(())
}

fn expired(db: &mut AnyConnection, now: DateTime<Utc>) -> recorder_db::Result<Vec<nodes::Row>> {
    let mut rows = nodes::expired(db, NodeState::Active as i32, time::micros(now))?;
    rows.append(&mut nodes::expired(db, NodeState::Draining as i32, time::micros(now))?);
    Ok(rows)
}

/// Ends the recordings that wait for nobody any more and whose node does not say so itself.
async fn presume(db: &Db, now: DateTime<Utc>, thorough: bool) -> Result<(), Problem> {
    if db.read(move |db| abandoned(db, now, thorough)).await?.is_empty() {
        return Ok(());
    }
    let ended = db.write(move |db| {
        let mut ended = Vec::new();
        for (row, since) in abandoned(db, now, thorough)? {
            let id = row.id.clone();
            let why = format!("nodes/{} has not told how it ended; its last sign of life was at {since}", row.node);
            ledger::presume_ended(db, row, since, &why, now)?;
            ended.push(id);
        }
        Ok::<_, Problem>(ended)
    });
    for recording in ended.await? {
        tracing::warn!(
            recording,
            "nobody reports on this recording any more; it counts as ended until its node returns"
        );
    }
    Ok(())
}

/// Running recordings whose wait is over, with the last sign of life. Those on a node that is alive get some grace: it
/// is about to tell; those on a node that is lost, too: it may be cut off and record on.
fn abandoned(db: &mut AnyConnection, now: DateTime<Utc>, thorough: bool) -> Result<Vec<(Row, DateTime<Utc>)>, Problem> {
    let nodes: BTreeMap<String, nodes::Row> = nodes::all(db)?.into_iter().map(|node| (node.id.clone(), node)).collect();
    let mut abandoned = Vec::new();
    let mut before = None;
    loop {
        let filter = Filter { states: RUNNING.to_vec(), ..Filter::default() };
        let rows = recordings::page(db, &filter, &Page { before, limit: PAGE })?;
        before = rows.last().map(|row| row.id.clone());
        for row in rows {
            let node = nodes.get(&row.node);
            let here = node.is_some_and(|node| is_alive(node, now));
            // What runs on a node that is well is no concern of a timer; that spares decoding most of them.
            let waits = row.state == State::Interrupted as i32 || !here || (thorough && has_left(db, &row)?);
            if !waits {
                continue;
            }
            let body = row.recording()?;
            let Some(pause) = resume::pause(db, &row, &body, now)? else { continue };
            if over(node, &pause, now) <= now {
                abandoned.push((row, pause.since));
            }
            if abandoned.len() >= BATCH {
                return Ok(abandoned);
            }
        }
        if before.is_none() {
            return Ok(abandoned);
        }
    }
}

/// When nobody is waited for any more.
fn over(node: Option<&nodes::Row>, pause: &Pause, now: DateTime<Utc>) -> DateTime<Utc> {
    let later = |from: DateTime<Utc>| from.checked_add_signed(GRACE).unwrap_or(DateTime::<Utc>::MAX_UTC);
    match node {
        Some(node) if is_alive(node, now) => later(pause.deadline),
        // One that owns nothing, as it said itself or as an operator said by forgetting it, tells nothing more either.
        Some(node) if node.state != NodeState::Drained as i32 => {
            pause.deadline.max(later(time::from_micros(node.lease_until)))
        }
        _ => pause.deadline,
    }
}

fn is_alive(node: &nodes::Row, now: DateTime<Utc>) -> bool {
    node::state(node).lease_until().is_some_and(|lease| lease > now)
}

/// Whether the publisher's session is over.
fn has_left(db: &mut AnyConnection, row: &Row) -> Result<bool, Problem> {
    Ok(!row.session.is_empty() && streams::get(db, &row.session)?.is_some_and(|stream| stream.end_time.is_some()))
}

async fn prune(db: &Db, now: DateTime<Utc>, retention: Duration) -> Result<(), Problem> {
    let age = TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX);
    let oldest = now.checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
    db.write(move |db| {
        events::prune_prefix(db, time::micros(oldest))?;
        streams::prune(db, time::micros(oldest))?;
        changelog::prune(db)?;
        let over = blocks::domains_over(db, time::micros(now))?;
        blocks::prune(db, time::micros(now))?;
        compile::follow(db, &over.into_iter().map(Source::Domain).collect(), now)?;
        Ok(())
    })
    .await
}
