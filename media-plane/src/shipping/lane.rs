//! What every transfer to a storage goes through: the spool's bytes, the storage's client, and what all uploads of the
//! node share: permits and bandwidth.

use std::sync::Arc;

use spool::Spool;
use store::{Bucket, Capabilities};
use tokio::time::Instant;

use super::Context;
use super::budget::{Bandwidth, Gate, Permit, Who};
use super::lag::Waiting;
use super::storage::Storage;
use super::upload::Parcel;

/// See the module.
pub struct Lane<'a> {
    /// Where the bytes are.
    pub spool: &'a Spool,
    /// Where they go.
    pub bucket: &'a Arc<dyn Bucket>,
    gate: &'a Gate,
    bandwidth: &'a Bandwidth,
    who: Who,
    waiting: Option<&'a Waiting>,
}

impl Lane<'_> {
    /// What the store can promise.
    pub fn limits(&self) -> Capabilities {
        self.bucket.capabilities()
    }

    /// Waits for its turn to hold a body in memory and to send it.
    pub async fn permit(&self) -> Permit {
        self.gate.enter(&self.who).await
    }

    /// A part has arrived: the file does not stand still.
    pub fn moved(&self) {
        self.waiting.inspect(|waiting| waiting.moved());
    }

    /// Waits until a body of so many bytes may leave.
    pub async fn pace(&self, bytes: usize) {
        self.bandwidth.take(bytes as u64).await;
    }
}

impl Context {
    /// For an object, whose bytes may be waiting since it was closed.
    pub(super) fn lane<'a>(
        &'a self,
        bucket: &'a Arc<dyn Bucket>,
        storage: &Storage,
        parcel: &Parcel,
        waiting: Option<&'a Waiting>,
    ) -> Lane<'a> {
        let file = format!("{}/{}", parcel.output, parcel.spec.object.file).into();
        let since = waiting.map_or_else(Instant::now, Waiting::since);
        let who = Who { file, storage: storage.label(), is_playlist: false, since };
        Lane { spool: &self.spool, bucket, gate: &self.gate, bandwidth: &self.bandwidth, who, waiting }
    }
}
