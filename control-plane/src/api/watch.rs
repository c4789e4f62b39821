//! Watches: the current resources, then every change in commit order, resumable by token (api B.5).
//!
//! The events in the database are the buffer: a watch holds one batch of them, however slowly its client reads. A client
//! that falls too far behind is cut off with a token instead of being served the past for ever.
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use recorder_db::{AnyConnection, events};
use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_runtime::drain::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::Api;
use super::page::Tokens;
use crate::progress::{Round, Rounds};
use crate::pulse::{Heads, Pulse};

/// Messages handed to the connection in advance.
const QUEUE: usize = 16;

/// Events read at a time.
const BATCH: i64 = 256;

const MAC_BYTES: usize = 16;
const SEQUENCE_BYTES: usize = 8;

/// What watches need beside the [`Api`]. Clones share it.
#[derive(Clone, Debug)]
pub struct Watches {
    /// What every service needs.
    pub api: Api,
    /// Wakes the watches.
    pub pulse: Pulse,
    /// What has come on without an event.
    pub rounds: Rounds,
    /// Ends them.
    pub drain: Signal,
    /// Longest silence.
    pub bookmark_interval: Duration,
    /// Changes that a client may be behind before it is cut off.
    pub buffer: u64,
    /// Verifications that may still be begun.
    pub verifications: Arc<tokio::sync::Semaphore>,
    /// What URLs of the playback listener begin with, without a slash at the end.
    pub playback_url: Arc<str>,
}

/// A watch token belongs to one kind of watch with one filter.
#[derive(Debug, Clone)]
pub struct Scope(Arc<[u8]>);

impl Scope {
    /// `filter` is the request without what changes between calls.
    pub fn new(method: &str, filter: &impl prost::Message) -> Self {
        Self([method.as_bytes(), b"\0", &filter.encode_to_vec()].concat().into())
    }

    /// The token of everything up to this event.
    pub fn token(&self, tokens: &Tokens, sequence: u64) -> String {
        let sequence = sequence.to_be_bytes();
        let (server, scope) = self.macs(tokens, &sequence);
        let halves = server.iter().take(MAC_BYTES).chain(scope.iter().take(MAC_BYTES));
        URL_SAFE_NO_PAD.encode(sequence.iter().chain(halves).copied().collect::<Vec<u8>>())
    }

    /// The event that a token stands behind.
    ///
    /// # Errors
    /// A token of another filter is a mistake; one that this server did not make has expired, as far as it can tell.
    pub fn sequence(&self, tokens: &Tokens, token: &str) -> Result<u64, Problem> {
        const LENGTH: usize = SEQUENCE_BYTES + 2 * MAC_BYTES;
        let decoded = if token.len() <= 2 * LENGTH { URL_SAFE_NO_PAD.decode(token).ok() } else { None };
        let decoded: [u8; LENGTH] =
            decoded.and_then(|bytes| bytes.try_into().ok()).ok_or_else(Problem::token_expired)?;
        let (sequence, macs) = decoded.split_first_chunk::<SEQUENCE_BYTES>().ok_or_else(Problem::token_expired)?;
        let (server_mac, scope_mac) = macs.split_at_checked(MAC_BYTES).ok_or_else(Problem::token_expired)?;
        let (server, scope) = self.macs(tokens, sequence);
        let equal = |given: &[u8], expected: [u8; 32]| -> bool {
            expected.get(..MAC_BYTES).is_some_and(|expected| subtle::ConstantTimeEq::ct_eq(given, expected).into())
        };
        if !equal(server_mac, server) {
            return Err(Problem::token_expired());
        }
        if !equal(scope_mac, scope) {
            return Err(Problem::invalid_field("resume_token", "belongs to a watch with another filter"));
        }
        Ok(u64::from_be_bytes(*sequence))
    }

    fn macs(&self, tokens: &Tokens, sequence: &[u8; SEQUENCE_BYTES]) -> ([u8; 32], [u8; 32]) {
        (tokens.keyed_hash(&[b"watch", sequence]), tokens.keyed_hash(&[b"watch", sequence, &self.0]))
    }
}

/// Whether every event after this one is still kept.
///
/// # Errors
/// When some are not, or the database fails.
pub fn check_kept(db: &mut AnyConnection, sequence: u64) -> Result<(), Problem> {
    let last = u64::try_from(events::last(db)?).unwrap_or_default();
    let oldest = events::oldest(db)?.map(|oldest| u64::try_from(oldest).unwrap_or_default());
    let kept = sequence == last || (sequence < last && oldest.is_some_and(|oldest| oldest <= sequence + 1));
    if kept { Ok(()) } else { Err(Problem::token_expired()) }
}

