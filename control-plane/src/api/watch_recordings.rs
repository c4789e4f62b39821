//! WatchRecordings: the recordings of a filter, and every change of them and of their files.
use std::pin::Pin;

use prost::Message;
use recorder_db::recordings::{self, Filter, Row};
use recorder_db::{Page, events};
use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::WatchRecordingsResponse;
use recorder_proto::pb::v1::watch_recordings_response::Kind;
use recorder_proto::problem::Violations;
use tokio_stream::Stream;
use tonic::Status;

use super::recording::{shown, stream_filter};
use super::watch::{self, Follower, Scope, Watches, outlet};
use crate::feed;
use crate::progress::Round;

/// What the rpc answers with.
pub type Messages = Pin<Box<dyn Stream<Item = Result<WatchRecordingsResponse, Status>> + Send>>;

/// Current recordings read at a time.
const CURRENT: i64 = 500;

/// Where a token is good: the same streams and states, in a list or in a watch.
pub(super) fn scope(stream: Option<&v1::StreamRef>, states: &[i32]) -> Scope {
    let request = v1::WatchRecordingsRequest { stream: stream.cloned(), states: states.to_vec(), ..Default::default() };
    Scope::new("recorder.v1.RecordingService/WatchRecordings", &request)
}

/// Opens a watch. What is wrong with the request is told at once, everything else through the stream.
pub(super) async fn open(watches: Watches, request: v1::WatchRecordingsRequest) -> Result<Messages, Problem> {
    let mut violations = Violations::new();
    let filter = stream_filter(request.stream.as_ref(), &request.states, &mut violations);
    violations.finish()?;
    let scope = scope(request.stream.as_ref(), &request.states);
    let resumed = match request.resume_token.as_str() {
        "" => None,
        token => Some(scope.sequence(&watches.api.tokens, token)?),
    };
    let first = filter.clone();
    let initial = resumed.is_none() && !request.skip_initial;
    let (sequence, rows) = watches
        .api
        .db
        .read(move |db| {
            if let Some(sequence) = resumed {
                watch::check_kept(db, sequence)?;
                return Ok((sequence, Vec::new()));
            }
            let last = u64::try_from(events::last(db)?).unwrap_or_default();
            // The first rows are as of the same moment as the sequence; later ones may be a little newer, in which case
            // the changes that made them so are told again.
            let rows = if initial { page(db, &first, None)? } else { Vec::new() };
            Ok::<_, Problem>((last, rows))
        })
        .await?;
    let (outlet, messages) = outlet();
    let watch = Recordings { filter: filter.clone() };
    let mut follower = Follower::new(watches.clone(), watch, scope, sequence, outlet);
    tokio::spawn(async move {
        match current(&watches, &filter, rows, &mut follower).await {
            Ok(true) => follower.run().await,
            Ok(false) => {}
            Err(problem) => follower.fail(problem),
        }
    });
    Ok(Box::pin(messages))
}

/// Sends the current recordings, newest first; false when the client is gone.
async fn current(
    watches: &Watches,
    filter: &Filter,
    mut rows: Vec<Row>,
    follower: &mut Follower<Recordings>,
) -> Result<bool, Problem> {
    while let Some(last) = rows.last().map(|row| row.id.clone()) {
        let complete = i64::try_from(rows.len()).unwrap_or(i64::MAX) < CURRENT;
        for row in &rows {
            let message = WatchRecordingsResponse {
                kind: Kind::Current as i32,
                recording: Some(shown(row)?),
                ..WatchRecordingsResponse::default()
            };
            if !follower.current(message).await {
                return Ok(false);
            }
        }
        if complete {
            break;
        }
        let filter = filter.clone();
        rows = watches.api.db.read(move |db| page(db, &filter, Some(last))).await?;
    }
    Ok(true)
}

fn page(db: &mut recorder_db::AnyConnection, filter: &Filter, before: Option<String>) -> recorder_db::Result<Vec<Row>> {
    recordings::page(db, filter, &Page { before, limit: CURRENT })
}

struct Recordings {
    filter: Filter,
}

impl Recordings {
    fn matches(&self, recording: &v1::Recording) -> bool {
        let stream = recording.stream.clone().unwrap_or_default();
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.filter.domain, &stream.domain)
            && same(&self.filter.app, &stream.app)
            && same(&self.filter.stream, &stream.stream)
            && (self.filter.states.is_empty() || self.filter.states.contains(&recording.state))
    }
}

impl watch::Kind for Recordings {
    type Message = WatchRecordingsResponse;

    fn change(&self, event: &events::Row, token: String) -> Option<WatchRecordingsResponse> {
        let message = match event.kind.split('.').next()? {
            "recording" => WatchRecordingsResponse {
                kind: match event.kind.as_str() {
                    feed::RECORDING_CREATED => Kind::Created,
                    feed::RECORDING_DELETED => Kind::Deleted,
                    _ => Kind::Updated,
                } as i32,
                recording: Some(v1::Recording::decode(event.body.as_slice()).ok()?),
                file: None,
                resume_token: token,
            },
            "file" | "upload" => {
                let change = WatchRecordingsResponse::decode(event.body.as_slice()).ok()?;
                WatchRecordingsResponse { kind: Kind::Updated as i32, resume_token: token, ..change }
            }
            _ => return None,
        };
        message.recording.as_ref().is_some_and(|recording| self.matches(recording)).then_some(message)
    }

    const SHOWS_PROGRESS: bool = true;

    fn progress(&self, recording: &v1::Recording, token: String) -> Option<WatchRecordingsResponse> {
        self.matches(recording).then(|| WatchRecordingsResponse {
            kind: Kind::Updated as i32,
            recording: Some(recording.clone()),
            file: None,
            resume_token: token,
        })
    }

    fn lift(&self, message: &mut WatchRecordingsResponse, round: &Round) {
        message.recording.iter_mut().for_each(|recording| round.lift(recording));
    }

    fn bookmark(&self, token: String) -> WatchRecordingsResponse {
        WatchRecordingsResponse {
            kind: Kind::Bookmark as i32,
            resume_token: token,
            ..WatchRecordingsResponse::default()
        }
    }
}
