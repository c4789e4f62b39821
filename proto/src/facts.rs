//! What media nodes report: one enum of the things that happen, its JSON shape, and the fields of the API it fills.
//!
//! A fact says what the node knew at that moment; the control plane folds facts into `Stream`, `Recording` and `File`.
//! Shapes only ever gain fields: a control plane must understand the facts of older nodes, and ignore what newer add.

mod file;
mod health;
mod proto_enum;
mod recording;
mod storage;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tonic::Code;

pub use file::{Audio, FileAvailable, FileFailed, FileOpened, Video};
pub use health::{AbnormalSpan, RecordingAbnormal};
pub use recording::origin_to_pb;
pub use recording::{
    GapSpan, OutputTotals, RecordingEnded, RecordingInterrupted, RecordingManifest, RecordingResumed, RecordingStarted,
};
pub use storage::{DirectiveRejected, StorageFailing, StorageRecovered, UploadRecovered, UploadStalled};
pub use stream::{StreamEnded, StreamSnapshot, Track};
pub use wire::{FactError, from_struct, to_struct};

use crate::ids::{Epoch, EventId, RecordingId, Sequence};
use crate::problem::{Blame, Problem};

/// One thing that happened on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// Position in the node's log.
    pub sequence: Sequence,
    /// Becomes the id of the event.
    pub id: EventId,
    /// When it happened, on the node's clock.
    pub time: DateTime<Utc>,
    /// The recording it is about, if any.
    pub recording: Option<RecordingId>,
    /// The epoch that recording was written under; 0 = none.
    pub epoch: Epoch,
    /// What happened.
    pub kind: FactKind,
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $variant:ident($data:ty) = $name:literal, $constant:ident;)+) => {
        /// What happened.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum FactKind {
            $($(#[$doc])+ $variant($data),)+
        }

        impl FactKind {
            /// The event type.
            pub const fn event_type(&self) -> &'static str {
                match self { $(Self::$variant(_) => event_type::$constant),+ }
            }

            /// Reads the data of one type.
            fn from_json(event_type: &str, data: serde_json::Value) -> Result<Self, FactError> {
                match event_type {
                    $($name => serde_json::from_value(data).map(Self::$variant).map_err(|error| FactError::Data {
                        event_type: $name,
                        error: error.to_string(),
                    }),)+
                    _ => Err(FactError::UnknownType(event_type.chars().take(64).collect())),
                }
            }
        }

        $(impl From<$data> for FactKind {
            fn from(data: $data) -> Self {
                Self::$variant(data)
            }
        })+

        /// The types of facts, of events, webhooks and watches: one vocabulary.
        pub mod event_type {
            $($(#[$doc])+ pub const $constant: &str = $name;)+
            /// Every output starts a new file.
            pub const RECORDING_SPLIT: &str = "recording.split";
            /// A recording ended without anything usable.
            pub const RECORDING_FAILED: &str = "recording.failed";
            /// A file's node is gone for good.
            pub const FILE_LOST: &str = "file.lost";
            /// A node's lease ran out.
            pub const NODE_LOST: &str = "node.lost";
            /// A lost node is back.
            pub const NODE_RETURNED: &str = "node.returned";
            /// A node takes no new streams.
            pub const NODE_DRAINING: &str = "node.draining";
            /// A node owns nothing any more.
            pub const NODE_DRAINED: &str = "node.drained";
            /// The peaks of one minute.
            pub const USAGE_MINUTE: &str = "usage.minute";

            /// What nodes report; the control plane makes the others itself.
            pub const REPORTED: &[&str] = &[$($constant),+];
        }
    };
}

kinds! {
    /// A publisher has come.
    StreamStarted(StreamSnapshot) = "stream.started", STREAM_STARTED;
    /// Tracks, rates or recordings of a stream have changed.
    StreamUpdated(StreamUpdate) = "stream.updated", STREAM_UPDATED;
    /// A publisher has gone.
    StreamEnded(StreamEnded) = "stream.ended", STREAM_ENDED;
    /// The first frame of a recording was written.
    RecordingStarted(RecordingStarted) = "recording.started", RECORDING_STARTED;
    /// The publisher is away; the recording waits.
    RecordingInterrupted(RecordingInterrupted) = "recording.interrupted", RECORDING_INTERRUPTED;
    /// The publisher came back in time.
    RecordingResumed(RecordingResumed) = "recording.resumed", RECORDING_RESUMED;
    /// A recording is over; its files are being shipped.
    RecordingEnded(RecordingEnded) = "recording.ended", RECORDING_ENDED;
    /// The manifest of a recording is in its storage; changes no state.
    RecordingManifest(RecordingManifest) = "recording.manifest", RECORDING_MANIFEST;
    /// Something is wrong with what is recorded; changes no state.
    RecordingAbnormal(RecordingAbnormal) = "recording.abnormal", RECORDING_ABNORMAL;
    /// A file was begun.
    FileOpened(FileOpened) = "file.opened", FILE_OPENED;
    /// A file is complete in its storage, size and checksum confirmed.
    FileAvailable(FileAvailable) = "file.available", FILE_AVAILABLE;
    /// A file could not be stored.
    FileFailed(FileFailed) = "file.failed", FILE_FAILED;
    /// Uploads to a storage fail.
    StorageFailing(StorageFailing) = "storage.failing", STORAGE_FAILING;
    /// Uploads to a storage work again.
    StorageRecovered(StorageRecovered) = "storage.recovered", STORAGE_RECOVERED;
    /// A file has waited for its upload too long.
    UploadStalled(UploadStalled) = "upload.stalled", UPLOAD_STALLED;
    /// A stalled upload goes on.
    UploadRecovered(UploadRecovered) = "upload.recovered", UPLOAD_RECOVERED;
    /// A directive could not be applied.
    DirectiveRejected(DirectiveRejected) = "directive.rejected", DIRECTIVE_REJECTED;
}

/// [`StreamSnapshot`] under another name, so that each type of fact has its own conversion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamUpdate(pub StreamSnapshot);

/// An error as a fact carries it: for storages, in the provider's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// gRPC code, by number.
    pub code: i32,
    /// The provider's own code (`NoSuchBucket`), or ours.
    pub reason: String,
    /// The provider's own words.
    pub message: String,
    /// HTTP status of the provider's answer; 0 = none came.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub http_status: u16,
    /// The provider's id of the failed request, for its support; empty = none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

// Serde wants a reference here.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        let mut problem = Self::new(Code::from_i32(failure.code), failure.reason.clone(), failure.message.clone())
            .blaming(Blame::Destination);
        if failure.http_status != 0 {
            problem = problem.with_metadata("http_status", failure.http_status.to_string());
        }
        if !failure.request_id.is_empty() {
            problem = problem.with_metadata("request_id", failure.request_id.clone());
        }
        problem
    }
}

impl From<&Problem> for Failure {
    fn from(problem: &Problem) -> Self {
        let metadata = |key| problem.metadata.get(key).cloned().unwrap_or_default();
        Self {
            code: i32::from(problem.code),
            reason: problem.reason.clone(),
            message: problem.message.clone(),
            http_status: metadata("http_status").parse().unwrap_or(0),
            request_id: metadata("request_id"),
        }
    }
}

impl From<&Failure> for tonic_types::pb::Status {
    fn from(failure: &Failure) -> Self {
        Problem::from(failure).into()
    }
}
