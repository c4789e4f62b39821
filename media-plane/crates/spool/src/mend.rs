//! Brings the data files of an output in line with its journal: what a crash left too long is cut, what a disk lost or
//! changed is told.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mux::ObjectId;

use crate::Error;
use crate::decode::decode;
use crate::disk::Disk;
use crate::journal::{Entry, Marked, Step};
use crate::object::{Object, Point};
use crate::output::{data_path, head_path, journal_path};
use crate::state::State;

/// Whether files lack bytes that the end of the journal names: then what may not have been synced was not, and nobody was
/// told of anything in it.
pub(crate) fn is_torn(dir: &Path, state: &State) -> bool {
    let recent = state.objects.iter().filter(|(_, object)| object.draft().unsynced && !object.is_releasable());
    let length = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    recent.into_iter().any(|(id, object)| {
        length(&data_path(dir, *id)) < object.data.len || length(&head_path(dir, *id)) < object.head.len
    })
}

/// What is to be done about an output.
#[derive(Default)]
pub(crate) struct Mended {
    /// Entries for the journal, already applied to the state.
    pub entries: Vec<Entry>,
    /// Files, and where they end, once the entries are durable: a file that is shorter than its journal says would look
    /// as if what may not have been synced had not been.
    cuts: Vec<(PathBuf, u64)>,
}

impl Mended {
    /// Cuts the files.
    pub fn cut(&self, disk: &Disk) -> Result<(), Error> {
        for (path, len) in &self.cuts {
            let failed = |error| Error::io(path, error);
            let file = File::options().read(true).write(true).open(path).map_err(failed)?;
            disk.cut(path, &file, *len).map_err(failed)?;
            disk.sync(path, &file).map_err(failed)?;
        }
        Ok(())
    }
}

/// Looks at every object and says what is to be done.
pub(crate) fn mend(dir: &Path, state: &mut State, journal: &[Entry], disk: &Disk) -> Result<Mended, Error> {
    let mut mended = Mended::default();
    let ids: Vec<_> = state.objects.keys().copied().collect();
    for id in ids {
        let Some(object) = state.objects.get(&id) else { continue };
        if let Some(step) = mend_object(dir, id, object, state.knows_syncs, journal, &mut mended.cuts, disk)? {
            let entry = Entry::from(step);
            state.replay(&entry);
            mended.entries.push(entry);
        }
    }
    Ok(mended)
}

fn mend_object(
    dir: &Path,
    id: ObjectId,
    object: &Object,
    knows_syncs: bool,
    journal: &[Entry],
    cuts: &mut Vec<(PathBuf, u64)>,
    disk: &Disk,
) -> Result<Option<Step>, Error> {
    let path = data_path(dir, id);
    let failed = |error| Error::io(&path, error);
    let recent = object.draft().unsynced;
    if object.is_releasable() && !path.exists() {
        return Ok(Some(Step::Released { object: id }));
    }
    // Closed long ago and of the right length: its bytes are checked when they are read.
    let is_old = object.closed.is_some() && !recent;
    if is_old && fs::metadata(&path).is_ok_and(|meta| meta.len() >= object.data.len) {
        return Ok(None);
    }
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let newest = (object.draft().before.0, object.data);
    let damaged = if is_old || file.metadata().map_err(failed)?.len() < object.data.len {
        Some("shorter than its durable part")
    } else if !matches(&file, newest).map_err(failed)? {
        Some("its bytes do not match their checksum")
    } else if recent && !head_matches(dir, id, object.head) {
        Some("its head does not match its checksum")
    } else {
        None
    };
    let mark = match damaged {
        Some(problem) => {
            tracing::error!(path = %path.display(), problem, "spooled object is damaged");
            last_good(journal, id, &file).map_err(failed)?
        }
        None => object.draft().mark,
    };
    if object.closed.is_none() || damaged.is_some() {
        let end = mark.map_or(0, |mark| mark.len);
        if file.metadata().map_err(failed)?.len() != end {
            cuts.push((path.clone(), end));
        }
    }
    if damaged.is_none() {
        disk.rewrite(&path, &file, newest.0.len, mark.map_or(0, |mark| mark.len)).map_err(failed)?;
    }
    disk.sync(&path, &file).map_err(failed)?;
    if recent && object.head.len > 0 {
        let path = head_path(dir, id);
        make_durable(&path, object.head.len, disk).map_err(|error| Error::io(&path, error))?;
    }
    // Before syncs were journaled a torn extent could not be told from a damaged one.
    let damaged = damaged.filter(|_| knows_syncs);
    let damaged = damaged.map(str::to_owned);
    Ok(match (&object.closed, damaged) {
        (Some(_), Some(damaged)) => Some(Step::Shortened { object: id, mark, damaged }),
        (Some(_), None) => None,
        (None, damaged) => {
            let is_longer = object.data.len != mark.map_or(0, |mark| mark.len) || object.head.len > 0;
            let changed = is_longer || object.draft().mark != mark || damaged.is_some() || object.draft().adrift;
            changed.then_some(Step::Truncated { object: id, mark, damaged })
        }
    })
}

