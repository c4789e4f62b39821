//! What happened, line by line: equal for equal seeds, and the place where broken promises are noted as they break.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use recorder_proto::invariants::{Broken, Held};

#[derive(Default)]
struct Lines {
    now: u64,
    lines: Vec<String>,
    broken: Vec<String>,
}

/// The log of a world; clones share it.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Lines>>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is now so many milliseconds after the beginning.
    pub fn set_time(&self, now: u64) {
        self.lock().now = now;
    }

    /// The time, in milliseconds after the beginning.
    pub fn now(&self) -> u64 {
        self.lock().now
    }

    /// Something happened.
    pub fn say(&self, who: &str, what: impl Display) {
        let mut lines = self.lock();
        let line = format!("{:>7} {who:<8} {what}", lines.now);
        lines.lines.push(line);
    }

    /// Notes what does not hold.
    pub fn hold(&self, who: &str, held: Held) {
        if let Err(broken) = held {
            self.broken(who, &broken);
        }
    }

    /// A promise was broken.
    pub fn broken(&self, who: &str, broken: &Broken) {
        self.say(who, format!("!! {broken}"));
        self.lock().broken.push(format!("{who}: {broken}"));
    }

    /// Every promise that was broken.
    pub fn all_broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    /// Every line.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }
}

/// A promise that does not hold.
pub fn broken(rule: &'static str, evidence: impl Into<String>) -> Broken {
    Broken { rule, evidence: evidence.into() }
}
