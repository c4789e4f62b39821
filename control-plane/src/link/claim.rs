//! Claims: a node says that it records a stream, and under which id and epoch that counts from then on.
use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::claims;
use recorder_db::recordings::{self, Row};
use recorder_db::{AnyConnection, files};
use recorder_proto::ids::RecordingId;
use recorder_proto::names::{
    BindingName, RecordingName, RuleName, StorageName, StreamKey, StreamName, TaskName, TemplateName,
};
use recorder_proto::pb::node::{
    ClaimRecordingRequest, ClaimRecordingResponse, ValidateEpochsRequest, ValidateEpochsResponse,
};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::{Origin, State};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};

use super::Result;
use super::node;
use super::resume::{self, Wanted};
use crate::directives;
use crate::feed;
use crate::tasks;

/// Node, boot, session and template; generously bounded.
const MAX_CLAIM_KEY: usize = 512;
const MAX_VALIDATED: usize = 1000;

/// A claim that makes sense.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    node_epoch: u64,
    key: String,
    stream: StreamKey,
    origin: Origin,
    session: String,
    start: DateTime<Utc>,
    proposed: Option<RecordingId>,
    template: String,
    template_revision: u32,
    storage: String,
    protocol: i32,
    may_resume: bool,
    labels: std::collections::BTreeMap<String, String>,
}

impl Claim {
    /// Reads a request; every bad field is named.
    pub(super) fn parse(request: ClaimRecordingRequest, now: DateTime<Utc>) -> Result<Self> {
        let mut violations = Violations::new();
        let key = request.claim_key;
        let sound = !key.is_empty() && key.len() <= MAX_CLAIM_KEY && !key.chars().any(char::is_control);
        violations.check(sound, "claim_key", format!("must be 1 to {MAX_CLAIM_KEY} printable characters"));
        let wire = request.stream.unwrap_or_default();
        let stream = violations.take("stream", StreamKey::new(&wire.domain, &wire.app, &wire.stream));
        let origin = violations.take("origin", origin(&request.origin));
        let session = violations.take("session", optional::<StreamName>(&request.session));
        let template = violations.take("template", request.template.parse::<TemplateName>());
        let storage = violations.take("storage", optional::<StorageName>(&request.storage));
        let proposed = violations.take("proposed_recording", optional::<RecordingName>(&request.proposed_recording));
        let labels = request.labels;
        violations.check(labels.len() <= limits::LABELS_MAX, "labels", "must be those of the template");
        violations.finish()?;
        let (Some(stream), Some(origin), Some(session), Some(template), Some(storage), Some(proposed)) =
            (stream, origin, session, template, storage, proposed)
        else {
            return Err(Problem::internal("claim was neither read nor refused"));
        };
        Ok(Self {
            node_epoch: request.node_epoch,
            key,
            stream,
            origin,
            session: session.map(|name| name.0.to_string()).unwrap_or_default(),
            start: request.start_time.as_ref().and_then(time::datetime).unwrap_or(now),
            proposed: proposed.map(|name| name.0),
            template: template.into_id(),
            template_revision: request.template_revision,
            storage: storage.map(StorageName::into_id).unwrap_or_default(),
            protocol: request.protocol,
            may_resume: request.may_resume,
            labels,
        })
    }

    fn recording(&self, id: &str, node: &str, epoch: i64) -> v1::Recording {
        v1::Recording {
            name: format!("recordings/{id}"),
            stream: Some((&self.stream).into()),
            protocol: self.protocol,
            origin: Some(self.origin.clone()),
            template: format!("templates/{}", self.template),
            template_revision: self.template_revision,
            storage: if self.storage.is_empty() { String::new() } else { format!("storages/{}", self.storage) },
            labels: self.labels.clone(),
            state: State::Starting as i32,
            node: format!("nodes/{node}"),
            epoch: u64::try_from(epoch).unwrap_or_default(),
            start_time: Some(time::timestamp(self.start)),
            ..v1::Recording::default()
        }
    }
}

