//! Where small pieces of output are put together without an allocation each.

use bytes::{Bytes, BytesMut};

/// Taken from the allocator at a time: a second of sound or of tag headers, small beside a stream's other memory.
const CHUNK: usize = 4 << 10;

/// Hands out slices of one growing buffer. When the spool has consumed all of them the memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    buffer: BytesMut,
}

impl Scratch {
    /// Room for at least `size` bytes, behind what was written since the last [`Scratch::take`].
    pub(crate) fn reserve(&mut self, size: usize) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < size {
            self.buffer.reserve(size.max(CHUNK));
        }
        &mut self.buffer
    }

    /// What was written since the last call.
    pub(crate) fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
}
