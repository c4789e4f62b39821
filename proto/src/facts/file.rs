//! Facts about files.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::format::Format;
use crate::ids::{Epoch, FileIndex, RecordingId};
use crate::names::{FileName, StorageName};
use crate::pb::v1;
use crate::time;

/// The picture track of a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Video {
    /// `h264` ....
    pub codec: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames per second, as measured; 0 = not yet.
    pub frame_rate: f64,
}

/// The sound track of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Audio {
    /// `aac` ....
    pub codec: String,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// Whether the recorder encoded it.
    pub transcoded: bool,
}

/// A file was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileOpened {
    /// Its container.
    pub format: Format,
    /// Its position within recording and format.
    pub index: FileIndex,
    /// Where it goes.
    pub storage: StorageName,
    /// Key of its object (for HLS, of the playlist).
    pub object_key: String,
    /// The same as a URI.
    pub uri: String,
    /// Content type of that object.
    pub content_type: String,
    /// When its first frame arrived.
    pub start_time: DateTime<Utc>,
    /// Picture, if known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// Sound, if known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<Audio>,
}

/// A file is complete in its storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileAvailable {
    /// Its container.
    pub format: Format,
    /// Its position within recording and format.
    pub index: FileIndex,
    /// Where it is; the backup storage, when that took it.
    pub storage: StorageName,
    /// Key of its object (for HLS, of the playlist).
    pub object_key: String,
    /// The same as a URI.
    pub uri: String,
    /// Content type of that object.
    pub content_type: String,
    /// Bytes, segments included.
    pub size_bytes: u64,
    /// Objects it consists of: 1, or playlist and segments.
    #[serde(default)]
    pub objects: u32,
    /// Base64 of the big-endian CRC32C; empty for HLS.
    #[serde(default)]
    pub crc32c: String,
    /// The provider's ETag.
    #[serde(default)]
    pub object_etag: String,
    /// When its first frame arrived.
    pub start_time: DateTime<Utc>,
    /// When its last frame arrived.
    pub end_time: DateTime<Utc>,
    /// Length of its media, microseconds.
    pub duration_micros: u64,
    /// Picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// Sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<Audio>,
    /// When the storage confirmed it.
    pub available_time: DateTime<Utc>,
}

/// A file could not be stored; the bytes stay on the node until someone decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileFailed {
    /// Its container.
    pub format: Format,
    /// Its position within recording and format.
    pub index: FileIndex,
    /// Where it should have gone.
    pub storage: StorageName,
    /// Key it should have had.
    pub object_key: String,
    /// Why, in the provider's own words.
    pub error: Failure,
    /// Bytes that wait on the node; 0 = nothing is left.
    #[serde(default)]
    pub bytes_kept: u64,
}

fn name(recording: RecordingId, format: Format, index: FileIndex) -> String {
    FileName { recording, format, index }.to_string()
}

impl Video {
    fn to_pb(&self) -> v1::file::Video {
        v1::file::Video {
            codec: self.codec.clone(),
            width: self.width,
            height: self.height,
            frame_rate: self.frame_rate,
        }
    }
}

impl Audio {
    fn to_pb(&self) -> v1::file::Audio {
        v1::file::Audio {
            codec: self.codec.clone(),
            sample_rate: self.sample_rate,
            channels: self.channels,
            transcoded: self.transcoded,
        }
    }
}

impl FileOpened {
    /// The file as the API shows it while it is written.
    pub fn to_pb(&self, recording: RecordingId, epoch: Epoch) -> v1::File {
        v1::File {
            name: name(recording, self.format, self.index),
            format: v1::format::Kind::from(self.format).into(),
            index: self.index.get(),
            epoch: epoch.get(),
            state: v1::file::State::Open.into(),
            uri: self.uri.clone(),
            object_key: self.object_key.clone(),
            content_type: self.content_type.clone(),
            start_time: Some(time::timestamp(self.start_time)),
            video: self.video.as_ref().map(Video::to_pb),
            audio: self.audio.as_ref().map(Audio::to_pb),
            ..Default::default()
        }
    }
}

impl FileAvailable {
    /// The file as the API shows it once it is in its storage.
    pub fn to_pb(&self, recording: RecordingId, epoch: Epoch) -> v1::File {
        v1::File {
            name: name(recording, self.format, self.index),
            format: v1::format::Kind::from(self.format).into(),
            index: self.index.get(),
            epoch: epoch.get(),
            state: v1::file::State::Available.into(),
            uri: self.uri.clone(),
            object_key: self.object_key.clone(),
            content_type: self.content_type.clone(),
            size_bytes: self.size_bytes,
            crc32c: self.crc32c.clone(),
            object_etag: self.object_etag.clone(),
            start_time: Some(time::timestamp(self.start_time)),
            end_time: Some(time::timestamp(self.end_time)),
            duration: Some(time::duration(Duration::from_micros(self.duration_micros))),
            video: self.video.as_ref().map(Video::to_pb),
            audio: self.audio.as_ref().map(Audio::to_pb),
            available_time: Some(time::timestamp(self.available_time)),
            ..Default::default()
        }
    }
}

impl FileFailed {
    /// The file as the API shows it, as far as this fact alone tells.
    pub fn to_pb(&self, recording: RecordingId, epoch: Epoch) -> v1::File {
        v1::File {
            name: name(recording, self.format, self.index),
            format: v1::format::Kind::from(self.format).into(),
            index: self.index.get(),
            epoch: epoch.get(),
            state: v1::file::State::Failed.into(),
            error: Some((&self.error).into()),
            object_key: self.object_key.clone(),
            bytes_kept: self.bytes_kept,
            ..Default::default()
        }
    }
}
