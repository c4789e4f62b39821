//! Serves gRPC on one listener, with all that goes with it: health per service, reflection v1 and v1alpha, limits,
//! keep-alive, access log, and a shutdown that ends in time whatever the clients do.
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use recorder_proto::pb;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};
use tower::Service;

use crate::Error;
use crate::accept::{Acceptor, Limits, Listener};
use crate::access_log::{AccessLog, Methods};
use crate::clock::Clock;
use crate::drain::Signal;
use crate::gate::{Gate, GateLayer};
use crate::readiness::Readiness;

/// Largest request message: the biggest legal one (a template with all fields, a report of facts) is far smaller.
/// Generated servers take it one by one: `X::new(..).max_decoding_message_size(MAX_REQUEST_BYTES)`.
pub const MAX_REQUEST_BYTES: usize = 4 << 20;

/// Largest reply message: a full page of the longest resources. For `max_encoding_message_size`; clients must allow it
/// with `max_decoding_message_size`.
pub const MAX_REPLY_BYTES: usize = 16 << 20;

/// Largest block of request headers, in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Bounds of one gRPC listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bounds on connections.
    pub connections: Limits,
    /// Requests that run at a time on the whole listener, streams not counted; those beyond are refused with
    /// RESOURCE_EXHAUSTED.
    pub max_running: usize,
    /// Requests and streams at a time on one connection.
    pub max_streams_per_connection: u32,
    /// A connection is pinged this often, so that a dead peer is noticed and an idle one stays in NAT tables.
    pub keepalive_interval: Duration,
    /// A connection whose ping is not answered for so long is closed.
    pub keepalive_timeout: Duration,
    /// Once draining, running requests get this long; then their connections are cut.
    pub shutdown_grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: Limits::default(),
            max_running: 256,
            max_streams_per_connection: 200,
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Every client had its answer and left.
    Graceful,
    /// Connections were still open after [`Options::shutdown_grace`] and were cut.
    Forced,
}

/// A gRPC listener being put together.
#[derive(Debug)]
pub struct GrpcServer {
    name: &'static str,
    options: Options,
    routes: Routes,
    services: Vec<&'static str>,
    gate: GateLayer,
    readiness: Readiness,
    drain: Signal,
    clock: Arc<dyn Clock>,
}

impl GrpcServer {
    /// A server without services; `name` (`api`, `link`) stands for it in logs and metrics.
    pub fn new(
        name: &'static str,
        options: Options,
        readiness: Readiness,
        drain: Signal,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (routes, gate) = (Routes::default(), GateLayer::default());
        Self { name, options, routes, services: Vec::new(), gate, readiness, drain, clock }
    }

    /// Adds a generated server; its health and reflection come with it.
    pub fn service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.services.push(S::NAME);
        self.routes = self.routes.add_service(service);
        self
    }

    /// Puts every call, those of health and reflection too, behind a gate.
    pub fn behind(mut self, gate: Arc<dyn Gate>) -> Self {
        self.gate = GateLayer(Some(gate));
        self
    }

    /// Full names of the services added so far.
    pub fn services(&self) -> &[&'static str] {
        &self.services
    }

    /// Serves until the drain begins and requests are done, for no longer than [`Options::shutdown_grace`] after it
    /// began. Holds the drain up meanwhile, as `listener <name>`.
    pub async fn run(self, listener: Listener) -> Result<Shutdown, Error> {
        let Self { name, options, routes, services, gate, readiness, drain, clock } = self;
        let _guard = drain.guard(format!("listener {name}"));
        let address = listener.address();
        let (reporter, health) = health_reporter();
        let routes = with_reflection(routes.add_service(health), &services)?;
        let access_log = AccessLog {
            listener: name,
            methods: Arc::new(Methods::of(&descriptor_sets())),
            running: Arc::new(Semaphore::new(options.max_running.min(Semaphore::MAX_PERMITS))),
            clock,
        };
        let (acceptor, cutter) = Acceptor::new(listener, name, options.connections);
        // An acceptor never ends and never fails: what may fail is retried inside.
        let incoming = futures_util::stream::unfold(acceptor, |mut acceptor| async move {
            let connection = acceptor.accept().await;
            Some((Ok::<_, std::io::Error>(connection), acceptor))
        });
        let stop = drain.clone();
        let serving = Server::builder()
            .http2_keepalive_interval(Some(options.keepalive_interval))
            .http2_keepalive_timeout(Some(options.keepalive_timeout))
            .max_concurrent_streams(options.max_streams_per_connection)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .layer(access_log)
            .layer(gate)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, async move { stop.draining().await });
        tracing::info!(listener = name, %address, services = services.join(","), "serving gRPC");
        tokio::select! {
            served = serving => {
                served?;
                Ok(Shutdown::Graceful)
            }
            () = out_of_time(&drain, options.shutdown_grace) => {
                // hyper can wait for an idle or unresponsive client for an hour (hyper#4170).
                tracing::warn!(listener = name, "cutting connections that outlive the shutdown");
                cutter.cut();
                Ok(Shutdown::Forced)
            }
            never = keep_health(reporter, services.clone(), readiness) => match never {},
        }
    }
}

/// Everything reflection may be asked for, and the access log may see.
fn descriptor_sets() -> [&'static [u8]; 4] {
    [
        pb::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]
}

/// Adds both versions: grpcurl and buf ask for v1, older tools know v1alpha only. Lists what this listener serves,
/// not what the contract holds.
fn with_reflection(routes: Routes, services: &[&'static str]) -> Result<Routes, Error> {
    let builder = || {
        let extra = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ];
        let named = services
            .iter()
            .copied()
            .chain(extra)
            .fold(tonic_reflection::server::Builder::configure(), tonic_reflection::server::Builder::with_service_name);
        descriptor_sets()
            .into_iter()
            .fold(named, tonic_reflection::server::Builder::register_encoded_file_descriptor_set)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

async fn out_of_time(drain: &Signal, grace: Duration) {
    drain.draining().await;
    tokio::select! {
        () = tokio::time::sleep(grace) => {}
        () = drain.deadline() => {}
    }
}

/// Every service, and the server as a whole (the empty name), is as healthy as the process is ready.
async fn keep_health(reporter: HealthReporter, services: Vec<&'static str>, readiness: Readiness) -> Infallible {
    let mut seen = readiness.observe();
    loop {
        let status = if readiness.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in std::iter::once("").chain(services.iter().copied()) {
            reporter.set_service_status(service, status).await;
        }
        readiness.changed(&mut seen).await;
    }
}