/// One kind of watch: how events become messages.
pub trait Kind: Send + 'static {
    /// What the stream carries.
    type Message: Send + 'static;
    /// The message for an event; None when the filter leaves it out.
    fn change(&self, event: &events::Row, token: String) -> Option<Self::Message>;
    /// Whether it shows how far recordings are.
    const SHOWS_PROGRESS: bool = false;
    /// The message for a recording that has come on; None when the filter leaves it out.
    fn progress(&self, _recording: &v1::Recording, _token: String) -> Option<Self::Message> {
        None
    }
    /// What an event shows of a recording does not fall behind what was shown without one.
    fn lift(&self, _message: &mut Self::Message, _round: &Round) {}
    /// A message that carries a token only.
    fn bookmark(&self, token: String) -> Self::Message;
}

/// The client's side of a watch.
pub struct Outlet<M> {
    messages: mpsc::Sender<Result<M, Status>>,
    over: oneshot::Sender<Status>,
}

/// Why a watch ends.
enum End {
    /// The client is gone.
    Gone,
    /// The client is told.
    Because(Box<Problem>),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Because(Box::new(problem))
    }
}

/// A pipe to a client. The last word is kept apart, because the queue is full when it matters.
pub fn outlet<M: Send + 'static>() -> (Outlet<M>, impl Stream<Item = Result<M, Status>> + Send + 'static) {
    let (messages, queue) = mpsc::channel(QUEUE);
    let (over, last) = oneshot::channel::<Status>();
    let last = futures_util::stream::once(last).filter_map(|status| status.ok().map(Err));
    (Outlet { messages, over }, ReceiverStream::new(queue).chain(last))
}

/// The live part of one watch.
pub struct Follower<K: Kind> {
    watches: Watches,
    kind: K,
    scope: Scope,
    /// Up to where the client has been served.
    sequence: u64,
    /// The newest event that the client was shown.
    shown: u64,
    heads: watch::Receiver<Heads>,
    rounds: Option<watch::Receiver<Arc<Round>>>,
    outlet: Outlet<K::Message>,
    last_sent: Instant,
}

impl<K: Kind> Follower<K> {
    /// Follows everything after `sequence`.
    pub fn new(watches: Watches, kind: K, scope: Scope, sequence: u64, outlet: Outlet<K::Message>) -> Self {
        let heads = watches.pulse.subscribe();
        let rounds = K::SHOWS_PROGRESS.then(|| watches.rounds.subscribe());
        Self { watches, kind, scope, sequence, shown: sequence, heads, rounds, outlet, last_sent: Instant::now() }
    }

    /// Sends a message from before the live part; false when the client is gone.
    pub async fn current(&mut self, message: K::Message) -> bool {
        self.outlet.messages.send(Ok(message)).await.is_ok()
    }

    /// Ends the watch before its live part.
    pub fn fail(self, problem: Problem) {
        // A client that is gone needs no reason.
        let _ = self.outlet.over.send(problem.into());
    }

    /// Serves the client until it leaves, is too slow, or the server drains. Begins with a bookmark: from here on there
    /// is a token.
    pub async fn run(mut self) {
        let end = match self.bookmark().await {
            Ok(()) => self.follow().await,
            Err(end) => end,
        };
        if let End::Because(problem) = end {
            let _ = self.outlet.over.send((*problem).into());
        }
    }

