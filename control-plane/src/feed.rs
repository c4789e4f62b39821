//! The feed of events: every change of a recording, file, stream or node, written in the transaction of the change.
//!
//! Bodies: `recording.*` a [`v1::Recording`]; `file.*` a [`v1::WatchRecordingsResponse`] with the file and its recording
//! as they were then, so that a watch shows exactly what happened; `stream.*` a [`v1::Stream`]; `node.*` a [`v1::Node`].
//! Types ending in `.created` and `.updated` are for watches only and have no name in the public list (api B.11).
use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::{AnyConnection, Result, events};
use recorder_proto::ids::EventId;
use recorder_proto::pb::v1;
use recorder_proto::time;

/// A recording that is new to the control plane.
pub const RECORDING_CREATED: &str = "recording.created";
/// A recording whose numbers have changed.
pub const RECORDING_UPDATED: &str = "recording.updated";
/// A recording that was removed.
pub const RECORDING_DELETED: &str = "recording.deleted";
/// A file whose object was deleted through the API.
pub const FILE_DELETED: &str = "file.deleted";
/// A file whose numbers have changed.
pub const FILE_UPDATED: &str = "file.updated";

/// A node that is new to the control plane.
pub const NODE_CREATED: &str = "node.created";
/// A node that registered again.
pub const NODE_UPDATED: &str = "node.updated";
/// A node that was forgotten.
pub const NODE_DELETED: &str = "node.deleted";

/// Where an event comes from: its id and time.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Unique among all events.
    pub id: EventId,
    /// When it happened.
    pub at: DateTime<Utc>,
}

impl Stamp {
    /// A fresh id for something that happened at the control plane, or follows from a fact with an id of its own.
    pub fn fresh(at: DateTime<Utc>) -> Self {
        Self { id: EventId::new(at, rand::random()), at }
    }
}

/// Appends an event.
pub fn append(connection: &mut AnyConnection, stamp: Stamp, kind: &str, subject: &str, body: Vec<u8>) -> Result<()> {
    events::append(connection, &stamp.id.to_string(), kind, subject, time::micros(stamp.at), body)?;
    Ok(())
}

/// Appends an event about a recording.
pub fn recording(connection: &mut AnyConnection, stamp: Stamp, kind: &str, recording: &v1::Recording) -> Result<()> {
    append(connection, stamp, kind, &recording.name, recording.encode_to_vec())
}

/// Appends an event about a file of a recording.
pub fn file(
    connection: &mut AnyConnection,
    stamp: Stamp,
    kind: &str,
    recording: &v1::Recording,
    file: &v1::File,
) -> Result<()> {
    let change = v1::WatchRecordingsResponse {
        kind: v1::watch_recordings_response::Kind::Updated as i32,
        recording: Some(recording.clone()),
        file: Some(file.clone()),
        resume_token: String::new(),
    };
    append(connection, stamp, kind, &file.name, change.encode_to_vec())
}
