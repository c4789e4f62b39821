//! WatchEvents: every event of a filter, from now or from a token on.
use std::pin::Pin;

use recorder_db::events;
use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::WatchEventsResponse;
use recorder_proto::problem::Violations;
use tokio_stream::Stream;
use tonic::Status;

use super::events::subject;
use super::watch::{self, Follower, Scope, Watches, outlet};
use crate::domain::event::Types;
use crate::event_data;

/// What the rpc answers with.
pub type Messages = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

/// Where a token is good: the same types and subject, in a list or in a watch.
pub(super) fn scope(types: &[String], subject: &str) -> Scope {
    let request =
        v1::WatchEventsRequest { types: types.to_vec(), subject: subject.to_owned(), resume_token: String::new() };
    Scope::new("recorder.v1.EventService/WatchEvents", &request)
}

/// Opens a watch. What is wrong with the request is told at once, everything else through the stream.
pub(super) async fn open(watches: Watches, request: v1::WatchEventsRequest) -> Result<Messages, Problem> {
    let mut violations = Violations::new();
    let types = Types::read(&mut violations, "types", &request.types);
    subject(&mut violations, &request.subject);
    violations.finish()?;
    let scope = scope(&request.types, &request.subject);
    let resumed = match request.resume_token.as_str() {
        "" => None,
        token => Some(scope.sequence(&watches.api.tokens, token)?),
    };
    let reading = watches.api.db.read(move |db| match resumed {
        Some(sequence) => watch::check_kept(db, sequence).map(|()| sequence),
        None => Ok::<_, Problem>(u64::try_from(events::last(db)?).unwrap_or_default()),
    });
    let sequence = reading.await?;
    let (outlet, messages) = outlet();
    let kind = Events { types, subject: request.subject };
    tokio::spawn(Follower::new(watches, kind, scope, sequence, outlet).run());
    Ok(Box::pin(messages))
}

struct Events {
    types: Types,
    /// Empty = every one.
    subject: String,
}

impl watch::Kind for Events {
    type Message = WatchEventsResponse;

    fn change(&self, event: &events::Row, token: String) -> Option<WatchEventsResponse> {
        let wanted = self.types.wants(&event.kind) && (self.subject.is_empty() || self.subject == event.subject);
        wanted.then(|| WatchEventsResponse {
            event: Some(event_data::shown(event)),
            resume_token: token,
            bookmark: false,
        })
    }

    fn bookmark(&self, token: String) -> WatchEventsResponse {
        WatchEventsResponse { event: None, resume_token: token, bookmark: true }
    }
}
