//! One publisher's session: its connection, the packets that wait for it, and the moments at which it is given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::endpoint::{Datagram, Endpoint, now};
use crate::limits::{CONNECT_TIMEOUT, CONSENT_TIMEOUT, MAX_HELD_BYTES};
use crate::packet::{KeyFrameRequest, Packet, SenderReport};
use crate::peer::{Event, Peer};
use crate::sessions::Place;
use crate::table::Key;

/// Datagrams read before anything is sent: a burst costs one round, and the rest of the runtime gets its turn.
const BURST: usize = 64;

/// What a session has to say.
#[derive(Debug)]
pub enum SessionEvent {
    /// The handshake is over; the publisher may be let in.
    Connected,
    /// Media.
    Packet(Packet),
    /// How a stream's ticks relate to the sender's clock.
    Report(SenderReport),
    /// Nothing more will come.
    Ended(Cause),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The publisher deleted it.
    Deleted,
    /// The publisher ended the encrypted connection without deleting the session.
    Closed,
    /// No connection within [`CONNECT_TIMEOUT`].
    NeverConnected,
    /// Nothing came for [`CONSENT_TIMEOUT`]: the publisher has vanished.
    Vanished,
    /// The connection lives, but no media came for the idle timeout.
    Silent,
    /// It had not connected yet and had to make room.
    Displaced,
    /// It cannot go on.
    Failed(String),
}

/// What HTTP asks of a session.
#[derive(Debug)]
pub(crate) enum Command {
    /// End for this reason; answered when it is over.
    End(Cause, Option<oneshot::Sender<()>>),
    /// Start ICE anew.
    Restart {
        /// This end's credentials.
        ufrag: String,
        /// See above.
        password: String,
        /// The publisher's.
        remote_ufrag: String,
        /// See above.
        remote_password: String,
        /// Told when it is done.
        done: oneshot::Sender<()>,
    },
}

/// See the module. Dropping it ends the session.
pub struct Session {
    peer: Peer,
    key: Key,
    endpoint: Arc<Endpoint>,
    datagrams: mpsc::Receiver<Datagram>,
    commands: mpsc::Receiver<Command>,
    place: Place,
    idle_timeout: Duration,
    created: Instant,
    media_at: Instant,
    held: VecDeque<SessionEvent>,
    held_bytes: usize,
    lost: u64,
    ended: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.place.id()).field("peer", &self.peer).finish_non_exhaustive()
    }
}

enum Wake {
    Datagram(Option<Datagram>),
    Command(Option<Command>),
    Deadline,
}

impl Session {
    pub(crate) fn new(
        peer: Peer,
        (key, datagrams): (Key, mpsc::Receiver<Datagram>),
        endpoint: Arc<Endpoint>,
        commands: mpsc::Receiver<Command>,
        place: Place,
        idle_timeout: Duration,
    ) -> Self {
        let created = now();
        Self {
            peer,
            key,
            endpoint,
            datagrams,
            commands,
            place,
            idle_timeout,
            created,
            media_at: created,
            held: VecDeque::new(),
            held_bytes: 0,
            lost: 0,
            ended: false,
        }
    }

    /// The session's id, as in its URL.
    pub fn id(&self) -> &str {
        self.place.id()
    }

