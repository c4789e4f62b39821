//! WatchStreams: the streams that are published now, and every start, change and end.
use std::pin::Pin;

use prost::Message;
use recorder_db::streams::{self, Filter};
use recorder_db::{AnyConnection, Page, events};
use recorder_proto::Problem;
use recorder_proto::facts::event_type;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::WatchStreamsResponse;
use recorder_proto::pb::v1::watch_streams_response::Kind;
use tokio_stream::Stream;
use tonic::Status;

use super::stream::{shown, stream_filter};
use super::watch::{self, Follower, Scope, Watches, outlet};

/// What the rpc answers with.
pub type Messages = Pin<Box<dyn Stream<Item = Result<WatchStreamsResponse, Status>> + Send>>;

/// Current streams read at a time.
const CURRENT: i64 = 200;

/// Opens a watch. What is wrong with the request is told at once, everything else through the stream.
pub(super) async fn open(watches: Watches, request: v1::WatchStreamsRequest) -> Result<Messages, Problem> {
    let filter = stream_filter(request.stream.as_ref());
    let scoped = v1::WatchStreamsRequest { stream: request.stream, resume_token: String::new() };
    let scope = Scope::new("recorder.v1.StreamService/WatchStreams", &scoped);
    let resumed = match request.resume_token.as_str() {
        "" => None,
        token => Some(scope.sequence(&watches.api.tokens, token)?),
    };
    let first = filter.clone();
    let reading = watches.api.db.read(move |db| {
        if let Some(sequence) = resumed {
            watch::check_kept(db, sequence)?;
            return Ok((sequence, Vec::new()));
        }
        // The first page is as of the same moment as the sequence; what changes a later one meanwhile is told again.
        let last = u64::try_from(events::last(db)?).unwrap_or_default();
        Ok::<_, Problem>((last, page(db, &first, None)?))
    });
    let (sequence, current) = reading.await?;
    let (outlet, messages) = outlet();
    let kind = Streams { filter: filter.clone() };
    let mut follower = Follower::new(watches.clone(), kind, scope, sequence, outlet);
    tokio::spawn(async move {
        match tell(&watches, &filter, current, &mut follower).await {
            Ok(true) => follower.run().await,
            Ok(false) => {}
            Err(problem) => follower.fail(problem),
        }
    });
    Ok(Box::pin(messages))
}

/// Sends the current streams, newest first; false when the client is gone.
async fn tell(
    watches: &Watches,
    filter: &Filter,
    mut streams: Vec<(String, v1::Stream)>,
    follower: &mut Follower<Streams>,
) -> Result<bool, Problem> {
    while let Some(last) = streams.last().map(|(session, _)| session.clone()) {
        for (_, stream) in streams {
            let message =
                WatchStreamsResponse { kind: Kind::Current as i32, stream: Some(stream), resume_token: String::new() };
            if !follower.current(message).await {
                return Ok(false);
            }
        }
        let filter = filter.clone();
        streams = watches.api.db.read(move |db| page(db, &filter, Some(last))).await?;
    }
    Ok(true)
}

fn page(db: &mut AnyConnection, filter: &Filter, before: Option<String>) -> Result<Vec<(String, v1::Stream)>, Problem> {
    let rows = streams::page(db, filter, &Page { before, limit: CURRENT })?;
    rows.into_iter().map(|row| Ok((row.session.clone(), shown(db, &row)?))).collect()
}

struct Streams {
    filter: Filter,
}

impl Streams {
    fn matches(&self, stream: &v1::Stream) -> bool {
        let of = stream.stream.clone().unwrap_or_default();
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.filter.domain, &of.domain)
            && same(&self.filter.app, &of.app)
            && same(&self.filter.stream, &of.stream)
    }
}

impl watch::Kind for Streams {
    type Message = WatchStreamsResponse;

    fn change(&self, event: &events::Row, token: String) -> Option<WatchStreamsResponse> {
        let kind = match event.kind.as_str() {
            event_type::STREAM_STARTED => Kind::Started,
            event_type::STREAM_UPDATED => Kind::Updated,
            event_type::STREAM_ENDED => Kind::Ended,
            _ => return None,
        };
        let stream = v1::Stream::decode(event.body.as_slice()).ok().filter(|stream| self.matches(stream))?;
        Some(WatchStreamsResponse { kind: kind as i32, stream: Some(stream), resume_token: token })
    }

    fn bookmark(&self, token: String) -> WatchStreamsResponse {
        WatchStreamsResponse { kind: Kind::Bookmark as i32, stream: None, resume_token: token }
    }
}
