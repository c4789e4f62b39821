//! Whether this process can do its work: named checks that its parts keep up to date.
//!
//! Checks are pushed, not polled, so that a probe is answered at once even when a dependency hangs.
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::drain::{Signal, Stage};

/// What a check that nobody has set yet says.
const STARTING: &str = "starting";

/// All checks of the process; clones are the same.
#[derive(Debug, Clone)]
pub struct Readiness {
    checks: watch::Sender<BTreeMap<String, Result<(), String>>>,
    drain: Signal,
}

/// One named check; the part that owns it says how it is. Clones are the same check.
#[derive(Debug, Clone)]
pub struct Check {
    name: Arc<str>,
    checks: watch::Sender<BTreeMap<String, Result<(), String>>>,
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the check.
    pub name: String,
    /// What is wrong, if anything is.
    pub problem: Option<String>,
}

impl Readiness {
    /// No checks yet; a process that drains is never ready.
    pub fn new(drain: Signal) -> Self {
        Self { checks: watch::Sender::new(BTreeMap::new()), drain }
    }

    /// Adds a check (`database`, `spool`, `listener`), which fails as "starting" until it is set.
    pub fn register(&self, name: &str) -> Check {
        self.checks.send_modify(|checks| {
            checks.insert(name.to_owned(), Err(STARTING.to_owned()));
        });
        Check { name: name.into(), checks: self.checks.clone() }
    }

    /// Every check and, first, whether the process accepts work.
    pub fn report(&self) -> Vec<Finding> {
        let accepting = self.drain.stage() == Stage::Accepting;
        let drain = Finding { name: "accepting".to_owned(), problem: (!accepting).then(|| "draining".to_owned()) };
        let checks = self.checks.borrow();
        let findings = checks.iter().map(|(name, state)| Finding { name: name.clone(), problem: state.clone().err() });
        std::iter::once(drain).chain(findings).collect()
    }

    /// No check fails.
    pub fn is_ready(&self) -> bool {
        self.report().iter().all(|finding| finding.problem.is_none())
    }

    /// Returns after a check was set or the drain moved on; call it in a loop with [`Readiness::is_ready`]. A change
    /// between two calls is not lost when `seen` is kept.
    pub async fn changed(&self, seen: &mut Seen) {
        tokio::select! {
            // The sender lives in `self`, so this ends only on a change.
            _ = seen.checks.changed() => {}
            () = self.drain.draining(), if !seen.draining => seen.draining = true,
        }
    }

    /// The state of one observer; everything up to now counts as seen.
    pub fn observe(&self) -> Seen {
        Seen { checks: self.checks.subscribe(), draining: self.drain.stage() != Stage::Accepting }
    }
}

/// What an observer of [`Readiness::changed`] has seen.
#[derive(Debug)]
pub struct Seen {
    checks: watch::Receiver<BTreeMap<String, Result<(), String>>>,
    draining: bool,
}

impl Check {
    /// All is well.
    pub fn ready(&self) {
        self.set(Ok(()));
    }

    /// Something is wrong; the reason is shown by `/readyz` to whoever asks, so it must hold no secret.
    pub fn failing(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    fn set(&self, state: Result<(), String>) {
        self.checks.send_if_modified(|checks| {
            let before = checks.insert(self.name.to_string(), state.clone());
            let changed = before.as_ref() != Some(&state);
            if changed {
                match &state {
                    Ok(()) => tracing::info!(check = &*self.name, "ready"),
                    Err(reason) => tracing::warn!(check = &*self.name, reason, "not ready"),
                }
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::drain::Drain;

    #[tokio::test]
    async fn ready_means_every_check_and_not_draining() {
        let drain = Drain::new();
        let readiness = Readiness::new(drain.signal());
        let (database, spool) = (readiness.register("database"), readiness.register("spool"));
        assert!(!readiness.is_ready());
        database.ready();
        assert!(!readiness.is_ready(), "spool has not said anything yet");
        spool.ready();
        assert!(readiness.is_ready());
        database.failing("disk is full");
        let problems: Vec<_> = readiness.report().into_iter().filter_map(|finding| finding.problem).collect();
        assert_eq!(problems, ["disk is full"]);
        database.ready();
        let mut seen = readiness.observe();
        drain.begin();
        tokio::time::timeout(Duration::from_secs(10), readiness.changed(&mut seen)).await.unwrap();
        assert!(!readiness.is_ready());
    }
}
