//! Sealing and opening what the database must not hold in the clear.
use prost::Message;
use recorder_db::{AnyConnection, domains, storages};
use recorder_proto::Problem;
use recorder_proto::pb::node::FetchCredentialResponse;
use recorder_runtime::secret::Sealer;
use zeroize::Zeroizing;

use super::places;
use crate::domain::push_domain::Keys;

/// Seals a storage's credential at a version.
///
/// # Errors
/// When the cipher refuses.
pub fn seal_credential(
    sealer: &Sealer,
    row: &storages::Row,
    version: i64,
    credential: &FetchCredentialResponse,
) -> Result<storages::Credential, Problem> {
    let clear = Zeroizing::new(credential.encode_to_vec());
    let sealed = sealer.seal(&clear, &places::storage_credential(&row.uid, version)).map_err(failed)?;
    Ok(storages::Credential { storage: row.id.clone(), version, key_id: sealer.key_id(), sealed })
}

/// Opens a storage's current credential; empty for a storage that needs none.
///
/// # Errors
/// When the database fails, or was sealed with another key.
pub fn credential(
    connection: &mut AnyConnection,
    sealer: &Sealer,
    row: &storages::Row,
) -> Result<FetchCredentialResponse, Problem> {
    match storages::credential(connection, &row.id, row.credential_version)? {
        None => Ok(FetchCredentialResponse::default()),
        Some(stored) => open_credential(sealer, row, &stored),
    }
}

/// Opens one version of a storage's credential.
///
/// # Errors
/// When it was sealed with another key.
pub fn open_credential(
    sealer: &Sealer,
    row: &storages::Row,
    stored: &storages::Credential,
) -> Result<FetchCredentialResponse, Problem> {
    let place = places::storage_credential(&row.uid, stored.version);
    let clear = sealer.open(&stored.sealed, &place).map_err(failed)?;
    FetchCredentialResponse::decode(clear.as_slice()).map_err(|_| Problem::internal("a sealed credential is malformed"))
}

/// Opens the publish keys of a domain.
///
/// # Errors
/// When the database fails, or was sealed with another key.
pub fn publish_keys(connection: &mut AnyConnection, sealer: &Sealer, domain: &str) -> Result<Keys, Problem> {
    let mut keys = Keys::default();
    for stored in domains::keys(connection, domain)? {
        let clear = sealer.open(&stored.sealed, &places::domain_key(domain, &stored.slot)).map_err(failed)?;
        let key = String::from_utf8_lossy(&clear).into_owned();
        match stored.slot.as_str() {
            domains::PRIMARY => keys.primary = key,
            _ => keys.secondary = key,
        }
    }
    Ok(keys)
}

/// Seals what has changed of a domain's publish keys: a blob that stays the same makes no new directive.
///
/// # Errors
/// When the database or the cipher fails.
pub fn put_publish_keys(
    connection: &mut AnyConnection,
    sealer: &Sealer,
    domain: &str,
    before: &Keys,
    after: &Keys,
) -> Result<(), Problem> {
    for (slot, old, new) in
        [(domains::PRIMARY, &before.primary, &after.primary), (domains::SECONDARY, &before.secondary, &after.secondary)]
    {
        if old == new {
            continue;
        }
        if new.is_empty() {
            domains::delete_key(connection, domain, slot)?;
            continue;
        }
        let sealed = sealer.seal(new.as_bytes(), &places::domain_key(domain, slot)).map_err(failed)?;
        let key = domains::Key { domain: domain.to_owned(), slot: slot.to_owned(), key_id: sealer.key_id(), sealed };
        domains::put_key(connection, &key)?;
    }
    Ok(())
}

fn failed(error: recorder_runtime::Error) -> Problem {
    tracing::error!(%error, "a secret cannot be sealed or opened");
    Problem::internal("a secret cannot be sealed or opened; the server's log says why")
}