    async fn follow(&mut self) -> End {
        let drain = self.watches.drain.clone();
        loop {
            self.heads.mark_unchanged();
            if let Err(end) = self.catch_up().await {
                return end;
            }
            tokio::select! {
                () = drain.draining() => return Problem::shutting_down(Duration::from_secs(1)).into(),
                () = self.outlet.messages.closed() => return End::Gone,
                // The senders live in `watches`.
                _ = self.heads.changed() => {}
                round = next_round(&mut self.rounds) => self.show_progress(&round),
                () = tokio::time::sleep_until(self.last_sent + self.watches.bookmark_interval) => {
                    if let Err(end) = self.bookmark().await {
                        return end;
                    }
                }
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), End> {
        loop {
            let sequence = self.sequence;
            let rows = self.watches.api.db.read(move |db| {
                check_kept(db, sequence)?;
                Ok::<_, Problem>(events::after(db, i64::try_from(sequence).unwrap_or(i64::MAX), BATCH)?)
            });
            let rows = match rows.await {
                Ok(rows) => rows,
                // The client keeps its watch through a hiccup of the database; the next bell or poll tries again.
                Err(problem) if problem.code == tonic::Code::Unavailable => return Ok(()),
                Err(problem) => return Err(problem.into()),
            };
            if rows.is_empty() {
                return Ok(());
            }
            for row in rows {
                let sequence = u64::try_from(row.seq).unwrap_or_default();
                let token = self.scope.token(&self.watches.api.tokens, sequence);
                if let Some(mut message) = self.kind.change(&row, token) {
                    if let Some(rounds) = &self.rounds {
                        self.kind.lift(&mut message, &rounds.borrow());
                    }
                    self.shown = sequence;
                    self.send(message).await?;
                }
                self.sequence = sequence;
            }
        }
    }

    /// Shows what fits in the queue, beginning with another recording each time: a client that is slow, or watches
    /// thousands, sees less of it. A round from before something that the client was shown would turn back the clock.
    fn show_progress(&mut self, round: &Round) {
        if self.shown > round.events {
            return;
        }
        let (count, token) = (round.recordings.len(), self.token());
        let begin = rand::random_range(0..count.max(1));
        let turned = round.recordings.values().cycle().skip(begin).take(count);
        for recording in turned {
            let Some(message) = self.kind.progress(recording, token.clone()) else { continue };
            if self.outlet.messages.try_send(Ok(message)).is_err() {
                return;
            }
        }
    }

    async fn bookmark(&mut self) -> Result<(), End> {
        let message = self.kind.bookmark(self.token());
        self.send(message).await
    }

    fn token(&self) -> String {
        self.scope.token(&self.watches.api.tokens, self.sequence)
    }

    /// Waits for the client, but not while the world moves on without it.
    async fn send(&mut self, message: K::Message) -> Result<(), End> {
        let drain = self.watches.drain.clone();
        loop {
            let behind = self.heads.borrow_and_update().events.saturating_sub(self.sequence);
            tokio::select! {
                biased;
                permit = self.outlet.messages.reserve() => {
                    permit.map_err(|_| End::Gone)?.send(Ok(message));
                    self.last_sent = Instant::now();
                    return Ok(());
                }
                () = drain.draining() => return Err(Problem::shutting_down(Duration::from_secs(1)).into()),
                () = std::future::ready(()), if behind > self.watches.buffer => {
                    return Err(Problem::watcher_too_slow(&self.token()).into());
                }
                _ = self.heads.changed() => {}
            }
        }
    }
}

async fn next_round(rounds: &mut Option<watch::Receiver<Arc<Round>>>) -> Arc<Round> {
    if let Some(rounds) = rounds
        && rounds.changed().await.is_ok()
    {
        return Arc::clone(&rounds.borrow_and_update());
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use recorder_proto::pb::v1::{StreamRef, WatchRecordingsRequest};

    use super::*;

    fn scope(domain: &str) -> Scope {
        let stream = StreamRef { domain: domain.to_owned(), ..StreamRef::default() };
        Scope::new("watch", &WatchRecordingsRequest { stream: Some(stream), ..WatchRecordingsRequest::default() })
    }

    #[test]
    fn a_token_goes_back_to_its_own_watch_only() {
        let (ours, theirs) = (Tokens::new([1; 32]), Tokens::new([2; 32]));
        let token = scope("a").token(&ours, 77);
        assert_eq!(scope("a").sequence(&ours, &token).unwrap(), 77);
        assert_eq!(scope("b").sequence(&ours, &token).unwrap_err().reason, "INVALID_FIELD");
        assert_eq!(scope("a").sequence(&theirs, &token).unwrap_err().reason, "RESUME_TOKEN_EXPIRED");
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_refused() {
        let tokens = Tokens::new([1; 32]);
        let token = URL_SAFE_NO_PAD.decode(scope("a").token(&tokens, 77)).unwrap();
        for bit in 0..token.len() * 8 {
            let mut changed = token.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(scope("a").sequence(&tokens, &URL_SAFE_NO_PAD.encode(changed)).is_err(), "bit {bit}");
        }
        for text in ["", "x", &"A".repeat(1000)] {
            assert_eq!(scope("a").sequence(&tokens, text).unwrap_err().reason, "RESUME_TOKEN_EXPIRED");
        }
    }
}
