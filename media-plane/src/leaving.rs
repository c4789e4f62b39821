//! Emptying the node: on SIGTERM for good, on the control plane's word until it is called off (operations C.5).

use std::sync::Arc;
use std::time::Duration;

use recorder_proto::pb::node::stream_directives_response::Drain as Wire;
use recorder_proto::time::std_duration;
use serde::Deserialize;
use tokio::sync::watch;

use crate::node::Node;

/// What publishers are told that must go.
const REASON: &str = "the node is being emptied; publish to another one";

/// What happens to publishers that are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They end by themselves.
    #[default]
    Wait,
    /// They are asked to go elsewhere; those that cannot be asked are closed at the next key frame.
    Move,
}

/// How the node is being emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What happens to publishers.
    pub mode: Mode,
    /// Those that are still there after this long are closed.
    pub patience: Option<Duration>,
}

/// Whether the node is being emptied, and how.
#[derive(Debug, Default)]
pub struct Leaving {
    order: watch::Sender<Option<Order>>,
}

impl Leaving {
    /// Takes no more publishers from now on.
    pub fn begin(&self, order: Order) {
        self.order.send_replace(Some(order));
    }

    /// As the control plane says; a drain that is called off lets publishers in again.
    pub fn obey(&self, wire: &Wire) {
        if wire.cancelled {
            self.order.send_replace(None);
            return;
        }
        let mode = if wire.move_publishers { Mode::Move } else { Mode::Wait };
        let patience = wire.deadline.as_ref().and_then(std_duration).filter(|patience| !patience.is_zero());
        let order = Order { mode, patience };
        // The same word again, after the link broke, does not start the patience anew.
        self.order.send_if_modified(|now| now.replace(order) != Some(order));
    }

    /// Whether publishers are turned away.
    pub fn is_leaving(&self) -> bool {
        self.order.borrow().is_some()
    }

    /// Whether publishers are sent elsewhere.
    pub fn moves(&self) -> bool {
        self.order.borrow().is_some_and(|order| order.mode == Mode::Move)
    }
}

/// Carries out the orders; never ends.
pub async fn run(node: Arc<Node>) {
    let mut orders = node.leaving.order.subscribe();
    loop {
        let order = *orders.borrow_and_update();
        let carry_out = async {
            match order {
                Some(order) => carry_out(&node, order).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            () = carry_out => {}
        }
    }
}

async fn carry_out(node: &Node, order: Order) {
    let (streams, recordings) = node.registry.counts();
    tracing::info!(mode = ?order.mode, streams, recordings, "emptying the node");
    if order.mode == Mode::Move {
        node.registry.move_all(REASON);
    }
    if let Some(patience) = order.patience {
        tokio::time::sleep(patience).await;
        node.registry.disconnect_all(REASON);
    }
    std::future::pending().await
}

/// Until when publishers may stay when the whole stop may take `deadline`: what they leave has to be closed and shipped
/// in the rest.
pub fn patience_of(deadline: Duration) -> Duration {
    deadline.saturating_sub((deadline / 5).min(MAX_RESERVE))
}

const MAX_RESERVE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_word_twice_is_one_order_and_a_called_off_drain_is_over() {
        let leaving = Leaving::default();
        let mut orders = leaving.order.subscribe();
        let wire = Wire { move_publishers: true, ..Wire::default() };
        leaving.obey(&wire);
        assert!(leaving.is_leaving() && leaving.moves() && orders.has_changed().unwrap());
        orders.mark_unchanged();
        leaving.obey(&wire);
        assert!(!orders.has_changed().unwrap());
        leaving.obey(&Wire { cancelled: true, ..Wire::default() });
        assert!(!leaving.is_leaving());
    }

    #[test]
    fn publishers_leave_a_fifth_of_the_time_for_what_they_leave_behind() {
        assert_eq!(patience_of(Duration::from_secs(10)), Duration::from_secs(8));
        assert_eq!(patience_of(Duration::from_secs(600)), Duration::from_secs(570));
    }
}
