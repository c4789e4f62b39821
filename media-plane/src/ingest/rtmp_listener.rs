//! Accepts RTMP and RTMPS connections, bounded in number.

use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

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
    pub tls: Option<TlsAcceptor>,
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

async fn serve(node: Arc<Node>, socket: TcpStream, remote: SocketAddr, tls: Option<TlsAcceptor>) {
    let Some(tls) = tls else { return rtmp::serve(node, socket, remote).await };
    match tokio::time::timeout(TLS_TIMEOUT, tls.accept(socket)).await {
        Ok(Ok(socket)) => rtmp::serve(node, socket, remote).await,
        Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%remote, "TLS handshake timed out"),
    }
}

/// Reads certificate and key of the RTMPS listener.
pub fn tls_acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let open = |path: &Path| File::open(path).map(BufReader::new).with_context(|| path.display().to_string());
    let chain = CertificateDer::pem_reader_iter(open(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| certificate.display().to_string())?;
    let key_der = PrivateKeyDer::from_pem_reader(open(key)?).with_context(|| key.display().to_string())?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
