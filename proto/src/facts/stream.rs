//! Facts about publishers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Failure, proto_enum};
use crate::ids::{RecordingId, SessionId};
use crate::names::{NodeName, RecordingName, StreamKey, StreamName};
use crate::pb::v1;
use crate::time;

/// A publisher as the node sees it now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamSnapshot {
    /// The connection.
    pub session: SessionId,
    /// What is published.
    pub stream: StreamKey,
    /// How.
    #[serde(with = "proto_enum::protocol")]
    pub protocol: v1::protocol::Kind,
    /// The publisher's IP address and port.
    #[serde(default)]
    pub remote_address: String,
    /// What the encoder calls itself.
    #[serde(default)]
    pub encoder: String,
    /// When publishing began.
    pub start_time: DateTime<Utc>,
    /// What has been seen of each track.
    #[serde(default)]
    pub tracks: Vec<Track>,
    /// Recordings made of it.
    #[serde(default)]
    pub recordings: Vec<RecordingId>,
}

/// One picture or sound track.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Track {
    /// `video` or `audio`.
    pub kind: String,
    /// `h264`, `aac` ....
    pub codec: String,
    /// Bits per second over the last reporting interval.
    pub bit_rate_bps: u32,
    /// Frames per second; video only.
    pub frame_rate: f64,
    /// Pixels; video only.
    pub width: u32,
    /// Pixels; video only.
    pub height: u32,
    /// Samples per second; audio only.
    pub sample_rate: u32,
    /// Channels; audio only.
    pub channels: u32,
    /// Microseconds between the last two key frames; video only, 0 = unknown.
    pub key_frame_interval_micros: u64,
    /// Frames received.
    pub frames: u64,
    /// Frames that could not be used.
    pub frames_rejected: u64,
}

/// A publisher has gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamEnded {
    /// The connection.
    pub session: SessionId,
    /// What was published.
    pub stream: StreamKey,
    /// When the last byte came.
    pub end_time: DateTime<Utc>,
    /// Whether the publisher said goodbye (`FCUnpublish`, `deleteStream`, DELETE) or just vanished (E17).
    pub orderly: bool,
    /// How it ended, e.g. `publisher left`, `connection lost`, `idle`, `replaced`, `disconnected`.
    pub cause: String,
    /// What was wrong, if something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The tracks as they were last.
    #[serde(default)]
    pub tracks: Vec<Track>,
    /// Bytes received in all.
    #[serde(default)]
    pub bytes_received: u64,
}

impl Track {
    /// The track as the API shows it.
    pub fn to_pb(&self) -> v1::stream::Track {
        let interval = Some(self.key_frame_interval_micros).filter(|micros| *micros > 0);
        v1::stream::Track {
            kind: self.kind.clone(),
            codec: self.codec.clone(),
            bit_rate_bps: self.bit_rate_bps,
            frame_rate: self.frame_rate,
            width: self.width,
            height: self.height,
            sample_rate: self.sample_rate,
            channels: self.channels,
            key_frame_interval: interval.map(|micros| time::duration(Duration::from_micros(micros))),
            frames: self.frames,
            frames_rejected: self.frames_rejected,
        }
    }
}

impl StreamSnapshot {
    /// The stream as the API shows it.
    pub fn to_pb(&self, node: &NodeName) -> v1::Stream {
        v1::Stream {
            name: StreamName(self.session).to_string(),
            stream: Some((&self.stream).into()),
            protocol: self.protocol.into(),
            node: node.to_string(),
            remote_address: self.remote_address.clone(),
            encoder: self.encoder.clone(),
            start_time: Some(time::timestamp(self.start_time)),
            tracks: self.tracks.iter().map(Track::to_pb).collect(),
            recordings: self.recordings.iter().map(|id| RecordingName(*id).to_string()).collect(),
            end: None,
        }
    }
}
