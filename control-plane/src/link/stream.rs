//! The directive stream of one node: what the session decides, carried over gRPC and into the database.
use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::{AnyConnection, node_acks, node_progress, nodes, recordings, streams};
use recorder_proto::names::{RecordingName, StreamName};
use recorder_proto::pb::node::directive::Directive as Kind;
use recorder_proto::pb::node::directive::control::Action;
use recorder_proto::pb::node::stream_directives_request::{Heartbeat, Hello, Message as Said};
use recorder_proto::pb::node::{Directive, StreamDirectivesRequest, StreamDirectivesResponse};
use recorder_proto::{Problem, time};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::drain::{self, Order};
use super::{Link, ResponseStream, Result, keys, node};
use crate::directives::changelog::{self, Effect};
use crate::directives::session::{Answer, Session, fenced};
use crate::domain::node::Fact;

/// Messages on their way to a node that reads slowly; more wait in the change log.
const QUEUE: usize = 16;

/// A stream without a Hello for so long is a mistake.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Deltas read from the log at a time.
const BATCH: usize = 16;

/// Opens the stream; it ends with the node's side, the drain, or a fence.
pub(super) fn open(
    link: Link,
    inbound: Streaming<StreamDirectivesRequest>,
) -> ResponseStream<StreamDirectivesResponse> {
    let (outbound, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(status) = run(link, inbound, &outbound).await {
            let _ = outbound.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

struct Conversation<'a> {
    link: Link,
    node: String,
    epoch: u64,
    session: Session,
    /// When each unanswered message was sent, by nonce.
    asked: BTreeMap<String, Duration>,
    /// The drain, or its end, that the node was told of on this stream.
    ordered: Order,
    outbound: &'a mpsc::Sender<Result<StreamDirectivesResponse, Status>>,
    last_sent: Instant,
}

/// What comes next for a node.
enum Next {
    /// Deltas, oldest first; empty = nothing new.
    Deltas(Vec<Effect>),
    Snapshot(Effect),
}

/// Whether the stream goes on.
#[derive(PartialEq)]
enum Flow {
    On,
    Over,
}

async fn run(
    link: Link,
    mut inbound: Streaming<StreamDirectivesRequest>,
    outbound: &mpsc::Sender<Result<StreamDirectivesResponse, Status>>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await;
    let hello = match first.map_err(|_| Status::deadline_exceeded("no hello came"))?? {
        Some(StreamDirectivesRequest { message: Some(Said::Hello(hello)) }) => hello,
        Some(_) => return Err(Problem::invalid_field("message", "the first message must be hello").into()),
        None => return Ok(()),
    };
    let node = node::id(&hello.node)?;
    link.vouch(&node)?;
    let (mut heads, mut epochs) = (link.pulse.subscribe(), link.epochs.subscribe());
    let (drain, silence) = (link.drain.clone(), link.lease / 3);
    let mut conversation = Conversation {
        node,
        epoch: hello.node_epoch,
        session: Session::new(hello.applied_version),
        asked: BTreeMap::new(),
        ordered: Order::None,
        outbound,
        last_sent: Instant::now(),
        link,
    };
    if conversation.begin(&hello).await? == Flow::Over {
        return Ok(());
    }
    tracing::info!(node = conversation.node, epoch = conversation.epoch, "directive stream open");
    loop {
        heads.mark_unchanged();
        epochs.mark_unchanged();
        if conversation.pump().await? == Flow::Over {
            return Ok(());
        }
        tokio::select! {
            () = drain.draining() => return Err(Problem::shutting_down(Duration::from_secs(1)).into()),
            said = inbound.message() => match said? {
                Some(request) => if conversation.hear(request).await? == Flow::Over { return Ok(()) },
                None => return Ok(()),
            },
            // Their senders live in `link`: neither ends before the stream does.
            _ = heads.changed(), if conversation.session.is_open() => {}
            _ = epochs.changed() => {}
            () = tokio::time::sleep_until(conversation.last_sent + silence) => {
                let bookmark = conversation.session.bookmark();
                if conversation.send(bookmark).await == Flow::Over { return Ok(()) }
            }
        }
    }
}

impl Conversation<'_> {
    /// Deltas if the node can go on from what it has, else everything.
    async fn begin(&mut self, hello: &Hello) -> Result<Flow, Status> {
        let (node, epoch, applied) = (self.node.clone(), hello.node_epoch, hello.applied_version);
        let now = self.link.clock.now();
        let began = self.link.db.write(move |db| begin(db, &node, epoch, applied, now)).await;
        match self.or_fenced(began).await? {
            Some(Next::Snapshot(effect)) => self.tell_everything(effect).await,
            // Deltas are read by the first pump.
            Some(Next::Deltas(_)) => Ok(Flow::On),
            None => Ok(Flow::Over),
        }
    }

    /// Sends what has changed, as long as the node keeps up.
    async fn pump(&mut self) -> Result<Flow, Status> {
        while self.session.is_open() {
            let (node, epoch, sent) = (self.node.clone(), self.epoch, self.session.sent());
            let next = self.link.db.read(move |db| next(db, &node, epoch, sent)).await;
            let Some((next, order)) = self.or_fenced(next).await? else { return Ok(Flow::Over) };
            if self.order(order).await == Flow::Over {
                return Ok(Flow::Over);
            }
            let effects = match next {
                Next::Snapshot(effect) => {
                    if self.tell_everything(effect).await? == Flow::Over {
                        return Ok(Flow::Over);
                    }
                    continue;
                }
                Next::Deltas(effects) if effects.is_empty() => return Ok(Flow::On),
                Next::Deltas(effects) => effects,
            };
            for effect in effects {
                let effect = keys::opened(&self.link.sealer, effect);
                for message in self.session.delta(&effect) {
                    if self.send(message).await == Flow::Over {
                        return Ok(Flow::Over);
                    }
                }
            }
        }
        Ok(Flow::On)
    }

    /// Tells the node to drain, or that it need not any more; once per stream.
    async fn order(&mut self, order: Order) -> Flow {
        if order == self.ordered {
            return Flow::On;
        }
        self.ordered = order;
        match order.message(self.link.clock.now()) {
            Some(message) => self.send(message).await,
            None => Flow::On,
        }
    }

    async fn tell_everything(&mut self, effect: Effect) -> Result<Flow, Status> {
        let effect = keys::opened(&self.link.sealer, effect);
        for message in self.session.snapshot(&effect) {
            if self.send(message).await == Flow::Over {
                return Ok(Flow::Over);
            }
        }
        Ok(Flow::On)
    }

    async fn hear(&mut self, request: StreamDirectivesRequest) -> Result<Flow, Status> {
        let answer = match request.message {
            Some(Said::Heartbeat(heartbeat)) => return self.heartbeat(heartbeat).await,
            Some(Said::Ack(ack)) => {
                self.measure(&ack.nonce);
                self.session.answer(&ack.nonce, Vec::new())
            }
            Some(Said::Nack(nack)) => {
                self.measure(&nack.nonce);
                let rejections = nack.rejections.into_iter();
                let rejections = rejections.map(|one| (one.directive, one.error.unwrap_or_default())).collect();
                self.session.answer(&nack.nonce, rejections)
            }
            Some(Said::Hello(_)) => return Err(Problem::invalid_field("message", "hello comes once").into()),
            None => return Ok(Flow::On),
        };
        let Some(answer) = answer else {
            tracing::debug!(node = self.node, "an answer to nothing");
            return Ok(Flow::On);
        };
        for (directive, error) in &answer.rejected {
            tracing::warn!(node = self.node, directive, error = error.message, "directive rejected");
        }
        let (node, epoch, now) = (self.node.clone(), self.epoch, self.link.clock.now());
        let lease_until = self.link.lease_until(now);
        let noted = self.link.db.write(move |db| note(db, &node, epoch, &answer, lease_until, now)).await;
        Ok(self.or_fenced(noted).await?.map_or(Flow::Over, |()| Flow::On))
    }

    /// How long the node took to apply a message.
    fn measure(&mut self, nonce: &str) {
        if let Some(asked) = self.asked.remove(nonce) {
            let took = self.link.clock.monotonic().saturating_sub(asked);
            metrics::histogram!(recorder_runtime::metrics::DIRECTIVE_APPLY_SECONDS).record(took.as_secs_f64());
        }
    }

    async fn heartbeat(&mut self, heartbeat: Heartbeat) -> Result<Flow, Status> {
        let (node, epoch, now) = (self.node.clone(), self.epoch, self.link.clock.now());
        let lease_until = self.link.lease_until(now);
        let beat = self.link.db.write(move |db| beat(db, &node, epoch, &heartbeat, lease_until, now)).await;
        Ok(self.or_fenced(beat).await?.map_or(Flow::Over, |()| Flow::On))
    }

    /// A process that was replaced is told so, as the last message of the stream.
    async fn or_fenced<T>(&mut self, outcome: Result<T>) -> Result<Option<T>, Status> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(problem) if problem.reason == "EPOCH_FENCED" => {
                let current = problem.metadata.get("current_epoch").and_then(|text| text.parse().ok());
                tracing::warn!(node = self.node, epoch = self.epoch, "an older process of this node is fenced");
                self.send(fenced(current.unwrap_or_default())).await;
                Ok(None)
            }
            Err(problem) => Err(problem.into()),
        }
    }

    async fn send(&mut self, message: StreamDirectivesResponse) -> Flow {
        self.last_sent = Instant::now();
        if !message.nonce.is_empty() {
            // As bounded as the session's own list of unanswered messages.
            self.asked.insert(message.nonce.clone(), self.link.clock.monotonic());
        }
        if self.outbound.send(Ok(message)).await.is_ok() { Flow::On } else { Flow::Over }
    }
}

