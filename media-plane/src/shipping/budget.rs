//! What uploads may take: permits for requests that carry bytes, shared fairly, and a rate for the bytes.
//!
//! Permits go to whoever waits with the oldest bytes, playlists before all, but no file and no storage may hold all of
//! them: one large file, or one storage whose requests hang, must not keep the others from theirs. A storage that asks
//! to slow down gets fewer of them until it works again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Who asks for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The file, unique in the node.
    pub file: Arc<str>,
    /// The storage.
    pub storage: Arc<str>,
    /// A playlist: small, and what everything shipped before is worth nothing without.
    pub is_playlist: bool,
    /// Since when its bytes wait.
    pub since: Instant,
}

type Place = (bool, Instant, u64);

struct State {
    free: usize,
    number: u64,
    waiting: BTreeMap<Place, (Who, oneshot::Sender<Permit>)>,
    by_file: HashMap<Arc<str>, usize>,
    by_storage: HashMap<Arc<str>, usize>,
    /// Of storages that asked to slow down: how many they take.
    narrowed: HashMap<Arc<str>, usize>,
}

struct Shared {
    state: Mutex<State>,
    file_most: usize,
    storage_most: usize,
}

/// The permits; clones share them.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

/// One of them; ends with its drop.
pub struct Permit {
    gate: Option<Gate>,
    file: Arc<str>,
    storage: Arc<str>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        let mut state = gate.lock();
        state.free += 1;
        less(&mut state.by_file, &self.file);
        less(&mut state.by_storage, &self.storage);
        gate.admit(&mut state);
    }
}

fn less(held: &mut HashMap<Arc<str>, usize>, key: &Arc<str>) {
    if let Some(count) = held.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            held.remove(key);
        }
    }
}

