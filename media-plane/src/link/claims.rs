//! The claim of a recording, derived from the fact that it started: what is not yet delivered is not yet claimed, so
//! a restart needs no list of its own.

use chrono::{DateTime, Utc};
use media::GapReason;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use recorder_proto::facts::{Fact, FactKind};
use recorder_proto::ids::{Epoch, RecordingId};
use recorder_proto::names::RecordingName;
use recorder_proto::pb::{node, v1};
use recorder_proto::time::timestamp;

use crate::node::Node;
use crate::plans::Chosen;
use crate::publication::Publisher;
use crate::recording::{Grant, Inheritance, Inherited};

/// The claim that has to precede `fact`, if it starts a recording.
pub fn of_fact(wire: &node::Fact) -> Option<node::ClaimRecordingRequest> {
    let fact = Fact::try_from(wire).ok()?;
    let (Some(recording), FactKind::RecordingStarted(started)) = (fact.recording, fact.kind) else { return None };
    Some(node::ClaimRecordingRequest {
        claim_key: started.claim_key,
        stream: Some((&started.stream).into()),
        origin: started.origin,
        session: started.session.to_string(),
        start_time: Some(timestamp(started.start_time)),
        proposed_recording: RecordingName(recording).to_string(),
        template: started.template.to_string(),
        template_revision: started.template_revision,
        storage: started.storage.to_string(),
        protocol: started.protocol.into(),
        labels: started.labels,
        ..Default::default()
    })
}

/// The claim of a recording that may go on with what another node left, or be the first of its task. Its key is its own:
/// should it be answered too
/// late, the new recording is claimed apart from it.
pub fn resume(
    node: &Node,
    publisher: &Publisher,
    chosen: &Chosen,
    proposed: RecordingId,
    start: DateTime<Utc>,
    may_resume: bool,
) -> node::ClaimRecordingRequest {
    let template = chosen.plan.template.clone().unwrap_or_default();
    let storage = chosen.plan.storage.clone().unwrap_or_default();
    node::ClaimRecordingRequest {
        claim_key: format!("{}/{}/{}/{proposed}/resume", node.settings.node.id, node.boot, publisher.session),
        stream: Some((&publisher.stream).into()),
        origin: chosen.origin.clone(),
        session: publisher.session.to_string(),
        start_time: Some(timestamp(start)),
        may_resume,
        proposed_recording: RecordingName(proposed).to_string(),
        template: template.name,
        template_revision: template.revision,
        storage: storage.name,
        protocol: publisher.protocol.into(),
        labels: template.labels.into_iter().collect(),
        ..Default::default()
    }
}

/// What a claim says. What cannot be read counts as a new recording under the proposed id.
pub fn granted(reply: node::ClaimRecordingResponse, proposed: RecordingId, now: DateTime<Utc>) -> Grant {
    let Ok(RecordingName(id)) = reply.recording.parse() else { return Grant::new(proposed) };
    if !reply.resumed {
        return Grant { id, epoch: Epoch(reply.epoch.max(1)), inheritance: None, first_of_task: reply.first_of_task };
    }
    let state = reply.resume_state.unwrap_or_default();
    let time = |name| text(&state, name).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let (since, began) = (time("since"), time("start_time").map(|began| began.to_utc()));
    let reason = match text(&state, "reason").and_then(v1::gap::Reason::from_str_name) {
        Some(v1::gap::Reason::NodeCrashed) => GapReason::NodeCrashed,
        _ => GapReason::PublisherLost,
    };
    let files = state.fields.get("files").into_iter().flat_map(items).filter_map(file).collect();
    let since = since.map_or(now, |since| since.to_utc());
    let inheritance = Some(Inheritance { files, began, since, reason });
    Grant { id, epoch: Epoch(reply.epoch), inheritance, first_of_task: false }
}

fn file(value: &Value) -> Option<Inherited> {
    let Some(Kind::StructValue(fields)) = &value.kind else { return None };
    Some(Inherited {
        format: text(fields, "format")?.to_ascii_lowercase().parse().ok()?,
        index: number(fields, "index").and_then(|index| u32::try_from(index).ok())?,
        key: text(fields, "object_key")?.to_owned(),
        epoch: Epoch(number(fields, "epoch").unwrap_or(1)),
    })
}

fn items(value: &Value) -> &[Value] {
    if let Some(Kind::ListValue(list)) = &value.kind { &list.values } else { &[] }
}

fn text<'a>(fields: &'a Struct, name: &str) -> Option<&'a str> {
    match fields.fields.get(name)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

/// A float to integer cast saturates; what is no whole number does not come here.
fn number(fields: &Struct, name: &str) -> Option<u64> {
    match fields.fields.get(name)?.kind.as_ref()? {
        Kind::NumberValue(number) => Some(*number as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_node_left_is_read_from_the_claims_answer() {
        let state = serde_json::json!({
            "files": [
                { "format": "HLS", "index": 0, "object_key": "a/hls.m3u8", "epoch": 1 },
                { "format": "flv", "index": 2, "object_key": "a-2.flv", "epoch": 1 },
                { "format": "tape", "index": 0, "object_key": "x", "epoch": 1 },
            ],
            "start_time": "2026-11-22T14:00:00Z",
            "since": "2026-11-22T15:00:00Z",
            "reason": "NODE_CRASHED",
        });
        let id = RecordingId::new(DateTime::UNIX_EPOCH, [1; 10]);
        let reply = node::ClaimRecordingResponse {
            recording: RecordingName(id).to_string(),
            epoch: 2,
            resumed: true,
            resume_state: Some(recorder_proto::facts::to_struct(&state)),
            ..Default::default()
        };
        let proposed = RecordingId::new(DateTime::UNIX_EPOCH, [2; 10]);
        let grant = granted(reply.clone(), proposed, DateTime::UNIX_EPOCH);
        assert_eq!((grant.id, grant.epoch), (id, Epoch(2)));
        let inheritance = grant.inheritance.unwrap();
        assert_eq!(inheritance.files.len(), 2, "{inheritance:?}");
        assert_eq!(inheritance.files[1].key, "a-2.flv");
        assert_eq!((inheritance.reason, inheritance.since.timestamp()), (GapReason::NodeCrashed, 1_795_359_600));
        assert_eq!(inheritance.began.unwrap().timestamp(), 1_795_356_000, "max_duration began anew with every epoch");
        let new =
            granted(node::ClaimRecordingResponse { resumed: false, epoch: 1, ..reply }, proposed, DateTime::UNIX_EPOCH);
        assert!(new.inheritance.is_none() && new.id == id);
    }
}
