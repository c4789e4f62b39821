//! Facts about files: opened, in the bucket, failed; each settles its recording a little more.
use prost::Message;
use recorder_db::files::{self, Position, Row};
use recorder_db::storages;
use recorder_proto::facts::{FileAvailable, FileFailed, FileOpened};
use recorder_proto::format::Format;
use recorder_proto::ids::FileIndex;
use recorder_proto::names::{FileName, StorageName};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::file::State;
use recorder_proto::{Problem, time};
use tonic::Code;

use super::recording::{self, Held};
use super::{Entry, Trouble};
use crate::domain::Cause;
use crate::domain::file::{Fact, File};
use crate::feed::{self, Stamp};

/// A file was begun; the one before it in its format is closed by that.
pub(super) fn opened(entry: &mut Entry<'_>, told: &FileOpened) -> Result<(), Trouble> {
    let (id, mut held) = recording::known(entry)?;
    let at = position(told.format, told.index);
    if files::get(entry.db, &held.row.id, at)?.is_some() {
        let name = FileName { recording: id, format: told.format, index: told.index };
        return Err(Problem::exists("file", &name.to_string()).into());
    }
    check_key(entry, &held.row.id, at, &told.object_key)?;
    let file = told.to_pb(id, entry.fact.epoch);
    close(entry, &held.body, &held.row.id, |row| row.format == at.format && row.file_index < at.file_index)?;
    let row = row(entry, &held, at, &told.storage, &file);
    files::insert(entry.db, &row)?;
    let output = output(&mut held, at.format);
    output.files = output.files.max(told.index.get().saturating_add(1));
    finish(entry, held, "file.opened", &file)
}

/// A file is in its storage, which thereby proves to work.
pub(super) fn available(entry: &mut Entry<'_>, told: &FileAvailable) -> Result<(), Trouble> {
    let (id, mut held) = recording::known(entry)?;
    let at = position(told.format, told.index);
    let known = files::get(entry.db, &held.row.id, at)?;
    let before = known.as_ref().map(Row::file).transpose()?;
    before.as_ref().map_or(File::Open, state).apply(&Fact::Available { at: told.available_time })?;
    check_key(entry, &held.row.id, at, &told.object_key)?;
    let thumbnail_uri = before.map(|file| file.thumbnail_uri).unwrap_or_default();
    let file = v1::File { thumbnail_uri, ..told.to_pb(id, entry.fact.epoch) };
    put(entry, &held, known, at, &told.storage, &file)?;
    let output = output(&mut held, at.format);
    output.files = output.files.max(told.index.get().saturating_add(1));
    output.bytes_uploaded = output.bytes_uploaded.saturating_add(told.size_bytes);
    storages::set_health(entry.db, told.storage.id(), None, time::micros(told.available_time))?;
    finish(entry, held, "file.available", &file)
}

/// A file could not be stored.
pub(super) fn failed(entry: &mut Entry<'_>, told: &FileFailed) -> Result<(), Trouble> {
    let (id, mut held) = recording::known(entry)?;
    let at = position(told.format, told.index);
    let known = files::get(entry.db, &held.row.id, at)?;
    let before = known.as_ref().map(Row::file).transpose()?;
    before.as_ref().map_or(File::Open, state).apply(&Fact::Failed(told.error.clone()))?;
    check_key(entry, &held.row.id, at, &told.object_key)?;
    let alone = told.to_pb(id, entry.fact.epoch);
    let file = match before {
        Some(before) => v1::File { state: alone.state, error: alone.error, ..before },
        None => alone,
    };
    put(entry, &held, known, at, &told.storage, &file)?;
    let output = output(&mut held, at.format);
    output.files = output.files.max(told.index.get().saturating_add(1));
    finish(entry, held, "file.failed", &file)
}

/// Something happened to a file that changes no state, such as a stalled upload.
pub(super) fn noted(entry: &mut Entry<'_>, format: Format, index: FileIndex) -> Result<(), Trouble> {
    let (id, held) = recording::known(entry)?;
    let name = FileName { recording: id, format, index };
    let row = files::get(entry.db, &held.row.id, position(format, index))?;
    let file = row.ok_or_else(|| Problem::not_found("file", &name.to_string()))?.file()?;
    let kind = entry.fact.kind.event_type();
    let stamp = entry.stamp();
    Ok(feed::file(entry.db, stamp, kind, &held.body, &file)?)
}

