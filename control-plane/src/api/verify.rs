//! VerifyRecording: finds what there is to verify, and where.
use std::pin::Pin;
use std::time::Duration;

use recorder_db::recordings;
use recorder_db::{AnyConnection, files, storages};
use recorder_proto::Problem;
use recorder_proto::names::RecordingName;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::verify_recording_request::Depth;
use recorder_runtime::secret::Sealer;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::validate::only_name;
use super::watch::Watches;
use super::{probe, secrets};
use crate::verify::{self, File, Job, Place};

/// What the rpc answers with.
pub type Messages = Pin<Box<dyn Stream<Item = Result<v1::VerifyRecordingResponse, Status>> + Send>>;

/// Verifications at once: each holds a few pieces of what it reads, and all share the line to the storages.
pub const AT_ONCE: usize = 8;

/// When to ask again while too many run.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Results that wait for a client that reads slowly; reading the storage waits as well then.
const QUEUE: usize = 16;

/// Begins a verification.
pub(super) async fn open(watches: Watches, request: v1::VerifyRecordingRequest) -> Result<Messages, Problem> {
    let name: RecordingName = only_name("name", &request.name)?;
    let depth = Depth::try_from(request.depth);
    let depth = depth.map_err(|_| Problem::invalid_field("depth", "must be FULL or HEAD"))?;
    let permit = watches.verifications.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::rate_limited(RETRY_AFTER))?;
    let (sealer, root) = (watches.api.sealer.clone(), watches.api.library_root.clone());
    let mut job = watches.api.db.read(move |db| job(db, &sealer, &root, name)).await?;
    job.deep = depth != Depth::Head;
    let (told, messages) = mpsc::channel(QUEUE);
    let drain = watches.drain.clone();
    tokio::spawn(async move {
        let _permit = permit;
        let last = told.clone();
        tokio::select! {
            () = verify::run(job, told) => {}
            () = drain.draining() => {
                // A client that is gone needs no reason.
                let _ = last.try_send(Err(Problem::shutting_down(Duration::from_secs(1)).into()));
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(messages)))
}

fn job(
    db: &mut AnyConnection,
    sealer: &Sealer,
    library: &std::path::Path,
    name: RecordingName,
) -> Result<Job, Problem> {
    let row = recordings::get(db, &name.0.to_string())?;
    let row = row.ok_or_else(|| Problem::not_found("recording", &name.to_string()))?;
    let mut ids: Vec<String> = Vec::new();
    let mut place = |id: &str| {
        ids.iter().position(|known| known == id).unwrap_or_else(|| {
            ids.push(id.to_owned());
            ids.len() - 1
        })
    };
    let available = v1::file::State::Available as i32;
    let mut files = Vec::new();
    for file in files::of_recording(db, &row.id)?.into_iter().filter(|file| file.state == available) {
        files.push(File { place: place(&file.storage), file: file.file()? });
    }
    let manifest = row.recording()?.manifest.map(|manifest| {
        let at = place(manifest.storage.strip_prefix("storages/").unwrap_or(&manifest.storage));
        (manifest, at)
    });
    let places = ids.iter().map(|id| described(db, sealer, library, id)).collect::<Result<_, Problem>>()?;
    Ok(Job { manifest, files, places, deep: true })
}

/// Where a storage is; one that was deleted since is a finding, not a failure of the call.
fn described(db: &mut AnyConnection, sealer: &Sealer, library: &std::path::Path, id: &str) -> Result<Place, Problem> {
    let Some(row) = storages::get(db, id)? else {
        return Ok(Err(Problem::not_found("storage", &format!("storages/{id}"))));
    };
    let credential = secrets::credential(db, sealer, &row)?;
    Ok(Ok(probe::described(library, &row.storage()?, credential)))
}
