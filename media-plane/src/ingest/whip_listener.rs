//! The sockets behind WHIP: one for the media of all sessions, and HTTPS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::whip::{Endpoint, Limits, Reachable, Refused, Sessions};
use anyhow::Context;
use axum::Router;
use recorder_runtime::drain::Signal;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config;

/// A TLS peer that has not finished its handshake by then is not going to.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, which is how running out of file descriptors shows.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections whose handshake is done and that wait to be served.
const READY: usize = 16;

/// Sockets of the media of all WHIP sessions.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Takes the configured ports, or others where these are taken: no other publisher should miss its recording because
    /// of a port that answers tell anyway.
    pub async fn bind(config: &config::Whip) -> anyhow::Result<Self> {
        let udp = match UdpSocket::bind(config.udp).await {
            Err(error) if config.udp.port() != 0 => {
                tracing::warn!(wanted = %config.udp, %error, "whip.udp is taken; another port is used");
                UdpSocket::bind(SocketAddr::new(config.udp.ip(), 0)).await
            }
            bound => bound,
        };
        let tcp = match TcpListener::bind(config.tcp).await {
            Err(error) if config.tcp.port() != 0 => {
                tracing::warn!(wanted = %config.tcp, %error, "whip.tcp is taken; another port is used");
                TcpListener::bind(SocketAddr::new(config.tcp.ip(), 0)).await
            }
            bound => bound,
        };
        Ok(Self { udp: udp.context("whip.udp")?, tcp: tcp.context("whip.tcp")? })
    }

    /// Where it listens, UDP and TCP.
    pub fn addresses(&self) -> anyhow::Result<[SocketAddr; 2]> {
        Ok([self.udp.local_addr()?, self.tcp.local_addr()?])
    }

    /// Serves them; gives the sessions and where publishers send to.
    pub fn start(self, config: &config::Whip) -> anyhow::Result<(Sessions, Reachable)> {
        let [udp, tcp] = self.addresses()?;
        let addresses = if config.advertise.is_empty() { own_addresses(udp.ip()) } else { config.advertise.clone() };
        tracing::info!(?addresses, udp = udp.port(), tcp = tcp.port(), "WebRTC publishers are sent here");
        let reachable = Reachable::new(&addresses, udp.port(), Some(tcp.port()));
        let limits = Limits {
            max_sessions: config.max_sessions,
            max_pending: config.max_sessions.div_ceil(4),
            idle_timeout: config.idle_timeout,
        };
        let endpoint = Endpoint::start(self.udp, Some(self.tcp));
        let sessions = Sessions::new(endpoint, limits).map_err(|Refused { detail, .. }| anyhow::anyhow!(detail))?;
        Ok((sessions, reachable))
    }
}

/// The address that a socket is bound to, or those of this machine when it is bound to all of them.
fn own_addresses(bound: IpAddr) -> Vec<IpAddr> {
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let mut addresses = ::whip::interface_addresses(bound.is_ipv6());
    if addresses.is_empty() {
        addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    addresses
}

/// Serves `routes` over TLS until the drain's deadline, to at most `max_connections` at once.
pub async fn serve_tls(
    listener: TcpListener,
    tls: TlsAcceptor,
    routes: Router,
    drain: Signal,
    max_connections: usize,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    let (ready, accepted) = mpsc::channel(READY);
    let accepting = accept(listener, tls, ready, max_connections);
    let stop = drain.clone();
    let serving = axum::serve(Accepted { accepted, address }, routes)
        .with_graceful_shutdown(async move { stop.deadline().await });
    tokio::select! {
        () = accepting => Ok(()),
        served = async { serving.await } => served,
        () = drain.deadline() => Ok(()),
    }
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
    max_connections: usize,
) {
    // Bounds handshakes; a connection that is served counts until the server has taken it.
    let permits = Arc::new(Semaphore::new(max_connections));
    loop {
        let (socket, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            tracing::debug!(%remote, "too many HTTPS connections");
            continue;
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(TLS_TIMEOUT, tls.accept(socket)).await {
                Ok(Ok(socket)) => drop(ready.send((socket, remote)).await),
                Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%remote, "TLS handshake timed out"),
            }
            drop(permit);
        });
    }
}

struct Accepted {
    accepted: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Accepted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}
