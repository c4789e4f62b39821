//! Facts about files: opened, in the bucket, failed; each settles its recording a little more.
//!
//! A node calls its files by index. Two epochs that did not know of each other may have used the same; the later one to
//! be told of is shown under the next free index then. An HLS playlist is one file through all epochs: a newer epoch
//! continues it, and an older one has no say in it from then on. Only what an older one has in the bucket is a file of its
//! own beside it: the newer playlist may not name all of that media.
use prost::Message;
use recorder_db::files::{self, Position, Row};
use recorder_db::storages;
use recorder_proto::facts::{FileAvailable, FileFailed, FileOpened, event_type as kind};
use recorder_proto::format::Format;
use recorder_proto::ids::{FileIndex, RecordingId};
use recorder_proto::names::{FileName, StorageName};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::file::State;
use recorder_proto::{Problem, time};
use tonic::Code;

use super::held::{self, Held};
use super::settle::{settle, write};
use super::{Entry, Scribe, Trouble, presumed};
use crate::domain::Cause;
use crate::domain::file::{Fact, File};
use crate::feed::{self, Stamp};
use crate::usage;

/// Where a file that a fact speaks of belongs.
struct Place {
    at: Position,
    /// The index that its node calls it by.
    called: i64,
    known: Option<Row>,
}

/// A file was begun; the one before it in its format is closed by that.
pub(super) fn opened(entry: &mut Entry<'_>, told: &FileOpened) -> Result<(), Trouble> {
    let (id, mut held) = held::of_any_epoch(entry)?;
    let place = place(entry, &held, told.format, told.index)?;
    let mut file = named(told.to_pb(id, entry.fact.epoch), id, told.format, &place);
    if let Some(known) = &place.known {
        if known.epoch == held::told(entry) {
            return repeated(known, &told.object_key, &file.name);
        }
        continued(&mut file, &known.file()?);
    }
    check_key(entry, &held.row.id, place.at, &told.object_key)?;
    let epoch = held::told(entry);
    if epoch == held.row.epoch {
        // Whoever opens a file records.
        presumed::go_on(&mut entry.scribe, &mut held)?;
    }
    let earlier =
        |row: &Row| row.format == place.at.format && row.file_index < place.at.file_index && row.epoch == epoch;
    close(&mut entry.scribe, &held, earlier)?;
    put(entry, &held, &place, &told.storage, &file)?;
    let output = output(&mut held, place.at.format);
    output.files = output.files.max(count(&place));
    keep_apart(entry, id, &mut held, &place)?;
    finish(entry, held, "file.opened", &file)
}

/// A file is in its storage, which thereby proves to work.
pub(super) fn available(entry: &mut Entry<'_>, told: &FileAvailable) -> Result<(), Trouble> {
    let (id, mut held) = held::of_any_epoch(entry)?;
    let place = place_of_stored(entry, &held, told.format, told.index)?;
    let before = place.known.as_ref().map(Row::file).transpose()?;
    before.as_ref().map_or(File::Open, state).apply(&Fact::Available { at: told.available_time })?;
    check_key(entry, &held.row.id, place.at, &told.object_key)?;
    let mut file = named(told.to_pb(id, entry.fact.epoch), id, told.format, &place);
    let counted =
        before.as_ref().is_some_and(|before| before.state() == State::Available && before.epoch == file.epoch);
    if let Some(before) = before {
        file.thumbnail_uri.clone_from(&before.thumbnail_uri);
        continued(&mut file, &before);
        let same = v1::File { available_time: file.available_time, ..before };
        if counted && same == file {
            return Ok(());
        }
    }
    put(entry, &held, &place, &told.storage, &file)?;
    let output = output(&mut held, place.at.format);
    output.files = output.files.max(count(&place));
    if !counted {
        output.bytes_uploaded = output.bytes_uploaded.saturating_add(told.size_bytes);
    }
    keep_apart(entry, id, &mut held, &place)?;
    storages::set_health(entry.scribe.db, told.storage.id(), None, time::micros(told.available_time))?;
    finish(entry, held, "file.available", &file)
}

/// A file could not be stored.
pub(super) fn failed(entry: &mut Entry<'_>, told: &FileFailed) -> Result<(), Trouble> {
    let (id, mut held) = held::of_any_epoch(entry)?;
    let place = place(entry, &held, told.format, told.index)?;
    let before = place.known.as_ref().map(Row::file).transpose()?;
    before.as_ref().map_or(File::Open, state).apply(&Fact::Failed(told.error.clone()))?;
    check_key(entry, &held.row.id, place.at, &told.object_key)?;
    let alone = named(told.to_pb(id, entry.fact.epoch), id, told.format, &place);
    let file = match before {
        Some(before) => v1::File { state: alone.state, error: alone.error, bytes_kept: alone.bytes_kept, ..before },
        None => alone,
    };
    put(entry, &held, &place, &told.storage, &file)?;
    let output = output(&mut held, place.at.format);
    output.files = output.files.max(count(&place));
    finish(entry, held, "file.failed", &file)
}

