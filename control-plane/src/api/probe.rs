//! TestStorage: tries a storage out from here and tells what the provider says.
use std::path::Path;
use std::time::Duration;

use recorder_proto::Problem;
use recorder_proto::pb::node::FetchCredentialResponse;
use recorder_proto::pb::v1::Storage;
use recorder_proto::pb::v1::storage::Target as Kind;
use recorder_proto::pb::v1::test_storage_response::Step;
use store::{Credential, Target, TargetKind};
use tonic::Code;

/// A provider that does not answer at all must not hold the call for ever.
const LIMIT: Duration = Duration::from_secs(60);

/// Opens the storage and probes it; the first step that fails ends the list.
pub async fn run(library_root: &Path, storage: &Storage, credential: FetchCredentialResponse) -> Vec<Step> {
    let (target, credential) = described(library_root, storage, credential);
    let opened = match tokio::time::timeout(LIMIT, store::open(target, credential)).await {
        Ok(opened) => opened,
        Err(_) => return vec![timed_out("open")],
    };
    let bucket = match opened {
        Ok(bucket) => bucket,
        Err(error) => return vec![failed("open", &error, 0.0)],
    };
    match tokio::time::timeout(LIMIT, store::probe(bucket.as_ref(), &storage.prefix)).await {
        Ok(steps) => steps.iter().map(shown).collect(),
        Err(_) => vec![timed_out("probe")],
    }
}

/// Where a storage is, and the key to it.
pub(crate) fn described(
    library_root: &Path,
    storage: &Storage,
    credential: FetchCredentialResponse,
) -> (Target, Credential) {
    let keys = |credential: FetchCredentialResponse| Credential::AccessKey {
        access_key_id: credential.access_key_id,
        secret_access_key: credential.secret_access_key,
        session_token: Some(credential.session_token).filter(|token| !token.is_empty()),
    };
    match &storage.target {
        Some(Kind::S3(s3)) => {
            let target = Target {
                bucket: s3.bucket.clone(),
                region: s3.region.clone(),
                endpoint: s3.endpoint.clone(),
                path_style: s3.path_style,
                storage_class: s3.storage_class.clone(),
                kms_key: s3.kms_key.clone(),
                ..Target::of(TargetKind::S3)
            };
            (target, keys(credential))
        }
        Some(Kind::Gcs(gcs)) => {
            let account = !credential.service_account_json.is_empty();
            let kind = if account { TargetKind::GcsServiceAccount } else { TargetKind::GcsHmac };
            let target = Target {
                bucket: gcs.bucket.clone(),
                region: gcs.region.clone(),
                endpoint: gcs.endpoint.clone(),
                storage_class: gcs.storage_class.clone(),
                ..Target::of(kind)
            };
            let credential = match account {
                true => Credential::ServiceAccountJson(credential.service_account_json),
                false => keys(credential),
            };
            (target, credential)
        }
        Some(Kind::FileSystem(folder)) => {
            (Target::file_system(library_root, folder.directory.clone()), Credential::None)
        }
        None => (Target::file_system(library_root, ""), Credential::None),
    }
}

fn shown(step: &store::Step) -> Step {
    match &step.error {
        Some(error) => failed(step.name, error, step.seconds),
        None => Step { step: step.name.to_owned(), ok: step.ok, error: None, seconds: step.seconds },
    }
}

fn failed(step: &str, error: &store::Error, seconds: f64) -> Step {
    let problem = Problem::destination("STORAGE_FAILED", error.to_string())
        .with_metadata("provider_code", error.code.clone())
        .with_metadata("provider_message", error.message.clone());
    Step { step: step.to_owned(), ok: false, error: Some(problem.into()), seconds }
}

fn timed_out(step: &str) -> Step {
    let problem = Problem::new(Code::DeadlineExceeded, "STORAGE_FAILED", "the storage did not answer in time");
    Step { step: step.to_owned(), ok: false, error: Some(problem.into()), seconds: LIMIT.as_secs_f64() }
}
