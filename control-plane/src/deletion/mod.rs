//! Recordings that go with their objects: what is to be deleted is noted before anything is, and deleted until it is gone.
//!
//! A deletion is a row, its objects are rows: a restart, or a storage that is away, forgets neither. The record goes last,
//! so that whatever is left can still be seen. The row of the deletion stays: what nodes bring of the recording later (a
//! copy from the backup storage, the tail of a node that was cut off) is deleted as well.
mod objects;
mod work;

use std::time::Duration;

use futures_util::StreamExt;
use recorder_db::AnyConnection;
use recorder_db::deletions::{self, Object};
use recorder_db::{files, recordings};
use recorder_proto::format::Format;
use recorder_proto::pb::v1;
use recorder_proto::{Problem, time};
use recorder_runtime::drain::Signal;

use crate::api::Api;

pub(crate) use work::{Outcome, attempt, remove};

/// How often deletions that are due are looked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// Deletions begun in one turn, and how many of them at once.
const BATCH: i64 = 64;
const AT_ONCE: usize = 8;

/// Goes on with deletions until the drain begins.
pub async fn run(api: Api, drain: Signal) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = drain.draining() => return,
            _ = interval.tick() => {}
        }
        let now = time::micros(api.now());
        let due = match api.db.read(move |db| deletions::due(db, now, BATCH)).await {
            Ok(due) => due,
            Err(error) => {
                // The next tick tries again; readiness tells the operator.
                tracing::debug!(%error, "deletions cannot reach the database");
                continue;
            }
        };
        // Side by side: a storage that hangs must not hold up what is in others.
        let attempts = futures_util::stream::iter(due).map(|recording| go_on(api.clone(), recording));
        tokio::select! {
            () = drain.draining() => return,
            () = attempts.buffer_unordered(AT_ONCE).collect::<()>() => {}
        }
    }
}

async fn go_on(api: Api, recording: String) {
    match attempt(&api, &recording).await {
        Ok(Outcome::Gone) => tracing::info!(recording, "deleted with its objects"),
        Ok(Outcome::Left(problem)) => tracing::warn!(recording, %problem, "objects are left to be deleted"),
        Err(problem) => tracing::debug!(recording, %problem, "a deletion was interrupted"),
    }
}

/// Everything that a recording has in storages, as far as its record knows.
pub(crate) fn known_objects(db: &mut AnyConnection, row: &recordings::Row) -> Result<Vec<Object>, Problem> {
    let mut objects = Vec::new();
    let deleted = v1::file::State::Deleted as i32;
    for file in files::of_recording(db, &row.id)?.into_iter().filter(|file| file.state != deleted) {
        if let Some(key) = file.object_key {
            objects.push(object(&row.id, &file.storage, key, kind_of(file.format)));
        }
    }
    if let Some(manifest) = row.recording()?.manifest {
        let storage = manifest.storage.strip_prefix("storages/").unwrap_or(&manifest.storage);
        objects.push(object(&row.id, storage, manifest.object_key, deletions::MANIFEST));
    }
    Ok(objects)
}

/// What kind of object stands for a file of this format ([`v1::format::Kind`]).
fn kind_of(format: i32) -> i32 {
    if format == v1::format::Kind::Hls as i32 { deletions::PLAYLIST } else { deletions::SINGLE }
}

fn object(recording: &str, storage: &str, object_key: String, kind: i32) -> Object {
    Object { recording: recording.to_owned(), storage: storage.to_owned(), object_key, kind }
}

/// A node tells of an object of a recording that is gone: it goes as well, if the others did. Whether the recording is one
/// of those.
///
/// # Errors
/// When the database fails.
pub(crate) fn late(
    db: &mut AnyConnection,
    recording: &str,
    object: Option<Late<'_>>,
    now: i64,
) -> recorder_db::Result<bool> {
    let Some(deletion) = deletions::get(db, recording)? else { return Ok(false) };
    if let Some(Late { storage, object_key, format }) = object.filter(|_| deletion.objects) {
        let kind = format.map_or(deletions::MANIFEST, |format| kind_of(v1::format::Kind::from(format) as i32));
        deletions::add_object(db, &self::object(recording, storage, object_key.to_owned(), kind))?;
        deletions::postpone(db, recording, Some(now))?;
    }
    Ok(true)
}

/// An object that a node tells of.
pub(crate) struct Late<'a> {
    /// Storage id.
    pub(crate) storage: &'a str,
    /// Key within the bucket.
    pub(crate) object_key: &'a str,
    /// None of the manifest.
    pub(crate) format: Option<Format>,
}
