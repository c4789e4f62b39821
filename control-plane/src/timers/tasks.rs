//! Tasks whose start or end has come. Nodes start and end them by themselves; this is for whoever looks at the task, and
//! for nodes that come later.
use chrono::{DateTime, Utc};
use recorder_db::{Db, tasks as rows};
use recorder_proto::{Problem, time};

use crate::tasks;

/// Tasks settled in one go; the next tick goes on.
const BATCH: i64 = 100;

/// Settles what is due. Looks before it writes, since mostly there is nothing to do.
pub(super) async fn settle(db: &Db, now: DateTime<Utc>) -> Result<(), Problem> {
    let micros = time::micros(now);
    if db.read(move |db| rows::due(db, micros, 1)).await?.is_empty() {
        return Ok(());
    }
    db.write(move |db| {
        // Another replica may have been here meanwhile: what is due is read again by whoever has the turn.
        for row in rows::due(db, micros, BATCH)? {
            let task = tasks::full_name(&row.id);
            let settled = tasks::settle(db, row, now)?;
            tracing::info!(task, state = tasks::of(settled.state).as_str_name(), "task settled");
        }
        Ok(())
    })
    .await
}
