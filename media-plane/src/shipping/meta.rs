//! What shipping has to know of one output, kept in the spool's journal so that a restart knows it too.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use media::MediaTime;
use mux::{ObjectId, ObjectPart};
use recorder_proto::format::Format;
use recorder_proto::ids::{Entropy, Epoch, FileIndex, RecordingId};
use recorder_proto::key::{self, KeyContext, KeyTemplate, RecordSource, object_key};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::plan::StorageRef;
use serde::{Deserialize, Serialize};
use spool::OutputKey;

use super::plan;

/// File name of a recording's manifest.
const MANIFEST: &str = "manifest.json";

/// A moment on both clocks: ties media times to what people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    /// Wall clock.
    pub at: DateTime<Utc>,
    /// The publication's timeline, in 1/90 000 s.
    #[serde(with = "ticks")]
    pub media: MediaTime,
}

impl Wall {
    /// Wall clock at a media time.
    pub fn at(&self, media: MediaTime) -> DateTime<Utc> {
        let micros = (media - self.media).to_scale(1_000_000);
        self.at.checked_add_signed(TimeDelta::microseconds(micros)).unwrap_or(self.at)
    }
}

/// [`StorageRef`] as it is kept; without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Target {
    pub name: String,
    pub credential_version: u64,
    pub kind: String,
    pub bucket: String,
    pub region: String,
    pub endpoint: String,
    pub prefix: String,
    pub path_style: bool,
    pub storage_class: String,
    pub kms_key: String,
}

impl From<&StorageRef> for Target {
    fn from(wire: &StorageRef) -> Self {
        Self {
            name: wire.name.clone(),
            credential_version: wire.credential_version,
            kind: wire.kind.clone(),
            bucket: wire.bucket.clone(),
            region: wire.region.clone(),
            endpoint: wire.endpoint.clone(),
            prefix: wire.prefix.clone(),
            path_style: wire.path_style,
            storage_class: wire.storage_class.clone(),
            kms_key: wire.kms_key.clone(),
        }
    }
}

impl Target {
    /// Whether objects go to the same place, whatever the credential.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let credential_version = other.credential_version;
        Self { credential_version, ..self.clone() } == *other
    }
}

/// Everything about one output (recording and format) that its media does not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputMeta {
    /// The recording.
    pub recording: RecordingId,
    /// In place of its id in `{RecordId}`: that of its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_id: Option<String>,
    /// Epoch it is written under.
    pub epoch: Epoch,
    /// Its container.
    pub format: Format,
    /// What is recorded.
    pub stream: StreamKey,
    /// Where to.
    pub storage: Target,
    /// Where to when that keeps failing: whole files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Target>,
    /// What this output goes on with, when an earlier epoch wrote its beginning; HLS only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continues>,
    /// Index of its first file; earlier epochs wrote those before.
    #[serde(default)]
    pub first_file: u32,
    /// Id of the template.
    pub template: String,
    /// Key template; checked when the directive arrived.
    pub path: String,
    /// Zone of the `Start*` variables; checked likewise.
    pub time_zone: String,
    /// `{RandomID}`.
    pub random: Entropy,
    /// Copied to object metadata.
    pub labels: BTreeMap<String, String>,
    /// When the recording started, on both clocks.
    pub wall: Wall,
    /// Parts of a file go to the storage while it grows; HLS segments go as they close anyway.
    #[serde(default)]
    pub upload_while_recording: bool,
    /// Bytes of such a part, chosen once for the whole output.
    #[serde(default)]
    pub part_bytes: u64,
    /// The first bytes of a file are known last (fast-start MP4).
    #[serde(default)]
    pub head_last: bool,
}

/// The playlist of the epoch before: its entries come first in this epoch's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continues {
    /// Its whole key in the same storage.
    pub key: String,
}

impl OutputMeta {
    /// With its files sent while they grow.
    pub fn growing(self, options: &mux::Options) -> Self {
        Self {
            upload_while_recording: self.format != Format::Hls,
            part_bytes: plan::part_bytes_for(options.max_file_duration),
            head_last: self.format == Format::Mp4 && options.layout == mux::Layout::FastStart,
            ..self
        }
    }

    /// How its files are sent while they grow; none when they are not.
    pub fn growing_parts(&self) -> Option<plan::Growing> {
        let growing = plan::Growing { part_bytes: self.part_bytes, head_last: self.head_last };
        (self.upload_while_recording && self.part_bytes > 0).then_some(growing)
    }

    /// The key of one object in its storage.
    pub fn object_key(&self, object: ObjectId) -> String {
        self.object_key_in(&self.storage, object)
    }

    /// The key of one object in another storage.
    pub fn object_key_in(&self, storage: &Target, object: ObjectId) -> String {
        let part = match object.part {
            ObjectPart::Whole => key::ObjectPart::Whole,
            ObjectPart::Segment(number) => key::ObjectPart::Segment(number.into()),
            ObjectPart::Fragment(number) => key::ObjectPart::Fragment(number.into()),
            ObjectPart::Init(number) => key::ObjectPart::Init(number.into()),
            ObjectPart::Playlist => key::ObjectPart::Playlist,
        };
        let index = FileIndex(object.file);
        object_key(&storage.prefix, &self.key_base(index), self.format, index, part)
    }

    /// Its output in the spool.
    pub fn output_key(&self) -> OutputKey {
        OutputKey { recording: self.recording.to_string(), epoch: self.epoch.get(), format: self.format.to_string() }
    }

    /// The key of the recording's manifest: `manifest.json` in the folder of its first file when nobody else's files
    /// can be there, else beside that file under its name.
    pub fn manifest_key(&self) -> String {
        let base = self.key_base(FileIndex(0));
        let folder = |base: &str| base.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let next_epoch = Self { epoch: Epoch(self.epoch.get().saturating_add(1)), ..self.clone() };
        let end = if self.format == Format::Hls {
            format!("{base}/{MANIFEST}")
        } else {
            // The mark of the epoch stands where the unique id stands.
            match folder(&base) {
                Some(own) if folder(&next_epoch.key_base(FileIndex(0))).as_ref() != Some(&own) => {
                    format!("{own}/{MANIFEST}")
                }
                _ => format!("{base}-{MANIFEST}"),
            }
        };
        store::join_key(&self.storage.prefix, &end)
    }

    fn key_base(&self, file_index: FileIndex) -> String {
        // An unreadable path cannot come here; the default is as unique as any.
        let template = KeyTemplate::parse(&self.path).unwrap_or_default();
        template.expand(&KeyContext {
            source: RecordSource::Origin,
            domain: self.stream.domain(),
            app: self.stream.app(),
            stream: self.stream.stream(),
            recording: self.recording,
            record_id: self.record_id.as_deref(),
            epoch: self.epoch,
            start: self.wall.at,
            time_zone: self.time_zone.parse().unwrap_or_default(),
            random: self.random,
            template: &self.template,
            format: self.format,
            file_index,
            labels: &self.labels,
        })
    }
}

mod ticks {
    use media::MediaTime;
    use serde::{Deserialize, Deserializer, Serializer};

    // Serde wants a reference here.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn serialize<S: Serializer>(time: &MediaTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MediaTime, D::Error> {
        i64::deserialize(deserializer).map(MediaTime)
    }
}
