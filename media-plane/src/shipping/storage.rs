//! One storage as shipping sees it: its client, whether it works, and how long to wait when it does not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use recorder_proto::facts::{Failure, StorageFailing, StorageRecovered};
use recorder_proto::names::StorageName;
use recorder_runtime::clock::Clock;
use recorder_runtime::metrics as names;
use recorder_runtime::retry::{Backoff, Budget, Policy};
use store::{Bucket, Kind, Retry};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Code;

use super::Target;
use super::budget::{Gate, Slots};
use super::nudge::Nudge;
use super::upload::UploadError;
use crate::node::Facts;

/// Makes a client for a storage; `true` asks for the newest credential instead of the one the plan named.
pub type Open = Arc<dyn Fn(Target, bool) -> BoxFuture<'static, Result<Arc<dyn Bucket>, UploadError>> + Send + Sync>;

/// How long uploads wait after failures.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For what passes by itself: outages, throttling.
    pub transient: Policy,
    /// For what somebody has to change: slow, but never given up, so that new credentials heal it without help.
    pub refused: Policy,
    /// Time between two attempts on a storage that fails, whatever waits for it: the retry budget of all its files.
    pub slot: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            transient: Policy::forever(Duration::from_millis(200), Duration::from_secs(15)),
            refused: Policy::forever(Duration::from_secs(5), Duration::from_secs(60)),
            slot: Duration::from_millis(100),
        }
    }
}

/// Failures in a row, of any kind, after which the storage counts as failing: one lost connection is no news.
const FAILING_AFTER: u32 = 5;

/// What one failure adds to the pressure on a storage, and the most it can be. A success halves it, so that what fails
/// now and then is not held up, and what fails as often as it works is.
const PRESSURE: (u32, u32) = (4, 64);

#[derive(Default)]
struct Health {
    failures: u32,
    since: Option<DateTime<Utc>>,
    /// The same, for measuring.
    began: Option<Instant>,
    /// Failures of late: above zero, attempts are spread over time.
    pressure: u32,
    /// The last failure was one that somebody has to do something about.
    refused: bool,
    /// The last failure, in the provider's words.
    last: Option<Failure>,
    /// The provider's code that was told.
    told: Option<String>,
    /// The next client needs the newest credential.
    stale: bool,
}

/// See the module.
pub struct Storage {
    target: Target,
    open: Open,
    pace: Pace,
    clock: Arc<dyn Clock>,
    facts: Facts,
    client: tokio::sync::Mutex<Option<Arc<dyn Bucket>>>,
    health: Mutex<Health>,
    recovered: Notify,
    nudge: Nudge,
    slots: Slots,
    gate: Gate,
    /// Its name as the permits count it.
    label: Arc<str>,
}

impl Storage {
    /// Nothing is opened yet.
    pub fn new(target: Target, open: Open, pace: Pace, clock: Arc<dyn Clock>, facts: Facts, gate: Gate) -> Self {
        let (client, health, recovered, nudge, slots) = Default::default();
        let label = target.name.as_str().into();
        Self { target, open, pace, clock, facts, client, health, recovered, nudge, slots, gate, label }
    }

    /// With somebody who has its uploads tried at once.
    pub fn nudged_by(self, nudge: Nudge) -> Self {
        Self { nudge, ..self }
    }

    /// Which storage.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its name as the permits count it.
    pub fn label(&self) -> Arc<str> {
        Arc::clone(&self.label)
    }

    /// For how long nothing has worked, and whether somebody has to do something about it; none while it works.
    pub fn trouble(&self) -> Option<Trouble> {
        let health = self.lock();
        Some(Trouble { lasted: health.began?.elapsed(), refused: health.refused, error: health.last.clone() })
    }

