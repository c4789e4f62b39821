//! From the spool to the storages: every closed object is shipped, confirmed, reported, and only then released.

mod meta;

use std::sync::Arc;

use recorder_proto::pb::node::register_request::SpoolEntry;
use spool::{Events, StoredOutput};

pub use meta::{OutputMeta, Target, Wall};

use crate::node::Node;

/// What the spool held at start, as registration tells it.
pub fn inventory(stored: &[StoredOutput]) -> Vec<SpoolEntry> {
    let _ = stored;
    Vec::new()
}

/// The shipping of one node.
pub struct Shipping {
    node: Arc<Node>,
}

impl Shipping {
    /// Over what an earlier process left and what this one will spool.
    pub fn new(node: Arc<Node>, stored: Vec<StoredOutput>, events: Events) -> Self {
        let _ = (stored, events);
        Self { node }
    }

    /// Ships until the drain's deadline, or until the drain has begun and nothing is left.
    pub async fn run(self) {
        self.node.drain.deadline().await;
    }
}
