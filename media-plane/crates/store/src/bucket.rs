//! The port: what a place for finished files can do, in the terms that S3, Google and a directory share.
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use crate::error::{Error, Kind};
use crate::stream;

/// A body whose length is not known beforehand; an error ends the upload without a visible object.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A place where objects appear whole or not at all.
///
/// Every call is one attempt, ends within the target's [`crate::AttemptLimit`] and may be dropped at any await: what a
/// dropped or failed call leaves behind is at most an invisible part or an object with exactly the given bytes.
#[async_trait]
pub trait Bucket: fmt::Debug + Send + Sync {
    /// Stores a whole object. Checks the store's checksum against ours where the store reports one.
    async fn put(&self, key: &str, body: Bytes, meta: &ObjectMeta, condition: If) -> Result<Stored, Error>;

    /// Opens a multipart upload; nothing is visible under `key` until [`Bucket::complete`].
    async fn create_upload(&self, key: &str, meta: &ObjectMeta) -> Result<UploadId, Error>;

    /// Stores part `number` (1-based). Giving the same number again replaces the part, or confirms it when the store
    /// is sequential and the bytes are the same.
    async fn put_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part, Error>;

    /// The parts that the store holds, by number: the truth after a restart.
    ///
    /// A sequential store ([`Capabilities::parts_in_any_order`] is false) that was opened anew knows bytes only and
    /// lists them as parts of its own making, without tags: whatever the parts were before, continue with the next
    /// number at the offset that is the sum of the sizes.
    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<Part>, Error>;

    /// Makes the object of these parts visible. May be repeated after a lost reply: when the upload is gone and the
    /// object under `key` is the one these parts make, that is a success.
    async fn complete(&self, key: &str, upload: &UploadId, parts: &[Part], condition: If) -> Result<Stored, Error>;

    /// Joins objects of the same bucket, in this order, to the object `key`, without moving their bytes through here.
    /// The sources stay. [`crate::Kind::Unsupported`] where [`Capabilities::composes`] is false.
    async fn compose(&self, key: &str, sources: &[String], meta: &ObjectMeta) -> Result<Stored, Error> {
        let _ = (sources, meta);
        Err(Error::new("compose", key, Kind::Unsupported, "Unsupported", "this store cannot join objects"))
    }

    /// Gives an upload up and frees its parts. An upload that does not exist (any more) is a success.
    async fn abort(&self, key: &str, upload: &UploadId) -> Result<(), Error>;

    /// Open uploads whose key begins with `prefix`; empty where [`Capabilities::lists_uploads`] is false.
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Upload>, Error>;

    /// Size and tags of the object, `None` when there is none.
    async fn head(&self, key: &str) -> Result<Option<Stored>, Error>;

    /// Bytes `range` of the object, cut at its end; [`crate::Kind::NotFound`] when there is no object.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error>;

    /// Removes the object. An object that does not exist is a success.
    async fn delete(&self, key: &str) -> Result<(), Error>;

    /// Objects whose key begins with `prefix`, by key; an error when there are more than 100,000.
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error>;

    /// A URL that reads the object without credentials for `ttl`; [`crate::Kind::Unsupported`] where there is none.
    async fn presign(&self, key: &str, ttl: Duration) -> Result<String, Error>;

    /// Where the object is, for people and other programs: `s3://bucket/key`, `gs://bucket/key`, `library:///key`.
    fn uri(&self, key: &str) -> String;

    /// What this store can promise.
    fn capabilities(&self) -> Capabilities;

    /// Stores a body of unknown length without holding more than one part of `part_size` bytes in memory. A body of
    /// at most one part becomes a plain put; on failure the upload is aborted.
    async fn upload_stream(
        &self,
        key: &str,
        body: ByteStream,
        meta: &ObjectMeta,
        part_size: u64,
        condition: If,
    ) -> Result<Stored, Error> {
        stream::by_parts(self, key, body, meta, part_size, condition).await
    }
}

/// When a write may take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum If {
    /// Only when there is no object of that key; otherwise [`crate::Kind::AlreadyExists`]. Atomic only where
    /// [`Capabilities::conditional_put`] or [`Capabilities::conditional_commit`] says so, else looked up just before:
    /// safety comes from unique keys (reliability.md D.1).
    Absent,
    /// Always; an object of that key is replaced.
    Any,
}

/// What is said about an object besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// MIME type; a library on a file system keeps none and serves by extension.
    pub content_type: String,
    /// `Cache-Control`, see [`crate::CACHE_NO_STORE`] and [`crate::CACHE_IMMUTABLE`].
    pub cache_control: Option<String>,
    /// User metadata (labels); keys are lower-case letters, digits, `-` and `_`.
    pub user: BTreeMap<String, String>,
}

impl ObjectMeta {
    /// Content type only.
    pub fn of_type(content_type: impl Into<String>) -> Self {
        Self { content_type: content_type.into(), ..Self::default() }
    }

    /// With a `Cache-Control`.
    pub fn cached(mut self, cache_control: impl Into<String>) -> Self {
        self.cache_control = Some(cache_control.into());
        self
    }

    /// With one more label.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.user.insert(key.into(), value.into());
        self
    }
}

/// An object as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Bytes.
    pub size: u64,
    /// The store's tag without quotes; the same from write and from head as long as the object is not replaced.
    pub etag: String,
    /// CRC32C of all bytes, where the store reports it or it was computed while writing.
    pub crc32c: Option<u32>,
}

/// One stored part of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// 1-based.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// The store's tag of the part without quotes.
    pub etag: String,
    /// CRC32C of the part, where known.
    pub crc32c: Option<u32>,
}

/// Names an upload at its store. For Google it is a session URL that lets anyone write the object, so it is kept out
/// of logs: `Debug` shows its end only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(String);

impl UploadId {
    /// From the store or from a journal.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// For the journal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skip = self.0.chars().count().saturating_sub(6);
        write!(f, "UploadId(…{})", self.0.chars().skip(skip).collect::<String>())
    }
}

/// An open upload as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Object key.
    pub key: String,
    /// To list, complete or abort it.
    pub id: UploadId,
}

/// An object as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Object key.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// What a store can promise; shipping asks instead of knowing vendors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// [`If::Absent`] on put is atomic.
    pub conditional_put: bool,
    /// [`If::Absent`] on complete is atomic.
    pub conditional_commit: bool,
    /// Parts may come in any order and side by side ("part 1 last"); otherwise 1, 2, 3, … one at a time.
    pub parts_in_any_order: bool,
    /// [`Bucket::list_uploads`] finds uploads left by others.
    pub lists_uploads: bool,
    /// [`Bucket::presign`] works.
    pub presigns: bool,
    /// [`Bucket::compose`] works.
    pub composes: bool,
    /// Smallest part but the last, in bytes.
    pub min_part: u64,
    /// Largest part, in bytes.
    pub max_part: u64,
    /// Highest part number.
    pub max_parts: u32,
}

impl Capabilities {
    /// Limits of S3 and of Google's S3-compatible API.
    pub(crate) const S3: Self = Self {
        conditional_put: true,
        conditional_commit: true,
        parts_in_any_order: true,
        lists_uploads: true,
        presigns: true,
        composes: false,
        min_part: 5 << 20,
        max_part: 5 << 30,
        max_parts: 10_000,
    };
}
