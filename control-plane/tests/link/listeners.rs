//! What is served where: reflection, health and readiness.
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::control::{on_each, until};

async fn services(channel: Channel) -> Vec<String> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut replies = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    match replies.message().await.unwrap().unwrap().message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).filter(|name| name.starts_with("recorder.")).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_api_serves_every_public_service_and_the_link_only_its_own() {
    on_each(async |control| {
        let mut public = services(control.api.clone()).await;
        public.sort();
        let expected: Vec<String> = [
            "Access",
            "Domain",
            "Event",
            "Node",
            "Recording",
            "Rule",
            "Standby",
            "Storage",
            "Stream",
            "System",
            "Task",
            "Template",
            "Transcoding",
            "Usage",
            "Watermark",
            "Webhook",
        ]
        .iter()
        .map(|name| format!("recorder.v1.{name}Service"))
        .collect();
        assert_eq!(public, expected);
        assert_eq!(services(control.link.clone()).await, ["recorder.node.v1.NodeLinkService"]);
        for (channel, service) in
            [(&control.api, "recorder.v1.RecordingService"), (&control.link, "recorder.node.v1.NodeLinkService")]
        {
            until("the service to be healthy", async || {
                let request = HealthCheckRequest { service: service.into() };
                let reply = HealthClient::new(channel.clone()).check(request).await.ok()?;
                (reply.into_inner().status() == ServingStatus::Serving).then_some(())
            })
            .await;
        }
    });
}
