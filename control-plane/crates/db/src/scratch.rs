//! Databases for tests: SQLite in a temporary file always, Postgres when `TEST_DATABASE_URL` names a cluster.
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};

use crate::{Db, Error, Kind, Options, Result};

/// The environment variable with the URL of a cluster's administrator.
pub const CLUSTER: &str = "TEST_DATABASE_URL";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An empty, migrated database of its own, gone when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    /// The database.
    pub db: Db,
    /// Its URL, to open it again as a restarted process would.
    pub url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    Database { cluster: String, name: String },
}

/// The databases to run a test on.
pub fn kinds() -> Vec<Kind> {
    match std::env::var(CLUSTER) {
        Ok(url) if !url.is_empty() => vec![Kind::Sqlite, Kind::Postgres],
        _ => vec![Kind::Sqlite],
    }
}

impl Scratch {
    /// Makes a database.
    pub fn new(kind: Kind) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("recorder_test_{}_{number}", std::process::id());
        let (url, place) = match kind {
            Kind::Sqlite => {
                let folder = std::env::temp_dir().join(name);
                std::fs::create_dir_all(&folder).map_err(|error| Error::Unavailable(error.to_string()))?;
                (format!("sqlite://{}/control.db", folder.display()), Place::Folder(folder))
            }
            Kind::Postgres => {
                let cluster = std::env::var(CLUSTER).map_err(|error| Error::Unavailable(error.to_string()))?;
                PgConnection::establish(&cluster)?.batch_execute(&format!("CREATE DATABASE {name}"))?;
                let server = cluster.rsplit_once('/').map_or(cluster.as_str(), |(server, _)| server);
                (format!("{server}/{name}"), Place::Database { cluster, name })
            }
        };
        // Short, so that tests of an absent database are.
        let options = Options { connections: 4, acquire_timeout: Duration::from_secs(2), ..Options::default() };
        Ok(Self { db: Db::open_with(&url, &options)?, url, place })
    }

    /// Postgres: ends every connection and refuses new ones, as a server that restarts does.
    pub fn refuse_connections(&self) -> Result<()> {
        self.administer(|name| {
            format!(
                "ALTER DATABASE {name} ALLOW_CONNECTIONS false; \
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            )
        })
    }

    /// Undoes [`Scratch::refuse_connections`].
    pub fn accept_connections(&self) -> Result<()> {
        self.administer(|name| format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    }

    fn administer(&self, statement: impl FnOnce(&str) -> String) -> Result<()> {
        if let Place::Database { cluster, name } = &self.place {
            PgConnection::establish(cluster)?.batch_execute(&statement(name))?;
        }
        Ok(())
    }

    /// The SQLite file; None with Postgres.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Folder(folder) => Some(folder.join("control.db")),
            Place::Database { .. } => None,
        }
    }
}

impl Drop for Scratch {
    // Nothing here may fail a test: what is left behind is in a temporary folder or cluster.
    fn drop(&mut self) {
        match &self.place {
            Place::Folder(folder) => drop(std::fs::remove_dir_all(folder)),
            Place::Database { cluster, name } => {
                if let Ok(mut connection) = PgConnection::establish(cluster) {
                    drop(connection.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
                }
            }
        }
    }
}
