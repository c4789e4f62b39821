//! The bell that rings when a token is revoked here, so that whatever it holds open ends at once.
use std::sync::Arc;

use tokio::sync::watch;

/// Counts the tokens that were revoked in this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Revocations {
    count: Arc<watch::Sender<u64>>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self { count: Arc::new(watch::Sender::new(0)) }
    }
}

impl Revocations {
    /// A token was revoked.
    pub fn ring(&self) {
        self.count.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes whenever it rings.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}
