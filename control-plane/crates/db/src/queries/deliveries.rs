//! Events on their way to receivers, and the log of how it went.
//!
//! Of all deliveries of one webhook about one subject only the first that is not over has a `next_attempt_time`: the
//! order is kept by the rows themselves, whoever sends.
use diesel::prelude::*;
use recorder_proto::pb::v1::delivery::State;

use super::Page;
use crate::schema::deliveries;
use crate::{AnyConnection, Result};

/// One event, or one part of it, on its way to one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = deliveries, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    /// ULID; newest first by it.
    pub id: String,
    pub webhook: String,
    /// 0 for a test, which is no event.
    pub event_seq: i64,
    /// From 0; bodies of the vendor's kind tell of one format each.
    pub part: i32,
    pub event_id: String,
    pub event_type: String,
    pub subject: String,
    pub event_time: i64,
    /// [`State`].
    pub state: i32,
    pub attempt: i64,
    pub http_status: i32,
    pub error: String,
    /// None while it waits for an earlier one of its subject, and when it is over.
    pub next_attempt_time: Option<i64>,
    /// When the receiver last answered.
    pub answer_time: Option<i64>,
    pub create_time: i64,
}

const PENDING: i32 = State::Pending as i32;

/// One delivery of a webhook.
pub fn get(connection: &mut AnyConnection, webhook: &str, id: &str) -> Result<Option<Row>> {
    let found = deliveries::table.find(id).filter(deliveries::webhook.eq(webhook));
    Ok(found.first(connection).optional()?)
}

/// A page, newest first; no states = all.
pub fn page(connection: &mut AnyConnection, webhook: &str, states: &[i32], page: &Page) -> Result<Vec<Row>> {
    let mut query = deliveries::table.filter(deliveries::webhook.eq(webhook.to_owned())).into_boxed();
    if !states.is_empty() {
        query = query.filter(deliveries::state.eq_any(states.to_vec()));
    }
    if let Some(before) = &page.before {
        query = query.filter(deliveries::id.lt(before.clone()));
    }
    Ok(query.order(deliveries::id.desc()).limit(page.limit).load(connection)?)
}

/// Deliveries of a webhook that are not over.
pub fn pending(connection: &mut AnyConnection, webhook: &str) -> Result<i64> {
    let of = deliveries::table.filter(deliveries::webhook.eq(webhook)).filter(deliveries::state.eq(PENDING));
    Ok(of.count().get_result(connection)?)
}

/// Adds a delivery behind those of its subject that are not over; `row.next_attempt_time` counts only if there are none.
pub fn enqueue(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let behind = first_pending(connection, &row.webhook, &row.subject)?.is_some();
    let next_attempt_time = row.next_attempt_time.filter(|_| !behind);
    diesel::insert_into(deliveries::table).values(&Row { next_attempt_time, ..row.clone() }).execute(connection)?;
    Ok(())
}

/// Adds a delivery as it is.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(deliveries::table).values(row).execute(connection)?;
    Ok(())
}

fn first_pending(connection: &mut AnyConnection, webhook: &str, subject: &str) -> Result<Option<String>> {
    let of = deliveries::table
        .filter(deliveries::webhook.eq(webhook))
        .filter(deliveries::subject.eq(subject))
        .filter(deliveries::state.eq(PENDING));
    let first = of.order((deliveries::event_seq.asc(), deliveries::part.asc())).select(deliveries::id);
    Ok(first.first(connection).optional()?)
}

/// The webhooks to which something is due at `now`.
pub fn webhooks_due(connection: &mut AnyConnection, now: i64) -> Result<Vec<String>> {
    let due = deliveries::table.filter(deliveries::state.eq(PENDING)).filter(deliveries::next_attempt_time.le(now));
    Ok(due.select(deliveries::webhook).distinct().load(connection)?)
}

/// Deliveries of one webhook that are due at `now`, longest due first, except those in `without`.
pub fn due(
    connection: &mut AnyConnection,
    webhook: &str,
    now: i64,
    without: &[String],
    limit: i64,
) -> Result<Vec<Row>> {
    let of = deliveries::table
        .filter(deliveries::webhook.eq(webhook))
        .filter(deliveries::state.eq(PENDING))
        .filter(deliveries::next_attempt_time.le(now))
        .filter(deliveries::id.ne_all(without.to_vec()));
    Ok(of.order((deliveries::next_attempt_time.asc(), deliveries::id.asc())).limit(limit).load(connection)?)
}

/// Writes how an attempt went.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::update(deliveries::table.find(&row.id))
        .set((
            deliveries::state.eq(row.state),
            deliveries::attempt.eq(row.attempt),
            deliveries::http_status.eq(row.http_status),
            deliveries::error.eq(&row.error),
            deliveries::next_attempt_time.eq(row.next_attempt_time),
            deliveries::answer_time.eq(row.answer_time),
        ))
        .execute(connection)?;
    Ok(())
}

/// The first delivery of a subject that is not over may be tried at `time`, unless it has a time of its own.
pub fn release(connection: &mut AnyConnection, webhook: &str, subject: &str, time: i64) -> Result<()> {
    let Some(id) = first_pending(connection, webhook, subject)? else { return Ok(()) };
    diesel::update(deliveries::table.find(id).filter(deliveries::next_attempt_time.is_null()))
        .set(deliveries::next_attempt_time.eq(Some(time)))
        .execute(connection)?;
    Ok(())
}

/// What waits for its next attempt is tried at `time`: somebody says that the receiver is well again.
pub fn hasten(connection: &mut AnyConnection, webhook: &str, time: i64) -> Result<()> {
    let waiting = deliveries::table
        .filter(deliveries::webhook.eq(webhook))
        .filter(deliveries::state.eq(PENDING))
        .filter(deliveries::next_attempt_time.gt(time));
    diesel::update(waiting).set(deliveries::next_attempt_time.eq(Some(time))).execute(connection)?;
    Ok(())
}

/// Forgets deliveries that are over and were made before `time` (microseconds); returns how many.
pub fn prune(connection: &mut AnyConnection, time: i64) -> Result<usize> {
    let over = deliveries::table.filter(deliveries::create_time.lt(time)).filter(deliveries::state.ne(PENDING));
    Ok(diesel::delete(over).execute(connection)?)
}
