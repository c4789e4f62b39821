//! The embedded migrations of both dialects, and running them.
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::{AnyConnection, Error, Result, dialect};

const SQLITE: EmbeddedMigrations = embed_migrations!("../../../migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("../../../migrations/postgres");

/// Brings the schema up to date; each migration is a transaction. Returns how many were run.
pub fn run(connection: &mut AnyConnection) -> Result<usize> {
    dialect::migrating(connection, |connection| {
        match connection {
            AnyConnection::Pg(connection) => connection.run_pending_migrations(POSTGRES).map(|done| done.len()),
            AnyConnection::Sqlite(connection) => connection.run_pending_migrations(SQLITE).map(|done| done.len()),
        }
        .map_err(|error| Error::Migration(error.to_string()))
    })
}

/// Undoes every migration: an empty database. For tests of the `down` side.
pub fn revert_all(connection: &mut AnyConnection) -> Result<usize> {
    dialect::migrating(connection, |connection| {
        match connection {
            AnyConnection::Pg(connection) => connection.revert_all_migrations(POSTGRES).map(|done| done.len()),
            AnyConnection::Sqlite(connection) => connection.revert_all_migrations(SQLITE).map(|done| done.len()),
        }
        .map_err(|error| Error::Migration(error.to_string()))
    })
}
