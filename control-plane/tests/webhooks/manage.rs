//! Creating, reading, changing and deleting receivers.
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::delivery::State as Of;
use recorder_proto::pb::v1::webhook::{Signature, State};
use recorder_proto::pb::v1::{
    CreateWebhookRequest, DeleteWebhookRequest, GetWebhookRequest, ListDeliveriesRequest, ListWebhooksRequest,
    RedeliverRequest, RotateSecretRequest, TestWebhookRequest, UpdateWebhookRequest, Webhook,
};
use tonic::Code;

use super::receiver::{Manner, Receiver};
use super::{client, create, deliveries, of_templates, on_each, webhook};
use crate::link::control::on_each as on_each_strict;
use crate::support::{bad_fields, mask, reason, seconds};

fn update(webhook: Webhook) -> UpdateWebhookRequest {
    UpdateWebhookRequest { webhook: Some(webhook), update_mask: None }
}

#[test]
fn the_secret_is_shown_once_and_defaults_are_filled_in() {
    on_each(async |control| {
        let given = Webhook {
            url: "https://ops.example.com/hook".into(),
            headers: [("authorization".to_owned(), "Bearer t0ken".to_owned())].into(),
            ..Default::default()
        };
        let made = create(&control, "ops", given).await;
        assert!(made.secret.starts_with("whsec_"));
        assert_eq!((made.name.as_str(), made.event_types.as_slice()), ("webhooks/ops", &["*".to_owned()][..]));
        assert_eq!((made.state(), made.signature(), made.timeout), (State::Active, Signature::Standard, seconds(20)));
        assert_eq!(made.headers["authorization"], "", "values are input only");
        let read = webhook(&control, "ops").await;
        assert_eq!(read, Webhook { secret: String::new(), ..made.clone() });
        let listed = client(&control).list_webhooks(ListWebhooksRequest::default()).await.unwrap().into_inner();
        assert_eq!(listed.webhooks, [read]);
        let events = control.scratch.db.read(|db| recorder_db::events::after(db, 0, 1000)).await.unwrap();
        let key = made.secret.trim_start_matches("whsec_").as_bytes().to_vec();
        for event in &events {
            for secret in [&key[..], b"t0ken"] {
                assert!(!event.body.windows(secret.len()).any(|part| part == secret), "{}", event.kind);
            }
        }
        assert!(events.iter().any(|event| event.kind == "webhook.created"));
    });
}

