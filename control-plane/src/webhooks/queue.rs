//! The transactions of deliveries: events become deliveries once, and what came of an attempt is written once.
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_db::{AnyConnection, deliveries, events, webhooks};
use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::delivery::State as Of;
use recorder_proto::pb::v1::webhook::{Signature, State};
use recorder_proto::problem::Violations;
use recorder_proto::time;

use super::schedule::{Answer, Next, health, next};
use super::vendor;
use crate::api::mint::Mint;
use crate::api::webhooks::shown;
use crate::domain::event::Types;
use crate::event_data;
use crate::feed;

/// Events looked at in one go.
const BATCH: i64 = 256;

/// Deliveries of one webhook that wait at most; events beyond stay events until there is room.
const WAITING_MAX: i64 = 1000;

/// Rows written in one transaction, roughly; other writers want their turn.
const ROWS_MAX: usize = 500;

/// A webhook that wanted nothing of so many events is written down as having come this far.
const UNWRITTEN_MAX: i64 = 1000;

/// The type of the event that tells of a suspension.
pub const SUSPENDED: &str = "webhook.suspended";

/// How far webhooks have come that wanted nothing since what the database says.
pub type Ahead = BTreeMap<String, i64>;

/// What is to become of one webhook's next events.
#[derive(Debug)]
pub struct Step {
    webhook: String,
    /// Where it was in the database; another one then, and the step is void.
    from: i64,
    to: i64,
    rows: Vec<deliveries::Row>,
}

/// Whether anything may be sent to a webhook.
pub fn is_open(row: &webhooks::Row, webhook: &v1::Webhook) -> bool {
    !webhook.disabled && row.state != State::Suspended as i32
}

/// Reads which events the webhooks want next, and whether there are more. Writes nothing.
///
/// # Errors
/// When the database fails.
pub fn plan(
    db: &mut AnyConnection,
    ahead: &Ahead,
    mint: &Mint,
    now: DateTime<Utc>,
) -> Result<(Vec<Step>, bool), Problem> {
    let last = events::last(db)?;
    let oldest = events::oldest(db)?.unwrap_or(last + 1);
    let (mut steps, mut more, mut written) = (Vec::new(), false, 0);
    let mut read: BTreeMap<i64, Vec<events::Row>> = BTreeMap::new();
    for row in webhooks::all(db)? {
        let webhook = row.webhook()?;
        let position = ahead.get(&row.id).copied().unwrap_or_default().max(row.position).max(oldest - 1);
        if position >= last || !is_open(&row, &webhook) || deliveries::pending(db, &row.id)? >= WAITING_MAX {
            continue;
        }
        if written >= ROWS_MAX {
            more = true;
            break;
        }
        // Most have come equally far.
        let events = match read.entry(position) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unread) => unread.insert(events::after(db, position, BATCH)?),
        };
        let Some(to) = events.last().map(|event| event.seq) else { continue };
        let rows = wanted(&row.id, &webhook, events, mint, now);
        written += rows.len();
        more |= to < last;
        steps.push(Step { webhook: row.id, from: row.position, to, rows });
    }
    Ok((steps, more))
}

/// The deliveries that events become for one webhook.
fn wanted(
    id: &str,
    webhook: &v1::Webhook,
    events: &[events::Row],
    mint: &Mint,
    now: DateTime<Utc>,
) -> Vec<deliveries::Row> {
    let types = Types::read(&mut Violations::new(), "", &webhook.event_types);
    let mut rows = Vec::new();
    for event in events.iter().filter(|event| types.wants(&event.kind)) {
        let ours = |domain: String| webhook.domains.iter().any(|wanted| *wanted == format!("domains/{domain}"));
        if !webhook.domains.is_empty() && !event_data::domain(event).is_some_and(ours) {
            continue;
        }
        let parts = match webhook.signature() {
            Signature::TencentMd5 => vendor::parts(event),
            Signature::Standard | Signature::Unspecified => 1,
        };
        rows.extend((0..parts).map(|part| row(id, event, part, mint, now)));
    }
    rows
}