    /// Waits for its turn to be asked, which is at once while it works. Whatever waits, a storage that fails is asked
    /// only so often.
    pub async fn turn(&self) {
        if self.lock().pressure == 0 {
            return;
        }
        let slot = self.slots.reserve(self.pace.slot);
        tokio::select! {
            () = tokio::time::sleep_until(slot) => {}
            () = self.recovered.notified() => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client; made at the first call and again after a refusal.
    pub async fn bucket(&self) -> Result<Arc<dyn Bucket>, UploadError> {
        let mut client = self.client.lock().await;
        let stale = std::mem::take(&mut self.lock().stale);
        if let Some(bucket) = client.as_ref().filter(|_| !stale) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = (self.open)(self.target.clone(), stale).await?;
        *client = Some(Arc::clone(&bucket));
        Ok(bucket)
    }

    /// For the retries of one object.
    pub fn attempts(&self) -> Attempts {
        let backoff = |policy| Backoff::new(policy, Budget::unlimited());
        Attempts { transient: backoff(self.pace.transient), refused: backoff(self.pace.refused) }
    }

    /// An upload worked.
    pub fn worked(&self) {
        metrics::counter!(names::UPLOAD_PARTS_TOTAL, "storage" => self.target.name.clone(), "outcome" => "stored")
            .increment(1);
        self.gate.widen(&self.label);
        let health = {
            let mut health = self.lock();
            let pressure = health.pressure / 2;
            std::mem::replace(&mut *health, Health { pressure, ..Health::default() })
        };
        if health.told.is_none() {
            return;
        }
        self.slots.clear();
        tracing::info!(storage = self.target.name, "storage works again");
        self.recovered.notify_waiters();
        if let Ok(storage) = self.target.name.parse::<StorageName>() {
            let time = self.clock.now();
            let credential_version = self.target.credential_version;
            self.facts.emit(time, None, StorageRecovered { storage, credential_version, time }.into());
        }
    }

    /// An attempt failed; waits as long as is right before the next one.
    pub async fn failed(&self, error: &UploadError, attempts: &mut Attempts) {
        let (retry, stale) = match error {
            UploadError::Store(error) => {
                let stale = matches!(error.kind, Kind::Denied | Kind::Misconfigured);
                (error.retry(), stale)
            }
            UploadError::Spool(_) => (Retry::Backoff, false),
            UploadError::Credential { .. } => (Retry::Never, true),
        };
        let class = match retry {
            Retry::Never => "refused",
            Retry::Now | Retry::Backoff => "transient",
        };
        let storage = || self.target.name.clone();
        metrics::counter!(names::UPLOAD_PARTS_TOTAL, "storage" => storage(), "outcome" => class).increment(1);
        metrics::counter!(names::UPLOAD_RETRIES_TOTAL, "storage" => storage(), "class" => class).increment(1);
        if let UploadError::Spool(error) = error {
            // Our own disk: the customer's storage has nothing to do with it.
            tracing::warn!(%error, "spooled bytes cannot be read just now");
        } else {
            self.note(error, retry == Retry::Never, stale);
        }
        if matches!(error, UploadError::Store(error) if error.kind == Kind::Throttled) {
            self.gate.narrow(&self.label);
        }
        if let UploadError::Store(store::Error { server_time: Some(theirs), .. }) = error {
            let ahead = i64::from(theirs.get()) - self.clock.now().timestamp();
            metrics::gauge!(names::STORAGE_CLOCK_SKEW_SECONDS, "storage" => storage()).set(ahead as f64);
            tracing::warn!(
                storage = self.target.name,
                seconds_ahead = ahead,
                "the storage's clock and this node's differ; requests are signed by the storage's from now on"
            );
        }
        let backoff = if retry == Retry::Never { &mut attempts.refused } else { &mut attempts.transient };
        let wait = backoff.next(&mut rand::rng()).unwrap_or_default();
        // Full jitter may be zero, which is too eager for what cannot heal by itself.
        let least = if retry == Retry::Never { self.pace.refused.base / 2 } else { Duration::ZERO };
        tokio::select! {
            () = tokio::time::sleep(wait.max(least)) => {}
            () = self.recovered.notified() => {}
            // Somebody has repaired something, perhaps the credential.
            () = self.nudge.given() => self.lock().stale = true,
        }
    }

    fn note(&self, error: &UploadError, refused: bool, stale: bool) {
        let now = self.clock.now();
        let failure = failure(error);
        let mut health = self.lock();
        health.failures = health.failures.saturating_add(1);
        health.stale |= stale;
        health.last = Some(failure.clone());
        // Without a credential nothing is known of the storage: the control plane is away, and another storage's
        // credential is no nearer.
        if matches!(error, UploadError::Store(_)) {
            health.refused = refused;
            health.began.get_or_insert_with(Instant::now);
        }
        if !matches!(error, UploadError::Store(error) if error.retry() == Retry::Now) {
            health.pressure = (health.pressure + PRESSURE.0).min(PRESSURE.1);
        }
        let since = *health.since.get_or_insert(now);
        let is_failing = refused || health.failures >= FAILING_AFTER;
        if !is_failing || health.told.as_ref() == Some(&failure.reason) {
            return;
        }
        health.told = Some(failure.reason.clone());
        drop(health);
        tracing::warn!(storage = self.target.name, %error, "storage fails; recorded bytes wait in the spool");
        if let Ok(storage) = self.target.name.parse::<StorageName>() {
            let credential_version = self.target.credential_version;
            self.facts.emit(now, None, StorageFailing { storage, credential_version, since, error: failure }.into());
        }
    }
}

/// How a storage fails.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Since nothing works.
    pub lasted: Duration,
    /// It does not heal by itself: a missing bucket, a missing permission, the wrong region.
    pub refused: bool,
    /// What the provider said last.
    pub error: Option<Failure>,
}

/// The retries of one object, by class of failure.
pub struct Attempts {
    transient: Backoff,
    refused: Backoff,
}

/// In the provider's own words.
pub fn failure(error: &UploadError) -> Failure {
    match error {
        UploadError::Store(error) => Failure {
            code: match error.kind {
                Kind::Denied => Code::PermissionDenied,
                Kind::Misconfigured | Kind::NotFound => Code::FailedPrecondition,
                Kind::Invalid => Code::InvalidArgument,
                Kind::Unsupported => Code::Unimplemented,
                Kind::Corrupted => Code::DataLoss,
                _ => Code::Unavailable,
            }
            .into(),
            reason: error.code.clone(),
            message: error.message.clone(),
            http_status: error.status.unwrap_or(0),
            request_id: String::new(),
        },
        UploadError::Spool(error) => internal("SPOOL_UNREADABLE", error.to_string()),
        UploadError::Credential { problem, .. } => internal("CREDENTIAL_UNAVAILABLE", problem.clone()),
    }
}

/// A failure of our own.
pub fn internal(reason: &str, message: String) -> Failure {
    Failure {
        code: Code::Internal.into(),
        reason: reason.to_owned(),
        message,
        http_status: 0,
        request_id: String::new(),
    }
}
