//! Facts about storages, uploads and directives.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::format::Format;
use crate::ids::FileIndex;
use crate::names::StorageName;

/// Uploads to a storage fail; told once, and again when the provider's answer changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageFailing {
    /// Which storage.
    pub storage: StorageName,
    /// Version of the credential that was used.
    #[serde(default)]
    pub credential_version: u64,
    /// When the first upload failed.
    pub since: DateTime<Utc>,
    /// What the provider said, in its own words.
    pub error: Failure,
}

/// Uploads to a storage work again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageRecovered {
    /// Which storage.
    pub storage: StorageName,
    /// Version of the credential that was used.
    #[serde(default)]
    pub credential_version: u64,
    /// When an upload worked again.
    pub time: DateTime<Utc>,
}

/// A file has waited for its upload too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadStalled {
    /// Its container.
    pub format: Format,
    /// Its position within recording and format.
    pub index: FileIndex,
    /// Where it goes.
    pub storage: StorageName,
    /// Key of its object.
    pub object_key: String,
    /// When bytes last moved.
    pub since: DateTime<Utc>,
    /// Bytes that wait.
    pub bytes_waiting: u64,
    /// What the provider said last, if it said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A stalled upload goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecovered {
    /// Its container.
    pub format: Format,
    /// Its position within recording and format.
    pub index: FileIndex,
    /// Where it goes.
    pub storage: StorageName,
    /// Key of its object.
    pub object_key: String,
    /// How long it stood still, microseconds.
    pub stalled_micros: u64,
}

/// A directive could not be applied; the last good version of it stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectiveRejected {
    /// Its name.
    pub directive: String,
    /// Its version.
    pub version: u64,
    /// Why.
    pub error: Failure,
}
