//! Waiting for facts instead of sleeping.

use std::time::{Duration, Instant};

/// How long a test waits for a fact before it fails; `RECORDER_TEST_PATIENCE` (seconds) overrides it.
pub fn patience() -> Duration {
    let seconds = std::env::var("RECORDER_TEST_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// How long a part stays away in a test of that, in seconds: `short` in the default run, `RECORDER_OUTAGE_SECONDS` in
/// `make soak-outages`.
pub fn outage(short: usize) -> usize {
    std::env::var("RECORDER_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

/// Polls `probe` until it yields a value, and returns it; panics with `what` when patience ends.
pub async fn until<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    until_or(&what, String::new, probe).await
}

/// The same; `instead` tells what was there instead.
pub async fn until_or<T>(
    what: &dyn std::fmt::Display,
    instead: impl Fn() -> String,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {:?} in vain for {what}\n{}", patience(), instead());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
