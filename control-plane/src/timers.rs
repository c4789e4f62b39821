//! What happens because time has passed. All state is in the database: a restart forgets nothing, and several replicas
//! may run the same timers.
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_db::{AnyConnection, Db, events, nodes, streams};
use recorder_proto::Problem;
use recorder_proto::pb::v1::node::State;
use recorder_proto::time;
use recorder_runtime::clock::Clock;
use recorder_runtime::drain::Signal;

use crate::directives::changelog;
use crate::domain::node::Fact;
use crate::link::node;

/// Leases are checked this often: a lost node shows at most so much late.
const LEASE_INTERVAL: Duration = Duration::from_secs(1);

/// Old events, streams and versions are forgotten this often.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// Runs the timers until the drain begins.
pub async fn run(db: Db, clock: Arc<dyn Clock>, retention: Duration, drain: Signal) {
    let mut leases = tokio::time::interval(LEASE_INTERVAL);
    let mut prunes = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        let now = clock.now();
        let outcome = tokio::select! {
            () = drain.draining() => return,
            _ = leases.tick() => expire(&db, now).await,
            _ = prunes.tick() => prune(&db, now, retention).await,
        };
        if let Err(problem) = outcome {
            // The next tick tries again; readiness tells the operator.
            tracing::debug!(%problem, "timers cannot reach the database");
        }
    }
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
    let mut rows = nodes::expired(db, State::Active as i32, time::micros(now))?;
    rows.append(&mut nodes::expired(db, State::Draining as i32, time::micros(now))?);
    Ok(rows)
}

async fn prune(db: &Db, now: DateTime<Utc>, retention: Duration) -> Result<(), Problem> {
    let age = TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX);
    let oldest = now.checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
    db.write(move |db| {
        events::prune_prefix(db, time::micros(oldest))?;
        streams::prune(db, time::micros(oldest))?;
        changelog::prune(db)?;
        Ok(())
    })
    .await
}
