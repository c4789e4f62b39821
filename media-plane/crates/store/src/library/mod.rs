//! A directory as a bucket: staged, synced to disk and renamed, so that a file is visible only when whole.
//!
//! Content types and labels are kept in nothing; whoever serves the directory goes by extension. Symbolic links below
//! the root are not followed.
mod paths;
mod staging;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

use self::paths::Root;
use crate::attempt::AttemptLimit;
use crate::bucket::{Bucket, ByteStream, Capabilities, If, Listed, ObjectMeta, Part, Stored, Upload, UploadId};
use crate::checksum::{completed_before, crc32c_of_parts};
use crate::error::{Error, Kind};

/// A directory as a bucket.
#[derive(Debug, Clone)]
pub struct Library {
    root: Arc<Root>,
    /// As given, relative to the library's root.
    directory: Arc<str>,
    limit: AttemptLimit,
}

impl Library {
    /// Opens or makes `directory` (relative, no `..`; empty for the root itself) below `root`, which is made when it
    /// does not exist. Blocks on the disk for a moment.
    pub fn open(root: &Path, directory: &str, limit: AttemptLimit) -> Result<Self, Error> {
        Ok(Self { root: Arc::new(Root::open(root, directory)?), directory: directory.into(), limit })
    }

    /// Where an object is or would be. Fails for keys that no file can have.
    pub fn path(&self, key: &str) -> Result<PathBuf, Error> {
        self.root.path("path", key)
    }

    /// Runs blocking file work outside the async threads, within the attempt's limit. A late or dropped call lets
    /// the work run to its end; staging makes that harmless.
    async fn blocking<T, F>(&self, operation: &'static str, key: &str, bytes: u64, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Root) -> Result<T, Error> + Send + 'static,
    {
        let root = Arc::clone(&self.root);
        let task = async {
            let joined = tokio::task::spawn_blocking(move || work(&root)).await;
            joined.unwrap_or_else(|error| Err(Error::new(operation, key, Kind::Unexpected, "Panicked", error)))
        };
        self.limit.run(operation, key, bytes, task).await
    }
}

/// The disk's error in our terms.
fn disk(operation: &'static str, key: &str, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::InvalidFilename => Kind::Invalid,
        _ => Kind::Disk,
    };
    let code = match error.kind() {
        std::io::ErrorKind::StorageFull => "StorageFull",
        std::io::ErrorKind::PermissionDenied => "PermissionDenied",
        std::io::ErrorKind::NotFound => "NoSuchFile",
        std::io::ErrorKind::InvalidFilename => "InvalidKey",
        _ => "DiskError",
    };
    Error::new(operation, key, kind, code, error)
}

/// Size and tag of a file. The tag changes whenever the file is replaced, and only then.
fn stored(metadata: &fs::Metadata, crc32c: Option<u32>) -> Stored {
    let etag = format!("{:x}-{:x}-{:x}.{:x}", metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
    Stored { size: metadata.size(), etag, crc32c }
}

/// Makes a finished staging file the object `key`.
fn publish(
    root: &Root,
    operation: &'static str,
    key: &str,
    staged: staging::Staged,
    condition: If,
    crc32c: Option<u32>,
) -> Result<Stored, Error> {
    let io = |error: std::io::Error| disk(operation, key, &error);
    staged.file.sync_all().map_err(io)?;
    let metadata = staged.file.metadata().map_err(io)?;
    let path = root.make_parents(operation, key)?;
    if path.is_dir() {
        return Err(Error::new(operation, key, Kind::Invalid, "IsDirectory", "a directory has this name"));
    }
    match condition {
        If::Any => fs::rename(&staged.path, &path).map_err(io)?,
        // A hard link is the one atomic "only if absent" that every Unix file system with links has.
        If::Absent => match fs::hard_link(&staged.path, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::new(operation, key, Kind::AlreadyExists, "FileExists", "there is such a file"));
            }
            Err(_) if path.symlink_metadata().is_err() => fs::rename(&staged.path, &path).map_err(io)?,
            Err(error) => return Err(io(error)),
        },
    }
    drop(staged);
    paths::sync_parent(&path).map_err(io)?;
    Ok(stored(&metadata, crc32c))
}

fn head(root: &Root, operation: &'static str, key: &str) -> Result<Option<(PathBuf, fs::Metadata)>, Error> {
    let path = root.path(operation, key)?;
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() && root.holds(&path) => Ok(Some((path, metadata))),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(disk(operation, key, &error)),
    }
}

fn read(root: &Root, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
    let io = |error: std::io::Error| disk("get_range", key, &error);
    let Some((path, metadata)) = head(root, "get_range", key)? else {
        return Err(Error::new("get_range", key, Kind::NotFound, "NoSuchFile", "there is no such file"));
    };
    let end = range.end.min(metadata.len());
    let length = end.saturating_sub(range.start);
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(range.start.min(end))).map_err(io)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(length).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes.into())
}

