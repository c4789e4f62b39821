//! The loop that sends: one replica at a time, a bounded number of attempts at once.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_db::{AnyConnection, Kind, deliveries, leases, webhooks};
use recorder_proto::Problem;
use recorder_proto::time;
use recorder_runtime::drain::Signal;
use recorder_runtime::metrics::WEBHOOK_DELIVERIES_TOTAL;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::client::{Call, Client};
use super::flights::Flights;
use super::queue::{self, Ahead};
use super::render::{self, Receiver};
use super::schedule::Answer;
use crate::api::Api;
use crate::api::webhooks::Secrets;
use crate::pulse::Pulse;

/// What is due is looked for this often; new events are noticed at once.
const POLL: Duration = Duration::from_millis(250);

/// Name of the lease.
const LEASE: &str = "webhooks";

/// How long the lease holds without being renewed: a replica that died is replaced after so long.
const LEASE_TERM: Duration = Duration::from_secs(10);

/// The lease is asked for this often, by the one that has it and by the others.
const RENEWAL: Duration = Duration::from_secs(3);

/// Times that events are turned into deliveries before something is sent again.
const STEPS: usize = 4;

/// What was tried is written down in so long, or is tried again after the restart.
const LANDING: Duration = Duration::from_secs(3);

/// Pause between two tries to write down what came of an attempt.
const DATABASE_PAUSE: Duration = Duration::from_millis(500);

/// Pause before what can never be written down is tried again.
const UNWRITABLE_PAUSE: Duration = Duration::from_secs(30);

/// Deliveries that are over are forgotten this often.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// What the loop needs.
pub struct Dispatcher {
    api: Api,
    client: Client,
    retention: Duration,
    /// Who we are, in the lease.
    holder: String,
    flights: Flights,
    ahead: Ahead,
    attempts: JoinSet<()>,
    /// Webhook and delivery of each attempt, whatever becomes of its task.
    names: BTreeMap<Id, (String, String)>,
    /// When the lease was last asked for, and whether it was ours.
    asked: Option<(Instant, bool)>,
    pruned: Option<Instant>,
}

/// An attempt about to be made.
struct Departure {
    delivery: deliveries::Row,
    /// None when there is nothing to send any more.
    call: Option<Call>,
}

impl Dispatcher {
    /// A loop that has not begun. `retention` is how long deliveries are kept.
    pub fn new(api: Api, client: Client, retention: Duration) -> Self {
        let holder = api.mint.ulid(api.now()).to_string();
        Self {
            api,
            client,
            retention,
            holder,
            flights: Flights::default(),
            ahead: Ahead::new(),
            attempts: JoinSet::new(),
            names: BTreeMap::new(),
            asked: None,
            pruned: None,
        }
    }

    /// Sends until the drain begins; what is under way then gets a moment to land.
    pub async fn run(mut self, pulse: Pulse, drain: Signal) {
        let _guard = drain.guard("webhooks");
        let mut heads = pulse.subscribe();
        loop {
            tokio::select! {
                () = drain.draining() => break,
                _ = heads.changed() => {}
                Some(landed) = self.attempts.join_next_with_id() => {
                    self.landed(landed.map_or_else(|error| error.id(), |(id, ())| id));
                }
                () = tokio::time::sleep(POLL) => {}
            }
            heads.mark_unchanged();
            if let Err(problem) = self.turn().await {
                // Not known to be ours any more. Readiness tells the operator; the next turn tries again.
                self.asked = None;
                tracing::debug!(%problem, "webhooks cannot reach the database");
            }
        }
        let landing = async { while self.attempts.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LANDING, landing).await;
        let holder = self.holder.clone();
        // Failing that, it runs out.
        let _ = self.api.db.write(move |db| leases::release(db, LEASE, &holder)).await;
    }

    fn landed(&mut self, attempt: Id) {
        if let Some((webhook, delivery)) = self.names.remove(&attempt) {
            self.flights.end(&webhook, &delivery);
        }
    }

    async fn turn(&mut self) -> Result<(), Problem> {
        if self.api.db.read(webhooks::count).await? == 0 || !self.is_ours().await? {
            return Ok(());
        }
        self.prune().await?;
        for _ in 0..STEPS {
            if !self.advance().await? {
                break;
            }
        }
        for departure in self.due().await? {
            let (webhook, delivery) = (departure.delivery.webhook.clone(), departure.delivery.id.clone());
            if self.flights.begin(&webhook, &delivery) {
                let attempt = self.attempts.spawn(fly(self.api.clone(), self.client.clone(), departure));
                self.names.insert(attempt.id(), (webhook, delivery));
            }
        }
        Ok(())
    }

