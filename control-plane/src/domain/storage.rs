//! Storages: an S3 bucket, a Google bucket, or a folder of the library, with the credential that each needs.
use recorder_proto::key::check_prefix;
use recorder_proto::limits;
use recorder_proto::names::StorageName;
use recorder_proto::pb::node::FetchCredentialResponse;
use recorder_proto::pb::v1::Storage;
use recorder_proto::pb::v1::storage::{FileSystem, Gcs, S3, Target};
use recorder_proto::problem::Violations;

use crate::api::validate;

/// Where an S3-compatible server thinks it is when nobody says.
const S3_REGION: &str = "us-east-1";
/// What Google's S3-compatible API signs with.
const GCS_REGION: &str = "auto";
/// Characters of the provider's names for classes, roles and keys; the longest are ARNs of 2048.
const PROVIDER_NAME_MAX_CHARACTERS: usize = 2048;
const SCHEMES: [&str; 2] = ["https", "http"];

/// The storage as it takes effect, secrets included: checked, every default filled in, nothing that the server sets.
/// Violations are noted under `storage.`.
pub fn effective(id: &str, given: Storage, violations: &mut Violations) -> Storage {
    validate::labels(violations, "storage.labels", &given.labels);
    violations.take("storage.prefix", check_prefix(&given.prefix));
    let backup: Option<StorageName> = validate::optional_name(violations, "storage.backup", &given.backup);
    let own = backup.as_ref().is_some_and(|backup| backup.id() == id);
    violations.check(!own, "storage.backup", "must be another storage");
    let target = match given.target {
        Some(Target::S3(s3)) => Some(Target::S3(effective_s3(s3, violations))),
        Some(Target::Gcs(gcs)) => Some(Target::Gcs(effective_gcs(gcs, violations))),
        Some(Target::FileSystem(folder)) => Some(Target::FileSystem(effective_folder(folder, violations))),
        None => {
            violations.add("storage", "needs one of s3, gcs and file_system");
            None
        }
    };
    Storage {
        target,
        prefix: given.prefix,
        backup: backup.map(|backup| backup.to_string()).unwrap_or_default(),
        is_default: given.is_default,
        labels: given.labels,
        ..Storage::default()
    }
}

fn effective_s3(given: S3, violations: &mut Violations) -> S3 {
    bucket(violations, "storage.s3.bucket", &given.bucket);
    let amazon = given.endpoint.is_empty();
    let missing = given.region.is_empty();
    violations.check(!(amazon && missing), "storage.s3.region", "is required with Amazon S3, like ap-southeast-1");
    region(violations, "storage.s3.region", &given.region);
    endpoint(violations, "storage.s3.endpoint", &given.endpoint);
    let most = limits::ACCESS_KEY_ID_MAX_CHARACTERS;
    validate::word(violations, "storage.s3.access_key_id", &given.access_key_id, 1, most);
    required_secret(violations, "storage.s3.secret_access_key", &given.secret_access_key);
    validate::secret(violations, "storage.s3.session_token", &given.session_token, limits::SECRET_MAX_BYTES);
    for (field, text) in [
        ("storage.s3.role_arn", &given.role_arn),
        ("storage.s3.external_id", &given.external_id),
        ("storage.s3.storage_class", &given.storage_class),
        ("storage.s3.kms_key", &given.kms_key),
    ] {
        validate::word(violations, field, text, 0, PROVIDER_NAME_MAX_CHARACTERS);
    }
    let region = if missing && !amazon { S3_REGION.to_owned() } else { given.region };
    S3 { region, ..given }
}

fn effective_gcs(given: Gcs, violations: &mut Violations) -> Gcs {
    bucket(violations, "storage.gcs.bucket", &given.bucket);
    region(violations, "storage.gcs.region", &given.region);
    endpoint(violations, "storage.gcs.endpoint", &given.endpoint);
    let class = &given.storage_class;
    validate::word(violations, "storage.gcs.storage_class", class, 0, PROVIDER_NAME_MAX_CHARACTERS);
    let hmac = !given.access_key_id.is_empty() || !given.secret_access_key.is_empty();
    match (hmac, given.service_account_json.is_empty()) {
        (true, true) => {
            let most = limits::ACCESS_KEY_ID_MAX_CHARACTERS;
            validate::word(violations, "storage.gcs.access_key_id", &given.access_key_id, 1, most);
            required_secret(violations, "storage.gcs.secret_access_key", &given.secret_access_key);
        }
        (false, false) => service_account(violations, &given.service_account_json),
        (true, false) => violations.add("storage.gcs", "takes HMAC keys or a service account, not both"),
        (false, true) => {
            violations.add("storage.gcs", "needs access_key_id and secret_access_key, or service_account_json");
        }
    }
    let region = if given.region.is_empty() { GCS_REGION.to_owned() } else { given.region };
    Gcs { region, ..given }
}

