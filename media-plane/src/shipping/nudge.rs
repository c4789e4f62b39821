//! Somebody asks for the uploads that wait to be tried at once (RetryUploads).

use std::sync::Arc;

use tokio::sync::Notify;

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    /// Wakes every upload that waits after a failure. How many are tried at once, their permits say.
    pub fn everybody(&self) {
        self.0.notify_waiters();
    }

    /// Waits for the next one.
    pub async fn given(&self) {
        self.0.notified().await;
    }
}
