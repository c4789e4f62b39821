//! API tokens: found by the hash of their secret, which is kept nowhere.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::Page;
use crate::schema::tokens;
use crate::{AnyConnection, Result};

/// A token. `body` is a [`v1::Token`] without secret, times of use and expiry as they were when it was made.
#[derive(Clone, Queryable, Insertable)]
#[diesel(table_name = tokens, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    /// ULID; newest first by it.
    pub id: String,
    /// SHA-256 of the secret.
    pub hash: Vec<u8>,
    pub body: Vec<u8>,
    /// None is never.
    pub expire_time: Option<i64>,
    /// To the minute; None is never.
    pub last_used_time: Option<i64>,
    pub create_time: i64,
}

impl std::fmt::Debug for Row {
    // A hash is no secret, but nobody has to see it either.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Row {
    /// The body, decoded.
    pub fn token(&self) -> Result<v1::Token> {
        crate::error::decode("tokens", &self.body)
    }
}

/// The token with this hash.
pub fn by_hash(connection: &mut AnyConnection, hash: &[u8]) -> Result<Option<Row>> {
    Ok(tokens::table.filter(tokens::hash.eq(hash)).first(connection).optional()?)
}

/// One token by id.
pub fn get(connection: &mut AnyConnection, id: &str) -> Result<Option<Row>> {
    Ok(tokens::table.find(id).first(connection).optional()?)
}

/// A page, newest first.
pub fn page(connection: &mut AnyConnection, page: &Page) -> Result<Vec<Row>> {
    let mut query = tokens::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(tokens::id.lt(before.clone()));
    }
    Ok(query.order(tokens::id.desc()).limit(page.limit).load(connection)?)
}

/// How many there are.
pub fn count(connection: &mut AnyConnection) -> Result<i64> {
    Ok(tokens::table.count().get_result(connection)?)
}

/// Adds a token.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(tokens::table).values(row).execute(connection)?;
    Ok(())
}

/// Notes when it was used; never moves back.
pub fn used(connection: &mut AnyConnection, id: &str, at: i64) -> Result<()> {
    let older = tokens::last_used_time.is_null().or(tokens::last_used_time.lt(at));
    diesel::update(tokens::table.find(id).filter(older)).set(tokens::last_used_time.eq(at)).execute(connection)?;
    Ok(())
}

/// Removes a token; false when there was none.
pub fn delete(connection: &mut AnyConnection, id: &str) -> Result<bool> {
    Ok(diesel::delete(tokens::table.find(id)).execute(connection)? > 0)
}
