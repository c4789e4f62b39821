//! TLS and mTLS of every listener: who gets in, and what becomes of connections when certificates are replaced.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use recorder_control::app::{App, Environment};
use recorder_control::config::{Config, PROGRAM};
use recorder_db::Kind;
use recorder_db::scratch::Scratch;
use recorder_proto::Problem;
use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::node::{ClaimRecordingRequest, GetSnapshotRequest, RegisterRequest};
use recorder_proto::pb::v1::node_service_client::NodeServiceClient;
use recorder_proto::pb::v1::{ListNodesRequest, WatchNodesRequest};
use recorder_runtime::config::Invocation;
use recorder_runtime::drain::Drain;
use recorder_runtime::tls::Identity;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::link::control::{PATIENCE, until};
use crate::support::FREE_PORTS;

/// A certificate authority in a folder.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Issuer and subject of one name would be one certificate to OpenSSL.
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = folder.join(format!("{name}-ca.pem"));
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder: folder.to_owned(), issuer: Issuer::new(params, key), ca }
    }

    /// Certificate and key for these names, in files called after the first.
    fn issue(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (self.folder.join(format!("{file}.pem")), self.folder.join(format!("{file}.key")));
        for (path, text) in [(&paths.1, key.serialize_pem()), (&paths.0, certificate.pem())] {
            let fresh = path.with_extension("fresh");
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(fresh, path).unwrap();
        }
        paths
    }

    fn client(&self) -> Identity {
        Identity { ca: Some(self.ca.clone()), own: None }
    }
}

struct Running {
    _scratch: Scratch,
    api: SocketAddr,
    link: SocketAddr,
    admin: SocketAddr,
    drain: Drain,
    task: JoinHandle<Result<(), recorder_control::Error>>,
}

impl Running {
    async fn start(folder: &Path, extra: Vec<String>) -> Self {
        let scratch = tokio::task::spawn_blocking(|| Scratch::new(Kind::Sqlite)).await.unwrap().unwrap();
        let library = folder.join("library").display().to_string();
        let mut arguments: Vec<String> =
            ["--database-url", &scratch.url, "--seal-key", &"5e".repeat(32), "--library-root", &library]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(FREE_PORTS.map(str::to_owned));
        arguments.extend(extra);
        let config: Config = match PROGRAM.load(arguments, &Default::default()).unwrap() {
            Invocation::Run(settings) => settings.deserialize().unwrap(),
            Invocation::Print(text) => panic!("{text}"),
        };
        let drain = Drain::new();
        let app = App::build(config, Environment::detached().unwrap(), drain.clone()).await.unwrap();
        let (api, link, admin) = (app.api_addr, app.link_addr, app.admin_addr);
        Self { _scratch: scratch, api, link, admin, drain, task: tokio::spawn(app.run()) }
    }

    async fn stop(self) {
        self.drain.begin();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops in time").unwrap().unwrap();
    }
}

fn listener(section: &str, (certificate, key): &(PathBuf, PathBuf), client_ca: Option<&Path>) -> Vec<String> {
    let mut arguments = vec![
        format!("--{section}-tls-certificate={}", certificate.display()),
        format!("--{section}-tls-key={}", key.display()),
    ];
    arguments.extend(client_ca.map(|ca| format!("--{section}-tls-client-ca={}", ca.display())));
    arguments
}

async fn connect(address: SocketAddr, identity: &Identity) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", address.port())).unwrap();
    let endpoint = identity.secured(endpoint).unwrap().connect_timeout(Duration::from_secs(5));
    let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
    // TLS 1.3 refuses a client's certificate after its own handshake is done: ask something.
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let asked = health.check(tonic_health::pb::HealthCheckRequest::default()).await;
    asked.map(|_| channel).map_err(|status| format!("{status:?}"))
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_replaced_certificate_is_served_and_no_connection_is_dropped_for_it() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (Authority::new(folder.path(), "old"), Authority::new(folder.path(), "new"));
        let files = old.issue("server", &["localhost"]);
        let server = Running::start(folder.path(), listener("api", &files, None)).await;
        let before = connect(server.api, &old.client()).await.unwrap();
        let mut nodes = NodeServiceClient::new(before.clone());
        let mut watch = nodes.watch_nodes(WatchNodesRequest::default()).await.unwrap().into_inner();
        assert!(connect(server.api, &new.client()).await.is_err(), "its certificate is the old authority's");

        new.issue("server", &["localhost"]);
        let after = until("the new certificate", async || connect(server.api, &new.client()).await.ok()).await;
        assert!(connect(server.api, &old.client()).await.is_err(), "nobody gets the old certificate any more");
        NodeServiceClient::new(after).list_nodes(ListNodesRequest::default()).await.unwrap();
        nodes.list_nodes(ListNodesRequest::default()).await.expect("the connection made before goes on");
        let mut link = NodeLinkServiceClient::new(plain(server.link).await);
        let register = RegisterRequest { node: "m1".into(), boot_id: "b".into(), ..Default::default() };
        link.register(register).await.unwrap();
        let seen = tokio::time::timeout(PATIENCE, async {
            while let Some(message) = watch.message().await.expect("the watch goes on") {
                if message.node.is_some_and(|node| node.name == "nodes/m1") {
                    return true;
                }
            }
            false
        });
        assert!(seen.await.unwrap(), "and so does the watch on it");
        drop((watch, nodes, before, link));
        server.stop().await;
    });
}

