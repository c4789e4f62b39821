//! Receivers that mean no good: reliability test 28.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::delivery::State as Of;
use recorder_proto::pb::v1::webhook::State;
use recorder_proto::pb::v1::{RedeliverRequest, TestWebhookRequest, UpdateWebhookRequest, Webhook};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::receiver::{Manner, Receiver, Seen};
use super::{client, create, deliveries, describe, of_templates, on_each, webhook};
use crate::link::control::{Control, until};
use crate::support::{bad_fields, seconds};

/// Most that may have been sent into a connection that is not read: the buffers of the two kernels.
const KERNEL_BYTES: usize = 16 << 20;

async fn test(control: &Control, name: &str) -> v1::Delivery {
    client(control).test_webhook(TestWebhookRequest { name: name.into() }).await.unwrap().into_inner()
}

async fn patient(control: &Control, id: &str, url: String) {
    create(control, id, Webhook { timeout: seconds(1), ..of_templates(url) }).await;
}

#[test]
fn webhook_receiver_hostile() {
    on_each(async |control| {
        // 169.254.169.254 is reached neither directly, nor by redirect, nor by a name.
        let mut lures = Receiver::start(|seen| match seen.path.as_str() {
            "/redirect" => Manner::Redirect("http://169.254.169.254/latest/meta-data/".into()),
            "/here" => Manner::Redirect("/elsewhere".into()),
            "/drip" => Manner::Drip,
            "/flood" => Manner::Flood(200),
            "/refusing-flood" => Manner::Flood(500),
            "/headers" => Manner::Headers,
            "/hang-up" => Manner::HangUp,
            _ => Manner::Status(500),
        })
        .await;
        for (id, path, error) in [
            (
                "redirect",
                "/redirect",
                "answered 302 towards http://169.254.169.254/latest/meta-data/; redirects are not followed",
            ),
            ("here", "/here", "answered 302 towards /elsewhere; redirects are not followed"),
            ("drip", "/drip", "no answer within 1s"),
            ("headers", "/headers", ""),
            ("hang-up", "/hang-up", ""),
            ("refusing-flood", "/refusing-flood", "answered 500: xxx"),
        ] {
            patient(&control, id, lures.url(path)).await;
            let began = Instant::now();
            let tried = test(&control, id).await;
            assert!(began.elapsed() < Duration::from_secs(4), "{id} took {:?}", began.elapsed());
            assert_eq!(tried.state(), Of::Failed, "{id}: {tried:?}");
            assert!(!tried.error.is_empty() && tried.error.starts_with(error), "{id}: {}", tried.error);
            assert!(tried.error.len() < 400, "{id}: {}", tried.error.len());
            assert_eq!(lures.next().await.path, path);
        }
        patient(&control, "flood", lures.url("/flood")).await;
        assert_eq!(test(&control, "flood").await.state(), Of::Delivered, "2xx is a success, whatever comes behind it");
        until("every connection to be closed", async || (lures.open.load(Ordering::SeqCst) == 0).then_some(())).await;
        let sent = lures.sent.load(Ordering::SeqCst);
        assert!(sent < 3 * KERNEL_BYTES, "{sent} bytes of three floods were taken");
        assert_eq!(lures.rest().iter().filter(|seen| seen.path == "/elsewhere").count(), 0);

        refused_addresses(&control).await;
        tls_errors(&control).await;
        order_and_suspension(&control).await;
    });
}

