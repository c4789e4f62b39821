//! The gRPC listener over a real socket: health, reflection in both versions, limits, and a shutdown that ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use recorder_runtime::accept::{Limits, Listener};
use recorder_runtime::clock::SystemClock;
use recorder_runtime::drain::{Drain, Outcome};
use recorder_runtime::readiness::{Check, Readiness};
use recorder_runtime::serve::{GrpcServer, Options, Shutdown};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;
use tower::Service;

const PATIENCE: Duration = Duration::from_secs(20);

/// Stands for a generated server: answers every method of the real service with one code.
#[derive(Clone)]
struct Refusing;

impl NamedService for Refusing {
    const NAME: &'static str = "recorder.v1.SystemService";
}

impl Service<Request<Body>> for Refusing {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Status::unimplemented("a later issue").into_http()))
    }
}

/// Says that a request has arrived and answers when it is let go.
#[derive(Clone)]
struct Waiting {
    arrived: mpsc::UnboundedSender<()>,
    go: Arc<Notify>,
}

impl NamedService for Waiting {
    const NAME: &'static str = "recorder.v1.TemplateService";
}

impl Service<Request<Body>> for Waiting {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let Waiting { arrived, go } = self.clone();
        Box::pin(async move {
            let notified = go.notified();
            arrived.send(()).unwrap();
            notified.await;
            Ok(Status::not_found("gone").into_http())
        })
    }
}

struct Running {
    address: SocketAddr,
    drain: Drain,
    check: Check,
    task: JoinHandle<Result<Shutdown, recorder_runtime::Error>>,
}

async fn start(options: Options, build: impl FnOnce(GrpcServer) -> GrpcServer) -> Running {
    let drain = Drain::new();
    let readiness = Readiness::new(drain.signal());
    let check = readiness.register("database");
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address();
    let server = build(GrpcServer::new("api", options, readiness, drain.signal(), SystemClock::shared()));
    Running { address, drain, check, task: tokio::spawn(server.run(listener)) }
}

async fn channel(address: SocketAddr) -> Channel {
    timeout(PATIENCE, Endpoint::from_shared(format!("http://{address}")).unwrap().connect()).await.unwrap().unwrap()
}

async fn health(channel: &Channel, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    Ok(HealthClient::new(channel.clone()).check(request).await?.into_inner().status())
}

/// Calls a method with an empty message, as a client that has no generated code.
async fn call(channel: &Channel, path: &'static str) -> Status {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
    let reply = client.unary(tonic::Request::new(HealthCheckRequest::default()), path.parse().unwrap(), codec).await;
    reply.map(|_| Status::ok("")).unwrap_or_else(|status| status)
}

#[tokio::test]
async fn health_follows_readiness_per_service() {
    let server = start(Options::default(), |server| server.service(Refusing)).await;
    let channel = channel(server.address).await;
    for service in ["", "recorder.v1.SystemService"] {
        let mut client = HealthClient::new(channel.clone());
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut watch = client.watch(request).await.unwrap().into_inner();
        let mut until = async |wanted: ServingStatus| {
            while timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap().status() != wanted {}
        };
        server.check.failing("database is away");
        until(ServingStatus::NotServing).await;
        server.check.ready();
        until(ServingStatus::Serving).await;
        assert_eq!(health(&channel, service).await.unwrap(), ServingStatus::Serving);
    }
    assert_eq!(health(&channel, "recorder.v1.Unheard").await.unwrap_err().code(), Code::NotFound);
}

/// The two versions differ in their package only.
macro_rules! reflection_test {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            let server = start(Options::default(), |server| server.service(Refusing)).await;
            let mut client = ServerReflectionClient::new(channel(server.address).await);
            let mut ask = async |message_request| {
                let request = ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
                let mut replies =
                    client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
                replies.next().await.unwrap().unwrap().message_response.unwrap()
            };
            let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
            else {
                panic!("not a list");
            };
            let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
            assert!(names.contains(&"recorder.v1.SystemService"), "{names:?}");
            assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
            assert!(!names.contains(&"recorder.v1.TemplateService"), "not served here: {names:?}");
            // What grpcurl and buf need: the service, and the details in errors.
            for symbol in
                ["recorder.v1.SystemService", "google.rpc.BadRequest", "google.rpc.ErrorInfo", "grpc.health.v1.Health"]
            {
                let reply = ask(MessageRequest::FileContainingSymbol(symbol.to_owned())).await;
                let MessageResponse::FileDescriptorResponse(files) = reply else { panic!("{symbol}: {reply:?}") };
                assert!(!files.file_descriptor_proto.is_empty(), "{symbol}");
            }
        }
    };
}

reflection_test!(reflection_v1_answers, v1);
reflection_test!(reflection_v1alpha_answers, v1alpha);

