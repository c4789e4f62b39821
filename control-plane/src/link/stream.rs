//! The directive stream of one node: what the session decides, carried over gRPC and into the database.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::OptionFuture;
use prost::Message;
use recorder_db::{AnyConnection, node_acks, node_progress, nodes};
use recorder_proto::pb::node::StreamDirectivesRequest;
use recorder_proto::pb::node::stream_directives_request::{Heartbeat, Hello, Message as Said};
use recorder_proto::{Problem, time};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::board::{Next, Seen};
use super::drain::{self, Order};
use super::{Link, ResponseStream, Result, node};
use crate::directives::changelog;
use crate::directives::parcel::Outgoing;
use crate::directives::session::{Answer, Session, fenced};
use crate::domain::node::Fact;

/// Messages handed to the connection of a node that reads slowly; more wait as references to what all nodes share.
const QUEUE: usize = 4;

/// A stream without a Hello for so long is a mistake.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// A node that takes nothing for so long while something waits for it is stuck, and what waits may be large.
const STUCK: Duration = Duration::from_secs(30);

/// How long others wait for one node that is told everything.
const TURN: Duration = Duration::from_secs(3);

/// Deltas queued for a node at a time.
const BATCH: usize = 16;

/// Opens the stream; it ends with the node's side, the drain, or a fence.
pub(super) fn open(link: Link, inbound: Streaming<StreamDirectivesRequest>) -> ResponseStream<Outgoing> {
    let (outbound, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(status) = run(link, inbound, &outbound).await {
            // A node that reads nothing is not told either.
            let _ = tokio::time::timeout(STUCK, outbound.send(Err(status))).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

struct Conversation {
    link: Link,
    node: String,
    epoch: u64,
    session: Session,
    /// The node cannot go on from what it has.
    wants_everything: bool,
    /// Its turn to be told everything, and when that is over at the latest: a slow node must not keep others waiting.
    turn: Option<(OwnedSemaphorePermit, Instant)>,
    /// What the connection has no room for yet.
    pending: VecDeque<Outgoing>,
    /// When each unanswered message was sent, by nonce.
    asked: BTreeMap<String, Duration>,
    /// The drain, or its end, that the node was told of on this stream.
    ordered: Order,
    /// When something was last queued or taken.
    moved: Instant,
}

/// Whether the stream goes on.
#[derive(PartialEq)]
enum Flow {
    On,
    /// Once what is pending is sent.
    Over,
}

async fn run(
    link: Link,
    mut inbound: Streaming<StreamDirectivesRequest>,
    outbound: &mpsc::Sender<Result<Outgoing, Status>>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await;
    let hello = match first.map_err(|_| Status::deadline_exceeded("no hello came"))?? {
        Some(StreamDirectivesRequest { message: Some(Said::Hello(hello)) }) => hello,
        Some(_) => return Err(Problem::invalid_field("message", "the first message must be hello").into()),
        None => return Ok(()),
    };
    let node = node::id(&hello.node)?;
    link.vouch(&node)?;
    let (drain, silence) = (link.drain.clone(), link.lease / 3);
    link.board.follow(&link.pulse, &drain);
    let mut board = link.board.subscribe();
    let mut conversation = Conversation::new(link, node, &hello);
    let mut flow = conversation.begin(&hello).await?;
    if flow == Flow::On {
        tracing::info!(node = conversation.node, epoch = conversation.epoch, "directive stream open");
    }
    let mut waiting = OptionFuture::from(None);
    let mut is_waiting = false;
    while flow == Flow::On {
        let seen = Arc::clone(&board.borrow_and_update());
        flow = conversation.fill(&seen).await?;
        if flow == Flow::Over {
            break;
        }
        if conversation.wants_everything && conversation.turn.is_none() && !is_waiting {
            waiting = Some(Box::pin(conversation.link.board.turn())).into();
            is_waiting = true;
        }
        let turn_ends = conversation.turn.as_ref().map(|(_, ends)| *ends);
        flow = tokio::select! {
            turn = &mut waiting, if is_waiting => {
                is_waiting = false;
                conversation.turn = turn.flatten().map(|turn| (turn, Instant::now() + TURN));
                Flow::On
            }
            () = tokio::time::sleep_until(turn_ends.unwrap_or_else(Instant::now)), if turn_ends.is_some() => {
                conversation.turn = None;
                Flow::On
            }
            () = drain.draining() => return Err(Problem::shutting_down(Duration::from_secs(1)).into()),
            room = outbound.reserve(), if !conversation.pending.is_empty() => match room {
                Ok(room) => {
                    if let Some(message) = conversation.next() {
                        room.send(Ok(message));
                    }
                    Flow::On
                }
                Err(_) => return Ok(()),
            },
            said = inbound.message() => match said? {
                Some(request) => conversation.hear(request).await?,
                None => return Ok(()),
            },
            // Its sender lives in the conversation's link: it does not end before the stream does.
            _ = board.changed() => Flow::On,
            () = tokio::time::sleep_until(conversation.moved + silence), if conversation.pending.is_empty() => {
                conversation.pending.push_back(conversation.session.bookmark());
                conversation.moved = Instant::now();
                Flow::On
            }
            () = tokio::time::sleep_until(conversation.moved + STUCK), if !conversation.pending.is_empty() => {
                tracing::warn!(node = conversation.node, "the node does not read its directives");
                return Err(Status::unavailable("nothing was read for too long; connect again"));
            }
        };
    }
    while let Some(message) = conversation.next() {
        if outbound.send(Ok(message)).await.is_err() {
            break;
        }
    }
    Ok(())
}

impl Conversation {
    fn new(link: Link, node: String, hello: &Hello) -> Self {
        Self {
            node,
            epoch: hello.node_epoch,
            session: Session::new(hello.applied_version),
            wants_everything: false,
            turn: None,
            pending: VecDeque::new(),
            asked: BTreeMap::new(),
            ordered: Order::None,
            moved: Instant::now(),
            link,
        }
    }

    /// Deltas if the node can go on from what it has, else everything.
    async fn begin(&mut self, hello: &Hello) -> Result<Flow, Status> {
        let (node, epoch, applied) = (self.node.clone(), hello.node_epoch, hello.applied_version);
        let now = self.link.clock.now();
        let began = self.link.notary.write(move |db| begin(db, &node, epoch, applied, now)).await;
        let Some(resumes) = self.or_fenced(began)? else { return Ok(Flow::Over) };
        self.wants_everything = !resumes;
        // What this node has just become must be seen before anything is concluded from what is seen.
        self.link.board.refresh().await?;
        Ok(Flow::On)
    }

    /// Queues what there is to tell, as long as the node keeps up.
    async fn fill(&mut self, seen: &Seen) -> Result<Flow, Status> {
        let was_empty = self.pending.is_empty();
        let flow = self.queue(seen).await?;
        if was_empty && !self.pending.is_empty() {
            self.moved = Instant::now();
        }
        Ok(flow)
    }

    async fn queue(&mut self, seen: &Seen) -> Result<Flow, Status> {
        let Some((epoch, order)) = seen.node(&self.node) else {
            return Err(Problem::not_found("node", &format!("nodes/{}", self.node)).into());
        };
        if epoch > self.epoch {
            return Ok(self.fence(Some(epoch)));
        }
        if !self.pending.is_empty() {
            return Ok(Flow::On);
        }
        if !self.wants_everything && std::mem::replace(&mut self.ordered, order) != order {
            self.pending.extend(order.message(self.link.clock.now()).map(Outgoing::Own));
        }
        if self.session.is_open() && !self.wants_everything {
            match seen.after(self.session.sent(), BATCH) {
                Next::Deltas(parcels) => {
                    for parcel in parcels {
                        self.pending.extend(self.session.delta(&parcel, &self.node));
                    }
                }
                // What was read further back is seen in the next round; it may be too much.
                Next::Missed => self.wants_everything = !self.link.board.reach(self.session.sent()).await?,
            }
        }
        if self.session.is_open() && self.wants_everything && self.turn.is_some() {
            let parcel = self.link.board.everything().await?;
            self.pending.extend(self.session.snapshot(&parcel, &self.node));
            self.wants_everything = false;
        }
        Ok(Flow::On)
    }

    /// The next message that the connection can take.
    fn next(&mut self) -> Option<Outgoing> {
        let message = self.pending.pop_front()?;
        if self.pending.is_empty() {
            self.turn = None;
        }
        self.moved = Instant::now();
        if !message.nonce().is_empty() {
            // As bounded as the session's own list of unanswered messages.
            self.asked.insert(message.nonce().to_owned(), self.link.clock.monotonic());
        }
        Some(message)
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
        let noted = self.link.notary.write(move |db| note(db, &node, epoch, &answer, lease_until, now)).await;
        Ok(self.or_fenced(noted)?.map_or(Flow::Over, |()| Flow::On))
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
        let beat = self.link.notary.write(move |db| beat(db, &node, epoch, &heartbeat, lease_until, now)).await;
        Ok(self.or_fenced(beat)?.map_or(Flow::Over, |()| Flow::On))
    }

    /// A process that was replaced is told so, as the last message of the stream.
    fn or_fenced<T>(&mut self, outcome: Result<T>) -> Result<Option<T>, Status> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(problem) if problem.reason == "EPOCH_FENCED" => {
                let current = problem.metadata.get("current_epoch").and_then(|text| text.parse().ok());
                self.fence(current);
                Ok(None)
            }
            Err(problem) => Err(problem.into()),
        }
    }

    fn fence(&mut self, current: Option<u64>) -> Flow {
        tracing::warn!(node = self.node, epoch = self.epoch, "an older process of this node is fenced");
        // What it is told no more cannot take effect: only the last part of everything does.
        self.pending.clear();
        self.pending.push_back(fenced(current.unwrap_or_default()));
        Flow::Over
    }
}

/// Whether the node can go on from what it has.
fn begin(db: &mut AnyConnection, node: &str, epoch: u64, applied: u64, now: DateTime<Utc>) -> Result<bool> {
    let mut row = node::current(db, node, epoch)?;
    // A node that never acknowledged anything here got its directives from another database; one that refused something
    // may be a newer release now and gets another chance.
    let known = applied > 0 && row.applied_version > 0 && node_acks::of_node(db, node)?.is_empty();
    let version = changelog::version(db)?;
    row.applied_version = i64::try_from(applied.min(version)).unwrap_or(i64::MAX);
    row.update_time = time::micros(now);
    nodes::update(db, &row)?;
    Ok(known && applied <= version)
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
        // Few are ever refused, and many can be accepted at once.
        for refused in node_acks::of_node(db, node)? {
            if answer.accepted.contains(&refused.directive) {
                node_acks::delete(db, node, &refused.directive)?;
            }
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
