//! Names of outputs and objects, and their form on disk.

use std::fmt;

use mux::{ObjectId, ObjectPart};

use crate::Error;

/// One format of one epoch of a recording.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputKey {
    /// ULID of the recording.
    pub recording: String,
    /// Epoch under which this node records it.
    pub epoch: u64,
    /// `hls`, `flv`, `mp4`, `aac`.
    pub format: String,
}

impl fmt::Display for OutputKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-e{}/{}", self.recording, self.epoch, self.format)
    }
}

/// Longest part of a key: a ULID has 26 characters, a format name fewer.
const MAX_PART: usize = 64;

impl OutputKey {
    /// Keys become directory names, so nothing but letters, digits and `_` passes.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for part in [&self.recording, &self.format] {
            let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if part.is_empty() || part.len() > MAX_PART || !plain {
                return Err(Error::Key { key: self.to_string(), problem: "not a plain name" });
            }
        }
        Ok(())
    }

    /// The directory of the recording and epoch.
    pub(crate) fn parent(&self) -> String {
        format!("{}-e{}", self.recording, self.epoch)
    }

    /// The key of the directory `parent/format`, if those are names of ours.
    pub(crate) fn parse(parent: &str, format: &str) -> Option<Self> {
        let (recording, epoch) = parent.rsplit_once("-e")?;
        let key = Self { recording: recording.into(), epoch: epoch.parse().ok()?, format: format.into() };
        key.check().ok()?;
        Some(key)
    }
}

/// `0-whole`, `0-s12`, `0-f12`, `0-i0`, `0-playlist`: the object's name in file names, records and messages.
pub fn object_name(object: ObjectId) -> String {
    let file = object.file;
    match object.part {
        ObjectPart::Whole => format!("{file}-whole"),
        ObjectPart::Segment(n) => format!("{file}-s{n}"),
        ObjectPart::Fragment(n) => format!("{file}-f{n}"),
        ObjectPart::Init(n) => format!("{file}-i{n}"),
        ObjectPart::Playlist => format!("{file}-playlist"),
    }
}

/// The reverse of [`object_name`].
pub(crate) fn parse_object(name: &str) -> Option<ObjectId> {
    let (file, part) = name.split_once('-')?;
    let part = match part {
        "whole" => ObjectPart::Whole,
        "playlist" => ObjectPart::Playlist,
        _ if part.starts_with('s') => ObjectPart::Segment(part.get(1..)?.parse().ok()?),
        _ if part.starts_with('f') => ObjectPart::Fragment(part.get(1..)?.parse().ok()?),
        _ if part.starts_with('i') => ObjectPart::Init(part.get(1..)?.parse().ok()?),
        _ => return None,
    };
    Some(ObjectId { file: file.parse().ok()?, part })
}

/// Object ids as their names in JSON records.
pub(crate) mod object_serde {
    use mux::ObjectId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(object: &ObjectId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::object_name(*object))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectId, D::Error> {
        let name = String::deserialize(deserializer)?;
        super::parse_object(&name).ok_or_else(|| D::Error::custom("not an object name"))
    }
}