fn row(webhook: &str, event: &events::Row, part: usize, mint: &Mint, now: DateTime<Utc>) -> deliveries::Row {
    deliveries::Row {
        id: mint.ulid(now).to_string(),
        webhook: webhook.to_owned(),
        event_seq: event.seq,
        part: i32::try_from(part).unwrap_or(i32::MAX),
        event_id: event.id.clone(),
        event_type: event.kind.clone(),
        subject: event.subject.clone(),
        event_time: event.time,
        state: Of::Pending as i32,
        attempt: 0,
        http_status: 0,
        error: String::new(),
        next_attempt_time: Some(time::micros(now)),
        answer_time: None,
        create_time: time::micros(now),
    }
}

/// Takes note of the steps that wanted nothing; what is left has to be written.
pub fn note(steps: Vec<Step>, ahead: &mut Ahead) -> Vec<Step> {
    let mut left = Vec::new();
    for step in steps {
        if step.rows.is_empty() && step.to.saturating_sub(step.from) < UNWRITTEN_MAX {
            ahead.insert(step.webhook, step.to);
        } else {
            ahead.remove(&step.webhook);
            left.push(step);
        }
    }
    left
}

/// Makes the deliveries, each once: a step from where the webhook no longer is does nothing.
///
/// # Errors
/// When the database fails: nothing is written then.
pub fn write(db: &mut AnyConnection, steps: &[Step]) -> recorder_db::Result<()> {
    for step in steps {
        let there = webhooks::get(db, &step.webhook)?;
        if there.is_none_or(|row| row.position != step.from) {
            continue;
        }
        for row in &step.rows {
            deliveries::enqueue(db, row)?;
        }
        webhooks::set_position(db, &step.webhook, step.to)?;
    }
    Ok(())
}

/// Writes what came of an attempt at the delivery as it was then; None when it is not what it was any more. `by_hand` is
/// an attempt that somebody asked for: a failure of it changes neither schedule nor receiver.
///
/// # Errors
/// When the database fails: nothing is written then.
pub fn land(
    db: &mut AnyConnection,
    tried: &deliveries::Row,
    answer: &Answer,
    by_hand: bool,
    jitter: f64,
    now: DateTime<Utc>,
) -> Result<Option<deliveries::Row>, Problem> {
    let there = deliveries::get(db, &tried.webhook, &tried.id)?;
    let Some(mut row) = there.filter(|row| row.attempt == tried.attempt && row.state == tried.state) else {
        return Ok(None);
    };
    let pending = row.state == Of::Pending as i32;
    row.attempt += 1;
    let next = next(answer, u64::try_from(row.attempt).unwrap_or(u64::MAX), jitter);
    row.http_status = i32::from(answer.status());
    row.error = answer.why().to_owned();
    row.answer_time = (answer.status() != 0).then(|| time::micros(now));
    match next {
        Next::Delivered => over(&mut row, Of::Delivered),
        _ if by_hand => {}
        Next::Retry(wait) => row.next_attempt_time = Some(time::micros(later(now, wait))),
        Next::Exhausted | Next::Dropped => over(&mut row, Of::Failed),
    }
    deliveries::update(db, &row)?;
    if pending && row.state != Of::Pending as i32 {
        deliveries::release(db, &row.webhook, &row.subject, time::micros(now))?;
    }
    if !by_hand {
        tell(db, &row.webhook, next, now)?;
    }
    Ok(Some(row))
}

fn over(row: &mut deliveries::Row, state: Of) {
    row.state = state as i32;
    row.next_attempt_time = None;
}

fn later(now: DateTime<Utc>, wait: std::time::Duration) -> DateTime<Utc> {
    let wait = TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX);
    now.checked_add_signed(wait).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Keeps the receiver's state, and says so when it is suspended.
fn tell(db: &mut AnyConnection, webhook: &str, next: Next, now: DateTime<Utc>) -> Result<(), Problem> {
    let Some(mut row) = webhooks::get(db, webhook)? else { return Ok(()) };
    let before = State::try_from(row.state).unwrap_or_default();
    let after = health(before, next);
    if after == before {
        return Ok(());
    }
    webhooks::set_state(db, webhook, after as i32)?;
    if after == State::Suspended {
        row.state = after as i32;
        let webhook = shown(&row)?;
        tracing::warn!(
            webhook = webhook.name,
            "deliveries failed to the end of their schedule: nothing is sent any more"
        );
        let body = prost::Message::encode_to_vec(&webhook);
        feed::append(db, feed::Stamp::fresh(now), SUSPENDED, &webhook.name, body)?;
    }
    Ok(())
}
