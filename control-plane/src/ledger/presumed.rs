//! What is written down without having been told: the end of recordings that nobody reports on any more, and files whose
//! node was given up. Whatever their node tells later outweighs it.
use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::recordings::{self, Filter, Row};
use recorder_db::{AnyConnection, Page, files};
use recorder_proto::facts::{RecordingStarted, event_type as kind};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::{EndReason, State};
use recorder_proto::{Problem, time};
use tonic::Code;

use super::held::Held;
use super::{Entry, Scribe, Trouble, file, settle};
use crate::domain::cause;
use crate::domain::recording::{End, Fact};
use crate::feed;

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

/// Ends a recording that nobody reports on any more. Its files stay as they are: their node may still have them.
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
    settle::advance(&mut scribe, &mut held, &Fact::Ended(End::presumed(at, why)))?;
    Ok(settle::settle(&mut scribe, &mut held)?)
}

/// The node that held a file is given up, and the file with it.
///
/// # Errors
/// When the database fails.
pub(crate) fn lose_file(
    db: &mut AnyConnection,
    recording: Row,
    mut row: files::Row,
    node: &str,
    now: DateTime<Utc>,
) -> Result<(), Problem> {
    let mut held = Held { body: recording.recording()?, row: recording };
    let mut scribe = Scribe { db, now, at: now, id: None };
    let mut lost = row.file()?;
    lost.set_state(v1::file::State::Lost);
    let why = format!("nodes/{node} was forgotten before the file was in its storage");
    lost.error = Some((&cause(Code::DataLoss, "NODE_FORGOTTEN", &why)).into());
    row.state = lost.state;
    row.update_time = time::micros(now);
    row.body = lost.encode_to_vec();
    files::update(scribe.db, &row)?;
    let stamp = scribe.stamp();
    feed::file(scribe.db, stamp, kind::FILE_LOST, &held.body, &lost)?;
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
