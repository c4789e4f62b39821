//! One UDP socket and one TCP listener for every session (RFC 8445, RFC 6544).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};

use crate::framing;
use crate::limits::{
    MAX_DATAGRAM_BYTES, MAX_QUEUED_DATAGRAMS, MAX_TCP_CONNECTIONS, MAX_TCP_QUEUE, TCP_FIRST_PACKET, TCP_WRITE_TIMEOUT,
};
use crate::table::{Key, Table};

/// Pause after a failed accept, which is how running out of file descriptors shows.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Asked of the system for the socket of all sessions: a tenth of a second of 300 streams.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

/// Datagrams read in a row before other tasks get their turn.
const BURST: usize = 128;

/// A packet as it came.
#[derive(Debug)]
pub struct Datagram {
    /// Where from.
    pub from: SocketAddr,
    /// Its bytes.
    pub data: BytesMut,
    /// When.
    pub at: Instant,
}

type Queue = mpsc::Sender<Datagram>;

/// The sockets; see the module.
pub struct Endpoint {
    udp: UdpSocket,
    table: Mutex<Table<Queue>>,
    /// Writers of TCP connections, by the peer's address.
    tcp: Mutex<HashMap<SocketAddr, mpsc::Sender<BytesMut>>>,
    overflowed: AtomicU64,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("udp", &self.udp).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Serves a bound socket, and a bound listener if there is one, as long as the returned value lives. Within a runtime.
    pub fn start(udp: UdpSocket, tcp: Option<TcpListener>) -> Arc<Self> {
        if let Err(error) = socket2::SockRef::from(&udp).set_recv_buffer_size(RECEIVE_BUFFER) {
            tracing::debug!(%error, "the socket's receive buffer stays as it is");
        }
        let endpoint =
            Arc::new(Self { udp, table: Mutex::default(), tcp: Mutex::default(), overflowed: AtomicU64::new(0) });
        tokio::spawn(receive(Arc::downgrade(&endpoint)));
        if let Some(listener) = tcp {
            tokio::spawn(accept(Arc::downgrade(&endpoint), listener));
        }
        endpoint
    }

    /// A place for a session whose checks name `ufrag`.
    pub(crate) fn open(&self, ufrag: &str) -> (Key, mpsc::Receiver<Datagram>) {
        let (queue, datagrams) = mpsc::channel(MAX_QUEUED_DATAGRAMS);
        (self.table().insert(ufrag, queue), datagrams)
    }

    /// The session is over.
    pub(crate) fn close(&self, key: Key) {
        self.table().remove(key);
    }

    pub(crate) fn rename(&self, key: Key, ufrag: &str) {
        self.table().rename(key, ufrag);
    }

    pub(crate) fn learn(&self, key: Key, address: SocketAddr) {
        self.table().learn(key, address);
    }

    /// Sends one packet, or drops it where the system or the peer does not take it: whoever misses it asks again.
    pub(crate) fn send(&self, to: SocketAddr, data: BytesMut) {
        let writer = self.tcp_writers().get(&to).cloned();
        match writer {
            Some(writer) => drop(writer.try_send(data)),
            None => drop(self.udp.try_send_to(&data, to)),
        }
    }

    /// Packets that were dropped because their session did not read them in time, since the start.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Sessions, names and addresses known to the sockets.
    pub fn sizes(&self) -> (usize, usize, usize) {
        self.table().sizes()
    }

    fn take(&self, from: SocketAddr, data: &[u8]) {
        let Some(queue) = self.find(from, data) else { return };
        let datagram = Datagram { from, data: BytesMut::from(data), at: now() };
        if queue.try_send(datagram).is_err() {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn find(&self, from: SocketAddr, data: &[u8]) -> Option<Queue> {
        self.table().find(from, data)
    }

    fn table(&self) -> MutexGuard<'_, Table<Queue>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tcp_writers(&self) -> MutexGuard<'_, HashMap<SocketAddr, mpsc::Sender<BytesMut>>> {
        self.tcp.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the UDP socket until the endpoint is gone.
async fn receive(endpoint: std::sync::Weak<Endpoint>) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let Some(endpoint) = endpoint.upgrade() else { return };
        // Looked at now and then, so that a socket that nobody sends to is let go of, too.
        let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), endpoint.udp.readable()).await else { continue };
        for _ in 0..BURST {
            match endpoint.udp.try_recv_from(&mut buffer) {
                Ok((length, from)) => endpoint.take(from, buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // What an earlier packet met on its way, for example a closed port.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn accept(endpoint: std::sync::Weak<Endpoint>, listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(MAX_TCP_CONNECTIONS));
    loop {
        let accepted = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
        let Some(endpoint) = endpoint.upgrade() else { return };
        let (socket, from) = match accepted {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            Err(_) => continue,
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            tracing::warn!(%from, "too many ICE-TCP connections");
            continue;
        };
        let _ = socket.set_nodelay(true);
        tokio::spawn(async move {
            serve(&endpoint, socket, from).await;
            drop(permit);
        });
    }
}

/// Serves one ICE-TCP connection: the first packet says which session it belongs to.
async fn serve(endpoint: &Endpoint, mut socket: TcpStream, from: SocketAddr) {
    let mut input = BytesMut::with_capacity(4_096);
    let first = tokio::time::timeout(TCP_FIRST_PACKET, async {
        loop {
            if let Ok(Some(packet)) | Err(packet) = framing::next(&mut input).map_err(|_| BytesMut::new()) {
                return packet;
            }
            if !matches!(socket.read_buf(&mut input).await, Ok(1..)) {
                return BytesMut::new();
            }
        }
    });
    let Ok(first) = first.await else { return };
    let Some(queue) = endpoint.find(from, &first) else { return };
    let (writer, outbound) = mpsc::channel(MAX_TCP_QUEUE);
    endpoint.tcp_writers().insert(from, writer.clone());
    let (reading, writing) = socket.split();
    tokio::select! {
        () = read(reading, input, first, queue, from) => {}
        () = write(writing, outbound) => {}
    }
    let mut writers = endpoint.tcp_writers();
    if writers.get(&from).is_some_and(|current| current.same_channel(&writer)) {
        writers.remove(&from);
    }
}

/// Until the peer closes, breaks the framing, or the session is over. A session that is slow is waited for.
async fn read(
    mut socket: tokio::net::tcp::ReadHalf<'_>,
    mut input: BytesMut,
    first: BytesMut,
    queue: Queue,
    from: SocketAddr,
) {
    let mut packet = Some(first);
    loop {
        if let Some(data) = packet.take()
            && queue.send(Datagram { from, data, at: now() }).await.is_err()
        {
            return;
        }
        packet = match framing::next(&mut input) {
            Ok(packet) => packet,
            Err(error) => return tracing::debug!(%from, %error, "ICE-TCP peer broke the framing"),
        };
        if packet.is_some() {
            continue;
        }
        tokio::select! {
            read = socket.read_buf(&mut input) => if !matches!(read, Ok(1..)) { return },
            () = queue.closed() => return,
        }
    }
}

async fn write(mut socket: tokio::net::tcp::WriteHalf<'_>, mut outbound: mpsc::Receiver<BytesMut>) {
    while let Some(packet) = outbound.recv().await {
        let Some(framed) = framing::frame(&packet) else { continue };
        let written = tokio::time::timeout(TCP_WRITE_TIMEOUT, socket.write_all(&framed)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

/// The runtime's clock, which tests may pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
