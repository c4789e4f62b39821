//! The claim of a recording, derived from the fact that it started: what is not yet delivered is not yet claimed, so
//! a restart needs no list of its own.

use recorder_proto::facts::{Fact, FactKind};
use recorder_proto::names::RecordingName;
use recorder_proto::pb::node;
use recorder_proto::time::timestamp;

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
