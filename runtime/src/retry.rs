//! How long to wait before trying again, and when to stop: capped, fully jittered, and with a budget beside the delay,
//! so that a failing dependency is not buried under retries. No clock and no I/O: the caller sleeps.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
/// Whether an error is worth a retry, and whose it is: the words are part of the wire vocabulary.
pub use recorder_proto::problem::{Blame, Retry};

/// One whole token of a [`Budget`], in the units it counts in.
const TOKEN: u64 = 1_000;

/// Delays of one kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Upper bound of the first delay; doubles with every attempt.
    pub base: Duration,
    /// Upper bound of every delay.
    pub cap: Duration,
    /// Retries before giving up; None never does.
    pub max_retries: Option<u32>,
}

impl Policy {
    /// For what must go on however long it takes: links and uploads.
    pub const fn forever(base: Duration, cap: Duration) -> Self {
        Self { base, cap, max_retries: None }
    }

    /// For what somebody waits for.
    pub const fn at_most(retries: u32, base: Duration, cap: Duration) -> Self {
        Self { base, cap, max_retries: Some(retries) }
    }
}

/// Retries that many operations may spend together; clones share it. A retry costs one token, a success earns back a
/// part of one, so that in the long run retries are at most that part of the successes.
#[derive(Debug, Clone)]
pub struct Budget {
    tokens: Arc<AtomicU64>,
    max: u64,
    earned: u64,
}

impl Budget {
    /// `tokens` at the start and at most; every success earns `percent_of_successes` hundredths of one.
    pub fn new(tokens: u32, percent_of_successes: u8) -> Self {
        let max = u64::from(tokens) * TOKEN;
        let earned = u64::from(percent_of_successes) * TOKEN / 100;
        Self { tokens: Arc::new(AtomicU64::new(max)), max, earned }
    }

    /// Never runs out: for the one loop that must go on, which its delay alone keeps polite.
    pub fn unlimited() -> Self {
        Self { tokens: Arc::new(AtomicU64::new(0)), max: u64::MAX, earned: 0 }
    }

    /// Takes a token for one retry; false when there is none.
    pub fn spend(&self) -> bool {
        let take = |tokens: u64| tokens.checked_sub(TOKEN);
        self.max == u64::MAX || self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Counts a success.
    pub fn earn(&self) {
        let add = |tokens: u64| Some(tokens.saturating_add(self.earned).min(self.max));
        // The closure never refuses.
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// The retries of one operation.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: Policy,
    budget: Budget,
    retries: u32,
}

impl Backoff {
    /// Nothing tried yet.
    pub fn new(policy: Policy, budget: Budget) -> Self {
        Self { policy, budget, retries: 0 }
    }

    /// The operation failed: how long to wait before the next attempt, or None to give up, because this operation had
    /// its retries or all of them together have no budget left. The delay is anything from zero to the bound (full
    /// jitter), which spreads the clients that failed together.
    pub fn next(&mut self, rng: &mut impl Rng) -> Option<Duration> {
        if self.policy.max_retries.is_some_and(|max| self.retries >= max) || !self.budget.spend() {
            return None;
        }
        let bound = self.policy.base.saturating_mul(2u32.saturating_pow(self.retries)).min(self.policy.cap);
        self.retries = self.retries.saturating_add(1);
        let nanoseconds = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(rng.random_range(0..=nanoseconds)))
    }

    /// The operation succeeded: the next failure starts over.
    pub fn succeeded(&mut self) {
        self.retries = 0;
        self.budget.earn();
    }

    /// Retries since the last success.
    pub fn retries(&self) -> u32 {
        self.retries
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    proptest! {
        #[test]
        fn delays_stay_below_the_doubling_bound_and_the_cap(seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::new(Policy::forever(BASE, CAP), Budget::unlimited());
            for retry in 0..100u32 {
                let delay = backoff.next(&mut rng).unwrap();
                prop_assert!(delay <= CAP.min(BASE * 2u32.saturating_pow(retry.min(20))));
            }
        }
    }

    #[test]
    fn jitter_uses_the_whole_range() {
        let mut rng = StdRng::seed_from_u64(1);
        let delays: Vec<Duration> = (0..1_000)
            .map(|_| Backoff::new(Policy::forever(BASE, CAP), Budget::unlimited()).next(&mut rng).unwrap())
            .collect();
        let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
        assert!(*least < BASE / 20 && *most > BASE / 20 * 19, "{least:?} to {most:?}");
    }

    #[test]
    fn gives_up_after_its_retries_and_starts_over_after_a_success() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut backoff = Backoff::new(Policy::at_most(2, BASE, CAP), Budget::unlimited());
        assert_eq!((0..4).filter(|_| backoff.next(&mut rng).is_some()).count(), 2);
        backoff.succeeded();
        assert_eq!(backoff.retries(), 0);
        assert!(backoff.next(&mut rng).is_some());
    }

    #[test]
    fn operations_share_the_budget_and_successes_refill_it() {
        let mut rng = StdRng::seed_from_u64(3);
        let budget = Budget::new(3, 50);
        let mut operations: Vec<Backoff> =
            (0..5).map(|_| Backoff::new(Policy::forever(BASE, CAP), budget.clone())).collect();
        let granted = operations.iter_mut().filter_map(|operation| operation.next(&mut rng)).count();
        assert_eq!(granted, 3);
        operations[0].succeeded();
        assert_eq!(operations[1].next(&mut rng), None, "half a token is none");
        operations[0].succeeded();
        assert!(operations[1].next(&mut rng).is_some());
        (0..100).for_each(|_| budget.earn());
        assert_eq!((0..10).filter(|_| budget.spend()).count(), 3, "the budget does not grow beyond its size");
    }
}
