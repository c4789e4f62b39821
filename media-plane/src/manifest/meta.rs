//! What a recording is, as it was when it started: enough to go on with it after a restart.

use std::time::Duration;

use chrono::{DateTime, Utc};
use prost::Message;
use recorder_proto::facts::RecordingStarted;
use recorder_proto::format::Format;
use recorder_proto::ids::{Epoch, RecordingId};
use recorder_proto::pb::node::Plan;
use serde::{Deserialize, Serialize};
use spool::OutputKey;

use crate::shipping::{OutputMeta, Target};

/// The format directory of the output that holds a recording's entries.
pub const FORMAT: &str = "manifest";

/// A recording at its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingMeta {
    /// Stream, session, protocol, origin, template, labels, formats, start, claim key.
    pub started: RecordingStarted,
    /// What its outputs have in common: recording, epoch, storages, path, random, wall and so on. Its format is the
    /// first of `started.formats`.
    pub output: OutputMeta,
    /// The [`Plan`] it follows (template included), as hexadecimal protobuf.
    plan: String,
    /// The longest time any of its formats waits for its publisher; zero = it ends with the connection.
    pub resume_timeout: Duration,
    /// Where the manifest goes in `output.storage`.
    pub key: String,
    /// When the first epoch of the recording began; none when that is this one, or is not known.
    #[serde(default)]
    pub began: Option<DateTime<Utc>>,
    /// Formats that wait for a track that had not come when it started.
    #[serde(default)]
    pub late: Vec<Late>,
}

/// A format whose track has not come yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// Which.
    pub format: Format,
    /// Position of its first file, behind those of earlier epochs.
    pub first_file: u32,
}

impl RecordingMeta {
    /// Of a recording that starts.
    pub fn new(started: RecordingStarted, output: OutputMeta, plan: &Plan, resume_timeout: Duration) -> Self {
        let format = started.formats.first().copied().unwrap_or(output.format);
        let output = OutputMeta { format, ..output };
        let key = output.manifest_key();
        let plan = hex::encode(plan.encode_to_vec());
        Self { started, output, plan, resume_timeout, key, began: None, late: Vec::new() }
    }

    /// How long earlier epochs recorded, holes included.
    pub fn recorded_before(&self) -> Duration {
        self.began.and_then(|began| (self.output.wall.at - began).to_std().ok()).unwrap_or_default()
    }

    /// Which recording.
    pub fn recording(&self) -> RecordingId {
        self.output.recording
    }

    /// Under which epoch.
    pub fn epoch(&self) -> Epoch {
        self.output.epoch
    }

    /// The plan; none when a newer process wrote it in a form unknown here.
    pub fn plan(&self) -> Option<Plan> {
        Plan::decode(hex::decode(&self.plan).ok()?.as_slice()).ok()
    }

    /// The meta of one of its outputs, without what only that output's template says.
    pub fn output_of(&self, format: Format) -> OutputMeta {
        OutputMeta { format, ..self.output.clone() }
    }

    /// Where the manifest goes in a storage.
    pub fn key_in(&self, target: &Target) -> String {
        if target.is_same_place(&self.output.storage) {
            return self.key.clone();
        }
        OutputMeta { storage: target.clone(), ..self.output.clone() }.manifest_key()
    }

    /// The spool output of its entries.
    pub fn spool_key(&self) -> OutputKey {
        OutputKey { recording: self.recording().to_string(), epoch: self.epoch().get(), format: FORMAT.to_owned() }
    }
}