/// Makes the recording official, or hands over an interrupted one. The same key always gets the same answer; a recording
/// that a fact has made known already (the claim was late) only gets what the fact did not say.
pub(super) fn claim(
    connection: &mut AnyConnection,
    claim: &Claim,
    now: DateTime<Utc>,
) -> Result<ClaimRecordingResponse> {
    let node = node::by_epoch(connection, claim.node_epoch)?;
    if let Some(answered) = claims::get(connection, &claim.key)? {
        return repeat(connection, &answered);
    }
    let proposed = claim.proposed.unwrap_or_else(|| RecordingId::new(claim.start, rand::random())).to_string();
    let known = recordings::get(connection, &proposed)?;
    let waiting = if claim.may_resume && known.is_none() { waiting(connection, claim, now)? } else { None };
    let mut reply = match (known, waiting) {
        // An id that somebody else holds cannot be given out twice; ULIDs do not collide by chance.
        (Some(row), _) if row.node != node.id => {
            return Err(Problem::exists("recording", &format!("recordings/{proposed}")));
        }
        (Some(row), _) => fresh(&row.id.clone(), complete(connection, claim, row, now)?),
        (None, Some(waiting)) => {
            let epoch = waiting.row.epoch.saturating_add(1);
            tracing::info!(recording = waiting.row.id, from = waiting.row.node, node = node.id, epoch, "taken over");
            resume::take_over(connection, waiting, &node.id, &claim.session, now)?
        }
        (None, None) => fresh(&proposed, create(connection, claim, &proposed, &node.id, now)?),
    };
    if let Some(task) = task(&claim.origin).filter(|_| !reply.resumed) {
        let id = reply.recording.trim_start_matches("recordings/").to_owned();
        reply.first_of_task = directives::task::is_first(connection, &task, &id, &node.id)?;
    }
    let row = claims::Row {
        claim_key: claim.key.clone(),
        recording: reply.recording.trim_start_matches("recordings/").to_owned(),
        epoch: i64::try_from(reply.epoch).unwrap_or(i64::MAX),
        node: node.id,
        create_time: time::micros(now),
        reply: Some(reply.encode_to_vec()),
    };
    claims::insert(connection, &row)?;
    Ok(reply)
}

fn waiting(connection: &mut AnyConnection, claim: &Claim, now: DateTime<Utc>) -> Result<Option<resume::Waiting>> {
    let wanted = Wanted {
        stream: &claim.stream,
        origin: &claim.origin,
        template: &claim.template,
        template_revision: claim.template_revision,
        storage: &claim.storage,
    };
    resume::waiting(connection, &wanted, now)
}

/// The answer to a claim of a recording that nobody wrote before.
fn fresh(recording: &str, epoch: i64) -> ClaimRecordingResponse {
    ClaimRecordingResponse {
        recording: format!("recordings/{recording}"),
        epoch: u64::try_from(epoch).unwrap_or_default(),
        ..ClaimRecordingResponse::default()
    }
}

/// The answer as it was given. Rows of older releases lack it; those knew no takeovers.
fn repeat(connection: &mut AnyConnection, answered: &claims::Row) -> Result<ClaimRecordingResponse> {
    if let Some(reply) = &answered.reply {
        let unreadable = |source| recorder_db::Error::Malformed { table: "claims", source };
        return Ok(ClaimRecordingResponse::decode(reply.as_slice()).map_err(unreadable)?);
    }
    let files = files::of_recording(connection, &answered.recording)?;
    let earlier = files.iter().filter(|file| file.epoch < answered.epoch).map(|file| file.file_index + 1).max();
    let next_file_index = u32::try_from(earlier.unwrap_or(0)).unwrap_or(u32::MAX);
    Ok(ClaimRecordingResponse { next_file_index, ..fresh(&answered.recording, answered.epoch) })
}

