//! GeneratePlaybackUrl: a URL that plays a file, or a recording's first one, without credentials.
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_db::AnyConnection;
use recorder_db::files::{self, Position};
use recorder_db::recordings;
use recorder_proto::names::{FileName, RecordingName};
use recorder_proto::pb::v1;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use tonic::Code;

use super::validate::Span;
use super::watch::Watches;
use crate::playback::{self, Signer};

const TTL: Span = Span::or(Duration::from_secs(1), limits::PLAYBACK_URL_TTL_MAX, limits::PLAYBACK_URL_TTL_DEFAULT);

/// What is to be played.
enum Asked {
    File(FileName),
    First(RecordingName),
}

/// Answers GeneratePlaybackUrl.
pub(super) async fn generate(
    watches: &Watches,
    request: v1::GeneratePlaybackUrlRequest,
) -> Result<v1::GeneratePlaybackUrlResponse, Problem> {
    let mut violations = Violations::new();
    let asked = match request.name.contains("/files/") {
        true => violations.take("name", request.name.parse()).map(Asked::File),
        false => violations.take("name", request.name.parse()).map(Asked::First),
    };
    let ttl = TTL.effective(&mut violations, "ttl", request.ttl.as_ref());
    violations.finish()?;
    let asked = asked.ok_or_else(|| Problem::internal("the name was neither read nor refused"))?;
    let api = watches.api.clone();
    let (file, storage, place) = api
        .clone()
        .db
        .read(move |db| {
            let row = playable(db, &asked)?;
            let file = row.file()?;
            let place = playback::place(&api, db, &row.storage)?;
            let name = format!("storages/{}", row.storage);
            let place = place.ok_or_else(|| {
                let message = format!("{} is in {name}, which is not known here any more", file.name);
                Problem::wrong_state("STORAGE_UNKNOWN", &name, message)
            })?;
            Ok::<_, Problem>((file, row.storage, place))
        })
        .await?;
    let until = ends(watches.api.now(), ttl);
    let url = url(watches, &file, &storage, place, ttl, until).await?;
    Ok(v1::GeneratePlaybackUrlResponse { url, expire_time: Some(time::timestamp(until)) })
}

async fn url(
    watches: &Watches,
    file: &v1::File,
    storage: &str,
    place: (store::Target, store::Credential),
    ttl: Duration,
    until: DateTime<Utc>,
) -> Result<String, Problem> {
    let bucket = playback::open(place).await?;
    if file.format() != v1::format::Kind::Hls && bucket.capabilities().presigns {
        return bucket.presign(&file.object_key, ttl).await.map_err(|error| playback::said(&error));
    }
    let path = Signer::new(&watches.api.tokens).path(storage, &file.object_key, until);
    Ok(format!("{}{path}", watches.playback_url))
}

/// To the second, as signatures say it.
fn ends(now: DateTime<Utc>, ttl: Duration) -> DateTime<Utc> {
    let until = now.checked_add_signed(TimeDelta::from_std(ttl).unwrap_or(TimeDelta::MAX));
    until.and_then(|until| DateTime::from_timestamp(until.timestamp(), 0)).unwrap_or(now)
}

fn playable(db: &mut AnyConnection, asked: &Asked) -> Result<files::Row, Problem> {
    let available = v1::file::State::Available as i32;
    match asked {
        Asked::File(name) => {
            let format = v1::format::Kind::from(name.format) as i32;
            let at = Position { format, file_index: i64::from(name.index.get()) };
            let row = files::get(db, &name.recording.to_string(), at)?;
            let row = row.ok_or_else(|| Problem::not_found("file", &name.to_string()))?;
            if row.state != available {
                let state = v1::file::State::try_from(row.state).unwrap_or_default().as_str_name();
                let message = format!("{name} is {state}; only what is AVAILABLE can be played");
                return Err(Problem::wrong_state("FILE_NOT_AVAILABLE", &name.to_string(), message));
            }
            Ok(row)
        }
        Asked::First(name) => {
            let id = name.0.to_string();
            let known = recordings::get(db, &id)?;
            known.ok_or_else(|| Problem::not_found("recording", &name.to_string()))?;
            let first = files::of_recording(db, &id)?.into_iter().find(|file| file.state == available);
            first.ok_or_else(|| {
                let message = format!("no file of {name} is AVAILABLE (yet)");
                Problem::new(Code::FailedPrecondition, "FILE_NOT_AVAILABLE", message)
            })
        }
    }
}
