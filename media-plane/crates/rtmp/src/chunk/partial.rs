//! A message that has not come whole, and what it costs to keep.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::SessionError;

/// Payloads below this are copied out of the read buffer: a slice of 300 bytes of sound would keep the buffer, and the
/// picture in it, alive for as long as the sound is.
const COPY_BELOW: usize = 1024;

/// Where the bytes of the current message of a chunk stream go.
#[derive(Debug, Default)]
pub(super) enum Partial {
    /// Between messages.
    #[default]
    Idle,
    /// Nobody wants this message; this many bytes are to come.
    Skipping(usize),
    /// Collected so far, towards the announced length.
    Collecting {
        /// Bytes so far.
        bytes: Vec<u8>,
        /// Announced length.
        length: usize,
    },
}

/// Memory that all unfinished messages of a connection share.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Bytes allocated for unfinished messages.
    pub(super) used: usize,
    /// Bytes allowed.
    pub(super) limit: usize,
    /// Bytes allocated on trust for the first unfinished message; saves growing it step by step.
    pub(super) eager: usize,
}

impl Budget {
    /// Makes room for `incoming` more bytes of a message of `length` bytes. Doubles, never beyond the length, so an
    /// announced length alone costs at most `eager`, once per connection.
    fn grow(&mut self, bytes: &mut Vec<u8>, incoming: usize, length: usize) -> Result<(), SessionError> {
        let need = bytes.len() + incoming;
        let capacity = bytes.capacity();
        if need <= capacity {
            return Ok(());
        }
        let others = self.used.saturating_sub(capacity);
        let eager = if others == 0 { self.eager } else { 0 };
        let generous = need.max(capacity.saturating_mul(2)).max(eager).min(length);
        let room = self.limit.saturating_sub(others);
        if need > room {
            return Err(SessionError::BufferFull { limit: self.limit });
        }
        bytes.reserve_exact(generous.min(room) - bytes.len());
        self.used = others + bytes.capacity();
        Ok(())
    }
}

impl Partial {
    pub(super) fn skip(length: usize) -> Self {
        Self::Skipping(length)
    }

    pub(super) fn collect(length: usize) -> Self {
        Self::Collecting { bytes: Vec::new(), length }
    }

    /// Bytes until the message is whole.
    pub(super) fn missing(&self) -> usize {
        match self {
            Self::Idle => 0,
            Self::Skipping(missing) => *missing,
            Self::Collecting { bytes, length } => length.saturating_sub(bytes.len()),
        }
    }

    /// Lets go of what was collected.
    pub(super) fn abandon(&mut self, budget: &mut Budget) {
        if let Self::Collecting { bytes, .. } = std::mem::take(self) {
            budget.used = budget.used.saturating_sub(bytes.capacity());
        }
    }

    /// Takes at most `limit` bytes from `input`; returns how many.
    pub(super) fn take(
        &mut self,
        input: &mut BytesMut,
        limit: usize,
        budget: &mut Budget,
    ) -> Result<usize, SessionError> {
        let count = input.len().min(limit);
        match self {
            Self::Idle => {}
            Self::Skipping(missing) => {
                *missing = missing.saturating_sub(count);
                input.advance(count);
            }
            Self::Collecting { bytes, length } => {
                budget.grow(bytes, count, *length)?;
                bytes.extend_from_slice(input.get(..count).unwrap_or_default());
                input.advance(count);
            }
        }
        Ok(count)
    }

    /// The whole payload straight from `input`, when nothing was collected yet and one chunk carries all of it.
    pub(super) fn take_whole(&mut self, input: &mut BytesMut, chunk: usize) -> Option<Bytes> {
        let Self::Collecting { bytes, length } = self else { return None };
        let length = *length;
        if !bytes.is_empty() || chunk < length || input.len() < length {
            return None;
        }
        *self = Self::Idle;
        if length < COPY_BELOW {
            let payload = Bytes::copy_from_slice(input.get(..length)?);
            input.advance(length);
            return Some(payload);
        }
        Some(input.split_to(length).freeze())
    }

    /// The finished payload; `None` for one that was skipped.
    pub(super) fn finish(&mut self, budget: &mut Budget) -> Option<Bytes> {
        match std::mem::take(self) {
            Self::Collecting { bytes, .. } => {
                budget.used = budget.used.saturating_sub(bytes.capacity());
                Some(Bytes::from(bytes))
            }
            Self::Idle | Self::Skipping(_) => None,
        }
    }
}
