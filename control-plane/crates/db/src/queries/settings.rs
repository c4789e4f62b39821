//! Named values that the server keeps for itself, such as the key of page tokens.
use diesel::prelude::*;

use crate::schema::settings;
use crate::{AnyConnection, Result};

/// The value under a name.
pub fn get(connection: &mut AnyConnection, name: &str) -> Result<Option<Vec<u8>>> {
    Ok(settings::table.find(name).select(settings::value).first(connection).optional()?)
}

/// Puts a value, replacing an older one.
pub fn put(connection: &mut AnyConnection, name: &str, value: &[u8]) -> Result<()> {
    let changed = diesel::update(settings::table.find(name)).set(settings::value.eq(value)).execute(connection)?;
    if changed == 0 {
        diesel::insert_into(settings::table)
            .values((settings::name.eq(name), settings::value.eq(value)))
            .execute(connection)?;
    }
    Ok(())
}
