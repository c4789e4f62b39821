//! Recordings that somebody wants gone, and the objects that still have to go with them.
use diesel::prelude::*;

use crate::schema::{deletion_objects, deletions};
use crate::{AnyConnection, Result};

/// A single object.
pub const SINGLE: i32 = 0;
/// A playlist, which goes after its segments.
pub const PLAYLIST: i32 = 1;
/// The manifest, which knows the others and goes last.
pub const MANIFEST: i32 = 2;

/// A deletion; kept when it is done, since nodes may bring more of the recording later.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = deletions, treat_none_as_default_value = false)]
pub struct Row {
    /// Id of the recording.
    pub recording: String,
    /// Its objects go as well.
    pub objects: bool,
    /// Times it was tried in vain.
    pub attempts: i64,
    /// When to go on, in microseconds; None: nothing is left.
    pub next_time: Option<i64>,
    /// A `google.rpc.Status`: why the last attempt failed.
    pub last_error: Option<Vec<u8>>,
    /// When it was asked for.
    pub request_time: i64,
}

/// An object that is still to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = deletion_objects, treat_none_as_default_value = false)]
pub struct Object {
    /// Id of the recording.
    pub recording: String,
    /// Storage id.
    pub storage: String,
    /// Key within the bucket.
    pub object_key: String,
    /// [`SINGLE`], [`PLAYLIST`] or [`MANIFEST`].
    pub kind: i32,
}

/// The deletion of a recording.
pub fn get(connection: &mut AnyConnection, recording: &str) -> Result<Option<Row>> {
    Ok(deletions::table.find(recording).first(connection).optional()?)
}

/// Notes that a recording is to go.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(deletions::table).values(row).execute(connection)?;
    Ok(())
}

/// Recordings whose deletion is to go on at `now`, those that wait longest first.
pub fn due(connection: &mut AnyConnection, now: i64, limit: i64) -> Result<Vec<String>> {
    Ok(deletions::table
        .filter(deletions::next_time.le(now))
        .order(deletions::next_time.asc())
        .select(deletions::recording)
        .limit(limit)
        .load(connection)?)
}

/// Sets when to go on; None: nothing is left.
pub fn postpone(connection: &mut AnyConnection, recording: &str, until: Option<i64>) -> Result<()> {
    diesel::update(deletions::table.find(recording)).set(deletions::next_time.eq(until)).execute(connection)?;
    Ok(())
}

/// Notes that an attempt failed, why, and when to go on.
pub fn failed(connection: &mut AnyConnection, recording: &str, error: &[u8], next_time: i64) -> Result<()> {
    diesel::update(deletions::table.find(recording))
        .set((
            deletions::attempts.eq(deletions::attempts + 1),
            deletions::last_error.eq(Some(error)),
            deletions::next_time.eq(Some(next_time)),
        ))
        .execute(connection)?;
    Ok(())
}

/// Takes a deletion back, with what is left of it.
pub fn cancel(connection: &mut AnyConnection, recording: &str) -> Result<()> {
    diesel::delete(deletions::table.find(recording)).execute(connection)?;
    Ok(())
}

/// Adds an object; one that is there already stays.
pub fn add_object(connection: &mut AnyConnection, object: &Object) -> Result<()> {
    let key = (&object.recording, &object.storage, &object.object_key);
    let known: i64 = deletion_objects::table.find(key).count().get_result(connection)?;
    if known == 0 {
        diesel::insert_into(deletion_objects::table).values(object).execute(connection)?;
    }
    Ok(())
}

/// What is still to be deleted of a recording, in the order in which it goes.
pub fn objects(connection: &mut AnyConnection, recording: &str) -> Result<Vec<Object>> {
    Ok(deletion_objects::table
        .filter(deletion_objects::recording.eq(recording))
        .order((deletion_objects::kind.asc(), deletion_objects::object_key.asc()))
        .load(connection)?)
}

/// An object is gone.
pub fn remove_object(connection: &mut AnyConnection, object: &Object) -> Result<()> {
    let key = (&object.recording, &object.storage, &object.object_key);
    diesel::delete(deletion_objects::table.find(key)).execute(connection)?;
    Ok(())
}

/// Recordings of which objects are still to be deleted from a storage.
pub fn waiting_for(connection: &mut AnyConnection, storage: &str, limit: i64) -> Result<Vec<String>> {
    Ok(deletion_objects::table
        .filter(deletion_objects::storage.eq(storage))
        .select(deletion_objects::recording)
        .distinct()
        .order(deletion_objects::recording.desc())
        .limit(limit)
        .load(connection)?)
}
