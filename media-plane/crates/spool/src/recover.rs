//! What a start finds: journals are replayed, torn tails cut off, open objects cut back to their last durable mark.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::disk::Disk;
use crate::journal::{self, Step};
use crate::output::{data_path, head_path, journal_path, output_dir};
use crate::state::{Object, State};
use crate::{Error, OutputKey};

/// An output found on disk.
pub(crate) struct Found {
    pub key: OutputKey,
    pub state: State,
    pub journal_len: u64,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// Every output under a spool directory, oldest recording first (their ids sort by time).
pub(crate) fn scan(root: &Path, disk: &Disk) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for parent in names(root)? {
        for format in names(&root.join(&parent)).unwrap_or_default() {
            let Some(key) = OutputKey::parse(&parent, &format) else { continue };
            match restore(root, key, disk) {
                Ok(output) => found.extend(output),
                // One damaged directory must not keep the node from recording; it stays for a human.
                Err(error) => tracing::error!(parent, format, %error, "spooled output cannot be read"),
            }
        }
        // Succeeds when nothing is left in it.
        let _ = fs::remove_dir(root.join(&parent));
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(dir).map_err(|error| Error::io(dir, error))?;
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn restore(root: &Path, key: OutputKey, disk: &Disk) -> Result<Option<Found>, Error> {
    let dir = output_dir(root, &key);
    let path = journal_path(&dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io(path, error)),
    };
    let (entries, valid) = journal::decode(&bytes);
    let mut state = State::remembering();
    for entry in &entries {
        state.apply(entry).map_err(|problem| Error::Corrupt { path: path.clone(), problem: problem.into() })?;
    }
    if state.meta.is_none() || state.drained() {
        // Nothing of it was ever durable, or all of it was released.
        disk.remove_tree(&dir).map_err(|error| Error::io(&dir, error))?;
        return Ok(None);
    }
    let mut journal_len = valid as u64;
    let failed = |error| Error::io(&path, error);
    let file = File::options().read(true).append(true).open(&path).map_err(failed)?;
    if valid < bytes.len() {
        tracing::warn!(output = %key, lost = bytes.len() - valid, "torn tail of a journal cut off");
        disk.cut(&path, &file, journal_len).map_err(failed)?;
        disk.sync(&path, &file).map_err(failed)?;
    }
    let cuts = cut_back(&dir, &mut state, disk)?;
    if !cuts.is_empty() {
        disk.write(&path, &file, &mut [IoSlice::new(&cuts)]).map_err(failed)?;
        disk.sync(&path, &file).map_err(failed)?;
        journal_len += cuts.len() as u64;
    }
    remove_strangers(&dir, &state)?;
    let bytes = journal_len + state.objects.values().map(Object::size).sum::<u64>();
    Ok(Some(Found { key, state, journal_len, bytes }))
}

/// Cuts open objects back to their last durable mark; returns the journal records that say so.
fn cut_back(dir: &Path, state: &mut State, disk: &Disk) -> Result<Vec<u8>, Error> {
    let mut records = Vec::new();
    let open: Vec<_> = state.objects.iter().filter(|(_, object)| object.closed.is_none()).map(|(id, _)| *id).collect();
    for id in open {
        let Some(object) = state.objects.get(&id) else { continue };
        let path = data_path(dir, id);
        let failed = |error| Error::io(&path, error);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        // Every extent but the newest was synced before the next was written, so only that one can be torn.
        let mark = if matches(&file, object).map_err(failed)? { object.mark } else { object.before.1 };
        let len = mark.map_or(0, |mark| mark.len);
        if file.metadata().map_err(failed)?.len() < len {
            return Err(Error::Corrupt { path, problem: "shorter than its durable part".into() });
        }
        disk.cut(&path, &file, len).map_err(failed)?;
        disk.sync(&path, &file).map_err(failed)?;
        if object.data.len != len || object.mark != mark || object.head.len > 0 {
            let entry = Step::Truncated { object: id, mark }.into();
            journal::encode(&entry, &mut records);
            state.apply(&entry).map_err(|problem| Error::Corrupt { path, problem: problem.into() })?;
        }
    }
    Ok(records)
}

/// Whether the newest extent is on disk as the journal says.
fn matches(file: &File, object: &Object) -> io::Result<bool> {
    let (start, end) = (object.before.0, object.data);
    let mut at = start.len;
    let mut crc = start.crc;
    let mut buffer = vec![0; 1 << 20];
    while at < end.len {
        let want = usize::try_from(end.len - at).unwrap_or(usize::MAX).min(buffer.len());
        let Some(piece) = buffer.get_mut(..want) else { return Ok(false) };
        match file.read_exact_at(piece, at) {
            Ok(()) => crc = crc32c::crc32c_append(crc, piece),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        at += want as u64;
    }
    Ok(crc == end.crc)
}

/// Removes files the journal does not know: of objects whose opening was not durable, or whose release was.
fn remove_strangers(dir: &Path, state: &State) -> Result<(), Error> {
    let mut known: BTreeSet<_> = [journal_path(dir)].into();
    for (id, object) in &state.objects {
        known.insert(data_path(dir, *id));
        if object.head.len > 0 {
            known.insert(head_path(dir, *id));
        }
    }
    for name in names(dir)? {
        let path = dir.join(name);
        if !known.contains(&path) {
            fs::remove_file(&path).map_err(|error| Error::io(&path, error))?;
        }
    }
    Ok(())
}
