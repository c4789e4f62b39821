//! The one error of the database, and what of it the caller can do something about.
use std::time::Duration;

use diesel::result::{ConnectionError, DatabaseErrorKind, Error as Diesel};
use recorder_proto::Problem;

/// What every query answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the database did not do as it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL names neither SQLite nor Postgres.
    #[error("database URL must begin with sqlite:// or postgres://")]
    Url,
    /// The database cannot be reached, is overloaded, shut down, or gave up on a conflict: try again later.
    #[error("database is unavailable: {0}")]
    Unavailable(String),
    /// A row with this key exists already.
    #[error("row exists already ({0})")]
    Exists(String),
    /// The row is referred to by another, or refers to one that is not there.
    #[error("row is referenced, or refers to a missing row ({0})")]
    Referenced(String),
    /// The row was changed or removed since it was read (its `rev` is another).
    #[error("row was changed meanwhile")]
    Stale,
    /// A stored body does not decode: the database was written by something else.
    #[error("stored {table} row is malformed")]
    Malformed {
        /// Where.
        table: &'static str,
        /// What the decoder said.
        #[source]
        source: prost::DecodeError,
    },
    /// A migration failed; the database is as it was before it.
    #[error("migration failed: {0}")]
    Migration(String),
    /// The statement is wrong: a bug.
    #[error("query failed")]
    Query(#[source] Diesel),
    /// The closure given to `read` or `write` panicked; its transaction is rolled back.
    #[error("database task panicked")]
    Panicked,
}

impl Error {
    /// True when the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<Diesel> for Error {
    fn from(error: Diesel) -> Self {
        let Diesel::DatabaseError(kind, information) = &error else {
            return match error {
                Diesel::BrokenTransactionManager => {
                    Self::Unavailable("connection was lost in a transaction".to_owned())
                }
                other => Self::Query(other),
            };
        };
        let said = information.message().to_owned();
        let constraint = information.constraint_name().map_or_else(|| said.clone(), str::to_owned);
        match kind {
            DatabaseErrorKind::UniqueViolation => Self::Exists(constraint),
            DatabaseErrorKind::ForeignKeyViolation | DatabaseErrorKind::RestrictViolation => {
                Self::Referenced(constraint)
            }
            DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::ReadOnlyTransaction => Self::Unavailable(said),
            // diesel names neither SQLite's extended foreign key code nor most of Postgres' states.
            _ if said.contains("FOREIGN KEY constraint failed") => Self::Referenced(said),
            _ if passes(&said) => Self::Unavailable(said),
            _ => Self::Query(error),
        }
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Messages of both databases (in English, as libpq and SQLite say them without a locale) about states that pass.
fn passes(said: &str) -> bool {
    const PASSING: [&str; 16] = [
        "database is locked",
        "database table is locked",
        "database or disk is full",
        "disk I/O error",
        "No space left on device",
        "could not extend file",
        "unable to open database file",
        "deadlock detected",
        "due to lock timeout",
        "due to statement timeout",
        "terminating connection",
        "server closed the connection",
        "no connection to the server",
        "connection not open",
        "the database system is",
        "SSL connection has been closed",
    ];
    PASSING.iter().any(|text| said.contains(text))
}

/// Reads a body column.
pub(crate) fn decode<M: prost::Message + Default>(table: &'static str, body: &[u8]) -> Result<M> {
    M::decode(body).map_err(|source| Error::Malformed { table, source })
}

/// How long a caller should wait before it tries an unavailable database again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Error> for Problem {
    /// What the caller is told; the details are logged here, because they go no further.
    fn from(error: Error) -> Self {
        match &error {
            Error::Unavailable(reason) => {
                tracing::warn!(%reason, "database is unavailable");
                Self::database_unavailable(RETRY_AFTER)
            }
            // Whoever checks before it writes sees this only when another process was in between.
            Error::Stale => {
                Self::new(tonic::Code::Aborted, "CONFLICT", "the resource was changed meanwhile; repeat the call")
            }
            _ => {
                tracing::error!(error = %WithCauses(&error), "database query failed");
                Self::internal("the database refused a query; the server's log says which")
            }
        }
    }
}

/// An error and what caused it, in one line.
struct WithCauses<'a>(&'a Error);

impl std::fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
