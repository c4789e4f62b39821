//! What arrives: signed, in order, once for each event, again until it is taken.
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use recorder_proto::pb::v1::delivery::State as Of;
use recorder_proto::pb::v1::webhook::State;
use recorder_proto::pb::v1::{RedeliverRequest, RotateSecretRequest, UpdateWebhookRequest, Webhook};
use sha2::Sha256;

use super::receiver::{Manner, Receiver, Seen};
use super::{client, create, deliveries, delivery, describe, of_templates, on_each, webhook};
use crate::link::control::{Control, START, until};
use crate::link::node::Node;
use crate::link::story::Story;
use crate::support::seconds;

/// Whether one of the signatures of a delivery was made with the secret.
fn is_signed_with(seen: &Seen, secret: &str) -> bool {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.{}", seen.header("webhook-id"), seen.header("webhook-timestamp"), seen.body).as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    seen.header("webhook-signature").split(' ').any(|one| one == expected)
}

/// A receiver whose mood can be changed.
async fn moody(first: u16) -> (Receiver, Arc<AtomicU16>) {
    let mood = Arc::new(AtomicU16::new(first));
    let now = Arc::clone(&mood);
    (Receiver::start(move |_| Manner::Status(now.load(Ordering::SeqCst))).await, mood)
}

#[test]
fn an_event_arrives_as_a_signed_cloud_event() {
    on_each(async |control| {
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        let given = Webhook { event_types: vec!["file.available".into()], ..of_templates(receiver.url("/hook?x=1")) };
        let made = create(&control, "ops", given).await;
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0), story.ended(1), story.available(0)];
        let fact_id = facts[3].id.clone();
        node.report(facts).await;
        let seen = receiver.next().await;
        assert_eq!(seen.path, "/hook?x=1");
        assert_eq!(seen.header("content-type"), "application/cloudevents+json");
        assert_eq!(seen.header("host"), receiver.address.to_string());
        assert_eq!((seen.header("webhook-id"), seen.header("webhook-timestamp")), (&*fact_id, &*START.to_string()));
        assert!(is_signed_with(&seen, &made.secret), "{seen:?}");
        let event = seen.json();
        let expected = serde_json::json!({
            "specversion": "1.0", "id": fact_id, "source": "/recorder", "type": "file.available",
            "subject": format!("{}/files/mp4-0", story.name()), "datacontenttype": "application/json",
            "time": "2026-05-28T20:27:20Z",
        });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&event[key], value, "{key}");
        }
        assert_eq!(
            (event["data"]["state"].as_str(), event["data"]["sizeBytes"].as_str()),
            (Some("AVAILABLE"), Some("1000"))
        );
        let done = delivery(&control, "ops", "the log", |delivery| delivery.state() == Of::Delivered).await;
        assert_eq!((done.event_id, done.attempt, done.http_status, done.error.as_str()), (fact_id, 1, 200, ""));
        assert!(receiver.rest().is_empty(), "nothing else was wanted");
    });
}

#[test]
fn a_webhook_of_a_domain_hears_of_no_other() {
    on_each(async |control| {
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        let given = Webhook {
            url: receiver.url("/"),
            event_types: vec!["recording.*".into(), "node.*".into()],
            domains: vec!["push2.example.com".into()],
            ..Default::default()
        };
        create(&control, "ops", given).await;
        let mut node = Node::ready(&control, "m1").await;
        let mut other = Story::new("push.example.com", "cam1");
        let fact = other.started();
        node.report(vec![fact]).await;
        let mut ours = Story { sequence: other.sequence, ..Story::new("push2.example.com", "cam1") };
        let fact = ours.started();
        node.report(vec![fact]).await;
        assert_eq!(receiver.next().await.json()["subject"], ours.name());
        assert!(receiver.rest().is_empty());
    });
}

#[test]
fn a_failure_is_tried_again_on_schedule_with_the_same_id() {
    on_each(async |control| {
        let (mut receiver, mood) = moody(503).await;
        create(&control, "ops", of_templates(receiver.url("/"))).await;
        control.template("t").await;
        let first = receiver.next().await;
        let waiting = delivery(&control, "ops", "the failure", |delivery| delivery.attempt == 1).await;
        assert_eq!((waiting.state(), waiting.http_status, waiting.error.as_str()), (Of::Pending, 503, "answered 503"));
        let next = waiting.next_attempt_time.unwrap().seconds - START;
        assert!((5..=6).contains(&next), "5 s and up to a fifth more, got {next}");
        assert_eq!(webhook(&control, "ops").await.state(), State::Failing);
        control.clock.advance(Duration::from_secs(4));
        tokio::time::timeout(Duration::from_millis(600), receiver.next()).await.expect_err("it is not due yet");
        control.clock.advance(Duration::from_secs(3));
        let second = receiver.next().await;
        mood.store(200, Ordering::SeqCst);
        until("the second failure", async || (deliveries(&control, "ops").await[0].attempt == 2).then_some(())).await;
        control.clock.advance(Duration::from_secs(37));
        let third = receiver.next().await;
        for seen in [&second, &third] {
            assert_eq!((seen.header("webhook-id"), &seen.body), (first.header("webhook-id"), &first.body));
            assert_ne!(seen.header("webhook-timestamp"), first.header("webhook-timestamp"));
        }
        let done = delivery(&control, "ops", "success", |delivery| delivery.state() == Of::Delivered).await;
        assert_eq!((done.attempt, done.http_status, done.error.as_str()), (3, 200, ""));
        assert_eq!((done.next_attempt_time, done.latency.unwrap().seconds), (None, 44));
        assert_eq!(webhook(&control, "ops").await.state(), State::Active);
    });
}