/// Every open file of a recording that has ended is on its way now.
pub(super) fn close_all(entry: &mut Entry<'_>, recording: &v1::Recording, id: &str) -> Result<(), Trouble> {
    close(entry, recording, id, |_| true)
}

fn close(
    entry: &mut Entry<'_>,
    recording: &v1::Recording,
    id: &str,
    which: impl Fn(&Row) -> bool,
) -> Result<(), Trouble> {
    let open = State::Open as i32;
    for mut row in files::of_recording(entry.db, id)?.into_iter().filter(|row| row.state == open && which(row)) {
        let mut file = row.file()?;
        state(&file).apply(&Fact::Closed)?;
        file.set_state(State::Uploading);
        row.state = file.state;
        row.update_time = time::micros(entry.now);
        row.body = file.encode_to_vec();
        files::update(entry.db, &row)?;
        feed::file(entry.db, Stamp::fresh(entry.fact.time), feed::FILE_UPDATED, recording, &file)?;
    }
    Ok(())
}

/// Two files must never share an object; the database would refuse the second anyway, but not as a refusal of one fact.
fn check_key(entry: &mut Entry<'_>, recording: &str, at: Position, key: &str) -> Result<(), Trouble> {
    if key.is_empty() {
        return Ok(());
    }
    match files::by_object_key(entry.db, key)? {
        Some(row) if row.recording != recording || row.format != at.format || row.file_index != at.file_index => {
            let message = format!("a file of recordings/{} has this object key already", row.recording);
            Err(Problem::new(Code::AlreadyExists, "OBJECT_KEY_EXISTS", message).into())
        }
        _ => Ok(()),
    }
}

fn put(
    entry: &mut Entry<'_>,
    held: &Held,
    known: Option<Row>,
    at: Position,
    storage: &StorageName,
    file: &v1::File,
) -> Result<(), Trouble> {
    let fresh = row(entry, held, at, storage, file);
    match known {
        Some(before) => files::update(entry.db, &Row { rev: before.rev, ..fresh })?,
        None => files::insert(entry.db, &fresh)?,
    }
    Ok(())
}

fn row(entry: &Entry<'_>, held: &Held, at: Position, storage: &StorageName, file: &v1::File) -> Row {
    Row {
        recording: held.row.id.clone(),
        format: at.format,
        file_index: at.file_index,
        epoch: held.row.epoch,
        storage: storage.id().to_owned(),
        object_key: Some(file.object_key.clone()).filter(|key| !key.is_empty()),
        state: file.state,
        rev: 1,
        update_time: time::micros(entry.now),
        body: file.encode_to_vec(),
    }
}

/// Writes the recording, tells of the file, and lets the recording settle.
fn finish(entry: &mut Entry<'_>, mut held: Held, kind: &str, file: &v1::File) -> Result<(), Trouble> {
    recording::write(entry, &mut held)?;
    let stamp = entry.stamp();
    feed::file(entry.db, stamp, kind, &held.body, file)?;
    recording::settle(entry, &mut held)
}

fn output(held: &mut Held, format: i32) -> &mut v1::recording::Output {
    let outputs = &mut held.body.outputs;
    let index = outputs.iter().position(|output| output.format == format).unwrap_or(outputs.len());
    if index == outputs.len() {
        outputs.push(v1::recording::Output { format, ..v1::recording::Output::default() });
    }
    #[allow(clippy::indexing_slicing, reason = "the index was found, or is that of the element just pushed")]
    &mut outputs[index]
}

fn state(file: &v1::File) -> File {
    let cause = || file.error.as_ref().map(|error| Cause::from(&Problem::from(error)));
    match file.state() {
        State::Open | State::Unspecified => File::Open,
        State::Uploading => File::Uploading,
        State::Available => {
            File::Available { at: file.available_time.as_ref().and_then(time::datetime).unwrap_or_default() }
        }
        State::Failed => File::Failed(
            cause().unwrap_or_else(|| crate::domain::cause(Code::Unknown, "UNKNOWN", "no reason was given")),
        ),
        State::Lost => File::Lost,
        State::Deleted => File::Deleted,
    }
}

fn position(format: Format, index: FileIndex) -> Position {
    Position { format: v1::format::Kind::from(format) as i32, file_index: i64::from(index.get()) }
}
