//! A disk that fails on command: for tests and for the deterministic simulation.
//!
//! It knows what of every file was synced, so that [`FaultyDisk::power_loss`] can take the rest away.
#![cfg_attr(not(any(test, feature = "sim")), allow(dead_code, reason = "only tests and simulations make faults"))]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// A real directory behind faults. Clones are the same disk. Counts are from the moment of the call.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<Model>>);

#[derive(Debug, Default)]
struct Model {
    /// Syncs are only noted: a thousand crashes a minute are too many for a real disk.
    pretends: bool,
    stands_still: bool,
    writes: u64,
    failing_writes: Option<u64>,
    syncs: u64,
    failing_sync: Option<u64>,
    failing_syncs: Option<u64>,
    opens: u64,
    refused: (u64, u64),
    written: u64,
    halt: Option<u64>,
    space: Option<u64>,
    files: BTreeMap<PathBuf, Tracked>,
    /// Directories made, and whether their parent was synced since.
    dirs: BTreeMap<PathBuf, bool>,
}

/// What would be left of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Tracked {
    len: u64,
    durable: u64,
    /// Its directory was synced since it was made.
    named: bool,
    /// A sync failed: what was unsynced then never becomes durable, whatever later syncs say.
    doomed: bool,
}

/// What a write may do.
pub(crate) struct Allowance {
    /// Bytes that reach the file.
    pub bytes: usize,
    /// The error after them.
    pub then: Option<io::Error>,
}

fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }
}

impl FaultyDisk {
    /// A disk without faults yet, which notes syncs instead of making them.
    pub fn new() -> Self {
        let disk = Self::default();
        disk.model().pretends = true;
        disk
    }

    /// The sync after so many more fails with EIO, once. As with a real kernel later syncs succeed and tell nothing of
    /// the loss.
    pub fn fail_sync(&self, after: u64) {
        let mut model = self.model();
        model.failing_sync = Some(model.syncs + after);
    }

    /// After so many more syncs every sync fails.
    pub fn fail_syncs_after(&self, count: u64) {
        let mut model = self.model();
        model.failing_syncs = Some(model.syncs.saturating_add(count));
    }

    /// Syncs do not come back until it moves on; writes reach the page cache all the same.
    pub fn stand_still(&self, still: bool) {
        self.model().stands_still = still;
    }

    /// After so many more writes every write fails with EIO.
    pub fn fail_writes_after(&self, count: u64) {
        let mut model = self.model();
        model.failing_writes = Some(model.writes.saturating_add(count));
    }

