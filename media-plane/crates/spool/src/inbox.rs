//! What waits for an output's I/O thread: operations in order, small payloads gathered, large ones shared.

use std::sync::Arc;

use bytes::Bytes;
use mux::{Index, Mark, ObjectId, ObjectSpec, Output, Summary};
use tokio::sync::oneshot;

use crate::journal::Marked;
use crate::{Error, Record};

/// Payloads below this are copied together, larger ones only referenced: a copy this short costs less than the
/// bookkeeping of sharing.
const COPY_BELOW: usize = 4096;

/// Answers a caller once something is durable.
pub(crate) type Ack = oneshot::Sender<Result<(), Error>>;

/// One operation.
#[derive(Debug, Default)]
pub(crate) enum Op {
    Open(ObjectSpec),
    /// The next so many bytes of [`Batch::small`].
    Small(ObjectId, usize),
    Large(ObjectId, Bytes),
    Mark(ObjectId, Mark),
    Note(ObjectId, Bytes),
    Head(ObjectId, Bytes),
    Index(ObjectId, Index),
    Close(ObjectId, Box<Summary>),
    Playlist(ObjectId, Bytes, bool),
    FileDone(u32, Box<Summary>),
    Finish,
    /// The writer is gone without having finished.
    Abandon,
    Record(Box<Record>, Option<Ack>),
    Release(ObjectId, Ack),
    /// Ends a damaged object at a mark. Boxed, because it is rare and its size would be that of all operations.
    Shorten(ObjectId, Box<Option<Marked>>, Ack),
    Barrier(Ack),
    /// Already taken.
    #[default]
    Done,
}

/// Operations and the bytes of the small ones. Threads and outputs swap their batches, so that in a steady state
/// nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub ops: Vec<Op>,
    pub small: Vec<u8>,
    /// Payload bytes held.
    pub bytes: usize,
    /// Operations done, and bytes of `small` they took.
    pub done: (usize, usize),
}

/// A burst must not keep its memory in the circulation of batches for ever.
const KEEP_SMALL: usize = 32 << 10;
const KEEP_OPS: usize = 512;

impl Batch {
    pub fn clear(&mut self) {
        self.ops.clear();
        self.ops.shrink_to(KEEP_OPS);
        self.small.clear();
        self.small.shrink_to(KEEP_SMALL);
        self.bytes = 0;
        self.done = (0, 0);
    }

    /// Adds what a muxer said; returns the payload bytes taken.
    pub fn push(&mut self, output: Output) -> usize {
        let before = self.bytes;
        match output {
            Output::Open(spec) => self.ops.push(Op::Open(spec)),
            Output::Append(object, data) => self.append(object, data),
            Output::Commit(object, mark) => self.mark(object, mark),
            Output::Note(object, note) => {
                self.bytes += note.len();
                self.ops.push(Op::Note(object, note));
            }
            Output::Head(object, data) => {
                self.bytes += data.len();
                self.ops.push(Op::Head(object, data));
            }
            Output::Index(object, index) => self.ops.push(Op::Index(object, index)),
            Output::Close(object, summary) => self.ops.push(Op::Close(object, Box::new(summary))),
            Output::Playlist { object, body, last } => {
                self.bytes += body.len();
                self.ops.push(Op::Playlist(object, body, last));
            }
            Output::FileDone(file, summary) => self.ops.push(Op::FileDone(file, Box::new(summary))),
        }
        self.bytes - before
    }

    fn append(&mut self, object: ObjectId, data: Bytes) {
        self.bytes += data.len();
        if data.len() >= COPY_BELOW {
            self.ops.push(Op::Large(object, data));
            return;
        }
        self.small.extend_from_slice(&data);
        match self.ops.last_mut() {
            Some(Op::Small(last, len)) if *last == object => *len += data.len(),
            _ => self.ops.push(Op::Small(object, data.len())),
        }
    }

    fn mark(&mut self, object: ObjectId, mark: Mark) {
        match self.ops.last_mut() {
            Some(Op::Mark(last, at)) if *last == object => *at = mark,
            _ => self.ops.push(Op::Mark(object, mark)),
        }
    }

    /// Whether it holds anything that must not be written while journals need the last room.
    pub fn has_media(&self) -> bool {
        let ops = self.ops.get(self.done.0..).unwrap_or_default();
        let is_media =
            |op: &Op| matches!(op, Op::Open(..) | Op::Small(..) | Op::Large(..) | Op::Head(..) | Op::Index(..));
        ops.iter().any(is_media)
    }

    /// Takes out what shipping waits for: it is about objects that are closed, and may come before media that wait.
    pub fn take_shipping(&mut self) -> Vec<Op> {
        let is_shipping = |op: &Op| match op {
            Op::Record(record, Some(_)) => record.object().is_some(),
            Op::Release(..) | Op::Shorten(..) => true,
            _ => false,
        };
        self.ops.iter_mut().filter(|op| is_shipping(op)).map(std::mem::take).collect()
    }

    /// Answers who waits for everything before to be durable: it will not be, for a while.
    pub fn answer_barriers(&mut self, error: &Error) {
        for op in self.ops.iter_mut().filter(|op| matches!(op, Op::Barrier(_))) {
            if let Op::Barrier(ack) = std::mem::take(op) {
                let _ = ack.send(Err(error.clone()));
            }
        }
    }

    /// Answers everybody who waits for something in this batch.
    pub fn refuse(&mut self, error: &Error) {
        for op in self.ops.drain(..) {
            if let Op::Record(_, Some(ack)) | Op::Release(_, ack) | Op::Shorten(_, _, ack) | Op::Barrier(ack) = op {
                let _ = ack.send(Err(error.clone()));
            }
        }
        self.clear();
    }
}

/// The queue between an output's callers and its I/O thread.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub batch: Batch,
    /// In the thread's list of outputs to sync.
    pub listed: bool,
    /// In the thread's list of outputs to write.
    pub ready: bool,
    /// A [`crate::Writer`] exists.
    pub attached: bool,
    /// The disk failed, or the directory is gone.
    pub failed: Option<Arc<str>>,
}
