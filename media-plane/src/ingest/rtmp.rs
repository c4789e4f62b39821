//! One RTMP connection: socket bytes to the session, its events to the publication, its answers back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::rtmp::{Limits, PublishRequest, READ_BUFFER_BYTES, Refusal, Session, SessionEvent};
use bytes::BytesMut;
use media::TrackKind;
use media::ingest::EndCause;
use recorder_proto::ids::SessionId;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::protocol;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::auth::{self, Credentials};
use super::publishing::{Order, Publishing};
use crate::node::Node;
use crate::publication::Publisher;
use crate::registry::Command;

/// Pause after a read that emptied the socket while media flows. A recorder gains nothing from seeing each packet the
/// moment it arrives, and reading a burst at once saves most of the system calls and wake-ups of a real-time stream.
/// A read that filled the buffer is followed by the next one at once, so that nothing is ever slowed down.
const READ_PACE: Duration = Duration::from_millis(40);
/// While media comes faster than real time, answers wait until it has come at its own pace for this long.
///
/// An encoder that is done closes its socket while its last frames are still on their way. Anything that reaches it then
/// (there is nothing to say but acknowledgements) makes its system reset the connection and throw those frames away.
const CALM: Duration = Duration::from_secs(1);
/// A peer that does not read its answers for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that does not take the end of a TLS session by then does not get it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an encoder that was asked to connect anew may go on here meanwhile.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// What a publisher that went on at another node has left in its socket is there at once, and not more than this, bytes.
const AT_ONCE: Duration = Duration::from_millis(5);
const MOST_LEFT_BEHIND: usize = 16 << 20;
/// How long a key frame is waited for at which to close a publisher.
const KEY_FRAME_PATIENCE: Duration = Duration::from_secs(5);

/// Read buffer before `publish` was accepted, in bytes: enough for a handshake packet or a `connect`. Thousands of idle
/// connections are cheap that way.
const READ_BEFORE_PUBLISH: usize = 2 * 1024;
/// Answers that wait for a calm moment, in bytes. A peer that causes more reads them now or is gone: under a flood of
/// pings or commands no moment is calm.
const MAX_PENDING: usize = 16 * 1024;

struct Connection<S> {
    node: Arc<Node>,
    remote: SocketAddr,
    socket: S,
    session: Session,
    input: BytesMut,
    /// Since when every read took everything there was; `None` = the last one did not.
    calm_since: Option<Duration>,
    /// How long this connection was not read because the disk could not take more. Not the publisher's silence: the
    /// session's clock stands still meanwhile.
    held_back: Duration,
    /// Answers not yet sent.
    pending: BytesMut,
    /// The peer no longer takes what is written, but what it sent may still wait to be read.
    deaf: bool,
    publishing: Option<Publishing>,
    /// The publisher is to go elsewhere.
    moving: Option<Moving>,
}

/// A publisher that is sent away.
struct Moving {
    /// What it is told.
    reason: String,
    /// From this moment on it is closed at the next key frame.
    cut_from: Duration,
    /// From this moment on it is closed.
    close_at: Duration,
}

enum Wake {
    Read(std::io::Result<usize>),
    Command(Command),
    Deadline,
}

