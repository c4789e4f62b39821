//! From a storage's description and secrets to an opened bucket.
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::attempt::AttemptLimit;
use crate::bucket::Bucket;
use crate::error::Error;
use crate::{gcs, library, s3};

/// Where files go; mirrors the API's `Storage` without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which backend.
    pub kind: TargetKind,
    /// Bucket name (R35); unused for a file system.
    pub bucket: String,
    /// Region (R36); empty for the provider's default.
    pub region: String,
    /// Own endpoint as `http://host:port` or `https://host`; empty for the provider's own.
    pub endpoint: String,
    /// S3: the bucket in the path instead of the host name.
    pub path_style: bool,
    /// Storage class by the provider's name; empty for the bucket's default.
    pub storage_class: String,
    /// KMS key for server-side encryption; empty for the bucket's default.
    pub kms_key: String,
    /// File system: the library's root, absolute.
    pub root: PathBuf,
    /// File system: directory below the root; empty for the root itself.
    pub directory: String,
    /// S3: how far the server's dialect goes; `None` derives it from endpoint and kind.
    pub dialect: Option<Dialect>,
    /// Time limit of one attempt.
    pub limit: AttemptLimit,
}

impl Target {
    /// Of this kind with nothing else set; fill in with struct update syntax.
    pub fn of(kind: TargetKind) -> Self {
        Self {
            kind,
            bucket: String::new(),
            region: String::new(),
            endpoint: String::new(),
            path_style: false,
            storage_class: String::new(),
            kms_key: String::new(),
            root: PathBuf::new(),
            directory: String::new(),
            dialect: None,
            limit: AttemptLimit::default(),
        }
    }

    /// A directory below a library's root.
    pub fn file_system(root: impl Into<PathBuf>, directory: impl Into<String>) -> Self {
        Self { root: root.into(), directory: directory.into(), ..Self::of(TargetKind::FileSystem) }
    }
}

/// Backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// Amazon S3 or a server that speaks its protocol.
    S3,
    /// Google Cloud Storage with HMAC keys, over its S3-compatible XML API (R37).
    GcsHmac,
    /// Google Cloud Storage with a service account, over its JSON API.
    GcsServiceAccount,
    /// A directory.
    FileSystem,
}

/// What an S3 server can be asked for beyond the common core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Amazon's own: CRC32C on every body and on whole objects, atomic [`crate::If::Absent`].
    Aws,
    /// Everybody else's: the signature covers the body's SHA-256, which is the integrity check; no checksum header
    /// and no conditional write, which older servers refuse or silently ignore.
    Compatible,
    /// Google's: as `Compatible`, path style, its own endpoint.
    Google,
}

/// Secrets of a storage; shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credential {
    /// A file system needs none.
    #[default]
    None,
    /// Key pair of S3, or HMAC pair of Google (R34).
    AccessKey {
        /// Shown in signatures; not a secret by itself.
        access_key_id: String,
        /// Signs requests.
        secret_access_key: String,
        /// Of temporary credentials.
        session_token: Option<String>,
    },
    /// A Google service account's key file.
    ServiceAccountJson(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "Credential::None",
            Self::AccessKey { .. } => "Credential::AccessKey([secret])",
            Self::ServiceAccountJson(_) => "Credential::ServiceAccountJson([secret])",
        })
    }
}

/// Makes a client for the target. Contacts nobody; a file system's directory is made. Blocks on the local disk only.
pub async fn open(target: Target, credential: Credential) -> Result<Arc<dyn Bucket>, Error> {
    match target.kind {
        TargetKind::FileSystem => {
            let library = library::Library::open(&target.root, &target.directory, target.limit)?;
            Ok(Arc::new(library))
        }
        TargetKind::S3 | TargetKind::GcsHmac => Ok(Arc::new(s3::S3::open(target, credential)?)),
        TargetKind::GcsServiceAccount => Ok(Arc::new(gcs::Gcs::open(target, credential).await?)),
    }
}
