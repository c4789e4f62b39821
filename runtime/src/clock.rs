//! The only place that asks the machine what time it is; everything else takes a [`Clock`].
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Port: wall-clock time for what people read, monotonic time for measuring.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Wall-clock time; may jump when the machine's clock is set.
    fn now(&self) -> DateTime<Utc>;
    /// Time since the clock was made (for the system clock: since the process began to use it); never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now; make one per process and share it.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// The same, ready to be shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the port that the rule points to")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until it is told to move; clones share the hands.
#[derive(Debug, Clone)]
pub struct SimulatedClock {
    hands: Arc<Mutex<Hands>>,
}

#[derive(Debug, Clone, Copy)]
struct Hands {
    now: DateTime<Utc>,
    monotonic: Duration,
}

impl SimulatedClock {
    /// Starts at the given wall-clock time, with monotonic time zero.
    pub fn at(now: DateTime<Utc>) -> Self {
        Self { hands: Arc::new(Mutex::new(Hands { now, monotonic: Duration::ZERO })) }
    }

    /// Moves both times forward; saturates at the end of the calendar.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.lock();
        let delta = chrono::TimeDelta::from_std(by).unwrap_or(chrono::TimeDelta::MAX);
        hands.now = hands.now.checked_add_signed(delta).unwrap_or(DateTime::<Utc>::MAX_UTC);
        hands.monotonic = hands.monotonic.saturating_add(by);
    }

    /// Sets the wall clock only, forwards or backwards, as an administrator or NTP does.
    pub fn set(&self, now: DateTime<Utc>) {
        self.lock().now = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> DateTime<Utc> {
        self.lock().now
    }

    fn monotonic(&self) -> Duration {
        self.lock().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_time_moves_only_by_hand_and_clones_agree() {
        let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let clock = SimulatedClock::at(start);
        let seen_by_another: Arc<dyn Clock> = Arc::new(clock.clone());
        assert_eq!((seen_by_another.now(), seen_by_another.monotonic()), (start, Duration::ZERO));
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(seen_by_another.now(), start + chrono::TimeDelta::milliseconds(1_500));
        assert_eq!(seen_by_another.monotonic(), Duration::from_millis(1_500));
        clock.set(start);
        assert_eq!(seen_by_another.now(), start);
        assert_eq!(seen_by_another.monotonic(), Duration::from_millis(1_500), "setting the clock moves no measurement");
        clock.advance(Duration::MAX);
        assert_eq!(seen_by_another.now(), DateTime::<Utc>::MAX_UTC);
    }

    #[test]
    fn system_time_does_not_go_back() {
        let clock = SystemClock::shared();
        let (first, second) = (clock.monotonic(), clock.monotonic());
        assert!(second >= first);
        assert!(clock.now().timestamp() > 1_700_000_000);
    }
}