/// Which of these recordings have been taken over: another node or a later epoch has them. One that is not known here
/// (its facts are on their way, or an older copy of the database was restored) is nobody else's.
pub(super) fn validate(
    connection: &mut AnyConnection,
    request: &ValidateEpochsRequest,
) -> Result<ValidateEpochsResponse> {
    if request.items.len() > MAX_VALIDATED {
        return Err(Problem::invalid_field("items", format!("must be up to {MAX_VALIDATED}")));
    }
    let node = node::by_epoch(connection, request.node_epoch)?;
    let mut stale = Vec::new();
    for item in &request.items {
        let name = item.recording.parse::<RecordingName>();
        let row = match name {
            Ok(name) => recordings::get(connection, &name.0.to_string())?,
            Err(_) => None,
        };
        let epoch = i64::try_from(item.epoch).unwrap_or(i64::MAX);
        // A higher epoch than ours was granted by a database that is no more: whoever has it goes on.
        let taken = |row: &Row| row.epoch > epoch || (row.epoch == epoch && row.node != node.id);
        if row.as_ref().is_some_and(taken) {
            stale.push(item.recording.clone());
        }
    }
    Ok(ValidateEpochsResponse { stale })
}

fn create(connection: &mut AnyConnection, claim: &Claim, id: &str, node: &str, now: DateTime<Utc>) -> Result<i64> {
    const FIRST_EPOCH: i64 = 1;
    let mut recording = claim.recording(id, node, FIRST_EPOCH);
    recording.update_time = Some(time::timestamp(now));
    let row = Row {
        id: id.to_owned(),
        rev: 1,
        domain: claim.stream.domain().to_owned(),
        app: claim.stream.app().to_owned(),
        stream: claim.stream.stream().to_owned(),
        state: recording.state,
        epoch: FIRST_EPOCH,
        node: node.to_owned(),
        template: claim.template.clone(),
        storage: claim.storage.clone(),
        task: task(&claim.origin),
        session: claim.session.clone(),
        start_time: time::micros(claim.start),
        update_time: time::micros(now),
        body: recording.encode_to_vec(),
        inherited: None,
    };
    recordings::insert(connection, &row)?;
    if let Some(task) = &row.task {
        tasks::follow(connection, task, now)?;
    }
    feed::recording(connection, feed::Stamp::fresh(now), feed::RECORDING_CREATED, &recording)?;
    Ok(FIRST_EPOCH)
}

/// The claim knows the plan; the facts know what happened. Each keeps its own.
fn complete(connection: &mut AnyConnection, claim: &Claim, mut row: Row, now: DateTime<Utc>) -> Result<i64> {
    let known = row.recording()?;
    let planned = claim.recording(&row.id, &row.node, row.epoch);
    let recording = v1::Recording {
        protocol: if known.protocol == 0 { planned.protocol } else { known.protocol },
        origin: known.origin.or(planned.origin),
        template: planned.template,
        template_revision: planned.template_revision,
        labels: planned.labels,
        storage: if known.storage.is_empty() { planned.storage } else { known.storage },
        ..known
    };
    row.body = recording.encode_to_vec();
    if row.storage.is_empty() {
        row.storage.clone_from(&claim.storage);
    }
    if row.session.is_empty() {
        row.session.clone_from(&claim.session);
    }
    row.update_time = time::micros(now);
    recordings::update(connection, &row)?;
    feed::recording(connection, feed::Stamp::fresh(now), feed::RECORDING_UPDATED, &recording)?;
    Ok(row.epoch)
}

/// What caused a recording, from the name of its directive's origin.
pub(crate) fn origin(name: &str) -> Result<Origin, String> {
    let rule = name.starts_with("rules/").then(|| name.parse::<RuleName>()).and_then(Result::ok);
    let task = name.starts_with("tasks/").then(|| name.parse::<TaskName>()).and_then(Result::ok);
    match (rule, task, name.parse::<BindingName>()) {
        (Some(rule), _, _) => Ok(Origin::Rule(rule.to_string())),
        (_, Some(task), _) => Ok(Origin::Task(task.to_string())),
        (_, _, Ok(binding)) => Ok(Origin::Binding(binding.to_string())),
        _ => Err("must be rules/{rule}, domains/{domain}/bindings/{binding} or tasks/{task}".to_owned()),
    }
}

/// The bare id of the task, if one asked for it.
pub(crate) fn task(origin: &Origin) -> Option<String> {
    match origin {
        Origin::Task(name) => name.parse::<TaskName>().ok().map(TaskName::into_id),
        Origin::Binding(_) | Origin::Rule(_) => None,
    }
}

fn optional<T: std::str::FromStr>(text: &str) -> Result<Option<T>, T::Err> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}
