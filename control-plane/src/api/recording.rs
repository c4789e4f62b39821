//! RecordingService: what was and is being recorded, and its files.
use chrono::{DateTime, Utc};
use recorder_db::files::{self, Position};
use recorder_db::recordings::{self, Filter, Row};
use recorder_db::{AnyConnection, Page};
use recorder_proto::names::{FileName, NodeName, RecordingName, TaskName, TemplateName};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::pb::v1::recording_service_server::RecordingService;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, time};
use tonic::{Request, Response, Status, async_trait};

use super::page::Paging;
use super::validate::{etag, only_name, optional_name};
use super::watch::Watches;
use super::{answer, delete_recording, playback, retry_uploads, verify, watch_recordings};
use crate::directives::{changelog, command};
use crate::ledger;
use crate::progress::Known;

const KIND: &str = "recording";

/// Rows looked at for one page when labels, which no index knows, decide; the page may be short then, its token goes on.
const MAX_SCANNED: usize = 10_000;

/// Rows read at a time while scanning.
const SCAN: i64 = 500;

#[async_trait]
impl RecordingService for Watches {
    async fn get_recording(
        &self,
        request: Request<v1::GetRecordingRequest>,
    ) -> Result<Response<v1::Recording>, Status> {
        answer(self.get(request.into_inner()).await)
    }

    async fn list_recordings(
        &self,
        request: Request<v1::ListRecordingsRequest>,
    ) -> Result<Response<v1::ListRecordingsResponse>, Status> {
        answer(self.list(request.into_inner()).await)
    }

    type WatchRecordingsStream = watch_recordings::Messages;

    async fn watch_recordings(
        &self,
        request: Request<v1::WatchRecordingsRequest>,
    ) -> Result<Response<Self::WatchRecordingsStream>, Status> {
        answer(watch_recordings::open(self.clone(), request.into_inner()).await)
    }

    async fn stop_recording(
        &self,
        request: Request<v1::StopRecordingRequest>,
    ) -> Result<Response<v1::Recording>, Status> {
        answer(self.stop(request.into_inner()).await)
    }

    async fn split_recording(
        &self,
        request: Request<v1::SplitRecordingRequest>,
    ) -> Result<Response<v1::Recording>, Status> {
        answer(self.split(request.into_inner()).await)
    }

    async fn retry_uploads(
        &self,
        request: Request<v1::RetryUploadsRequest>,
    ) -> Result<Response<v1::Recording>, Status> {
        answer(retry_uploads::retry(&self.api, request.into_inner()).await)
    }

    type VerifyRecordingStream = verify::Messages;

    async fn verify_recording(
        &self,
        request: Request<v1::VerifyRecordingRequest>,
    ) -> Result<Response<Self::VerifyRecordingStream>, Status> {
        answer(verify::open(self.clone(), request.into_inner()).await)
    }

    async fn delete_recording(&self, request: Request<v1::DeleteRecordingRequest>) -> Result<Response<()>, Status> {
        answer(delete_recording::delete(&self.api, request.into_inner()).await)
    }

    async fn get_file(&self, request: Request<v1::GetFileRequest>) -> Result<Response<v1::File>, Status> {
        answer(self.file(request.into_inner()).await)
    }

    async fn list_files(
        &self,
        request: Request<v1::ListFilesRequest>,
    ) -> Result<Response<v1::ListFilesResponse>, Status> {
        answer(self.files(request.into_inner()).await)
    }

    async fn generate_playback_url(
        &self,
        request: Request<v1::GeneratePlaybackUrlRequest>,
    ) -> Result<Response<v1::GeneratePlaybackUrlResponse>, Status> {
        answer(playback::generate(self, request.into_inner()).await)
    }
}

impl Watches {
    async fn get(&self, request: v1::GetRecordingRequest) -> Result<v1::Recording, Problem> {
        let name: RecordingName = only_name("name", &request.name)?;
        self.api
            .db
            .read(move |db| {
                let row = found(db, name)?;
                let known = Known::of(db, std::slice::from_ref(&row))?;
                shown_so_far(&row, &known)
            })
            .await
    }

