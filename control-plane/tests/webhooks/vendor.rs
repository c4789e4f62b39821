//! A receiver as customers of the vendor have it: knows the vendor's fields and signature and nothing of us.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use md5::{Digest, Md5};
use recorder_proto::facts::{AbnormalSpan, RecordingAbnormal};
use recorder_proto::pb::v1::delivery::State as Of;
use recorder_proto::pb::v1::health::Kind;
use recorder_proto::pb::v1::webhook::Signature;
use recorder_proto::pb::v1::{RotateSecretRequest, Webhook};
use serde_json::Value;

use super::receiver::{Manner, Receiver, Seen};
use super::{client, create, deliveries, on_each};
use crate::link::control::{Control, START, until};
use crate::link::node::Node;
use crate::link::story::{Story, at};
use crate::support::seconds;

const KEY: &str = "5d41402abc4b2a76b9719d911017c592";

/// The customer's code: answers 200 and `{"code":0}` to what it accepts, 403 to what is not signed.
fn accepts(seen: &Seen, key: &str, now: i64) -> Manner {
    let body = seen.json();
    let (Some(t), Some(sign)) = (body["t"].as_i64(), body["sign"].as_str()) else { return Manner::Status(400) };
    let expected = hex::encode(Md5::digest(format!("{key}{t}")));
    if sign != expected || t < now {
        return Manner::Status(403);
    }
    Manner::Words(200, r#"{"code":0}"#.into())
}

fn compatible(url: String) -> Webhook {
    Webhook { url, signature: Signature::TencentMd5 as i32, secret: KEY.into(), ..Default::default() }
}

fn of_type(seen: &[Seen], number: i64) -> Vec<Value> {
    seen.iter().map(Seen::json).filter(|body| body["event_type"] == number).collect()
}

async fn all_delivered(control: &Control, count: usize) {
    until("every callback", async || {
        let log = deliveries(control, "old").await;
        assert!(log.len() <= count, "{log:?}");
        (log.len() == count && log.iter().all(|one| one.state() == Of::Delivered)).then_some(())
    })
    .await;
}

#[test]
fn an_existing_receiver_accepts_the_callbacks_of_a_whole_recording() {
    on_each(async |control| {
        let mut receiver = Receiver::start(|seen| accepts(seen, KEY, START)).await;
        create(&control, "old", compatible(receiver.url("/callback"))).await;
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts =
            vec![story.published(), story.started(), story.opened(0), story.left(), story.ended(1), story.available(0)];
        node.report(facts).await;
        // Push start and end, recording started and ended in one format, one file; nothing else is of the vendor's kind.
        all_delivered(&control, 5).await;
        let seen = receiver.rest();
        assert_eq!(seen.len(), 5);
        assert!(seen.iter().all(|one| one.header("content-type") == "application/json"));
        let (start, end) = (&of_type(&seen, 1)[0], &of_type(&seen, 0)[0]);
        assert_eq!((start["app"].as_str(), start["appname"].as_str()), (Some("push.example.com"), Some("live")));
        assert_eq!((start["stream_id"].as_str(), start["user_ip"].as_str()), (Some("cam1"), Some("192.0.2.7")));
        assert_eq!((start["errcode"].as_i64(), end["errcode"].as_i64()), (Some(0), Some(1)));
        assert_eq!(start["sequence"], end["sequence"]);
        assert_eq!(end["push_duration"], "30000");
        let status: Vec<Value> = of_type(&seen, 332).iter().map(|body| body["record_event"].clone()).collect();
        assert_eq!(status, ["record_start_succeeded", "record_ended"]);
        let file = &of_type(&seen, 100)[0];
        let id = story.recording.to_string();
        assert_eq!(file["file_id"], format!("{id}-mp4-0"));
        assert_eq!((file["start_time"].as_i64(), file["end_time"].as_i64()), (Some(START + 1), Some(START + 30)));
        assert_eq!((file["duration"].as_i64(), file["file_size"].as_i64()), (Some(29), Some(1000)));
        assert_eq!(file["file_format"], "mp4");
        assert_eq!(file["video_url"], format!("library:///{}", story.key(0)));
    });
}

/// Rows 27 and 28: a callback for each code of which a report has news.
#[test]
fn what_is_abnormal_reaches_an_existing_receiver_code_by_code() {
    on_each(async |control| {
        let mut receiver = Receiver::start(|seen| accepts(seen, KEY, START)).await;
        create(&control, "old", compatible(receiver.url("/callback"))).await;
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let found = |kind, count| AbnormalSpan { kind, count, first_time: at(5), last_time: at(8) };
        let both = vec![found(Kind::VideoTimestampJump, 2), found(Kind::GopAbnormal, 1)];
        let facts = vec![
            story.started(),
            story.fact(9, RecordingAbnormal { found: both }),
            story.fact(70, RecordingAbnormal { found: vec![found(Kind::GopAbnormal, 4)] }),
        ];
        node.report(facts).await;
        all_delivered(&control, 4).await;
        let bodies = of_type(&receiver.rest(), 341);
        let told: Vec<_> = bodies
            .iter()
            .map(|body| (body["exception"]["type"].as_i64().unwrap(), body["exception"]["occurs"].as_u64().unwrap()))
            .collect();
        assert_eq!(told, [(-9, 2), (-132, 1), (-132, 4)]);
        let body = &bodies[0];
        assert_eq!((body["stream_id"].as_str(), body["exception_level"].as_str()), (Some("cam1"), Some("warning")));
        assert_eq!(
            (body["session_id"].as_str(), body["timestamp"].as_i64()),
            (Some(&*story.recording.to_string()), Some(START + 8))
        );
        assert_eq!(
            (body["file_format"].as_str(), body["exception"]["desc"].as_str()),
            (Some("mp4"), Some("video timestamps jumped"))
        );
    });
}

#[test]
fn a_receiver_that_answers_otherwise_than_200_gets_it_again() {
    on_each(async |control| {
        let failures = Arc::new(Mutex::new(2));
        let left = Arc::clone(&failures);
        let mut receiver = Receiver::start(move |seen| {
            let mut left = left.lock().unwrap();
            if *left == 0 {
                return accepts(seen, KEY, START);
            }
            *left -= 1;
            Manner::Status(500)
        })
        .await;
        create(&control, "old", Webhook { event_types: vec!["stream.*".into()], ..compatible(receiver.url("/")) })
            .await;
        let mut node = Node::ready(&control, "m1").await;
        let fact = Story::new("push.example.com", "cam1").published();
        node.report(vec![fact]).await;
        let mut bodies = vec![receiver.next().await.json()];
        for (made, wait) in [(1, 7), (2, 37)] {
            until("a failure", async || (deliveries(&control, "old").await[0].attempt == made).then_some(())).await;
            control.clock.advance(Duration::from_secs(wait));
            bodies.push(receiver.next().await.json());
        }
        all_delivered(&control, 1).await;
        assert!(bodies.windows(2).all(|pair| pair[0]["sequence"] == pair[1]["sequence"]), "{bodies:?}");
        assert_ne!(bodies[0]["t"], bodies[1]["t"], "each attempt is good for ten minutes");
    });
}

#[test]
fn while_two_keys_count_a_receiver_with_either_is_served() {
    on_each(async |control| {
        let known = Arc::new(Mutex::new(KEY.to_owned()));
        let key = Arc::clone(&known);
        let mut receiver = Receiver::start(move |seen| accepts(seen, &key.lock().unwrap(), START)).await;
        create(&control, "old", Webhook { event_types: vec!["stream.*".into()], ..compatible(receiver.url("/")) })
            .await;
        let rotate = RotateSecretRequest { name: "old".into(), overlap: seconds(600) };
        let new = client(&control).rotate_secret(rotate).await.unwrap().into_inner().secret;
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let fact = story.published();
        node.report(vec![fact]).await;
        receiver.next().await;
        until("the refusal", async || (deliveries(&control, "old").await[0].attempt == 1).then_some(())).await;
        assert_eq!(deliveries(&control, "old").await[0].http_status, 403, "it knows the old key only");
        control.clock.advance(Duration::from_secs(7));
        all_delivered(&control, 1).await;
        known.lock().unwrap().clone_from(&new);
        let fact = story.left();
        node.report(vec![fact]).await;
        all_delivered(&control, 2).await;
        assert_eq!(deliveries(&control, "old").await[0].attempt, 1, "the new key comes first");
    });
}

#[test]
fn a_test_of_the_vendors_kind_is_harmless() {
    on_each(async |control| {
        let mut receiver = Receiver::start(|seen| accepts(seen, KEY, START)).await;
        create(&control, "old", compatible(receiver.url("/"))).await;
        let request = recorder_proto::pb::v1::TestWebhookRequest { name: "old".into() };
        let tried = client(&control).test_webhook(request).await.unwrap().into_inner();
        assert_eq!((tried.state(), tried.http_status), (Of::Delivered, 200));
        let body = receiver.next().await.json();
        assert_eq!((body["event_type"].as_i64(), body["exception_level"].as_str()), (Some(341), Some("info")));
    });
}
