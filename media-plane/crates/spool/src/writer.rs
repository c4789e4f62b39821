//! The side of an output that a muxer writes to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use media::MediaTime;
use mux::{ObjectId, ObjectPart, Output};

use crate::inbox::{Batch, Op};
use crate::spool::Handle;
use crate::{Error, OutputKey, Record, object_name};

/// Where one output's muxer writes to.
///
/// Dropping it without [`Writer::finish`] while the process lives (whatever fed it panicked or gave up) makes durable
/// what was applied and then tells listeners of the end: [`crate::Event::Failed`] with [`Error::Abandoned`]. What is
/// closed can still be shipped, recorded and released. On disk the output stays unfinished, as after a crash of the
/// process: the next start finds it so, and [`Spool::reopen`] goes on with it. After [`Spool::close`] nothing is told.
pub struct Writer {
    handle: Arc<Handle>,
    output: Arc<crate::output::Output>,
    open: Vec<ObjectId>,
    finished: bool,
}

impl Writer {
    pub(crate) fn new(handle: Arc<Handle>, output: Arc<crate::output::Output>, open: Vec<ObjectId>) -> Self {
        Self { handle, output, open, finished: false }
    }

    /// The output's key.
    pub fn key(&self) -> &OutputKey {
        &self.output.key
    }

    /// Takes one output of the muxer, in order. Never waits for the disk: memory is bounded by awaiting
    /// [`Spool::writable`] between frames. Fails once the disk has failed for this output.
    pub fn apply(&mut self, output: Output) -> Result<(), Error> {
        self.check(&output)?;
        self.push(|batch| batch.push(output))
    }

    /// Notes something about the output that the next start gives back ([`Record::Note`]). Durable with the next flush,
    /// without a sync of its own.
    pub fn note(&mut self, note: serde_json::Value) -> Result<(), Error> {
        self.push(|batch| {
            batch.ops.push(Op::Record(Box::new(Record::Note(note)), None));
            0
        })
    }

    /// End of the newest media that is durable; none while nothing is, or once all of it was released.
    pub fn durable(&self) -> Option<MediaTime> {
        self.output.state().ends_at()
    }

    fn push(&mut self, add: impl FnOnce(&mut Batch) -> usize) -> Result<(), Error> {
        let volume = &self.handle.volume;
        if volume.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let mut inbox = self.output.inbox();
        if let Some(why) = &inbox.failed {
            return Err(Error::Failed(why.clone()));
        }
        let bytes = add(&mut inbox.batch);
        volume.queued.fetch_add(bytes, Ordering::Relaxed);
        volume.schedule(&self.output, &mut inbox);
        Ok(())
    }

    /// Whether the order of [`Output`] is kept.
    fn check(&mut self, output: &Output) -> Result<(), Error> {
        let wrong = |object, problem| Err(Error::Sequence { object: object_name(object), problem });
        match output {
            Output::Open(spec) if spec.object.part == ObjectPart::Playlist => {}
            Output::Open(spec) if self.open.contains(&spec.object) => return wrong(spec.object, "is open already"),
            Output::Open(spec) => self.open.push(spec.object),
            Output::Close(object, _) if object.part == ObjectPart::Playlist => {}
            Output::Append(object, _)
            | Output::Commit(object, _)
            | Output::Note(object, _)
            | Output::Head(object, _)
            | Output::Index(object, _)
            | Output::Close(object, _) => {
                if !self.open.contains(object) {
                    return wrong(*object, "is not open");
                }
                if matches!(output, Output::Close(..)) {
                    self.open.retain(|open| open != object);
                }
            }
            Output::Playlist { object, .. } if object.part != ObjectPart::Playlist => {
                return wrong(*object, "is not a playlist");
            }
            Output::Playlist { .. } | Output::FileDone(..) => {}
        }
        Ok(())
    }

    /// Nothing will be added. What was applied becomes durable soon after, and [`crate::Event::Finished`] follows.
    pub fn finish(mut self) {
        self.finished = true;
        let mut inbox = self.output.inbox();
        if inbox.failed.is_none() {
            inbox.batch.ops.push(Op::Finish);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let volume = &self.handle.volume;
        let mut inbox = self.output.inbox();
        inbox.attached = false;
        // A failure was told already, and a closed spool tells nothing.
        if !self.finished && inbox.failed.is_none() && !volume.closed.load(Ordering::Relaxed) {
            inbox.batch.ops.push(Op::Abandon);
        }
        drop(inbox);
        volume.urge(&self.output);
    }
}
