//! Two control planes on one Postgres: one sends, and when it is gone the other does.
use std::time::Duration;

use recorder_db::Kind;
use recorder_db::scratch::{Scratch, kinds};
use recorder_proto::pb::v1::CreateTemplateRequest;
use recorder_proto::pb::v1::CreateWebhookRequest;
use recorder_proto::pb::v1::template_service_client::TemplateServiceClient;
use recorder_proto::pb::v1::webhook_service_client::WebhookServiceClient;

use super::of_templates;
use super::receiver::{Manner, Receiver};
use crate::link::binary::{Process, channel};

const LOCAL: [&str; 4] = ["--webhooks-allow-http", "true", "--webhooks-networks", "127.0.0.0/8"];

#[test]
fn one_replica_sends_and_the_other_takes_over_when_it_is_killed() {
    if !kinds().contains(&Kind::Postgres) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let scratch = tokio::task::spawn_blocking(|| Scratch::new(Kind::Postgres)).await.unwrap().unwrap();
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        let mut first = Process::start_with(folders[0].path(), &scratch.url, &LOCAL).await;
        let webhook = Some(of_templates(receiver.url("/")));
        let request = CreateWebhookRequest { webhook_id: "ops".into(), webhook, ..Default::default() };
        WebhookServiceClient::new(channel(first.address("api")).await).create_webhook(request).await.unwrap();
        template(&first, "a").await;
        assert_eq!(receiver.next().await.json()["subject"], "templates/a");
        let second = Process::start_with(folders[1].path(), &scratch.url, &LOCAL).await;
        for id in ["b", "c", "d"] {
            template(&second, id).await;
        }
        let mut told: Vec<String> = Vec::new();
        for _ in 0..3 {
            told.push(receiver.next().await.json()["subject"].as_str().unwrap().to_owned());
        }
        told.sort();
        assert_eq!(told, ["templates/b", "templates/c", "templates/d"]);
        tokio::time::timeout(Duration::from_millis(700), receiver.next()).await.expect_err("nothing came twice");
        first.kill();
        template(&second, "e").await;
        assert_eq!(receiver.next().await.json()["subject"], "templates/e", "the lease ran out, and the other sends");
    });
}

async fn template(process: &Process, id: &str) {
    let request = CreateTemplateRequest { template_id: id.to_owned(), ..Default::default() };
    TemplateServiceClient::new(channel(process.address("api")).await).create_template(request).await.unwrap();
}