#[tokio::test]
async fn shutdown_is_graceful_when_the_client_leaves() {
    let server = start(Options::default(), |server| server.service(Refusing)).await;
    let channel = channel(server.address).await;
    assert_eq!(call(&channel, "/recorder.v1.SystemService/GetServerInfo").await.code(), Code::Unimplemented);
    drop(channel);
    assert_eq!(timeout(PATIENCE, server.drain.wait(PATIENCE)).await.unwrap(), Outcome::Complete);
    assert_eq!(timeout(PATIENCE, server.task).await.unwrap().unwrap().unwrap(), Shutdown::Graceful);
    assert!(std::net::TcpStream::connect(server.address).is_err(), "the port is closed");
}

#[tokio::test]
async fn shutdown_completes_with_clients_that_stay() {
    let options = Options { shutdown_grace: Duration::from_millis(100), ..Options::default() };
    let server = start(options, |server| server.service(Refusing)).await;
    // An HTTP/2 client with an open stream, and one that has connected and says nothing.
    let mut watch = HealthClient::new(channel(server.address).await)
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    watch.next().await.unwrap().unwrap();
    let mut silent = std::net::TcpStream::connect(server.address).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(timeout(PATIENCE, server.drain.wait(PATIENCE)).await.unwrap(), Outcome::Complete);
    assert_eq!(timeout(PATIENCE, server.task).await.unwrap().unwrap().unwrap(), Shutdown::Forced);
    let ended = async { while let Some(Ok(_)) = watch.next().await {} };
    timeout(PATIENCE, ended).await.expect("the open stream was cut");
    let read = tokio::task::spawn_blocking(move || silent.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(!matches!(&read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "still open: {read:?}");
}

#[tokio::test]
async fn running_requests_finish_during_the_drain() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let waiting = Waiting { arrived, go: Arc::new(Notify::new()) };
    let go = waiting.go.clone();
    let server = start(Options::default(), |server| server.service(waiting)).await;
    let channel = channel(server.address).await;
    let request = tokio::spawn(async move { call(&channel, "/recorder.v1.TemplateService/GetTemplate").await });
    timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    server.drain.begin();
    assert_eq!(server.drain.signal().holders(), ["listener api"]);
    go.notify_one();
    assert_eq!(timeout(PATIENCE, request).await.unwrap().unwrap().code(), Code::NotFound);
    assert_eq!(timeout(PATIENCE, server.task).await.unwrap().unwrap().unwrap(), Shutdown::Graceful);
}

#[tokio::test]
async fn more_requests_than_allowed_are_refused_with_a_hint() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let waiting = Waiting { arrived, go: Arc::new(Notify::new()) };
    let go = waiting.go.clone();
    let options = Options { max_running: 1, ..Options::default() };
    let server = start(options, |server| server.service(waiting)).await;
    let channel = channel(server.address).await;
    let first = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "/recorder.v1.TemplateService/GetTemplate").await }
    });
    timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    let refused = call(&channel, "/recorder.v1.TemplateService/GetTemplate").await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "RATE_LIMITED");
    assert_eq!(refused.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    go.notify_one();
    assert_eq!(timeout(PATIENCE, first).await.unwrap().unwrap().code(), Code::NotFound);
    let next = tokio::spawn(async move { call(&channel, "/recorder.v1.TemplateService/GetTemplate").await });
    timeout(PATIENCE, arrivals.recv()).await.unwrap().expect("the slot is free again");
    go.notify_one();
    assert_eq!(timeout(PATIENCE, next).await.unwrap().unwrap().code(), Code::NotFound);
}

#[tokio::test]
async fn connections_beyond_the_limit_and_silent_ones_are_closed() {
    let connections = Limits { max_connections: 1, first_byte: Duration::from_millis(200) };
    let options = Options { connections, ..Options::default() };
    let server = start(options, |server| server.service(Refusing)).await;
    let closed = |address: SocketAddr| {
        tokio::task::spawn_blocking(move || {
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // Everything the server says until it closes; a timeout would be WouldBlock.
            let result = socket.read_to_end(&mut Vec::new());
            assert!(!matches!(&result, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{result:?}");
        })
    };
    closed(server.address).await.unwrap();
    let channel = channel(server.address).await;
    assert_eq!(call(&channel, "/recorder.v1.SystemService/GetServerInfo").await.code(), Code::Unimplemented);
    let begun = std::time::Instant::now();
    closed(server.address).await.unwrap();
    assert!(begun.elapsed() < PATIENCE / 2, "refused, not left waiting");
    assert_eq!(
        call(&channel, "/recorder.v1.SystemService/GetServerInfo").await.code(),
        Code::Unimplemented,
        "the connection that was there first lives"
    );
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let server = start(Options::default(), |server| server.service(Refusing)).await;
    let channel = channel(server.address).await;
    let address = server.address;
    tokio::task::spawn_blocking(move || {
        let http1 = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice();
        let bad_frame = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".as_slice();
        for garbage in [&[0xff; 4096], http1, bad_frame] {
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = socket.write_all(garbage);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let result = socket.read_to_end(&mut Vec::new());
            assert!(!matches!(&result, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{result:?}");
        }
    })
    .await
    .unwrap();
    assert_eq!(call(&channel, "/recorder.v1.SystemService/GetServerInfo").await.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = Listener::bind(listener.address()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}", listener.address()));
}
