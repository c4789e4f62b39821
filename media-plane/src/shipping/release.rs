//! Bytes leave the spool only once the fact that reports them is durable at the control plane.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mux::ObjectId;
use spool::{OutputKey, Spool};
use tokio::sync::Notify;

use crate::link::{FactLog, Fate};

/// How often the acknowledgements are looked at while something waits for one.
const LOOK: Duration = Duration::from_millis(100);

type Waiting = BTreeMap<u64, Vec<(OutputKey, ObjectId)>>;

/// Objects that wait for the acknowledgement of their fact.
#[derive(Default)]
pub struct Releases {
    waiting: Mutex<Waiting>,
    more: Notify,
}

impl Releases {
    /// An object is committed and reported by the fact of this sequence.
    pub fn add(&self, sequence: u64, output: OutputKey, object: ObjectId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(sequence).or_default().push((output, object));
        self.more.notify_one();
    }

    fn acknowledged(&self, sequence: u64) -> (Waiting, bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = waiting.split_off(&sequence.saturating_add(1));
        let ready = std::mem::replace(&mut *waiting, rest);
        (ready, !waiting.is_empty())
    }

    /// Waits until nothing waits, but not for long: what is left is released after the next start.
    pub async fn drained(&self, patience: Duration) {
        let is_empty = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let empty = async {
            while !is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(patience, empty).await;
    }

    /// Releases what may go; ends never.
    pub async fn run(&self, spool: &Spool, log: &FactLog) {
        loop {
            let (ready, more) = self.acknowledged(log.acknowledged());
            let told = ready.into_iter().filter(|(sequence, objects)| {
                let is_lost = log.fate(*sequence) == Fate::Lost;
                if is_lost {
                    tracing::warn!(
                        sequence,
                        objects = objects.len(),
                        "the fact of shipped bytes is lost; a start tells it"
                    );
                }
                !is_lost
            });
            for (output, object) in told.flat_map(|(_, objects)| objects) {
                if let Err(error) = spool.release(&output, object).await {
                    tracing::warn!(%output, object = spool::object_name(object), %error, "shipped bytes stay spooled");
                }
            }
            if more {
                tokio::time::sleep(LOOK).await;
            } else {
                self.more.notified().await;
            }
        }
    }
}
