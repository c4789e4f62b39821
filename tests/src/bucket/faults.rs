//! What a server does wrong on purpose, and what it was asked for.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One misbehaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An error answer; nothing is applied.
    Answer {
        /// HTTP status.
        status: u16,
        /// S3's `Code`, Google's `reason`.
        code: &'static str,
        /// The provider's words.
        message: &'static str,
    },
    /// "The bucket is elsewhere", with the region in the header and the body.
    OtherRegion(&'static str),
    /// Status 200 and an error in the body (S3's CompleteMultipartUpload); nothing is applied.
    ErrorInOk,
    /// Applied, then the connection ends without an answer.
    DropReply,
    /// The connection ends before the request is read.
    DropRequest,
    /// Applied and answered, but late.
    Delay(Duration),
    /// Never answered.
    Hang,
    /// Google's resumable uploads: only the first half of the chunk is kept.
    HalfChunk,
}

/// Faults in store and requests seen; by operation in S3's names (`PutObject`), for Google as well.
#[derive(Debug)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queued: Vec<(String, Fault, usize)>,
    chances: Vec<(String, Fault, f64)>,
    random: StdRng,
    calls: BTreeMap<String, u64>,
    headers: BTreeMap<String, BTreeSet<String>>,
}

impl Default for Faults {
    fn default() -> Self {
        let state = State {
            queued: Vec::new(),
            chances: Vec::new(),
            random: StdRng::seed_from_u64(0),
            calls: BTreeMap::new(),
            headers: BTreeMap::new(),
        };
        Self { state: Mutex::new(state) }
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `times` requests of `operation` (`*`: of any) go wrong so. `usize::MAX`: until [`Faults::clear`].
    pub fn add(&self, operation: &str, fault: Fault, times: usize) {
        self.lock().queued.push((operation.to_owned(), fault, times));
    }

    /// Every request of `operation` goes wrong so with this probability, by seed.
    pub fn chance(&self, operation: &str, fault: Fault, probability: f64, seed: u64) {
        let mut state = self.lock();
        state.random = StdRng::seed_from_u64(seed);
        state.chances.push((operation.to_owned(), fault, probability));
    }

    /// Everything works again.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.queued.clear();
        state.chances.clear();
    }

    /// Requests of `operation` so far, those that went wrong included.
    pub fn calls(&self, operation: &str) -> u64 {
        self.lock().calls.get(operation).copied().unwrap_or_default()
    }

    /// Requests so far, by operation.
    pub fn all_calls(&self) -> BTreeMap<String, u64> {
        self.lock().calls.clone()
    }

    /// Names of all headers that requests of `operation` carried so far, lower-case.
    pub fn headers(&self, operation: &str) -> BTreeSet<String> {
        self.lock().headers.get(operation).cloned().unwrap_or_default()
    }

    /// Notes a request and says what is to go wrong with it.
    pub(super) fn meet<'a>(&self, operation: &str, headers: impl Iterator<Item = &'a str>) -> Option<Fault> {
        let mut state = self.lock();
        *state.calls.entry(operation.to_owned()).or_default() += 1;
        state.headers.entry(operation.to_owned()).or_default().extend(headers.map(str::to_owned));
        let fits = |name: &str| name == "*" || name == operation;
        if let Some(next) = state.queued.iter_mut().find(|(name, _, times)| fits(name) && *times > 0) {
            next.2 -= usize::from(next.2 != usize::MAX);
            return Some(next.1.clone());
        }
        let chances = state.chances.clone();
        for (_, fault, probability) in chances.into_iter().filter(|(name, ..)| fits(name)) {
            if state.random.random::<f64>() < probability {
                return Some(fault);
            }
        }
        None
    }
}
