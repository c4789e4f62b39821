//! What was deleted through the API, and what nodes still tell of it.
use chrono::{DateTime, Utc};
use recorder_db::{AnyConnection, files, recordings};
use recorder_proto::facts::{Fact, FactKind};
use recorder_proto::pb::v1;
use recorder_proto::{Problem, time};

use super::held::Held;
use super::{Scribe, file, settle};
use crate::deletion::{self, Late};
use crate::feed;

/// A file's object was deleted. One that was not in its storage is left as it is.
///
/// # Errors
/// When the database fails.
pub(crate) fn delete_file(
    db: &mut AnyConnection,
    recording: recordings::Row,
    row: files::Row,
    now: DateTime<Utc>,
) -> Result<(), Problem> {
    if row.state != v1::file::State::Available as i32 {
        return Ok(());
    }
    let mut scribe = Scribe { db, now, at: now, id: None };
    let held = Held { body: recording.recording()?, row: recording };
    let mut deleted = row.file()?;
    deleted.set_state(v1::file::State::Deleted);
    Ok(file::change(&mut scribe, &held, row, &deleted, feed::FILE_DELETED)?)
}

/// Whether a recording has ended and all its files are settled.
///
/// # Errors
/// When the row cannot be read.
pub(crate) fn is_over(row: &recordings::Row) -> Result<bool, Problem> {
    Ok(settle::state(&row.recording()?).is_terminal())
}

/// Whether nobody who knows has said that a recording is over.
///
/// # Errors
/// When the row cannot be read.
pub(crate) fn is_presumed(row: &recordings::Row) -> Result<bool, Problem> {
    Ok(settle::state(&row.recording()?).end().is_some_and(|end| end.is_presumed()))
}

/// A fact about a recording that is not known: when it was deleted with its objects, whatever the fact tells of goes too.
///
/// # Errors
/// When the database fails.
pub(super) fn heard_of(db: &mut AnyConnection, fact: &Fact, now: DateTime<Utc>) -> recorder_db::Result<()> {
    let Some(recording) = fact.recording.map(|id| id.to_string()) else { return Ok(()) };
    let object = match &fact.kind {
        FactKind::FileAvailable(told) => {
            Late { storage: told.storage.id(), object_key: &told.object_key, format: Some(told.format) }
        }
        FactKind::FileFailed(told) => {
            Late { storage: told.storage.id(), object_key: &told.object_key, format: Some(told.format) }
        }
        FactKind::RecordingManifest(told) => {
            Late { storage: told.storage.id(), object_key: &told.object_key, format: None }
        }
        _ => return Ok(()),
    };
    let object = Some(object).filter(|object| !object.object_key.is_empty());
    if deletion::late(db, &recording, object, time::micros(now))? {
        tracing::info!(recording, kind = fact.kind.event_type(), "a node brings more of a deleted recording");
    }
    Ok(())
}

/// Whether a recording was deleted: nothing makes it anew.
///
/// # Errors
/// When the database fails.
pub(super) fn is_deleted(db: &mut AnyConnection, recording: &str) -> recorder_db::Result<bool> {
    Ok(recorder_db::deletions::get(db, recording)?.is_some() && recordings::get(db, recording)?.is_none())
}
