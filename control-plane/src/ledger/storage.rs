//! Facts about storages and directives: what a node ran into, in the words of whoever said no.
use prost::Message;
use recorder_db::storages::{self, Row};
use recorder_proto::facts::event_type as kind;
use recorder_proto::facts::{DirectiveRejected, StorageFailing, StorageRecovered};
use recorder_proto::names::StorageName;
use recorder_proto::pb::v1;
use recorder_proto::time;
use tonic_types::pb::Status;

use super::{Entry, Trouble};
use crate::feed;

/// Uploads fail. What was tried with a credential that has been replaced since says nothing about the new one.
pub(super) fn failing(entry: &mut Entry<'_>, told: &StorageFailing) -> Result<(), Trouble> {
    let row = storages::get(entry.scribe.db, told.storage.id())?;
    let error = Status::from(&told.error);
    if row.as_ref().is_some_and(|row| is_current(row, told.credential_version)) {
        storages::set_health(
            entry.scribe.db,
            told.storage.id(),
            Some(&error.encode_to_vec()),
            time::micros(told.since),
        )?;
    }
    tell(entry, kind::STORAGE_FAILING, &told.storage, row, Some(error))
}

/// Uploads work again.
pub(super) fn recovered(entry: &mut Entry<'_>, told: &StorageRecovered) -> Result<(), Trouble> {
    let row = storages::get(entry.scribe.db, told.storage.id())?;
    storages::set_health(entry.scribe.db, told.storage.id(), None, time::micros(told.time))?;
    tell(entry, kind::STORAGE_RECOVERED, &told.storage, row, None)
}

/// A directive could not be applied; its state is kept with the acknowledgements, this is for those who watch events.
pub(super) fn directive_rejected(entry: &mut Entry<'_>, told: &DirectiveRejected) -> Result<(), Trouble> {
    let stamp = entry.scribe.stamp();
    let body = Status::from(&told.error).encode_to_vec();
    Ok(feed::append(entry.scribe.db, stamp, kind::DIRECTIVE_REJECTED, &entry.node.to_string(), body)?)
}

fn is_current(row: &Row, credential_version: u64) -> bool {
    credential_version == 0 || u64::try_from(row.credential_version).is_ok_and(|current| current <= credential_version)
}

fn tell(
    entry: &mut Entry<'_>,
    kind: &str,
    name: &StorageName,
    row: Option<Row>,
    error: Option<Status>,
) -> Result<(), Trouble> {
    let state = if error.is_some() { v1::storage::State::Failing } else { v1::storage::State::Active };
    let known = row.map(|row| row.storage()).transpose()?.unwrap_or_default();
    let storage = v1::Storage { name: name.to_string(), state: state as i32, last_error: error, ..known };
    let stamp = entry.scribe.stamp();
    Ok(feed::append(entry.scribe.db, stamp, kind, &storage.name, storage.encode_to_vec())?)
}
