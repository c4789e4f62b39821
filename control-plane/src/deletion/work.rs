//! One attempt at one deletion: every object that can be deleted now, each noted as soon as it is gone.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::{StreamExt, TryStreamExt};
use prost::Message;
use recorder_db::deletions::{self, Object};
use recorder_db::{AnyConnection, files, recordings, storages};
use recorder_proto::{Problem, time};
use store::{Bucket, Credential, Target};

use super::objects::{said, segments};
use crate::api::{Api, probe, secrets};
use crate::directives::{changelog, command};
use crate::feed::{self, Stamp};
use crate::ledger;
use crate::verify::{Manifest, text};

/// Objects deleted at once.
const AT_ONCE: usize = 16;

/// A deletion that nobody notes anything of for so long was interrupted: whoever was at it is gone.
const CLAIM: TimeDelta = TimeDelta::seconds(60);

/// A storage that does not open must not hold others up.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// Wait after the first failure, in seconds; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: i64 = 2;
const LONGEST_WAIT: i64 = 600;

/// What has become of a deletion.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing is left of it.
    Gone,
    /// Some objects are left: why the first of them is.
    Left(Problem),
}

/// A storage of the recording, or why it cannot be used.
type Place = Result<(Target, Credential), Problem>;
type Opened = Result<Arc<dyn Bucket>, Problem>;

/// Deletes what is left of a deletion. May be dropped at any await, and run twice at once: every step may be repeated.
///
/// # Errors
/// When the database fails: it goes on after a minute.
pub(crate) async fn attempt(api: &Api, recording: &str) -> Result<Outcome, Problem> {
    let Some((objects, places)) = claim(api, recording).await? else { return Ok(Outcome::Gone) };
    let mut buckets = BTreeMap::new();
    for (storage, place) in places {
        buckets.insert(storage, open(place).await);
    }
    let manifest = manifest(&objects, &buckets).await;
    let mut failure = None;
    for object in objects {
        if failure.is_some() && object.kind == deletions::MANIFEST {
            // It tells what else there is.
            continue;
        }
        let bucket = buckets.get(&object.storage).cloned();
        let bucket = bucket.unwrap_or_else(|| Err(Problem::internal("the object's storage was not looked up")));
        let deleted = match bucket {
            Ok(bucket) => delete(bucket.as_ref(), &object, &manifest).await,
            Err(problem) => Err(problem),
        };
        match deleted {
            Ok(()) => gone(api, object).await?,
            Err(problem) => {
                // The others of a storage that is away would fail one by one.
                if problem.reason == "STORAGE_FAILED" {
                    buckets.insert(object.storage, Err(problem.clone()));
                }
                failure.get_or_insert(problem);
            }
        }
    }
    match failure {
        None => finish(api, recording).await,
        Some(problem) => {
            put_off(api, recording, &problem).await?;
            Ok(Outcome::Left(problem))
        }
    }
}

/// Takes a deletion for a while, with what is left of it; None when nothing is.
async fn claim(api: &Api, recording: &str) -> Result<Option<(Vec<Object>, BTreeMap<String, Place>)>, Problem> {
    let (id, sealer, library, now) =
        (recording.to_owned(), Arc::clone(&api.sealer), api.library_root.clone(), api.now());
    api.db
        .write(move |db| {
            let deletion = deletions::get(db, &id)?;
            if deletion.is_none_or(|deletion| deletion.next_time.is_none()) {
                return Ok(None);
            }
            deletions::postpone(db, &id, Some(time::micros(now + CLAIM)))?;
            let objects = deletions::objects(db, &id)?;
            let mut places = BTreeMap::new();
            for object in &objects {
                if !places.contains_key(&object.storage) {
                    let place = place(db, &sealer, &library, &object.storage)?;
                    places.insert(object.storage.clone(), place);
                }
            }
            Ok::<_, Problem>(Some((objects, places)))
        })
        .await
}

fn place(
    db: &mut AnyConnection,
    sealer: &recorder_runtime::secret::Sealer,
    library: &std::path::Path,
    id: &str,
) -> Result<Place, Problem> {
    let Some(row) = storages::get(db, id)? else {
        return Ok(Err(Problem::not_found("storage", &format!("storages/{id}"))));
    };
    let credential = secrets::credential(db, sealer, &row)?;
    Ok(Ok(probe::described(library, &row.storage()?, credential)))
}

async fn open(place: Place) -> Opened {
    let (target, credential) = place?;
    match tokio::time::timeout(OPEN_LIMIT, store::open(target, credential)).await {
        Ok(Ok(bucket)) => Ok(bucket),
        Ok(Err(error)) => Err(said(&error)),
        Err(_) => Err(Problem::destination("STORAGE_FAILED", "the storage did not open in time")),
    }
}