/// Serves one connection until it ends. Never fails: whatever happens is the end of this connection only.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(node: Arc<Node>, socket: S, remote: SocketAddr) {
    let limits = Limits { idle_timeout: node.settings.rtmp.idle_timeout, ..Limits::default() };
    let session = Session::new(limits, rand::random(), node.clock.monotonic());
    let (input, pending) = (BytesMut::new(), BytesMut::new());
    let mut connection = Connection {
        node,
        remote,
        socket,
        session,
        input,
        calm_since: None,
        held_back: Duration::ZERO,
        pending,
        deaf: false,
        publishing: None,
        moving: None,
    };
    let cause = connection.run().await;
    connection.end(cause).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self) -> EndCause {
        loop {
            if let Some(cause) = self.advance().await {
                return cause;
            }
            let publishing = self.publishing.as_mut();
            if let Some(reason) = publishing.and_then(|publishing| publishing.publication.take_failure()) {
                return EndCause::Disconnected(reason);
            }
            match self.wake().await {
                Wake::Read(Ok(0)) => return EndCause::ConnectionLost,
                Wake::Read(Ok(_)) => {}
                Wake::Read(Err(_)) => return EndCause::ConnectionLost,
                Wake::Command(command) => {
                    if matches!(command, Command::Orphan { .. }) {
                        self.take_what_came().await;
                    }
                    if let Some(cause) = self.obey(command) {
                        return cause;
                    }
                }
                Wake::Deadline => {
                    if let Some(publishing) = &mut self.publishing {
                        publishing.publication.tick(self.node.clock.monotonic());
                    }
                    let now = self.node.clock.monotonic();
                    if let Some(moving) = self.moving.take_if(|moving| now >= moving.close_at) {
                        return EndCause::Disconnected(moving.reason);
                    }
                    if let Err(error) = self.session.handle_timeout(self.session_now()) {
                        let publishing = self.publishing.is_some();
                        tracing::debug!(remote = %self.remote, %error, "RTMP deadline");
                        return if publishing { EndCause::IdleTimeout } else { EndCause::ConnectionLost };
                    }
                }
            }
        }
    }

    /// Records what waits in the socket of a publisher that has gone on elsewhere: it was sent before it went, and after
    /// a pause of this process it is all that is left of that time.
    async fn take_what_came(&mut self) {
        let mut most = MOST_LEFT_BEHIND;
        while most > 0 && self.publishing.is_some() {
            self.input.reserve(READ_BUFFER_BYTES);
            let read = tokio::time::timeout(AT_ONCE, self.socket.read_buf(&mut self.input)).await;
            let Ok(Ok(bytes @ 1..)) = read else { return };
            most = most.saturating_sub(bytes);
            if self.advance().await.is_some() {
                return;
            }
        }
    }

    /// Does what others ask. `Some` = the connection is over.
    fn obey(&mut self, command: Command) -> Option<EndCause> {
        match self.publishing.as_mut()?.obey(command) {
            Order::Done => None,
            Order::HandOver(to) => {
                if let Some(publishing) = self.publishing.take() {
                    publishing.hand_over(&self.node, to);
                }
                Some(EndCause::Replaced)
            }
            Order::End(cause) => Some(cause),
            Order::Move(reason) => {
                self.send_away(reason);
                None
            }
        }
    }

    /// Asks the encoder to connect anew. One that can, gets the time to do so; another one is closed at a key frame, so
    /// that what it sends next elsewhere is the start of a group of pictures.
    fn send_away(&mut self, reason: String) {
        let now = self.node.clock.monotonic();
        let patience = if self.session.request_reconnect(None, &reason) { RECONNECT_PATIENCE } else { Duration::ZERO };
        self.calm_since = Some(Duration::ZERO);
        let cut_from = now.saturating_add(patience);
        self.moving = Some(Moving { reason, cut_from, close_at: cut_from.saturating_add(KEY_FRAME_PATIENCE) });
    }

    /// Whether a publisher that is sent away has come to where it is cut.
    fn is_cut_before(&self, event: &media::ingest::Event, now: Duration) -> bool {
        let is_key = |frame: &media::ingest::RawFrame| frame.track == TrackKind::Video && frame.keyframe;
        self.moving.as_ref().is_some_and(|moving| now >= moving.cut_from)
            && matches!(event, media::ingest::Event::Frame(frame) if is_key(frame))
    }

    /// Feeds buffered input and acts on every event until more input is needed. `Some` = the connection is over.
    async fn advance(&mut self) -> Option<EndCause> {
        loop {
            let now = self.node.clock.monotonic();
            let session_now = self.session_now();
            let outcome = self.session.handle(&mut self.input, session_now);
            let mut progress = false;
            while let Some(event) = self.session.poll_event() {
                progress = true;
                match event {
                    SessionEvent::Publish(request) => self.publish(&request).await,
                    SessionEvent::Media(event) => {
                        if self.is_cut_before(&event, now)
                            && let Some(moving) = self.moving.take()
                        {
                            return Some(EndCause::Disconnected(moving.reason));
                        }
                        if let Some(publishing) = &mut self.publishing {
                            publishing.publication.ingest(event, now);
                        }
                    }
                    SessionEvent::Ended(cause) => self.unpublish(&cause),
                }
            }
            if !self.flush().await {
                return Some(EndCause::ConnectionLost);
            }
            if let Err(error) = outcome {
                tracing::info!(remote = %self.remote, %error, "RTMP peer broke the protocol");
                return Some(EndCause::ProtocolError(error.to_string()));
            }
            if self.session.is_closed() {
                return Some(EndCause::ConnectionLost);
            }
            if !progress {
                return None;
            }
        }
    }

    /// Sends what the session has to say, or keeps it for a calmer moment. False when the peer has not read for so long
    /// that it is gone.
    async fn flush(&mut self) -> bool {
        self.pending.extend_from_slice(&self.session.take_output());
        if self.pending.is_empty() || self.deaf {
            self.pending.clear();
            return true;
        }
        if self.flush_at().is_some_and(|at| self.node.clock.monotonic() < at) {
            return true;
        }
        let output = self.pending.split().freeze();
        let write = async {
            self.socket.write_all(&output).await?;
            self.socket.flush().await
        };
        let outcome: Result<std::io::Result<()>, _> = tokio::time::timeout(WRITE_TIMEOUT, write).await;
        self.deaf = !matches!(outcome, Ok(Ok(())));
        outcome.is_ok()
    }

    /// When pending answers may go; `None` = now.
    fn flush_at(&self) -> Option<Duration> {
        let calm_since = self.calm_since.unwrap_or_else(|| self.node.clock.monotonic());
        let may_wait = self.publishing.is_some() && !self.session.is_closed() && self.pending.len() < MAX_PENDING;
        may_wait.then(|| calm_since.saturating_add(CALM))
    }

    fn session_now(&self) -> Duration {
        self.node.clock.monotonic().saturating_sub(self.held_back)
    }

    /// Back-pressure: what the disk cannot take yet waits in the publisher's socket, not in memory.
    async fn hold_back(&mut self) -> Option<Wake> {
        let publishing = self.publishing.as_mut()?;
        let before = self.node.clock.monotonic();
        let wake = tokio::select! {
            biased;
            () = self.node.spool.writable() => None,
            command = publishing.mailbox.recv() => Some(Wake::Command(command)),
        };
        self.held_back += self.node.clock.monotonic().saturating_sub(before);
        wake
    }

    async fn wake(&mut self) -> Wake {
        if let Some(wake) = self.hold_back().await {
            return wake;
        }
        let now = self.node.clock.monotonic();
        let session_deadline = self.session.next_deadline().map(|at| at.saturating_add(self.held_back));
        let flush = self.flush_at().filter(|_| !self.pending.is_empty());
        let (media_flows, calm_since) = (self.publishing.is_some(), &mut self.calm_since);
        let tick = self.publishing.as_ref().and_then(|publishing| publishing.publication.next_tick());
        let close = self.moving.as_ref().map(|moving| moving.close_at);
        let is_full = self.publishing.as_ref().is_some_and(|publishing| publishing.publication.is_full());
        let deadline = [session_deadline, tick, flush, close].into_iter().flatten().min();
        let wait = deadline.map_or(Duration::MAX, |at| at.saturating_sub(now));
        let (socket, input) = (&mut self.socket, &mut self.input);
        let read = async {
            if is_full {
                // What comes waits in the socket until its recordings have begun.
                return std::future::pending().await;
            }
            if media_flows && calm_since.is_some() {
                tokio::time::sleep(READ_PACE).await;
            }
            input.reserve(if media_flows { READ_BUFFER_BYTES } else { READ_BEFORE_PUBLISH });
            let room = input.capacity() - input.len();
            let read = socket.read_buf(input).await;
            let took_everything = matches!(read, Ok(bytes) if bytes < room);
            *calm_since = took_everything.then(|| calm_since.unwrap_or(now));
            read
        };
        let command = async {
            match &mut self.publishing {
                Some(publishing) => publishing.mailbox.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = command => Wake::Command(command),
            read = read => Wake::Read(read),
            () = tokio::time::sleep(wait) => Wake::Deadline,
        }
    }

    /// Decides about a publish request: names, then authentication, then admission, then the registry.
    async fn publish(&mut self, request: &PublishRequest) {
        let stream = match StreamKey::new(&request.domain(), &request.app, &request.stream) {
            Ok(stream) => stream,
            Err(error) => return self.refuse(Refusal::BadName, &error.to_string(), "name"),
        };
        let policy = self.node.link.directives().domain(stream.domain());
        let credentials =
            Credentials { secret: request.param("txSecret"), time: request.param("txTime"), key: request.param("key") };
        let now = self.node.clock.now();
        let allowed =
            auth::check(policy.as_ref(), stream.domain(), protocol::Kind::Rtmp, stream.stream(), credentials, now);
        if let Err(denied) = allowed {
            return self.refuse(Refusal::Denied, &denied.to_string(), "auth");
        }
        if let Err(reason) = self.node.admits() {
            return self.refuse(Refusal::Failed, reason, "admission");
        }
        // One connection, one publication: a second publish on it ends the first.
        self.unpublish(&EndCause::Unpublished);
        let session = SessionId::new(now, rand::random());
        let publisher = Publisher {
            session,
            stream,
            protocol: protocol::Kind::Rtmp,
            remote: self.remote.to_string(),
            encoder: request.encoder.clone().unwrap_or_default(),
            since: now,
        };
        match Publishing::admit(&self.node, publisher).await {
            Ok(publishing) => self.publishing = Some(publishing),
            Err(reason) => return self.refuse(Refusal::Failed, reason, "admission"),
        }
        let now = self.session_now();
        self.session.accept(now);
        // The encoder sends nothing before it has heard of this.
        self.calm_since = Some(Duration::ZERO);
    }

    fn refuse(&mut self, refusal: Refusal, reason: &str, kind: &'static str) {
        tracing::info!(remote = %self.remote, reason, "publisher refused");
        metrics::counter!("recorder_publish_rejected_total", "protocol" => "rtmp", "reason" => kind).increment(1);
        self.session.reject(refusal, reason);
    }

    fn unpublish(&mut self, cause: &EndCause) {
        if let Some(publishing) = self.publishing.take() {
            publishing.leave(&self.node, cause, self.moving.is_some());
        }
    }

    /// The publication first: a peer that does not read may hold up the goodbye, but not the recording.
    async fn end(&mut self, cause: EndCause) {
        self.session.finish(&cause);
        self.unpublish(&cause);
        self.flush().await;
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.socket.shutdown()).await;
    }
}

/// Whatever ends the task, a panic included, ends the publication.
impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        if let Some(publishing) = self.publishing.take() {
            publishing.abandon(&self.node);
        }
    }
}