    /// The next event. Cancelling it loses none. After [`SessionEvent::Ended`] nothing comes any more.
    pub async fn next(&mut self) -> SessionEvent {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.work().await;
        }
    }

    /// The next event that is there already.
    pub fn try_next(&mut self) -> Option<SessionEvent> {
        let event = self.held.pop_front()?;
        if let SessionEvent::Packet(packet) = &event {
            self.held_bytes = self.held_bytes.saturating_sub(packet.payload.len());
        }
        Some(event)
    }

    /// Takes in what has been received already, without waiting; it is in [`Self::try_next`] then.
    pub fn take_received(&mut self) {
        if !self.ended {
            self.collect_rest();
        }
    }

    /// Keeps the connection alive without taking events out: for a while in which media cannot be taken. What does not fit
    /// into [`MAX_HELD_BYTES`] is lost like on a bad network.
    pub async fn work(&mut self) {
        if self.ended {
            return std::future::pending().await;
        }
        let deadline = self.deadline();
        let wake = tokio::select! {
            biased;
            command = self.commands.recv() => Wake::Command(command),
            datagram = self.datagrams.recv() => Wake::Datagram(datagram),
            () = tokio::time::sleep_until(deadline.into()) => Wake::Deadline,
        };
        match wake {
            Wake::Datagram(Some(datagram)) => self.take(datagram),
            Wake::Command(Some(command)) => self.obey(command),
            // Nobody can reach the session any more.
            Wake::Datagram(None) | Wake::Command(None) => self.end(Cause::Vanished),
            Wake::Deadline => {}
        }
        // Looked at after every wake: packets that never stop coming must not keep acknowledgements from going.
        let now = now();
        if now >= deadline && !self.ended {
            self.peer.handle_timeout(now);
            self.collect();
            self.judge(now);
        }
        self.flush();
    }

    /// Asks the publisher for a key frame.
    pub fn request_key_frame(&mut self, ssrc: u32, how: KeyFrameRequest) {
        self.peer.request_key_frame(ssrc, how, now());
        self.flush();
    }

    /// Where the publisher sends from; `None` before it has said so.
    pub fn remote(&self) -> Option<std::net::SocketAddr> {
        self.peer.remote()
    }

    /// Packets that were lost here because they were not taken in time.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn take(&mut self, datagram: Datagram) {
        let mut next = Some(datagram);
        for _ in 0..BURST {
            let Some(Datagram { from, data, at }) = next.take() else { break };
            let is_check = crate::stun::is_stun(&data);
            self.peer.handle_datagram(from, data, at);
            if is_check && self.peer.knows(from) {
                self.endpoint.learn(self.key, from);
            }
            next = self.datagrams.try_recv().ok();
        }
        if let Some(Datagram { from, data, at }) = next {
            self.peer.handle_datagram(from, data, at);
        }
        self.collect();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::End(cause, done) => {
                self.end(cause);
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
            Command::Restart { ufrag, password, remote_ufrag, remote_password, done } => {
                self.peer.restart(&ufrag, &password, &remote_ufrag, &remote_password);
                self.endpoint.rename(self.key, &ufrag);
                let _ = done.send(());
            }
        }
    }

    /// When the session has to look at its clock: for the library, or because it may be over.
    fn deadline(&mut self) -> Instant {
        let own = if self.peer.is_connected() {
            (self.peer.alive_at() + CONSENT_TIMEOUT).min(self.media_at + self.idle_timeout)
        } else {
            self.created + CONNECT_TIMEOUT
        };
        self.peer.next_timeout().map_or(own, |at| at.min(own))
    }

    fn judge(&mut self, now: Instant) {
        if !self.peer.is_connected() {
            if now >= self.created + CONNECT_TIMEOUT {
                self.end(Cause::NeverConnected);
            }
        } else if now >= self.peer.alive_at() + CONSENT_TIMEOUT {
            self.end(Cause::Vanished);
        } else if now >= self.media_at + self.idle_timeout {
            self.end(Cause::Silent);
        }
    }

    fn collect(&mut self) {
        while let Some(event) = self.peer.poll_event() {
            match event {
                Event::Connected => {
                    self.media_at = now();
                    self.place.connected();
                    self.held.push_back(SessionEvent::Connected);
                }
                Event::Packet(packet) => {
                    self.media_at = self.media_at.max(packet.at);
                    if self.held_bytes + packet.payload.len() > MAX_HELD_BYTES {
                        self.lost += 1;
                        continue;
                    }
                    self.held_bytes += packet.payload.len();
                    self.held.push_back(SessionEvent::Packet(packet));
                }
                Event::Report(report) => self.held.push_back(SessionEvent::Report(report)),
                Event::Closed => self.end(Cause::Closed),
                Event::Failed(why) => self.end(Cause::Failed(why)),
            }
        }
    }

    fn end(&mut self, cause: Cause) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.collect_rest();
        self.peer.close(now());
        self.flush();
        // Publishers delete what they did not get into; that is not why.
        let refused = self.peer.complaint().map(|why| Cause::Failed(why.to_owned()));
        self.held.push_back(SessionEvent::Ended(refused.unwrap_or(cause)));
    }

    /// Media that waits in the queue was sent before the end.
    fn collect_rest(&mut self) {
        while let Ok(Datagram { from, data, at }) = self.datagrams.try_recv() {
            self.peer.handle_datagram(from, data, at);
        }
        self.collect();
    }

    fn flush(&mut self) {
        let now = now();
        while let Some((to, data)) = self.peer.poll_transmit(now) {
            self.endpoint.send(to, data);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended {
            self.ended = true;
            self.peer.close(now());
            self.flush();
        }
        self.endpoint.close(self.key);
    }
}