/// Something happened to a file that changes no state, such as a stalled upload.
pub(super) fn noted(entry: &mut Entry<'_>, format: Format, index: FileIndex) -> Result<(), Trouble> {
    let (id, held) = held::of_any_epoch(entry)?;
    let place = place(entry, &held, format, index)?;
    let name = FileName { recording: id, format, index };
    let file = place.known.ok_or_else(|| Problem::not_found("file", &name.to_string()))?.file()?;
    let kind = entry.fact.kind.event_type();
    let stamp = entry.scribe.stamp();
    Ok(feed::file(entry.scribe.db, stamp, kind, &held.body, &file)?)
}

/// Every open file of a recording that has ended is on its way now.
pub(super) fn close_all(scribe: &mut Scribe<'_>, held: &Held) -> Result<(), Trouble> {
    close(scribe, held, |_| true)
}

fn close(scribe: &mut Scribe<'_>, held: &Held, which: impl Fn(&Row) -> bool) -> Result<(), Trouble> {
    let open = State::Open as i32;
    let rows = files::of_recording(scribe.db, &held.row.id)?;
    for row in rows.into_iter().filter(|row| row.state == open && which(row)) {
        let mut file = row.file()?;
        state(&file).apply(&Fact::Closed)?;
        file.set_state(State::Uploading);
        change(scribe, held, row, &file, feed::FILE_UPDATED)?;
    }
    Ok(())
}

/// Writes a file that is not what the fact is about, and tells of it.
pub(super) fn change(
    scribe: &mut Scribe<'_>,
    held: &Held,
    mut row: Row,
    file: &v1::File,
    kind: &str,
) -> Result<(), Trouble> {
    row.state = file.state;
    row.update_time = time::micros(scribe.now);
    row.body = file.encode_to_vec();
    files::update(scribe.db, &row)?;
    Ok(feed::file(scribe.db, Stamp::fresh(scribe.at), kind, &held.body, file)?)
}

/// The output has failed and says nothing more of the files of its epoch that are not in the storage. One that arrives
/// all the same is available then.
pub(super) fn give_up(scribe: &mut Scribe<'_>, held: &Held, format: Format, why: &Cause) -> Result<(), Trouble> {
    let of = v1::format::Kind::from(format) as i32;
    let rows = files::of_recording(scribe.db, &held.row.id)?;
    for row in rows.into_iter().filter(|row| row.format == of && row.epoch == held.row.epoch) {
        let mut file = row.file()?;
        if !state(&file).is_pending() {
            continue;
        }
        file.set_state(State::Failed);
        file.error = Some(why.into());
        change(scribe, held, row, &file, kind::FILE_FAILED)?;
    }
    Ok(())
}

/// [`place`] of a file that is in the storage. A playlist that a newer epoch has continued meanwhile is a file of its own:
/// the newer one may have been unable to read it, and names none of its segments then.
fn place_of_stored(entry: &mut Entry<'_>, held: &Held, format: Format, index: FileIndex) -> Result<Place, Trouble> {
    let called = i64::from(index.get());
    let at = Position { format: v1::format::Kind::from(format) as i32, file_index: called };
    let newer = files::get(entry.scribe.db, &held.row.id, at)?.is_some_and(|row| row.epoch > held::told(entry));
    if format != Format::Hls || !newer {
        return place(entry, held, format, index);
    }
    if let Some(row) = files::of_epoch(entry.scribe.db, &held.row.id, at, held::told(entry))? {
        return Ok(Place { at: Position { file_index: row.file_index, ..at }, called, known: Some(row) });
    }
    Ok(Place { at: next_free(entry, held, at)?, called, known: None })
}

/// A playlist of an earlier epoch that was in its storage before the newer epoch took its place: see [`place_of_stored`].
fn keep_apart(entry: &mut Entry<'_>, id: RecordingId, held: &mut Held, place: &Place) -> Result<(), Trouble> {
    let available = State::Available as i32;
    let earlier = |row: &&Row| row.epoch < held::told(entry) && row.state == available;
    let Some(known) = place.known.as_ref().filter(earlier) else { return Ok(()) };
    let apart = Place { at: next_free(entry, held, place.at)?, called: place.called, known: None };
    let file = named(known.file()?, id, Format::Hls, &apart);
    let row = Row {
        file_index: apart.at.file_index,
        rev: 1,
        update_time: time::micros(entry.scribe.now),
        body: file.encode_to_vec(),
        epoch_index: Some(known.epoch_index.unwrap_or(known.file_index)),
        ..known.clone()
    };
    files::insert(entry.scribe.db, &row)?;
    let output = output(held, place.at.format);
    output.files = output.files.max(count(&apart));
    Ok(feed::file(entry.scribe.db, Stamp::fresh(entry.scribe.at), kind::FILE_AVAILABLE, &held.body, &file)?)
}

