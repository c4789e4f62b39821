//! The control link: dials the control plane, keeps directives fresh, delivers facts, fetches credentials.
//!
//! Recording never waits for it. Every stream that breaks is opened again, and what was lost in between is asked or
//! told anew.

mod calls;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::node::register_response::spool_verdict::Verdict;
use recorder_proto::pb::node::stream_directives_request::{Ack, Heartbeat, Hello, Message as Say, Nack};
use recorder_proto::pb::node::stream_directives_response::{Drain as DrainOrder, Message as Heard};
use recorder_proto::pb::node::{
    ClaimRecordingRequest, RegisterRequest, ReportFactsRequest, ReportFactsResponse, StreamDirectivesRequest,
    StreamDirectivesResponse, directive,
};
use recorder_runtime::clock::Clock;
use recorder_runtime::drain::Signal;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::claims;
use super::credentials::{Bearer, Credentials};
use super::directives::{Applied, Directives};
use super::facts::FactLog;

/// Facts in one message; the log limits its bytes.
const FACT_BATCH: usize = 200;
/// How long one dial or unary call may take before another endpoint is tried.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Shortest and longest pause between attempts to reach the control plane.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What the node says about itself with every heartbeat.
pub trait Report: Send + Sync {
    /// Counters and load at this moment.
    fn heartbeat(&self) -> Heartbeat;
    /// Who the node is and what its spool holds.
    fn registration(&self) -> RegisterRequest;
    /// The control plane wants the node emptied, or no longer.
    fn drain(&self, _order: &DrainOrder) {}
    /// A later epoch of a recording was given to another node than the one that holds this epoch.
    fn taken_over(&self, _recording: &str, _epoch: u64) {}
    /// Tasks of these streams have come, changed or gone.
    fn tasks_changed(&self, _streams: &BTreeSet<StreamKey>) {}
}

/// Opens a connection to the control plane; simulations have networks of their own.
pub type Dial = Arc<dyn Fn(Endpoint) -> BoxFuture<'static, Result<Channel, tonic::transport::Error>> + Send + Sync>;

/// A connection that shows the node's token with every call.
type Client = NodeLinkServiceClient<InterceptedService<Channel, Bearer>>;

/// The link as the rest of the node sees it. Clones share it.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    dial: Dial,
    credentials: Credentials,
    endpoints: Vec<Endpoint>,
    directives: Directives,
    facts: FactLog,
    clock: Arc<dyn Clock>,
    call_timeout: Duration,
    controls: mpsc::Sender<directive::Control>,
    node_epoch: AtomicU64,
    /// This node's clock minus the control plane's, in microseconds.
    skew: AtomicI64,
    connected: AtomicBool,
    client: watch::Sender<Option<Client>>,
    fenced: watch::Sender<Option<String>>,
}

impl Link {
    /// Prepares the link; nothing is dialled before [`Link::run`].
    pub fn new(
        control: &[String],
        directives: Directives,
        facts: FactLog,
        clock: Arc<dyn Clock>,
        controls: mpsc::Sender<directive::Control>,
    ) -> Result<Self, tonic::transport::Error> {
        let dial: Dial = Arc::new(|endpoint| Box::pin(async move { endpoint.connect().await }));
        Self::over(dial, control, directives, facts, clock, controls)
    }

    /// [`Link::new`] over another network.
    pub fn over(
        dial: Dial,
        control: &[String],
        directives: Directives,
        facts: FactLog,
        clock: Arc<dyn Clock>,
        controls: mpsc::Sender<directive::Control>,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoints = control.iter().map(|url| endpoint(url)).collect::<Result<Vec<_>, _>>()?;
        let shared = Shared {
            dial,
            credentials: Credentials::default(),
            endpoints,
            directives,
            facts,
            clock,
            call_timeout: CALL_TIMEOUT,
            controls,
            node_epoch: AtomicU64::new(0),
            skew: AtomicI64::new(0),
            connected: AtomicBool::new(false),
            client: watch::Sender::new(None),
            fenced: watch::Sender::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The same with these credentials; before it is shared.
    #[must_use]
    pub fn with(mut self, credentials: Credentials) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.credentials = credentials;
        }
        self
    }

