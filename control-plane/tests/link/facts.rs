//! Facts become what the API shows, each exactly once.
use recorder_proto::facts::{GapSpan, OutputTotals, RecordingEnded, StorageFailing, StorageRecovered};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::file::State as FileState;
use recorder_proto::pb::v1::recording::State;

use super::control::on_each;
use super::node::Node;
use super::story::{Story, at, provider};

#[test]
fn a_recording_succeeds_when_its_last_file_is_in_the_bucket() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        node.client.claim_recording(story.claim(node.epoch)).await.unwrap();
        assert_eq!(control.recording(&story.name()).await.state(), State::Starting);
        let facts = vec![story.started(), story.opened(0), story.opened(1)];
        node.report(facts).await;
        let states: Vec<FileState> = control.files(&story.name()).await.iter().map(v1::File::state).collect();
        assert_eq!(states, [FileState::Uploading, FileState::Open], "the next file closes the one before");

        node.report(vec![story.ended(2)]).await;
        let ended = control.recording(&story.name()).await;
        assert_eq!((ended.state(), ended.end_reason()), (State::Finalizing, v1::recording::EndReason::PublisherEnded));
        assert_eq!(ended.end_time, Some(recorder_proto::time::timestamp(at(30))));
        node.report(vec![story.available(0)]).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Finalizing);
        node.report(vec![story.available(1)]).await;
        let done = control.recording(&story.name()).await;
        assert_eq!((done.state(), done.outputs[0].files, done.outputs[0].bytes_uploaded), (State::Succeeded, 2, 2_000));
        let files = control.files(&story.name()).await;
        assert_eq!(files[1].name, format!("{}/files/mp4-1", story.name()));
        assert_eq!((files[1].state(), files[1].object_key.clone()), (FileState::Available, story.key(1)));
        let get = v1::GetFileRequest { name: files[1].name.clone() };
        assert_eq!(control.recordings().get_file(get).await.unwrap().into_inner(), files[1]);
    });
}

#[test]
fn a_fact_that_comes_again_is_applied_once() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.ended(1), story.available(0)];
        node.report(facts.clone()).await;
        let (events, shown) = (control.events().await, control.recording(&story.name()).await);
        node.report(facts.clone()).await;
        node.report(facts[1..].to_vec()).await;
        assert_eq!(control.events().await, events, "not one event more");
        node.hang_up();
        let mut rebooted = Node::register(&control, "m1", "boot-2").await;
        rebooted.report(facts).await;
        assert_eq!(control.events().await, events + 1, "but that the node registered");
        assert_eq!(control.recording(&story.name()).await, shown, "counters are not counted twice");
    });
}

#[test]
fn facts_before_their_claim_create_the_recording_under_the_id_of_the_node() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0)];
        node.report(facts).await;
        let made = control.recording(&story.name()).await;
        assert_eq!((made.state(), made.epoch, made.node.as_str()), (State::Recording, 1, "nodes/m1"));
        assert_eq!(made.start_time, Some(recorder_proto::time::timestamp(at(1))));
        assert_eq!(made.origin, Some(v1::recording::Origin::Binding(story.binding())));
        let claimed = node.client.claim_recording(story.claim(node.epoch)).await.unwrap().into_inner();
        assert_eq!((claimed.recording, claimed.epoch, claimed.resumed), (story.name(), 1, false));
        let facts = vec![story.ended(1), story.available(0)];
        node.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Succeeded);
    });
}

#[test]
fn a_stale_epoch_changes_nothing() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        node.report(vec![story.started()]).await;
        story.epoch = 7;
        let fact = story.opened(0);
        let answer = node.try_report(vec![fact.clone()]).await.unwrap();
        assert_eq!(answer.durable_sequence, fact.sequence, "the node may forget it");
        let error = answer.refusals[0].error.clone().unwrap();
        assert_eq!(recorder_proto::Problem::from(&error).reason, "EPOCH_FENCED");
        assert_eq!(control.files(&story.name()).await, []);
        let mut other = Node::ready(&control, "m2").await;
        story.epoch = 1;
        story.sequence = 0;
        let answer = other.try_report(vec![story.ended(0)]).await.unwrap();
        assert_eq!(answer.refusals.len(), 1, "another node has no say either");
    });
}

