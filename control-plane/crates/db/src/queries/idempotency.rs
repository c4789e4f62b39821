//! Replies kept by request_id, so that a repeated request is answered as the first one was.
use diesel::prelude::*;

use crate::schema::idempotency;
use crate::{AnyConnection, Result};

/// A kept reply.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = idempotency)]
#[allow(missing_docs)]
pub struct Row {
    pub request_id: String,
    /// `recorder.v1.TemplateService/CreateTemplate`.
    pub method: String,
    /// SHA-256 of the encoded request.
    pub body_hash: Vec<u8>,
    /// The encoded reply.
    pub reply: Vec<u8>,
    pub expire_time: i64,
}

/// The reply kept under an id that has not expired at `now`.
pub fn get(connection: &mut AnyConnection, request_id: &str, now: i64) -> Result<Option<Row>> {
    Ok(idempotency::table.find(request_id).filter(idempotency::expire_time.gt(now)).first(connection).optional()?)
}

/// Keeps a reply, and forgets those that have expired at `now`.
pub fn put(connection: &mut AnyConnection, row: &Row, now: i64) -> Result<()> {
    diesel::delete(idempotency::table.filter(idempotency::expire_time.le(now))).execute(connection)?;
    diesel::insert_into(idempotency::table).values(row).execute(connection)?;
    Ok(())
}