async fn plain(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[test]
fn tls_listeners_speak_nothing_else() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca");
        let files = authority.issue("server", &["localhost"]);
        let all = ["api", "link", "admin"].map(|section| listener(section, &files, None)).concat();
        let server = Running::start(folder.path(), all).await;
        for address in [server.api, server.link] {
            connect(address, &authority.client()).await.unwrap();
            let plain = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await;
            let refused = match plain {
                Err(_) => true,
                Ok(channel) => NodeServiceClient::new(channel).list_nodes(ListNodesRequest::default()).await.is_err(),
            };
            assert!(refused, "{address}");
        }
        let said = curl(server.admin, &authority.ca, &[]).await;
        assert!(said.contains("[+] database ok"), "{said}");
        server.stop().await;
    });
}

/// `/readyz` over HTTPS, by a client that is not ours.
async fn curl(address: SocketAddr, ca: &Path, extra: &[&str]) -> String {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--max-time", "10", "--cacert"]).arg(ca).args(extra);
    let output = command.arg(format!("https://localhost:{}/readyz", address.port())).output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn with_a_client_ca_only_its_clients_get_in_and_a_node_speaks_for_itself_only() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (servers, clients) = (Authority::new(folder.path(), "servers"), Authority::new(folder.path(), "clients"));
        let files = servers.issue("server", &["localhost"]);
        let mut arguments =
            ["api", "link", "admin"].map(|section| listener(section, &files, Some(&clients.ca))).concat();
        arguments.extend(["--access-tokens=required".into(), format!("--access-admin-token={}", "a".repeat(40))]);
        let server = Running::start(folder.path(), arguments).await;
        let ca = servers.client();
        let stranger = Identity { own: Some(servers.issue("stranger", &["m1"])), ..ca.clone() };
        let m1 = Identity { own: Some(clients.issue("m1", &["m1"])), ..ca.clone() };
        for address in [server.api, server.link] {
            assert!(connect(address, &ca).await.is_err(), "no certificate");
            assert!(connect(address, &stranger).await.is_err(), "another authority's");
        }
        let (certificate, key) = m1.own.clone().unwrap();
        let shown = ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
        let (without, with) =
            (curl(server.admin, &servers.ca, &[]).await, curl(server.admin, &servers.ca, &shown).await);
        assert!(with.contains("[+] database ok") && !without.contains("database"), "{with} {without}");

        // On the link the certificate is who it is; the API wants a token all the same.
        let mut link = NodeLinkServiceClient::new(connect(server.link, &m1).await.unwrap());
        let register = |node: &str| RegisterRequest { node: node.into(), boot_id: "b".into(), ..Default::default() };
        let epoch = link.register(register("m1")).await.unwrap().into_inner().node_epoch;
        let identity = |status: tonic::Status| {
            let problem = Problem::from(&status);
            assert_eq!((problem.code, problem.reason.as_str()), (Code::PermissionDenied, "NODE_IDENTITY"), "{problem}");
        };
        identity(link.register(register("nodes/m2")).await.unwrap_err());
        identity(link.get_snapshot(GetSnapshotRequest { node: "nodes/m2".into() }).await.unwrap_err());
        let m2 = Identity { own: Some(clients.issue("m2", &["m2"])), ..ca.clone() };
        let mut other = NodeLinkServiceClient::new(connect(server.link, &m2).await.unwrap());
        let claim = ClaimRecordingRequest { node_epoch: epoch, ..Default::default() };
        identity(other.claim_recording(claim.clone()).await.unwrap_err());
        assert_eq!(link.claim_recording(claim).await.unwrap_err().code(), Code::InvalidArgument, "its own epoch");
        let mut nodes = NodeServiceClient::new(connect(server.api, &m1).await.unwrap());
        let status = nodes.list_nodes(ListNodesRequest::default()).await.unwrap_err();
        assert_eq!(Problem::from(&status).reason, "NO_TOKEN");
        drop((link, other, nodes));
        server.stop().await;
    });
}
