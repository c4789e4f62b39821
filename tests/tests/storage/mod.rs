//! Buckets opened on the test servers.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::Duration;

use recorder_tests::bucket::{BUCKET, Flavour, GcsServer, S3Server};
use store::{AttemptLimit, Bucket, Credential, Dialect, Target, TargetKind, open};

/// What this server calls for.
pub fn s3_target(server: &S3Server) -> Target {
    let (kind, dialect) = match server.options().flavour {
        Flavour::Aws => (TargetKind::S3, Some(Dialect::Aws)),
        Flavour::Google => (TargetKind::GcsHmac, None),
    };
    let region = server.options().region.clone().unwrap_or_default();
    Target {
        bucket: BUCKET.to_owned(),
        endpoint: server.endpoint(),
        region,
        dialect,
        path_style: true,
        ..Target::of(kind)
    }
}

/// The key that this server knows.
pub fn s3_credential(server: &S3Server) -> Credential {
    let options = server.options();
    Credential::AccessKey {
        access_key_id: options.access_key.clone(),
        secret_access_key: options.secret_key.clone(),
        session_token: options.session_token.clone(),
    }
}

/// Opened right.
pub async fn s3(server: &S3Server) -> Arc<dyn Bucket> {
    open(s3_target(server), s3_credential(server)).await.unwrap()
}

/// What this server calls for.
pub fn gcs_target(server: &GcsServer) -> Target {
    Target { bucket: BUCKET.to_owned(), endpoint: server.endpoint(), ..Target::of(TargetKind::GcsServiceAccount) }
}

/// Opened right.
pub async fn gcs(server: &GcsServer) -> Arc<dyn Bucket> {
    open(gcs_target(server), Credential::ServiceAccountJson(server.service_account_json())).await.unwrap()
}

/// So short that a hanging server is noticed at once.
pub fn impatient() -> AttemptLimit {
    AttemptLimit { base: Duration::from_millis(200), bytes_per_second: 1 << 20 }
}
