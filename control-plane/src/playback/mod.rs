//! Playback without credentials: signed URLs, and the HTTP listener behind those that no bucket answers itself.
//!
//! A single object in a bucket is fetched from the bucket, by a URL that the bucket's own signature opens. Playlists, whose
//! entries need signatures of their own, and files of the embedded library are served here: the signature covers storage,
//! key and end, so that a URL opens one object and no other.
mod serve;
mod sign;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use recorder_db::AnyConnection;
use recorder_db::storages;
use recorder_proto::Problem;
use store::{Bucket, Credential, Target};

use crate::api::{Api, probe, secrets};

pub use serve::{MAX_CONNECTIONS, routes};
pub(crate) use sign::Signer;

/// A storage that does not open must not hold a call for ever.
const OPEN_LIMIT: Duration = Duration::from_secs(20);

/// Where a storage is, and the key to it; None when it was deleted.
pub(crate) fn place(api: &Api, db: &mut AnyConnection, storage: &str) -> Result<Option<(Target, Credential)>, Problem> {
    let Some(row) = storages::get(db, storage)? else { return Ok(None) };
    let credential = secrets::credential(db, &api.sealer, &row)?;
    Ok(Some(probe::described(&api.library_root, &row.storage()?, credential)))
}

/// A client for a storage.
pub(crate) async fn open((target, credential): (Target, Credential)) -> Result<Arc<dyn Bucket>, Problem> {
    match tokio::time::timeout(OPEN_LIMIT, store::open(target, credential)).await {
        Ok(Ok(bucket)) => Ok(bucket),
        Ok(Err(error)) => Err(said(&error)),
        Err(_) => Err(Problem::destination("STORAGE_FAILED", "the storage did not open in time")),
    }
}

/// In the provider's own words.
pub(crate) fn said(error: &store::Error) -> Problem {
    Problem::destination("STORAGE_FAILED", error.to_string())
        .with_metadata("provider_code", error.code.clone())
        .with_metadata("provider_message", error.message.clone())
}

/// What is left until then; None when it has passed.
fn left(until: DateTime<Utc>, now: DateTime<Utc>) -> Option<Duration> {
    (until - now).to_std().ok().filter(|left| !left.is_zero())
}
