//! RetryUploads: has the nodes try at once what waits for its storage or has failed, there or in another storage.
use chrono::{DateTime, Utc};
use recorder_db::{AnyConnection, files, recordings};
use recorder_proto::Problem;
use recorder_proto::names::{RecordingName, StorageName};
use recorder_proto::pb::node::plan::StorageRef;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::file::State;
use recorder_proto::problem::Violations;

use super::Api;
use super::recording::shown;
use super::validate;
use crate::directives::{changelog, command, compile, plan};

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
    let named = storage.map(|storage| reference(db, storage)).transpose()?;
    let left = Left::of(&files::of_recording(db, &row.id)?)?;
    if left.can_come == 0 {
        return if left.gone == 0 { Ok(shown(&row)?) } else { Err(left.nothing(name)) };
    }
    // Asked for again without a storage, they go where they were sent before.
    let before = changelog::get(db, &command::retry_name(&row.id))?;
    let target = named.or_else(|| before.and_then(command::retry_storage));
    let epoch = u64::try_from(row.epoch).unwrap_or_default();
    changelog::put(db, &command::retry(&row.id, epoch, id, target), now)?;
    Ok(shown(&row)?)
}

/// A storage as nodes are told of it.
fn reference(db: &mut AnyConnection, name: &StorageName) -> Result<StorageRef, Problem> {
    let known = compile::storages(db)?.by_name;
    let storage = known.get(&name.to_string()).ok_or_else(|| Problem::not_found("storage", &name.to_string()))?;
    Ok(plan::storage_ref(storage))
}

/// What of a recording is not in its storage.
#[derive(Default)]
struct Left {
    /// Files that wait, and those that failed and are kept by their node.
    can_come: usize,
    /// Files that failed for good or are lost.
    gone: usize,
}

impl Left {
    fn of(files: &[files::Row]) -> Result<Self, Problem> {
        let mut left = Self::default();
        for file in files {
            match State::try_from(file.state).unwrap_or_default() {
                State::Open | State::Uploading => left.can_come += 1,
                State::Failed if file.file()?.bytes_kept > 0 => left.can_come += 1,
                State::Failed | State::Lost => left.gone += 1,
                State::Available | State::Deleted | State::Unspecified => {}
            }
        }
        Ok(left)
    }

    fn nothing(&self, name: &RecordingName) -> Problem {
        let message = format!(
            "{} files of {name} failed for good or are lost, and none waits for its storage: no node keeps bytes of them \
             (File.bytes_kept)",
            self.gone
        );
        Problem::wrong_state("NOTHING_TO_RETRY", &name.to_string(), message)
    }
}
