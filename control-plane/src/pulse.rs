//! How far the logs of the database have grown, told to everybody who follows one of them.
//!
//! One reader for the whole process: a commit wakes it, it looks once, and only those whose log has grown wake up.
use std::time::Duration;

use recorder_db::Db;
use recorder_runtime::drain::Signal;
use tokio::sync::watch;

/// Other replicas' commits do not ring our bell; they are noticed at this interval.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Ends of the two logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heads {
    /// Version of the directives.
    pub directives: u64,
    /// Sequence of the newest event.
    pub events: u64,
}

/// Follows the database; clones and subscriptions share one reader.
#[derive(Debug, Clone)]
pub struct Pulse {
    heads: watch::Sender<Heads>,
}

impl Pulse {
    /// Reads the heads once.
    pub async fn new(db: &Db) -> recorder_db::Result<Self> {
        Ok(Self { heads: watch::Sender::new(read(db).await?) })
    }

    /// Changes whenever a log has grown.
    pub fn subscribe(&self) -> watch::Receiver<Heads> {
        self.heads.subscribe()
    }

    /// Keeps the heads current until the drain begins.
    pub async fn run(self, db: Db, drain: Signal) {
        let mut changed = db.changed();
        loop {
            tokio::select! {
                () = drain.draining() => return,
                // The database handle lives in this task, so its bell does too.
                _ = changed.changed() => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            changed.mark_unchanged();
            match read(&db).await {
                Ok(heads) => {
                    #[allow(clippy::cast_precision_loss, reason = "2^53 changes are out of reach")]
                    metrics::gauge!(recorder_runtime::metrics::DIRECTIVES_VERSION).set(heads.directives as f64);
                    self.heads.send_if_modified(|known| std::mem::replace(known, heads) != heads);
                }
                // Readiness tells the operator; followers go on when the database does.
                Err(error) => tracing::debug!(%error, "heads cannot be read"),
            }
        }
    }
}

async fn read(db: &Db) -> recorder_db::Result<Heads> {
    db.read(|connection| {
        let directives = recorder_db::directives::version(connection)?;
        let events = recorder_db::events::last(connection)?;
        Ok(Heads {
            directives: u64::try_from(directives).unwrap_or_default(),
            events: u64::try_from(events).unwrap_or_default(),
        })
    })
    .await
}
