//! TLS of listeners: certificate, key and client CA from files, taken up again when the files change, without touching
//! the connections there are.
mod client;
mod files;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::Error;
use crate::drain::Signal;
use crate::metrics;

pub use client::Identity;
pub use files::Files;
use files::Stamp;

/// How often the files are looked at: a new certificate is served so much later at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is spoken inside TLS, agreed upon in the handshake (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 only.
    Grpc,
    /// HTTP/1.1.
    Http,
    /// Nothing that has a name in ALPN, such as RTMP.
    Other,
}

/// The TLS of one listener. Clones share it.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    files: Files,
    protocol: Protocol,
    current: RwLock<Arc<ServerConfig>>,
    /// The files as they were when they were last read, soundly or not.
    seen: RwLock<Stamp>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.shared.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, holds nothing of use, or key and certificate do not belong together.
    pub fn load(files: Files, protocol: Protocol) -> Result<Self, Error> {
        // Before they are read: what changes meanwhile is read again.
        let seen = RwLock::new(files.stamp());
        let current = RwLock::new(Arc::new(config(&files, protocol)?));
        Ok(Self { shared: Arc::new(Shared { files, protocol, current, seen }) })
    }

    /// For the next handshake, with the files as they were read last.
    pub fn acceptor(&self) -> TlsAcceptor {
        let current = self.shared.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }

    /// Whether clients must show a certificate.
    pub fn is_mutual(&self) -> bool {
        self.shared.files.client_ca.is_some()
    }

    /// Reads the files again if they have changed since they were read last; whether they were taken up. What cannot be
    /// used leaves everything as it was: certificate and key are rarely replaced in the same instant.
    ///
    /// # Errors
    /// Why the new files are not used; the same files are tried again only when they change again.
    pub fn refresh(&self) -> Result<bool, Error> {
        let stamp = self.shared.files.stamp();
        if *self.shared.seen.read().unwrap_or_else(PoisonError::into_inner) == stamp {
            return Ok(false);
        }
        *self.shared.seen.write().unwrap_or_else(PoisonError::into_inner) = stamp;
        let fresh = Arc::new(config(&self.shared.files, self.shared.protocol)?);
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }

    /// Keeps up with the files until the drain's deadline; `listener` stands for it in logs and metrics.
    pub async fn follow(self, listener: &'static str, drain: Signal) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = drain.deadline() => return,
            }
            let tls = self.clone();
            let outcome = match tokio::task::spawn_blocking(move || tls.refresh()).await {
                Ok(Ok(false)) | Err(_) => continue,
                Ok(Ok(true)) => {
                    tracing::info!(listener, "new TLS certificate in use");
                    "ok"
                }
                Ok(Err(error)) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(listener, error, "the changed TLS files cannot be used; the ones before stay");
                    "failed"
                }
            };
            ::metrics::counter!(metrics::TLS_RELOADS_TOTAL, "listener" => listener, "outcome" => outcome).increment(1);
        }
    }
}

/// The names that a client's certificate, checked against the client CA, was made for.
pub(crate) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().map(str::to_owned).collect()
}

fn config(files: &Files, protocol: Protocol) -> Result<ServerConfig, Error> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls { path: files.certificate.clone(), reason: error.to_string() })?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let unusable = |reason: String| Error::Tls { path: path.clone(), reason };
            let mut roots = RootCertStore::empty();
            for certificate in files::certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(error.to_string()))?)
        }
    };
    let (chain, key) = (files::certificates(&files.certificate)?, files::key(&files.key)?);
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| Error::Tls { path: files.certificate.clone(), reason: error.to_string() })?;
    config.alpn_protocols = match protocol {
        Protocol::Grpc => vec![b"h2".to_vec()],
        Protocol::Http => vec![b"http/1.1".to_vec()],
        Protocol::Other => Vec::new(),
    };
    Ok(config)
}
