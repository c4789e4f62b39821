//! One closed object on its way: attempt after attempt, until it is there, lost, or better off in another storage.

use std::sync::Arc;

use mux::{ObjectId, ObjectSpec};
use recorder_proto::facts::Failure;
use recorder_runtime::metrics as names;
use spool::{OutputKey, Record};
use store::Stored;

use super::Context;
use super::damage::{self, Loss};
use super::file::Text;
use super::growing::take_back;
use super::lag::Waiting;
use super::progress::Progress;
use super::storage::{Storage, failure};
use super::upload::{Parcel, UploadError};

/// Failures of an object's own before its storage is given up: the trouble of others may be long past.
const LEAST_FAILURES: u32 = 2;

/// A closed object in line. Thousands may wait for their storage: whatever can be made when its turn comes is not here.
pub struct Queued {
    /// What it is.
    pub spec: ObjectSpec,
    /// Bytes.
    pub size: u64,
    /// CRC-32C of all of them.
    pub crc32c: u32,
    /// Its place in its file.
    pub place: u32,
    /// How far it is; none when nothing was tried yet.
    pub progress: Option<Box<Progress>>,
    /// Since when.
    pub waiting: Waiting,
    /// Whether it is given back when its storage is given up.
    pub movable: bool,
}

impl Queued {
    /// Its file.
    pub fn file(&self) -> u32 {
        self.spec.object.file
    }

    /// With where it goes, and whether that may change.
    pub fn ready(self, parcel: Parcel, may_move: bool) -> Ship {
        let Self { place, progress, waiting, movable, .. } = self;
        let progress = progress.map(|progress| *progress).unwrap_or_default();
        Ship { parcel, place, progress, waiting, movable: movable && may_move }
    }
}

impl From<Ship> for Queued {
    fn from(ship: Ship) -> Self {
        let Ship { parcel, place, progress, waiting, movable } = ship;
        let Parcel { spec, size, crc32c, .. } = parcel;
        Self { spec, size, crc32c, place, progress: Some(Box::new(progress)), waiting, movable }
    }
}

/// A closed object on its way.
pub struct Ship {
    /// The object and where it goes.
    pub parcel: Parcel,
    /// Its place in its file.
    pub place: u32,
    /// How far it is.
    pub progress: Progress,
    /// Since when.
    pub waiting: Waiting,
    /// Whether it is given back when its storage is given up.
    pub movable: bool,
}

/// What has come of an upload. An error is final for the object.
pub enum Done {
    /// An object.
    Object {
        /// Which.
        object: ObjectId,
        /// Its place in its file.
        place: u32,
        /// CRC-32C of its bytes.
        crc32c: u32,
        /// What it lacks, when it was cut short because its bytes were damaged.
        loss: Option<Loss>,
        /// As it is in the bucket.
        result: Result<Stored, Failure>,
    },
    /// Its storage is given up.
    Stuck(Box<Queued>),
    /// A playlist.
    Playlist {
        /// Of this file.
        file: u32,
        /// The text as it is in the bucket.
        result: Result<(Text, Stored), Failure>,
    },
}

/// Brings a closed object home, however often that takes.
pub async fn ship(context: Arc<Context>, storage: Arc<Storage>, ship: Ship) -> Done {
    let Ship { mut parcel, place, mut progress, waiting, movable } = ship;
    let open = metrics::gauge!(names::UPLOADS_OPEN);
    open.increment(1.0);
    let object = parcel.spec.object;
    let mut loss = None;
    let mut attempts = storage.attempts();
    let mut failures = 0;
    let result = loop {
        let error = match attempt(&context, &storage, &parcel, &mut progress, Some(&waiting)).await {
            Ok(stored) => break Ok(stored),
            Err(error) => error,
        };
        if loss.is_none() && damage::is_damage(&error) {
            loss = damage::cut(&context, &storage, &mut parcel, &mut progress).await;
            if loss.is_some() {
                continue;
            }
        }
        if error.is_final() {
            if let Err(error) = take_back(&context, &storage, &parcel, &mut progress).await {
                tracing::warn!(key = parcel.key, %error, "an upload that nobody needs may stay open");
            }
            break Err(failure(&error));
        }
        storage.failed(&error, &mut attempts).await;
        failures += 1;
        if movable && failures >= LEAST_FAILURES && storage.is_given_up(context.backup_after) {
            open.decrement(1.0);
            return Done::Stuck(Box::new(Ship { parcel, place, progress, waiting, movable }.into()));
        }
    };
    open.decrement(1.0);
    let result = match result {
        Ok(stored) => committed(&context, &parcel.output, object, stored).await,
        Err(failure) => Err(failure),
    };
    drop(waiting);
    Done::Object { object, place, crc32c: parcel.crc32c, loss, result }
}

/// One attempt, with a client first and a permit second: who waits for a credential must not keep others waiting.
pub async fn attempt(
    context: &Context,
    storage: &Storage,
    parcel: &Parcel,
    progress: &mut Progress,
    waiting: Option<&Waiting>,
) -> Result<Stored, UploadError> {
    storage.turn().await;
    let bucket = storage.bucket().await?;
    let stored = parcel.send(&context.lane(&bucket, storage, parcel, waiting), progress).await?;
    storage.worked();
    Ok(stored)
}

/// Notes in the spool that an object is in the bucket.
pub async fn committed(
    context: &Context,
    output: &OutputKey,
    object: ObjectId,
    stored: Stored,
) -> Result<Stored, Failure> {
    let record = Record::Committed { object, etag: stored.etag.clone(), size: stored.size };
    if let Err(error) = context.spool.record(output, record).await {
        // It is in the bucket all the same; after a restart it is sent once more.
        tracing::warn!(%output, object = spool::object_name(object), %error, "upload not noted");
    }
    Ok(stored)
}
