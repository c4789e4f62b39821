//! RetryUploads: has the node try at once what waits for its storage.
use chrono::{DateTime, Utc};
use recorder_db::{AnyConnection, files, recordings, storages};
use recorder_proto::Problem;
use recorder_proto::names::{RecordingName, StorageName};
use recorder_proto::pb::v1;
use recorder_proto::problem::Violations;

use super::Api;
use super::recording::shown;
use super::validate;
use crate::directives::{changelog, command};

/// Answers RetryUploads: the recording as it is; what has come of it are facts to come.
pub(super) async fn retry(api: &Api, request: v1::RetryUploadsRequest) -> Result<v1::Recording, Problem> {
    let mut violations = Violations::new();
    let name: Option<RecordingName> = validate::name(&mut violations, "name", &request.name);
    let storage: Option<StorageName> = validate::optional_name(&mut violations, "storage", &request.storage);
    violations.finish()?;
    let name = name.ok_or_else(|| Problem::internal("the name was neither read nor refused"))?;
    let now = api.now();
    let id = api.mint.ulid(now).to_string();
    api.db.write(move |db| order(db, &name, storage.as_ref(), &id, now)).await
}

fn order(
    db: &mut AnyConnection,
    name: &RecordingName,
    storage: Option<&StorageName>,
    id: &str,
    now: DateTime<Utc>,
) -> Result<v1::Recording, Problem> {
    let row = recordings::get(db, &name.0.to_string())?;
    let row = row.ok_or_else(|| Problem::not_found("recording", &name.to_string()))?;
    let of = files::of_recording(db, &row.id)?;
    let is = |file: &files::Row, states: &[v1::file::State]| states.iter().any(|state| *state as i32 == file.state);
    let waiting = of.iter().filter(|file| is(file, &[v1::file::State::Open, v1::file::State::Uploading]));
    let waiting: Vec<&files::Row> = waiting.collect();
    if let Some(other) = storage {
        check_storage(db, other, &waiting)?;
    }
    if waiting.is_empty() {
        let failed = of.iter().filter(|file| is(file, &[v1::file::State::Failed, v1::file::State::Lost])).count();
        if failed > 0 {
            let message = format!(
                "{failed} files of {name} failed for good or are lost, and none waits for its storage; a file whose \
                 bytes are kept is tried again when its node starts the next time"
            );
            return Err(Problem::wrong_state("NOTHING_TO_RETRY", &name.to_string(), message));
        }
        return Ok(shown(&row)?);
    }
    let epoch = u64::try_from(row.epoch).unwrap_or_default();
    changelog::put(db, &command::retry(&row.id, epoch, id), now)?;
    Ok(shown(&row)?)
}

/// Files stay with the storage (and its backup) of their template's revision.
fn check_storage(db: &mut AnyConnection, other: &StorageName, waiting: &[&files::Row]) -> Result<(), Problem> {
    storages::get(db, other.id())?.ok_or_else(|| Problem::not_found("storage", &other.to_string()))?;
    if waiting.iter().all(|file| file.storage == other.id()) {
        return Ok(());
    }
    let message = "must be empty or the storage that the files are on their way to; another one takes them when it is \
                   the backup of that (Storage.backup)";
    Err(Problem::invalid_field("storage", message))
}
