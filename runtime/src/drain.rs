//! Leaving in stages (operations C.5): accepting, draining, deadline; with named guards, so that a slow shutdown says
//! who holds it up.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// While waiting, the holders are logged this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Exit code after the second SIGINT: 128 + SIGINT, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// How far the process is on its way out; only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Normal operation.
    Accepting,
    /// Take nothing new; finish what runs.
    Draining,
    /// Out of time: put down what is in hand and leave.
    Deadline,
}

/// The owner's side: starts and awaits the drain. Clones are the same drain.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    signal: Signal,
}

/// The workers' side: hears about the drain and holds it up with [`Guard`]s. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stage: watch::Sender<Stage>,
    holders: Mutex<Holders>,
    /// Bumped on every guard that goes.
    released: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Holders {
    next: u64,
    names: BTreeMap<u64, String>,
}

/// Keeps [`Drain::wait`] waiting until it is dropped.
#[derive(Debug)]
#[must_use = "a guard that is dropped at once holds nothing up"]
pub struct Guard {
    shared: Arc<Shared>,
    id: u64,
}

/// How a drain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every guard was released in time.
    Complete,
    /// The deadline came first; these still held on, in the order in which they began.
    Deadline {
        /// Names of the guards.
        holders: Vec<String>,
    },
}

impl Default for Signal {
    fn default() -> Self {
        let shared = Shared {
            stage: watch::Sender::new(Stage::Accepting),
            holders: Mutex::default(),
            released: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// What workers get.
    pub fn signal(&self) -> Signal {
        self.signal.clone()
    }

    /// Stage 1: take nothing new. Calling it again changes nothing.
    pub fn begin(&self) {
        self.signal.advance(Stage::Draining);
    }

    /// Stage 3 without waiting for it.
    pub fn expire(&self) {
        self.signal.advance(Stage::Deadline);
    }

    /// Begins the drain if nobody has, then waits until every guard is gone or the deadline (from now) has passed;
    /// logs who holds it up meanwhile. Afterwards the stage is [`Stage::Deadline`], so that whatever listens without
    /// a guard leaves as well.
    pub async fn wait(&self, deadline: Duration) -> Outcome {
        self.begin();
        let released = timeout(deadline, self.released()).await.is_ok();
        let holders = self.signal.holders();
        self.expire();
        if released {
            return Outcome::Complete;
        }
        tracing::warn!(holders = holders.join(", "), "drain deadline reached");
        Outcome::Deadline { holders }
    }

    async fn released(&self) {
        let mut released = self.signal.shared.released.subscribe();
        while !self.signal.holders().is_empty() {
            // The sender lives in `self`: an error cannot happen, and would mean that nobody is left.
            match timeout(REPORT_INTERVAL, released.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => tracing::info!(holders = self.signal.holders().join(", "), "draining"),
            }
        }
    }
}

impl Signal {
    /// Where the process is now.
    pub fn stage(&self) -> Stage {
        *self.shared.stage.borrow()
    }

    /// Returns once nothing new may be taken.
    pub async fn draining(&self) {
        self.reached(Stage::Draining).await;
    }

    /// Returns once time is up.
    pub async fn deadline(&self) {
        self.reached(Stage::Deadline).await;
    }

    /// Holds the drain up until the guard is dropped; the name appears in the log (`recording 01JD…`).
    pub fn guard(&self, name: impl Into<String>) -> Guard {
        let mut holders = self.lock();
        let id = holders.next;
        holders.next += 1;
        holders.names.insert(id, name.into());
        Guard { shared: self.shared.clone(), id }
    }

    /// Who holds the drain up, in the order in which they began.
    pub fn holders(&self) -> Vec<String> {
        self.lock().names.values().cloned().collect()
    }

    async fn reached(&self, stage: Stage) {
        // The sender lives in `self`, so this ends only when the stage is reached.
        let _ = self.shared.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    fn advance(&self, stage: Stage) {
        self.shared.stage.send_if_modified(|now| {
            let forward = stage > *now;
            *now = stage.max(*now);
            forward
        });
    }

    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.shared.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.holders.lock().unwrap_or_else(PoisonError::into_inner).names.remove(&self.id);
        self.shared.released.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Begins the drain on SIGTERM or SIGINT and exits at once on the second SIGINT, which is safe because every start
/// recovers as if from a crash. The handlers are in place when this returns; the task lives as long as the process.
pub fn signals(drain: Drain) -> std::io::Result<JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        let mut interrupts = 0;
        loop {
            let name = tokio::select! {
                received = terminate.recv() => received.map(|()| "SIGTERM"),
                received = interrupt.recv() => received.map(|()| "SIGINT"),
            };
            let Some(name) = name else { return };
            interrupts += u32::from(name == "SIGINT");
            if interrupts > 1 {
                tracing::warn!("second SIGINT, exiting now");
                std::process::exit(EXIT_INTERRUPTED);
            }
            tracing::info!(signal = name, "draining; SIGINT twice exits at once");
            drain.begin();
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn stages_move_forward_only() {
        let drain = Drain::new();
        let signal = drain.signal();
        assert_eq!(signal.stage(), Stage::Accepting);
        drain.begin();
        assert_eq!(signal.stage(), Stage::Draining);
        timeout(PATIENCE, signal.draining()).await.unwrap();
        drain.expire();
        drain.begin();
        assert_eq!(signal.stage(), Stage::Deadline);
        timeout(PATIENCE, signal.deadline()).await.unwrap();
    }

    #[tokio::test]
    async fn waits_for_guards_and_tells_workers() {
        let drain = Drain::new();
        let signal = drain.signal();
        let worker = tokio::spawn({
            let (signal, guard) = (signal.clone(), signal.guard("recording a"));
            async move {
                signal.draining().await;
                drop(guard);
            }
        });
        assert_eq!(timeout(PATIENCE, drain.wait(PATIENCE)).await.unwrap(), Outcome::Complete);
        worker.await.unwrap();
        assert_eq!(signal.stage(), Stage::Deadline);
        assert_eq!(drain.wait(Duration::ZERO).await, Outcome::Complete, "a drained process drains at once");
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_names_the_holders() {
        let drain = Drain::new();
        let (first, second, third) =
            (drain.signal().guard("recording a"), drain.signal().guard("upload b"), drain.signal().guard("link"));
        drop(second);
        let outcome = drain.wait(Duration::from_secs(600)).await;
        assert_eq!(outcome, Outcome::Deadline { holders: vec!["recording a".to_owned(), "link".to_owned()] });
        drop((first, third));
        assert!(drain.signal().holders().is_empty());
    }

    #[tokio::test]
    async fn sigterm_begins_the_drain() {
        let drain = Drain::new();
        let task = signals(drain.clone()).unwrap();
        let own = std::process::id().to_string();
        assert!(std::process::Command::new("sh").args(["-c", "kill -TERM $0", &own]).status().unwrap().success());
        timeout(PATIENCE, drain.signal().draining()).await.unwrap();
        assert_eq!(drain.signal().stage(), Stage::Draining);
        task.abort();
    }
}
