//! Who publishes, and what is known of what comes from there.

use chrono::{DateTime, Utc};
use media::CodecConfig;
use media::ingest::Metadata;
use recorder_proto::ids::SessionId;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::protocol;

/// Who publishes.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// Id of this publish session.
    pub session: SessionId,
    /// What is published.
    pub stream: StreamKey,
    /// Over which protocol.
    pub protocol: protocol::Kind,
    /// Address and port of the peer.
    pub remote: String,
    /// Encoder name and version, empty when unknown.
    pub encoder: String,
    /// When it was let in.
    pub since: DateTime<Utc>,
}

/// Frame counters of one track, for the stream's report.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrackCount {
    /// Frames taken.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames and records that could not be used.
    pub rejected: u64,
}

/// What is known of the publication's tracks.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Video configuration.
    pub video: Option<CodecConfig>,
    /// Audio configuration.
    pub audio: Option<CodecConfig>,
    /// Video counters.
    pub video_count: TrackCount,
    /// Audio counters.
    pub audio_count: TrackCount,
    /// What the publisher says about itself.
    pub metadata: Metadata,
}
