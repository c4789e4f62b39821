//! A bucket that fails on purpose, for tests of whoever must cope.
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::bucket::{Bucket, Capabilities, If, Listed, ObjectMeta, Part, Stored, Upload, UploadId};
use crate::error::{Error, Kind};

/// What goes wrong. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// The first so many attempts of each distinct operation (name, key, part number) are refused.
    pub refuse_first: u32,
    /// The next so many are applied, but the reply is lost.
    pub lose_replies_first: u32,
    /// Chance of any further attempt to be refused, 0 to 1.
    pub refuse: f64,
    /// Chance of any further reply to be lost, 0 to 1.
    pub lose_reply: f64,
    /// What a refusal is called.
    pub refusal: Kind,
    /// Same seed and same calls, same faults.
    pub seed: u64,
}

impl Default for Faults {
    fn default() -> Self {
        let none = 0.0;
        Self {
            refuse_first: 0,
            lose_replies_first: 0,
            refuse: none,
            lose_reply: none,
            refusal: Kind::Unavailable,
            seed: 0,
        }
    }
}

/// Calls whose keys are remembered.
const KEYS: usize = 10_000;

/// A bucket behind faults; counts calls.
#[derive(Debug)]
pub struct Unreliable {
    inner: Arc<dyn Bucket>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    random: StdRng,
    attempts: BTreeMap<(&'static str, String, u32), u32>,
    calls: BTreeMap<&'static str, u64>,
    /// Of the first calls: which, and with which key.
    keys: Vec<(&'static str, String)>,
    /// Number of the call that never ends, and whether it is carried out before.
    death: Option<(u64, bool)>,
    refuse_next: Option<(&'static str, Kind, u32)>,
}

enum Fate {
    Pass,
    Die { applied: bool },
    Refuse(Kind),
    LoseReply,
}

impl Unreliable {
    /// Around a working bucket.
    pub fn new(inner: Arc<dyn Bucket>, faults: Faults) -> Self {
        let random = StdRng::seed_from_u64(faults.seed);
        let state = State {
            faults,
            random,
            attempts: BTreeMap::new(),
            calls: BTreeMap::new(),
            keys: Vec::new(),
            death: None,
            refuse_next: None,
        };
        Self { inner, state: Mutex::new(state) }
    }

    /// Other faults from now on; counters stay.
    pub fn set(&self, faults: Faults) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.faults = faults;
        state.random = StdRng::seed_from_u64(faults.seed);
        state.attempts.clear();
    }

    /// Calls by operation since the beginning, failed ones included.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }

    /// Calls of one operation.
    pub fn calls_of(&self, operation: &str) -> u64 {
        self.calls().get(operation).copied().unwrap_or_default()
    }

    /// The keys of the calls of one operation, in the order in which they came.
    pub fn keys_of(&self, operation: &str) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.keys.iter().filter(|(of, _)| *of == operation).map(|(_, key)| key.clone()).collect()
    }

    /// The next call of this operation is refused so.
    pub fn refuse_next(&self, operation: &'static str, refusal: Kind) {
        self.refuse_times(operation, refusal, 1);
    }

    /// The next so many calls of this operation are refused so.
    pub fn refuse_times(&self, operation: &'static str, refusal: Kind, times: u32) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refuse_next = Some((operation, refusal, times));
    }

    /// The caller dies at this call, counted from 0: it never ends, nor does any after it. `applied`: after the store
    /// has carried it out, otherwise before.
    pub fn die_at(&self, call: u64, applied: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).death = Some((call, applied));
    }

    /// Whether that call has come.
    pub fn is_dead(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.death.is_some_and(|(at, _)| state.calls.values().sum::<u64>() > at)
    }

    fn fate(&self, operation: &'static str, key: &str, number: u32) -> Fate {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let call = state.calls.values().sum::<u64>();
        *state.calls.entry(operation).or_default() += 1;
        if state.keys.len() < KEYS {
            state.keys.push((operation, key.to_owned()));
        }
        if let Some((at, applied)) = state.death.filter(|(at, _)| call >= *at) {
            return Fate::Die { applied: applied && call == at };
        }
        if let Some((_, refusal, times)) = state.refuse_next.take_if(|(named, ..)| *named == operation) {
            state.refuse_next = (times > 1).then(|| (operation, refusal, times - 1));
            return Fate::Refuse(refusal);
        }
        let faults = state.faults;
        let attempt = {
            let attempt = state.attempts.entry((operation, key.to_owned(), number)).or_default();
            *attempt = attempt.saturating_add(1);
            *attempt
        };
        if attempt <= faults.refuse_first {
            return Fate::Refuse(faults.refusal);
        }
        if attempt <= faults.refuse_first.saturating_add(faults.lose_replies_first) {
            return Fate::LoseReply;
        }
        let dice: f64 = state.random.random();
        if dice < faults.refuse {
            Fate::Refuse(faults.refusal)
        } else if dice < faults.refuse + faults.lose_reply {
            Fate::LoseReply
        } else {
            Fate::Pass
        }
    }