    /// After so many more bytes writes fail with ENOSPC, the one that does not fit in the middle. What is removed gives
    /// its bytes back. None: there is room for everything.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.model().space = bytes;
    }

    /// After so many more bytes nothing changes the disk any more, as if the process had died there.
    pub fn halt_after_bytes(&self, bytes: u64) {
        let mut model = self.model();
        model.halt = Some(model.written + bytes);
    }

    /// Descriptors run out after so many more opens, for so many.
    pub fn refuse_opens(&self, after: u64, count: u64) {
        let mut model = self.model();
        let from = model.opens + after;
        model.refused = (from, from.saturating_add(count));
    }

    /// File syncs so far.
    pub fn syncs(&self) -> u64 {
        self.model().syncs
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.model().written
    }

    /// No fault from now on; a halted disk works again.
    pub fn heal(&self) {
        let mut model = self.model();
        model.failing_writes = None;
        model.failing_sync = None;
        model.failing_syncs = None;
        model.refused = (0, 0);
        model.halt = None;
        model.space = None;
        model.stands_still = false;
    }

    /// The power fails: of what was not synced a part stays, by `seed`, and its last block may be torn. Names that were
    /// not synced may vanish. Call it when the spool on this disk was dropped; faults are healed.
    pub fn power_loss(&self, seed: u64) -> io::Result<()> {
        self.heal();
        let mut dice = Dice(seed);
        let mut model = self.model();
        let files = std::mem::take(&mut model.files);
        let dirs = std::mem::take(&mut model.dirs);
        let lost: Vec<_> = dirs.iter().filter(|(_, named)| !**named && dice.roll(2) == 0).map(|(dir, _)| dir).collect();
        for dir in &lost {
            remove(fs::remove_dir_all(dir))?;
        }
        for (path, file) in files {
            let gone = lost.iter().any(|dir| path.starts_with(dir)) || (!file.named && dice.roll(2) == 0);
            if gone {
                remove(fs::remove_file(&path))?;
                continue;
            }
            let kept = tear(&path, file, &mut dice)?;
            model.files.insert(path, Tracked { len: kept, durable: kept, named: true, doomed: false });
        }
        Ok(())
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gone already is as good.
fn remove(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Cuts a file somewhere after its synced part and damages the last bytes that were not synced; returns its length.
fn tear(path: &Path, file: Tracked, dice: &mut Dice) -> io::Result<u64> {
    let unsynced = file.len.saturating_sub(file.durable);
    if unsynced == 0 {
        return Ok(file.len);
    }
    let kept = match dice.roll(4) {
        0 => file.durable,
        1 => file.len,
        _ => file.durable + dice.roll(unsynced + 1),
    };
    let handle = File::options().write(true).open(path)?;
    handle.set_len(kept)?;
    let torn = dice.roll(3) * dice.roll((kept - file.durable).min(600) + 1) / 2;
    let garbage: Vec<u8> = (0..torn.min(kept - file.durable)).map(|_| dice.roll(256) as u8).collect();
    handle.write_all_at(&garbage, kept - garbage.len() as u64)?;
    Ok(kept)
}

/// What [`crate::disk::Disk`] asks and tells.
impl FaultyDisk {
    pub(crate) fn pretends(&self) -> bool {
        self.model().pretends
    }

    pub(crate) fn stands_still(&self) -> bool {
        self.model().stands_still
    }

    /// Before a file is opened.
    pub(crate) fn opening(&self) -> io::Result<()> {
        let mut model = self.model();
        let number = model.opens;
        model.opens += 1;
        if (model.refused.0..model.refused.1).contains(&number) { Err(error(EMFILE)) } else { Ok(()) }
    }

    /// Before anything is changed that is not a write.
    pub(crate) fn changing(&self) -> io::Result<()> {
        let model = self.model();
        if model.halt.is_some_and(|halt| model.written >= halt) { Err(error(EIO)) } else { Ok(()) }
    }

    /// Before a file is made: counts as a write.
    pub(crate) fn creating(&self) -> io::Result<()> {
        self.changing()?;
        self.model().count_write()
    }

    pub(crate) fn created(&self, path: &Path) {
        let mut model = self.model();
        let named = false;
        model.files.insert(path.to_path_buf(), Tracked { named, ..Tracked::default() });
    }

    pub(crate) fn created_dirs(&self, dirs: impl IntoIterator<Item = PathBuf>) {
        self.model().dirs.extend(dirs.into_iter().map(|dir| (dir, false)));
    }

    /// Before so many bytes are written.
    pub(crate) fn writing(&self, len: usize) -> Allowance {
        let mut model = self.model();
        if let Err(error) = model.count_write() {
            return Allowance { bytes: 0, then: Some(error) };
        }
        let until_halt = model.halt.map_or(u64::MAX, |halt| halt.saturating_sub(model.written));
        let space = model.space.unwrap_or(u64::MAX);
        let bytes = (len as u64).min(until_halt).min(space);
        let code = if until_halt <= space { EIO } else { ENOSPC };
        model.written += bytes;
        model.space = model.space.map(|space| space - bytes);
        let bytes = usize::try_from(bytes).unwrap_or(len);
        Allowance { bytes, then: (bytes < len).then(|| error(code)) }
    }

    pub(crate) fn wrote(&self, path: &Path, bytes: usize) {
        // A file from before this disk was made: durable as it was found.
        let before = || fs::metadata(path).map_or(0, |meta| meta.len().saturating_sub(bytes as u64));
        let mut model = self.model();
        let file = model.files.entry(path.to_path_buf()).or_insert_with(|| {
            let len = before();
            Tracked { len, durable: len, named: true, doomed: false }
        });
        file.len += bytes as u64;
    }

    /// A sync of a file; says whether it succeeds.
    pub(crate) fn syncing(&self, path: &Path) -> io::Result<()> {
        self.changing()?;
        let mut model = self.model();
        let number = model.syncs;
        model.syncs += 1;
        let fails = model.failing_sync == Some(number) || model.failing_syncs.is_some_and(|from| number >= from);
        let Some(file) = model.files.get_mut(path) else {
            return if fails { Err(error(EIO)) } else { Ok(()) };
        };
        file.doomed |= fails;
        if fails {
            return Err(error(EIO));
        }
        if !file.doomed {
            file.durable = file.len;
        }
        Ok(())
    }

    pub(crate) fn synced_dir(&self, dir: &Path) {
        let mut model = self.model();
        let is_inside = |path: &Path| path.parent() == Some(dir);
        model.files.iter_mut().filter(|(path, _)| is_inside(path)).for_each(|(_, file)| file.named = true);
        model.dirs.iter_mut().filter(|(path, _)| is_inside(path)).for_each(|(_, named)| *named = true);
    }

    pub(crate) fn take_space(&self, bytes: u64) -> io::Result<()> {
        let mut model = self.model();
        match model.space.map(|space| space.checked_sub(bytes)) {
            Some(None) => Err(error(ENOSPC)),
            left => {
                model.space = left.flatten();
                Ok(())
            }
        }
    }

    pub(crate) fn give_space(&self, bytes: u64) {
        let mut model = self.model();
        model.space = model.space.map(|space| space + bytes);
    }

    /// A file was cut and synced, or is gone.
    pub(crate) fn cut(&self, path: &Path, before: u64, after: u64) {
        let mut model = self.model();
        model.space = model.space.map(|space| space + before.saturating_sub(after));
        if let Some(file) = model.files.get_mut(path) {
            file.len = after;
            file.durable = file.durable.min(after);
        }
    }

    /// Bytes a sync had failed for were written again.
    pub(crate) fn rewritten(&self, path: &Path) {
        if let Some(file) = self.model().files.get_mut(path) {
            file.doomed = false;
        }
    }

    pub(crate) fn removed(&self, path: &Path, bytes: u64) {
        self.cut(path, bytes, 0);
        self.model().files.remove(path);
    }

    pub(crate) fn removed_dir(&self, dir: &Path) {
        let mut model = self.model();
        model.files.retain(|path, _| !path.starts_with(dir));
        model.dirs.retain(|path, _| !path.starts_with(dir));
    }
}

impl Model {
    fn count_write(&mut self) -> io::Result<()> {
        let number = self.writes;
        self.writes += 1;
        if self.failing_writes.is_some_and(|from| number >= from) { Err(error(EIO)) } else { Ok(()) }
    }
}
