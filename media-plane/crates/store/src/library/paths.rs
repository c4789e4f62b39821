//! Keys as paths below one root: none leaves it, by name or by symbolic link.
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::disk;
use crate::bucket::Listed;
use crate::error::{Error, Kind};
use crate::key;

/// The hidden directory of parts and unfinished files; no key begins with it.
pub(super) const STAGING: &str = ".recorder-staging";

/// More files than this are not listed: listing is for tests and checks.
const MAX_LISTED: usize = 100_000;

/// Directories nested deeper than a key can name are not ours.
const MAX_DEPTH: usize = 512;

/// The directory that keys are relative to.
#[derive(Debug)]
pub(super) struct Root {
    directory: PathBuf,
}

impl Root {
    pub(super) fn open(root: &Path, directory: &str) -> Result<Self, Error> {
        let io = |error: io::Error| disk("open", &root.to_string_lossy(), &error);
        fs::create_dir_all(root).map_err(io)?;
        let root = root.canonicalize().map_err(io)?;
        let directory = directory.trim_end_matches('/');
        if !directory.is_empty() {
            key::check("open", directory)?;
            make_directories("open", &root, Path::new(directory))?;
        }
        let opened = Self { directory: root.join(directory) };
        fs::create_dir_all(opened.staging()).map_err(io)?;
        super::staging::sweep(&opened).map_err(io)?;
        Ok(opened)
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.directory.join(STAGING)
    }

    /// The path of a key, which need not exist.
    pub(super) fn path(&self, operation: &'static str, key: &str) -> Result<PathBuf, Error> {
        key::check(operation, key)?;
        let relative = Path::new(key);
        let inside = relative.components().all(|component| matches!(component, Component::Normal(_)));
        if !inside || relative.starts_with(STAGING) {
            return Err(Error::new(operation, key, Kind::Invalid, "InvalidKey", "key does not name a file here"));
        }
        Ok(self.directory.join(relative))
    }

    /// Whether no directory between the root and this path is a symbolic link.
    pub(super) fn holds(&self, path: &Path) -> bool {
        path.parent()
            .and_then(|parent| parent.canonicalize().ok())
            .zip(path.parent())
            .is_some_and(|(real, named)| real == named)
    }

    /// The path of a key with its directories made.
    pub(super) fn make_parents(&self, operation: &'static str, key: &str) -> Result<PathBuf, Error> {
        let path = self.path(operation, key)?;
        if let Some(parent) = Path::new(key).parent() {
            make_directories(operation, &self.directory, parent)?;
        }
        Ok(path)
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let mut found = Vec::new();
        let mut open = vec![(self.directory.clone(), String::new(), 0)];
        while let Some((directory, name, depth)) = open.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(disk("list", &name, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| disk("list", &name, &error))?;
                let Ok(file_name) = entry.file_name().into_string() else { continue };
                let Ok(metadata) = entry.metadata() else { continue };
                let key = if name.is_empty() { file_name } else { format!("{name}/{file_name}") };
                if metadata.is_dir() && key != STAGING && depth < MAX_DEPTH {
                    if key.starts_with(prefix) || prefix.starts_with(&key) {
                        open.push((entry.path(), key, depth + 1));
                    }
                } else if metadata.is_file() && key.starts_with(prefix) {
                    found.push(Listed { key, size: metadata.len() });
                }
            }
            if found.len() > MAX_LISTED {
                return Err(Error::new("list", prefix, Kind::Invalid, "TooManyObjects", "more than 100,000 objects"));
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}

/// Makes directories one by one, so that a symbolic link on the way is noticed instead of followed.
fn make_directories(operation: &'static str, root: &Path, relative: &Path) -> Result<(), Error> {
    let name = relative.to_string_lossy();
    let mut directory = root.to_owned();
    for component in relative.components() {
        directory.push(component);
        let metadata = match fs::create_dir(&directory) {
            Ok(()) => {
                sync_parent(&directory).map_err(|error| disk(operation, &name, &error))?;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::symlink_metadata(&directory),
            Err(error) => Err(error),
        };
        if !metadata.map_err(|error| disk(operation, &name, &error))?.is_dir() {
            let message = "a file or a symbolic link stands where a directory is needed";
            return Err(Error::new(operation, &name, Kind::Invalid, "NotADirectory", message));
        }
    }
    Ok(())
}

/// Makes a new name durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