    async fn through<T, F>(&self, operation: &'static str, key: &str, number: u32, call: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match self.fate(operation, key, number) {
            Fate::Pass => call.await,
            Fate::Die { applied } => {
                if applied {
                    // What came of it, nobody will know.
                    let _ = call.await;
                }
                std::future::pending().await
            }
            Fate::Refuse(kind) => Err(Error::new(operation, key, kind, "Injected", "refused on purpose")),
            Fate::LoseReply => {
                call.await?;
                Err(Error::new(operation, key, Kind::Interrupted, "Injected", "reply lost on purpose"))
            }
        }
    }
}

#[async_trait]
impl Bucket for Unreliable {
    async fn put(&self, key: &str, body: Bytes, meta: &ObjectMeta, condition: If) -> Result<Stored, Error> {
        self.through("put", key, 0, self.inner.put(key, body, meta, condition)).await
    }

    async fn create_upload(&self, key: &str, meta: &ObjectMeta) -> Result<UploadId, Error> {
        self.through("create_upload", key, 0, self.inner.create_upload(key, meta)).await
    }

    async fn put_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part, Error> {
        self.through("put_part", key, number, self.inner.put_part(key, upload, number, body)).await
    }

    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<Part>, Error> {
        self.through("list_parts", key, 0, self.inner.list_parts(key, upload)).await
    }

    async fn complete(&self, key: &str, upload: &UploadId, parts: &[Part], condition: If) -> Result<Stored, Error> {
        self.through("complete", key, 0, self.inner.complete(key, upload, parts, condition)).await
    }

    async fn compose(&self, key: &str, sources: &[String], meta: &ObjectMeta) -> Result<Stored, Error> {
        self.through("compose", key, 0, self.inner.compose(key, sources, meta)).await
    }

    async fn abort(&self, key: &str, upload: &UploadId) -> Result<(), Error> {
        self.through("abort", key, 0, self.inner.abort(key, upload)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Upload>, Error> {
        self.through("list_uploads", prefix, 0, self.inner.list_uploads(prefix)).await
    }

    async fn head(&self, key: &str) -> Result<Option<Stored>, Error> {
        self.through("head", key, 0, self.inner.head(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.through("get_range", key, 0, self.inner.get_range(key, range)).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.through("delete", key, 0, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        self.through("list", prefix, 0, self.inner.list(prefix)).await
    }

    async fn presign(&self, key: &str, ttl: Duration) -> Result<String, Error> {
        self.through("presign", key, 0, self.inner.presign(key, ttl)).await
    }

    fn uri(&self, key: &str) -> String {
        self.inner.uri(key)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[tokio::test]
    async fn refuses_then_loses_the_reply_then_works() {
        let memory = Arc::new(Memory::new());
        let faults = Faults { refuse_first: 1, lose_replies_first: 1, refusal: Kind::Throttled, ..Faults::default() };
        let bucket = Unreliable::new(Arc::clone(&memory) as Arc<dyn Bucket>, faults);
        let meta = ObjectMeta::default();
        let put = || bucket.put("k", Bytes::from_static(b"x"), &meta, If::Any);
        assert_eq!(put().await.unwrap_err().kind, Kind::Throttled);
        assert_eq!(memory.head("k").await.unwrap(), None);
        assert_eq!(put().await.unwrap_err().kind, Kind::Interrupted);
        assert!(memory.head("k").await.unwrap().is_some());
        assert!(put().await.is_ok());
        assert_eq!(bucket.calls_of("put"), 3);
    }

    #[tokio::test]
    async fn same_seed_same_faults() {
        let run = async |seed| {
            let faults = Faults { refuse: 0.3, lose_reply: 0.3, seed, ..Faults::default() };
            let bucket = Unreliable::new(Arc::new(Memory::new()), faults);
            let mut outcome = Vec::new();
            for _ in 0..50 {
                outcome.push(bucket.list("").await.err().map(|error| error.kind));
            }
            outcome
        };
        assert_eq!(run(7).await, run(7).await);
        assert_ne!(run(7).await, run(8).await);
        assert!(run(7).await.contains(&Some(Kind::Interrupted)));
        assert!(run(7).await.contains(&None));
    }
}
