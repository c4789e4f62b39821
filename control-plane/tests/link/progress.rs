//! How far recordings are, as heartbeats say: shown, and never in the way of what facts say.
use std::time::Duration;

use recorder_proto::pb::node::stream_directives_request::{Heartbeat, Progress, progress::Item};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::{Output, State};
use recorder_proto::pb::v1::{ListRecordingsRequest, StreamRef, WatchRecordingsRequest};

use super::control::{Control, on_each, until};
use super::node::Node;
use super::story::Story;
use super::watching::Watch;

fn item(story: &Story, seconds: i64, bytes_recorded: u64) -> Item {
    let format = v1::format::Kind::Mp4 as i32;
    let outputs = vec![Output { format, files: 1, bytes_recorded, bytes_uploaded: 7, ..Output::default() }];
    let media_duration = Some(prost_types::Duration { seconds, nanos: 0 });
    Item { recording: story.name(), epoch: story.epoch, media_duration, outputs }
}

/// A heartbeat with that, which is applied when this returns.
async fn say(control: &Control, node: &mut Node, items: Vec<Item>) {
    control.clock.advance(Duration::from_millis(10));
    // A number that no other heartbeat of the node has.
    let mark = control.node(&format!("nodes/{}", node.name)).await.spool_bytes + 1;
    let progress = Some(Progress { recordings: items });
    node.heartbeat(Heartbeat { spool_bytes: mark, progress, ..Heartbeat::default() }).await;
    let name = format!("nodes/{}", node.name);
    until("the heartbeat", async || (control.node(&name).await.spool_bytes == mark).then_some(())).await;
}

fn numbers(shown: &v1::Recording) -> (i64, u64, u64, u32) {
    let output = &shown.outputs[0];
    let seconds = shown.media_duration.map_or(0, |length| length.seconds);
    (seconds, output.bytes_recorded, output.bytes_uploaded, output.files)
}

#[test]
fn a_running_recording_is_shown_as_far_as_its_node_said_last() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0)];
        node.report(facts).await;
        let before = control.events().await;
        for (seconds, bytes) in [(3, 3_000), (6, 6_000)] {
            say(&control, &mut node, vec![item(&story, seconds, bytes)]).await;
            let shown = control.recording(&story.name()).await;
            assert_eq!(numbers(&shown), (seconds, bytes, 7, 1));
            let listed = control.recordings().list_recordings(ListRecordingsRequest::default()).await.unwrap();
            assert_eq!(listed.into_inner().recordings, [shown]);
        }
        assert_eq!(control.events().await, before, "no event tells of it");
        let row = control.scratch.db.read({
            let id = story.recording.to_string();
            move |db| recorder_db::recordings::get(db, &id)
        });
        assert_eq!(row.await.unwrap().unwrap().recording().unwrap().outputs[0].bytes_recorded, 0, "nor is it stored");
        let facts = vec![story.ended(1)];
        node.report(facts).await;
        // A heartbeat that was overtaken by the end.
        say(&control, &mut node, vec![item(&story, 99, 99_000)]).await;
        let ended = control.recording(&story.name()).await;
        assert_eq!((ended.state(), numbers(&ended)), (State::Finalizing, (29, 1_000, 0, 1)), "what the fact says");
    });
}

#[test]
fn only_the_node_and_the_epoch_in_force_are_heard() {
    on_each(async |control| {
        let (mut node, mut other) = (Node::ready(&control, "m1").await, Node::ready(&control, "m2").await);
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0)];
        node.report(facts).await;
        say(&control, &mut other, vec![item(&story, 50, 50_000)]).await;
        assert_eq!(numbers(&control.recording(&story.name()).await).1, 0, "another node");
        let stale = Item { epoch: 2, ..item(&story, 50, 50_000) };
        let unknown = Item { recording: "recordings/01JD0000000000000000000000".into(), ..stale.clone() };
        let garbage = Item { recording: "x".into(), ..stale.clone() };
        say(&control, &mut node, vec![stale, unknown, garbage]).await;
        assert_eq!(numbers(&control.recording(&story.name()).await).1, 0, "another epoch");
        say(&control, &mut node, vec![item(&story, 5, 500)]).await;
        assert_eq!(numbers(&control.recording(&story.name()).await), (5, 500, 7, 1));
        say(&control, &mut node, Vec::new()).await;
        assert_eq!(
            numbers(&control.recording(&story.name()).await).1,
            0,
            "whatever the newest heartbeat does not name"
        );
    });
}

#[test]
fn a_watch_shows_progress_of_what_it_watches_and_never_after_the_end() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let mut other = Story::new("push.example.com", "cam2");
        let facts = vec![story.started(), story.opened(0)];
        node.report(facts).await;
        other.sequence = story.sequence;
        let fact = other.started();
        node.report(vec![fact]).await;
        story.sequence = other.sequence;
        let stream = StreamRef { domain: "push.example.com".into(), stream: "cam1".into(), ..Default::default() };
        let one = WatchRecordingsRequest { stream: Some(stream), ..Default::default() };
        let (mut one, mut all) =
            (Watch::open(&control, one).await, Watch::open(&control, WatchRecordingsRequest::default()).await);
        assert_eq!(one.told(1).await, ["CURRENT RECORDING"]);
        assert_eq!(all.told(2).await, ["CURRENT RECORDING", "CURRENT RECORDING"]);
        say(&control, &mut node, vec![item(&other, 9, 9), item(&story, 4, 2_000)]).await;
        let message = one.next().await;
        let shown = message.recording.unwrap();
        assert_eq!((shown.name.clone(), numbers(&shown)), (story.name(), (4, 2_000, 7, 1)));
        assert!(message.file.is_none() && !message.resume_token.is_empty());
        assert_eq!(all.told(2).await, ["UPDATED RECORDING", "UPDATED RECORDING"]);
        // What an event shows does not fall behind that.
        let fact = story.opened(1);
        node.report(vec![fact]).await;
        let message = one.next().await;
        assert!(message.file.is_some());
        assert_eq!(numbers(&message.recording.unwrap()).1, 2_000);

        let fact = story.ended(2);
        node.report(vec![fact]).await;
        say(&control, &mut node, vec![item(&other, 10, 10), item(&story, 6, 80_000)]).await;
        // The other one goes on being told of; of the one that has ended there is nothing to add.
        let mut ended = false;
        loop {
            let shown = all.next().await.recording.unwrap();
            if shown.name == story.name() {
                ended |= shown.state() == State::Finalizing;
                assert!(!ended || shown.state() == State::Finalizing, "the clock was turned back");
            } else if numbers(&shown).1 == 10 {
                break;
            }
        }
        assert!(ended, "told before");
        assert_eq!(control.recording(&story.name()).await.outputs[0].bytes_recorded, 2_000);
    });
}
