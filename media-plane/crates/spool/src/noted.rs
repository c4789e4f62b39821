//! An object's notes, read back from the journal: a file that grows for hours keeps nothing of them in memory.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use mux::ObjectId;

use crate::Error;
use crate::decode::{decode, decode_one};
use crate::journal::{Entry, HEADER, MAGIC, MAGIC_1, MAX_BODY, Step};

/// Read from the journal at a time.
const PIECE: usize = 64 << 10;

/// Where an object's notes are.
#[derive(Debug)]
pub(crate) struct Noted<'a> {
    pub object: ObjectId,
    /// The journal's path, where the first record about the object may be, and its length.
    pub journal: &'a Path,
    pub from: u64,
    pub len: u64,
    /// Records that are to be written behind it.
    pub buffer: &'a [u8],
    /// What is in no record yet.
    pub newest: &'a [u8],
    /// Bytes of all notes.
    pub noted: u64,
}

impl Noted<'_> {
    /// All of them in order. Blocks. A journal that does not give them back is [`Error::Corrupt`].
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        let failed = |error| Error::io(self.journal, error);
        let notes = match self.stream().map_err(failed)? {
            Some(notes) => notes,
            // As a start reads it: over the damage.
            None => self.search().map_err(failed)?,
        };
        let mut notes = notes.notes;
        notes.extend_from_slice(self.newest);
        if notes.len() as u64 == self.noted {
            return Ok(notes);
        }
        let problem = format!("{} of {} bytes of notes are left", notes.len(), self.noted);
        Err(Error::Corrupt { path: self.journal.to_owned(), problem })
    }

    fn nothing(&self) -> Notes {
        let most = usize::try_from(self.noted).unwrap_or_default().min(MAX_BODY);
        Notes { object: self.object, notes: Vec::with_capacity(most) }
    }

    /// Record by record. None when one cannot be read.
    fn stream(&self) -> io::Result<Option<Notes>> {
        let mut notes = self.nothing();
        if self.len > 0 {
            let mut file = File::open(self.journal)?;
            file.seek(SeekFrom::Start(self.from))?;
            let written = BufReader::with_capacity(PIECE, file.take(self.len.saturating_sub(self.from)));
            if !notes.add_all(written.chain(self.buffer))? {
                return Ok(None);
            }
        } else if !notes.add_all(self.buffer)? {
            return Ok(None);
        }
        Ok(Some(notes))
    }

    fn search(&self) -> io::Result<Notes> {
        let mut bytes = fs::read(self.journal)?;
        bytes.truncate(usize::try_from(self.len).unwrap_or(usize::MAX));
        bytes.extend_from_slice(self.buffer);
        let mut notes = self.nothing();
        decode(&bytes).entries.iter().for_each(|entry| notes.add(entry));
        Ok(notes)
    }
}

/// Notes of an object so far.
struct Notes {
    object: ObjectId,
    notes: Vec<u8>,
}

impl Notes {
    /// Adds those of all records; false when one cannot be read.
    fn add_all(&mut self, mut records: impl BufRead) -> io::Result<bool> {
        let mut record = Vec::new();
        let mut is_first = true;
        while !records.fill_buf()?.is_empty() {
            record.resize(HEADER, 0);
            if !is_filled(&mut records, &mut record)? {
                return Ok(false);
            }
            if std::mem::take(&mut is_first) && [MAGIC, MAGIC_1].iter().any(|magic| record == magic.as_slice()) {
                continue;
            }
            let len = record.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
            if len > MAX_BODY {
                return Ok(false);
            }
            record.resize(HEADER + len, 0);
            if !is_filled(&mut records, record.get_mut(HEADER..).unwrap_or_default())? {
                return Ok(false);
            }
            match decode_one(&record) {
                Some((entry, _)) => self.add(&entry),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// What does not follow comes behind damage: a start has cut it away, and said so further on.
    fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::Extent(extent) if extent.object == self.object && extent.noted == self.notes.len() as u64 => {
                self.notes.extend_from_slice(&extent.notes);
            }
            Entry::Json(step) => match step.as_ref() {
                Step::Truncated { object, mark, .. } if *object == self.object => {
                    let noted = mark.map_or(0, |mark| mark.notes);
                    self.notes.truncate(usize::try_from(noted).unwrap_or(usize::MAX));
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// Whether there were enough bytes.
fn is_filled(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mux::ObjectPart;

    use super::*;
    use crate::journal::{self, Extent, Marked};

    const WHOLE: ObjectId = ObjectId { file: 0, part: ObjectPart::Whole };
    /// Two flushes a second.
    const FLUSHES: u64 = 12 * 3_600 * 2;
    /// As 77 samples a second take.
    const NOTES: usize = 125;

    fn noted(flush: u64) -> Bytes {
        (0..NOTES as u64).map(|n| (flush * 31 + n * 7) as u8).collect()
    }

    /// A journal of twelve hours, and where its second half begins.
    fn twelve_hours() -> (Vec<u8>, usize) {
        let (mut records, mut half) = (MAGIC.to_vec(), 0);
        for flush in 0..FLUSHES {
            if flush == FLUSHES / 2 {
                half = records.len();
            }
            journal::encode(&Entry::Flush { synced: Some(records.len() as u64) }, &mut records);
            let before = flush * NOTES as u64;
            let mark = Marked {
                len: (flush + 1) * 100_000,
                crc: 1,
                ends_at: media::MediaTime(flush.cast_signed() * 45_000),
                video_frames: 15 * flush,
                audio_frames: 23 * flush,
                notes: before + NOTES as u64,
            };
            let (offset, mark, notes) = (flush * 100_000, Some(mark), noted(flush));
            let extent = Extent { object: WHOLE, offset, len: 100_000, crc: 1, mark, noted: before, notes };
            journal::encode(&Entry::Extent(extent), &mut records);
        }
        (records, half)
    }

    #[test]
    fn twelve_hours_of_notes_are_read_back_from_file_buffer_and_memory() {
        let (records, half) = twelve_hours();
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        let expected: Vec<u8> = (0..FLUSHES).flat_map(noted).chain(*b"newest").collect();
        // What comes behind the journal's length is not of it.
        for len in [records.len(), half, 0] {
            let written = [records.get(..len).unwrap(), b"torn".as_slice()].concat();
            std::fs::write(&journal, written).unwrap();
            let noted = Noted {
                object: WHOLE,
                journal: &journal,
                from: 0,
                len: len as u64,
                buffer: records.get(len..).unwrap(),
                newest: b"newest",
                noted: expected.len() as u64,
            };
            let start = std::time::Instant::now();
            let read = noted.read().unwrap();
            println!("{} of {} bytes in {:?}", read.len(), records.len(), start.elapsed());
            assert!(read == expected);
        }
    }
}
