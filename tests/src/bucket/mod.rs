//! Servers that stand in for S3 and Google: they check signatures and tokens, keep the providers' rules, and fail on
//! demand. Objects are kept in memory.
mod faults;
mod gcs;
mod gcs_account;
mod gcs_objects;
mod s3;
mod s3_objects;
mod serve;
mod throttle;

pub use faults::{Fault, Faults};
pub use gcs::GcsServer;
pub use s3::{Flavour, S3Options, S3Server};

use std::collections::BTreeMap;

use bytes::Bytes;

/// The bucket that every server has from the start.
pub const BUCKET: &str = "rec";

/// An object as a server holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredObject {
    /// The bytes.
    pub body: Bytes,
    /// Without quotes.
    pub etag: String,
    /// `Content-Type` as sent.
    pub content_type: Option<String>,
    /// `Cache-Control` as sent.
    pub cache_control: Option<String>,
    /// User metadata.
    pub metadata: BTreeMap<String, String>,
    /// Storage class as sent.
    pub storage_class: Option<String>,
    /// KMS key as sent.
    pub kms_key: Option<String>,
    /// In how many parts it came; `None` for a plain put.
    pub parts: Option<usize>,
}

/// An object was written, overwritten or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// What was there.
    pub before: Option<StoredObject>,
    /// What is there now.
    pub after: Option<StoredObject>,
}
