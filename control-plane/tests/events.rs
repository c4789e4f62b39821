//! EventService and WatchStreams: what happened, listed and watched.
use std::time::Duration;

use prost::Message;
use prost_types::Timestamp;
use recorder_proto::Problem;
use recorder_proto::facts::from_struct;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::event_service_client::EventServiceClient;
use recorder_proto::pb::v1::watch_streams_response::Kind;
use recorder_proto::pb::v1::{ListEventsRequest, WatchEventsRequest, WatchStreamsRequest};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::link::control::{Control, PATIENCE, START, on_each, on_each_with, refused};
use crate::link::node::Node;
use crate::link::story::Story;
use crate::support::bad_fields;

fn client(control: &Control) -> EventServiceClient<Channel> {
    EventServiceClient::new(control.api.clone())
}

fn types(types: &[&str]) -> Vec<String> {
    types.iter().map(|name| (*name).to_owned()).collect()
}

async fn listed(control: &Control, request: ListEventsRequest) -> Vec<v1::Event> {
    client(control).list_events(request).await.unwrap().into_inner().events
}

fn kinds(events: &[v1::Event]) -> Vec<&str> {
    events.iter().map(|event| event.r#type.as_str()).collect()
}

/// A recording from its start to its end.
async fn story(control: &Control) -> Story {
    let mut node = Node::ready(control, "m1").await;
    let mut story = Story::new("push.example.com", "cam1");
    let facts =
        vec![story.published(), story.started(), story.opened(0), story.ended(1), story.available(0), story.left()];
    node.report(facts).await;
    story
}

#[test]
fn events_are_listed_newest_first_with_the_resource_as_it_was() {
    on_each(async |control| {
        let story = story(&control).await;
        let request = ListEventsRequest { types: types(&["recording.*", "file.*", "stream.*"]), ..Default::default() };
        let events = listed(&control, request).await;
        let expected =
            ["stream.ended", "file.available", "recording.ended", "file.opened", "recording.started", "stream.started"];
        assert_eq!(kinds(&events), expected, "and no mere progress");
        assert!(events.windows(2).all(|pair| pair[0].sequence > pair[1].sequence));
        let [ended, available, ..] = events.as_slice() else { panic!("{events:?}") };
        let data = from_struct(available.data.as_ref().unwrap());
        assert_eq!((data["state"].as_str(), data["sizeBytes"].as_str()), (Some("AVAILABLE"), Some("1000")));
        assert_eq!(available.subject, format!("{}/files/mp4-0", story.name()));
        assert_eq!(available.time, Some(Timestamp { seconds: START + 40, nanos: 0 }));
        let data = from_struct(ended.data.as_ref().unwrap());
        assert_eq!(
            (data["end"]["orderly"].as_bool(), data["end"]["cause"].as_str()),
            (Some(true), Some("publisher left"))
        );
    });
}

#[test]
fn lists_filter_by_subject_time_and_full_name() {
    on_each(async |control| {
        let story = story(&control).await;
        let of_subject = ListEventsRequest { subject: story.name(), ..Default::default() };
        assert_eq!(kinds(&listed(&control, of_subject).await), ["recording.ended", "recording.started"]);
        let at = |seconds| Some(Timestamp { seconds: START + seconds, nanos: 0 });
        let window = ListEventsRequest {
            types: types(&["recording.*", "file.*"]),
            after: at(2),
            before: at(40),
            ..Default::default()
        };
        assert_eq!(kinds(&listed(&control, window).await), ["recording.ended", "file.opened"]);
        let in_full = ListEventsRequest { types: types(&["file.updated"]), ..Default::default() };
        assert_eq!(kinds(&listed(&control, in_full).await), ["file.updated"], "progress is told when it is named");
        let nothing = ListEventsRequest { types: types(&["task.*"]), ..Default::default() };
        assert_eq!(listed(&control, nothing).await, []);
    });
}

#[test]
fn pages_are_complete_and_a_watch_goes_on_behind_the_list() {
    on_each(async |control| {
        for id in ["a", "b", "c", "d", "e"] {
            control.template(id).await;
        }
        let mut request = ListEventsRequest { types: types(&["template.created"]), page_size: 2, ..Default::default() };
        let mut subjects = Vec::new();
        let resume_token = loop {
            let page = client(&control).list_events(request.clone()).await.unwrap().into_inner();
            assert!(page.events.len() <= 2);
            subjects.extend(page.events.into_iter().map(|event| event.subject));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break page.resume_token;
            }
        };
        assert_eq!(subjects[..5], ["e", "d", "c", "b", "a"].map(|id| format!("templates/{id}")));
        control.template("f").await;
        let mut watch = Watch::open(&control, &["template.created"], &resume_token).await;
        assert_eq!(watch.next().await.subject, "templates/f");
        let other = WatchEventsRequest { types: types(&["*"]), resume_token, ..Default::default() };
        assert_eq!(bad_fields(client(&control).watch_events(other).await), ["resume_token"]);
    });
}

