//! What shipping notes in the journal, and what an earlier process left.

use bytes::Bytes;
use mux::{Mark, ObjectId, ObjectSpec, Summary};
use serde::{Deserialize, Serialize};

use crate::OutputKey;
use crate::key::object_serde;

/// Progress of shipping, kept beside the media so that a restart goes on where it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A multipart upload exists at the provider.
    UploadCreated {
        /// The object.
        #[serde(with = "object_serde")]
        object: ObjectId,
        /// Object key in the bucket.
        key: String,
        /// The provider's id of the upload.
        upload_id: String,
    },
    /// A part of it was accepted.
    PartDone {
        /// The object.
        #[serde(with = "object_serde")]
        object: ObjectId,
        /// Part number, from 1.
        number: u32,
        /// The provider's tag of the part.
        etag: String,
        /// CRC-32C of the part.
        crc32c: u32,
        /// Bytes in it.
        len: u64,
    },
    /// The object is in the bucket and was seen there with our size and checksum.
    Committed {
        /// The object.
        #[serde(with = "object_serde")]
        object: ObjectId,
        /// The provider's tag.
        etag: String,
        /// Bytes in the bucket.
        size: u64,
    },
    /// The fact that tells the control plane of it is durable there.
    Reported {
        /// The object.
        #[serde(with = "object_serde")]
        object: ObjectId,
        /// Sequence of the fact.
        sequence: u64,
    },
    /// Anything about the output that its owner wants back after a restart, in order.
    Note(serde_json::Value),
}

impl Record {
    /// The object the record is about; none when it is about the output.
    pub fn object(&self) -> Option<ObjectId> {
        match self {
            Self::UploadCreated { object, .. }
            | Self::PartDone { object, .. }
            | Self::Committed { object, .. }
            | Self::Reported { object, .. } => Some(*object),
            Self::Note(_) => None,
        }
    }
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectState {
    /// Its process ended while it grew; it was cut back to its last durable mark.
    Open {
        /// Bytes up to that mark.
        bytes: u64,
        /// That mark; none when it never had one.
        mark: Option<Mark>,
    },
    /// Complete.
    Closed {
        /// What it holds.
        summary: Summary,
        /// Bytes of head and data.
        size: u64,
        /// CRC-32C of head and data.
        crc32c: u32,
    },
}

/// A part the provider has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Part number, from 1.
    pub number: u32,
    /// The provider's tag.
    pub etag: String,
    /// CRC-32C of the part.
    pub crc32c: u32,
    /// Bytes in it.
    pub len: u64,
}

/// A multipart upload under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Object key in the bucket.
    pub key: String,
    /// The provider's id of the upload.
    pub upload_id: String,
    /// Parts done, in the order they were noted.
    pub parts: Vec<Part>,
}

/// An object in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The provider's tag.
    pub etag: String,
    /// Bytes in the bucket.
    pub size: u64,
}

/// An object whose bytes are still spooled.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredObject {
    /// What it is.
    pub spec: ObjectSpec,
    /// Open or closed.
    pub state: ObjectState,
    /// The newest upload noted for it.
    pub upload: Option<Upload>,
    /// Set once it was seen in the bucket.
    pub committed: Option<Committed>,
    /// Sequence of the fact that reported it.
    pub reported: Option<u64>,
    /// What the muxer noted about it up to its end or mark, in one piece. Forgotten once its file is done.
    pub notes: Bytes,
    /// Bytes of it that had been durable were damaged, by a disk or a hand: it ends at the last good mark before them.
    pub damaged: Option<String>,
}

/// The newest text of a playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPlaylist {
    /// The playlist object.
    pub object: ObjectId,
    /// Its whole text.
    pub body: Bytes,
    /// It carries `EXT-X-ENDLIST`.
    pub last: bool,
    /// Set when exactly this text was seen in the bucket.
    pub committed: Option<Committed>,
    /// Sequence of the fact that reported it.
    pub reported: Option<u64>,
}

/// An API file all objects of which are closed.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFile {
    /// `File.index`.
    pub file: u32,
    /// What it holds.
    pub summary: Summary,
}

/// An object that was shipped and let go.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleasedObject {
    /// The object.
    pub object: ObjectId,
    /// Bytes it had.
    pub size: u64,
    /// CRC-32C of them.
    pub crc32c: u32,
    /// What it held; none for a playlist.
    pub summary: Option<Summary>,
}

/// What of a file was shipped and let go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReleasedFile {
    /// `File.index`.
    pub file: u32,
    /// Objects released, in that order.
    pub objects: Vec<ReleasedObject>,
}

impl ReleasedFile {
    /// Bytes of all its released objects.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.size).sum()
    }
}

/// An output an earlier process left.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredOutput {
    /// Its key.
    pub key: OutputKey,
    /// What [`crate::Spool::create`] was given.
    pub meta: serde_json::Value,
    /// Objects not released, in order of their ids; playlists apart.
    pub objects: Vec<StoredObject>,
    /// Playlists not released.
    pub playlists: Vec<StoredPlaylist>,
    /// Files that are complete.
    pub files: Vec<StoredFile>,
    /// What is gone already, by file.
    pub released: Vec<ReleasedFile>,
    /// [`Record::Note`]s, in order.
    pub notes: Vec<serde_json::Value>,
    /// Its journal was damaged: what is here is right, but it may not be all there was.
    pub damaged: Option<String>,
    /// The writer had finished. Otherwise [`crate::Spool::reopen`] goes on with it.
    pub finished: bool,
}
