//! RetryUploads: uploads that wait or failed, tried at once, there or in another storage.
use recorder_proto::pb::node::directive::control::Action;
use recorder_proto::pb::v1;
use tonic::Code;

use super::control::{Control, on_each, refused};
use super::disconnects::commands;
use super::node::Node;
use super::story::Story;

fn retry(story: &Story, storage: &str) -> v1::RetryUploadsRequest {
    v1::RetryUploadsRequest { name: story.name(), storage: storage.into() }
}

async fn other_storage(control: &Control) {
    let target = v1::storage::Target::FileSystem(v1::storage::FileSystem { directory: "elsewhere".into() });
    let storage = v1::Storage { target: Some(target), ..Default::default() };
    let request = v1::CreateStorageRequest { storage_id: "other".into(), storage: Some(storage), ..Default::default() };
    control.storages().create_storage(request).await.unwrap();
}

#[test]
fn waiting_uploads_are_tried_at_once_and_the_command_ends_with_them() {
    on_each(async |control| {
        control.bind("default", "push.example.com").await;
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        node.client.claim_recording(story.claim(node.epoch)).await.unwrap();
        let facts = vec![story.started(), story.opened(0), story.ended(1)];
        node.report(facts).await;
        let retry = |storage: &str| v1::RetryUploadsRequest { name: story.name(), storage: storage.into() };
        let other = retry("storages/nowhere");
        assert_eq!(refused(control.recordings().retry_uploads(other).await).reason, "STORAGE_NOT_FOUND");
        let (first, again) = (retry("storages/library"), retry(""));
        let shown = control.recordings().retry_uploads(first).await.unwrap().into_inner();
        assert_eq!(shown.state(), v1::recording::State::Finalizing);
        let one = commands(&node.follow().await).remove(0);
        assert_eq!((one.action(), one.recording), (Action::RetryUploads, story.name()));
        control.recordings().retry_uploads(again).await.unwrap();
        let two = commands(&node.follow().await).remove(0);
        assert_ne!(one.command_id, two.command_id, "each is a command of its own");
        let done = retry("");
        let facts = vec![story.available(0)];
        node.report(facts).await;
        assert_eq!(node.follow().await.removed, [format!("control/retry-{}", story.recording)]);
        control.recordings().retry_uploads(done).await.expect("nothing to do is no mistake");
    });
}

#[test]
fn files_that_failed_for_good_are_told_of() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.ended(1), story.failed_for_good(0)];
        node.report(facts).await;
        let problem = refused(control.recordings().retry_uploads(retry(&story, "")).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, "NOTHING_TO_RETRY"));
        assert!(problem.message.contains("1 files"), "{problem}");
    });
}

#[test]
fn a_file_that_failed_and_is_kept_is_asked_for_and_then_everything_tells_that_it_is_there() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.ended(1), story.failed(0, "no such class")];
        node.report(facts).await;
        assert_eq!(control.files(&story.name()).await[0].bytes_kept, 1_000);
        let shown = control.recordings().retry_uploads(retry(&story, "")).await.unwrap().into_inner();
        assert_eq!(shown.state(), v1::recording::State::Failed);
        let [command] = &commands(&node.follow().await)[..] else { panic!("no command") };
        assert_eq!((command.action(), command.storage.as_ref()), (Action::RetryUploads, None));
        let facts = vec![story.available(0)];
        node.report(facts).await;
        assert_eq!(node.follow().await.removed, [format!("control/retry-{}", story.recording)]);
        let recording = control.recording(&story.name()).await;
        assert_eq!((recording.state(), recording.error), (v1::recording::State::Succeeded, None));
        let files = control.files(&story.name()).await;
        let [file] = &files[..] else { panic!("{files:?}") };
        assert_eq!((file.state(), file.bytes_kept, &file.error), (v1::file::State::Available, 0, &None));
        let told = control.told(&story.name()).await;
        let ends: Vec<&str> =
            told.iter().map(|(kind, _)| kind.as_str()).filter(|kind| kind.contains("ended")).collect();
        assert_eq!(ends.len(), 1, "{told:?}");
    });
}

/// Restarts of everybody lie between the call and the upload.
#[test]
fn files_are_sent_to_another_storage_whoever_restarts_meanwhile() {
    on_each(async |control| {
        other_storage(&control).await;
        let mut node = Node::ready(&control, "m1").await;
        let mut second = Node::ready(&control, "m2").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.ended(1)];
        node.report(facts).await;
        let nowhere = refused(control.recordings().retry_uploads(retry(&story, "storages/nowhere")).await);
        assert_eq!((nowhere.code, nowhere.reason.as_str()), (Code::NotFound, "STORAGE_NOT_FOUND"));
        control.recordings().retry_uploads(retry(&story, "storages/other")).await.unwrap();
        let command = commands(&node.follow().await).remove(0);
        let storage = command.storage.clone().unwrap();
        assert_eq!(
            (storage.name.as_str(), storage.kind.as_str(), storage.bucket.as_str()),
            ("storages/other", "file_system", "elsewhere")
        );
        assert_eq!(
            commands(&second.follow().await),
            std::slice::from_ref(&command),
            "an earlier epoch's files may wait there"
        );
        // Asked for again, they still go there.
        control.recordings().retry_uploads(retry(&story, "")).await.unwrap();
        let again = commands(&node.follow().await).remove(0);
        assert_ne!(again.command_id, command.command_id);
        assert_eq!(again.storage, Some(storage));
        let control = control.restart().await;
        let mut node = Node::register(&control, "m1", "another").await;
        node.hello(0).await;
        let (nonce, version, snapshot) = node.snapshot().await;
        node.ack(&nonce, version).await;
        let held = v1_commands(&snapshot.directives);
        assert_eq!(held, [again], "the next process hears of it");
        story.storage = "storages/other";
        let facts = vec![story.available(0)];
        node.report(facts).await;
        assert_eq!(node.follow().await.removed, [format!("control/retry-{}", story.recording)]);
        let recording = control.recording(&story.name()).await;
        assert_eq!(recording.state(), v1::recording::State::Succeeded);
    });
}

fn v1_commands(
    directives: &[recorder_proto::pb::node::Directive],
) -> Vec<recorder_proto::pb::node::directive::Control> {
    let delta = recorder_proto::pb::node::stream_directives_response::Delta {
        upserts: directives.to_vec(),
        removed: Vec::new(),
    };
    commands(&delta)
}
