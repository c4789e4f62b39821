//! Facts from media nodes, folded into what the API shows: each exactly once, in one transaction with its events.
//!
//! Nodes report at least once, in order. A high-water mark per node tells repetitions from news; an event with the id of
//! the fact is the proof that it was applied.
mod deleted;
mod file;
mod health;
mod held;
mod presumed;
mod recording;
mod settle;
mod storage;
mod stream;
pub(crate) mod totals;

use chrono::{DateTime, Utc};
use recorder_db::{AnyConnection, events, facts_seen, nodes};
use recorder_proto::facts::{Fact, FactKind};
use recorder_proto::ids::EventId;
use recorder_proto::names::NodeName;
use recorder_proto::pb::node as pb;
use recorder_proto::pb::node::report_facts_response::Refusal;
use recorder_proto::{Problem, time};
use tonic::Code;

use crate::domain::Illegal;
use crate::feed::Stamp;

pub(crate) use deleted::{delete_file, is_over, is_presumed};
pub(crate) use presumed::{lose_file, presume_ended, revive, split};

/// A fact on its way into the database.
struct Entry<'a> {
    /// Writes what follows from it.
    scribe: Scribe<'a>,
    /// Who reports.
    node: &'a NodeName,
    /// What.
    fact: &'a Fact,
}

/// Writes changes and their events in one transaction.
struct Scribe<'a> {
    db: &'a mut AnyConnection,
    /// When it is written, on the control plane's clock.
    now: DateTime<Utc>,
    /// When that happened which is written down.
    at: DateTime<Utc>,
    /// The first event of a fact carries the id of the fact.
    id: Option<EventId>,
}

/// Why a fact was not applied.
#[derive(Debug)]
enum Trouble {
    /// It never can be; the node is told and forgets it. Nothing was written for it.
    Refused(Box<Problem>),
    /// Not now: everything is rolled back and comes again.
    Database(recorder_db::Error),
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

impl From<recorder_db::Error> for Trouble {
    fn from(error: recorder_db::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Illegal> for Trouble {
    fn from(illegal: Illegal) -> Self {
        Problem::new(Code::FailedPrecondition, "ILLEGAL_TRANSITION", illegal.to_string()).into()
    }
}

impl Scribe<'_> {
    /// Id and time of the next event: the first one is the fact itself.
    fn stamp(&mut self) -> Stamp {
        let at = self.at;
        self.id.take().map_or_else(|| Stamp::fresh(at), |id| Stamp { id, at })
    }
}

impl Entry<'_> {
    fn apply(&mut self) -> Result<(), Trouble> {
        match &self.fact.kind {
            FactKind::StreamStarted(snapshot) => stream::started(self, snapshot),
            FactKind::StreamUpdated(update) => stream::updated(self, &update.0),
            FactKind::StreamEnded(ended) => stream::ended(self, ended),
            FactKind::RecordingStarted(started) => recording::started(self, started),
            FactKind::RecordingInterrupted(interrupted) => recording::interrupted(self, interrupted),
            FactKind::RecordingResumed(resumed) => recording::resumed(self, resumed),
            FactKind::RecordingEnded(ended) => recording::ended(self, ended),
            FactKind::RecordingManifest(manifest) => recording::manifest(self, manifest),
            FactKind::RecordingAbnormal(abnormal) => health::found(self, abnormal),
            FactKind::FileOpened(opened) => file::opened(self, opened),
            FactKind::FileAvailable(available) => file::available(self, available),
            FactKind::FileFailed(failed) => file::failed(self, failed),
            FactKind::UploadStalled(stalled) => file::noted(self, stalled.format, stalled.index),
            FactKind::UploadRecovered(recovered) => file::noted(self, recovered.format, recovered.index),
            FactKind::StorageFailing(failing) => storage::failing(self, failing),
            FactKind::StorageRecovered(recovered) => storage::recovered(self, recovered),
            FactKind::DirectiveRejected(rejected) => storage::directive_rejected(self, rejected),
        }
    }
}

/// Applies a report of the node in `node`; the reply says up to where the node may forget.
///
/// # Errors
/// When the database fails: nothing is applied then.
pub fn apply(
    db: &mut AnyConnection,
    node: &nodes::Row,
    facts: &[pb::Fact],
    now: DateTime<Utc>,
) -> recorder_db::Result<pb::ReportFactsResponse> {
    let Ok(name) = node.id.parse::<NodeName>() else { return Ok(pb::ReportFactsResponse::default()) };
    let mark = facts_seen::get(db, &node.id)?;
    let mut high = mark.as_ref().map_or(0, |mark| mark.sequence);
    let mut refusals = Vec::new();
    for wire in facts {
        let sequence = i64::try_from(wire.sequence).unwrap_or(i64::MAX);
        if sequence <= high && is_repeated(db, wire, node, mark.as_ref())? {
            continue;
        }
        // A lower sequence that is news: the node's disk was replaced and its log begins anew.
        high = sequence;
        if let Some(problem) = one(db, &name, wire, now)? {
            tracing::warn!(node = node.id, sequence = wire.sequence, kind = wire.r#type, %problem, "fact refused");
            refusals.push(Refusal { sequence: wire.sequence, error: Some(problem.into()) });
        }
    }
    let row = facts_seen::Row {
        node: node.id.clone(),
        node_epoch: node.epoch,
        sequence: high,
        update_time: time::micros(now),
    };
    facts_seen::put(db, &row)?;
    // Repetitions at the end of a report must not move the node's own mark back either.
    let reported = facts.iter().map(|fact| fact.sequence).max().unwrap_or_default();
    let durable_sequence = if facts.is_empty() { u64::try_from(high).unwrap_or_default() } else { reported };
    Ok(pb::ReportFactsResponse { durable_sequence, refusals })
}

/// Whether a fact at or below the mark was dealt with before. One without an event was refused, or comes from a log that
/// begins anew; the latter takes a new boot.
fn is_repeated(
    db: &mut AnyConnection,
    wire: &pb::Fact,
    node: &nodes::Row,
    mark: Option<&facts_seen::Row>,
) -> recorder_db::Result<bool> {
    let same_boot = mark.is_some_and(|mark| mark.node_epoch == node.epoch);
    Ok(same_boot || events::known(db, &wire.id)?)
}

/// Applies one fact; the problem if it is refused.
fn one(
    db: &mut AnyConnection,
    node: &NodeName,
    wire: &pb::Fact,
    now: DateTime<Utc>,
) -> recorder_db::Result<Option<Problem>> {
    let fact = match Fact::try_from(wire) {
        Ok(fact) => fact,
        Err(error) => {
            return Ok(Some(Problem::new(Code::InvalidArgument, "INVALID_FACT", error.to_string())));
        }
    };
    if events::known(db, &wire.id)? {
        return Ok(Some(Problem::new(Code::AlreadyExists, "FACT_EXISTS", "another fact has this id")));
    }
    let scribe = Scribe { db, now, at: fact.time, id: Some(fact.id) };
    match (Entry { scribe, node, fact: &fact }).apply() {
        Ok(()) => Ok(None),
        Err(Trouble::Refused(problem)) => {
            if problem.reason == "RECORDING_NOT_FOUND" {
                deleted::heard_of(db, &fact, now)?;
            }
            Ok(Some(*problem))
        }
        Err(Trouble::Database(error)) => Err(error),
    }
}
