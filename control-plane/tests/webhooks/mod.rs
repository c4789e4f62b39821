//! Webhooks: managing them, delivering to them, and receivers of every kind.
mod burst;
mod crash;
mod deliver;
mod hostile;
mod manage;
mod receiver;
mod reference;
mod replicas;
mod tls;
mod vendor;

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::webhook_service_client::WebhookServiceClient;
use recorder_proto::pb::v1::{CreateWebhookRequest, ListDeliveriesRequest, Webhook};
use tonic::transport::Channel;

use crate::link::control::{Control, on_each_with, until};

/// Receivers on this machine are allowed; everything else that is private is not.
const LOCAL: &[&str] = &["--webhooks-allow-http", "true", "--webhooks-networks", "127.0.0.0/8"];

/// Runs a test once per database, with receivers on this machine.
fn on_each(test: impl AsyncFn(Control)) {
    on_each_with(LOCAL, test);
}

fn client(control: &Control) -> WebhookServiceClient<Channel> {
    WebhookServiceClient::new(control.api.clone())
}

async fn create(control: &Control, id: &str, webhook: Webhook) -> Webhook {
    let request = CreateWebhookRequest { webhook_id: id.to_owned(), webhook: Some(webhook), ..Default::default() };
    client(control).create_webhook(request).await.unwrap().into_inner()
}

async fn webhook(control: &Control, id: &str) -> Webhook {
    client(control).get_webhook(v1::GetWebhookRequest { name: id.to_owned() }).await.unwrap().into_inner()
}

async fn deliveries(control: &Control, id: &str) -> Vec<v1::Delivery> {
    let request = ListDeliveriesRequest { parent: id.to_owned(), ..Default::default() };
    client(control).list_deliveries(request).await.unwrap().into_inner().deliveries
}

/// Waits for the newest delivery to be as described.
async fn delivery(control: &Control, id: &str, what: &str, is: impl Fn(&v1::Delivery) -> bool) -> v1::Delivery {
    until(what, async || deliveries(control, id).await.into_iter().next().filter(|delivery| is(delivery))).await
}

/// A webhook for what a template's life consists of.
fn of_templates(url: String) -> Webhook {
    Webhook { url, event_types: vec!["template.*".to_owned()], ..Webhook::default() }
}

async fn describe(control: &Control, id: &str, description: &str) {
    let template = v1::Template { name: id.to_owned(), description: description.to_owned(), ..Default::default() };
    let request = v1::UpdateTemplateRequest { template: Some(template), ..Default::default() };
    control.templates().update_template(request).await.unwrap();
}
