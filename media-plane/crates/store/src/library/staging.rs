//! What is not visible yet: staging files, and multipart uploads as directories of part files.
//!
//! `.recorder-staging/<upload>/key` holds the object key; `.recorder-staging/<upload>/<number>-<crc32c>` one part.
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk;
use super::paths::{Root, sync_parent};
use crate::bucket::{Part, Upload, UploadId};
use crate::error::{Error, Kind};

/// The file in an upload's directory that names its object.
const KEY_FILE: &str = "key";

/// Beginning of the names of single staging files.
const TEMPORARY: &str = "tmp-";

/// No write takes this long, so a staging file untouched since then was left by a crash.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A staging file, removed when it was not published.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Staged {
    pub(super) fn new(root: &Root) -> io::Result<Self> {
        let path = root.staging().join(format!("{TEMPORARY}{:032x}", rand::random::<u128>()));
        let open = || File::options().write(true).create_new(true).open(&path);
        let file = match open() {
            // Somebody tidied up: the directory is ours to make again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(root.staging())?;
                open()
            }
            file => file,
        };
        Ok(Self { file: file?, path })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already when it was published by rename.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes staging files that a crash left. The file system's own clock is asked, by a file made now.
pub(super) fn sweep(root: &Root) -> io::Result<()> {
    let now = Staged::new(root)?.file.metadata()?.modified()?;
    for entry in fs::read_dir(root.staging())? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if ours && modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > ABANDONED)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn create(root: &Root, key: &str) -> Result<UploadId, Error> {
    let io = |error: io::Error| disk("create_upload", key, &error);
    let id = UploadId::new(format!("{:032x}", rand::random::<u128>()));
    let directory = root.staging().join(id.as_str());
    fs::create_dir_all(&directory).map_err(io)?;
    let path = directory.join(KEY_FILE);
    let mut file = File::options().write(true).create_new(true).open(&path).map_err(io)?;
    file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    sync_parent(&path).and_then(|()| sync_parent(&directory)).map_err(io)?;
    Ok(id)
}

/// The directory of an upload, checked to be an upload of this key.
fn directory(root: &Root, operation: &'static str, key: &str, upload: &UploadId) -> Result<PathBuf, Error> {
    let id = upload.as_str();
    let directory = root.staging().join(id);
    let named = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if named && fs::read_to_string(directory.join(KEY_FILE)).is_ok_and(|held| held == key) {
        return Ok(directory);
    }
    Err(Error::new(operation, key, Kind::NoSuchUpload, "NoSuchUpload", "the upload was completed or aborted"))
}

pub(super) fn put_part(root: &Root, key: &str, upload: &UploadId, number: u32, body: &[u8]) -> Result<Part, Error> {
    let io = |error: io::Error| disk("put_part", key, &error);
    let directory = directory(root, "put_part", key, upload)?;
    let crc = crc32c::crc32c(body);
    let mut staged = Staged::new(root).map_err(io)?;
    staged.file.write_all(body).and_then(|()| staged.file.sync_all()).map_err(io)?;
    let path = directory.join(format!("{number:05}-{crc:08x}"));
    fs::rename(&staged.path, &path).map_err(io)?;
    // A part given anew replaces its former self.
    for (other, file) in part_files(&directory).map_err(io)? {
        if other.number == number && other.crc32c != Some(crc) {
            fs::remove_file(file).map_err(io)?;
        }
    }
    sync_parent(&path).map_err(io)?;
    Ok(Part { number, size: body.len() as u64, etag: format!("{crc:08x}"), crc32c: Some(crc) })
}

pub(super) fn list_parts(
    root: &Root,
    operation: &'static str,
    key: &str,
    upload: &UploadId,
) -> Result<Vec<Part>, Error> {
    let directory = directory(root, operation, key, upload)?;
    let files = part_files(&directory).map_err(|error| disk(operation, key, &error))?;
    Ok(files.into_iter().map(|(part, _)| part).collect())
}

/// The parts in an upload's directory, by number.
fn part_files(directory: &Path) -> io::Result<Vec<(Part, PathBuf)>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((number, etag)) = name.split_once('-') else { continue };
        let (Ok(number), Ok(crc)) = (number.parse(), u32::from_str_radix(etag, 16)) else { continue };
        let part = Part { number, size: entry.metadata()?.len(), etag: etag.to_owned(), crc32c: Some(crc) };
        parts.push((part, entry.path()));
    }
    parts.sort_by_key(|(part, _)| part.number);
    Ok(parts)
}

/// Joins the listed parts into one staging file. The parts stay until the object is published, so that a crash in
/// between costs nothing; the kernel copies, or shares blocks where the file system can.
pub(super) fn assemble(root: &Root, key: &str, upload: &UploadId, parts: &[Part]) -> Result<Staged, Error> {
    let io = |error: io::Error| disk("complete", key, &error);
    let invalid = |code, message: String| Error::new("complete", key, Kind::Invalid, code, message);
    let directory = directory(root, "complete", key, upload)?;
    let held = part_files(&directory).map_err(io)?;
    if parts.is_empty() {
        return Err(invalid("InvalidRequest", "no part".to_owned()));
    }
    let mut staged = Staged::new(root).map_err(io)?;
    let mut before = 0;
    for part in parts {
        if part.number <= before {
            return Err(invalid("InvalidPartOrder", format!("part {} after part {before}", part.number)));
        }
        before = part.number;
        let file = held.iter().find(|(held, _)| held.number == part.number && held.etag == part.etag);
        let Some((_, path)) = file else {
            return Err(invalid("InvalidPart", format!("part {} is not the one stored", part.number)));
        };
        io::copy(&mut File::open(path).map_err(io)?, &mut staged.file).map_err(io)?;
    }
    Ok(staged)
}

pub(super) fn abort(root: &Root, key: &str, upload: &UploadId) -> Result<(), Error> {
    let directory = match directory(root, "abort", key, upload) {
        Ok(directory) => directory,
        Err(gone) if gone.kind == Kind::NoSuchUpload => return Ok(()),
        Err(error) => return Err(error),
    };
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk("abort", key, &error)),
        _ => Ok(()),
    }
}

pub(super) fn list(root: &Root, prefix: &str) -> Result<Vec<Upload>, Error> {
    let io = |error: io::Error| disk("list_uploads", prefix, &error);
    let mut uploads = Vec::new();
    for entry in fs::read_dir(root.staging()).map_err(io)? {
        let entry = entry.map_err(io)?;
        let (Ok(id), Ok(key)) = (entry.file_name().into_string(), fs::read_to_string(entry.path().join(KEY_FILE)))
        else {
            continue;
        };
        if key.starts_with(prefix) {
            uploads.push(Upload { key, id: UploadId::new(id) });
        }
    }
    uploads.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
    Ok(uploads)
}