#[test]
fn mistakes_in_a_filter_are_named() {
    on_each(async |control| {
        let request = ListEventsRequest {
            types: types(&["file.*", "Bad Type"]),
            subject: "a\nb".into(),
            after: Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
            page_size: -1,
            page_token: "x".into(),
            ..Default::default()
        };
        let expected = ["after", "page_size", "page_token", "subject", "types[1]"];
        assert_eq!(bad_fields(client(&control).list_events(request).await), expected);
        let watch = WatchEventsRequest { types: types(&[""]), ..Default::default() };
        assert_eq!(bad_fields(client(&control).watch_events(watch).await), ["types[0]"]);
    });
}

/// The client's side of WatchEvents.
struct Watch {
    stream: Streaming<v1::WatchEventsResponse>,
    token: String,
}

impl Watch {
    async fn open(control: &Control, filter: &[&str], token: &str) -> Self {
        let request = WatchEventsRequest { types: types(filter), resume_token: token.to_owned(), ..Default::default() };
        let stream = client(control).watch_events(request).await.unwrap().into_inner();
        Self { stream, token: token.to_owned() }
    }

    async fn any(&mut self) -> v1::WatchEventsResponse {
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await.expect("a message in time");
        let message = message.unwrap().expect("the watch is open");
        assert!(!message.resume_token.is_empty(), "every message says where to go on");
        self.token.clone_from(&message.resume_token);
        message
    }

    async fn next(&mut self) -> v1::Event {
        loop {
            let message = self.any().await;
            assert_eq!(message.bookmark, message.event.is_none());
            if let Some(event) = message.event {
                return event;
            }
        }
    }
}

#[test]
fn a_watch_begins_now_and_goes_on_from_its_token_across_a_restart() {
    on_each(async |control| {
        control.template("before").await;
        let mut watch = Watch::open(&control, &["template.*"], "").await;
        assert!(watch.any().await.bookmark, "there is a token from the start");
        control.template("first").await;
        assert_eq!(watch.next().await.subject, "templates/first");
        let token = watch.token.clone();
        drop(watch);
        control.template("second").await;
        let control = control.restart().await;
        control.template("third").await;
        let mut watch = Watch::open(&control, &["template.*"], &token).await;
        let told = [watch.next().await, watch.next().await];
        assert_eq!(told.map(|event| event.subject), ["templates/second", "templates/third"]);
    });
}

#[test]
fn a_quiet_watch_is_kept_alive_by_bookmarks_and_an_expired_token_means_list_again() {
    on_each_with(&["--watch-bookmark-interval", "50ms"], async |control| {
        let mut watch = Watch::open(&control, &["task.*"], "").await;
        for _ in 0..3 {
            assert!(watch.any().await.bookmark);
        }
        let token = watch.token.clone();
        control.template("a").await;
        control.template("b").await;
        control.scratch.db.write(|db| recorder_db::events::prune_prefix(db, i64::MAX)).await.unwrap();
        let request = WatchEventsRequest { types: types(&["task.*"]), resume_token: token, ..Default::default() };
        let problem = refused(client(&control).watch_events(request).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::OutOfRange, "RESUME_TOKEN_EXPIRED"));
    });
}

