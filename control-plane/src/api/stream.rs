//! StreamService: live publishers, whether recorded or not.
use recorder_db::streams::{self, Filter, Row};
use recorder_db::{AnyConnection, Page, recordings};
use recorder_proto::Problem;
use recorder_proto::names::StreamName;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::stream_service_server::StreamService;
use recorder_proto::problem::Violations;
use tonic::{Request, Response, Status, async_trait};

use super::validate::only_name;
use super::watch::Watches;
use super::{Api, answer, disconnect, watch_streams};

/// Recordings of one publisher that are shown; one per template that matches, so there are few.
const MAX_RECORDINGS: i64 = 100;

#[async_trait]
impl StreamService for Watches {
    async fn list_streams(
        &self,
        request: Request<v1::ListStreamsRequest>,
    ) -> Result<Response<v1::ListStreamsResponse>, Status> {
        answer(list(&self.api, request.into_inner()).await)
    }

    async fn get_stream(&self, request: Request<v1::GetStreamRequest>) -> Result<Response<v1::Stream>, Status> {
        answer(get(&self.api, request.into_inner()).await)
    }

    type WatchStreamsStream = watch_streams::Messages;

    async fn watch_streams(
        &self,
        request: Request<v1::WatchStreamsRequest>,
    ) -> Result<Response<Self::WatchStreamsStream>, Status> {
        answer(watch_streams::open(self.clone(), request.into_inner()).await)
    }

    async fn disconnect_publisher(
        &self,
        request: Request<v1::DisconnectPublisherRequest>,
    ) -> Result<Response<v1::Stream>, Status> {
        answer(disconnect::disconnect(self, request.into_inner()).await)
    }
}

async fn list(api: &Api, request: v1::ListStreamsRequest) -> Result<v1::ListStreamsResponse, Problem> {
    let mut violations = Violations::new();
    let filter = stream_filter(request.stream.as_ref());
    let list = v1::ListStreamsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let method = "recorder.v1.StreamService/ListStreams";
    let paging = api.tokens.paging(&mut violations, method, &list, request.page_size, &request.page_token);
    violations.finish()?;
    let (page, tokens) = (paging.page(), api.tokens.clone());
    api.db
        .read(move |db| {
            let mut rows = streams::page(db, &filter, &page)?;
            let next_page_token = tokens.next(&paging, &mut rows, |row| row.session.clone());
            let streams = rows.iter().map(|row| shown(db, row)).collect::<Result<_, Problem>>()?;
            Ok(v1::ListStreamsResponse { streams, next_page_token })
        })
        .await
}

async fn get(api: &Api, request: v1::GetStreamRequest) -> Result<v1::Stream, Problem> {
    let name: StreamName = only_name("name", &request.name)?;
    api.db
        .read(move |db| {
            // A publisher that has left is no stream any more; its recordings are still there.
            let live = streams::get(db, &name.0.to_string())?.filter(|row| row.end_time.is_none());
            let row = live.ok_or_else(|| Problem::not_found("stream", &name.to_string()))?;
            shown(db, &row)
        })
        .await
}

/// What both List and Watch filter by.
pub(super) fn stream_filter(stream: Option<&v1::StreamRef>) -> Filter {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let stream = stream.cloned().unwrap_or_default();
    let domain = stream.domain.strip_prefix("domains/").unwrap_or(&stream.domain).to_ascii_lowercase();
    Filter { domain: given(&domain), app: given(&stream.app), stream: given(&stream.stream), ..Filter::default() }
}

/// The stream with its recordings as the claims and facts tell them, which is more than its own last report knew.
pub(super) fn shown(db: &mut AnyConnection, row: &Row) -> Result<v1::Stream, Problem> {
    let filter = recordings::Filter { session: Some(row.session.clone()), ..recordings::Filter::default() };
    let of_session = recordings::page(db, &filter, &Page { before: None, limit: MAX_RECORDINGS })?;
    let mut stream = row.stream()?;
    for recording in of_session {
        let name = format!("recordings/{}", recording.id);
        if !stream.recordings.contains(&name) {
            stream.recordings.push(name);
        }
    }
    Ok(stream)
}
