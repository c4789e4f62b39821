//! A control plane in this process, on ports of its own and a database of its own.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use recorder_control::Error;
use recorder_control::app::{App, Environment};
use recorder_control::config::{Config, PROGRAM};
use recorder_db::Kind;
use recorder_db::scratch::{Scratch, kinds};
use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::domain_service_client::DomainServiceClient;
use recorder_proto::pb::v1::node_service_client::NodeServiceClient;
use recorder_proto::pb::v1::recording_service_client::RecordingServiceClient;
use recorder_proto::pb::v1::storage_service_client::StorageServiceClient;
use recorder_proto::pb::v1::stream_service_client::StreamServiceClient;
use recorder_proto::pb::v1::template_service_client::TemplateServiceClient;
use recorder_runtime::clock::SimulatedClock;
use recorder_runtime::config::Invocation;
use recorder_runtime::drain::Drain;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::support::FREE_PORTS;

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// When every test begins, in seconds.
pub const START: i64 = 1_780_000_000;

pub struct Control {
    pub scratch: Scratch,
    pub clock: SimulatedClock,
    pub api: Channel,
    pub link: Channel,
    admin: std::net::SocketAddr,
    pub playback: std::net::SocketAddr,
    drain: Drain,
    server: JoinHandle<Result<(), Error>>,
    extra: Vec<&'static str>,
    folder: tempfile::TempDir,
}

/// Runs a test once per database.
pub fn on_each(test: impl AsyncFn(Control)) {
    on_each_with(&[], test);
}

/// [`on_each`] with settings.
pub fn on_each_with(extra: &[&'static str], test: impl AsyncFn(Control)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for kind in kinds() {
        runtime.block_on(async { test(Control::start(kind, extra).await).await });
    }
}

/// Waits until the closure answers.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// What a call was refused with.
pub fn refused<T: std::fmt::Debug>(outcome: Result<Response<T>, Status>) -> Problem {
    Problem::from(&outcome.expect_err("was to be refused"))
}

