//! Reading an object back, checked against the checksums of its journal.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use mux::ObjectId;

use crate::Error;
use crate::object::{Object, Point};
use crate::output::{data_path, head_path};

/// Bytes of head and data, and the positions that check them.
#[derive(Debug)]
pub(crate) struct Range {
    head: Point,
    from: u64,
    to: u64,
    /// The first before the range, the last behind it.
    checks: Vec<Point>,
}

impl Range {
    /// Up to `len` bytes from `offset` of what may be read of an object; otherwise how much that is.
    pub fn of(object: &Object, offset: u64, len: usize) -> Result<Self, u64> {
        let (head, data) = object.readable();
        if offset > head + data {
            return Err(head + data);
        }
        let to = offset.saturating_add(len as u64).min(head + data);
        let checks = object.checks.around(offset.saturating_sub(head), to.saturating_sub(head), object.data);
        let head = if head > 0 { object.head } else { Point::default() };
        Ok(Self { head, from: offset, to, checks })
    }

    /// Reads it from the files in an output's directory. Blocks.
    pub fn read(self, dir: &Path, object: ObjectId) -> Result<Bytes, Error> {
        let head = if self.from < self.head.len { self.read_head(dir, object)? } else { Bytes::new() };
        let data = if self.to > self.head.len { self.read_data(dir, object)? } else { Bytes::new() };
        if head.is_empty() || data.is_empty() {
            return Ok(if head.is_empty() { data } else { head });
        }
        let mut whole = BytesMut::with_capacity(head.len() + data.len());
        whole.extend_from_slice(&head);
        whole.extend_from_slice(&data);
        Ok(whole.freeze())
    }

    fn read_head(&self, dir: &Path, object: ObjectId) -> Result<Bytes, Error> {
        let path = head_path(dir, object);
        let bytes = Bytes::from(fs::read(&path).map_err(|error| Error::io(&path, error))?);
        let mut found = Point::default();
        found.add(&bytes);
        let end = size(self.to.min(self.head.len));
        if found != self.head || end > bytes.len() {
            return Err(Error::Corrupt { path, problem: "the head does not match its checksum".into() });
        }
        Ok(bytes.slice(size(self.from).min(end)..end))
    }

    fn read_data(&self, dir: &Path, object: ObjectId) -> Result<Bytes, Error> {
        let path = data_path(dir, object);
        let failed = |error| Error::io(&path, error);
        let (from, to) = (self.from.saturating_sub(self.head.len), self.to.saturating_sub(self.head.len));
        let start = self.checks.first().copied().unwrap_or_default();
        let end = self.checks.last().map_or(to, |check| check.len.max(to));
        let file = File::open(&path).map_err(failed)?;
        let mut bytes = vec![0; size(end - start.len)];
        file.read_exact_at(&mut bytes, start.len).map_err(failed)?;
        let mut at = start;
        for check in self.checks.iter().skip(1) {
            let before = at.len;
            at.add(bytes.get(size(before - start.len)..size(check.len - start.len)).unwrap_or_default());
            if at != *check {
                let problem = format!("bytes {before} to {} do not match their checksum", check.len);
                return Err(Error::Corrupt { path, problem });
            }
        }
        Ok(Bytes::from(bytes).slice(size(from - start.len)..size(to - start.len)))
    }
}

fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
