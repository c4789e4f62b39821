//! How often each caller may call: a token bucket a caller, kept as the moment at which it is full again.
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Callers remembered at a time. Whoever is not remembered has a full bucket, so forgetting is only generous.
const MAX_CALLERS: usize = 10_000;

/// Buckets of one rate.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    /// Time that one call takes of the bucket.
    cost: Duration,
    /// Time that a full bucket holds.
    depth: Duration,
    full_at: Mutex<HashMap<K, Duration>>,
}

impl<K: Hash + Eq> Limiter<K> {
    /// `rate` calls a second, and `burst` at once after a pause.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        let cost = Duration::from_secs(1) / rate.max(1);
        Self { cost, depth: cost * burst.max(1), full_at: Mutex::default() }
    }

    /// Takes one call out of the caller's bucket; how long to wait if it is empty. `now` is any clock that only goes on.
    pub(super) fn take(&self, caller: K, now: Duration) -> Result<(), Duration> {
        self.take_if(caller, now, true)
    }

    /// Whether the bucket has a call left, without taking it.
    pub(super) fn look(&self, caller: K, now: Duration) -> Result<(), Duration> {
        self.take_if(caller, now, false)
    }

    fn take_if(&self, caller: K, now: Duration, taking: bool) -> Result<(), Duration> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = full_at.get(&caller).copied().unwrap_or(now).max(now);
        let after = begins.saturating_add(self.cost);
        let over = after.saturating_sub(now).saturating_sub(self.depth);
        if !over.is_zero() {
            return Err(over);
        }
        if taking {
            if full_at.len() >= MAX_CALLERS && !full_at.contains_key(&caller) {
                full_at.retain(|_, full_at| *full_at > now);
                if full_at.len() >= MAX_CALLERS {
                    full_at.clear();
                }
            }
            full_at.insert(caller, after);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_then_the_rate_and_the_wait_told_is_enough() {
        let limiter = Limiter::new(10, 3);
        for _ in 0..3 {
            limiter.take("a", millis(0)).unwrap();
        }
        assert_eq!(limiter.take("a", millis(0)), Err(millis(100)));
        limiter.take("b", millis(0)).unwrap();
        assert_eq!(limiter.take("a", millis(40)), Err(millis(60)));
        assert_eq!(limiter.look("a", millis(100)), Ok(()));
        limiter.take("a", millis(100)).unwrap();
        assert_eq!(limiter.take("a", millis(100)), Err(millis(100)));
    }

    #[test]
    fn callers_without_number_take_no_memory_without_bound() {
        let limiter = Limiter::new(1, 1);
        for caller in 0..3 * MAX_CALLERS {
            limiter.take(caller, millis(0)).unwrap();
        }
        assert!(limiter.full_at.lock().unwrap().len() <= MAX_CALLERS);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(calls in proptest::collection::vec(0_u64..400, 1..200)) {
            let (limiter, mut now, mut taken) = (Limiter::new(20, 5), 0, 0_u64);
            for pause in calls {
                now += pause;
                taken += u64::from(limiter.take((), millis(now)).is_ok());
                prop_assert!(taken <= 5 + now / 50, "{taken} by {now} ms");
            }
        }
    }
}
