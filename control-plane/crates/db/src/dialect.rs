//! The few statements that the two databases do not share.
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};

use crate::{AnyConnection, Result};

/// Key of the Postgres advisory lock that makes writers queue, as SQLite's do; any constant that others do not use.
const WRITER_LOCK: &str = "SELECT pg_advisory_xact_lock(8243108641771523)";
/// Key of the lock under which several starting processes migrate one after the other.
const MIGRATION_LOCK: i64 = 8_243_108_641_771_524;

/// Begins a transaction that may write; on return every earlier writer has committed and is visible.
pub(crate) fn begin_write(connection: &mut AnyConnection) -> Result<()> {
    match connection {
        // READ COMMITTED: each statement after the lock sees what the previous holder committed.
        AnyConnection::Pg(connection) => {
            AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN ISOLATION LEVEL READ COMMITTED")?;
            if let Err(error) = connection.batch_execute(WRITER_LOCK) {
                // The lock's failure is the cause to report; a failing rollback only means a lost connection.
                let _ = AnsiTransactionManager::rollback_transaction(connection);
                return Err(error.into());
            }
            Ok(())
        }
        AnyConnection::Sqlite(connection) => {
            Ok(AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")?)
        }
    }
}

/// Begins a transaction whose queries all see one moment.
pub(crate) fn begin_read(connection: &mut AnyConnection) -> Result<()> {
    match connection {
        AnyConnection::Pg(connection) => Ok(AnsiTransactionManager::begin_transaction_sql(
            connection,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        )?),
        AnyConnection::Sqlite(connection) => {
            Ok(AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN DEFERRED")?)
        }
    }
}

pub(crate) fn commit(connection: &mut AnyConnection) -> Result<()> {
    match connection {
        AnyConnection::Pg(connection) => Ok(AnsiTransactionManager::commit_transaction(connection)?),
        AnyConnection::Sqlite(connection) => Ok(AnsiTransactionManager::commit_transaction(connection)?),
    }
}

pub(crate) fn rollback(connection: &mut AnyConnection) -> Result<()> {
    match connection {
        AnyConnection::Pg(connection) => Ok(AnsiTransactionManager::rollback_transaction(connection)?),
        AnyConnection::Sqlite(connection) => Ok(AnsiTransactionManager::rollback_transaction(connection)?),
    }
}

/// Runs `body` while no other process migrates. SQLite's own file lock does that by itself.
pub(crate) fn migrating<T>(
    connection: &mut AnyConnection,
    body: impl FnOnce(&mut AnyConnection) -> Result<T>,
) -> Result<T> {
    if let AnyConnection::Pg(connection) = connection {
        connection.batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})"))?;
    }
    let outcome = body(connection);
    if let AnyConnection::Pg(connection) = connection {
        connection.batch_execute(&format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})"))?;
    }
    outcome
}
