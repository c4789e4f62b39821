//! Accepts TCP and TLS connections within limits: how many, how long a silent one may stay, and how all of them end at
//! once.
mod connection;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::Error;
use crate::metrics;
use crate::tls::Tls;

pub use connection::Peer;
use connection::{Connection, Socket};

/// Pause after a failed accept: without file descriptors it fails again at once, and must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket whose address is known before anything is served on it.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

impl Listener {
    /// Binds; with port 0 the system chooses, see [`Listener::address`].
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let tcp = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
        Self::from_tokio(tcp)
    }

    /// Takes a socket that a test or a supervisor has bound; it is made non-blocking.
    pub fn from_std(tcp: std::net::TcpListener) -> Result<Self, Error> {
        tcp.set_nonblocking(true)?;
        Self::from_tokio(TcpListener::from_std(tcp)?)
    }

    /// Takes a socket of this runtime.
    pub fn from_tokio(tcp: TcpListener) -> Result<Self, Error> {
        let address = tcp.local_addr()?;
        Ok(Self { tcp, address, tls: None })
    }

    /// The same with TLS, or without when there is none.
    pub fn secured(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Its TLS, if it has one.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Where it listens, with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Bounds on the connections of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; those beyond are closed at once, so that a client sees it and goes elsewhere.
    pub max_connections: usize,
    /// Time within which the first byte must come.
    pub first_byte: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: 1_000, first_byte: Duration::from_secs(10) }
    }
}

/// Accepts for one listener, which `name` stands for in logs and metrics.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: Listener,
    name: &'static str,
    limits: Limits,
    slots: Arc<Semaphore>,
    cut: watch::Receiver<bool>,
    /// Connections whose TLS handshake is under way, as many as there are slots at most.
    handshakes: JoinSet<Option<Socket>>,
}

/// Ends every connection of an [`Acceptor`] when told to, or when dropped.
#[derive(Debug)]
pub(crate) struct Cutter(watch::Sender<bool>);

impl Cutter {
    pub(crate) fn cut(&self) {
        self.0.send_replace(true);
    }
}

impl Acceptor {
    pub(crate) fn new(listener: Listener, name: &'static str, limits: Limits) -> (Self, Cutter) {
        let (sender, cut) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
        (Self { listener, name, limits, slots, cut, handshakes: JoinSet::new() }, Cutter(sender))
    }

    /// The next connection within the limits, once its handshake is done. Cancel safe.
    pub(crate) async fn accept(&mut self) -> Socket {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.tcp.accept() => accepted,
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Some(socket)) => return socket,
                    Ok(None) | Err(_) => continue,
                },
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Either the peer is gone already, which is nothing, or descriptors ran out, which must show.
                    tracing::warn!(listener = self.name, error = %error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = self.slots.clone().try_acquire_owned() else {
                ::metrics::counter!(metrics::CONNECTIONS_REFUSED_TOTAL, "listener" => self.name).increment(1);
                tracing::debug!(listener = self.name, %peer, "too many connections");
                continue;
            };
            // Replies are written whole: waiting for more to send with them only adds delay.
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(listener = self.name, %peer, error = %error, "TCP_NODELAY failed");
            }
            let connection = Connection::new(tcp, slot, self.limits.first_byte, self.cut.clone());
            let Some(tls) = &self.listener.tls else { return Socket::Plain(connection) };
            let (name, acceptor, patience) = (self.name, tls.acceptor(), self.limits.first_byte);
            self.handshakes.spawn(async move {
                let refused = match tokio::time::timeout(patience, acceptor.accept(connection)).await {
                    Ok(Ok(stream)) => return Some(Socket::Tls(Box::new(stream))),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "it took too long".to_owned(),
                };
                tracing::debug!(listener = name, %peer, error = refused, "TLS handshake failed");
                None
            });
        }
    }
}

impl axum::serve::Listener for Acceptor {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Socket, SocketAddr) {
        let socket = Acceptor::accept(self).await;
        let peer = socket.peer_address().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        (socket, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listener.address)
    }
}
