//! Accounting: how many channels were recorded at once, and how much was recorded and delivered (api B.12).
//!
//! Entered from facts in the transaction that applies them, so that an outage of anything between node and database
//! loses nothing: what is told later counts for the time it tells of. Nothing here refers to recordings, which may be
//! deleted.
pub mod backfill;
pub mod grid;
pub mod ledger;
pub mod peaks;
pub mod query;
pub mod volume;
