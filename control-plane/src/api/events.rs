//! EventService: what happened, listed newest first and watched as it goes on.
use recorder_db::AnyConnection;
use recorder_db::events::{self, Heads};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::event_service_server::EventService;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, time};
use tonic::{Request, Response, Status, async_trait};

use super::watch::Watches;
use super::{answer, watch_events};
use crate::domain::event::Types;
use crate::event_data;

/// Types looked at for one page, which no index knows; the page may be short then, its token goes on.
const MAX_SCANNED: usize = 10_000;

/// Rows looked at in one query.
const SCAN: i64 = 1000;

/// Bytes of a subject: the longest resource name and more.
const SUBJECT_MAX_BYTES: usize = 1024;

#[async_trait]
impl EventService for Watches {
    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        answer(list(self, request.into_inner()).await)
    }

    type WatchEventsStream = watch_events::Messages;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        answer(watch_events::open(self.clone(), request.into_inner()).await)
    }
}

async fn list(watches: &Watches, request: v1::ListEventsRequest) -> Result<v1::ListEventsResponse, Problem> {
    let mut violations = Violations::new();
    let types = Types::read(&mut violations, "types", &request.types);
    subject(&mut violations, &request.subject);
    let after = moment(&mut violations, "after", request.after.as_ref());
    let before = moment(&mut violations, "before", request.before.as_ref());
    let list = v1::ListEventsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let paging = watches.api.tokens.paging(
        &mut violations,
        "recorder.v1.EventService/ListEvents",
        &list,
        request.page_size,
        &request.page_token,
    );
    violations.finish()?;
    let scope = watch_events::scope(&request.types, &request.subject);
    let heads = Heads {
        subject: (!request.subject.is_empty()).then_some(request.subject),
        after,
        before,
        below: paging.cursor().and_then(|cursor| cursor.parse().ok()),
    };
    let limit = paging.page().limit;
    let (mut rows, stopped_at, last) = watches
        .api
        .db
        .read(move |db| {
            let last = events::last(db)?;
            let (found, stopped_at) = scan(db, heads, &types, usize::try_from(limit).unwrap_or_default())?;
            Ok::<_, Problem>((events::of_sequences(db, &found)?, stopped_at, last))
        })
        .await?;
    let next_page_token = match stopped_at {
        Some(sequence) => watches.api.tokens.continued(&paging, &sequence.to_string()),
        None => watches.api.tokens.next(&paging, &mut rows, |row| row.seq.to_string()),
    };
    let events = rows.iter().map(event_data::shown).collect();
    let resume_token = scope.token(&watches.api.tokens, u64::try_from(last).unwrap_or_default());
    Ok(v1::ListEventsResponse { events, next_page_token, resume_token })
}

/// Looks for events of the wanted types, newest first; the second value is where that was given up.
fn scan(
    db: &mut AnyConnection,
    mut heads: Heads,
    types: &Types,
    wanted: usize,
) -> Result<(Vec<i64>, Option<i64>), Problem> {
    let (mut found, mut scanned) = (Vec::new(), 0);
    loop {
        let rows = events::heads(db, &heads, SCAN)?;
        scanned += rows.len();
        let complete = i64::try_from(rows.len()).unwrap_or(i64::MAX) < SCAN;
        heads.below = rows.last().map(|(sequence, _)| *sequence);
        found.extend(rows.into_iter().filter(|(_, kind)| types.wants(kind)).map(|(sequence, _)| sequence));
        if found.len() >= wanted || complete {
            found.truncate(wanted);
            return Ok((found, None));
        }
        if scanned >= MAX_SCANNED {
            return Ok((found, heads.below));
        }
    }
}

/// A filter by subject is a name, or empty.
pub(super) fn subject(violations: &mut Violations, text: &str) {
    let sound = text.len() <= SUBJECT_MAX_BYTES && !text.chars().any(char::is_control);
    violations.check(sound, "subject", format!("must be a resource name of at most {SUBJECT_MAX_BYTES} bytes"));
}

fn moment(violations: &mut Violations, field: &str, wire: Option<&prost_types::Timestamp>) -> Option<i64> {
    let at = time::datetime(wire?);
    violations.check(at.is_some(), field, "must be a time of the calendar");
    at.map(time::micros)
}
