//! How far a directive has come, as bindings and rules show it.
use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::node_acks::{self, Progress};
use recorder_db::{AnyConnection, Result};
use recorder_proto::time;
use tonic_types::pb::Status;

/// Where a directive stands among the nodes that hold a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not on every node yet.
    Pending,
    /// Every node applied it.
    Active,
    /// A node refused it.
    Rejected,
}

/// A directive's stage, and what it was decided from.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The summary.
    pub stage: Stage,
    /// Nodes that applied it.
    pub applied: u32,
    /// Nodes with a lease.
    pub total: u32,
    /// In the words of a node that refused it.
    pub error: Option<Status>,
}

/// The standing of each named directive, in the same order; a directive that is not in force is pending.
pub fn standings(connection: &mut AnyConnection, names: &[String], now: DateTime<Utc>) -> Result<Vec<Standing>> {
    let progress = node_acks::progress(connection, names, time::micros(now))?;
    Ok(progress.into_iter().map(|progress| standing(progress.unwrap_or_default())).collect())
}

fn standing(progress: Progress) -> Standing {
    // A refusal that does not decode is a refusal all the same.
    let error = progress.error.map(|error| Status::decode(error.as_slice()).unwrap_or_default());
    let stage = match &error {
        Some(_) => Stage::Rejected,
        None if progress.total > 0 && progress.applied == progress.total => Stage::Active,
        None => Stage::Pending,
    };
    Standing { stage, applied: progress.applied, total: progress.total, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_is_every_node_and_never_nobody() {
        let of = |applied, total| standing(Progress { applied, total, error: None }).stage;
        assert_eq!(of(2, 2), Stage::Active);
        assert_eq!(of(1, 2), Stage::Pending);
        assert_eq!(of(0, 0), Stage::Pending, "without a node nothing is recorded");
    }

    #[test]
    fn one_refusal_is_told_in_its_own_words() {
        let refused = Status { code: 3, message: "unknown format".to_owned(), details: Vec::new() };
        let standing = standing(Progress { applied: 4, total: 5, error: Some(refused.encode_to_vec()) });
        assert_eq!((standing.stage, standing.error), (Stage::Rejected, Some(refused)));
    }
}
