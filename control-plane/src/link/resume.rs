//! Recordings that wait for their publisher, and the takeover of one by the node to which the publisher came back.
//!
//! A recording waits while its node has said so and the deadline is open, or, when its node or the publisher's session
//! is gone without a word, for the longest resume timeout of its template from the last sign of life. Writers queue in
//! the database, so that of two claims one finds it and the other does not.
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use prost::Message;
use recorder_db::nodes;
use recorder_db::recordings::{self, Filter, Row};
use recorder_db::{AnyConnection, Page, directives, files, streams, templates};
use recorder_proto::facts::to_struct;
use recorder_proto::format::Format;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::ClaimRecordingResponse;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::gap::Reason;
use recorder_proto::pb::v1::recording::{Origin, State};
use recorder_proto::time;

use super::Result;
use crate::directives::command;
use crate::domain::template::resume_window;
use crate::feed;
use crate::usage;

/// Running recordings of one stream that are looked at: a stream has one per template.
const LOOKED_AT: i64 = 32;

/// States in which a recording is not over.
pub(crate) const RUNNING: [i32; 3] = [State::Starting as i32, State::Recording as i32, State::Interrupted as i32];

/// What a claim can go on with: the same stream, under the same conditions.
pub(super) struct Wanted<'a> {
    pub(super) stream: &'a StreamKey,
    pub(super) origin: &'a Origin,
    pub(super) template: &'a str,
    pub(super) template_revision: u32,
    pub(super) storage: &'a str,
}

/// A recording that waits.
pub(super) struct Waiting {
    pub(super) row: Row,
    body: v1::Recording,
    /// When the media stopped, as far as is known.
    since: DateTime<Utc>,
    reason: Reason,
}

/// The newest recording that waits for this stream. Another revision of the template, or another storage, is another
/// recording: its playlist could not go on as it began.
pub(super) fn waiting(db: &mut AnyConnection, wanted: &Wanted<'_>, now: DateTime<Utc>) -> Result<Option<Waiting>> {
    let filter = Filter {
        domain: Some(wanted.stream.domain().to_owned()),
        app: Some(wanted.stream.app().to_owned()),
        stream: Some(wanted.stream.stream().to_owned()),
        states: RUNNING.to_vec(),
        template: Some(wanted.template.to_owned()),
        storage: Some(wanted.storage.to_owned()),
        ..Filter::default()
    };
    for row in recordings::page(db, &filter, &Page { before: None, limit: LOOKED_AT })? {
        let body = row.recording()?;
        if body.origin.as_ref() != Some(wanted.origin) || body.template_revision != wanted.template_revision {
            continue;
        }
        // Somebody wants it to end, only its node has not heard.
        if directives::get(db, &command::stop_name(&row.id))?.is_some() {
            continue;
        }
        if let Some((since, reason)) =
            pause(db, &row, &body, now)?.filter(|pause| pause.deadline > now).map(|pause| (pause.since, pause.reason))
        {
            return Ok(Some(Waiting { row, body, since, reason }));
        }
    }
    Ok(None)
}

/// Why a running recording gets no media now, and until when it waits for more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pause {
    /// The last sign of life.
    pub(crate) since: DateTime<Utc>,
    /// The end of the wait.
    pub(crate) deadline: DateTime<Utc>,
    /// What the hole is to be called.
    pub(crate) reason: Reason,
}

/// The pause that a running recording is in, as far as the control plane knows; None while media comes.
pub(crate) fn pause(
    db: &mut AnyConnection,
    row: &Row,
    body: &v1::Recording,
    now: DateTime<Utc>,
) -> Result<Option<Pause>> {
    let at = |wire: &Option<prost_types::Timestamp>| wire.as_ref().and_then(time::datetime);
    if row.state == State::Interrupted as i32 {
        let deadline = at(&body.resume_deadline).unwrap_or_default();
        let since = at(&body.end_time).unwrap_or(deadline);
        return Ok(Some(Pause { since, deadline, reason: Reason::PublisherLost }));
    }
    let Some((since, reason)) = silent_since(db, row, now)? else { return Ok(None) };
    let window = TimeDelta::from_std(window(db, body)?).unwrap_or(TimeDelta::MAX);
    let deadline = since.checked_add_signed(window).unwrap_or(DateTime::<Utc>::MAX_UTC);
    Ok(Some(Pause { since, deadline, reason }))
}