#[test]
fn the_order_of_a_subject_is_kept_and_others_overtake_it() {
    on_each(async |control| {
        // Whatever is about the stubborn one fails for now.
        let open = Arc::new(AtomicU16::new(500));
        let now = Arc::clone(&open);
        let mut receiver = Receiver::start(move |seen| match seen.json()["subject"].as_str() {
            Some("templates/stubborn") => Manner::Status(now.load(Ordering::SeqCst)),
            _ => Manner::Status(200),
        })
        .await;
        create(&control, "ops", of_templates(receiver.url("/"))).await;
        control.template("stubborn").await;
        for text in ["one", "two", "three"] {
            describe(&control, "stubborn", text).await;
        }
        control.template("easy").await;
        let mut came = [receiver.next().await, receiver.next().await];
        came.sort_by_key(|seen| seen.json()["subject"].to_string());
        assert_eq!(came[0].json()["subject"], "templates/easy");
        assert_eq!(came[1].json()["type"], "template.created");
        let log = until("the log", async || {
            let log = deliveries(&control, "ops").await;
            let is = |state, attempt| log.iter().any(|one| one.state() == state && one.attempt == attempt);
            (log.len() == 5 && is(Of::Pending, 1) && is(Of::Delivered, 1)).then_some(log)
        })
        .await;
        let waiting: Vec<bool> = log.iter().map(|delivery| delivery.next_attempt_time.is_some()).collect();
        assert_eq!(waiting.iter().filter(|has_time| **has_time).count(), 1, "only the first has a time: {log:?}");
        open.store(200, Ordering::SeqCst);
        control.clock.advance(Duration::from_secs(7));
        let mut texts = Vec::new();
        for _ in 0..4 {
            let event = receiver.next().await.json();
            texts.push(event["data"]["description"].as_str().unwrap_or("created").to_owned());
        }
        assert_eq!(texts, ["created", "one", "two", "three"]);
    });
}

/// Fails until the schedule is exhausted.
async fn exhaust(control: &Control, receiver: &mut Receiver) {
    receiver.next().await;
    for (made, wait) in (1..).zip([5_u64, 30, 120, 600, 3600, 21_600, 86_400]) {
        until("a failure", async || {
            (deliveries(control, "ops").await.iter().any(|one| one.attempt == made)).then_some(())
        })
        .await;
        control.clock.advance(Duration::from_secs(wait + wait / 5 + 1));
        receiver.next().await;
    }
    until("suspension", async || (webhook(control, "ops").await.state() == State::Suspended).then_some(())).await;
}

#[test]
fn the_end_of_the_schedule_suspends_and_an_update_goes_on() {
    on_each(async |control| {
        let (mut receiver, mood) = moody(500).await;
        let mut witness = Receiver::always(Manner::Status(200)).await;
        let suspensions =
            Webhook { url: witness.url("/"), event_types: vec!["webhook.suspended".into()], ..Default::default() };
        create(&control, "witness", suspensions).await;
        create(&control, "ops", of_templates(receiver.url("/"))).await;
        control.template("a").await;
        exhaust(&control, &mut receiver).await;
        let failed = deliveries(&control, "ops").await.remove(0);
        assert_eq!((failed.state(), failed.attempt, failed.next_attempt_time), (Of::Failed, 8, None));
        let told = witness.next().await.json();
        assert_eq!(
            (told["subject"].as_str(), told["data"]["state"].as_str()),
            (Some("webhooks/ops"), Some("SUSPENDED"))
        );

        mood.store(200, Ordering::SeqCst);
        control.template("b").await;
        let again =
            client(&control).redeliver(RedeliverRequest { name: failed.name.clone() }).await.unwrap().into_inner();
        assert_eq!((again.state(), again.attempt, again.event_id.as_str()), (Of::Delivered, 9, &*failed.event_id));
        let seen = receiver.next().await;
        assert_eq!(seen.header("webhook-id"), failed.event_id, "the same event under the same id");
        assert_eq!(webhook(&control, "ops").await.state(), State::Suspended, "until somebody says so");
        assert!(receiver.rest().is_empty(), "nothing is sent to one that is suspended");

        let touched = Webhook { name: "ops".into(), url: receiver.url("/"), ..Default::default() };
        let request = UpdateWebhookRequest { webhook: Some(touched), update_mask: None };
        let active = client(&control).update_webhook(request).await.unwrap().into_inner();
        assert_eq!(active.state(), State::Active);
        assert_eq!(receiver.next().await.json()["subject"], "templates/b", "what happened meanwhile is not lost");
    });
}

