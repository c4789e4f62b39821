//! Receivers of events, their sealed secrets, and how far each has come.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::{Page, changed};
use crate::schema::{webhook_secrets, webhooks};
use crate::{AnyConnection, Result};

/// A webhook. `body` is a [`v1::Webhook`] without secrets, state, times and etag.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = webhooks)]
#[allow(missing_docs)]
pub struct Row {
    pub id: String,
    pub uid: String,
    pub rev: i64,
    pub body: Vec<u8>,
    /// [`v1::webhook::State`]; no part of the etag.
    pub state: i32,
    /// Every event up to this sequence has become deliveries.
    pub position: i64,
    pub create_time: i64,
    pub update_time: i64,
}

/// Version of the row that holds the values of the extra headers.
pub const HEADERS: i64 = 0;

/// Something sealed: a signing secret, or at version [`HEADERS`] an encoded [`v1::Webhook`] with headers only.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = webhook_secrets, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Secret {
    pub webhook: String,
    pub version: i64,
    pub key_id: String,
    pub sealed: Vec<u8>,
    /// Until when an older secret signs too; None for the current one.
    pub expire_time: Option<i64>,
}

impl Row {
    /// The body, decoded.
    pub fn webhook(&self) -> Result<v1::Webhook> {
        crate::error::decode("webhooks", &self.body)
    }
}

/// One webhook by id.
pub fn get(connection: &mut AnyConnection, id: &str) -> Result<Option<Row>> {
    Ok(webhooks::table.find(id).first(connection).optional()?)
}

/// Every webhook, oldest first; there are few.
pub fn all(connection: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(webhooks::table.order(webhooks::uid.asc()).load(connection)?)
}

/// How many there are.
pub fn count(connection: &mut AnyConnection) -> Result<i64> {
    Ok(webhooks::table.count().get_result(connection)?)
}

/// A page, newest first.
pub fn page(connection: &mut AnyConnection, page: &Page) -> Result<Vec<Row>> {
    let mut query = webhooks::table.into_boxed();
    if let Some(before) = &page.before {
        query = query.filter(webhooks::uid.lt(before.clone()));
    }
    Ok(query.order(webhooks::uid.desc()).limit(page.limit).load(connection)?)
}

/// Adds a webhook.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(webhooks::table).values(row).execute(connection)?;
    Ok(())
}

/// Replaces what users set, and the state, if the row still is at `row.rev`; it is at `row.rev + 1` then.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let rows = diesel::update(webhooks::table.find(&row.id).filter(webhooks::rev.eq(row.rev)))
        .set((
            webhooks::rev.eq(row.rev + 1),
            webhooks::body.eq(&row.body),
            webhooks::state.eq(row.state),
            webhooks::update_time.eq(row.update_time),
        ))
        .execute(connection)?;
    changed(rows)
}

/// How deliveries go; changes nothing else.
pub fn set_state(connection: &mut AnyConnection, id: &str, state: i32) -> Result<()> {
    diesel::update(webhooks::table.find(id)).set(webhooks::state.eq(state)).execute(connection)?;
    Ok(())
}

/// How far it has come.
pub fn set_position(connection: &mut AnyConnection, id: &str, position: i64) -> Result<()> {
    diesel::update(webhooks::table.find(id)).set(webhooks::position.eq(position)).execute(connection)?;
    Ok(())
}

/// Removes a webhook with its secrets and deliveries; false when there was none.
pub fn delete(connection: &mut AnyConnection, id: &str) -> Result<bool> {
    Ok(diesel::delete(webhooks::table.find(id)).execute(connection)? > 0)
}

/// Everything sealed of a webhook, newest version first, so that the headers come last.
pub fn secrets(connection: &mut AnyConnection, id: &str) -> Result<Vec<Secret>> {
    let of = webhook_secrets::table.filter(webhook_secrets::webhook.eq(id));
    Ok(of.order(webhook_secrets::version.desc()).load(connection)?)
}

/// Adds a secret, or replaces the one of the same version.
pub fn put_secret(connection: &mut AnyConnection, secret: &Secret) -> Result<()> {
    diesel::delete(webhook_secrets::table.find((&secret.webhook, secret.version))).execute(connection)?;
    diesel::insert_into(webhook_secrets::table).values(secret).execute(connection)?;
    Ok(())
}

/// Says until when an older secret signs too.
pub fn expire_secret(connection: &mut AnyConnection, id: &str, version: i64, time: i64) -> Result<()> {
    diesel::update(webhook_secrets::table.find((id, version)))
        .set(webhook_secrets::expire_time.eq(Some(time)))
        .execute(connection)?;
    Ok(())
}

/// Forgets one version.
pub fn delete_secret(connection: &mut AnyConnection, id: &str, version: i64) -> Result<()> {
    diesel::delete(webhook_secrets::table.find((id, version))).execute(connection)?;
    Ok(())
}

/// Forgets secrets that sign no more at `now`; returns how many.
pub fn prune_secrets(connection: &mut AnyConnection, now: i64) -> Result<usize> {
    Ok(diesel::delete(webhook_secrets::table.filter(webhook_secrets::expire_time.le(now))).execute(connection)?)
}
