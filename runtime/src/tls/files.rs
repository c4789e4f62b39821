//! The PEM files of a listener, and how a change of them shows.
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

use crate::Error;

/// Where certificate, key and client CA are; PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The listener's certificate, and those between it and a root that clients know.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates of clients; with it, a client without one is refused.
    pub client_ca: Option<PathBuf>,
}

/// What a change of the files changes.
pub(super) type Stamp = Vec<Option<(SystemTime, u64, u64)>>;

impl Files {
    /// The files that the settings name; none without a certificate.
    pub fn of(certificate: Option<&PathBuf>, key: Option<&PathBuf>, client_ca: Option<&PathBuf>) -> Option<Self> {
        let (certificate, key) = (certificate?.clone(), key?.clone());
        Some(Self { certificate, key, client_ca: client_ca.cloned() })
    }

    /// Follows symbolic links: mounted secrets are replaced by turning one.
    pub(super) fn stamp(&self) -> Stamp {
        let paths = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        paths.into_iter().flatten().map(|path| stamp(path)).collect()
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Every certificate of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(path)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(Error::Tls { path: path.to_owned(), reason: "holds no PEM certificate".to_owned() });
    }
    Ok(found)
}

/// The private key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| unusable(path, &error))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::TlsFile { path: path.to_owned(), source })
}

/// Never with anything of the content.
fn unusable(path: &Path, error: &pem::Error) -> Error {
    let reason = match error {
        pem::Error::NoItemsFound => "holds no PEM item of the kind that is needed here",
        _ => "is not sound PEM",
    };
    Error::Tls { path: path.to_owned(), reason: reason.to_owned() }
}
