//! Numbers that only grow, allocated in commit order because writers queue.
use diesel::prelude::*;

use crate::schema::counters;
use crate::{AnyConnection, Result};

/// Sequence of [`crate::events`].
pub const EVENTS: &str = "events";
/// Version of the directives.
pub const DIRECTIVES: &str = "directives";

/// The next number, from 1.
pub fn next(connection: &mut AnyConnection, name: &str) -> Result<i64> {
    let value = current(connection, name)? + 1;
    let changed = diesel::update(counters::table.find(name)).set(counters::value.eq(value)).execute(connection)?;
    if changed == 0 {
        diesel::insert_into(counters::table)
            .values((counters::name.eq(name), counters::value.eq(value)))
            .execute(connection)?;
    }
    Ok(value)
}

/// The last number given out; 0 when there was none.
pub fn current(connection: &mut AnyConnection, name: &str) -> Result<i64> {
    Ok(counters::table.find(name).select(counters::value).first(connection).optional()?.unwrap_or(0))
}