impl Gate {
    /// `permits` at once, of which one storage may hold `per_storage`.
    pub fn new(permits: usize, per_storage: usize) -> Self {
        let state = State {
            free: permits,
            number: 0,
            waiting: BTreeMap::new(),
            by_file: HashMap::new(),
            by_storage: HashMap::new(),
            narrowed: HashMap::new(),
        };
        let (file_most, storage_most) = (permits.saturating_sub(1).max(1), per_storage.max(1));
        Self(Arc::new(Shared { state: Mutex::new(state), file_most, storage_most }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn.
    pub async fn enter(&self, who: &Who) -> Permit {
        loop {
            let turn = {
                let mut state = self.lock();
                let (sender, turn) = oneshot::channel();
                state.number += 1;
                let place = (!who.is_playlist, who.since, state.number);
                state.waiting.insert(place, (who.clone(), sender));
                self.admit(&mut state);
                turn
            };
            // The sender stays in the line until it is served, so this does not fail; were it to, one queues again.
            if let Ok(permit) = turn.await {
                return permit;
            }
        }
    }

    /// Serves the line as far as permits reach.
    fn admit(&self, state: &mut State) {
        let shared = &self.0;
        while state.free > 0 {
            let may = |who: &Who, state: &State| {
                let held = |of: &HashMap<Arc<str>, usize>, key: &Arc<str>| of.get(key).copied().unwrap_or(0);
                let most = held_most(state, &who.storage, shared.storage_most);
                held(&state.by_file, &who.file) < shared.file_most && held(&state.by_storage, &who.storage) < most
            };
            state.waiting.retain(|_, (_, sender)| !sender.is_closed());
            let next = state.waiting.iter().find(|(_, (who, _))| may(who, state)).map(|(place, _)| *place);
            let Some((who, sender)) = next.and_then(|place| state.waiting.remove(&place)) else { return };
            let Who { file, storage, .. } = who;
            let permit = Permit { gate: Some(self.clone()), file: Arc::clone(&file), storage: Arc::clone(&storage) };
            match sender.send(permit) {
                Ok(()) => {
                    state.free -= 1;
                    *state.by_file.entry(file).or_default() += 1;
                    *state.by_storage.entry(storage).or_default() += 1;
                }
                // Gone meanwhile; its permit was never counted, and its drop would wait for our lock.
                Err(mut unused) => unused.gate = None,
            }
        }
    }

    /// The storage asked to slow down: it gets half of what it has.
    pub fn narrow(&self, storage: &Arc<str>) {
        let mut state = self.lock();
        let now = held_most(&state, storage, self.0.storage_most);
        state.narrowed.insert(Arc::clone(storage), (now / 2).max(1));
    }

    /// It took something: one more.
    pub fn widen(&self, storage: &Arc<str>) {
        let mut state = self.lock();
        let Some(most) = state.narrowed.get_mut(storage) else { return };
        *most += 1;
        if *most >= self.0.storage_most {
            state.narrowed.remove(storage);
        }
        self.admit(&mut state);
    }
}

fn held_most(state: &State, storage: &Arc<str>, most: usize) -> usize {
    state.narrowed.get(storage).copied().unwrap_or(most)
}

/// How many bytes a second leave the node; clones share it.
#[derive(Clone, Default)]
pub struct Bandwidth {
    /// 0 = as many as there are.
    rate: u64,
    /// When what was promised so far will have left.
    busy_until: Arc<Mutex<Option<Instant>>>,
}

impl Bandwidth {
    /// Bytes a second; 0 and `u64::MAX` = no limit.
    pub fn new(rate: u64) -> Self {
        Self { rate, busy_until: Arc::default() }
    }

    /// Waits until these bytes may leave; first come, first served.
    pub async fn take(&self, bytes: u64) {
        if self.rate == 0 || self.rate == u64::MAX {
            return;
        }
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.rate);
        let cost = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let now = Instant::now();
        let starts = {
            let mut busy = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            let starts = busy.filter(|until| *until > now).unwrap_or(now);
            *busy = starts.checked_add(cost).or(Some(starts));
            starts
        };
        tokio::time::sleep_until(starts).await;
    }
}

/// Attempts on a storage that fails, spread over time: however many files wait, they ask it only so often.
#[derive(Debug, Default)]
pub struct Slots {
    next: Mutex<Option<Instant>>,
}

impl Slots {
    /// When the next attempt may begin, if two of them are to be `interval` apart.
    pub fn reserve(&self, interval: Duration) -> Instant {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = next.filter(|slot| *slot > now).unwrap_or(now);
        *next = Some(slot + interval);
        slot
    }

    /// The line is dissolved: the storage works.
    pub fn clear(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn who(file: &str, storage: &str, since: Instant) -> Who {
        Who { file: file.into(), storage: storage.into(), is_playlist: false, since }
    }

    #[tokio::test]
    async fn the_oldest_bytes_go_first_and_playlists_before_them() {
        let gate = Gate::new(1, 1);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let held = gate.enter(&who("held", "s", at(0))).await;
        let mut waiting = [
            who("young", "s", at(9)),
            who("old", "s", at(1)),
            Who { is_playlist: true, ..who("playlist", "s", at(20)) },
            who("middle", "s", at(5)),
        ]
        .map(|who| {
            (
                who.file.to_string(),
                Box::pin({
                    let gate = gate.clone();
                    async move { gate.enter(&who).await }
                }),
            )
        })
        .to_vec_of();
        assert!(waiting.iter_mut().all(|(_, turn)| turn.now_or_never().is_none()));
        drop(held);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let served = waiting.iter_mut().position(|(_, turn)| turn.now_or_never().is_some()).unwrap();
            order.push(waiting.remove(served).0);
        }
        assert_eq!(order, ["playlist", "old", "middle", "young"]);
    }

    trait ToVec<T> {
        fn to_vec_of(self) -> Vec<T>;
    }

    impl<T, const N: usize> ToVec<T> for [T; N] {
        fn to_vec_of(self) -> Vec<T> {
            self.into_iter().collect()
        }
    }

    #[tokio::test]
    async fn no_file_and_no_storage_holds_every_permit() {
        let gate = Gate::new(4, 2);
        let now = Instant::now();
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(gate.enter(&who("a", "hangs", now)).await);
        }
        let third = who("b", "hangs", now);
        assert!(gate.enter(&third).now_or_never().is_none(), "two is all that a storage gets");
        held.push(gate.enter(&who("c", "works", now)).await);
        held.push(gate.enter(&who("c", "works", now)).await);
        held.clear();
        let gate = Gate::new(3, 3);
        let own = who("a", "s", now);
        let _mine = [gate.enter(&own).await, gate.enter(&own).await];
        assert!(gate.enter(&own).now_or_never().is_none());
        assert!(gate.enter(&who("b", "s", now)).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_stops_waiting_takes_no_permit_with_it() {
        let gate = Gate::new(1, 1);
        let own = who("a", "s", Instant::now());
        for _ in 0..3 {
            let held = gate.enter(&own).await;
            assert!(gate.enter(&own).now_or_never().is_none());
            drop(held);
        }
        assert!(gate.enter(&own).now_or_never().is_some());
        let state = gate.lock();
        assert!(state.free == 1 && state.by_file.is_empty() && state.by_storage.is_empty());
    }

    #[tokio::test]
    async fn a_storage_that_asks_to_slow_down_gets_less_until_it_works() {
        let gate = Gate::new(8, 8);
        let own = who("a", "s", Instant::now());
        let at_once = || async {
            let mut held = Vec::new();
            while let Some(permit) = gate.enter(&own).now_or_never() {
                held.push(permit);
            }
            held.len()
        };
        assert_eq!(at_once().await, 7);
        (0..9).for_each(|_| gate.narrow(&own.storage));
        assert_eq!(at_once().await, 1);
        (0..2).for_each(|_| gate.widen(&own.storage));
        assert_eq!(at_once().await, 3);
        (0..9).for_each(|_| gate.widen(&own.storage));
        assert_eq!(at_once().await, 7);
    }

    #[tokio::test]
    async fn bytes_leave_at_the_rate_whoever_sends_them() {
        let bandwidth = Bandwidth::new(100_000);
        let began = Instant::now();
        let senders = (0..11).map(|_| async { bandwidth.take(2_000).await });
        futures_util::future::join_all(senders).await;
        // The first one leaves at once.
        assert!(began.elapsed() >= Duration::from_millis(200));
        Bandwidth::new(0).take(u64::MAX).await;
        Bandwidth::new(u64::MAX).take(u64::MAX).await;
    }

    #[tokio::test]
    async fn attempts_are_spread_however_many_wait() {
        let slots = Slots::default();
        let began = Instant::now();
        let mut last = began;
        for _ in 0..50 {
            last = slots.reserve(Duration::from_millis(100));
        }
        let spread = last - began;
        assert!(spread >= Duration::from_millis(4_900) && spread < Duration::from_millis(5_900), "{spread:?}");
        slots.clear();
        assert!(slots.reserve(Duration::from_millis(100)) < last);
    }
}
