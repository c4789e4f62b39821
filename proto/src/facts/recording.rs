//! Facts about recordings.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Failure, proto_enum};
use crate::format::Format;
use crate::ids::{Epoch, RecordingId, SessionId};
use crate::names::{NodeName, RecordingName, StorageName, StreamKey, TemplateName};
use crate::pb::v1;
use crate::time;

/// The first frame of a recording was written: enough to create it, should its claim never have arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingStarted {
    /// What is recorded.
    pub stream: StreamKey,
    /// The connection it comes from.
    pub session: SessionId,
    /// How it is published.
    #[serde(with = "proto_enum::protocol")]
    pub protocol: v1::protocol::Kind,
    /// `rules/..`, `domains/../bindings/..` or `tasks/..`.
    pub origin: String,
    /// Others that ask for the same template.
    #[serde(default)]
    pub also: Vec<String>,
    /// The template.
    pub template: TemplateName,
    /// Its revision.
    pub template_revision: u32,
    /// Where the files go.
    pub storage: StorageName,
    /// The template's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Formats being written.
    pub formats: Vec<Format>,
    /// When the first frame arrived.
    pub start_time: DateTime<Utc>,
    /// The key under which it was or will be claimed.
    pub claim_key: String,
}

/// Counters of one format of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTotals {
    /// Which format.
    pub format: Format,
    /// Files opened so far.
    pub files: u32,
    /// Bytes written to disk.
    pub bytes_recorded: u64,
    /// Bytes in the storage.
    pub bytes_uploaded: u64,
    /// Age of the oldest byte that is not, microseconds.
    #[serde(default)]
    pub upload_lag_micros: u64,
    /// Why this format failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A hole in the media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapSpan {
    /// When the media stopped.
    pub start_time: DateTime<Utc>,
    /// How long nothing was recorded, microseconds.
    pub duration_micros: u64,
    /// Why.
    #[serde(with = "proto_enum::gap_reason")]
    pub reason: v1::gap::Reason,
}

/// The publisher is away; the recording waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingInterrupted {
    /// When the media stopped.
    pub since: DateTime<Utc>,
    /// Until when the recording waits.
    pub resume_deadline: DateTime<Utc>,
    /// Why.
    #[serde(with = "proto_enum::gap_reason")]
    pub reason: v1::gap::Reason,
    /// Length of the media so far, microseconds.
    pub media_duration_micros: u64,
    /// One per format.
    #[serde(default)]
    pub outputs: Vec<OutputTotals>,
}

/// The publisher came back in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingResumed {
    /// The connection it goes on with.
    pub session: SessionId,
    /// When the first new frame arrived.
    pub time: DateTime<Utc>,
    /// The hole that is left.
    pub gap: GapSpan,
}

/// A recording is over; its files are being shipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingEnded {
    /// Why.
    #[serde(with = "proto_enum::end_reason")]
    pub end_reason: v1::recording::EndReason,
    /// When the first frame arrived.
    pub start_time: DateTime<Utc>,
    /// When the last frame arrived.
    pub end_time: DateTime<Utc>,
    /// Length of the media, microseconds.
    pub media_duration_micros: u64,
    /// Every hole.
    #[serde(default)]
    pub gaps: Vec<GapSpan>,
    /// One per format. `files` is final: the recording is complete once so many are available.
    #[serde(default)]
    pub outputs: Vec<OutputTotals>,
    /// What was wrong, if something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// The manifest of a recording (`manifest.json`) is in its storage, size and checksum confirmed. Told again when a later
/// one takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingManifest {
    /// Where it is.
    pub storage: StorageName,
    /// Key of its object.
    pub object_key: String,
    /// The same as a URI.
    pub uri: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Base64 of the big-endian CRC32C.
    pub crc32c: String,
}

impl RecordingManifest {
    /// The manifest as the API shows it.
    pub fn to_pb(&self) -> v1::recording::Manifest {
        v1::recording::Manifest {
            uri: self.uri.clone(),
            object_key: self.object_key.clone(),
            size_bytes: self.size_bytes,
            crc32c: self.crc32c.clone(),
            storage: self.storage.to_string(),
        }
    }
}

impl RecordingStarted {
    /// The recording as the API shows it at its start.
    pub fn to_pb(&self, recording: RecordingId, epoch: Epoch, node: &NodeName) -> v1::Recording {
        let output = |format: &Format| v1::recording::Output {
            format: v1::format::Kind::from(*format).into(),
            ..Default::default()
        };
        v1::Recording {
            name: RecordingName(recording).to_string(),
            stream: Some((&self.stream).into()),
            protocol: self.protocol.into(),
            origin: origin_to_pb(&self.origin),
            template: self.template.to_string(),
            template_revision: self.template_revision,
            storage: self.storage.to_string(),
            labels: self.labels.clone(),
            state: v1::recording::State::Recording.into(),
            node: node.to_string(),
            epoch: epoch.get(),
            start_time: Some(time::timestamp(self.start_time)),
            outputs: self.formats.iter().map(output).collect(),
            ..Default::default()
        }
    }
}

/// The oneof of `Recording.origin` for the name of a rule, binding or task.
pub fn origin_to_pb(origin: &str) -> Option<v1::recording::Origin> {
    match origin.split_once('/').map(|(collection, _)| collection) {
        Some("domains") => Some(v1::recording::Origin::Binding(origin.to_owned())),
        Some("rules") => Some(v1::recording::Origin::Rule(origin.to_owned())),
        Some("tasks") => Some(v1::recording::Origin::Task(origin.to_owned())),
        _ => None,
    }
}

impl OutputTotals {
    /// The counters as the API shows them.
    pub fn to_pb(&self) -> v1::recording::Output {
        let lag = Some(self.upload_lag_micros).filter(|micros| *micros > 0);
        v1::recording::Output {
            format: v1::format::Kind::from(self.format).into(),
            files: self.files,
            bytes_recorded: self.bytes_recorded,
            bytes_uploaded: self.bytes_uploaded,
            upload_lag: lag.map(|micros| time::duration(Duration::from_micros(micros))),
            error: self.error.as_ref().map(Into::into),
        }
    }
}

impl GapSpan {
    /// The gap as the API shows it.
    pub fn to_pb(&self) -> v1::Gap {
        v1::Gap {
            start_time: Some(time::timestamp(self.start_time)),
            duration: Some(time::duration(Duration::from_micros(self.duration_micros))),
            reason: self.reason.into(),
        }
    }
}