#[test]
fn creating_is_idempotent_and_names_what_is_wrong() {
    on_each_strict(async |control| {
        let request = CreateWebhookRequest {
            webhook_id: "ops".into(),
            webhook: Some(Webhook { url: "https://ops.example.com".into(), ..Default::default() }),
            request_id: "r1".into(),
        };
        let first = client(&control).create_webhook(request.clone()).await.unwrap().into_inner();
        let again = client(&control).create_webhook(request.clone()).await.unwrap().into_inner();
        assert_eq!(first, again, "the secret as well");
        let taken = CreateWebhookRequest { request_id: String::new(), ..request.clone() };
        assert_eq!(
            reason(client(&control).create_webhook(taken).await),
            (Code::AlreadyExists, "WEBHOOK_EXISTS".into())
        );
        let bad = CreateWebhookRequest {
            webhook_id: "Not An Id".into(),
            webhook: Some(Webhook {
                url: "http://169.254.169.254/".into(),
                timeout: seconds(61),
                secret: "hunter2".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let fields = ["webhook.secret", "webhook.timeout", "webhook.url", "webhook_id"];
        assert_eq!(bad_fields(client(&control).create_webhook(bad).await), fields);
        let minted = CreateWebhookRequest { webhook_id: String::new(), request_id: String::new(), ..request };
        let minted = client(&control).create_webhook(minted).await.unwrap().into_inner();
        assert!(minted.name.starts_with("webhooks/w-"), "{}", minted.name);
    });
}

#[test]
fn updates_change_what_they_name_and_keep_what_nobody_can_read() {
    on_each(async |control| {
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        let given = Webhook {
            headers: [("x-key".to_owned(), "v1".to_owned())].into(),
            timeout: seconds(5),
            ..of_templates(receiver.url("/a"))
        };
        let made = create(&control, "ops", given).await;
        let named = |change: Webhook| Webhook { name: "ops".into(), ..change };
        let moved = named(Webhook { url: receiver.url("/b"), ..Default::default() });
        let changed = client(&control).update_webhook(update(moved)).await.unwrap().into_inner();
        assert_eq!((changed.secret.as_str(), changed.timeout), ("", seconds(5)));
        assert_ne!(changed.etag, made.etag);
        control.template("t").await;
        let seen = receiver.next().await;
        assert_eq!((seen.path.as_str(), seen.header("x-key")), ("/b", "v1"), "headers were kept");
        let stale = named(Webhook { etag: made.etag, disabled: true, ..Default::default() });
        let refused = reason(client(&control).update_webhook(update(stale)).await);
        assert_eq!(refused, (Code::Aborted, "ETAG_MISMATCH".into()));
        let cleared =
            UpdateWebhookRequest { webhook: Some(named(Webhook::default())), update_mask: mask(&["timeout"]) };
        let cleared = client(&control).update_webhook(cleared).await.unwrap().into_inner();
        assert_eq!(cleared.timeout, seconds(20), "cleared is the default");
        let bad = named(Webhook { url: "ftp://x".into(), ..Default::default() });
        assert_eq!(bad_fields(client(&control).update_webhook(update(bad)).await), ["webhook.url"]);
        let nobody = Webhook { name: "nobody".into(), disabled: true, ..Default::default() };
        let refused = reason(client(&control).update_webhook(update(nobody)).await);
        assert_eq!(refused, (Code::NotFound, "WEBHOOK_NOT_FOUND".into()));
    });
}

#[test]
fn deleting_takes_deliveries_along() {
    on_each(async |control| {
        let mut receiver = Receiver::always(Manner::Status(500)).await;
        let made = create(&control, "ops", of_templates(receiver.url("/"))).await;
        control.template("t").await;
        receiver.next().await;
        let delete = |etag: &str| DeleteWebhookRequest { name: "ops".into(), etag: etag.into() };
        let refused = reason(client(&control).delete_webhook(delete("x")).await);
        assert_eq!(refused, (Code::Aborted, "ETAG_MISMATCH".into()));
        client(&control).delete_webhook(delete(&made.etag)).await.unwrap();
        let refused = reason(client(&control).delete_webhook(delete("")).await);
        assert_eq!(refused, (Code::NotFound, "WEBHOOK_NOT_FOUND".into()));
        let request = ListDeliveriesRequest { parent: "ops".into(), ..Default::default() };
        let refused = reason(client(&control).list_deliveries(request).await);
        assert_eq!(refused, (Code::NotFound, "WEBHOOK_NOT_FOUND".into()));
        create(&control, "ops", of_templates(receiver.url("/"))).await;
        assert_eq!(deliveries(&control, "ops").await, [], "another one of the same name has none of them");
    });
}

#[test]
fn a_test_says_at_once_how_it_went_and_is_in_the_log() {
    on_each(async |control| {
        let mut receiver = Receiver::start(|seen| match seen.path.as_str() {
            "/good" => Manner::Status(204),
            _ => Manner::Words(403, "who are\r\nyou?".into()),
        })
        .await;
        create(&control, "good", of_templates(receiver.url("/good"))).await;
        create(&control, "bad", of_templates(receiver.url("/bad"))).await;
        let test = |name: &str| TestWebhookRequest { name: name.into() };
        let good = client(&control).test_webhook(test("good")).await.unwrap().into_inner();
        assert_eq!((good.state(), good.http_status, good.attempt, good.error.as_str()), (Of::Delivered, 204, 1, ""));
        let seen = receiver.next().await;
        assert_eq!(
            (seen.json()["type"].as_str(), seen.json()["id"].as_str()),
            (Some("webhook.test"), Some(&*good.event_id))
        );
        assert_eq!(seen.json()["data"]["name"], "webhooks/good");
        assert_eq!(deliveries(&control, "good").await, [good]);
        let bad = client(&control).test_webhook(test("bad")).await.unwrap().into_inner();
        assert_eq!((bad.state(), bad.http_status), (Of::Failed, 403));
        assert_eq!(bad.error, "answered 403: who are  you?");
        assert_eq!(webhook(&control, "bad").await.state(), State::Active, "a test suspends nobody");
        let off = Webhook { name: "good".into(), disabled: true, ..Default::default() };
        client(&control).update_webhook(update(off)).await.unwrap();
        let refused = reason(client(&control).test_webhook(test("good")).await);
        assert_eq!(refused, (Code::FailedPrecondition, "WEBHOOK_DISABLED".into()));
        let refused = reason(client(&control).test_webhook(test("nobody")).await);
        assert_eq!(refused, (Code::NotFound, "WEBHOOK_NOT_FOUND".into()));
    });
}

#[test]
fn names_and_filters_of_the_log_are_checked() {
    on_each(async |control| {
        let receiver = Receiver::always(Manner::Status(200)).await;
        create(&control, "ops", of_templates(receiver.url("/"))).await;
        for id in ["a", "b", "c"] {
            control.template(id).await;
        }
        let done = |states: &[Of], size, token: &str| ListDeliveriesRequest {
            parent: "webhooks/ops".into(),
            states: states.iter().map(|state| *state as i32).collect(),
            page_size: size,
            page_token: token.into(),
        };
        crate::link::control::until("three deliveries", async || {
            let list = client(&control).list_deliveries(done(&[Of::Delivered], 0, "")).await.unwrap().into_inner();
            (list.deliveries.len() == 3).then_some(())
        })
        .await;
        let first = client(&control).list_deliveries(done(&[Of::Delivered], 2, "")).await.unwrap().into_inner();
        let token = first.next_page_token.as_str();
        let second = client(&control).list_deliveries(done(&[Of::Delivered], 2, token)).await.unwrap().into_inner();
        assert_eq!((first.deliveries.len(), second.deliveries.len(), second.next_page_token.as_str()), (2, 1, ""));
        assert!(first.deliveries[0].name > first.deliveries[1].name, "newest first");
        let failed = client(&control).list_deliveries(done(&[Of::Failed], 0, "")).await.unwrap().into_inner();
        assert_eq!(failed.deliveries, []);
        let bad = ListDeliveriesRequest { states: vec![99], page_token: "x".into(), ..done(&[], 0, "") };
        assert_eq!(bad_fields(client(&control).list_deliveries(bad).await), ["page_token", "states"]);
        for name in ["", "ops", "webhooks/ops/deliveries/", "webhooks/ops/deliveries/x"] {
            let request = RedeliverRequest { name: name.into() };
            assert_eq!(bad_fields(client(&control).redeliver(request).await), ["name"], "{name}");
        }
        let request = RedeliverRequest { name: "webhooks/ops/deliveries/01ARZ3NDEKTSV4RRFFQ69G5FAV".into() };
        let refused = reason(client(&control).redeliver(request).await);
        assert_eq!(refused, (Code::NotFound, "DELIVERY_NOT_FOUND".into()));
        let get = GetWebhookRequest { name: "nobody".into() };
        assert_eq!(reason(client(&control).get_webhook(get).await), (Code::NotFound, "WEBHOOK_NOT_FOUND".into()));
        let rotate = RotateSecretRequest { name: "ops".into(), overlap: seconds(604_801) };
        assert_eq!(bad_fields(client(&control).rotate_secret(rotate).await), ["overlap"]);
    });
}

#[test]
fn what_is_disabled_is_sent_nothing_until_it_is_enabled() {
    on_each(async |control| {
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        create(&control, "ops", Webhook { disabled: true, ..of_templates(receiver.url("/")) }).await;
        let mut other = Receiver::always(Manner::Status(200)).await;
        create(&control, "other", of_templates(other.url("/"))).await;
        control.template("a").await;
        other.next().await;
        assert_eq!((deliveries(&control, "ops").await.len(), receiver.rest().len()), (0, 0));
        let on = Webhook { name: "ops".into(), disabled: false, ..Default::default() };
        let on = UpdateWebhookRequest { webhook: Some(on), update_mask: mask(&["disabled"]) };
        client(&control).update_webhook(on).await.unwrap();
        let seen = receiver.next().await;
        assert_eq!(seen.json()["subject"], "templates/a", "what happened meanwhile is not lost");
    });
}

#[test]
fn deliveries_of_other_webhooks_are_not_found() {
    on_each(async |control| {
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        create(&control, "one", of_templates(receiver.url("/"))).await;
        create(&control, "two", Webhook { disabled: true, ..of_templates(receiver.url("/")) }).await;
        control.template("t").await;
        receiver.next().await;
        let ours = deliveries(&control, "one").await.remove(0);
        let request = RedeliverRequest { name: ours.name.replace("/one/", "/two/") };
        let refused = reason(client(&control).redeliver(request).await);
        assert_eq!(refused, (Code::NotFound, "DELIVERY_NOT_FOUND".into()));
        let request = v1::RedeliverRequest { name: ours.name };
        assert_eq!(client(&control).redeliver(request).await.unwrap().into_inner().state(), Of::Delivered);
    });
}