/// The position after all files of the format.
fn next_free(entry: &mut Entry<'_>, held: &Held, at: Position) -> Result<Position, Trouble> {
    let last = files::last_index(entry.scribe.db, &held.row.id, at.format)?;
    Ok(Position { file_index: last.map_or(at.file_index, |last| last.saturating_add(1)), ..at })
}

/// The row of the file, or the place where it is to be.
fn place(entry: &mut Entry<'_>, held: &Held, format: Format, index: FileIndex) -> Result<Place, Trouble> {
    let called = i64::from(index.get());
    let at = Position { format: v1::format::Kind::from(format) as i32, file_index: called };
    let (db, id, epoch) = (&mut *entry.scribe.db, held.row.id.as_str(), i64::try_from(entry.fact.epoch.get()));
    let epoch = epoch.unwrap_or(i64::MAX);
    let there = files::get(db, id, at)?;
    if format == Format::Hls {
        return match there {
            Some(row) if row.epoch > epoch => Err(held::fenced(&held.row)),
            known => Ok(Place { at, called, known }),
        };
    }
    if let Some(row) = files::of_epoch(db, id, at, epoch)? {
        let at = Position { file_index: row.file_index, ..at };
        return Ok(Place { at, called, known: Some(row) });
    }
    let at = if there.is_some() { next_free(entry, held, at)? } else { at };
    Ok(Place { at, called, known: None })
}

/// The file under the name that it has here.
fn named(file: v1::File, recording: RecordingId, format: Format, place: &Place) -> v1::File {
    let index = FileIndex(u32::try_from(place.at.file_index).unwrap_or(u32::MAX));
    v1::File { name: FileName { recording, format, index }.to_string(), index: index.get(), ..file }
}

/// A file of an earlier epoch goes on: it began when that one began it.
fn continued(file: &mut v1::File, before: &v1::File) {
    let earlier = |one: &prost_types::Timestamp, other: &prost_types::Timestamp| {
        (one.seconds, one.nanos) < (other.seconds, other.nanos)
    };
    match (&before.start_time, &file.start_time) {
        (Some(began), Some(told)) if before.epoch < file.epoch && earlier(began, told) => {
            file.start_time = Some(*began)
        }
        _ => {}
    }
}

/// Told again, a file is the same; under another key it would be another.
fn repeated(known: &Row, key: &str, name: &str) -> Result<(), Trouble> {
    if known.object_key.as_deref().unwrap_or_default() == key {
        return Ok(());
    }
    Err(Problem::exists("file", name).into())
}

/// Files there are when this is the last.
fn count(place: &Place) -> u32 {
    u32::try_from(place.at.file_index).unwrap_or(u32::MAX).saturating_add(1)
}

/// Two files must never share an object; the database would refuse the second anyway, but not as a refusal of one fact.
fn check_key(entry: &mut Entry<'_>, recording: &str, at: Position, key: &str) -> Result<(), Trouble> {
    if key.is_empty() {
        return Ok(());
    }
    match files::by_object_key(entry.scribe.db, key)? {
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
    place: &Place,
    storage: &StorageName,
    file: &v1::File,
) -> Result<(), Trouble> {
    let row = Row {
        recording: held.row.id.clone(),
        format: place.at.format,
        file_index: place.at.file_index,
        epoch: held::told(entry),
        storage: storage.id().to_owned(),
        object_key: Some(file.object_key.clone()).filter(|key| !key.is_empty()),
        state: file.state,
        rev: place.known.as_ref().map_or(1, |known| known.rev),
        update_time: time::micros(entry.scribe.now),
        body: file.encode_to_vec(),
        epoch_index: Some(place.called),
    };
    match place.known {
        Some(_) => files::update(entry.scribe.db, &row)?,
        None => files::insert(entry.scribe.db, &row)?,
    }
    Ok(usage::ledger::file(entry.scribe.db, &held.row, (row.epoch, place.called), file)?)
}

/// Writes the recording, tells of the file, and lets the recording settle.
fn finish(entry: &mut Entry<'_>, mut held: Held, kind: &str, file: &v1::File) -> Result<(), Trouble> {
    write(&mut entry.scribe, &mut held)?;
    let stamp = entry.scribe.stamp();
    feed::file(entry.scribe.db, stamp, kind, &held.body, file)?;
    settle(&mut entry.scribe, &mut held)
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