    async fn list(&self, request: v1::ListRecordingsRequest) -> Result<v1::ListRecordingsResponse, Problem> {
        let mut violations = Violations::new();
        let filter = filter(&request, &mut violations);
        let list = v1::ListRecordingsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let paging = self.api.tokens.paging(
            &mut violations,
            "recorder.v1.RecordingService/ListRecordings",
            &list,
            request.page_size,
            &request.page_token,
        );
        violations.finish()?;
        let scope = watch_recordings::scope(request.stream.as_ref(), &request.states);
        let (labels, page) = (request.labels, paging.page());
        let (mut rows, scanned, head, known) = self
            .api
            .db
            .read(move |db| {
                let head = recorder_db::events::last(db)?;
                let (rows, scanned) = scan(db, &filter, &page, &labels)?;
                let known = Known::of(db, &rows)?;
                Ok::<_, Problem>((rows, scanned, head, known))
            })
            .await?;
        let next_page_token = self.next_page(&paging, &mut rows, scanned);
        let recordings = rows.iter().map(|row| shown_so_far(row, &known)).collect::<Result<_, _>>()?;
        let resume_token = scope.token(&self.api.tokens, u64::try_from(head).unwrap_or_default());
        Ok(v1::ListRecordingsResponse { recordings, next_page_token, resume_token })
    }

    /// A scan that stopped early goes on behind the last row it looked at, not the last one it found.
    fn next_page(&self, paging: &Paging, rows: &mut Vec<Row>, stopped_at: Option<String>) -> String {
        match stopped_at {
            Some(last) => self.api.tokens.continued(paging, &last),
            None => self.api.tokens.next(paging, rows, |row| row.id.clone()),
        }
    }

    /// Tells the node to finish; the facts tell when it has. A recording that is over already is shown as it is.
    async fn stop(&self, request: v1::StopRecordingRequest) -> Result<v1::Recording, Problem> {
        let name: RecordingName = only_name("name", &request.name)?;
        let now = self.api.now();
        self.api.db.write(move |db| stop(db, name, now)).await
    }

    /// Tells the node to begin new files at the next key frame; the facts tell when it has.
    async fn split(&self, request: v1::SplitRecordingRequest) -> Result<v1::Recording, Problem> {
        let name: RecordingName = only_name("name", &request.name)?;
        let now = self.api.now();
        let id = self.api.mint.ulid(now).to_string();
        self.api.db.write(move |db| split(db, name, &id, now)).await
    }

    async fn file(&self, request: v1::GetFileRequest) -> Result<v1::File, Problem> {
        let name: FileName = only_name("name", &request.name)?;
        let at =
            Position { format: v1::format::Kind::from(name.format) as i32, file_index: i64::from(name.index.get()) };
        let row = self.api.db.read(move |db| files::get(db, &name.recording.to_string(), at)).await?;
        Ok(row.ok_or_else(|| Problem::not_found("file", &name.to_string()))?.file()?)
    }

    async fn files(&self, request: v1::ListFilesRequest) -> Result<v1::ListFilesResponse, Problem> {
        let mut violations = Violations::new();
        let parent = violations.take("parent", request.parent.parse::<RecordingName>());
        for format in &request.formats {
            let known = v1::format::Kind::try_from(*format).is_ok();
            violations.check(known, "formats", format!("must be HLS, FLV, MP4 or AAC, got {format}"));
        }
        let list = v1::ListFilesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let paging = self.api.tokens.paging(
            &mut violations,
            "recorder.v1.RecordingService/ListFiles",
            &list,
            request.page_size,
            &request.page_token,
        );
        violations.finish()?;
        let parent = parent.ok_or_else(|| Problem::internal("parent was neither read nor refused"))?;
        let after = paging.cursor().and_then(position);
        let formats: Vec<i32> = request.formats.into_iter().filter(|format| *format != 0).collect();
        let limit = paging.page().limit;
        let mut rows = self
            .api
            .db
            .read(move |db| {
                let row = found(db, parent)?;
                Ok::<_, Problem>(files::page(db, &row.id, &formats, after, limit)?)
            })
            .await?;
        let next_page_token =
            self.api.tokens.next(&paging, &mut rows, |row| format!("{}-{}", row.format, row.file_index));
        let files = rows.iter().map(files::Row::file).collect::<Result<_, _>>()?;
        Ok(v1::ListFilesResponse { files, next_page_token })
    }
}

/// The recording as the API shows it.
pub(crate) fn shown(row: &Row) -> recorder_db::Result<v1::Recording> {
    Ok(v1::Recording { etag: etag(&row.id, row.rev), ..row.recording()? })
}

/// The same, with what its node has said since the last fact.
pub(super) fn shown_so_far(row: &Row, known: &Known) -> Result<v1::Recording, Problem> {
    let mut recording = shown(row)?;
    known.show(row, &mut recording)?;
    Ok(recording)
}

