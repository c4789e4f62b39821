//! What the node shows to the control plane, and whom it trusts to be it.

use std::path::PathBuf;

use anyhow::Context;
use recorder_runtime::secret::Redacted;
use recorder_runtime::tls::Identity;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::config;

/// Token and certificates; files are read anew for every connection, so that replaced ones count from the next one on.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// TLS.
    pub identity: Identity,
    /// The bearer token.
    pub token: Option<Redacted<String>>,
    /// A file that holds it instead.
    pub token_file: Option<PathBuf>,
}

impl From<&config::Link> for Credentials {
    fn from(link: &config::Link) -> Self {
        let own = link.certificate.clone().zip(link.key.clone());
        let identity = Identity { ca: link.ca.clone(), own };
        Self { identity, token: link.token.clone(), token_file: link.token_file.clone() }
    }
}

impl Credentials {
    /// The token for the next connection.
    ///
    /// # Errors
    /// When its file cannot be read, or it is nothing that a header can carry; never with the token in it.
    pub fn bearer(&self) -> anyhow::Result<Bearer> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => token.expose().trim().to_owned(),
            (None, Some(file)) => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("link.token_file {}", file.display()))?;
                text.trim().to_owned()
            }
            (None, None) => return Ok(Bearer(None)),
        };
        let mut header: MetadataValue<Ascii> =
            format!("Bearer {text}").parse().map_err(|_| anyhow::anyhow!("link.token is no printable text"))?;
        header.set_sensitive(true);
        Ok(Bearer(Some(header)))
    }
}

/// Puts the token on every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_token_file_counts_and_no_error_shows_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let credentials = Credentials { token_file: Some(file.clone()), ..Credentials::default() };
        assert!(format!("{:#}", credentials.bearer().err().unwrap()).contains("link.token_file"));
        let shown = |credentials: &Credentials| {
            let request = credentials.bearer().unwrap().call(Request::new(())).unwrap();
            request.metadata().get("authorization").map(|header| header.to_str().unwrap().to_owned())
        };
        for token in ["rec_one", "rec_two"] {
            std::fs::write(&file, format!("{token}\n")).unwrap();
            assert_eq!(shown(&credentials), Some(format!("Bearer {token}")));
        }
        assert_eq!(shown(&Credentials::default()), None);
        std::fs::write(&file, "rec_\u{7f}hunter2").unwrap();
        let error = format!("{:#}", credentials.bearer().err().unwrap());
        assert!(!error.contains("hunter2"), "{error}");
        let set = Credentials { token: Some(Redacted::new("hunter2".into())), ..Credentials::default() };
        assert!(!format!("{set:?}").contains("hunter2"));
    }
}
