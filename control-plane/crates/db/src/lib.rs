//! Everything the control plane keeps: schema, queries, embedded migrations, and one handle over SQLite and Postgres.
//!
//! The only user of diesel. Writers are serialised in both dialects (SQLite has one writer connection, Postgres takes an
//! advisory lock first), so a transaction sees every earlier one and event sequences are in the order of the commits.
mod connection;
mod db;
mod dialect;
mod error;
pub mod migrations;
pub mod queries;
pub mod schema;
#[cfg(feature = "scratch")]
pub mod scratch;

pub use connection::{AnyConnection, Kind};
pub use db::{Db, Options};
pub use error::{Error, Result};
pub use queries::*;