/// When the node of a recording, or the session that feeds it, was last known alive; None while both are.
fn silent_since(db: &mut AnyConnection, row: &Row, now: DateTime<Utc>) -> Result<Option<(DateTime<Utc>, Reason)>> {
    let gone = match nodes::get(db, &row.node)? {
        None => Some(row.update_time),
        Some(node) => {
            let lease = super::node::state(&node).lease_until();
            lease.is_none_or(|lease| lease <= now).then_some(node.lease_until)
        }
    };
    let left = match row.session.as_str() {
        "" => None,
        session => streams::get(db, session)?.and_then(|stream| stream.end_time),
    };
    // Whoever left first took the media along: a session cannot outlive its node.
    Ok(match (left, gone) {
        (Some(left), Some(gone)) if gone < left => Some((time::from_micros(gone), Reason::NodeCrashed)),
        (Some(left), _) => Some((time::from_micros(left), Reason::PublisherLost)),
        (None, Some(gone)) => Some((time::from_micros(gone), Reason::NodeCrashed)),
        (None, None) => None,
    })
}

/// How long a recording waits; a template that is gone waits for nobody.
pub(crate) fn window(db: &mut AnyConnection, body: &v1::Recording) -> Result<Duration> {
    let id = body.template.strip_prefix("templates/").unwrap_or(&body.template);
    let revision = templates::revision(db, id, i64::from(body.template_revision))?;
    let template = revision.map(|revision| revision.template()).transpose()?;
    Ok(template.as_ref().map(resume_window).unwrap_or_default())
}

/// Gives a waiting recording to a node, under the next epoch.
pub(super) fn take_over(
    db: &mut AnyConnection,
    waiting: Waiting,
    node: &str,
    session: &str,
    now: DateTime<Utc>,
) -> Result<ClaimRecordingResponse> {
    let Waiting { mut row, mut body, since, reason } = waiting;
    let files = files::of_recording(db, &row.id)?;
    row.inherited = Some(body.encode_to_vec());
    row.epoch = row.epoch.saturating_add(1);
    node.clone_into(&mut row.node);
    session.clone_into(&mut row.session);
    body.epoch = u64::try_from(row.epoch).unwrap_or_default();
    body.node = format!("nodes/{node}");
    body.set_state(State::Recording);
    body.end_time = None;
    body.resume_deadline = None;
    body.update_time = Some(time::timestamp(now));
    row.state = body.state;
    row.update_time = time::micros(now);
    row.body = body.encode_to_vec();
    recordings::update(db, &row)?;
    usage::ledger::recording(db, &row, &body, now)?;
    feed::recording(db, feed::Stamp::fresh(now), feed::RECORDING_UPDATED, &body)?;
    Ok(ClaimRecordingResponse {
        recording: format!("recordings/{}", row.id),
        epoch: body.epoch,
        resumed: true,
        next_file_index: next_file_index(&files),
        resume_state: Some(to_struct(&state(&files, &body, since, reason))),
        first_of_task: false,
    })
}

/// Playlists go on; any other file of the new epoch comes after those of the earlier ones.
fn next_file_index(files: &[files::Row]) -> u32 {
    let hls = v1::format::Kind::Hls as i32;
    let single = files.iter().filter(|file| file.format != hls);
    let next = single.map(|file| file.file_index.saturating_add(1)).max().unwrap_or(0);
    u32::try_from(next).unwrap_or(u32::MAX)
}

/// What the earlier epochs left, for the one that takes over.
///
/// `start_time` is that of the first epoch: limits such as `max_duration` count from there.
fn state(files: &[files::Row], body: &v1::Recording, since: DateTime<Utc>, reason: Reason) -> serde_json::Value {
    // A playlist that was set aside is not the one that goes on.
    let aside = |row: &files::Row| {
        row.format == v1::format::Kind::Hls as i32 && row.epoch_index.is_some_and(|called| called != row.file_index)
    };
    let file = |row: &files::Row| {
        let format = v1::format::Kind::try_from(row.format).ok().and_then(|kind| Format::try_from(kind).ok())?;
        Some(serde_json::json!({
            "format": format.as_str(),
            "index": row.file_index,
            "object_key": row.object_key.as_deref().unwrap_or_default(),
            "epoch": row.epoch,
        }))
    };
    let text = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let start = body.start_time.as_ref().and_then(time::datetime);
    serde_json::json!({
        "files": files.iter().filter(|row| !aside(row)).filter_map(file).collect::<Vec<_>>(),
        "start_time": start.map(text),
        "since": text(since),
        "reason": reason.as_str_name(),
    })
}
