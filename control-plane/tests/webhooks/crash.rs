//! SIGKILL of the control plane at any moment: every event at least once, under one id, in order (test 19, webhooks).
use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use recorder_db::scratch::{Scratch, kinds};
use recorder_proto::pb::v1::template_service_client::TemplateServiceClient;
use recorder_proto::pb::v1::webhook_service_client::WebhookServiceClient;
use recorder_proto::pb::v1::{CreateTemplateRequest, CreateWebhookRequest};

use super::of_templates;
use super::receiver::{Manner, Receiver};
use crate::link::binary::{Process, channel};
use crate::link::control::PATIENCE;

/// Kills in the short form.
const KILLS: usize = 4;

/// Templates made between two kills.
const BETWEEN: usize = 6;

const LOCAL: [&str; 4] = ["--webhooks-allow-http", "true", "--webhooks-networks", "127.0.0.0/8"];

#[test]
fn kill9_of_the_control_plane_loses_no_event_and_makes_no_second_id() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for kind in kinds() {
        runtime.block_on(async {
            let scratch = tokio::task::spawn_blocking(move || Scratch::new(kind)).await.unwrap().unwrap();
            run(&scratch, &mut StdRng::seed_from_u64(seed)).await;
        });
    }
}

async fn run(scratch: &Scratch, random: &mut StdRng) {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::always(Manner::Status(200)).await;
    let mut process = Process::start_with(folder.path(), &scratch.url, &LOCAL).await;
    let webhook = Some(of_templates(receiver.url("/")));
    let request = CreateWebhookRequest { webhook_id: "ops".into(), webhook, ..Default::default() };
    WebhookServiceClient::new(channel(process.address("api")).await).create_webhook(request).await.unwrap();
    let mut made = Vec::new();
    for kill in 0..KILLS {
        let mut templates = TemplateServiceClient::new(channel(process.address("api")).await);
        for number in 0..BETWEEN {
            let id = format!("t{kill}-{number}");
            templates
                .create_template(CreateTemplateRequest { template_id: id.clone(), ..Default::default() })
                .await
                .unwrap();
            made.push(format!("templates/{id}"));
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..120)));
        process.kill();
        process = Process::start_with(folder.path(), &scratch.url, &LOCAL).await;
    }
    // Each subject came, however often, under one id only.
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let mut attempts = 0;
    while ids.len() < made.len() {
        let seen = tokio::time::timeout(PATIENCE, receiver.next()).await.expect("every event in time");
        let event = seen.json();
        let subject = event["subject"].as_str().unwrap().to_owned();
        attempts += 1;
        let id = ids.entry(subject.clone()).or_insert_with(|| seen.header("webhook-id").to_owned());
        assert_eq!((id.as_str(), event["id"].as_str()), (seen.header("webhook-id"), Some(id.as_str())), "{subject}");
    }
    let distinct: std::collections::BTreeSet<&String> = ids.values().collect();
    assert_eq!(
        (distinct.len(), ids.keys().cloned().collect::<Vec<_>>()),
        (made.len(), {
            made.sort();
            made.clone()
        })
    );
    println!("{} events took {attempts} attempts over {KILLS} kills", made.len());
}
