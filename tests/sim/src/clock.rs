//! Time of one host: tokio's, which stands still but for the ticks of the world, and a wall clock that may be off.

use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_runtime::clock::Clock;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// The wall clock at the beginning, in seconds.
pub const START: i64 = 1_780_000_000;

/// See the module. Within the host's runtime it moves with it; without it stands where it was seen last.
#[derive(Debug)]
pub struct HostClock {
    /// Tokio's time when the process began, and what the world's was then.
    began: (Instant, Duration),
    skew: TimeDelta,
    seen: Mutex<Duration>,
}

impl HostClock {
    /// Within the host's runtime, at `now` of the world, with a wall clock that is `skew` ms ahead.
    pub fn at(now: Duration, skew: i64) -> Self {
        Self { began: (Instant::now(), now), skew: TimeDelta::milliseconds(skew), seen: Mutex::new(now) }
    }
}

impl Clock for HostClock {
    fn now(&self) -> DateTime<Utc> {
        let start = DateTime::from_timestamp(START, 0).expect("a time");
        start + TimeDelta::from_std(self.monotonic()).expect("short") + self.skew
    }

    fn monotonic(&self) -> Duration {
        let mut seen = self.seen.lock().expect("never poisoned");
        if Handle::try_current().is_ok() {
            *seen = (*seen).max(self.began.1 + self.began.0.elapsed());
        }
        *seen
    }
}
