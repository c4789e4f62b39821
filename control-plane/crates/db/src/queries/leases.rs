//! What only one replica may do at a time, and which one does it.
use diesel::prelude::*;

use crate::schema::leases;
use crate::{AnyConnection, Result};

/// Who holds a lease, and until when (microseconds).
pub fn get(connection: &mut AnyConnection, name: &str) -> Result<Option<(String, i64)>> {
    Ok(leases::table.find(name).select((leases::holder, leases::until)).first(connection).optional()?)
}

/// Takes or renews a lease until `until`, unless another holds it at `now`. Whether it is ours then.
pub fn take(connection: &mut AnyConnection, name: &str, holder: &str, now: i64, until: i64) -> Result<bool> {
    match get(connection, name)? {
        Some((other, held_until)) if other != holder && held_until > now => Ok(false),
        Some(_) => {
            diesel::update(leases::table.find(name))
                .set((leases::holder.eq(holder), leases::until.eq(until)))
                .execute(connection)?;
            Ok(true)
        }
        None => {
            diesel::insert_into(leases::table)
                .values((leases::name.eq(name), leases::holder.eq(holder), leases::until.eq(until)))
                .execute(connection)?;
            Ok(true)
        }
    }
}

/// Gives a lease up, if it is ours.
pub fn release(connection: &mut AnyConnection, name: &str, holder: &str) -> Result<()> {
    diesel::delete(leases::table.find(name).filter(leases::holder.eq(holder))).execute(connection)?;
    Ok(())
}
