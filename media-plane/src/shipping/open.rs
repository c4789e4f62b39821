//! From a plan's storage and the control plane's credential to a client.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use recorder_proto::pb::node::FetchCredentialResponse;
use store::{Credential, TargetKind};

use super::Target;
use super::storage::Open;
use super::upload::UploadError;
use crate::link::Link;

/// Clients with credentials of the control plane, which are kept in memory only.
pub fn over_link(link: Link, library: PathBuf) -> Open {
    Arc::new(move |target, newest| {
        let (link, library) = (link.clone(), library.clone());
        async move {
            let problem = |problem: String| UploadError::Credential { storage: target.name.clone(), problem };
            let credential = if target.kind == "file_system" {
                FetchCredentialResponse::default()
            } else {
                let version = if newest { 0 } else { target.credential_version };
                let fetched = link.credential(&target.name, version).await;
                fetched.map_err(|status| problem(status.message().to_owned()))?
            };
            let (kind, credential) = of_kind(&target.kind, credential).ok_or_else(|| problem("unknown kind".into()))?;
            Ok(store::open(describe(&target, kind, library), credential).await?)
        }
        .boxed()
    })
}

/// The backend and its secrets.
fn of_kind(kind: &str, reply: FetchCredentialResponse) -> Option<(TargetKind, Credential)> {
    let key = |reply: FetchCredentialResponse| Credential::AccessKey {
        access_key_id: reply.access_key_id,
        secret_access_key: reply.secret_access_key,
        session_token: Some(reply.session_token).filter(|token| !token.is_empty()),
    };
    match kind {
        "file_system" => Some((TargetKind::FileSystem, Credential::None)),
        "s3" => Some((TargetKind::S3, key(reply))),
        "gcs" if reply.service_account_json.is_empty() => Some((TargetKind::GcsHmac, key(reply))),
        "gcs" => Some((TargetKind::GcsServiceAccount, Credential::ServiceAccountJson(reply.service_account_json))),
        _ => None,
    }
}

fn describe(target: &Target, kind: TargetKind, library: PathBuf) -> store::Target {
    if kind == TargetKind::FileSystem {
        return store::Target::file_system(library, target.bucket.clone());
    }
    store::Target {
        bucket: target.bucket.clone(),
        region: target.region.clone(),
        endpoint: target.endpoint.clone(),
        path_style: target.path_style,
        storage_class: target.storage_class.clone(),
        kms_key: target.kms_key.clone(),
        ..store::Target::of(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_credentials_pair_up() {
        let hmac =
            FetchCredentialResponse { access_key_id: "id".into(), secret_access_key: "s".into(), ..Default::default() };
        let json = FetchCredentialResponse { service_account_json: "{}".into(), ..Default::default() };
        let of = |kind, reply: &FetchCredentialResponse| of_kind(kind, reply.clone()).map(|(kind, _)| kind);
        assert_eq!(of("s3", &hmac), Some(TargetKind::S3));
        assert_eq!(of("gcs", &hmac), Some(TargetKind::GcsHmac));
        assert_eq!(of("gcs", &json), Some(TargetKind::GcsServiceAccount));
        assert_eq!(of("file_system", &json), Some(TargetKind::FileSystem));
        assert_eq!(of("tape", &hmac), None);
        let Some((_, Credential::AccessKey { session_token, .. })) = of_kind("s3", hmac) else { panic!("no key") };
        assert_eq!(session_token, None);
    }
}
