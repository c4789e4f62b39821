//! Templates and their revisions.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use super::{Page, changed};
use crate::schema::{bindings, template_revisions, templates};
use crate::{AnyConnection, Result};

/// A template at its latest revision. `body` is a [`v1::Template`] with every default filled in (but `storage`, which
/// stays empty for "the default storage"), without name, revision, times and etag.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = templates, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Row {
    pub id: String,
    pub uid: String,
    pub rev: i64,
    pub revision: i64,
    /// Id of the storage that it names; None for the default storage.
    pub storage: Option<String>,
    pub body: Vec<u8>,
    pub create_time: i64,
    pub update_time: i64,
}

/// A template as it was.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = template_revisions)]
#[allow(missing_docs)]
pub struct Revision {
    pub template: String,
    pub revision: i64,
    pub body: Vec<u8>,
    pub create_time: i64,
}

/// What a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Templates that name this storage (id), and, if the flag is set, those that leave the choice open.
    pub storage: Option<(String, bool)>,
    /// Templates that are bound to this domain.
    pub domain: Option<String>,
}

/// In which order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
    /// By id.
    Name,
}

impl Row {
    /// The body, decoded.
    pub fn template(&self) -> Result<v1::Template> {
        crate::error::decode("templates", &self.body)
    }
}

impl Revision {
    /// The body, decoded.
    pub fn template(&self) -> Result<v1::Template> {
        crate::error::decode("template_revisions", &self.body)
    }
}

/// One template by id.
pub fn get(connection: &mut AnyConnection, id: &str) -> Result<Option<Row>> {
    Ok(templates::table.find(id).first(connection).optional()?)
}

/// Every template, oldest first; for compiling directives.
pub fn all(connection: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(templates::table.order(templates::uid.asc()).load(connection)?)
}

/// How many there are.
pub fn count(connection: &mut AnyConnection) -> Result<i64> {
    Ok(templates::table.count().get_result(connection)?)
}

/// A page in the given order; `page.before` is the last uid (with [`Order::Name`]: id) of the page before.
pub fn page(connection: &mut AnyConnection, filter: &Filter, order: Order, page: &Page) -> Result<Vec<Row>> {
    let mut query = templates::table.into_boxed();
    if let Some(last) = page.before.clone() {
        query = match order {
            Order::Newest => query.filter(templates::uid.lt(last)),
            Order::Oldest => query.filter(templates::uid.gt(last)),
            Order::Name => query.filter(templates::id.gt(last)),
        };
    }
    match &filter.storage {
        Some((storage, true)) => {
            query = query.filter(templates::storage.eq(storage.clone()).or(templates::storage.is_null()));
        }
        Some((storage, false)) => query = query.filter(templates::storage.eq(storage.clone())),
        None => {}
    }
    if let Some(domain) = &filter.domain {
        let bound = bindings::table.filter(bindings::domain.eq(domain.clone())).select(bindings::template);
        query = query.filter(templates::id.eq_any(bound));
    }
    query = match order {
        Order::Newest => query.order(templates::uid.desc()),
        Order::Oldest => query.order(templates::uid.asc()),
        Order::Name => query.order(templates::id.asc()),
    };
    Ok(query.limit(page.limit).load(connection)?)
}

/// Ids of the templates that name a storage.
pub fn of_storage(connection: &mut AnyConnection, storage: &str) -> Result<Vec<String>> {
    Ok(templates::table
        .filter(templates::storage.eq(storage))
        .order(templates::id)
        .select(templates::id)
        .load(connection)?)
}

/// Ids of the templates that use whichever storage is the default.
pub fn of_default_storage(connection: &mut AnyConnection) -> Result<Vec<String>> {
    Ok(templates::table
        .filter(templates::storage.is_null())
        .order(templates::id)
        .select(templates::id)
        .load(connection)?)
}

/// Adds a template and its first revision.
pub fn insert(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    diesel::insert_into(templates::table).values(row).execute(connection)?;
    insert_revision(connection, row)
}

/// Replaces what users set, if the row still is at `row.rev`, and keeps `row.revision` as a revision of its own.
pub fn update(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let rows = diesel::update(templates::table.find(&row.id).filter(templates::rev.eq(row.rev)))
        .set((
            templates::rev.eq(row.rev + 1),
            templates::revision.eq(row.revision),
            templates::storage.eq(row.storage.as_deref()),
            templates::body.eq(&row.body),
            templates::update_time.eq(row.update_time),
        ))
        .execute(connection)?;
    changed(rows)?;
    insert_revision(connection, row)
}

fn insert_revision(connection: &mut AnyConnection, row: &Row) -> Result<()> {
    let revision = Revision {
        template: row.id.clone(),
        revision: row.revision,
        body: row.body.clone(),
        create_time: row.update_time,
    };
    diesel::insert_into(template_revisions::table).values(&revision).execute(connection)?;
    Ok(())
}

/// A template as it was at a revision.
pub fn revision(connection: &mut AnyConnection, id: &str, revision: i64) -> Result<Option<Revision>> {
    Ok(template_revisions::table.find((id, revision)).first(connection).optional()?)
}

/// Removes a template with its revisions; false when there was none.
pub fn delete(connection: &mut AnyConnection, id: &str) -> Result<bool> {
    Ok(diesel::delete(templates::table.find(id)).execute(connection)? > 0)
}