/// Writes a file's bytes once more and syncs them. A dead process may have been told that a sync had failed: the kernel
/// then takes the pages for clean and would sync nothing.
fn make_durable(path: &Path, len: u64, disk: &Disk) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    disk.rewrite(path, &file, 0, len)?;
    disk.sync(path, &file)
}

/// Whether bytes between two positions are on disk as the journal says.
fn matches(file: &File, (start, end): (Point, Point)) -> io::Result<bool> {
    let mut at = start;
    let mut buffer = vec![0; 1 << 20];
    while at.len < end.len {
        let want = usize::try_from(end.len - at.len).unwrap_or(usize::MAX).min(buffer.len());
        let Some(piece) = buffer.get_mut(..want) else { return Ok(false) };
        match file.read_exact_at(piece, at.len) {
            Ok(()) => at.add(piece),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(at == end)
}

fn head_matches(dir: &Path, id: ObjectId, head: Point) -> bool {
    head.len == 0 || fs::read(head_path(dir, id)).is_ok_and(|bytes| crc32c::crc32c(&bytes) == head.crc)
}

/// The newest mark all bytes before which are on disk as the journal says.
pub(crate) fn last_good(journal: &[Entry], id: ObjectId, file: &File) -> io::Result<Option<Marked>> {
    let mut good = None;
    let mut at = Point::default();
    for (end, mark) in story(journal, id) {
        if !matches(file, (at, end))? {
            break;
        }
        at = end;
        good = mark.or(good);
    }
    Ok(good.filter(|mark: &Marked| mark.len <= at.len))
}

/// The last mark before damage in an object's data, found by its journal. Blocks.
pub(crate) fn last_mark(dir: &Path, id: ObjectId) -> Result<Option<Marked>, Error> {
    let journal = journal_path(dir);
    let bytes = fs::read(&journal).map_err(|error| Error::io(&journal, error))?;
    let path = data_path(dir, id);
    let file = File::open(&path).map_err(|error| Error::io(&path, error))?;
    last_good(&decode(&bytes).entries, id, &file).map_err(|error| Error::io(&path, error))
}

/// Positions of an object with their checksums and marks, as they are after every cut.
fn story(journal: &[Entry], id: ObjectId) -> Vec<(Point, Option<Marked>)> {
    let mut story: Vec<(Point, Option<Marked>)> = Vec::new();
    let cut = |story: &mut Vec<(Point, Option<Marked>)>, mark: &Option<Marked>| {
        let end = mark.map(|mark| Point { len: mark.len, crc: mark.crc }).unwrap_or_default();
        story.retain(|(point, _)| point.len < end.len);
        story.push((end, *mark));
    };
    for entry in journal {
        match entry {
            // One that does not follow comes after a hole.
            Entry::Extent(extent)
                if extent.object == id && story.last().map_or(0, |(end, _)| end.len) == extent.offset =>
            {
                let len = extent.offset.saturating_add(extent.len);
                story.push((Point { len, crc: extent.crc }, extent.mark));
            }
            Entry::Json(step) => match step.as_ref() {
                Step::Truncated { object, mark, .. } | Step::Shortened { object, mark, .. } if *object == id => {
                    cut(&mut story, mark);
                }
                _ => {}
            },
            _ => {}
        }
    }
    story
}
