//! What happened, in commit order; watches and webhooks read from here.
use diesel::prelude::*;

use super::counters;
use crate::schema::events;
use crate::{AnyConnection, Result};

/// An event. `body` is the prost-encoded resource that `subject` names, as it is after the change (before it, when it
/// was deleted).
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = events)]
#[allow(missing_docs)]
pub struct Row {
    /// Grows without gaps in commit order.
    pub seq: i64,
    /// ULID; the id that users see.
    pub id: String,
    /// Such as `recording.started`.
    pub kind: String,
    /// Full resource name.
    pub subject: String,
    /// Microseconds since the epoch.
    pub time: i64,
    pub body: Vec<u8>,
}

/// Appends an event to the transaction of the change that it tells of; returns its sequence.
pub fn append(
    connection: &mut AnyConnection,
    id: &str,
    kind: &str,
    subject: &str,
    time: i64,
    body: Vec<u8>,
) -> Result<i64> {
    let seq = counters::next(connection, counters::EVENTS)?;
    let row = Row { seq, id: id.to_owned(), kind: kind.to_owned(), subject: subject.to_owned(), time, body };
    diesel::insert_into(events::table).values(&row).execute(connection)?;
    Ok(seq)
}

/// Events after a sequence, oldest first.
pub fn after(connection: &mut AnyConnection, seq: i64, limit: i64) -> Result<Vec<Row>> {
    Ok(events::table.filter(events::seq.gt(seq)).order(events::seq.asc()).limit(limit).load(connection)?)
}

/// The sequence of the newest event; 0 when there was none.
pub fn last(connection: &mut AnyConnection) -> Result<i64> {
    counters::current(connection, counters::EVENTS)
}

/// The sequence of the oldest event that is still kept; None when there is none.
pub fn oldest(connection: &mut AnyConnection) -> Result<Option<i64>> {
    Ok(events::table.select(events::seq).order(events::seq.asc()).first(connection).optional()?)
}

/// Forgets events older than `time` (microseconds); returns how many.
pub fn prune(connection: &mut AnyConnection, time: i64) -> Result<usize> {
    Ok(diesel::delete(events::table.filter(events::time.lt(time))).execute(connection)?)
}

/// Whether an event has this id.
pub fn known(connection: &mut AnyConnection, id: &str) -> Result<bool> {
    let found: Option<i64> =
        events::table.filter(events::id.eq(id)).select(events::seq).first(connection).optional()?;
    Ok(found.is_some())
}

/// Forgets what comes before the first event that is not older than `time` (microseconds), and nothing in between: a
/// fact that was reported late, or by a node whose clock is wrong, must not leave a hole. Returns how many.
pub fn prune_prefix(connection: &mut AnyConnection, time: i64) -> Result<usize> {
    let kept: Option<i64> = events::table
        .filter(events::time.ge(time))
        .select(events::seq)
        .order(events::seq.asc())
        .first(connection)
        .optional()?;
    let end = kept.unwrap_or(i64::MAX);
    Ok(diesel::delete(events::table.filter(events::seq.lt(end))).execute(connection)?)
}

/// Which events are looked at; None is no condition.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Heads {
    pub subject: Option<String>,
    /// At or after, microseconds.
    pub after: Option<i64>,
    /// Before, microseconds.
    pub before: Option<i64>,
    /// Sequences below this one only.
    pub below: Option<i64>,
}

/// Sequence and type of events, newest first, without their bodies.
pub fn heads(connection: &mut AnyConnection, heads: &Heads, limit: i64) -> Result<Vec<(i64, String)>> {
    let mut query = events::table.select((events::seq, events::kind)).into_boxed();
    if let Some(subject) = &heads.subject {
        query = query.filter(events::subject.eq(subject.clone()));
    }
    if let Some(after) = heads.after {
        query = query.filter(events::time.ge(after));
    }
    if let Some(before) = heads.before {
        query = query.filter(events::time.lt(before));
    }
    if let Some(below) = heads.below {
        query = query.filter(events::seq.lt(below));
    }
    Ok(query.order(events::seq.desc()).limit(limit).load(connection)?)
}

/// The events of these sequences, newest first.
pub fn of_sequences(connection: &mut AnyConnection, sequences: &[i64]) -> Result<Vec<Row>> {
    let wanted = events::table.filter(events::seq.eq_any(sequences.to_vec()));
    Ok(wanted.order(events::seq.desc()).load(connection)?)
}