    /// The control plane's clock when this node's shows `now`, as measured at the last registration.
    pub fn control_time(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now - TimeDelta::microseconds(self.shared.skew.load(Ordering::Relaxed))
    }

    /// The last good directives.
    pub fn directives(&self) -> &Directives {
        &self.shared.directives
    }

    /// The durable fact queue.
    pub fn facts(&self) -> &FactLog {
        &self.shared.facts
    }

    /// True while the control plane answers.
    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Resolves when a newer process took this node's id; the sentence says so.
    pub async fn fenced(&self) -> String {
        let mut fenced = self.shared.fenced.subscribe();
        match fenced.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The sender lives in `self.shared`.
            Err(_) => std::future::pending().await,
        }
    }

    /// Keeps the link up until `drain` ends.
    pub async fn run(&self, report: Arc<dyn Report>, drain: Signal) {
        tokio::select! {
            () = self.shared.keep_connected(report.as_ref()) => {}
            () = drain.deadline() => {}
        }
        self.shared.disconnected();
    }
}

fn endpoint(url: &str) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    Ok(endpoint
        .connect_timeout(CALL_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true))
}

fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Aborted
    )
}

/// Why a newer process has this node's id, if that is what the status says.
fn fenced_by(status: &Status) -> Option<String> {
    let problem = recorder_proto::Problem::from(status);
    // A recording can have moved on by itself; that says nothing of the node.
    let of_recording = problem.details.preconditions.iter().any(|met| met.subject.starts_with("recordings/"));
    (problem.reason == "EPOCH_FENCED" && !of_recording).then_some(problem.message)
}

impl Shared {
    /// A unary call whose answer is not waited for forever.
    async fn in_time<T>(&self, call: &str, reply: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let late = |_| Err(Status::deadline_exceeded(format!("{call} did not answer")));
        tokio::time::timeout(self.call_timeout, reply).await.unwrap_or_else(late)
    }

    /// A status that fences the epoch the call was made under ends the node's work, like the message on the directive
    /// stream: registering again would take the id back from the newer process.
    fn heed(&self, status: &Status, epoch: u64) {
        if epoch == self.node_epoch.load(Ordering::Relaxed)
            && let Some(reason) = fenced_by(status)
        {
            self.fenced.send_replace(Some(reason));
        }
    }

    async fn keep_connected(&self, report: &dyn Report) {
        let mut pause = RETRY.0;
        for endpoint in self.endpoints.iter().cycle() {
            let before = self.clock.monotonic();
            let ended = self.serve(endpoint, report).await;
            self.disconnected();
            if self.fenced.borrow().is_some() {
                return;
            }
            tracing::warn!(control = %endpoint.uri(), reason = %ended, "the control link is down; recording goes on");
            // A link that held for a while starts over with short pauses; one that flaps does not.
            let held = self.clock.monotonic().saturating_sub(before);
            pause = if held > RETRY.1 { RETRY.0 } else { (pause * 2).min(RETRY.1) };
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        }
    }

    fn disconnected(&self) {
        self.connected.store(false, Ordering::Relaxed);
        self.client.send_replace(None);
        self.directives.interrupted();
    }

    async fn connect(&self, endpoint: &Endpoint) -> anyhow::Result<Client> {
        let bearer = self.credentials.bearer()?;
        let endpoint = self.credentials.identity.secured(endpoint.clone())?;
        Ok(NodeLinkServiceClient::with_interceptor((self.dial)(endpoint).await?, bearer))
    }