#[test]
fn one_bad_fact_does_not_hold_back_the_others() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let mut garbage = story.published();
        garbage.r#type = "stream.exploded".into();
        let mut shapeless = story.published();
        shapeless.data = None;
        let facts = vec![garbage, shapeless, story.started(), story.available(0), story.started(), story.ended(1)];
        let answer = node.try_report(facts).await.unwrap();
        let refused: Vec<u64> = answer.refusals.iter().map(|refusal| refusal.sequence).collect();
        assert_eq!(refused, [1, 2, 5], "unknown, malformed, started twice");
        assert_eq!(answer.durable_sequence, 6);
        assert_eq!(control.recording(&story.name()).await.state(), State::Succeeded);
    });
}

#[test]
fn two_files_never_share_an_object() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let first = vec![story.started(), story.opened(0)];
        let mut twin = Story { sequence: story.sequence, ..story.clone() };
        node.report(first).await;
        let mut other = twin.another("cam2");
        let facts = vec![other.started(), twin_of(&mut other, &mut twin)];
        let answer = node.try_report(facts).await.unwrap();
        let error = answer.refusals[0].error.clone().unwrap();
        assert_eq!(recorder_proto::Problem::from(&error).reason, "OBJECT_KEY_EXISTS");
        assert_eq!(control.files(&other.name()).await, []);
    });
}

/// A file of `other` under a key of `twin`.
fn twin_of(other: &mut Story, twin: &mut Story) -> recorder_proto::pb::node::Fact {
    let mut fact = other.opened(0);
    let taken = twin.opened(0);
    fact.data = taken.data;
    fact
}

#[test]
fn a_file_that_failed_leaves_the_recording_incomplete_in_the_words_of_the_bucket() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![
            story.started(),
            story.opened(0),
            story.opened(1),
            story.ended(2),
            story.available(0),
            story.failed(1, "User is not authorized to perform: s3:PutObject"),
        ];
        node.report(facts).await;
        let recording = control.recording(&story.name()).await;
        assert_eq!(recording.state(), State::Incomplete);
        assert!(recording.error.unwrap().message.contains("s3:PutObject"));
        let files = control.files(&story.name()).await;
        assert_eq!(files[1].state(), FileState::Failed);
        assert_eq!(files[1].error.clone().unwrap().message, "User is not authorized to perform: s3:PutObject");
        node.report(vec![story.available(1)]).await;
        let recovered = control.recording(&story.name()).await;
        assert_eq!((recovered.state(), recovered.error), (State::Succeeded, None), "it arrived after all");
    });
}

#[test]
fn a_hole_of_our_own_making_is_never_a_success() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        for (reason, expected) in
            [(v1::gap::Reason::NodeCrashed, State::Incomplete), (v1::gap::Reason::PublisherLost, State::Succeeded)]
        {
            let mut story = Story { sequence: control_sequence(&control).await, ..Story::new("push.example.com", "c") };
            let gap = GapSpan { start_time: at(5), duration_micros: 1_000_000, reason };
            let facts = vec![story.started(), story.opened(0), story.available(0), story.ended_with(1, vec![gap])];
            node.report(facts).await;
            let recording = control.recording(&story.name()).await;
            assert_eq!((recording.state(), recording.gaps.len()), (expected, 1), "{reason:?}");
        }
    });
}

async fn control_sequence(control: &super::control::Control) -> u64 {
    let mark = control.scratch.db.read(|db| recorder_db::facts_seen::get(db, "m1")).await.unwrap();
    mark.map_or(0, |mark| u64::try_from(mark.sequence).unwrap())
}

#[test]
fn a_recording_without_media_says_so() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.ended(0)];
        node.report(facts).await;
        let recording = control.recording(&story.name()).await;
        assert_eq!(recording.state(), State::Failed);
        let problem = recorder_proto::Problem::from(&recording.error.unwrap());
        assert_eq!(problem.reason, "NO_MEDIA");
    });
}

