//! What a start finds: journals are replayed, torn ends cut off, open objects cut back to their last durable mark. What
//! has lost its journal is kept ([`crate::aside`]).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use crate::aside;
use crate::decode::{Decoded, decode};
use crate::disk::Disk;
use crate::journal::{self, Entry};
use crate::mend;
use crate::output::{data_path, head_path, journal_path, output_dir};
use crate::state::State;
use crate::{Error, OutputKey};

/// An output found on disk.
pub(crate) struct Found {
    pub key: OutputKey,
    pub state: State,
    pub journal_len: u64,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// A journal that does not say what it is about is the torn beginning of an output, unless it is longer than that.
const LONGEST_BEGINNING: usize = 64 << 10;
/// With an empty journal an output died before its first flush, unless it has more media than is ever written before.
const MOST_BEFORE_A_FLUSH: u64 = 16 << 20;

/// Every output under a spool directory, oldest recording first (their ids sort by time).
pub(crate) fn scan(root: &Path, disk: &Disk) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for parent in names(root)? {
        for format in names(&root.join(&parent)).unwrap_or_default() {
            let Some(key) = OutputKey::parse(&parent, &format) else { continue };
            match restore(root, &key, disk) {
                Ok(output) => found.extend(output),
                // One damaged directory must not keep the node from recording; it is kept for a human.
                Err(error) => give_up(root, &key, &error, disk),
            }
        }
        // Succeeds when nothing is left in it.
        let _ = fs::remove_dir(root.join(&parent));
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

/// What can be read but not understood is set aside; a disk that gives nothing back is left alone.
fn give_up(root: &Path, key: &OutputKey, error: &Error, disk: &Disk) {
    tracing::error!(output = %key, %error, "spooled output cannot be read");
    if !matches!(error, Error::Corrupt { .. }) {
        return;
    }
    match aside::set_aside(root, key, disk) {
        Ok(path) => {
            tracing::error!(output = %key, path = %path.display(), "its bytes are set aside: nobody may have them but you");
        }
        Err(error) => tracing::error!(output = %key, %error, "its bytes stay where they are"),
    }
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(dir).map_err(|error| Error::io(dir, error))?;
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn restore(root: &Path, key: &OutputKey, disk: &Disk) -> Result<Option<Found>, Error> {
    let dir = output_dir(root, key);
    let path = journal_path(&dir);
    let journal = match fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io(path, error)),
    };
    let mut decoded = decode(journal.as_deref().unwrap_or_default());
    let mut state = fold(&dir, &mut decoded);
    if state.meta.is_none() || state.drained() {
        // Nothing of it was ever durable, or all of it was released.
        if !is_nothing(&dir, journal.as_deref(), &state, decoded.holes) {
            return Err(Error::Corrupt { path, problem: "it does not say what its media is".into() });
        }
        disk.remove_tree(&dir).map_err(|error| Error::io(&dir, error))?;
        return Ok(None);
    }
    let bytes = journal.unwrap_or_default();
    let failed = |error| Error::io(&path, error);
    let file = File::options().read(true).write(true).open(&path).map_err(failed)?;
    if decoded.end < bytes.len() {
        tracing::warn!(output = %key, lost = bytes.len() - decoded.end, "torn end of a journal cut off");
        disk.cut(&path, &file, decoded.end as u64).map_err(failed)?;
    }
    let rewritten = decoded.unsynced.map_or(0, |start| start.at.min(decoded.end));
    disk.rewrite(&path, &file, rewritten as u64, decoded.end as u64).map_err(failed)?;
    let mended = mend::mend(&dir, &mut state, &decoded.entries, disk)?;
    // What a dead process wrote may be in the page cache only.
    disk.sync(&path, &file).map_err(failed)?;
    let records = encode(&mended.entries, decoded.end as u64);
    if !records.is_empty() {
        let file = disk.continue_at_end(&path).map_err(failed)?;
        disk.write(&path, &file, &mut [IoSlice::new(&records)]).map_err(failed)?;
        disk.sync(&path, &file).map_err(failed)?;
    }
    mended.cut(disk)?;
    name(root, &dir, disk)?;
    if decoded.holes == 0 {
        remove_strangers(&dir, &state, disk)?;
    } else {
        tracing::error!(output = %key, holes = decoded.holes, "journal is damaged");
    }
    let journal_len = (decoded.end + records.len()) as u64;
    let bytes = journal_len + state.objects.values().map(|object| object.size()).sum::<u64>();
    Ok(Some(Found { key: key.clone(), state, journal_len, bytes }))
}

/// Whether an output without a story has nothing that anybody could miss: no media, media that was released, or media
/// that was never flushed.
fn is_nothing(dir: &Path, journal: Option<&[u8]>, state: &State, holes: usize) -> bool {
    let media = aside::media(dir);
    let is_bare = media == 0 && journal.is_none_or(|journal| journal.len() <= LONGEST_BEGINNING);
    let was_released = state.meta.is_some() && holes == 0;
    let was_never_flushed = journal.is_some_and(<[u8]>::is_empty) && media <= MOST_BEFORE_A_FLUSH;
    is_bare || was_released || was_never_flushed
}

/// Replays a journal, without what was never synced as a whole when that is torn.
fn fold(dir: &Path, decoded: &mut Decoded) -> State {
    let mut state = replay(decoded);
    if let Some(start) = decoded.unsynced
        && mend::is_torn(dir, &state)
    {
        decoded.end = start.at;
        decoded.holes = start.holes;
        decoded.entries.truncate(start.entries);
        state = replay(decoded);
    }
    state
}

fn replay(decoded: &Decoded) -> State {
    let mut state = State::remembering();
    state.knows_syncs = decoded.unsynced.is_some();
    for (number, entry) in decoded.entries.iter().enumerate() {
        state.unsynced |= decoded.unsynced.is_some_and(|start| start.entries == number);
        state.replay(entry);
    }
    state.replayed();
    if decoded.holes > 0 {
        state.damaged.get_or_insert_with(|| "its journal has unreadable records".to_owned());
    }
    state
}

/// What was done to an output, of whose journal so many bytes are durable.
fn encode(entries: &[Entry], synced: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if !entries.is_empty() {
        journal::encode(&Entry::Flush { synced: Some(synced) }, &mut records);
    }
    entries.iter().for_each(|entry| journal::encode(entry, &mut records));
    records
}

/// Makes the names of what a dead process wrote durable: from now on it is told so.
fn name(root: &Path, dir: &Path, disk: &Disk) -> Result<(), Error> {
    for dir in dir.ancestors().take_while(|dir| dir.starts_with(root)) {
        disk.sync_dir(dir).map_err(|error| Error::io(dir, error))?;
    }
    Ok(())
}

/// Removes files the journal does not know: of objects whose opening was not durable, or whose release was.
fn remove_strangers(dir: &Path, state: &State, disk: &Disk) -> Result<(), Error> {
    let mut known: BTreeSet<_> = [journal_path(dir)].into();
    for (id, object) in &state.objects {
        known.insert(data_path(dir, *id));
        if object.head.len > 0 {
            known.insert(head_path(dir, *id));
        }
    }
    let strangers: Vec<PathBuf> = names(dir)?.into_iter().map(|name| dir.join(name)).collect();
    for path in strangers.into_iter().filter(|path| !known.contains(path)) {
        disk.remove(&path).map_err(|error| Error::io(path, error))?;
    }
    Ok(())
}
