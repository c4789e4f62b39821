//! Recordings that wait here while their publisher may have gone to another node: the control plane knows.

use std::sync::Arc;
use std::time::Duration;

use crate::node::Node;
use crate::registry::Command;

/// How often it is asked while something waits. A publisher that moves is back within a second or two.
const LOOK: Duration = Duration::from_millis(500);

/// Lets go of every waiting recording that another node goes on with; never ends.
pub async fn run(node: Arc<Node>) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        // A recording of which the control plane has not heard yet is unknown there, not taken over.
        if !node.link.is_connected() || node.link.facts().unreported() > 0 {
            continue;
        }
        let waiting = node.registry.waiting();
        if waiting.is_empty() {
            continue;
        }
        // It answers again soon, and says the same.
        let Ok(stale) = node.link.taken_over(&waiting).await else { continue };
        for recording in stale {
            node.registry.command(Command::Orphan { recording });
        }
    }
}
