//! What a request leaves in the log and in the metrics, and what it does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use recorder_runtime::accept::Listener;
use recorder_runtime::clock::SystemClock;
use recorder_runtime::drain::Drain;
use recorder_runtime::metrics;
use recorder_runtime::readiness::Readiness;
use recorder_runtime::serve::{GrpcServer, Options};
use recorder_runtime::telemetry::{Format, subscriber};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn call(channel: &Channel, path: String) -> Result<HealthCheckResponse, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = HealthCheckRequest { service: "hunter2".to_owned() };
    Ok(client.unary(tonic::Request::new(request), path.parse().unwrap(), codec).await?.into_inner())
}

// One thread: the local recorder and subscriber see the server's tasks as well.
#[tokio::test]
async fn requests_are_counted_by_known_method_and_code_and_bodies_never_logged() {
    let recorder = metrics::recorder().unwrap();
    let handle = recorder.handle();
    let _recorder = ::metrics::set_default_local_recorder(&recorder);
    let sink = Sink::default();
    let writer = sink.clone();
    let (subscriber, _logs) =
        subscriber(Format::Json, "recorder_runtime=trace", false, move || writer.clone()).unwrap();
    let _subscriber = tracing::subscriber::set_default(subscriber);

    let drain = Drain::new();
    let readiness = Readiness::new(drain.signal());
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address();
    let server = GrpcServer::new("api", Options::default(), readiness, drain.signal(), SystemClock::shared());
    let task = tokio::spawn(server.run(listener));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = timeout(PATIENCE, endpoint.connect()).await.unwrap().unwrap();
    assert_eq!(call(&channel, "/grpc.health.v1.Health/Check".to_owned()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        call(&channel, "/recorder.v1.SystemService/GetServerInfo".to_owned()).await.unwrap_err().code(),
        Code::Unimplemented
    );
    for number in 0..50 {
        let error = call(&channel, format!("/made.up.Service{number}/Method{number}")).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
    }
    drop(channel);
    drain.begin();
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();

    let text = handle.render();
    let counted: Vec<&str> = text.lines().filter(|line| line.starts_with("recorder_api_requests_total{")).collect();
    let mut expected = [
        "recorder_api_requests_total{service=\"grpc.health.v1.Health\",method=\"Check\",code=\"NOT_FOUND\"} 1",
        "recorder_api_requests_total{service=\"recorder.v1.SystemService\",method=\"GetServerInfo\",\
         code=\"UNIMPLEMENTED\"} 1",
        "recorder_api_requests_total{service=\"unknown\",method=\"unknown\",code=\"UNIMPLEMENTED\"} 50",
    ];
    let mut sorted = counted.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected, "{text}");
    let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains("hunter2"), "{log}");
    let line = log.lines().find(|line| line.contains("GetServerInfo")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["method"], &line["code"]), (&"GetServerInfo".into(), &"UNIMPLEMENTED".into()));
    assert!(line["seconds"].as_f64().unwrap() < PATIENCE.as_secs_f64());
}