#[async_trait]
impl Bucket for Library {
    async fn put(&self, key: &str, body: Bytes, _meta: &ObjectMeta, condition: If) -> Result<Stored, Error> {
        let (name, bytes) = (key.to_owned(), body.len() as u64);
        let work = move |root: &Root| {
            let mut staged = staging::Staged::new(root).map_err(|error| disk("put", &name, &error))?;
            staged.file.write_all(&body).map_err(|error| disk("put", &name, &error))?;
            publish(root, "put", &name, staged, condition, Some(crc32c::crc32c(&body)))
        };
        self.root.path("put", key)?;
        self.blocking("put", key, bytes, work).await
    }

    async fn create_upload(&self, key: &str, _meta: &ObjectMeta) -> Result<UploadId, Error> {
        self.root.path("create_upload", key)?;
        let name = key.to_owned();
        self.blocking("create_upload", key, 0, move |root| staging::create(root, &name)).await
    }

    async fn put_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part, Error> {
        let (name, upload) = (key.to_owned(), upload.clone());
        let bytes = body.len() as u64;
        let work = move |root: &Root| staging::put_part(root, &name, &upload, number, &body);
        self.blocking("put_part", key, bytes, work).await
    }

    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<Part>, Error> {
        let (name, upload) = (key.to_owned(), upload.clone());
        let work = move |root: &Root| staging::list_parts(root, "list_parts", &name, &upload);
        self.blocking("list_parts", key, 0, work).await
    }

    async fn complete(&self, key: &str, upload: &UploadId, parts: &[Part], condition: If) -> Result<Stored, Error> {
        let (name, upload, parts) = (key.to_owned(), upload.clone(), parts.to_vec());
        let bytes = parts.iter().map(|part| part.size).sum();
        let work = move |root: &Root| match staging::assemble(root, &name, &upload, &parts) {
            Ok(staged) => {
                let stored = publish(root, "complete", &name, staged, condition, crc32c_of_parts(&parts))?;
                staging::abort(root, &name, &upload)?;
                Ok(stored)
            }
            Err(gone) if gone.kind == Kind::NoSuchUpload => {
                let held = head(root, "complete", &name)?.map(|(_, metadata)| stored(&metadata, None));
                completed_before(held, &parts, gone)
            }
            Err(error) => Err(error),
        };
        self.blocking("complete", key, bytes, work).await
    }

    async fn abort(&self, key: &str, upload: &UploadId) -> Result<(), Error> {
        let (name, upload) = (key.to_owned(), upload.clone());
        self.blocking("abort", key, 0, move |root| staging::abort(root, &name, &upload)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Upload>, Error> {
        let name = prefix.to_owned();
        self.blocking("list_uploads", prefix, 0, move |root| staging::list(root, &name)).await
    }

    async fn head(&self, key: &str) -> Result<Option<Stored>, Error> {
        let name = key.to_owned();
        let work = move |root: &Root| Ok(head(root, "head", &name)?.map(|(_, metadata)| stored(&metadata, None)));
        self.blocking("head", key, 0, work).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let name = key.to_owned();
        let bytes = range.end.saturating_sub(range.start);
        self.blocking("get_range", key, bytes, move |root| read(root, &name, range)).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let name = key.to_owned();
        let work = move |root: &Root| {
            let Some((path, _)) = head(root, "delete", &name)? else { return Ok(()) };
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk("delete", &name, &error)),
                _ => paths::sync_parent(&path).map_err(|error| disk("delete", &name, &error)),
            }
        };
        self.blocking("delete", key, 0, work).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let name = prefix.to_owned();
        self.blocking("list", prefix, 0, move |root| root.list(&name)).await
    }

    async fn presign(&self, key: &str, _ttl: Duration) -> Result<String, Error> {
        Err(Error::new("presign", key, Kind::Unsupported, "Unsupported", "a directory is served by the library"))
    }

    fn uri(&self, key: &str) -> String {
        crate::object_uri(crate::TargetKind::FileSystem, &self.directory, key)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { presigns: false, min_part: 1, ..Capabilities::S3 }
    }

    /// Straight into one staging file: nothing is written twice.
    async fn upload_stream(
        &self,
        key: &str,
        mut body: ByteStream,
        _meta: &ObjectMeta,
        _part_size: u64,
        condition: If,
    ) -> Result<Stored, Error> {
        const OPERATION: &str = "upload_stream";
        self.root.path(OPERATION, key)?;
        let staging = |root: &Root| staging::Staged::new(root).map_err(|error| disk(OPERATION, "", &error));
        let mut staged = self.blocking(OPERATION, key, 0, staging).await?;
        let mut crc = 0;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| Error::new(OPERATION, key, Kind::Source, "SourceFailed", error))?;
            crc = crc32c::crc32c_append(crc, &piece);
            let (name, bytes) = (key.to_owned(), piece.len() as u64);
            let work = move |_: &Root| match staged.file.write_all(&piece) {
                Ok(()) => Ok(staged),
                Err(error) => Err(disk(OPERATION, &name, &error)),
            };
            staged = self.blocking(OPERATION, key, bytes, work).await?;
        }
        let name = key.to_owned();
        let work = move |root: &Root| publish(root, OPERATION, &name, staged, condition, Some(crc));
        // Syncing what the page cache holds may take as long as writing it.
        self.blocking(OPERATION, key, u64::from(u32::MAX), work).await
    }
}

#[cfg(test)]
mod tests;
