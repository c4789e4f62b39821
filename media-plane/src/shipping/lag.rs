//! How long the oldest closed object has been waiting for its storage: the number to alert on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Since {
    next: u64,
    objects: BTreeMap<u64, Instant>,
}

/// Objects on their way, by age.
#[derive(Clone, Default)]
pub struct Lag(Arc<Mutex<Since>>);

/// One of them; ends with its drop.
pub struct Waiting {
    lag: Lag,
    number: u64,
}

impl Lag {
    fn lock(&self) -> MutexGuard<'_, Since> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object is closed from now on.
    pub fn enter(&self) -> Waiting {
        let mut since = self.lock();
        let number = since.next;
        since.next += 1;
        since.objects.insert(number, Instant::now());
        drop(since);
        Waiting { lag: self.clone(), number }
    }

    /// Age of the oldest; zero when there is none.
    pub fn oldest(&self) -> Duration {
        // Numbers are given in the order of time.
        self.lock().objects.values().next().map(Instant::elapsed).unwrap_or_default()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lag.lock().objects.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_until_it_is_gone() {
        let lag = Lag::default();
        assert_eq!(lag.oldest(), Duration::ZERO);
        let first = lag.enter();
        let second = lag.enter();
        let before = lag.oldest();
        while lag.oldest() == before {}
        assert!(lag.oldest() > before);
        drop(first);
        let younger = lag.lock().objects[&second.number];
        assert!(lag.oldest() <= younger.elapsed());
        drop(second);
        assert_eq!(lag.oldest(), Duration::ZERO);
    }
}