    /// One connection, from dial to its end; returns why it ended.
    async fn serve(&self, endpoint: &Endpoint, report: &dyn Report) -> Status {
        let client = match self.connect(endpoint).await {
            Ok(client) => client,
            Err(error) => return Status::unavailable(format!("{error:#}")),
        };
        let mut registration = report.registration();
        registration.node_time = Some(recorder_proto::time::timestamp(self.clock.now()));
        let mut registering = client.clone();
        let registered = match self.in_time("register", registering.register(registration.clone())).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => {
                self.heed(&status, self.node_epoch.load(Ordering::Relaxed));
                return status;
            }
        };
        for entry in registered.spool.iter().filter(|entry| entry.verdict() == Verdict::ShipAsOrphan) {
            report.taken_over(&entry.recording, entry.epoch);
        }
        let epoch = registered.node_epoch;
        self.node_epoch.store(epoch, Ordering::Relaxed);
        self.skew.store(skew(registered.clock_skew.as_ref()), Ordering::Relaxed);
        self.connected.store(true, Ordering::Relaxed);
        self.client.send_replace(Some(client.clone()));
        tracing::info!(control = %endpoint.uri(), node_epoch = epoch, "registered at the control plane");
        let lease =
            registered.lease.as_ref().and_then(recorder_proto::time::std_duration).unwrap_or(Duration::from_secs(15));
        let ended = tokio::select! {
            status = self.follow_directives(client.clone(), &registration.node, epoch, lease, report) => status,
            status = self.deliver_facts(client, epoch, report) => status,
        };
        self.heed(&ended, epoch);
        ended
    }

    async fn follow_directives(
        &self,
        mut client: Client,
        node: &str,
        epoch: u64,
        lease: Duration,
        report: &dyn Report,
    ) -> Status {
        let (say, outbox) = mpsc::channel(16);
        let hello = Hello { node: node.to_owned(), node_epoch: epoch, applied_version: self.directives.version() };
        let _ = say.send(request(Say::Hello(hello))).await;
        let mut inbox = match client.stream_directives(ReceiverStream::new(outbox)).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return status,
        };
        let mut beat = tokio::time::interval(lease / 3);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_beat = self.clock.monotonic();
        loop {
            let reply = tokio::select! {
                heard = inbox.message() => match heard {
                    Ok(Some(response)) => self.hear(response, report).await,
                    Ok(None) => return Status::unavailable("the control plane closed the directive stream"),
                    Err(status) => return status,
                },
                _ = beat.tick() => {
                    let stood_still = self.clock.monotonic().saturating_sub(last_beat) > lease;
                    last_beat = self.clock.monotonic();
                    if stood_still {
                        // Others may have taken over what this process still holds: registering again tells.
                        return Status::unavailable("this process stood still for longer than its lease");
                    }
                    let mut heartbeat = report.heartbeat();
                    heartbeat.node_time = Some(recorder_proto::time::timestamp(self.clock.now()));
                    Ok(Some(Say::Heartbeat(heartbeat)))
                }
            };
            match reply {
                Ok(None) => {}
                Ok(Some(message)) => {
                    if say.send(request(message)).await.is_err() {
                        return Status::unavailable("the directive stream is gone");
                    }
                }
                Err(status) => return status,
            }
        }
    }

    async fn hear(&self, response: StreamDirectivesResponse, report: &dyn Report) -> Result<Option<Say>, Status> {
        let (version, nonce) = (response.version, response.nonce);
        let mut store = false;
        let applied = match response.message {
            Some(Heard::Snapshot(snapshot)) => {
                store = snapshot.last;
                self.directives.snapshot(version, snapshot.directives, snapshot.last)
            }
            Some(Heard::Delta(delta)) => {
                store = true;
                self.directives.delta(version, delta.upserts, &delta.removed)
            }
            Some(Heard::Bookmark(_)) => {
                self.directives.bookmark(version);
                Applied::default()
            }
            Some(Heard::Fenced(fenced)) => {
                let reason = format!("{} (current epoch {})", fenced.reason, fenced.current_epoch);
                self.fenced.send_replace(Some(reason.clone()));
                return Err(Status::failed_precondition(reason));
            }
            Some(Heard::Drain(order)) => {
                report.drain(&order);
                Applied::default()
            }
            None => Applied::default(),
        };
        if !applied.tasks.is_empty() {
            report.tasks_changed(&applied.tasks);
        }
        for control in applied.controls {
            // Bounded: a command waits for the registry, and with it the acknowledgement.
            let _ = self.controls.send(control).await;
        }
        if store {
            self.directives.store().await;
        }
        if nonce.is_empty() {
            return Ok(None);
        }
        let applied_version = self.directives.version();
        Ok(Some(if applied.rejections.is_empty() {
            Say::Ack(Ack { nonce, applied_version })
        } else {
            Say::Nack(Nack { nonce, applied_version, rejections: applied.rejections })
        }))
    }

    /// Sends every fact in order, batch by batch; a recording that starts is claimed before its facts go.
    async fn deliver_facts(&self, mut client: Client, epoch: u64, report: &dyn Report) -> Status {
        let (send, outbox) = mpsc::channel(1);
        let mut appended = self.facts.appended();
        let mut replies = match client.report_facts(ReceiverStream::new(outbox)).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return status,
        };
        loop {
            appended.mark_unchanged();
            let batch = self.facts.after(self.facts.acknowledged(), FACT_BATCH);
            let Some(last) = batch.last().map(|fact| fact.sequence) else {
                tokio::select! {
                    changed = appended.changed() => if changed.is_err() { return Status::cancelled("no more facts") },
                    heard = replies.message() => return closed(heard.map(drop)),
                }
                continue;
            };
            for claim in batch.iter().filter_map(claims::of_fact) {
                if let Err(status) = self.claim(&mut client, claim, epoch).await {
                    return status;
                }
            }
            let about: Vec<_> = batch.iter().map(|fact| (fact.sequence, fact.recording.clone(), fact.epoch)).collect();
            if send.send(ReportFactsRequest { node_epoch: epoch, facts: batch }).await.is_err() {
                return Status::unavailable("the fact stream is gone");
            }
            while self.facts.acknowledged() < last {
                let reply = match replies.message().await {
                    Ok(Some(reply)) => reply,
                    other => return closed(other.map(drop)),
                };
                reply.refusals.iter().for_each(|refusal| self.facts.refuse(refusal.sequence));
                heed_refusals(&reply, &about, report);
                self.facts.acknowledge(reply.durable_sequence);
            }
        }
    }

    async fn claim(&self, client: &mut Client, mut claim: ClaimRecordingRequest, epoch: u64) -> Result<(), Status> {
        claim.node_epoch = epoch;
        match self.in_time("claim_recording", client.claim_recording(claim)).await {
            Ok(_) => Ok(()),
            Err(status) if is_transient(&status) || fenced_by(&status).is_some() => Err(status),
            Err(status) => {
                // The fact itself creates the recording; a refused claim must not hold back every later fact.
                tracing::warn!(%status, "a claim was refused");
                Ok(())
            }
        }
    }
}

