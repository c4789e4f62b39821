//! A connection on its way from the listener to HTTP: bounded in silence, cut when told to, plain or inside TLS.
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::tls;

/// An accepted TCP connection; TLS goes between it and HTTP.
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
    pub(super) fn new(
        tcp: TcpStream,
        slot: OwnedSemaphorePermit,
        first_byte: Duration,
        mut cut: watch::Receiver<bool>,
    ) -> Self {
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

/// What HTTP reads from and writes to.
pub(crate) enum Socket {
    Plain(Connection),
    Tls(Box<TlsStream<Connection>>),
}

/// Who is at the other end of a connection; in the extensions of every request.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// From where, unless it is gone already.
    pub address: Option<SocketAddr>,
    /// The DNS names of its certificate, which the listener's client CA has signed; None without one.
    pub certificate: Option<Arc<[String]>>,
}

impl Socket {
    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        let connection = match self {
            Socket::Plain(connection) => connection,
            Socket::Tls(stream) => stream.get_ref().0,
        };
        connection.tcp.peer_addr().ok()
    }
}

impl Connected for Socket {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let certificate = match self {
            Socket::Plain(_) => None,
            Socket::Tls(stream) => stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(tls::dns_names),
        };
        Peer { address: self.peer_address(), certificate: certificate.map(Arc::from) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Socket::Plain(connection) => Pin::new(connection).poll_read(context, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Socket::Plain(connection) => Pin::new(connection).poll_write(context, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, buffer),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Socket::Plain(connection) => Pin::new(connection).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Socket::Plain(connection) => Pin::new(connection).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Socket::Plain(connection) => Pin::new(connection).poll_write_vectored(context, buffers),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Plain(connection) => connection.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
