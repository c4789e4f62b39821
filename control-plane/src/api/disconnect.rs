//! DisconnectPublisher: closes a publisher's connection, and may keep its stream away for a while.
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_db::{AnyConnection, blocks, streams};
use recorder_proto::names::StreamName;
use recorder_proto::pb::v1;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};

use super::stream::shown;
use super::validate::{self, Span};
use super::watch::Watches;
use crate::directives::source::Source;
use crate::directives::{changelog, command, compile};

const BLOCK: Span = Span::or_off(Duration::from_secs(1), limits::BLOCK_FOR_MAX);

/// What a publisher is told when nobody gave a reason.
const REASON: &str = "disconnected by an operator";

/// Answers DisconnectPublisher: the stream as it is; that it has ended is a fact to come.
pub(super) async fn disconnect(
    watches: &Watches,
    request: v1::DisconnectPublisherRequest,
) -> Result<v1::Stream, Problem> {
    let mut violations = Violations::new();
    let name: Option<StreamName> = validate::name(&mut violations, "name", &request.name);
    let most = limits::DISCONNECT_REASON_MAX_BYTES;
    let sound = request.reason.len() <= most && !request.reason.chars().any(char::is_control);
    let length = request.reason.len();
    violations.check(sound, "reason", format!("must be at most {most} bytes without control characters, got {length}"));
    let block = BLOCK.effective(&mut violations, "block_for", request.block_for.as_ref());
    violations.finish()?;
    let name = name.ok_or_else(|| Problem::internal("the name was neither read nor refused"))?;
    let reason = if request.reason.is_empty() { REASON.to_owned() } else { request.reason };
    let now = watches.api.now();
    watches.api.db.write(move |db| order(db, &name, &reason, block, now)).await
}

fn order(
    db: &mut AnyConnection,
    name: &StreamName,
    reason: &str,
    block: Duration,
    now: DateTime<Utc>,
) -> Result<v1::Stream, Problem> {
    let session = name.0.to_string();
    let live = streams::get(db, &session)?.filter(|row| row.end_time.is_none());
    let row = live.ok_or_else(|| Problem::not_found("stream", &name.to_string()))?;
    if !block.is_zero() {
        let until = now.checked_add_signed(TimeDelta::from_std(block).unwrap_or(TimeDelta::MAX));
        let until = time::micros(until.unwrap_or(DateTime::<Utc>::MAX_UTC));
        let (domain, app, stream) = (row.domain.clone(), row.app.clone(), row.stream.clone());
        blocks::put(db, &blocks::Row { domain, app, stream, until, reason: reason.to_owned() })?;
        // Before the command: the publisher must not find the door open when it comes back at once.
        compile::follow(db, &[Source::Domain(row.domain.clone())].into(), now)?;
    }
    changelog::put(db, &command::disconnect(&session, reason), now)?;
    shown(db, &row)
}