/// A fact refused because of its recording's epoch says that another node speaks for that recording now.
fn heed_refusals(reply: &ReportFactsResponse, about: &[(u64, String, u64)], report: &dyn Report) {
    for refusal in &reply.refusals {
        let error = refusal.error.clone().unwrap_or_default();
        tracing::warn!(sequence = refusal.sequence, message = error.message, "the control plane refused a fact");
        let is_fenced = recorder_proto::Problem::from(&error).reason == "EPOCH_FENCED";
        let fact = about.iter().find(|(sequence, ..)| *sequence == refusal.sequence).filter(|_| is_fenced);
        if let Some((_, recording, epoch)) = fact {
            report.taken_over(recording, *epoch);
        }
    }
}

/// Microseconds; a difference of more than a day is no skew of a clock that works, and tasks had better go by ours.
fn skew(wire: Option<&prost_types::Duration>) -> i64 {
    const DAY: i64 = 86_400;
    let told = wire.filter(|told| told.seconds.abs() < DAY);
    told.map_or(0, |told| told.seconds * 1_000_000 + i64::from(told.nanos / 1_000))
}

fn request(message: Say) -> StreamDirectivesRequest {
    StreamDirectivesRequest { message: Some(message) }
}

fn closed(result: Result<(), Status>) -> Status {
    result.err().unwrap_or_else(|| Status::unavailable("the control plane closed the fact stream"))
}

#[cfg(test)]
mod tests;
