//! Accepts RTMP and RTMPS connections, bounded in number.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use recorder_runtime::tls::Tls;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::rtmp;
use crate::node::Node;

/// A TLS peer that has not finished its handshake by then is not going to.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, which is how running out of file descriptors shows.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener, with TLS when `tls` is set.
pub struct RtmpListener {
    /// The socket.
    pub socket: TcpListener,
    /// RTMPS.
    pub tls: Option<Tls>,
}

impl RtmpListener {
    /// Takes connections until the node drains; those that publish go on.
    pub async fn run(self, node: Arc<Node>, permits: Arc<Semaphore>) {
        let draining = node.drain.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = draining.draining() => return,
            };
            let (socket, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Above the limit the connection is closed at once: waiting would let idle peers starve publishers.
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                tracing::warn!(%remote, "too many RTMP connections");
                continue;
            };
            let (node, tls) = (Arc::clone(&node), self.tls.clone());
            tokio::spawn(async move {
                let _ = socket.set_nodelay(true);
                serve(node, socket, remote, tls).await;
                drop(permit);
            });
        }
    }
}

async fn serve(node: Arc<Node>, socket: TcpStream, remote: SocketAddr, tls: Option<Tls>) {
    let Some(tls) = tls else { return rtmp::serve(node, socket, remote).await };
    match tokio::time::timeout(TLS_TIMEOUT, tls.acceptor().accept(socket)).await {
        Ok(Ok(socket)) => rtmp::serve(node, socket, remote).await,
        Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%remote, "TLS handshake timed out"),
    }
}
