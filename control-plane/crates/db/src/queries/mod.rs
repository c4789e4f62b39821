//! One module a table: rows and the statements on them. Every function runs inside the caller's transaction.
pub mod bindings;
pub mod blocks;
pub mod claims;
pub mod counters;
pub mod deletions;
pub mod deliveries;
pub mod directives;
pub mod domains;
pub mod events;
pub mod facts_seen;
pub mod files;
pub mod idempotency;
pub mod leases;
pub mod node_acks;
pub mod node_progress;
pub mod nodes;
pub mod recordings;
pub mod rules;
pub mod settings;
pub mod storages;
pub mod streams;
pub mod tasks;
pub mod templates;
pub mod tokens;
pub mod usage;
pub mod webhooks;

/// A page of a list that is ordered newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Rows older than this key only (the last key of the page before); None is the first page.
    pub before: Option<String>,
    /// At most this many rows.
    pub limit: i64,
}

/// Turns the number of rows that a compare-and-set touched into its outcome.
fn changed(rows: usize) -> crate::Result<()> {
    if rows == 0 { Err(crate::Error::Stale) } else { Ok(()) }
}