/// What the manifest knows of segments; nothing when it is not there or cannot be read.
async fn manifest(objects: &[Object], buckets: &BTreeMap<String, Opened>) -> Manifest {
    let Some(object) = objects.iter().find(|object| object.kind == deletions::MANIFEST) else {
        return Manifest::default();
    };
    let Some(Ok(bucket)) = buckets.get(&object.storage) else { return Manifest::default() };
    match text(bucket.as_ref(), &object.object_key, &AtomicU64::new(0)).await {
        Ok(bytes) => Manifest::parse(&bytes).unwrap_or_default(),
        Err(_) => Manifest::default(),
    }
}

/// Deletes an object and whatever stands behind it; the object last, as it tells of the others.
async fn delete(bucket: &dyn Bucket, object: &Object, manifest: &Manifest) -> Result<(), Problem> {
    if object.kind == deletions::PLAYLIST {
        let keys = segments(bucket, &object.recording, &object.object_key, manifest).await?;
        let deleting = futures_util::stream::iter(keys).map(async |key| bucket.delete(&key).await);
        deleting.buffer_unordered(AT_ONCE).try_collect::<()>().await.map_err(|error| said(&error))?;
    }
    bucket.delete(&object.object_key).await.map_err(|error| said(&error))
}

/// Notes that an object is gone, and its file with it.
async fn gone(api: &Api, object: Object) -> Result<(), Problem> {
    let now = api.now();
    api.db
        .write(move |db| {
            deletions::remove_object(db, &object)?;
            deletions::postpone(db, &object.recording, Some(time::micros(now + CLAIM)))?;
            let Some(row) = recordings::get(db, &object.recording)? else { return Ok(()) };
            let files = files::of_recording(db, &object.recording)?;
            let of = |file: &files::Row| {
                file.storage == object.storage && file.object_key.as_deref() == Some(object.object_key.as_str())
            };
            for file in files.into_iter().filter(of) {
                ledger::delete_file(db, row.clone(), file, now)?;
            }
            Ok::<_, Problem>(())
        })
        .await
}

/// Removes the record once nothing is left.
async fn finish(api: &Api, recording: &str) -> Result<Outcome, Problem> {
    let (id, now) = (recording.to_owned(), api.now());
    api.db
        .write(move |db| {
            if let Some(row) = recordings::get(db, &id)? {
                if !ledger::is_over(&row)? {
                    // Its node came back and still records it.
                    deletions::cancel(db, &id)?;
                    let message = format!("recordings/{id} goes on: its node is back");
                    return Ok(Outcome::Left(Problem::wrong_state("RECORDING_RUNNING", &row.id, message)));
                }
                // A file that has moved to another storage meanwhile.
                let available = recorder_proto::pb::v1::file::State::Available as i32;
                let left = files::of_recording(db, &id)?.into_iter().any(|file| file.state == available);
                if left {
                    for object in super::known_objects(db, &row)? {
                        deletions::add_object(db, &object)?;
                    }
                    deletions::postpone(db, &id, Some(time::micros(now)))?;
                    return Ok(Outcome::Left(Problem::destination("STORAGE_FAILED", "a file moves just now")));
                }
                remove(db, &row, now)?;
            }
            // What a node brought in between keeps it going.
            let next = deletions::objects(db, &id)?.first().map(|_| time::micros(now));
            deletions::postpone(db, &id, next)?;
            Ok::<_, Problem>(Outcome::Gone)
        })
        .await
}

/// Removes the record of a recording and tells of it.
///
/// # Errors
/// When the database fails.
pub(crate) fn remove(
    db: &mut AnyConnection,
    row: &recordings::Row,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), Problem> {
    let body = row.recording()?;
    recordings::delete(db, &row.id)?;
    changelog::remove(db, &command::retry_name(&row.id), now)?;
    Ok(feed::recording(db, Stamp::fresh(now), feed::RECORDING_DELETED, &body)?)
}

async fn put_off(api: &Api, recording: &str, problem: &Problem) -> Result<(), Problem> {
    let status: tonic_types::pb::Status = problem.clone().into();
    let (id, now, error) = (recording.to_owned(), api.now(), status.encode_to_vec());
    api.db
        .write(move |db| {
            let attempts = deletions::get(db, &id)?.map_or(0, |deletion| deletion.attempts);
            let next = now + TimeDelta::seconds(wait(attempts));
            Ok(deletions::failed(db, &id, &error, time::micros(next))?)
        })
        .await
}

/// Seconds to wait after so many failures.
fn wait(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(16);
    FIRST_WAIT.saturating_mul(2_i64.saturating_pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_ten_minutes() {
        let waits: Vec<i64> = [0, 1, 2, 8, 9, 1_000, i64::MAX, -1].into_iter().map(wait).collect();
        assert_eq!(waits, [2, 4, 8, 512, 600, 600, 600, 2]);
    }
}
