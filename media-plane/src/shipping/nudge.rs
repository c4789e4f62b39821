//! Somebody asks for uploads to be tried at once, there or in another storage (RetryUploads).

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::Target;

/// Orders that are known at most; the oldest gives way. Whatever was done for it is noted in the spool.
const MOST: usize = 10_000;

/// Clones share it.
#[derive(Clone, Debug)]
pub struct Nudge {
    wake: Arc<Notify>,
    orders: Arc<watch::Sender<Orders>>,
}

impl Default for Nudge {
    fn default() -> Self {
        Self { wake: Arc::default(), orders: Arc::new(watch::Sender::new(Orders::default())) }
    }
}

/// What is asked of the uploads of one recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Grows with every order.
    pub number: u64,
    /// Where everything goes that has not arrived; none = where it is on its way to.
    pub target: Option<Target>,
    command_id: String,
}

/// The orders by recording (bare id).
#[derive(Debug, Default)]
pub struct Orders {
    last: u64,
    of: HashMap<String, Order>,
}

impl Nudge {
    /// Has the files of a recording (bare id) tried at once that failed, and wakes every upload that waits after a
    /// failure: what was repaired for one is repaired for all. A command is done once per id.
    pub fn order(&self, recording: &str, command_id: &str, target: Option<Target>) {
        self.orders.send_if_modified(|orders| orders.put(recording, command_id, target));
        self.wake.notify_waiters();
    }

    /// What an earlier process was asked for; a newer order goes before it.
    pub fn recall(&self, recording: &str, target: Target) {
        self.orders
            .send_if_modified(|orders| !orders.of.contains_key(recording) && orders.put(recording, "", Some(target)));
    }

    /// Waits for the next one.
    pub async fn given(&self) {
        self.wake.notified().await;
    }

    /// The order for a recording.
    pub fn of(&self, recording: &str) -> Option<Order> {
        self.orders.borrow().of.get(recording).cloned()
    }

    /// Where what has not arrived of a recording goes, if somebody has said so.
    pub fn target(&self, recording: &str) -> Option<Target> {
        self.orders.borrow().of.get(recording)?.target.clone()
    }

    /// Tells of every order.
    pub fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    /// Waits until a recording is to go elsewhere than here; never ends for one that has to stay.
    pub async fn sent_away(&self, recording: &str, from: &Target, may_leave: bool) {
        let leaves = |orders: &Orders| {
            let target = orders.of.get(recording).and_then(|order| order.target.as_ref());
            target.is_some_and(|target| !target.is_same_place(from))
        };
        if !may_leave || self.orders().wait_for(leaves).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Orders {
    fn put(&mut self, recording: &str, command_id: &str, target: Option<Target>) -> bool {
        let known = self.of.get(recording);
        if known.is_some_and(|known| known.command_id == command_id) {
            return false;
        }
        let target = target.or_else(|| known.and_then(|known| known.target.clone()));
        self.last += 1;
        let order = Order { number: self.last, target, command_id: command_id.to_owned() };
        self.of.insert(recording.to_owned(), order);
        if self.of.len() > MOST {
            let oldest = self.of.iter().min_by_key(|(_, order)| order.number).map(|(recording, _)| recording.clone());
            oldest.and_then(|oldest| self.of.remove(&oldest));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target { name: name.into(), ..Target::default() }
    }

    #[tokio::test]
    async fn a_command_is_done_once_and_keeps_the_storage_of_the_one_before() {
        let nudge = Nudge::default();
        nudge.order("r", "one", Some(target("storages/b")));
        let first = nudge.of("r").unwrap();
        nudge.order("r", "one", None);
        assert_eq!(nudge.of("r"), Some(first.clone()));
        nudge.order("r", "two", None);
        let second = nudge.of("r").unwrap();
        assert!(second.number > first.number);
        assert_eq!(second.target, first.target);
        nudge.sent_away("r", &target("storages/a"), true).await;
        let there = target("storages/b");
        let stays = nudge.sent_away("r", &there, true);
        assert!(futures_util::FutureExt::now_or_never(stays).is_none());
    }

    #[test]
    fn orders_of_ever_more_recordings_take_no_more_memory() {
        let nudge = Nudge::default();
        (0..MOST + 5).for_each(|number| nudge.order(&number.to_string(), "c", None));
        assert_eq!(nudge.orders.borrow().of.len(), MOST);
        assert_eq!((nudge.of("4"), nudge.of("5").is_some()), (None, true));
    }
}
