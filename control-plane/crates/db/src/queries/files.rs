//! Files of recordings. No two share an object key: the database refuses the second.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::changed;
use crate::schema::{claims, files, recordings};
use crate::{AnyConnection, Result};

/// A file. `body` is a [`v1::File`].
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = files, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    pub recording: String,
    /// [`v1::format::Kind`].
    pub format: i32,
    pub file_index: i64,
    pub epoch: i64,
    /// Storage id.
    pub storage: String,
    /// Key of the object, of the playlist for HLS; None while it is not known.
    pub object_key: Option<String>,
    /// [`v1::file::State`].
    pub state: i32,
    pub rev: i64,
    pub update_time: i64,
    pub body: Vec<u8>,
    /// The index that the node of `epoch` calls it by; None is `file_index`.
    pub epoch_index: Option<i64>,
}

/// Position in the order of a recording's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Position {
    pub format: i32,
    pub file_index: i64,
}

impl Row {
    /// The body, decoded.
    pub fn file(&self) -> Result<v1::File> {
        crate::error::decode("files", &self.body)
    }
}

/// One file by its key.
pub fn get(connection: &mut AnyConnection, recording: &str, at: Position) -> Result<Option<Row>> {
    Ok(files::table.find((recording, at.format, at.file_index)).first(connection).optional()?)
}

/// One file by the index that the node of an epoch calls it by.
pub fn of_epoch(connection: &mut AnyConnection, recording: &str, at: Position, epoch: i64) -> Result<Option<Row>> {
    let named = files::epoch_index.eq(at.file_index);
    let unnamed = files::epoch_index.is_null().and(files::file_index.eq(at.file_index));
    Ok(files::table
        .filter(files::recording.eq(recording.to_owned()))
        .filter(files::format.eq(at.format))
        .filter(files::epoch.eq(epoch))
        .filter(named.or(unnamed))
        .first(connection)
        .optional()?)
}

/// The highest index of a format; None when it has no file.
pub fn last_index(connection: &mut AnyConnection, recording: &str, format: i32) -> Result<Option<i64>> {
    Ok(files::table
        .filter(files::recording.eq(recording))
        .filter(files::format.eq(format))
        .select(files::file_index)
        .order(files::file_index.desc())
        .first(connection)
        .optional()?)
}

/// The file that holds an object key.
pub fn by_object_key(connection: &mut AnyConnection, object_key: &str) -> Result<Option<Row>> {
    Ok(files::table.filter(files::object_key.eq(object_key)).first(connection).optional()?)
}

/// Every file of a recording, by format and index.
pub fn of_recording(connection: &mut AnyConnection, recording: &str) -> Result<Vec<Row>> {
    Ok(files::table
        .filter(files::recording.eq(recording))
        .order((files::format.asc(), files::file_index.asc()))
        .load(connection)?)
}

/// A page of a recording's files by format and index, after a position; no formats is every format.
pub fn page(
    connection: &mut AnyConnection,
    recording: &str,
    formats: &[i32],
    after: Option<Position>,
    limit: i64,
) -> Result<Vec<Row>> {
    let mut query = files::table.filter(files::recording.eq(recording.to_owned())).into_boxed();
    if !formats.is_empty() {
        query = query.filter(files::format.eq_any(formats.to_vec()));
    }
    if let Some(after) = after {
        let later = files::format.eq(after.format).and(files::file_index.gt(after.file_index));
        query = query.filter(files::format.gt(after.format).or(later));
    }
    Ok(query.order((files::format.asc(), files::file_index.asc())).limit(limit).load(connection)?)
}

/// Files in one of these states ([`v1::file::State`]) of the epochs that a node wrote or writes, by name.
pub fn held_by(connection: &mut AnyConnection, node: &str, states: &[i32]) -> Result<Vec<Row>> {
    let taken_over = recordings::table.filter(recordings::node.ne(node)).select(recordings::id);
    let claimed: Vec<Row> = files::table
        .inner_join(claims::table.on(claims::recording.eq(files::recording).and(claims::epoch.eq(files::epoch))))
        .filter(claims::node.eq(node))
        .filter(files::recording.eq_any(taken_over))
        .filter(files::state.eq_any(states.to_vec()))
        .select(files::all_columns)
        .distinct()
        .load(connection)?;
    let own: Vec<Row> = files::table
        .inner_join(recordings::table.on(recordings::id.eq(files::recording)))
        .filter(recordings::node.eq(node))
        .filter(recordings::epoch.eq(files::epoch))
        .filter(files::state.eq_any(states.to_vec()))
        .select(files::all_columns)
        .load(connection)?;
    let mut held: Vec<Row> = claimed.into_iter().chain(own).collect();
    held.sort_by(|a, b| (&a.recording, a.format, a.file_index).cmp(&(&b.recording, b.format, b.file_index)));
    Ok(held)
}

/// Recordings that still have files in one of these states ([`v1::file::State`]) to be put into a storage.
pub fn recordings_waiting_for(
    connection: &mut AnyConnection,
    storage: &str,
    states: &[i32],
    limit: i64,
) -> Result<Vec<String>> {
    Ok(files::table
        .filter(files::storage.eq(storage))
        .filter(files::state.eq_any(states.to_vec()))
        .select(files::recording)
        .distinct()
        .order(files::recording.desc())
        .limit(limit)
        .load(connection)?)
}

/// Adds a file.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(files::table).values(row).execute(connection)?;
    Ok(())
}

/// Replaces what changes in a file's life, if the row still is at `row.rev`.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let target = files::table.find((&row.recording, row.format, row.file_index)).filter(files::rev.eq(row.rev));
    let rows = diesel::update(target)
        .set((
            files::rev.eq(row.rev + 1),
            files::epoch.eq(row.epoch),
            files::storage.eq(&row.storage),
            files::object_key.eq(row.object_key.as_deref()),
            files::state.eq(row.state),
            files::update_time.eq(row.update_time),
            files::body.eq(&row.body),
        ))
        .execute(connection)?;
    changed(rows)
}
