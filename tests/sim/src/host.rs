//! One simulated machine: a runtime of its own under paused time. Dropping it is a crash.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

/// How far the world moves at once, in milliseconds.
pub const TICK: u64 = 10;

/// See the module.
pub struct Host {
    runtime: Runtime,
    /// Tokio's time when the host began, and the world's then.
    began: (Instant, u64),
    now: u64,
}

impl Host {
    /// Starts at `now` of the world, in milliseconds.
    pub fn start(now: u64) -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().expect("runtime");
        let began = runtime.block_on(async { Instant::now() });
        Self { runtime, began: (began, now), now }
    }

    /// Does something on the host, in no time.
    pub fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Lets the host work until `now` of the world. What was missed (the host was stopped) passes at once.
    pub fn tick(&mut self, now: u64) {
        self.tick_unless(now, std::future::pending::<()>());
    }

    /// The same, but stops when `end` comes; true when it did.
    pub fn tick_unless(&mut self, now: u64, end: impl Future) -> bool {
        let until = self.began.0 + Duration::from_millis(now - self.began.1);
        let missed = (now - self.now).saturating_sub(TICK);
        self.now = now;
        self.runtime.block_on(async move {
            if missed > 0 {
                tokio::time::advance(Duration::from_millis(missed)).await;
            }
            let mut end = std::pin::pin!(end);
            tokio::select! {
                biased;
                _ = &mut end => true,
                () = tokio::time::sleep_until(until) => false,
            }
        })
    }

    /// Milliseconds of the world that the host has seen.
    pub fn now(&self) -> u64 {
        self.now
    }
}
