//! DeleteRecording: the record, and on demand everything it has in storages.
use std::time::Duration;

use chrono::{DateTime, Utc};
use recorder_db::deletions::{self, Row};
use recorder_db::{AnyConnection, nodes, recordings, storages};
use recorder_proto::names::RecordingName;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::node::State as NodeState;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::{Problem, time};
use tonic::Code;

use super::Api;
use super::validate::{etag, expect_etag, only_name};
use crate::deletion::{self, Outcome};
use crate::ledger;

/// How long a call waits for the objects to be gone; a deletion that takes longer goes on by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// When to ask again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Answers DeleteRecording: OK means that all that was asked for is gone.
pub(super) async fn delete(api: &Api, request: v1::DeleteRecordingRequest) -> Result<(), Problem> {
    let name: RecordingName = only_name("name", &request.name)?;
    let (id, now) = (name.0.to_string(), api.now());
    let of_rows = id.clone();
    let has_objects = api.db.write(move |db| begin(db, &of_rows, &request, now)).await?;
    if !has_objects {
        return Ok(());
    }
    // On its own: it goes on when the caller leaves.
    let (api, recording) = (api.clone(), id.clone());
    let attempt = tokio::spawn(async move { deletion::attempt(&api, &recording).await });
    match tokio::time::timeout(PATIENCE, attempt).await {
        Ok(Ok(Ok(Outcome::Gone))) => Ok(()),
        Ok(Ok(Ok(Outcome::Left(problem)))) => Err(pending(&name, &problem.message)),
        Ok(Ok(Err(problem))) => Err(pending(&name, &problem.message)),
        Ok(Err(error)) => Err(Problem::internal(error.to_string())),
        Err(_) => Err(pending(&name, "there is much to delete")),
    }
}

/// Notes what is to be deleted; without objects the record goes at once. Whether there are objects to delete.
fn begin(
    db: &mut AnyConnection,
    id: &str,
    request: &v1::DeleteRecordingRequest,
    now: DateTime<Utc>,
) -> Result<bool, Problem> {
    let name = format!("recordings/{id}");
    let row = recordings::get(db, id)?.ok_or_else(|| Problem::not_found("recording", &name))?;
    expect_etag(&request.etag, &etag(&row.id, row.rev))?;
    check_over(db, &row, &name)?;
    let known = deletions::get(db, id)?;
    if let Some(pending) = known {
        // Asked for before: its objects go, whatever is asked for now. Not by and by, but at once.
        deletions::postpone(db, &pending.recording, Some(time::micros(now)))?;
        return Ok(true);
    }
    let objects = if request.delete_objects { deletion::known_objects(db, &row)? } else { Vec::new() };
    for object in &objects {
        if storages::get(db, &object.storage)?.is_none() {
            let storage = format!("storages/{}", object.storage);
            let message = format!(
                "{name} has objects in {storage}, which is not known here any more; create it again, or delete without \
                 delete_objects"
            );
            return Err(Problem::wrong_state("STORAGE_UNKNOWN", &storage, message));
        }
    }
    let next_time = request.delete_objects.then(|| time::micros(now));
    deletions::insert(
        db,
        &Row {
            recording: id.to_owned(),
            objects: request.delete_objects,
            attempts: 0,
            next_time,
            last_error: None,
            request_time: time::micros(now),
        },
    )?;
    for object in &objects {
        deletions::add_object(db, object)?;
    }
    if !request.delete_objects {
        deletion::remove(db, &row, now)?;
    }
    Ok(request.delete_objects)
}

/// What is being recorded, or on its way to a storage, is not deleted.
fn check_over(db: &mut AnyConnection, row: &recordings::Row, name: &str) -> Result<(), Problem> {
    if !ledger::is_over(row)? {
        let state = State::try_from(row.state).unwrap_or_default();
        let remedy = match state {
            State::Finalizing => "wait until its files are settled (RetryUploads, ForgetNode of a node that is gone)",
            _ => "stop it first (StopRecording)",
        };
        let message = format!("{name} is {}; {remedy}", state.as_str_name());
        return Err(Problem::wrong_state("RECORDING_RUNNING", name, message));
    }
    if ledger::is_presumed(row)? {
        let node = nodes::get(db, &row.node)?.filter(|node| node.state != NodeState::Drained as i32);
        if let Some(node) = node {
            let subject = format!("nodes/{}", node.id);
            let message = format!(
                "{subject} has not told how {name} ended and may still record it; wait for the node, or forget it \
                 (ForgetNode)"
            );
            return Err(Problem::wrong_state("NODE_OWNS_MEDIA", &subject, message));
        }
    }
    Ok(())
}

/// Not all is gone yet. Nothing is forgotten: it goes on by itself.
fn pending(name: &RecordingName, why: &str) -> Problem {
    let message = format!("{name} is being deleted, and objects are left ({why}); that goes on until they are gone");
    let mut problem = Problem::new(Code::Unavailable, "DELETION_PENDING", message).about("recording", name.to_string());
    problem.details.retry_after = Some(RETRY_AFTER);
    problem
}
