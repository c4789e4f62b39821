//! Storages and their sealed credentials.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::{Page, changed};
use crate::schema::{storage_credentials, storages};
use crate::{AnyConnection, Result};

/// A storage. `body` is a [`v1::Storage`] without secrets, state, times and etag.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = storages, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    pub id: String,
    pub uid: String,
    pub rev: i64,
    pub is_default: bool,
    pub backup: Option<String>,
    pub credential_version: i64,
    pub body: Vec<u8>,
    /// [`v1::storage::State`] as nodes see it; no part of the etag.
    pub state: i32,
    /// A prost-encoded google.rpc.Status.
    pub last_error: Option<Vec<u8>>,
    pub last_success_time: Option<i64>,
    pub create_time: i64,
    pub update_time: i64,
}

/// A sealed credential: a prost-encoded `recorder.node.v1.FetchCredentialResponse`.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = storage_credentials)]
#[allow(missing_docs)]
pub struct Credential {
    pub storage: String,
    pub version: i64,
    pub key_id: String,
    pub sealed: Vec<u8>,
}

impl Row {
    /// The body, decoded.
    pub fn storage(&self) -> Result<v1::Storage> {
        crate::error::decode("storages", &self.body)
    }
}

/// One storage by id.
pub fn get(connection: &mut AnyConnection, id: &str) -> Result<Option<Row>> {
    Ok(storages::table.find(id).first(connection).optional()?)
}

/// The default storage, if there is one.
pub fn default(connection: &mut AnyConnection) -> Result<Option<Row>> {
    Ok(storages::table.filter(storages::is_default.eq(true)).first(connection).optional()?)
}

/// Every storage, oldest first; for compiling directives.
pub fn all(connection: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(storages::table.order(storages::uid.asc()).load(connection)?)
}

/// How many there are.
pub fn count(connection: &mut AnyConnection) -> Result<i64> {
    Ok(storages::table.count().get_result(connection)?)
}

/// A page, newest first.
pub fn page(connection: &mut AnyConnection, page: &Page) -> Result<Vec<Row>> {
    let mut query = storages::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(storages::uid.lt(before.clone()));
    }
    Ok(query.order(storages::uid.desc()).limit(page.limit).load(connection)?)
}

/// The storages that fall back to this one.
pub fn backed_by(connection: &mut AnyConnection, id: &str) -> Result<Vec<String>> {
    Ok(storages::table.filter(storages::backup.eq(id)).order(storages::id).select(storages::id).load(connection)?)
}

/// Adds a storage.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(storages::table).values(row).execute(connection)?;
    Ok(())
}

/// Replaces what users set, if the row still is at `row.rev`; the row is at `row.rev + 1` then.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let rows = diesel::update(storages::table.find(&row.id).filter(storages::rev.eq(row.rev)))
        .set((
            storages::rev.eq(row.rev + 1),
            storages::is_default.eq(row.is_default),
            storages::backup.eq(row.backup.as_deref()),
            storages::credential_version.eq(row.credential_version),
            storages::body.eq(&row.body),
            storages::update_time.eq(row.update_time),
        ))
        .execute(connection)?;
    changed(rows)
}

/// Takes the default mark from whichever storage has it.
pub fn clear_default(connection: &mut AnyConnection) -> Result<()> {
    diesel::update(storages::table.filter(storages::is_default.eq(true)))
        .set((storages::is_default.eq(false), storages::rev.eq(storages::rev + 1)))
        .execute(connection)?;
    Ok(())
}

/// Records how the last use went, as nodes report it; `error` None is a success at `now`. False when there is no such
/// storage.
pub fn set_health(connection: &mut AnyConnection, id: &str, error: Option<&[u8]>, now: i64) -> Result<bool> {
    let target = storages::table.find(id);
    let rows = match error {
        None => diesel::update(target)
            .set((
                storages::state.eq(v1::storage::State::Active as i32),
                storages::last_error.eq(None::<Vec<u8>>),
                storages::last_success_time.eq(Some(now)),
            ))
            .execute(connection)?,
        Some(error) => diesel::update(target)
            .set((storages::state.eq(v1::storage::State::Failing as i32), storages::last_error.eq(Some(error))))
            .execute(connection)?,
    };
    Ok(rows > 0)
}

/// Removes a storage and its credentials; false when there was none.
pub fn delete(connection: &mut AnyConnection, id: &str) -> Result<bool> {
    Ok(diesel::delete(storages::table.find(id)).execute(connection)? > 0)
}

/// Adds a version of the credential.
pub fn insert_credential(connection: &mut AnyConnection, row: &Credential) -> Result<()> {
    diesel::insert_into(storage_credentials::table).values(row).execute(connection)?;
    Ok(())
}

/// One version of the credential.
pub fn credential(connection: &mut AnyConnection, storage: &str, version: i64) -> Result<Option<Credential>> {
    Ok(storage_credentials::table.find((storage, version)).first(connection).optional()?)
}

/// Forgets every version of the credential but one.
pub fn keep_credential(connection: &mut AnyConnection, storage: &str, version: i64) -> Result<()> {
    diesel::delete(
        storage_credentials::table
            .filter(storage_credentials::storage.eq(storage))
            .filter(storage_credentials::version.ne(version)),
    )
    .execute(connection)?;
    Ok(())
}