/// Sets what both List and Watch filter by.
pub(super) fn stream_filter(stream: Option<&v1::StreamRef>, states: &[i32], violations: &mut Violations) -> Filter {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let stream = stream.cloned().unwrap_or_default();
    let domain = stream.domain.strip_prefix("domains/").unwrap_or(&stream.domain).to_ascii_lowercase();
    for state in states {
        let known = State::try_from(*state).is_ok();
        violations.check(known, "states", format!("{state} is not a state of a recording"));
    }
    Filter {
        domain: given(&domain),
        app: given(&stream.app),
        stream: given(&stream.stream),
        states: states.iter().copied().filter(|state| *state != 0).collect(),
        ..Filter::default()
    }
}

fn filter(request: &v1::ListRecordingsRequest, violations: &mut Violations) -> Filter {
    let mut filter = stream_filter(request.stream.as_ref(), &request.states, violations);
    filter.task = optional_name::<TaskName>(violations, "task", &request.task).map(TaskName::into_id);
    filter.template =
        optional_name::<TemplateName>(violations, "template", &request.template).map(TemplateName::into_id);
    filter.node = optional_name::<NodeName>(violations, "node", &request.node).map(NodeName::into_id);
    let micros = |wire: &prost_types::Timestamp| time::datetime(wire).map(time::micros);
    filter.start_after = request.start_after.as_ref().and_then(micros);
    filter.start_before = request.start_before.as_ref().and_then(micros);
    filter
}

type Labels = std::collections::BTreeMap<String, String>;

/// Reads a page. With labels, rows are looked through until the page is full; the second value is the row at which that
/// was given up.
fn scan(
    db: &mut AnyConnection,
    filter: &Filter,
    page: &Page,
    labels: &Labels,
) -> Result<(Vec<Row>, Option<String>), Problem> {
    if labels.is_empty() {
        return Ok((recordings::page(db, filter, page)?, None));
    }
    let wanted = usize::try_from(page.limit).unwrap_or_default();
    let (mut found, mut before, mut scanned) = (Vec::new(), page.before.clone(), 0);
    loop {
        let rows = recordings::page(db, filter, &Page { before, limit: SCAN })?;
        scanned += rows.len();
        before = rows.last().map(|row| row.id.clone());
        let complete = i64::try_from(rows.len()).unwrap_or(i64::MAX) < SCAN;
        for row in rows {
            let of = row.recording()?.labels;
            if labels.iter().all(|(key, value)| of.get(key) == Some(value)) {
                found.push(row);
            }
        }
        if found.len() >= wanted {
            found.truncate(wanted);
            return Ok((found, None));
        }
        if complete {
            return Ok((found, None));
        }
        if scanned >= MAX_SCANNED {
            return Ok((found, before));
        }
    }
}

fn stop(db: &mut AnyConnection, name: RecordingName, now: DateTime<Utc>) -> Result<v1::Recording, Problem> {
    let row = found(db, name)?;
    let running = [State::Starting as i32, State::Recording as i32, State::Interrupted as i32];
    if running.contains(&row.state) {
        let epoch = u64::try_from(row.epoch).unwrap_or_default();
        changelog::put(db, &command::stop(&row.id, epoch), now)?;
    }
    Ok(shown(&row)?)
}

fn split(db: &mut AnyConnection, name: RecordingName, id: &str, now: DateTime<Utc>) -> Result<v1::Recording, Problem> {
    let row = found(db, name)?;
    let going_on = [State::Recording as i32, State::Interrupted as i32];
    if !going_on.contains(&row.state) {
        let state = State::try_from(row.state).unwrap_or_default().as_str_name();
        let message = format!("{name} is {state}; only what is being recorded can be split");
        return Err(Problem::wrong_state("RECORDING_NOT_RUNNING", &name.to_string(), message));
    }
    let epoch = u64::try_from(row.epoch).unwrap_or_default();
    changelog::put(db, &command::split(&row.id, epoch, id), now)?;
    Ok(shown(&ledger::split(db, row, now)?)?)
}

fn found(db: &mut AnyConnection, name: RecordingName) -> Result<Row, Problem> {
    recordings::get(db, &name.0.to_string())?.ok_or_else(|| Problem::not_found(KIND, &name.to_string()))
}

fn position(cursor: &str) -> Option<Position> {
    let (format, file_index) = cursor.split_once('-')?;
    Some(Position { format: format.parse().ok()?, file_index: file_index.parse().ok()? })
}
