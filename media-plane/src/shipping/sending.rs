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

/// A closed object that could not be stored and whose bytes are kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// What it is.
    pub spec: ObjectSpec,
    /// Bytes.
    pub size: u64,
    /// CRC-32C of all of them.
    pub crc32c: u32,
    /// Its place in its file.
    pub place: u32,
}

/// Why an object is not stored, for good as far as its node can tell.
#[derive(Debug)]
pub struct Final {
    /// In the provider's own words.
    pub failure: Failure,
    /// What may be tried again; none when the bytes are lost.
    pub kept: Option<Kept>,
}

impl Queued {
    /// Its file.
    pub fn file(&self) -> u32 {
        self.spec.object.file
    }

    /// With where it goes, and whether that may change: to the backup, or to wherever somebody says.
    pub fn ready(self, parcel: Parcel, may_move: bool, may_leave: bool) -> Ship {
        let Self { place, progress, waiting, movable, .. } = self;
        let progress = progress.map(|progress| *progress).unwrap_or_default();
        Ship { parcel, place, progress, waiting, movable: movable && may_move, may_leave }
    }
}

impl From<Ship> for Queued {
    fn from(ship: Ship) -> Self {
        let Ship { parcel, place, progress, waiting, movable, .. } = ship;
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
    /// Whether it is given back when its recording is sent elsewhere.
    pub may_leave: bool,
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
        result: Result<Stored, Final>,
    },
    /// Its storage is given up, or its recording was sent elsewhere.
    Stuck(Box<Queued>),
    /// A playlist.
    Playlist {
        /// Of this file.
        file: u32,
        /// The text as it is in the bucket, or the one that the bucket does not take.
        result: Result<(Text, Stored), (Text, Failure)>,
    },
}

/// Brings a closed object home, however often that takes.
pub async fn ship(context: Arc<Context>, storage: Arc<Storage>, ship: Ship) -> Done {
    let open = metrics::gauge!(names::UPLOADS_OPEN);
    open.increment(1.0);
    let done = bring(&context, &storage, ship).await;
    open.decrement(1.0);
    done
}

async fn bring(context: &Context, storage: &Storage, ship: Ship) -> Done {
    let Ship { mut parcel, place, mut progress, waiting, movable, may_leave } = ship;
    let object = parcel.spec.object;
    let recording = parcel.output.recording.clone();
    let away = context.nudge.sent_away(&recording, storage.target(), may_leave);
    tokio::pin!(away);
    let mut loss = None;
    let mut attempts = storage.attempts();
    let mut failures = 0;
    let result = loop {
        let attempted = tokio::select! {
            biased;
            attempted = attempt(context, storage, &parcel, &mut progress, Some(&waiting)) => Some(attempted),
            () = &mut away => None,
        };
        let error = match attempted {
            Some(Ok(stored)) => break Ok(stored),
            Some(Err(error)) => error,
            None => {
                progress.interrupted();
                return Done::Stuck(Box::new(Ship { parcel, place, progress, waiting, movable, may_leave }.into()));
            }
        };
        if loss.is_none() && damage::is_damage(&error) {
            loss = damage::cut(context, storage, &mut parcel, &mut progress).await;
            if loss.is_some() {
                continue;
            }
        }
        if error.is_final() {
            if let Err(error) = take_back(context, storage, &parcel, &mut progress).await {
                tracing::warn!(key = parcel.key, %error, "an upload that nobody needs may stay open");
            }
            let Parcel { spec, size, crc32c, .. } = parcel;
            let kept = matches!(error, UploadError::Store(_)).then_some(Kept { spec, size, crc32c, place });
            break Err(Final { failure: failure(&error), kept });
        }
        tokio::select! {
            () = storage.failed(&error, &mut attempts) => {}
            () = &mut away => {
                return Done::Stuck(Box::new(Ship { parcel, place, progress, waiting, movable, may_leave }.into()));
            }
        }
        failures += 1;
        if movable && failures >= LEAST_FAILURES && storage.is_given_up(context.backup_after) {
            return Done::Stuck(Box::new(Ship { parcel, place, progress, waiting, movable, may_leave }.into()));
        }
    };
    let result = match result {
        Ok(stored) => Ok(committed(context, &parcel.output, object, stored).await),
        Err(lost) => Err(lost),
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
pub async fn committed(context: &Context, output: &OutputKey, object: ObjectId, stored: Stored) -> Stored {
    let record = Record::Committed { object, etag: stored.etag.clone(), size: stored.size };
    if let Err(error) = context.spool.record(output, record).await {
        // It is in the bucket all the same; after a restart it is sent once more.
        tracing::warn!(%output, object = spool::object_name(object), %error, "upload not noted");
    }
    stored
}
