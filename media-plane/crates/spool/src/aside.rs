//! Outputs of which the journal is gone or unreadable: their bytes may be the only copy, so they are kept for a human,
//! and count as used.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::output::output_dir;
use crate::recover::Found;
use crate::{Error, OutputKey};

/// Where they go, in the spool's directory. An operator takes them from there, or deletes them; the next start counts
/// what is left.
pub(crate) const FOLDER: &str = "set-aside";

/// Moves the directory of an output there. Returns where it is.
pub(crate) fn set_aside(root: &Path, key: &OutputKey, disk: &Disk) -> Result<PathBuf, Error> {
    let (from, folder) = (output_dir(root, key), root.join(FOLDER));
    let failed = |error| Error::io(&folder, error);
    disk.create_dirs(&folder).map_err(failed)?;
    let name = |number: u32| match number {
        0 => format!("{}-{}", key.parent(), key.format),
        number => format!("{}-{}.{number}", key.parent(), key.format),
    };
    let free = (0..).map(|number| folder.join(name(number))).find(|path| !path.exists()).unwrap_or_default();
    disk.move_dir(&from, &free).map_err(failed)?;
    for dir in [Some(folder.as_path()), from.parent(), Some(root)].into_iter().flatten() {
        disk.sync_dir(dir).map_err(|error| Error::io(dir, error))?;
    }
    Ok(free)
}

/// Bytes of media in an output's directory.
pub(crate) fn media(dir: &Path) -> u64 {
    let is_media = |path: &Path| path.extension().is_some_and(|kind| kind == "data" || kind == "head");
    entries(dir).iter().filter(|path| is_media(path)).map(|path| size(path)).sum()
}

/// Bytes in a spool's directory that belong to no output that was found: set aside, or where they were because not even
/// that was possible.
pub(crate) fn bytes(root: &Path, found: &[Found]) -> u64 {
    let known: BTreeSet<PathBuf> = found.iter().map(|output| output_dir(root, &output.key)).collect();
    let outputs = entries(root).into_iter().flat_map(|parent| entries(&parent));
    outputs.filter(|dir| !known.contains(dir)).flat_map(|dir| entries(&dir)).map(|file| size(&file)).sum()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect()).unwrap_or_default()
}

fn size(file: &Path) -> u64 {
    fs::symlink_metadata(file).map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 })
}
