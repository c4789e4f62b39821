//! TLS of outgoing gRPC: whom to trust, and what to show.
use std::path::PathBuf;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::files::read;
use crate::Error;

/// What a client trusts and shows; read anew for every connection, so that replaced files count from the next one on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who signs the server's certificate; None is whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Certificate and key to show to a server that asks.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Identity {
    /// The endpoint with TLS if its URL begins with `https`, unchanged otherwise.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn secured(&self, endpoint: Endpoint) -> Result<Endpoint, Error> {
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint);
        }
        let mut config = ClientTlsConfig::new();
        config = match &self.ca {
            Some(path) => config.ca_certificate(Certificate::from_pem(read(path)?)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.own {
            config = config.identity(tonic::transport::Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(endpoint.tls_config(config)?)
    }
}