/// Private networks are refused when they are written, and when a name turns out to lead there.
async fn refused_addresses(control: &Control) {
    for url in ["http://169.254.169.254/", "https://10.0.0.1/", "http://[::1]:80/", "http://[::ffff:169.254.169.254]/"]
    {
        let request = v1::CreateWebhookRequest {
            webhook: Some(Webhook { url: url.into(), ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(bad_fields(client(control).create_webhook(request).await), ["webhook.url"], "{url}");
    }
    patient(control, "nowhere", "http://no-such-host.invalid/".into()).await;
    let tried = test(control, "nowhere").await;
    assert!(tried.error.contains("cannot be looked up") || tried.error.contains("no answer"), "{}", tried.error);
}

/// Whoever speaks no TLS, or shows a certificate that nobody vouches for, is no receiver.
async fn tls_errors(control: &Control) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    patient(control, "plain", url).await;
    let tried = test(control, "plain").await;
    assert_eq!(tried.state(), Of::Failed);
    assert!(tried.error.starts_with("TLS: "), "{}", tried.error);
}

/// One bad receiver delays no other; its order is kept, its end is a suspension, and what failed can be sent again.
async fn order_and_suspension(control: &Control) {
    // Slow while another waits for it, and merely failing for the rest of its schedule.
    let drips = AtomicUsize::new(2);
    let manner = move |_: &Seen| {
        let slow = drips.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if slow { Manner::Drip } else { Manner::Status(500) }
    };
    let mut bad = Receiver::start(manner).await;
    let mut good = Receiver::always(Manner::Status(200)).await;
    patient(control, "bad", bad.url("/")).await;
    patient(control, "good", good.url("/")).await;
    control.template("s").await;
    for text in ["one", "two"] {
        describe(control, "s", text).await;
    }
    let began = Instant::now();
    let told: Vec<String> = [good.next().await, good.next().await, good.next().await]
        .map(|seen| seen.json()["type"].as_str().unwrap_or_default().to_owned())
        .into();
    assert_eq!(told, ["template.created", "template.updated", "template.updated"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let first = bad.next().await.header("webhook-id").to_owned();
    for (made, wait) in (1..).zip([5_u64, 30, 120, 600, 3600, 21_600, 86_400]) {
        let failed = |one: &v1::Delivery| one.attempt == made && one.event_id == first;
        until("a failure", async || deliveries(control, "bad").await.iter().any(failed).then_some(())).await;
        control.clock.advance(Duration::from_secs(wait + wait / 5 + 1));
        assert_eq!(bad.next().await.header("webhook-id"), first, "nothing about the subject overtakes it");
    }
    until("suspension", async || (webhook(control, "bad").await.state() == State::Suspended).then_some(())).await;
    let log = deliveries(control, "bad").await;
    let states: Vec<Of> = log.iter().rev().map(v1::Delivery::state).collect();
    assert_eq!(states, [Of::Failed, Of::Pending, Of::Pending]);
    let cured = Webhook { name: "bad".into(), url: good.url("/cured"), ..Default::default() };
    let request = UpdateWebhookRequest { webhook: Some(cured), update_mask: None };
    client(control).update_webhook(request).await.unwrap();
    for text in ["one", "two"] {
        let seen = good.next().await;
        assert_eq!((seen.path.as_str(), seen.json()["data"]["description"].as_str()), ("/cured", Some(text)));
    }
    let failed = log.last().unwrap().name.clone();
    let again = client(control).redeliver(RedeliverRequest { name: failed }).await.unwrap().into_inner();
    assert_eq!((again.state(), again.event_id.as_str()), (Of::Delivered, first.as_str()));
    assert_eq!(good.next().await.header("webhook-id"), first);
}

#[test]
fn a_name_that_leads_to_a_private_network_is_not_called() {
    // Nothing is allowed but http.
    crate::link::control::on_each_with(&["--webhooks-allow-http", "true"], async |control| {
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        let url = format!("http://localhost:{}/", receiver.address.port());
        patient(&control, "inside", url).await;
        let tried = test(&control, "inside").await;
        assert_eq!(tried.state(), Of::Failed);
        assert!(tried.error.contains("is not a public address; webhooks.networks"), "{}", tried.error);
        control.template("t").await;
        until("the same by schedule", async || {
            let log = deliveries(&control, "inside").await;
            log.iter().any(|one| one.state() == Of::Pending && one.error.contains("public address")).then_some(())
        })
        .await;
        assert!(receiver.rest().is_empty(), "no connection was made");
    });
}