impl Control {
    async fn start(kind: Kind, extra: &[&'static str]) -> Self {
        let scratch = tokio::task::spawn_blocking(move || Scratch::new(kind)).await.unwrap().unwrap();
        let clock = SimulatedClock::at(chrono::DateTime::from_timestamp(START, 0).unwrap());
        let folder = tempfile::tempdir().unwrap();
        Self::serve(scratch, clock, folder, extra.to_vec()).await
    }

    async fn serve(
        scratch: Scratch,
        clock: SimulatedClock,
        folder: tempfile::TempDir,
        extra: Vec<&'static str>,
    ) -> Self {
        let drain = Drain::new();
        let environment = Environment { clock: Arc::new(clock.clone()), ..Environment::detached().unwrap() };
        let config = config(&scratch.url, folder.path(), &extra);
        let app = App::build(config, environment, drain.clone()).await.unwrap();
        let (api, link) = (connect(app.api_addr).await, connect(app.link_addr).await);
        let (admin, playback) = (app.admin_addr, app.playback_addr);
        let server = tokio::spawn(app.run());
        Self { scratch, clock, api, link, admin, playback, drain, server, extra, folder }
    }

    /// Stops and starts again on the same database.
    pub async fn restart(self) -> Self {
        self.restart_after(async |_| ()).await
    }

    /// [`Control::restart`] with something to do in between.
    pub async fn restart_after(self, meanwhile: impl AsyncFnOnce(&Scratch)) -> Self {
        let Self { scratch, clock, drain, server, extra, folder, .. } = self;
        drain.begin();
        tokio::time::timeout(PATIENCE, server).await.expect("it stops in time").unwrap().unwrap();
        meanwhile(&scratch).await;
        Self::serve(scratch, clock, folder, extra).await
    }

    /// Begins the drain and hands out the end of the server.
    pub fn stop(&mut self) -> impl Future<Output = ()> + use<> {
        self.drain.begin();
        let server = std::mem::replace(&mut self.server, tokio::spawn(async { Ok(()) }));
        async move { tokio::time::timeout(PATIENCE, server).await.expect("it stops in time").unwrap().unwrap() }
    }

    pub fn recordings(&self) -> RecordingServiceClient<Channel> {
        RecordingServiceClient::new(self.api.clone())
    }

    pub fn streams(&self) -> StreamServiceClient<Channel> {
        StreamServiceClient::new(self.api.clone())
    }

    pub fn templates(&self) -> TemplateServiceClient<Channel> {
        TemplateServiceClient::new(self.api.clone())
    }

    pub fn domains(&self) -> DomainServiceClient<Channel> {
        DomainServiceClient::new(self.api.clone())
    }

    pub fn storages(&self) -> StorageServiceClient<Channel> {
        StorageServiceClient::new(self.api.clone())
    }

    /// Makes a template with defaults.
    pub async fn template(&self, id: &str) -> v1::Template {
        let request = v1::CreateTemplateRequest { template_id: id.to_owned(), ..Default::default() };
        self.templates().create_template(request).await.unwrap().into_inner()
    }

    /// Binds a template to domains, which are made if they are missing.
    pub async fn bind(&self, template: &str, domain: &str) -> v1::Binding {
        let request = v1::BindTemplateRequest {
            template: template.to_owned(),
            domains: vec![domain.to_owned()],
            create_domains: true,
            ..Default::default()
        };
        self.domains().bind_template(request).await.unwrap().into_inner().bindings.remove(0)
    }

    /// The only binding of a domain.
    pub async fn binding(&self, domain: &str) -> v1::Binding {
        let request = v1::ListBindingsRequest { domain: domain.to_owned(), ..Default::default() };
        let mut bindings = self.domains().list_bindings(request).await.unwrap().into_inner().bindings;
        assert_eq!(bindings.len(), 1, "{bindings:?}");
        bindings.remove(0)
    }

    pub async fn recording(&self, name: &str) -> v1::Recording {
        let request = v1::GetRecordingRequest { name: name.to_owned() };
        self.recordings().get_recording(request).await.unwrap().into_inner()
    }

    pub async fn files(&self, recording: &str) -> Vec<v1::File> {
        let request = v1::ListFilesRequest { parent: recording.to_owned(), ..Default::default() };
        self.recordings().list_files(request).await.unwrap().into_inner().files
    }

    pub async fn node(&self, name: &str) -> v1::Node {
        let request = v1::GetNodeRequest { name: name.to_owned() };
        NodeServiceClient::new(self.api.clone()).get_node(request).await.unwrap().into_inner()
    }

    /// Where the embedded library keeps its files.
    pub fn library(&self) -> std::path::PathBuf {
        self.folder.path().join("library")
    }

    /// Types and subjects of every event about a subject that begins like this, in order.
    pub async fn told(&self, subject: &str) -> Vec<(String, String)> {
        let rows = self.scratch.db.read(|db| recorder_db::events::after(db, 0, 10_000)).await.unwrap();
        let about = rows.into_iter().filter(|row| row.subject.starts_with(subject));
        about.map(|row| (row.kind, row.subject)).collect()
    }

    /// Whether `/readyz` says so.
    pub async fn is_ready(&self) -> bool {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut connection = tokio::net::TcpStream::connect(self.admin).await.unwrap();
        connection.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer.starts_with("HTTP/1.1 200")
    }

    /// How many events there are.
    pub async fn events(&self) -> i64 {
        self.scratch.db.read(recorder_db::events::last).await.unwrap()
    }
}

fn config(url: &str, folder: &std::path::Path, extra: &[&'static str]) -> Config {
    let library = folder.join("library").display().to_string();
    let key = "5e".repeat(32);
    let arguments = ["--database-url", url, "--seal-key", &key, "--library-root", &library, "--drain-deadline", "15s"];
    let arguments = arguments.iter().chain(&FREE_PORTS).chain(extra).map(|text| (*text).to_owned());
    match PROGRAM.load(arguments, &BTreeMap::new()).unwrap() {
        Invocation::Run(settings) => settings.deserialize().unwrap(),
        Invocation::Print(text) => panic!("{text}"),
    }
}

async fn connect(address: std::net::SocketAddr) -> Channel {
    // Lazily: nothing is served before `run`.
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}
