//! The public API: one module per gRPC service, and the mechanisms they share.
//!
//! A service file decodes, asks `domain/` for the rules and `recorder_db` for the rows, and encodes; it holds neither
//! policy nor SQL.
pub mod access;
pub mod binding;
pub mod change;
pub mod delete_recording;
pub mod deliveries;
pub mod disconnect;
pub mod domain;
pub mod drain;
pub mod events;
pub mod explain;
pub mod mask;
pub mod mint;
pub mod node;
pub mod page;
pub mod places;
pub mod playback;
pub mod probe;
pub mod publish_url;
pub mod recording;
pub mod retry_uploads;
pub mod rule;
pub mod secrets;
pub mod seed;
pub mod storage;
pub mod stream;
pub mod system;
pub mod task;
pub mod template;
pub mod unimplemented;
pub mod usage;
pub mod validate;
pub mod verify;
pub mod watch;
pub mod watch_events;
pub mod watch_nodes;
pub mod watch_recordings;
pub mod watch_streams;
pub mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use recorder_db::Db;
use recorder_proto::Problem;
use recorder_runtime::clock::Clock;
use recorder_runtime::secret::Sealer;
use tonic::{Response, Status};

use crate::access::Revocations;
use mint::Mint;
use page::Tokens;

/// What every service needs. Clones share everything; the services are implemented on it.
#[derive(Clone, Debug)]
pub struct Api {
    /// The database.
    pub db: Db,
    /// Seals secrets before they reach the database.
    pub sealer: Arc<Sealer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Root of the embedded library, for testing storages of kind FileSystem.
    pub library_root: PathBuf,
    /// Makes ids.
    pub mint: Mint,
    /// Signs page tokens.
    pub tokens: Tokens,
    /// Rings when a token of the API is revoked.
    pub revocations: Revocations,
}

impl Api {
    /// Puts the API together on a migrated database and seeds the built-in resources on its first start.
    ///
    /// # Errors
    /// When the database is away, or was sealed with another key.
    pub async fn start(
        db: Db,
        sealer: Arc<Sealer>,
        clock: Arc<dyn Clock>,
        library_root: PathBuf,
    ) -> Result<Self, Problem> {
        let mint = Mint::default();
        let tokens = Tokens::load(&db, &sealer).await?;
        let revocations = Revocations::default();
        let api = Self { db, sealer, clock, library_root, mint, tokens, revocations };
        seed::seed(&api).await?;
        Ok(api)
    }

    /// The time, by the server's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

/// Ends an rpc: the one place where a problem becomes a status.
pub fn answer<T>(outcome: Result<T, Problem>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(Status::from)
}
