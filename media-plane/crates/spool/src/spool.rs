//! The spool as publications and shipping see it.

use bytes::Bytes;
use mux::{ObjectId, Output};

use crate::event::Outlet;
use crate::{Config, Error, Events, OutputKey, Record, StoredOutput, Usage};

/// Handle of the spool; clones share it.
#[derive(Clone)]
pub struct Spool {
    events: Outlet,
}

impl Spool {
    /// Opens the directory, creating it when missing, and reads what an earlier process left: whatever was not released.
    /// Objects that were still open are cut back to their last durable mark. Blocks; call it before serving.
    pub fn open(config: Config) -> Result<(Self, Vec<StoredOutput>, Events), Error> {
        let _ = config;
        Err(Error::Closed)
    }

    /// Starts an output. `meta` is opaque here: what shipping needs to know after a restart.
    pub fn create(&self, key: OutputKey, meta: &serde_json::Value) -> Result<Writer, Error> {
        let _ = (key, meta);
        Err(Error::Closed)
    }

    /// Goes on with an output that an earlier process left unfinished.
    pub fn reopen(&self, key: &OutputKey) -> Result<Writer, Error> {
        let _ = key;
        Err(Error::Closed)
    }

    /// Back-pressure: waits while more than [`Config::max_queued`] bytes are in memory or the disk limit is reached.
    pub async fn writable(&self) {}

    /// Up to `len` bytes of an object: head and data of a closed one; of an open one the data up to its durable mark.
    pub async fn read(&self, key: &OutputKey, object: ObjectId, offset: u64, len: usize) -> Result<Bytes, Error> {
        let _ = (key, object, offset, len);
        Err(Error::Closed)
    }

    /// Notes progress of shipping; returns when it is durable.
    pub async fn record(&self, key: &OutputKey, record: Record) -> Result<(), Error> {
        let _ = (key, record);
        Err(Error::Closed)
    }

    /// Lets the bytes of an object go, which must be committed and reported. The directory of an output disappears when
    /// it is finished and everything in it was released.
    pub async fn release(&self, key: &OutputKey, object: ObjectId) -> Result<(), Error> {
        let _ = (key, object);
        Err(Error::Closed)
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        Usage { bytes: 0, limit: 0, queued: 0, accepting: false }
    }

    /// Waits until everything applied so far is durable (or failed).
    pub async fn flush(&self) {}

    /// Flushes, ends the I/O threads and closes [`Events`]. Later calls of any clone answer [`Error::Closed`].
    pub async fn close(&self) {
        self.events.close();
    }
}

/// Where one output's muxer writes to. Dropping it without [`Writer::finish`] leaves the output unfinished: the next
/// start of the process finds it so.
pub struct Writer {
    key: OutputKey,
}

impl Writer {
    /// The output's key.
    pub fn key(&self) -> &OutputKey {
        &self.key
    }

    /// Takes one output of the muxer, in order. Never waits for the disk: memory is bounded by awaiting
    /// [`Spool::writable`] between frames. Fails once the disk has failed for this output.
    pub fn apply(&mut self, output: Output) -> Result<(), Error> {
        let _ = output;
        Err(Error::Closed)
    }

    /// Nothing will be added. What was applied becomes durable soon after, and [`crate::Event::Finished`] follows.
    pub fn finish(self) {}
}
