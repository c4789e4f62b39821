//! Push domains and their sealed publish keys.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::{Page, changed};
use crate::schema::{domain_keys, domains};
use crate::{AnyConnection, Result};

/// Slot of the key that new URLs are signed with.
pub const PRIMARY: &str = "primary";
/// Slot of the key that is valid beside it, for rotation.
pub const SECONDARY: &str = "secondary";

/// A push domain; the id is the DNS name. `body` is a [`v1::Domain`] without keys, times and etag.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = domains)]
#[allow(missing_docs)]
pub struct Row {
    pub id: String,
    pub uid: String,
    pub rev: i64,
    pub body: Vec<u8>,
    pub create_time: i64,
    pub update_time: i64,
}

/// A sealed publish key.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = domain_keys)]
#[allow(missing_docs)]
pub struct Key {
    pub domain: String,
    /// [`PRIMARY`] or [`SECONDARY`].
    pub slot: String,
    pub key_id: String,
    pub sealed: Vec<u8>,
}

impl Row {
    /// The body, decoded.
    pub fn domain(&self) -> Result<v1::Domain> {
        crate::error::decode("domains", &self.body)
    }
}

/// One domain by name.
pub fn get(connection: &mut AnyConnection, id: &str) -> Result<Option<Row>> {
    Ok(domains::table.find(id).first(connection).optional()?)
}

/// Every domain, oldest first; for compiling directives.
pub fn all(connection: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(domains::table.order(domains::uid.asc()).load(connection)?)
}

/// Ids after the last one of the page before (empty: the first page).
pub fn ids(connection: &mut AnyConnection, after: &str, limit: i64) -> Result<Vec<String>> {
    Ok(domains::table
        .filter(domains::id.gt(after))
        .order(domains::id.asc())
        .select(domains::id)
        .limit(limit)
        .load(connection)?)
}

/// How many there are.
pub fn count(connection: &mut AnyConnection) -> Result<i64> {
    Ok(domains::table.count().get_result(connection)?)
}

/// A page, newest first.
pub fn page(connection: &mut AnyConnection, page: &Page) -> Result<Vec<Row>> {
    let mut query = domains::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(domains::uid.lt(before.clone()));
    }
    Ok(query.order(domains::uid.desc()).limit(page.limit).load(connection)?)
}

/// Adds a domain.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(domains::table).values(row).execute(connection)?;
    Ok(())
}

/// Replaces what users set, if the row still is at `row.rev`.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let rows = diesel::update(domains::table.find(&row.id).filter(domains::rev.eq(row.rev)))
        .set((domains::rev.eq(row.rev + 1), domains::body.eq(&row.body), domains::update_time.eq(row.update_time)))
        .execute(connection)?;
    changed(rows)
}

/// Removes a domain and its keys; false when there was none.
pub fn delete(connection: &mut AnyConnection, id: &str) -> Result<bool> {
    Ok(diesel::delete(domains::table.find(id)).execute(connection)? > 0)
}

/// The keys of a domain.
pub fn keys(connection: &mut AnyConnection, domain: &str) -> Result<Vec<Key>> {
    Ok(domain_keys::table.filter(domain_keys::domain.eq(domain)).order(domain_keys::slot).load(connection)?)
}

/// The keys of every domain, by domain and slot; for compiling directives.
pub fn all_keys(connection: &mut AnyConnection) -> Result<Vec<Key>> {
    Ok(domain_keys::table.order((domain_keys::domain, domain_keys::slot)).load(connection)?)
}

/// Puts a key into its slot, replacing an older one.
pub fn put_key(connection: &mut AnyConnection, key: &Key) -> Result<()> {
    delete_key(connection, &key.domain, &key.slot)?;
    diesel::insert_into(domain_keys::table).values(key).execute(connection)?;
    Ok(())
}

/// Empties a slot.
pub fn delete_key(connection: &mut AnyConnection, domain: &str, slot: &str) -> Result<()> {
    diesel::delete(domain_keys::table.find((domain, slot))).execute(connection)?;
    Ok(())
}
