//! Claims of recordings by nodes: the same key always gets the same answer.
use diesel::prelude::*;

use crate::schema::claims;
use crate::{AnyConnection, Result};

/// An answered claim.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = claims, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    pub claim_key: String,
    pub recording: String,
    pub epoch: i64,
    pub node: String,
    pub create_time: i64,
    /// The answer, word for word; None in rows of older releases.
    pub reply: Option<Vec<u8>>,
}

/// The answer given to a key.
pub fn get(connection: &mut AnyConnection, claim_key: &str) -> Result<Option<Row>> {
    Ok(claims::table.find(claim_key).first(connection).optional()?)
}

/// The claims of a recording, by epoch.
pub fn of_recording(connection: &mut AnyConnection, recording: &str) -> Result<Vec<Row>> {
    Ok(claims::table.filter(claims::recording.eq(recording)).order(claims::epoch.asc()).load(connection)?)
}

/// Keeps an answer.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(claims::table).values(row).execute(connection)?;
    Ok(())
}
