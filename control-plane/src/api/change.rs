//! Every call that changes something: one transaction, its events, the directives that follow from it, and the reply
//! kept under the request_id.
use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::{AnyConnection, events, idempotency};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};

use super::Api;
use crate::directives::compile;
use crate::directives::source::Source;

/// How a call wants to be carried out.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Full name of the method: the same request_id of another method is another request.
    pub method: &'static str,
    /// Empty = none.
    pub request_id: String,
    /// Do everything, reply, and undo it.
    pub validate_only: bool,
}

impl Call {
    /// A call that changes something and cannot be rehearsed or repeated by id.
    pub fn plain(method: &'static str) -> Self {
        Self { method, ..Self::default() }
    }
}

/// The transaction of a change.
pub struct Tx<'a> {
    /// For queries.
    pub connection: &'a mut AnyConnection,
    /// When the call came.
    pub now: DateTime<Utc>,
    /// What every service needs.
    pub api: &'a Api,
    /// What was changed since directives were compiled.
    touched: BTreeSet<Source>,
}

impl Tx<'_> {
    /// [`Tx::now`] as the database keeps it.
    pub fn micros(&self) -> i64 {
        time::micros(self.now)
    }

    /// A new `uid`.
    pub fn uid(&self) -> String {
        self.api.mint.ulid(self.now).to_string()
    }

    /// Appends an event about a resource as it is now.
    ///
    /// # Errors
    /// When the database fails.
    pub fn event(&mut self, kind: &str, subject: &str, resource: &impl Message) -> Result<(), Problem> {
        let (id, time) = (self.uid(), self.micros());
        events::append(self.connection, &id, kind, subject, time, resource.encode_to_vec())?;
        Ok(())
    }

    /// Notes that a row that directives are compiled from was changed, made or removed.
    pub fn touch(&mut self, source: Source) {
        self.touched.insert(source);
    }

    /// Brings the directives in line with what was changed.
    ///
    /// # Errors
    /// When the database fails.
    pub fn recompile(&mut self) -> Result<(), Problem> {
        compile::follow(self.connection, &std::mem::take(&mut self.touched), self.now)?;
        Ok(())
    }
}

/// Leaves a transaction without committing it.
enum Abort<T> {
    Failed(Problem),
    Rehearsed(T),
}

impl<T> From<recorder_db::Error> for Abort<T> {
    fn from(error: recorder_db::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl<T> From<Problem> for Abort<T> {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}

impl Api {
    /// Runs a change in one transaction. `request` is what the request_id stands for.
    pub(crate) async fn change<Request, Reply>(
        &self,
        call: Call,
        request: Request,
        body: impl FnOnce(&mut Tx<'_>, Request) -> Result<Reply, Problem> + Send + 'static,
    ) -> Result<Reply, Problem>
    where
        Request: Message + 'static,
        Reply: Message + Default + 'static,
    {
        check_request_id(&call.request_id)?;
        let api = self.clone();
        let outcome = self.db.write(move |connection| {
            let now = api.now();
            // Keyed, because the request may hold a secret that could be guessed from a plain hash.
            let body_hash = api.tokens.keyed_hash(&[b"request", call.method.as_bytes(), &request.encode_to_vec()]);
            let repeatable = !call.request_id.is_empty() && !call.validate_only;
            if repeatable && let Some(reply) = kept_reply(connection, &call, &body_hash, now)? {
                return Ok(reply);
            }
            let mut tx = Tx { connection, now, api: &api, touched: BTreeSet::new() };
            let reply = body(&mut tx, request)?;
            if call.validate_only {
                return Err(Abort::Rehearsed(reply));
            }
            if repeatable {
                keep_reply(connection, call, &body_hash, &reply, now)?;
            }
            Ok(reply)
        });
        match outcome.await {
            Ok(reply) | Err(Abort::Rehearsed(reply)) => Ok(reply),
            Err(Abort::Failed(problem)) => Err(problem),
        }
    }
}

fn check_request_id(request_id: &str) -> Result<(), Problem> {
    let mut violations = Violations::new();
    let characters = request_id.chars().count();
    let sound = characters <= limits::REQUEST_ID_MAX_CHARACTERS && !request_id.chars().any(char::is_control);
    let most = limits::REQUEST_ID_MAX_CHARACTERS;
    violations.check(
        sound,
        "request_id",
        format!("must be at most {most} characters without control characters, got {characters}"),
    );
    violations.finish()
}

fn kept_reply<Reply: Message + Default>(
    connection: &mut AnyConnection,
    call: &Call,
    body_hash: &[u8],
    now: DateTime<Utc>,
) -> Result<Option<Reply>, Problem> {
    let Some(kept) = idempotency::get(connection, &call.request_id, time::micros(now))? else { return Ok(None) };
    if kept.method != call.method || kept.body_hash != body_hash {
        return Err(Problem::request_id_reused());
    }
    let reply = Reply::decode(kept.reply.as_slice());
    reply.map(Some).map_err(|_| Problem::internal("the reply kept under this request_id cannot be read"))
}

fn keep_reply(
    connection: &mut AnyConnection,
    call: Call,
    body_hash: &[u8],
    reply: &impl Message,
    now: DateTime<Utc>,
) -> Result<(), Problem> {
    let row = idempotency::Row {
        request_id: call.request_id,
        method: call.method.to_owned(),
        body_hash: body_hash.to_vec(),
        reply: reply.encode_to_vec(),
        expire_time: time::micros(now).saturating_add(micros(limits::REQUEST_ID_RETENTION)),
    };
    Ok(idempotency::put(connection, &row, time::micros(now))?)
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