#[test]
fn a_storage_shows_what_its_provider_says_and_forgets_it_with_the_next_success() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let storage = || "storages/library".parse().unwrap();
        let failing = StorageFailing {
            storage: storage(),
            credential_version: 0,
            since: at(3),
            error: provider("The AWS Access Key Id you provided does not exist in our records."),
        };
        let facts = vec![story.started(), story.opened(0), story.aside(3, failing.clone())];
        node.report(facts).await;
        let get = v1::GetStorageRequest { name: "library".into() };
        let shown = control.storages().get_storage(get.clone()).await.unwrap().into_inner();
        assert_eq!(shown.state(), v1::storage::State::Failing);
        let error = shown.last_error.unwrap();
        assert_eq!(error.message, "The AWS Access Key Id you provided does not exist in our records.");
        let recovered = StorageRecovered { storage: storage(), credential_version: 0, time: at(9) };
        let fact = story.aside(9, recovered);
        node.report(vec![fact]).await;
        let shown = control.storages().get_storage(get.clone()).await.unwrap().into_inner();
        assert_eq!((shown.state(), shown.last_error), (v1::storage::State::Active, None));
        assert_eq!(shown.last_success_time, Some(recorder_proto::time::timestamp(at(9))));
        let facts = vec![story.aside(10, failing), story.ended(1), story.available(0)];
        node.report(facts).await;
        let shown = control.storages().get_storage(get).await.unwrap().into_inner();
        assert_eq!(shown.state(), v1::storage::State::Active, "a file that arrived proves it works");
    });
}

/// A recording so short that its end is told before its first file is.
#[test]
fn a_recording_was_failed_until_its_files_were_told_of() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.ended(1)];
        node.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Finalizing);
        let facts = vec![story.opened(0), story.available(0)];
        node.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Succeeded);
        let manifest = story.manifest();
        node.report(vec![manifest]).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Succeeded);
    });
}

#[test]
fn a_file_that_was_counted_but_never_reported_is_missing() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.available(0), story.ended(2)];
        node.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Finalizing, "it may still be told of");
        let manifest = story.manifest();
        node.report(vec![manifest]).await;
        let recording = control.recording(&story.name()).await;
        assert_eq!(recording.state(), State::Incomplete);
        assert_eq!(recorder_proto::Problem::from(&recording.error.unwrap()).reason, "FILE_UNKNOWN");
    });
}

/// Ended by this much, with a format that failed as a whole.
fn ended_in_trouble(story: &mut Story, files: u32, words: &str) -> recorder_proto::pb::node::Fact {
    let totals = OutputTotals { error: Some(provider(words)), ..story.totals(files, 1_000) };
    let ended = RecordingEnded {
        end_reason: v1::recording::EndReason::PublisherEnded,
        start_time: at(1),
        end_time: at(30),
        media_duration_micros: 29_000_000,
        gaps: Vec::new(),
        outputs: vec![totals],
        error: None,
    };
    story.fact(30, ended)
}

#[test]
fn a_format_that_failed_leaves_no_recording_finalizing_for_ever() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.opened(1)];
        node.report(facts).await;
        let fact = ended_in_trouble(&mut story, 2, "disk full");
        node.report(vec![fact]).await;
        let files = control.files(&story.name()).await;
        let shown: Vec<_> = files.iter().map(|file| (file.state(), file.error.clone().unwrap().message)).collect();
        assert_eq!(shown, vec![(FileState::Failed, "disk full".to_owned()); 2], "nobody will tell of them");
        let recording = control.recording(&story.name()).await;
        assert_eq!(recording.state(), State::Failed, "{recording:?}");
        let fact = story.available(0);
        node.report(vec![fact]).await;
        let recording = control.recording(&story.name()).await;
        assert_eq!(recording.state(), State::Incomplete, "what arrives all the same is there: {recording:?}");
        assert_eq!(control.files(&story.name()).await[0].state(), FileState::Available);
    });
}

#[test]
fn damage_found_after_the_end_makes_a_recording_incomplete() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let hole = |seconds, reason| GapSpan { start_time: at(seconds), duration_micros: 1_000_000, reason };
        let lost = hole(5, v1::gap::Reason::PublisherLost);
        let facts = vec![story.started(), story.opened(0), story.ended_with(1, vec![lost.clone()]), story.available(0)];
        node.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Succeeded);
        let damaged = hole(20, v1::gap::Reason::NodeCrashed);
        let fact = story.ended_with(1, vec![damaged]);
        node.report(vec![fact]).await;
        let recording = control.recording(&story.name()).await;
        assert_eq!(recording.state(), State::Incomplete, "{recording:?}");
        let gaps: Vec<_> = recording.gaps.iter().map(|gap| (gap.start_time.unwrap(), gap.reason())).collect();
        let time = |seconds| recorder_proto::time::timestamp(at(seconds));
        assert_eq!(
            gaps,
            [(time(5), v1::gap::Reason::PublisherLost), (time(20), v1::gap::Reason::NodeCrashed)],
            "what was told before is still a hole"
        );
        assert_eq!(recording.outputs[0].bytes_uploaded, 1_000, "nothing is counted twice");
    });
}
