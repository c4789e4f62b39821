//! Watching recordings: in order, without gaps, across reconnects.
use recorder_proto::Problem;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::pb::v1::watch_recordings_response::Kind;
use recorder_proto::pb::v1::{ListRecordingsRequest, StreamRef, WatchRecordingsRequest};
use tonic::Code;

use super::control::{PATIENCE, on_each, on_each_with, refused};
use super::node::Node;
use super::story::Story;
use super::watching::{Watch, resumed};

#[test]
fn a_watch_tells_what_is_and_then_everything_that_happens_in_order() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut before = Story::new("push.example.com", "cam1");
        let fact = before.started();
        node.report(vec![fact]).await;
        let mut watch = Watch::open(&control, WatchRecordingsRequest::default()).await;
        assert_eq!(watch.told(1).await, ["CURRENT RECORDING"]);
        assert_eq!(watch.any().await.kind(), Kind::Bookmark, "the list is complete, and here is a token");
        assert!(!watch.token.is_empty());

        let mut story = before.another("cam2");
        node.client.claim_recording(story.claim(node.epoch)).await.unwrap();
        let facts = vec![story.started(), story.opened(0), story.ended(1), story.available(0)];
        node.report(facts).await;
        let told = watch.told(7).await;
        assert_eq!(
            told,
            [
                "CREATED STARTING",
                "UPDATED RECORDING",
                "mp4-0-OPEN RECORDING",
                "UPDATED FINALIZING",
                "mp4-0-UPLOADING FINALIZING",
                "mp4-0-AVAILABLE FINALIZING",
                "UPDATED SUCCEEDED",
            ]
        );
    });
}

#[test]
fn a_watcher_that_reconnects_after_every_message_misses_nothing() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut watch =
            Watch::open(&control, WatchRecordingsRequest { skip_initial: true, ..Default::default() }).await;
        watch.any().await;
        let mut token = watch.token.clone();
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.opened(1), story.ended(2), story.available(0)];
        node.report(facts).await;
        let mut patient = Watch::open(&control, resumed(&token)).await;
        let whole = patient.told(8).await;
        let mut pieces = Vec::new();
        for _ in 0..whole.len() {
            let mut watch = Watch::open(&control, resumed(&token)).await;
            pieces.extend(watch.told(1).await);
            token = watch.token;
        }
        assert_eq!(pieces, whole);
        assert_eq!(whole.last().unwrap(), "mp4-0-AVAILABLE FINALIZING");
    });
}

#[test]
fn a_watch_goes_on_across_a_restart_of_the_server() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let fact = story.started();
        node.report(vec![fact]).await;
        let listed = control.recordings().list_recordings(ListRecordingsRequest::default()).await.unwrap();
        let token = listed.into_inner().resume_token;
        let fact = story.opened(0);
        node.report(vec![fact]).await;
        node.hang_up();
        let control = control.restart().await;
        let mut watch = Watch::open(&control, resumed(&token)).await;
        assert_eq!(watch.told(1).await, ["mp4-0-OPEN RECORDING"], "a list's token begins behind the list");
    });
}

#[test]
fn a_filter_keeps_other_streams_and_states_out() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let stream = StreamRef { domain: "push.example.com".into(), stream: "cam2".into(), ..Default::default() };
        let request = WatchRecordingsRequest {
            stream: Some(stream),
            states: vec![State::Succeeded as i32],
            ..Default::default()
        };
        let mut watch = Watch::open(&control, request).await;
        let mut noise = Story::new("push.example.com", "cam1");
        let facts = vec![noise.started(), noise.opened(0), noise.ended(1), noise.available(0)];
        node.report(facts).await;
        let mut story = noise.another("cam2");
        let facts = vec![story.started(), story.opened(0), story.ended(1), story.available(0)];
        node.report(facts).await;
        let message = watch.next().await;
        assert_eq!(message.recording.unwrap().name, story.name());
        let other = refused(control.recordings().watch_recordings(resumed(&watch.token)).await);
        assert_eq!((other.code, other.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "another filter");
    });
}

#[test]
fn a_token_that_is_too_old_or_not_ours_means_list_again() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut watch = Watch::open(&control, WatchRecordingsRequest::default()).await;
        watch.any().await;
        let token = watch.token.clone();
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0)];
        node.report(facts).await;
        control.scratch.db.write(|db| recorder_db::events::prune_prefix(db, i64::MAX)).await.unwrap();
        for token in [token.as_str(), "bm9uc2Vuc2U"] {
            let problem = refused(control.recordings().watch_recordings(resumed(token)).await);
            assert_eq!((problem.code, problem.reason.as_str()), (Code::OutOfRange, "RESUME_TOKEN_EXPIRED"));
        }
        let mut fresh = Watch::open(&control, WatchRecordingsRequest::default()).await;
        assert_eq!(fresh.told(1).await, ["CURRENT RECORDING"]);
    });
}

#[test]
fn silence_is_broken_by_bookmarks() {
    on_each_with(&["--watch-bookmark-interval", "50ms"], async |control| {
        let mut watch = Watch::open(&control, WatchRecordingsRequest::default()).await;
        for _ in 0..3 {
            let message = watch.any().await;
            assert_eq!((message.kind(), message.resume_token.is_empty()), (Kind::Bookmark, false));
        }
    });
}

#[test]
fn a_watcher_that_does_not_read_is_cut_off_with_a_token_that_goes_on() {
    on_each_with(&["--watch-buffer", "8"], async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut slow = Watch::open(&control, WatchRecordingsRequest::default()).await;
        let mut story = Story::new("push.example.com", "cam1");
        // Large enough that the connection cannot hold them all.
        story.labels = (0..60).map(|n| (format!("k{n}"), "v".repeat(250))).collect();
        node.report(vec![story.started()]).await;
        for index in 0..300 {
            let fact = story.opened(index);
            node.report(vec![fact]).await;
        }
        let mut read = 0;
        let status = loop {
            match tokio::time::timeout(PATIENCE, slow.stream.message()).await.expect("a message in time") {
                Ok(Some(message)) => {
                    read += 1;
                    if !message.resume_token.is_empty() {
                        slow.token = message.resume_token;
                    }
                }
                Ok(None) => panic!("a reason is given"),
                Err(status) => break status,
            }
        };
        let problem = Problem::from(&status);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::Aborted, "WATCHER_TOO_SLOW"), "after {read}");
        assert_eq!(problem.metadata.get("resume_token"), Some(&slow.token), "the last word is where to go on");
        let mut again = Watch::open(&control, resumed(&slow.token)).await;
        assert!(again.next().await.file.is_some());
    });
}

#[test]
fn the_drain_ends_watches() {
    on_each(async |mut control| {
        let mut watch = Watch::open(&control, WatchRecordingsRequest::default()).await;
        watch.any().await;
        let stopped = control.stop();
        let ended = tokio::time::timeout(PATIENCE, watch.stream.message()).await.expect("an end in time");
        assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
        stopped.await;
    });
}