fn effective_folder(given: FileSystem, violations: &mut Violations) -> FileSystem {
    // The same rules as for a prefix: relative, visible, no way upwards.
    let directory = given.directory.trim_end_matches('/').to_owned();
    let absolute = given.directory.starts_with('/') || given.directory.contains('\\');
    if violations.check(!absolute, "storage.file_system.directory", "must be relative to the library root") {
        violations.take("storage.file_system.directory", check_prefix(&directory));
    }
    FileSystem { directory }
}

/// R35: 1 to 100 characters; the rest is up to the provider, which tells in TestStorage.
fn bucket(violations: &mut Violations, field: &str, text: &str) {
    let most = limits::BUCKET_MAX_CHARACTERS;
    if validate::word(violations, field, text, 1, most) {
        let sound = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
        violations.check(sound, field, "must consist of letters, digits, `-`, `.` and `_`");
    }
}

/// R36: up to 100 characters.
fn region(violations: &mut Violations, field: &str, text: &str) {
    if validate::word(violations, field, text, 0, limits::REGION_MAX_CHARACTERS) {
        let sound = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        violations.check(sound, field, "must consist of letters, digits, `-` and `_`, like ap-southeast-1");
    }
}

fn endpoint(violations: &mut Violations, field: &str, text: &str) {
    if !text.is_empty() {
        validate::url(violations, field, text, &SCHEMES, true);
    }
}

fn required_secret(violations: &mut Violations, field: &str, text: &str) {
    if violations.check(!text.is_empty(), field, "is required") {
        validate::secret(violations, field, text, limits::SECRET_MAX_BYTES);
    }
}

fn service_account(violations: &mut Violations, text: &str) {
    let field = "storage.gcs.service_account_json";
    let most = limits::SECRET_MAX_BYTES;
    if !violations.check(text.len() <= most, field, format!("must be at most {most} bytes, got {}", text.len())) {
        return;
    }
    let file: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let has = |key: &str| file.as_ref().and_then(|file| file.get(key)).is_some_and(serde_json::Value::is_string);
    violations.check(
        has("client_email") && has("private_key"),
        field,
        "must be the key file of a service account: JSON with client_email and private_key",
    );
}

/// Takes the credential out of a storage: what is sealed, and the rest, which anybody may read.
pub fn split(mut storage: Storage) -> (Storage, FetchCredentialResponse) {
    let mut credential = FetchCredentialResponse::default();
    match &mut storage.target {
        Some(Target::S3(s3)) => {
            credential.access_key_id.clone_from(&s3.access_key_id);
            credential.secret_access_key = std::mem::take(&mut s3.secret_access_key);
            credential.session_token = std::mem::take(&mut s3.session_token);
        }
        Some(Target::Gcs(gcs)) => {
            credential.access_key_id.clone_from(&gcs.access_key_id);
            credential.secret_access_key = std::mem::take(&mut gcs.secret_access_key);
            credential.service_account_json = std::mem::take(&mut gcs.service_account_json);
        }
        Some(Target::FileSystem(_)) | None => {}
    }
    (storage, credential)
}

/// The reverse of [`split`].
pub fn join(mut storage: Storage, credential: &FetchCredentialResponse) -> Storage {
    match &mut storage.target {
        Some(Target::S3(s3)) => {
            s3.secret_access_key.clone_from(&credential.secret_access_key);
            s3.session_token.clone_from(&credential.session_token);
        }
        Some(Target::Gcs(gcs)) => {
            gcs.secret_access_key.clone_from(&credential.secret_access_key);
            gcs.service_account_json.clone_from(&credential.service_account_json);
        }
        Some(Target::FileSystem(_)) | None => {}
    }
    storage
}

/// Secrets that an update leaves empty stay as they are (`current` holds them), except those that the new kind of
/// credential replaces.
pub fn keep_secrets(current: &Storage, patch: &Storage, updated: &mut Storage) {
    match (&current.target, &patch.target, &mut updated.target) {
        (Some(Target::S3(old)), Some(Target::S3(_)), Some(Target::S3(new))) => keep_s3(old, new),
        (Some(Target::Gcs(old)), Some(Target::Gcs(given)), Some(Target::Gcs(new))) => keep_gcs(old, given, new),
        _ => {}
    }
}

/// The secret of another access key id would be of no use.
fn keep_s3(old: &S3, new: &mut S3) {
    if !new.secret_access_key.is_empty() || new.access_key_id != old.access_key_id {
        return;
    }
    new.secret_access_key.clone_from(&old.secret_access_key);
    if new.session_token.is_empty() {
        new.session_token.clone_from(&old.session_token);
    }
}

fn keep_gcs(old: &Gcs, given: &Gcs, new: &mut Gcs) {
    let (hmac, account) = (!given.secret_access_key.is_empty(), !given.service_account_json.is_empty());
    if account && !hmac && given.access_key_id.is_empty() {
        new.access_key_id.clear();
        new.secret_access_key.clear();
    } else if hmac && !account {
        new.service_account_json.clear();
    } else if !account && new.service_account_json.is_empty() && new.secret_access_key.is_empty() {
        new.service_account_json.clone_from(&old.service_account_json);
        if new.access_key_id == old.access_key_id {
            new.secret_access_key.clone_from(&old.secret_access_key);
        }
    }
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