    /// Whether this process sends. An embedded database has one process, which is this one.
    async fn is_ours(&mut self) -> Result<bool, Problem> {
        if let Some((_, ours)) = self.asked.filter(|(asked, _)| asked.elapsed() < RENEWAL) {
            return Ok(ours);
        }
        let now = self.api.now();
        let until = time::micros(now + TimeDelta::from_std(LEASE_TERM).unwrap_or_default());
        let (holder, alone) = (self.holder.clone(), self.api.db.kind() == Kind::Sqlite);
        let asked = Instant::now();
        let take = move |db: &mut AnyConnection| leases::take(db, LEASE, &holder, time::micros(now), until);
        let ours = alone || self.api.db.write(take).await?;
        self.asked = Some((asked, ours));
        Ok(ours)
    }

    /// Turns events into deliveries; whether there are more.
    async fn advance(&mut self) -> Result<bool, Problem> {
        let (ahead, mint, now) = (self.ahead.clone(), self.api.mint.clone(), self.api.now());
        let (steps, more) = self.api.db.read(move |db| queue::plan(db, &ahead, &mint, now)).await?;
        let steps = queue::note(steps, &mut self.ahead);
        if !steps.is_empty() {
            self.api.db.write(move |db| queue::write(db, &steps)).await?;
        }
        Ok(more)
    }

    /// What may be tried now.
    async fn due(&self) -> Result<Vec<Departure>, Problem> {
        let (api, now, flights) = (self.api.clone(), self.api.now(), self.flights.clone());
        let reading = self.api.db.read(move |db| {
            let mut departures = Vec::new();
            // Mostly nothing is due, and most webhooks are up to date.
            for id in deliveries::webhooks_due(db, time::micros(now))? {
                if let Some(row) = webhooks::get(db, &id)? {
                    departures.extend(departing(db, &api, row, &flights, now)?);
                }
            }
            Ok(departures)
        });
        reading.await
    }

    async fn prune(&mut self) -> Result<(), Problem> {
        if self.pruned.is_some_and(|pruned| pruned.elapsed() < PRUNE_INTERVAL) {
            return Ok(());
        }
        self.pruned = Some(Instant::now());
        let now = self.api.now();
        let age = TimeDelta::from_std(self.retention).unwrap_or(TimeDelta::MAX);
        let oldest = now.checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let prune = move |db: &mut AnyConnection| {
            webhooks::prune_secrets(db, time::micros(now))?;
            deliveries::prune(db, time::micros(oldest)).map(drop)
        };
        Ok(self.api.db.write(prune).await?)
    }
}

/// The deliveries of one webhook that are due, as requests.
fn departing(
    db: &mut AnyConnection,
    api: &Api,
    row: webhooks::Row,
    flights: &Flights,
    now: DateTime<Utc>,
) -> Result<Vec<Departure>, Problem> {
    let webhook = row.webhook()?;
    let free = i64::try_from(flights.free(&row.id)).unwrap_or_default();
    if free == 0 || !queue::is_open(&row, &webhook) {
        return Ok(Vec::new());
    }
    let due = deliveries::due(db, &row.id, time::micros(now), flights.under_way(&row.id), free)?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let secrets = Secrets::open(db, &api.sealer, &row, now)?;
    let receiver = Receiver { row, webhook, secrets };
    let depart = |delivery: deliveries::Row| {
        let call = render::call(db, &receiver, &delivery, now)?;
        Ok(Departure { delivery, call })
    };
    due.into_iter().map(depart).collect()
}

/// Makes an attempt and writes down what came of it, however long the database takes.
async fn fly(api: Api, client: Client, departure: Departure) {
    let Departure { delivery, call } = departure;
    let answer = match call {
        Some(call) => client.post(call).await,
        None => Answer::Lost,
    };
    count(&answer);
    let answer = Arc::new(answer);
    loop {
        let (tried, answer, now) = (delivery.clone(), Arc::clone(&answer), api.now());
        let landing = api.db.write(move |db| queue::land(db, &tried, &answer, false, rand::random(), now));
        match landing.await {
            Ok(_) => return,
            Err(problem) if problem.code == tonic::Code::Unavailable => tokio::time::sleep(DATABASE_PAUSE).await,
            Err(problem) => {
                tracing::error!(delivery = delivery.id, %problem, "what came of a delivery cannot be written");
                // It will be tried again, but not in a hurry.
                tokio::time::sleep(UNWRITABLE_PAUSE).await;
                return;
            }
        }
    }
}

/// Counts an attempt for the operator.
pub fn count(answer: &Answer) {
    let outcome = match answer {
        answer if answer.is_success() => "delivered",
        Answer::Status { .. } => "refused",
        Answer::Nothing(_) => "unanswered",
        Answer::Lost => "lost",
    };
    metrics::counter!(WEBHOOK_DELIVERIES_TOTAL, "outcome" => outcome).increment(1);
}