/// What a node would be told; for people.
pub(super) fn view(db: &mut AnyConnection, node: &str) -> Result<Effect> {
    let effect = changelog::snapshot(db)?;
    Ok(only_for(db, node, effect)?)
}

fn begin(db: &mut AnyConnection, node: &str, epoch: u64, applied: u64, now: DateTime<Utc>) -> Result<Next> {
    let mut row = node::current(db, node, epoch)?;
    // A node that never acknowledged anything here got its directives from another database; one that refused something
    // may be a newer release now and gets another chance.
    let resumes = applied > 0 && row.applied_version > 0 && node_acks::of_node(db, node)?.is_empty();
    let version = changelog::version(db)?;
    row.applied_version = i64::try_from(applied.min(version)).unwrap_or(i64::MAX);
    row.update_time = time::micros(now);
    nodes::update(db, &row)?;
    if resumes && changelog::since(db, applied)?.is_some() {
        return Ok(Next::Deltas(Vec::new()));
    }
    let everything = changelog::snapshot(db)?;
    Ok(Next::Snapshot(only_for(db, node, everything)?))
}

fn next(db: &mut AnyConnection, node: &str, epoch: u64, sent: u64) -> Result<(Next, Order)> {
    let order = Order::of(&node::current(db, node, epoch)?);
    let Some(effects) = changelog::since(db, sent)? else {
        let everything = changelog::snapshot(db)?;
        return Ok((Next::Snapshot(only_for(db, node, everything)?), order));
    };
    let effects = effects.into_iter().take(BATCH).map(|effect| only_for(db, node, effect));
    Ok((Next::Deltas(effects.collect::<recorder_db::Result<_>>()?), order))
}

