//! Reading bytes with a position to complain about.

use bytes::Bytes;

use super::Corrupt;

/// A position in (a part of) a file.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    data: Bytes,
    position: usize,
    /// Position of the first byte within the file.
    origin: usize,
}

impl Cursor {
    pub(super) fn new(data: Bytes) -> Self {
        Self { data, position: 0, origin: 0 }
    }

    /// Offset within the file.
    pub(super) fn at(&self) -> usize {
        self.origin + self.position
    }

    pub(super) fn remaining(&self) -> usize {
        self.data.len().saturating_sub(self.position)
    }

    pub(super) fn corrupt<T>(&self, problem: impl Into<String>) -> Result<T, Corrupt> {
        Err(Corrupt { at: self.at(), problem: problem.into() })
    }

    pub(super) fn take(&mut self, count: usize) -> Result<Bytes, Corrupt> {
        if count > self.remaining() {
            return self.corrupt(format!("{count} bytes expected, {} left", self.remaining()));
        }
        let taken = self.data.slice(self.position..self.position + count);
        self.position += count;
        Ok(taken)
    }

    /// The next bytes as a cursor of their own.
    pub(super) fn part(&mut self, count: usize) -> Result<Self, Corrupt> {
        let origin = self.at();
        Ok(Self { data: self.take(count)?, position: 0, origin })
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Corrupt> {
        self.take(count).map(|_| ())
    }

    /// Big-endian, up to eight bytes.
    pub(super) fn uint(&mut self, count: usize) -> Result<u64, Corrupt> {
        Ok(self.take(count)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Corrupt> {
        self.uint(1).map(|value| value as u8)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Corrupt> {
        self.uint(4).map(|value| value as u32)
    }
}