#[test]
fn gone_means_nothing_more() {
    on_each(async |control| {
        let mut receiver = Receiver::always(Manner::Status(410)).await;
        create(&control, "ops", of_templates(receiver.url("/"))).await;
        control.template("t").await;
        receiver.next().await;
        let over = delivery(&control, "ops", "the end", |delivery| delivery.state() == Of::Failed).await;
        assert_eq!((over.attempt, over.http_status), (1, 410));
        assert_eq!(webhook(&control, "ops").await.state(), State::Suspended);
    });
}

#[test]
fn both_secrets_sign_until_the_overlap_ends() {
    on_each(async |control| {
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        let old = create(&control, "ops", of_templates(receiver.url("/"))).await.secret;
        let rotate = |overlap| RotateSecretRequest { name: "ops".into(), overlap };
        let rotated = client(&control).rotate_secret(rotate(seconds(3600))).await.unwrap().into_inner();
        assert_ne!(rotated.secret, old);
        control.template("during").await;
        let seen = receiver.next().await;
        assert!(is_signed_with(&seen, &old) && is_signed_with(&seen, &rotated.secret));
        assert_eq!(seen.header("webhook-signature").split(' ').count(), 2);
        control.clock.advance(Duration::from_secs(3601));
        control.template("after").await;
        let seen = receiver.next().await;
        assert!(!is_signed_with(&seen, &old) && is_signed_with(&seen, &rotated.secret));
        let at_once = client(&control).rotate_secret(rotate(seconds(0))).await.unwrap().into_inner();
        control.template("at-once").await;
        let seen = receiver.next().await;
        assert!(is_signed_with(&seen, &at_once.secret) && !is_signed_with(&seen, &rotated.secret));
        let default = client(&control).rotate_secret(rotate(None)).await.unwrap().into_inner();
        control.clock.advance(Duration::from_secs(86_399));
        control.template("a-day").await;
        let seen = receiver.next().await;
        assert!(is_signed_with(&seen, &at_once.secret) && is_signed_with(&seen, &default.secret), "a day by default");
    });
}

#[test]
fn a_restart_forgets_nothing_and_repeats_nothing() {
    on_each(async |control| {
        let (mut receiver, mood) = moody(500).await;
        create(&control, "ops", of_templates(receiver.url("/"))).await;
        control.template("a").await;
        let first = receiver.next().await;
        until("the failure", async || (deliveries(&control, "ops").await[0].attempt == 1).then_some(())).await;
        control.template("b").await;
        until("both", async || {
            (deliveries(&control, "ops").await.iter().filter(|one| one.attempt == 1).count() == 2).then_some(())
        })
        .await;
        receiver.next().await;
        let control = control.restart().await;
        mood.store(200, Ordering::SeqCst);
        control.clock.advance(Duration::from_secs(7));
        let ids = [receiver.next().await, receiver.next().await].map(|seen| seen.header("webhook-id").to_owned());
        assert!(ids.contains(&first.header("webhook-id").to_owned()), "{ids:?}");
        control.template("c").await;
        assert_eq!(receiver.next().await.json()["subject"], "templates/c");
        assert!(receiver.rest().is_empty());
    });
}

#[test]
fn an_event_that_is_not_kept_any_more_fails_and_suspends_nobody() {
    on_each(async |control| {
        let (mut receiver, mood) = moody(500).await;
        create(&control, "ops", of_templates(receiver.url("/"))).await;
        control.template("a").await;
        receiver.next().await;
        until("the failure", async || (deliveries(&control, "ops").await[0].attempt == 1).then_some(())).await;
        control.scratch.db.write(|db| recorder_db::events::prune_prefix(db, i64::MAX)).await.unwrap();
        mood.store(200, Ordering::SeqCst);
        control.clock.advance(Duration::from_secs(7));
        let lost = delivery(&control, "ops", "the loss", |delivery| delivery.state() == Of::Failed).await;
        assert_eq!(lost.error, "the event is not kept any more");
        control.template("b").await;
        assert_eq!(receiver.next().await.json()["subject"], "templates/b");
    });
}