/// Leaves out commands that are for other nodes.
fn only_for(db: &mut AnyConnection, node: &str, mut effect: Effect) -> recorder_db::Result<Effect> {
    let mut kept = Vec::with_capacity(effect.upserts.len());
    for directive in effect.upserts {
        if concerns(db, node, &directive)? {
            kept.push(directive);
        }
    }
    effect.upserts = kept;
    Ok(effect)
}

fn concerns(db: &mut AnyConnection, node: &str, directive: &Directive) -> recorder_db::Result<bool> {
    let Some(Kind::Control(control)) = &directive.directive else { return Ok(true) };
    if let Ok(session) = control.recording.parse::<StreamName>() {
        let live = streams::get(db, &session.0.to_string())?;
        return Ok(live.is_some_and(|row| row.node == node && row.end_time.is_none()));
    }
    let Ok(name) = control.recording.parse::<RecordingName>() else { return Ok(false) };
    // A cut was asked for where the recording was then; whoever has taken over meanwhile began new files anyway.
    let passed = |row: &recordings::Row| {
        control.action() == Action::Split && i64::try_from(control.epoch).is_ok_and(|epoch| epoch != row.epoch)
    };
    // Files of earlier epochs may wait on other nodes than the one that has the recording now.
    let is_asked = |row: &recordings::Row| row.node == node || control.action() == Action::RetryUploads;
    Ok(recordings::get(db, &name.0.to_string())?.is_some_and(|row| is_asked(&row) && !passed(&row)))
}

fn note(
    db: &mut AnyConnection,
    node: &str,
    epoch: u64,
    answer: &Answer,
    lease_until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut row = node::current(db, node, epoch)?;
    node::heard(db, &mut row, lease_until, now)?;
    let version = i64::try_from(answer.version).unwrap_or(i64::MAX);
    row.applied_version = version;
    nodes::update(db, &row)?;
    if answer.everything {
        node_acks::clear(db, node)?;
    } else {
        for directive in &answer.accepted {
            node_acks::delete(db, node, directive)?;
        }
    }
    for (directive, error) in &answer.rejected {
        let (directive, error) = (directive.clone(), error.encode_to_vec());
        node_acks::put(db, &node_acks::Row { node: node.to_owned(), directive, version, error })?;
    }
    Ok(())
}

fn beat(
    db: &mut AnyConnection,
    node: &str,
    epoch: u64,
    heartbeat: &Heartbeat,
    lease_until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut row = node::current(db, node, epoch)?;
    node::heard(db, &mut row, lease_until, now)?;
    let mut body = row.node()?;
    body.streams = heartbeat.streams;
    body.recordings = heartbeat.recordings;
    // JSON has no NaN, and nobody wants one on a dashboard.
    body.cpu_load = if heartbeat.cpu_load.is_finite() { heartbeat.cpu_load.max(0.0) } else { 0.0 };
    body.spool_bytes = heartbeat.spool_bytes;
    body.upload_lag = heartbeat.upload_lag;
    row.body = body.encode_to_vec();
    if let Some(progress) = &heartbeat.progress {
        let (node, body) = (node.to_owned(), progress.encode_to_vec());
        node_progress::put(db, &node_progress::Row { node, body, update_time: time::micros(now) })?;
    }
    if Order::of(&row).is_in_force() && drain::is_empty(db, node, heartbeat)? {
        node::apply(db, &mut row, &Fact::Emptied, now)?;
        row.lease_until = time::micros(lease_until);
    }
    Ok(nodes::update(db, &row)?)
}
