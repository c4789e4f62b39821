//! The health report: what nodes find wrong in a recording's media, added up, shown and told.
use chrono::{DateTime, Utc};
use recorder_proto::facts::{AbnormalSpan, RecordingAbnormal};
use recorder_proto::pb::node;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::health::{Finding, Kind, Level};
use recorder_proto::pb::v1::recording::State;
use recorder_proto::{Problem, time};

use super::control::{Control, on_each};
use super::node::Node;
use super::story::{Story, at};
use super::watching::Watch;

fn abnormal(story: &mut Story, seconds: i64, found: &[(Kind, u64, i64, i64)]) -> node::Fact {
    let span = |&(kind, count, first, last): &(Kind, u64, i64, i64)| AbnormalSpan {
        kind,
        count,
        first_time: at(first),
        last_time: at(last),
    };
    story.fact(seconds, RecordingAbnormal { found: found.iter().map(span).collect() })
}

/// Code, count, news, first and last second.
fn shown(recording: &v1::Recording) -> Vec<(i32, u64, u64, i64, i64)> {
    let second = |wire: &Option<prost_types::Timestamp>| {
        let at_all: DateTime<Utc> = wire.as_ref().and_then(time::datetime).unwrap();
        (at_all - at(0)).num_seconds()
    };
    let row = |finding: &Finding| {
        (finding.code, finding.count, finding.recent, second(&finding.first_time), second(&finding.last_time))
    };
    recording.health.iter().flat_map(|health| &health.findings).map(row).collect()
}

async fn events_of(control: &Control, story: &Story, kind: &str) -> usize {
    control.told(&story.name()).await.iter().filter(|(told, _)| told == kind).count()
}

#[test]
fn what_is_found_adds_up_in_the_recording_and_every_report_is_an_event() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0)];
        node.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.health, None, "nothing is wrong");
        let mut watch =
            Watch::open(&control, v1::WatchRecordingsRequest { skip_initial: true, ..Default::default() }).await;
        watch.any().await;

        let first = abnormal(&mut story, 9, &[(Kind::VideoTimestampJump, 1, 5, 5), (Kind::NoAudio, 2, 6, 8)]);
        node.report(vec![first.clone()]).await;
        let seen = watch.next().await.recording.unwrap();
        assert_eq!(shown(&seen), [(-9, 1, 1, 5, 5), (-17, 2, 2, 6, 8)]);
        assert_eq!((seen.state(), seen.health.unwrap().findings[0].level()), (State::Recording, Level::Warning));

        let second = abnormal(&mut story, 20, &[(Kind::WriteFailed, 1, 19, 19), (Kind::NoAudio, 3, 10, 18)]);
        // The node is not sure that its first report arrived.
        node.report(vec![first, second]).await;
        let expected = [(-9, 1, 0, 5, 5), (-17, 5, 3, 6, 18), (-104, 1, 1, 19, 19)];
        assert_eq!(shown(&control.recording(&story.name()).await), expected, "each fact counts once");
        let listed = control.recordings().list_recordings(v1::ListRecordingsRequest::default()).await.unwrap();
        assert_eq!(shown(&listed.into_inner().recordings[0]), expected);
        assert_eq!(events_of(&control, &story, "recording.abnormal").await, 2);

        let facts = vec![story.ended(1), story.available(0), abnormal(&mut story, 45, &[(Kind::NoAudio, 1, 29, 29)])];
        node.report(facts).await;
        let done = control.recording(&story.name()).await;
        assert_eq!(done.state(), State::Succeeded, "it is a report, no verdict");
        assert_eq!(shown(&done)[1], (-17, 6, 1, 6, 29));
    });
}

#[test]
fn the_report_survives_a_restart_and_what_a_newer_node_found_is_left_out() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![
            story.started(),
            abnormal(&mut story, 9, &[(Kind::GopAbnormal, 1, 5, 5), (Kind::Unspecified, 7, 5, 5)]),
            abnormal(&mut story, 10, &[(Kind::Unspecified, 7, 5, 5)]),
        ];
        node.report(facts).await;
        assert_eq!(events_of(&control, &story, "recording.abnormal").await, 1, "nothing was known of the other");
        let control = control.restart().await;
        assert_eq!(shown(&control.recording(&story.name()).await), [(-132, 1, 1, 5, 5)]);
    });
}

#[test]
fn a_report_about_nothing_is_refused() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![abnormal(&mut story, 9, &[(Kind::GopAbnormal, 1, 5, 5)])];
        let answer = node.try_report(facts).await.unwrap();
        let reasons: Vec<String> =
            answer.refusals.iter().map(|refusal| Problem::from(&refusal.error.clone().unwrap()).reason).collect();
        assert_eq!((answer.durable_sequence, reasons), (1, vec!["RECORDING_NOT_FOUND".to_owned()]));
    });
}
