//! One connection type over both databases, and how a pool makes and checks connections.
use std::path::PathBuf;

use diesel::connection::SimpleConnection;
use diesel::r2d2::{ManageConnection, R2D2Connection};
use diesel::{Connection, PgConnection, SqliteConnection};

use crate::Error;

/// A connection to either database; every query is written once, against this.
// Sqlite comes last: it accepts any URL.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// PostgreSQL 13 or later.
    Pg(PgConnection),
    /// The embedded SQLite.
    Sqlite(SqliteConnection),
}

/// Which database a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

impl Kind {
    /// `postgres` or `sqlite`, as ServerInfo shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Where the database is.
#[derive(Clone)]
pub(crate) enum Target {
    /// The URL as given; it may hold a password, so it is never shown.
    Postgres(String),
    /// A database file.
    File(PathBuf),
    /// Gone when the connection closes; for tests.
    Memory,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        match url.strip_prefix("sqlite://") {
            None | Some("") => Err(Error::Url),
            Some(":memory:") => Ok(Self::Memory),
            Some(path) => Ok(Self::File(path.into())),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Postgres(_) => Kind::Postgres,
            Self::File(_) | Self::Memory => Kind::Sqlite,
        }
    }

    pub(crate) fn establish(&self) -> Result<AnyConnection, Error> {
        match self {
            Self::Postgres(url) => {
                let mut connection = PgConnection::establish(&watchful(url))?;
                connection.batch_execute(POSTGRES_SETTINGS)?;
                Ok(AnyConnection::Pg(connection))
            }
            Self::File(path) => sqlite(&path.to_string_lossy()),
            Self::Memory => sqlite(":memory:"),
        }
    }
}

/// Connection settings of libpq, for those that the URL does not set: a peer that is gone without a word (its machine
/// died, a firewall forgot the connection) is noticed within seconds instead of hours.
const WATCHFUL: [(&str, &str); 5] = [
    ("connect_timeout", "5"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
];

fn watchful(url: &str) -> String {
    let mut url = url.to_owned();
    for (name, value) in WATCHFUL {
        if !url.contains(&format!("{name}=")) {
            let join = if url.contains('?') { '&' } else { '?' };
            url.push_str(&format!("{join}{name}={value}"));
        }
    }
    url
}

/// A statement that runs longer than this is stuck; the caller is told UNAVAILABLE instead of waiting for ever.
const POSTGRES_SETTINGS: &str = "SET statement_timeout = '30s'; SET lock_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '60s'; SET TIME ZONE 'UTC'";

/// WAL lets readers go on beside the writer; FULL makes a commit survive a power cut.
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON";

fn sqlite(path: &str) -> Result<AnyConnection, Error> {
    let mut connection = SqliteConnection::establish(path)?;
    connection.batch_execute(SQLITE_SETTINGS)?;
    Ok(AnyConnection::Sqlite(connection))
}

/// What r2d2 asks for.
pub(crate) struct Manager {
    pub(crate) target: Target,
    /// Refuses writes on SQLite connections of the readers' pool (Postgres' read transactions refuse them anyway).
    pub(crate) query_only: bool,
}

impl ManageConnection for Manager {
    type Connection = AnyConnection;
    type Error = Error;

    fn connect(&self) -> Result<AnyConnection, Error> {
        let mut connection = self.target.establish()?;
        if let (true, AnyConnection::Sqlite(connection)) = (self.query_only, &mut connection) {
            connection.batch_execute("PRAGMA query_only = ON")?;
        }
        Ok(connection)
    }

    fn is_valid(&self, connection: &mut AnyConnection) -> Result<(), Error> {
        match connection {
            // A round trip, so that a database that came back is noticed before a statement is lost on a dead socket.
            AnyConnection::Pg(connection) => Ok(connection.ping()?),
            AnyConnection::Sqlite(_) => Ok(()),
        }
    }

    fn has_broken(&self, connection: &mut AnyConnection) -> bool {
        connection.is_broken()
    }
}