#[test]
fn a_watcher_of_events_that_does_not_read_is_cut_off_with_a_token_that_goes_on() {
    on_each_with(&["--watch-buffer", "8"], async |control| {
        let mut slow = Watch::open(&control, &["recording.*"], "").await;
        // Large enough that the connection cannot hold them all.
        let labels = (0..60).map(|n| (format!("k{n}"), "v".repeat(250))).collect();
        let body = v1::Recording { name: "recordings/x".into(), labels, ..Default::default() }.encode_to_vec();
        let write = move |db: &mut recorder_db::AnyConnection| {
            for number in 0..400 {
                recorder_db::events::append(
                    db,
                    &format!("e{number}"),
                    "recording.ended",
                    "recordings/x",
                    0,
                    body.clone(),
                )?;
            }
            Ok::<_, recorder_db::Error>(())
        };
        control.scratch.db.write(write).await.unwrap();
        let status = loop {
            match tokio::time::timeout(PATIENCE, slow.stream.message()).await.expect("a message in time") {
                Ok(Some(message)) => slow.token = message.resume_token,
                Ok(None) => panic!("a reason is given"),
                Err(status) => break status,
            }
        };
        let problem = Problem::from(&status);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::Aborted, "WATCHER_TOO_SLOW"));
        assert_eq!(problem.metadata.get("resume_token"), Some(&slow.token));
        let mut again = Watch::open(&control, &["recording.*"], &slow.token).await;
        assert_eq!(again.next().await.r#type, "recording.ended");
    });
}

async fn next(stream: &mut Streaming<v1::WatchStreamsResponse>) -> v1::WatchStreamsResponse {
    loop {
        let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("a message in time");
        let message = message.unwrap().expect("the watch is open");
        if message.kind() != Kind::Bookmark {
            return message;
        }
    }
}

#[test]
fn streams_are_watched_from_what_is_there_to_every_start_and_end() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut first = Story::new("push.example.com", "cam1");
        let fact = first.published();
        node.report(vec![fact]).await;
        let mut watch = control.streams().watch_streams(WatchStreamsRequest::default()).await.unwrap().into_inner();
        let current = next(&mut watch).await;
        let name = format!("streams/{}", first.session);
        assert_eq!((current.kind(), current.stream.unwrap().name), (Kind::Current, name.clone()));
        let mut second = first.another("cam2");
        let facts = vec![second.published()];
        node.report(facts).await;
        let started = next(&mut watch).await;
        assert_eq!(
            (started.kind(), started.stream.unwrap().stream.unwrap().stream),
            (Kind::Started, "cam2".to_owned())
        );
        first.sequence = second.sequence;
        let fact = first.left();
        node.report(vec![fact]).await;
        let ended = next(&mut watch).await;
        let stream = ended.stream.unwrap();
        assert_eq!((ended.kind, stream.name.as_str()), (Kind::Ended as i32, name.as_str()));
        assert!(stream.end.unwrap().orderly);
        let only = v1::StreamRef { stream: "cam1".into(), ..Default::default() };
        let request = WatchStreamsRequest { stream: Some(only), ..Default::default() };
        let mut filtered = control.streams().watch_streams(request.clone()).await.unwrap().into_inner();
        let bookmark =
            tokio::time::timeout(Duration::from_secs(20), filtered.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(bookmark.kind(), Kind::Bookmark, "cam1 is gone, and cam2 is not asked for");
        let resumed = WatchStreamsRequest { resume_token: bookmark.resume_token, ..request };
        let mut third = Story { sequence: first.sequence, ..Story::new("push.example.com", "cam1") };
        let mut fourth = third.another("cam2");
        let facts = vec![fourth.published()];
        node.report(facts).await;
        third.sequence = fourth.sequence;
        let facts = vec![third.published()];
        node.report(facts).await;
        let mut again = control.streams().watch_streams(resumed).await.unwrap().into_inner();
        let told = next(&mut again).await.stream.unwrap();
        assert_eq!(told.name, format!("streams/{}", third.session), "the filter goes with the token");
    });
}
