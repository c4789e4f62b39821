//! What is written down without having been told: the end of recordings that nobody reports on any more, and files whose
//! node was given up. Whatever their node tells later outweighs it.
use chrono::{DateTime, Utc};
use recorder_db::recordings::{self, Filter, Row};
use recorder_db::{AnyConnection, Page, directives, files};
use recorder_proto::facts::{RecordingStarted, event_type as kind};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::{EndReason, State};
use recorder_proto::{Problem, time};
use tonic::Code;

use super::held::Held;
use super::{Entry, Scribe, Trouble, file, settle};
use crate::directives::{changelog, command};
use crate::domain::cause;
use crate::domain::recording::{End, Fact};

/// Recordings that one session can have been granted for one template: one, but for a storm of lost answers.
const DECLINED: i64 = 16;

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(problem) => *problem,
            Trouble::Database(error) => error.into(),
        }
    }
}

/// Ends a recording that nobody reports on any more. Its files stay as they are: their node may still have them. A stop
/// that the node never heard of is kept as the reason, not as a directive for ever.
///
/// # Errors
/// When the database fails, or the recording is over.
pub(crate) fn presume_ended(
    db: &mut AnyConnection,
    row: Row,
    at: DateTime<Utc>,
    why: &str,
    now: DateTime<Utc>,
) -> Result<(), Problem> {
    let body = row.recording()?;
    let mut scribe = Scribe { db, now, at: now, id: None };
    let mut held = Held { row, body };
    let stop = command::stop_name(&held.row.id);
    let end = match directives::get(scribe.db, &stop)? {
        Some(_) => End::presumed_stopped(at, why),
        None => End::presumed(at, why),
    };
    settle::advance(&mut scribe, &mut held, &Fact::Ended(end))?;
    changelog::remove(scribe.db, &stop, now)?;
    Ok(settle::settle(&mut scribe, &mut held)?)
}

/// Takes back an end that was only presumed: the node of the recording still records it. Whether it was.
///
/// # Errors
/// When the database fails.
pub(crate) fn revive(db: &mut AnyConnection, row: &Row, now: DateTime<Utc>) -> Result<bool, Problem> {
    let mut held = Held { body: row.recording()?, row: row.clone() };
    let mut scribe = Scribe { db, now, at: now, id: None };
    Ok(go_on(&mut scribe, &mut held)?)
}

/// [`revive`] while a fact is applied. Whoever wanted the recording to end is heard now.
pub(super) fn go_on(scribe: &mut Scribe<'_>, held: &mut Held) -> Result<bool, Trouble> {
    let Some(end) = settle::state(&held.body).end().filter(|end| end.is_presumed()).cloned() else {
        return Ok(false);
    };
    // The fact keeps its id for the event that it is itself.
    let id = scribe.id.take();
    let gone_on = settle::advance(scribe, held, &Fact::Resumed);
    scribe.id = id;
    gone_on?;
    tracing::info!(recording = held.row.id, "its node records it after all");
    if end.reason == EndReason::Stopped {
        let epoch = u64::try_from(held.row.epoch).unwrap_or_default();
        changelog::put(scribe.db, &command::stop(&held.row.id, epoch), scribe.now)?;
    }
    Ok(true)
}

/// The node that held a file is given up, and the file with it.
///
/// # Errors
/// When the database fails.
pub(crate) fn lose_file(
    db: &mut AnyConnection,
    recording: Row,
    row: files::Row,
    node: &str,
    now: DateTime<Utc>,
) -> Result<(), Problem> {
    let mut held = Held { body: recording.recording()?, row: recording };
    let mut scribe = Scribe { db, now, at: now, id: None };
    let mut lost = row.file()?;
    lost.set_state(v1::file::State::Lost);
    let why = format!("nodes/{node} was forgotten before the file was in its storage");
    lost.error = Some((&cause(Code::DataLoss, "NODE_FORGOTTEN", &why)).into());
    file::change(&mut scribe, &held, row, &lost, kind::FILE_LOST)?;
    Ok(settle::settle(&mut scribe, &mut held)?)
}

/// A session that was granted a takeover begins a recording of its own instead: the answer was lost on its way, or came
/// too late. What was granted has nobody to go on with it, and ends as it stood before.
pub(super) fn decline(entry: &mut Entry<'_>, began: &RecordingStarted, id: &str) -> Result<(), Trouble> {
    let filter = Filter {
        session: Some(began.session.to_string()),
        template: Some(began.template.id().to_owned()),
        node: Some(entry.node.id().to_owned()),
        states: vec![State::Recording as i32],
        ..Filter::default()
    };
    let rows = recordings::page(entry.scribe.db, &filter, &Page { before: None, limit: DECLINED })?;
    for row in rows.into_iter().filter(|row| row.id != id && row.inherited.is_some()) {
        let (before, body) = (row.inherited()?, row.recording()?);
        let files = files::of_recording(entry.scribe.db, &row.id)?;
        // One that went on ends by a fact of its own.
        if body.gaps != before.gaps || files.iter().any(|file| file.epoch == row.epoch) {
            continue;
        }
        let since = before.end_time.as_ref().and_then(time::datetime);
        let end = match since.filter(|_| before.state() == State::Interrupted) {
            Some(at) => End { reason: EndReason::ResumeTimeout, at, cause: None },
            None => End::presumed(time::from_micros(row.update_time), "its publisher came back to another recording"),
        };
        let mut held = Held { body, row };
        settle::advance(&mut entry.scribe, &mut held, &Fact::Ended(end))?;
        file::close_all(&mut entry.scribe, &held)?;
        settle::settle(&mut entry.scribe, &mut held)?;
    }
    Ok(())
}
