//! Facts about files.

use chrono::{DateTime, Utc};
use media::{CodecConfig, MediaTime};
use mux::{ObjectId, ObjectPart, Summary};
use recorder_proto::facts::{Audio, Failure, FileAvailable, FileFailed, FileOpened, Video};
use recorder_proto::format::Format;
use recorder_proto::ids::FileIndex;
use recorder_proto::names::StorageName;
use store::crc32c_base64;

use super::file::Main;
use super::{OutputMeta, Target};
use crate::manifest::{FileEntry, FileMedia, FileState};
use crate::stream_facts::codec_name;

/// What facts of one output have in common.
pub struct Reporter<'a> {
    /// The output.
    pub meta: &'a OutputMeta,
    /// The storage of the file.
    pub target: &'a Target,
    /// Its name.
    pub storage: StorageName,
}

impl Reporter<'_> {
    /// A file was begun.
    pub fn opened(&self, file: u32, uri: impl Fn(&str) -> String, starts_at: MediaTime) -> FileOpened {
        let object_key = self.meta.object_key_in(self.target, main_object(self.meta.format, file));
        FileOpened {
            format: self.meta.format,
            index: FileIndex(file),
            storage: self.storage.clone(),
            uri: uri(&object_key),
            object_key,
            content_type: self.meta.format.content_type().to_owned(),
            start_time: self.meta.wall.at(starts_at),
            video: None,
            audio: None,
        }
    }

    /// A file is complete in its storage.
    pub fn available(
        &self,
        summary: &Summary,
        main: &Main,
        (objects, size_bytes): (u32, u64),
        uri: impl Fn(&str) -> String,
        available_time: DateTime<Utc>,
    ) -> FileAvailable {
        let object_key = self.meta.object_key_in(self.target, main.object);
        let duration = (summary.ends_at - summary.starts_at).as_duration();
        FileAvailable {
            format: self.meta.format,
            index: FileIndex(main.object.file),
            storage: self.storage.clone(),
            uri: uri(&object_key),
            object_key,
            content_type: self.meta.format.content_type().to_owned(),
            size_bytes,
            objects,
            crc32c: main.crc32c.map(crc32c_base64).unwrap_or_default(),
            object_etag: main.etag.clone(),
            // Media pushed faster than real time ends later on its own clock than it was there.
            start_time: self.meta.wall.at(summary.starts_at).min(available_time),
            end_time: self.meta.wall.at(summary.ends_at).min(available_time),
            duration_micros: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            video: video(summary),
            audio: audio(summary),
            available_time,
        }
    }

    /// A file could not be stored; so many bytes of it are kept for another try.
    pub fn failed(&self, file: u32, error: Failure, bytes_kept: u64) -> FileFailed {
        FileFailed {
            format: self.meta.format,
            index: FileIndex(file),
            storage: self.storage.clone(),
            object_key: self.meta.object_key_in(self.target, main_object(self.meta.format, file)),
            error,
            bytes_kept,
        }
    }
}

/// The object that stands for a file.
pub fn main_object(format: Format, file: u32) -> ObjectId {
    let part = if format == Format::Hls { ObjectPart::Playlist } else { ObjectPart::Whole };
    ObjectId { file, part }
}

/// The file as its recording's manifest tells it.
pub fn available_entry(meta: &OutputMeta, file: &FileAvailable, summary: &Summary) -> FileEntry {
    FileEntry {
        format: file.format,
        index: file.index.get(),
        state: FileState::Available,
        storage: file.storage.to_string(),
        key: file.object_key.clone(),
        uri: file.uri.clone(),
        size: file.size_bytes,
        crc32c: file.crc32c.clone(),
        media: Some(file_media(meta, summary)),
        error: None,
        chosen: false,
        kept: false,
    }
}

/// The same of one that could not be stored.
pub fn failed_entry(meta: &OutputMeta, file: &FileFailed, uri: String, summary: Option<&Summary>) -> FileEntry {
    FileEntry {
        format: file.format,
        index: file.index.get(),
        state: FileState::Failed,
        storage: file.storage.to_string(),
        key: file.object_key.clone(),
        uri,
        size: 0,
        crc32c: String::new(),
        media: summary.map(|summary| file_media(meta, summary)),
        error: Some(file.error.clone()),
        chosen: false,
        kept: file.bytes_kept > 0,
    }
}

fn file_media(meta: &OutputMeta, summary: &Summary) -> FileMedia {
    let from_start = |time: MediaTime| (time - meta.wall.media).to_scale(1_000_000);
    FileMedia {
        start_time: meta.wall.at(summary.starts_at),
        end_time: meta.wall.at(summary.ends_at),
        starts_at_micros: from_start(summary.starts_at),
        ends_at_micros: from_start(summary.ends_at),
        video_frames: summary.video_frames,
        audio_frames: summary.audio_frames,
        video: video(summary),
        audio: audio(summary),
    }
}

fn video(summary: &Summary) -> Option<Video> {
    let config = summary.video.as_ref()?;
    let (width, height) = config.picture_size()?;
    let seconds = (summary.ends_at - summary.starts_at).as_secs_f64();
    let frame_rate = if seconds > 0.0 { summary.video_frames as f64 / seconds } else { 0.0 };
    (summary.video_frames > 0).then(|| Video {
        codec: codec_name(config).to_owned(),
        width,
        height,
        frame_rate: (frame_rate * 1_000.0).round() / 1_000.0,
    })
}

fn audio(summary: &Summary) -> Option<Audio> {
    let (codec, sample_rate, channels, transcoded) = match summary.audio.as_ref()? {
        CodecConfig::Aac(aac) => ("aac", aac.output_sample_rate, aac.channels, aac.transcoded),
        CodecConfig::Opus(opus) => ("opus", media::opus::SAMPLE_RATE, opus.channels, false),
        _ => return None,
    };
    let codec = codec.to_owned();
    (summary.audio_frames > 0).then(|| Audio { codec, sample_rate, channels: channels.into(), transcoded })
}
