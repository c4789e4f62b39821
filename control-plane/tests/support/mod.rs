//! A control plane in this process: the real services over a pipe, on every database that is there.
#![allow(dead_code, reason = "every test binary uses a part of it")]

pub mod running;

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use hyper_util::rt::TokioIo;
use recorder_control::api::Api;
use recorder_control::api::unimplemented::Later;
use recorder_db::Kind;
use recorder_db::scratch::{Scratch, kinds};
use recorder_proto::Problem;
use recorder_proto::pb::v1::access_service_client::AccessServiceClient;
use recorder_proto::pb::v1::access_service_server::AccessServiceServer;
use recorder_proto::pb::v1::domain_service_client::DomainServiceClient;
use recorder_proto::pb::v1::domain_service_server::DomainServiceServer;
use recorder_proto::pb::v1::rule_service_client::RuleServiceClient;
use recorder_proto::pb::v1::rule_service_server::RuleServiceServer;
use recorder_proto::pb::v1::standby_service_server::StandbyServiceServer;
use recorder_proto::pb::v1::storage_service_client::StorageServiceClient;
use recorder_proto::pb::v1::storage_service_server::StorageServiceServer;
use recorder_proto::pb::v1::system_service_client::SystemServiceClient;
use recorder_proto::pb::v1::system_service_server::SystemServiceServer;
use recorder_proto::pb::v1::task_service_client::TaskServiceClient;
use recorder_proto::pb::v1::task_service_server::TaskServiceServer;
use recorder_proto::pb::v1::template_service_client::TemplateServiceClient;
use recorder_proto::pb::v1::template_service_server::TemplateServiceServer;
use recorder_proto::pb::v1::transcoding_service_server::TranscodingServiceServer;
use recorder_proto::pb::v1::usage_service_client::UsageServiceClient;
use recorder_proto::pb::v1::usage_service_server::UsageServiceServer;
use recorder_proto::pb::v1::watermark_service_server::WatermarkServiceServer;
use recorder_runtime::clock::SimulatedClock;
use recorder_runtime::secret::{Keys, Sealer};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Response, Status};

/// Every listener on a port that is free: arguments of the program.
pub const FREE_PORTS: [&str; 8] = [
    "--api-listen",
    "127.0.0.1:0",
    "--link-listen",
    "127.0.0.1:0",
    "--admin-listen",
    "127.0.0.1:0",
    "--playback-listen",
    "127.0.0.1:0",
];

/// When every test begins.
pub const EPOCH: i64 = 1_780_000_000;

/// A running control plane with a database of its own.
pub struct Control {
    pub scratch: Scratch,
    pub api: Api,
    pub clock: SimulatedClock,
    pub channel: Channel,
    pub library: tempfile::TempDir,
}

/// Runs a test once per database.
pub fn on_each(test: impl AsyncFn(Control)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for kind in kinds() {
        runtime.block_on(async { test(Control::start(kind).await).await });
    }
}

/// The key that tests seal with.
pub fn sealer() -> Arc<Sealer> {
    Arc::new(Sealer::new(&Keys::parse(&"5e".repeat(32)).unwrap()).unwrap())
}

impl Control {
    pub async fn start(kind: Kind) -> Self {
        let scratch = tokio::task::spawn_blocking(move || Scratch::new(kind)).await.unwrap().unwrap();
        let clock = SimulatedClock::at(DateTime::from_timestamp(EPOCH, 0).unwrap());
        let library = tempfile::tempdir().unwrap();
        let root = library.path().to_owned();
        let api = Api::start(scratch.db.clone(), sealer(), Arc::new(clock.clone()), root).await.unwrap();
        let channel = serve(&api).await;
        Self { scratch, api, clock, channel, library }
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub fn storages(&self) -> StorageServiceClient<Channel> {
        StorageServiceClient::new(self.channel.clone())
    }

    pub fn templates(&self) -> TemplateServiceClient<Channel> {
        TemplateServiceClient::new(self.channel.clone())
    }

    pub fn domains(&self) -> DomainServiceClient<Channel> {
        DomainServiceClient::new(self.channel.clone())
    }

    pub fn rules(&self) -> RuleServiceClient<Channel> {
        RuleServiceClient::new(self.channel.clone())
    }

    pub fn access(&self) -> AccessServiceClient<Channel> {
        AccessServiceClient::new(self.channel.clone())
    }

    pub fn usage(&self) -> UsageServiceClient<Channel> {
        UsageServiceClient::new(self.channel.clone())
    }

    pub fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel.clone())
    }

    pub fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.channel.clone())
    }
}

/// The services over one pipe; the server ends with the runtime.
pub async fn serve(api: &Api) -> Channel {
    let (client, server) = tokio::io::duplex(1 << 20);
    let router = Server::builder()
        .add_service(StorageServiceServer::new(api.clone()))
        .add_service(TemplateServiceServer::new(api.clone()))
        .add_service(DomainServiceServer::new(api.clone()))
        .add_service(RuleServiceServer::new(api.clone()))
        .add_service(SystemServiceServer::new(api.clone()))
        .add_service(TaskServiceServer::new(api.clone()))
        .add_service(UsageServiceServer::new(api.clone()))
        .add_service(AccessServiceServer::new(api.clone()))
        .add_service(WatermarkServiceServer::new(Later))
        .add_service(TranscodingServiceServer::new(Later))
        .add_service(StandbyServiceServer::new(Later));
    let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server));
    tokio::spawn(async move { router.serve_with_incoming(incoming).await });
    let mut pipe = Some(client);
    let connector = tower::service_fn(move |_| {
        let pipe = pipe.take().map(TokioIo::new);
        async move { pipe.ok_or_else(|| std::io::Error::other("the pipe is used up")) }
    });
    Endpoint::from_static("http://control").connect_with_connector(connector).await.unwrap()
}

/// What a call was refused with, details included.
pub fn refused<T: std::fmt::Debug>(outcome: Result<Response<T>, Status>) -> Problem {
    let problem = Problem::from(&outcome.expect_err("was to be refused"));
    assert!(!problem.reason.is_empty() && !problem.message.is_empty());
    problem
}

/// The fields that a call was refused for, each once, in order.
pub fn bad_fields<T: std::fmt::Debug>(outcome: Result<Response<T>, Status>) -> Vec<String> {
    let problem = refused(outcome);
    assert_eq!((problem.code, problem.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{problem}");
    let mut fields: Vec<String> = problem.fields.into_iter().map(|violation| violation.field).collect();
    fields.sort();
    fields.dedup();
    fields
}

/// Code and reason of a refusal.
pub fn reason<T: std::fmt::Debug>(outcome: Result<Response<T>, Status>) -> (Code, String) {
    let problem = refused(outcome);
    (problem.code, problem.reason)
}

/// A duration as the wire carries it.
pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// A mask.
pub fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}
