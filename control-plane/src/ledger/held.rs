//! The recording that a fact is about, and whether the fact's epoch may speak of it.
//!
//! A recording has one epoch in force: only its node says how the recording goes on. What an earlier epoch says of
//! its own files stays true, whoever records now, because no two epochs share an object.
use recorder_db::claims;
use recorder_db::recordings::{self, Row};
use recorder_proto::Problem;
use recorder_proto::ids::RecordingId;
use recorder_proto::pb::v1;

use super::{Entry, Trouble};

/// A recording while something is applied to it.
pub(super) struct Held {
    pub(super) row: Row,
    pub(super) body: v1::Recording,
}

/// The recording that the fact is about, if the fact's epoch is the one in force; None when it is not known.
pub(super) fn of_current_epoch(entry: &mut Entry<'_>) -> Result<(RecordingId, Option<Held>), Trouble> {
    let (id, Some(row)) = found(entry)? else { return Ok((entry_id(entry)?, None)) };
    if told(entry) != row.epoch || row.node != entry.node.id() {
        return Err(fenced(&row));
    }
    let body = row.recording()?;
    Ok((id, Some(Held { row, body })))
}

/// [`of_current_epoch`] for facts that only make sense about a known recording.
pub(super) fn known(entry: &mut Entry<'_>) -> Result<(RecordingId, Held), Trouble> {
    match of_current_epoch(entry)? {
        (id, Some(held)) => Ok((id, held)),
        (id, None) => Err(missing(id)),
    }
}

/// [`known`] for facts about files, which an earlier epoch may still tell of those that it wrote.
pub(super) fn of_any_epoch(entry: &mut Entry<'_>) -> Result<(RecordingId, Held), Trouble> {
    let (id, Some(row)) = found(entry)? else { return Err(missing(entry_id(entry)?)) };
    let told = told(entry);
    let writer = if told == row.epoch {
        Some(row.node.clone())
    } else {
        // An epoch whose claim never arrived is taken at its word.
        claims::of_recording(entry.scribe.db, &row.id)?
            .into_iter()
            .find(|claim| claim.epoch == told)
            .map(|claim| claim.node)
    };
    if told < 1 || told > row.epoch || writer.is_some_and(|writer| writer != entry.node.id()) {
        return Err(fenced(&row));
    }
    let body = row.recording()?;
    Ok((id, Held { row, body }))
}

/// [`known`] for a takeover: an epoch beyond the one in force was granted by a database that has since been restored
/// from an older copy. Epochs only grow, so it is the one in force now.
pub(super) fn taken_over(entry: &mut Entry<'_>) -> Result<(RecordingId, Held), Trouble> {
    let (id, Some(mut row)) = found(entry)? else { return Err(missing(entry_id(entry)?)) };
    let told = told(entry);
    if told <= row.epoch {
        return known(entry);
    }
    let mut body = row.recording()?;
    row.inherited = Some(row.body.clone());
    row.epoch = told;
    row.node = entry.node.id().to_owned();
    body.epoch = entry.fact.epoch.get();
    body.node = entry.node.to_string();
    Ok((id, Held { row, body }))
}

/// The fact's epoch is not the one in force for this.
pub(super) fn fenced(row: &Row) -> Trouble {
    Problem::fenced(&format!("recordings/{}", row.id), u64::try_from(row.epoch).unwrap_or_default()).into()
}

/// The epoch of the fact, as the database keeps it.
pub(super) fn told(entry: &Entry<'_>) -> i64 {
    i64::try_from(entry.fact.epoch.get()).unwrap_or(i64::MAX)
}

fn found(entry: &mut Entry<'_>) -> Result<(RecordingId, Option<Row>), Trouble> {
    let id = entry_id(entry)?;
    Ok((id, recordings::get(entry.scribe.db, &id.to_string())?))
}

fn entry_id(entry: &Entry<'_>) -> Result<RecordingId, Trouble> {
    Ok(entry.fact.recording.ok_or_else(|| Problem::invalid_field("recording", "is missing"))?)
}

/// There is no such recording (any more).
pub(super) fn missing(id: RecordingId) -> Trouble {
    Problem::not_found("recording", &format!("recordings/{id}")).into()
}
