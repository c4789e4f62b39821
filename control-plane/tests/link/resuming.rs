//! Takeovers: a publisher comes back to another node, and what the node before it still has to say.
use std::time::Duration;

use recorder_proto::Problem;
use recorder_proto::facts::{GapSpan, RecordingInterrupted, RecordingResumed};
use recorder_proto::pb::node::register_request::SpoolEntry;
use recorder_proto::pb::node::register_response::{SpoolVerdict, spool_verdict::Verdict};
use recorder_proto::pb::node::{ClaimRecordingResponse, RegisterRequest};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::file::State as FileState;
use recorder_proto::pb::v1::recording::State;

use super::control::{Control, START, on_each, refused};
use super::node::Node;
use super::story::{Story, at};

/// A template whose recordings wait 30 s, and its binding.
pub async fn patient(control: &Control) {
    let template = v1::Template {
        name: "templates/default".into(),
        mp4: Some(v1::template::Mp4 {
            resume_timeout: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = v1::UpdateTemplateRequest { template: Some(template), ..Default::default() };
    assert_eq!(control.templates().update_template(request).await.unwrap().into_inner().revision, 2);
    control.bind("default", "push.example.com").await;
}

/// A recording of one file on `m1` whose publisher was lost at second 10 and is waited for until second 40.
async fn interrupted(node: &mut Node) -> Story {
    let mut story = Story::new("push.example.com", "cam1");
    story.revision = 2;
    node.client.claim_recording(story.claim(node.epoch)).await.unwrap();
    let facts = vec![story.published(), story.started(), story.opened(0), lost(&mut story), story.left()];
    node.report(facts).await;
    story
}

/// The same on a control plane whose templates wait, with another node beside.
async fn interrupted_beside(control: &Control) -> (Node, Node, Story) {
    patient(control).await;
    let (mut one, two) = (Node::ready(control, "m1").await, Node::ready(control, "m2").await);
    let story = interrupted(&mut one).await;
    (one, two, story)
}

fn lost(story: &mut Story) -> recorder_proto::pb::node::Fact {
    let interrupted = RecordingInterrupted {
        since: at(10),
        resume_deadline: at(40),
        reason: v1::gap::Reason::PublisherLost,
        media_duration_micros: 9_000_000,
        outputs: vec![story.totals(1, 900)],
    };
    story.fact(10, interrupted)
}

fn returned(story: &mut Story) -> recorder_proto::pb::node::Fact {
    let resumed = RecordingResumed { session: story.session, time: at(15), gap: hole() };
    story.fact(15, resumed)
}

fn hole() -> GapSpan {
    GapSpan { start_time: at(10), duration_micros: 5_000_000, reason: v1::gap::Reason::PublisherLost }
}

/// The claim of another node for the same stream.
async fn claim(node: &mut Node, story: &Story) -> ClaimRecordingResponse {
    let mut claim = story.claim(node.epoch);
    claim.may_resume = true;
    node.client.claim_recording(claim).await.unwrap().into_inner()
}

/// The story as another node goes on with it, which was granted that.
async fn gone_on(node: &mut Node, story: &Story) -> Story {
    let mut next = story.on_another_node();
    let granted = claim(node, &next).await;
    next.take_over(&granted);
    next
}

#[test]
fn another_node_goes_on_with_an_interrupted_recording_under_the_next_epoch() {
    on_each(async |control| {
        let (mut one, mut two, story) = interrupted_beside(&control).await;
        control.clock.advance(Duration::from_secs(15));
        let mut next = story.on_another_node();
        let granted = claim(&mut two, &next).await;
        assert_eq!((granted.recording.clone(), granted.epoch, granted.resumed), (story.name(), 2, true));
        assert_eq!(granted.next_file_index, 1, "the first file is taken");
        let state = recorder_proto::facts::from_struct(granted.resume_state.as_ref().unwrap());
        let file = serde_json::json!({"format": "mp4", "index": 0, "object_key": story.key(0), "epoch": 1});
        assert_eq!(state["files"], serde_json::json!([file]));
        assert_eq!(state["start_time"].as_str(), Some("2026-05-28T20:26:41.000000Z"), "max_duration counts from there");
        assert_eq!(
            (state["reason"].as_str(), state["since"].as_str().unwrap()),
            (Some("PUBLISHER_LOST"), "2026-05-28T20:26:50.000000Z")
        );
        assert_eq!(claim(&mut two, &next).await, granted, "the same key, the same answer");

        next.take_over(&granted);
        let facts = vec![returned(&mut next), next.opened(1)];
        two.report(facts).await;
        assert_eq!(claim(&mut two, &next).await, granted, "whatever was written meanwhile");
        let shown = control.recording(&story.name()).await;
        assert_eq!((shown.state(), shown.epoch, shown.node.as_str()), (State::Recording, 2, "nodes/m2"));
        assert_eq!(shown.resume_deadline, None);
        let facts = vec![next.ended_with(2, vec![hole()]), next.available(1)];
        two.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Finalizing, "the first file is on its way");

        let mut story = story;
        let fact = story.available(0);
        one.report(vec![fact]).await;
        let done = control.recording(&story.name()).await;
        assert_eq!(done.state(), State::Succeeded, "{done:?}");
        assert_eq!(done.media_duration.unwrap().seconds, 9 + 29, "what both epochs recorded");
        assert_eq!((done.outputs[0].files, done.outputs[0].bytes_recorded), (2, 900 + 2_000));
        assert_eq!(done.gaps.len(), 1, "the hole between them: {:?}", done.gaps);
        let files = control.files(&story.name()).await;
        assert_eq!(files.iter().map(|file| (file.index, file.epoch)).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
    });
}

#[test]
fn of_two_claims_one_resumes_and_the_other_begins_anew() {
    on_each(async |control| {
        patient(&control).await;
        let mut one = Node::ready(&control, "m1").await;
        let story = interrupted(&mut one).await;
        let names: Vec<String> = (2..10).map(|number| format!("m{number}")).collect();
        let mut claims = Vec::new();
        for name in &names {
            let mut node = Node::register(&control, name, "boot-1").await;
            let next = story.on_another_node();
            claims.push(tokio::spawn(async move { (claim(&mut node, &next).await, next.name()) }));
        }
        let mut resumed = 0;
        for claim in claims {
            let (granted, proposed) = claim.await.unwrap();
            if granted.resumed {
                resumed += 1;
                assert_eq!((granted.recording, granted.epoch), (story.name(), 2));
            } else {
                assert_eq!((granted.recording, granted.epoch), (proposed, 1));
            }
        }
        assert_eq!(resumed, 1);
    });
}

#[test]
fn a_recording_waits_for_its_own_stream_and_conditions_only_and_not_for_ever() {
    on_each(async |control| {
        let (_one, mut two, story) = interrupted_beside(&control).await;
        let other = |change: &dyn Fn(&mut Story)| {
            let mut next = story.on_another_node();
            change(&mut next);
            next
        };
        let strangers = [
            other(&|next| {
                next.stream = recorder_proto::names::StreamKey::new("push.example.com", "live", "cam2").unwrap()
            }),
            other(&|next| next.revision = 3),
            other(&|next| next.storage = "storages/elsewhere"),
        ];
        for stranger in strangers {
            assert!(!claim(&mut two, &stranger).await.resumed, "{stranger:?}");
        }
        let reluctant = story.on_another_node();
        let plain = two.client.claim_recording(reluctant.claim(two.epoch)).await.unwrap().into_inner();
        assert!(!plain.resumed, "not asked for");
        assert!(claim(&mut two, &story.on_another_node()).await.resumed, "all of that left it alone");
    });
}

#[test]
fn nobody_goes_on_with_what_is_recorded_elsewhere_or_has_waited_long_enough() {
    on_each(async |control| {
        patient(&control).await;
        let (mut one, mut two) = (Node::ready(&control, "m1").await, Node::ready(&control, "m2").await);
        let mut running = Story { revision: 2, ..Story::new("push.example.com", "cam7") };
        let facts = vec![running.published(), running.started()];
        one.report(facts).await;
        assert!(!claim(&mut two, &running.on_another_node()).await.resumed, "its node is well");
        let mut waiting = running.another("cam1");
        waiting.revision = 2;
        let facts = vec![waiting.published(), waiting.started(), lost(&mut waiting), waiting.left()];
        one.report(facts).await;
        control.clock.advance(Duration::from_secs(41));
        assert!(!claim(&mut two, &waiting.on_another_node()).await.resumed, "too late");
    });
}

#[test]
fn what_somebody_stopped_is_not_resumed() {
    on_each(async |control| {
        let (mut one, mut two, story) = interrupted_beside(&control).await;
        one.hang_up();
        control.recordings().stop_recording(v1::StopRecordingRequest { name: story.name() }).await.unwrap();
        assert!(!claim(&mut two, &story.on_another_node()).await.resumed);
    });
}

/// Reliability test 16, the control plane's side: the publisher left a node that fell silent.
#[test]
fn what_a_lost_node_still_tells_of_its_files_is_true_and_of_the_recording_is_not() {
    on_each(async |control| {
        patient(&control).await;
        let (mut one, mut two) = (Node::ready(&control, "m1").await, Node::ready(&control, "m2").await);
        let mut story = Story::new("push.example.com", "cam1");
        story.revision = 2;
        one.client.claim_recording(story.claim(one.epoch)).await.unwrap();
        let facts = vec![story.published(), story.started(), story.opened(0)];
        one.report(facts).await;
        let mut next = story.on_another_node();
        control.clock.advance(Duration::from_secs(16));
        let granted = claim(&mut two, &next).await;
        assert_eq!((granted.recording.clone(), granted.epoch, granted.next_file_index), (story.name(), 2, 1));
        let state = recorder_proto::facts::from_struct(granted.resume_state.as_ref().unwrap());
        assert_eq!(state["reason"].as_str(), Some("NODE_CRASHED"));
        next.take_over(&granted);
        let facts = vec![returned(&mut next), next.opened(1)];
        two.report(facts).await;

        // The zombie wakes up: it had begun a file of the same index, and believes to be the one that records.
        let facts = vec![
            story.opened(1),
            lost(&mut story),
            story.available(0),
            story.available(1),
            story.ended(2),
            story.manifest(),
        ];
        let last = facts.last().unwrap().sequence;
        let answer = one.try_report(facts).await.unwrap();
        assert_eq!(answer.durable_sequence, last, "it may forget them all");
        let refusals: Vec<(u64, String)> = answer
            .refusals
            .iter()
            .map(|refusal| (last - refusal.sequence, Problem::from(&refusal.error.clone().unwrap()).reason))
            .collect();
        let fenced = |back| (back, "EPOCH_FENCED".to_owned());
        assert_eq!(refusals, [fenced(4), fenced(1), fenced(0)], "interrupted, ended, manifest");

        let facts = vec![next.ended_with(2, Vec::new()), next.available(1)];
        two.report(facts).await;
        let files = control.files(&story.name()).await;
        let shown: Vec<(u32, u64, String)> =
            files.iter().map(|file| (file.index, file.epoch, file.object_key.clone())).collect();
        assert_eq!(shown, [(0, 1, story.key(0)), (1, 2, next.key(1)), (2, 1, story.key(1))], "nothing is lost");
        assert!(files.iter().all(|file| file.state() == FileState::Available));
        let done = control.recording(&story.name()).await;
        assert_eq!((done.state(), done.epoch), (State::Succeeded, 2), "{done:?}");
    });
}

#[test]
fn a_playlist_is_one_file_through_all_epochs() {
    on_each(async |control| {
        let (mut one, mut two, mut story) = interrupted_beside(&control).await;
        let fact = story.playlist_opened();
        one.report(vec![fact]).await;
        let mut next = story.on_another_node();
        let granted = claim(&mut two, &next).await;
        assert_eq!(granted.next_file_index, 1, "of the MP4; the playlist goes on");
        next.take_over(&granted);
        let facts = vec![returned(&mut next), next.playlist_opened()];
        two.report(facts).await;
        let playlist = |files: Vec<v1::File>| files.into_iter().find(|file| file.name.ends_with("hls-0")).unwrap();
        let shown = playlist(control.files(&story.name()).await);
        assert_eq!((shown.epoch, shown.object_key.clone()), (2, next.playlist_key()));
        let answer = one.try_report(vec![story.playlist_opened()]).await.unwrap();
        let reasons: Vec<String> =
            answer.refusals.iter().map(|refusal| Problem::from(&refusal.error.clone().unwrap()).reason).collect();
        assert_eq!(reasons, ["EPOCH_FENCED"], "a zombie has no say in what was continued");
        let fact = next.playlist_available();
        two.report(vec![fact]).await;
        let shown = playlist(control.files(&story.name()).await);
        assert_eq!((shown.state(), shown.object_key), (FileState::Available, next.playlist_key()));
    });
}

/// The playlists of a recording: index, epoch, key and state.
async fn playlists(control: &Control, story: &Story) -> Vec<(u32, u64, String, FileState)> {
    let files = control.files(&story.name()).await.into_iter().filter(|file| file.name.contains("/files/hls-"));
    files.map(|file| (file.index, file.epoch, file.object_key.clone(), file.state())).collect()
}

async fn both_playlists_count_once(control: &Control, story: &Story) {
    let done = control.recording(&story.name()).await;
    assert_eq!(done.state(), State::Succeeded, "{done:?}");
    let hls = done.outputs.iter().find(|output| output.format() == v1::format::Kind::Hls).unwrap();
    assert_eq!((hls.files, hls.bytes_uploaded), (2, 10_000), "each once");
}

#[test]
fn media_of_a_playlist_that_was_continued_without_it_is_not_hidden() {
    on_each(async |control| {
        let (mut one, mut two, mut story) = interrupted_beside(&control).await;
        let facts = vec![story.playlist_opened(), story.available(0)];
        one.report(facts).await;
        let mut next = gone_on(&mut two, &story).await;
        let facts = vec![returned(&mut next), next.playlist_opened(), next.ended_with(0, vec![hole()])];
        two.report(facts).await;
        // The bucket was away when the second node wanted to read it; now it arrives, and is told of twice.
        let facts = vec![story.playlist_available(), story.playlist_available()];
        one.report(facts).await;
        let expected =
            |continued| [(0, 2, next.playlist_key(), continued), (1, 1, story.playlist_key(), FileState::Available)];
        assert_eq!(playlists(&control, &story).await, expected(FileState::Uploading));
        assert_eq!(control.recording(&story.name()).await.state(), State::Finalizing);
        let mut after = next.clone();
        let fact = after.playlist_available();
        two.report(vec![fact]).await;
        assert_eq!(playlists(&control, &story).await, expected(FileState::Available));
        both_playlists_count_once(&control, &story).await;
    });
}

#[test]
fn a_playlist_that_arrived_just_before_another_node_went_on_is_not_hidden() {
    on_each(async |control| {
        let (mut one, mut two, mut story) = interrupted_beside(&control).await;
        let facts = vec![story.playlist_opened(), story.available(0), story.playlist_available()];
        one.report(facts).await;
        let mut next = gone_on(&mut two, &story).await;
        let ended = |next: &mut Story| next.ended_with(0, vec![hole()]);
        let facts = vec![returned(&mut next), next.playlist_opened(), ended(&mut next), next.playlist_available()];
        two.report(facts).await;
        let fact = story.playlist_available();
        one.report(vec![fact]).await;
        let expected =
            [(0, 2, next.playlist_key(), FileState::Available), (1, 1, story.playlist_key(), FileState::Available)];
        assert_eq!(playlists(&control, &story).await, expected);
        both_playlists_count_once(&control, &story).await;
    });
}

#[test]
fn a_third_node_goes_on_with_the_playlist_of_the_second_and_not_with_the_one_set_aside() {
    on_each(async |control| {
        let (mut one, mut two, mut story) = interrupted_beside(&control).await;
        let mut three = Node::ready(&control, "m3").await;
        let facts = vec![story.playlist_opened(), story.available(0)];
        one.report(facts).await;
        let mut next = gone_on(&mut two, &story).await;
        let facts = vec![returned(&mut next), next.playlist_opened(), lost(&mut next)];
        two.report(facts).await;
        let fact = story.playlist_available();
        one.report(vec![fact]).await;
        let granted = claim(&mut three, &story.on_another_node()).await;
        assert_eq!((granted.recording.clone(), granted.epoch), (story.name(), 3));
        let state = recorder_proto::facts::from_struct(granted.resume_state.as_ref().unwrap());
        let left = state["files"].as_array().unwrap().iter().filter(|file| file["format"] == "hls");
        let left: Vec<_> = left.map(|file| file["object_key"].as_str().unwrap().to_owned()).collect();
        assert_eq!(left, [next.playlist_key()]);
        // It begins a playlist of its own under the index that the other was set aside to.
        let mut last = story.on_another_node();
        last.take_over(&granted);
        let mut opened = recorder_proto::facts::Fact::try_from(&last.playlist_opened()).unwrap();
        let recorder_proto::facts::FactKind::FileOpened(file) = &mut opened.kind else { panic!("{opened:?}") };
        file.index = recorder_proto::ids::FileIndex(1);
        three.report(vec![(&opened).into()]).await;
        let fact = story.playlist_available();
        one.report(vec![fact]).await;
        let expected = [
            (0, 2, next.playlist_key(), FileState::Open),
            (1, 3, last.playlist_key(), FileState::Open),
            (2, 1, story.playlist_key(), FileState::Available),
        ];
        assert_eq!(playlists(&control, &story).await, expected);
    });
}

#[test]
fn a_granted_takeover_whose_answer_was_lost_ends_where_it_stood() {
    on_each(async |control| {
        let (mut one, mut two, mut story) = interrupted_beside(&control).await;
        let mut next = story.on_another_node();
        claim(&mut two, &next).await;
        // It never heard, and records under the id that it had proposed.
        let facts = vec![next.started(), next.opened(0)];
        two.report(facts).await;
        assert_eq!(control.recording(&next.name()).await.state(), State::Recording);
        let left = control.recording(&story.name()).await;
        assert_eq!((left.state(), left.end_reason()), (State::Finalizing, v1::recording::EndReason::ResumeTimeout));
        let fact = story.available(0);
        one.report(vec![fact]).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Succeeded);
    });
}

/// What the control plane has a restarted (or only reconnected) node do with its spool.
pub async fn verdicts(
    control: &Control,
    name: &str,
    boot: &str,
    stories: &[(&Story, u64)],
) -> Vec<(Verdict, u64, i64)> {
    let entry = |(story, epoch): &(&Story, u64)| SpoolEntry {
        recording: story.name(),
        epoch: *epoch,
        bytes_unshipped: 10,
        open: true,
    };
    let spool = stories.iter().map(entry).collect();
    let request = RegisterRequest { node: name.into(), boot_id: boot.into(), spool, ..Default::default() };
    let registered = Node::register_with(control, request).await.registered;
    let deadline = |verdict: &SpoolVerdict| verdict.resume_deadline.map_or(0, |deadline| deadline.seconds - START);
    registered.spool.iter().map(|one| (one.verdict(), one.epoch, deadline(one))).collect()
}

#[test]
fn a_spool_waits_as_long_as_its_recordings_and_not_for_what_was_taken_over() {
    on_each(async |control| {
        let (mut one, mut two, story) = interrupted_beside(&control).await;
        let mut running = story.another("cam2");
        running.revision = 2;
        let facts = vec![running.published(), running.started()];
        one.report(facts).await;
        let both = [(&story, 1), (&running, 1)];
        let told = verdicts(&control, "m1", "boot-1", &both).await;
        assert_eq!(told, [(Verdict::Resume, 1, 40), (Verdict::Resume, 1, 0)], "only the connection was lost");
        control.clock.advance(Duration::from_secs(5));
        let told = verdicts(&control, "m1", "boot-2", &both).await;
        assert_eq!(told, [(Verdict::Resume, 1, 40), (Verdict::Resume, 1, 5 + 30)], "a crash is noticed at the restart");
        claim(&mut two, &story.on_another_node()).await;
        let told = verdicts(&control, "m1", "boot-3", &both).await;
        assert_eq!(told[0], (Verdict::ShipAsOrphan, 1, 0));
        control.clock.advance(Duration::from_secs(60));
        let told = verdicts(&control, "m1", "boot-4", &both).await;
        assert_eq!(told[1], (Verdict::Finalize, 1, 0));
    });
}

#[test]
fn facts_told_again_change_nothing() {
    on_each(async |control| {
        patient(&control).await;
        let mut node = Node::ready(&control, "m1").await;
        let mut story = interrupted(&mut node).await;
        let facts = vec![returned(&mut story), story.ended(1), story.available(0)];
        node.report(facts).await;
        let shown = control.recording(&story.name()).await;
        assert_eq!(shown.state(), State::Succeeded);
        // Not the same facts, but the same things told anew, as after a restart that lost the node's notes.
        let facts = vec![story.opened(0), story.ended(1), story.available(0)];
        node.report(facts).await;
        assert_eq!(control.recording(&story.name()).await, shown);
        let facts = vec![returned(&mut story)];
        let answer = node.try_report(facts).await.unwrap();
        assert_eq!(answer.refusals.len(), 1, "what is over does not go on");
    });
}

#[test]
fn a_claim_for_a_recording_that_another_node_holds_is_refused_even_if_it_may_resume() {
    on_each(async |control| {
        let (_one, mut two, story) = interrupted_beside(&control).await;
        let mut thief = story.claim(two.epoch);
        thief.claim_key = "another".into();
        thief.may_resume = true;
        assert_eq!(refused(two.client.claim_recording(thief).await).reason, "RECORDING_EXISTS");
    });
}
