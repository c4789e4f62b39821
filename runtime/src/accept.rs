//! Accepts TCP connections within limits: how many, how long a silent one may stay, and how all of them end at once.
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::Error;
use crate::metrics;

/// Pause after a failed accept: without file descriptors it fails again at once, and must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket whose address is known before anything is served on it.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
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
        Ok(Self { tcp, address })
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
        (Self { listener, name, limits, slots, cut }, Cutter(sender))
    }

    /// The next connection within the limits. Cancel safe.
    pub(crate) async fn accept(&mut self) -> Connection {
        loop {
            let (tcp, peer) = match self.listener.tcp.accept().await {
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
            return Connection::new(tcp, slot, self.limits.first_byte, self.cut.clone());
        }
    }
}

impl axum::serve::Listener for Acceptor {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let connection = Acceptor::accept(self).await;
        let peer = connection.tcp.peer_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listener.address)
    }
}

/// An accepted connection: the place where TLS will go between the socket and HTTP.
pub(crate) struct Connection {
    tcp: TcpStream,
    _slot: OwnedSemaphorePermit,
    /// Until the first byte has come.
    first_byte: Option<Pin<Box<Sleep>>>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The cut was seen; its future must not be asked again.
    ended: bool,
}

impl Connection {
    fn new(tcp: TcpStream, slot: OwnedSemaphorePermit, first_byte: Duration, mut cut: watch::Receiver<bool>) -> Self {
        // A Cutter that is gone counts as a cut, too.
        let cut = Box::pin(async move {
            let _ = cut.wait_for(|cut| *cut).await;
        });
        Self { tcp, _slot: slot, first_byte: Some(Box::pin(tokio::time::sleep(first_byte))), cut, ended: false }
    }

    /// Whether the connection must end, whatever the peer does.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.ended = self.ended || self.cut.as_mut().poll(context).is_ready();
        if self.ended {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "server is shutting down"));
        }
        let late = self.first_byte.as_mut().is_some_and(|sleep| sleep.as_mut().poll(context).is_ready());
        if late { Err(io::Error::new(io::ErrorKind::TimedOut, "peer stayed silent")) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Asked first: a peer that never stops sending must not outlive the cut.
        self.poll_cut(context)?;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.tcp).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.first_byte = None;
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        // A peer that never reads must not outlive it either.
        self.poll_cut(context)?;
        Pin::new(&mut self.tcp).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.tcp).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp.connect_info()
    }
}
