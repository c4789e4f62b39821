//! One RTMP connection: socket bytes to the session, its events to the publication, its answers back.

mod admission;
mod reading;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::rtmp::{Limits, Session, SessionEvent};
use bytes::BytesMut;
use media::TrackKind;
use media::ingest::{EndCause, Event, RawFrame};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::calm::Calm;
use super::publishing::{Order, Publishing};
use crate::node::Node;
use crate::registry::Command;

/// A peer that does not read its answers for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that does not take the end of a TLS session by then does not get it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an encoder that was asked to connect anew may go on here meanwhile.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a key frame is waited for at which to close a publisher.
const KEY_FRAME_PATIENCE: Duration = Duration::from_secs(5);

/// Answers that wait for a calm moment, in bytes. A peer that causes more reads them now or is gone: under a flood of
/// pings or commands no moment is calm.
const MAX_PENDING: usize = 16 * 1024;

struct Connection<S> {
    node: Arc<Node>,
    remote: SocketAddr,
    socket: S,
    session: Session,
    input: BytesMut,
    /// Whether the last read took everything there was.
    took_everything: bool,
    /// Whether the publisher may be answered.
    calm: Calm,
    /// How long this connection was not read, because the disk could not take more or the process stood still. Not the
    /// publisher's silence: the session's clock stands still meanwhile.
    held_back: Duration,
    /// Answers not yet sent.
    pending: BytesMut,
    /// One of them does not wait for a calm moment.
    is_urgent: bool,
    /// The peer no longer takes what is written, but what it sent may still wait to be read.
    deaf: bool,
    publishing: Option<Publishing>,
    /// A command that waits until the publisher was heard out.
    asked: Option<Command>,
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
    let now = node.clock.monotonic();
    let session = Session::new(limits, rand::random(), now);
    let (input, pending) = (BytesMut::new(), BytesMut::new());
    let mut connection = Connection {
        node,
        remote,
        socket,
        session,
        input,
        took_everything: false,
        calm: Calm::new(now),
        held_back: Duration::ZERO,
        pending,
        is_urgent: false,
        deaf: false,
        publishing: None,
        asked: None,
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
                Wake::Read(Ok(_)) => self.calm.heard(self.node.clock.monotonic()),
                Wake::Read(Err(_)) => return EndCause::ConnectionLost,
                Wake::Command(command) => {
                    if let Some(cause) = self.asked(command).await {
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

    /// Does what others ask, when its time has come. `Some` = the connection is over.
    async fn asked(&mut self, command: Command) -> Option<EndCause> {
        let patience = reading::patience_before(&command);
        self.asked = Some(command);
        if let Some(patience) = patience
            && let Err(cause) = self.hear_out(patience).await
        {
            return Some(cause);
        }
        // A publisher that said goodbye meanwhile has taken it along.
        self.asked.take().and_then(|command| self.obey(command))
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
        let is_able = self.session.request_reconnect(None, &reason);
        let patience = if is_able { RECONNECT_PATIENCE } else { Duration::ZERO };
        self.is_urgent |= is_able;
        let cut_from = now.saturating_add(patience);
        self.moving = Some(Moving { reason, cut_from, close_at: cut_from.saturating_add(KEY_FRAME_PATIENCE) });
    }

    /// Whether a publisher that is sent away has come to where it is cut. What it had sent by then comes first.
    fn is_cut_before(&self, frame: &RawFrame, now: Duration) -> bool {
        let is_due = self.moving.as_ref().is_some_and(|moving| now >= moving.cut_from);
        is_due && frame.track == TrackKind::Video && frame.keyframe && !self.calm.is_behind()
    }

    /// Feeds buffered input, acts on every event and answers, until more input is needed. `Some` = the connection is over.
    async fn advance(&mut self) -> Option<EndCause> {
        loop {
            let progress = self.digest().await;
            if !self.flush().await {
                return Some(EndCause::ConnectionLost);
            }
            match progress {
                Ok(true) => {}
                Ok(false) => return None,
                Err(cause) => return Some(cause),
            }
        }
    }

    /// Feeds buffered input and acts on every event. False when nothing happened: more input is needed.
    ///
    /// # Errors
    /// The connection is over.
    async fn digest(&mut self) -> Result<bool, EndCause> {
        let now = self.node.clock.monotonic();
        let session_now = self.session_now();
        let outcome = self.session.handle(&mut self.input, session_now);
        let mut progress = false;
        while let Some(event) = self.session.poll_event() {
            progress = true;
            match event {
                SessionEvent::Publish(request) => self.publish(&request).await,
                SessionEvent::Media(event) => self.ingest(event, now)?,
                SessionEvent::Ended(cause) => self.unpublish(&cause),
            }
        }
        if let Err(error) = outcome {
            tracing::info!(remote = %self.remote, %error, "RTMP peer broke the protocol");
            return Err(EndCause::ProtocolError(error.to_string()));
        }
        if self.session.is_closed() { Err(EndCause::ConnectionLost) } else { Ok(progress) }
    }

    fn ingest(&mut self, event: Event, now: Duration) -> Result<(), EndCause> {
        if let Event::Frame(frame) = &event {
            self.calm.frame(frame.track, frame.time, now);
            if self.is_cut_before(frame, now)
                && let Some(moving) = self.moving.take()
            {
                return Err(EndCause::Disconnected(moving.reason));
            }
        }
        if let Some(publishing) = &mut self.publishing {
            publishing.publication.ingest(event, now);
        }
        Ok(())
    }

    /// Sends what the session has to say, or keeps it for a calmer moment. False when the peer has not read for so long
    /// that it is gone.
    async fn flush(&mut self) -> bool {
        self.pending.extend_from_slice(&self.session.take_output());
        if self.pending.is_empty() || self.deaf {
            self.pending.clear();
            return true;
        }
        let may_wait = self.publishing.is_some() && !self.session.is_closed() && !self.is_urgent;
        if may_wait && self.pending.len() < MAX_PENDING && !self.calm.may_answer(self.node.clock.monotonic()) {
            return true;
        }
        self.is_urgent = false;
        let output = self.pending.split().freeze();
        let write = async {
            self.socket.write_all(&output).await?;
            self.socket.flush().await
        };
        let outcome: Result<std::io::Result<()>, _> = tokio::time::timeout(WRITE_TIMEOUT, write).await;
        self.deaf = !matches!(outcome, Ok(Ok(())));
        outcome.is_ok()
    }

    fn session_now(&self) -> Duration {
        self.node.clock.monotonic().saturating_sub(self.held_back)
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
