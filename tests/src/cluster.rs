//! A control plane and its media nodes as real processes in a folder of their own.

use std::path::{Path, PathBuf};

use rand::Rng;
use recorder_proto::pb::v1;
use tonic::transport::Channel;

use crate::process::Process;
use crate::wait;

/// One channel to the public API.
pub type Api = Channel;

/// A free port that the system gives to no outgoing connection: while a process is being restarted its port is still its
/// own.
fn own_port() -> String {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = std::iter::repeat_with(|| rand::rng().random_range(10_000..30_000)).find(is_free);
    format!("127.0.0.1:{}", port.expect("a port"))
}

/// A whole installation. Everything dies and its folder disappears when it is dropped.
pub struct Cluster {
    database: String,
    /// The control plane; `None` while a test has it stopped.
    pub control: Option<Process>,
    /// The media nodes `m1`, `m2`, ... in order.
    pub nodes: Vec<Process>,
    api: String,
    link: String,
    settings: Vec<(String, String)>,
    control_settings: Vec<(String, String)>,
    /// Further control planes on the same database.
    pub replicas: Vec<Process>,
    /// Last, so that the processes are gone and their logs read before it disappears.
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Control plane on SQLite plus one node.
    pub async fn start() -> Self {
        Self::with_settings(&[]).await
    }

    /// The same with extra settings for the nodes, as `RECORDER_...` variables.
    pub async fn with_settings(settings: &[(&str, &str)]) -> Self {
        Self::with_all_settings(settings, &[]).await
    }

    /// The same with extra settings for the nodes and for the control plane.
    pub async fn with_all_settings(settings: &[(&str, &str)], control_settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let database = format!("sqlite://{}", folder.path().join("control.db").display());
        Self::assembled(folder, database, settings, control_settings).await
    }

    /// The same on a given database.
    pub async fn with_database(folder: tempfile::TempDir, database: String, settings: &[(&str, &str)]) -> Self {
        Self::assembled(folder, database, settings, &[]).await
    }

    /// The same on a given database, with settings for the control planes.
    pub async fn on_database(folder: tempfile::TempDir, database: String, control_settings: &[(&str, &str)]) -> Self {
        Self::assembled(folder, database, &[], control_settings).await
    }

    async fn assembled(
        folder: tempfile::TempDir,
        database: String,
        settings: &[(&str, &str)],
        control_settings: &[(&str, &str)],
    ) -> Self {
        let owned = |settings: &[(&str, &str)]| {
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let mut cluster = Self {
            folder,
            database,
            control: None,
            nodes: Vec::new(),
            api: own_port(),
            link: own_port(),
            settings: owned(settings),
            control_settings: owned(control_settings),
            replicas: Vec::new(),
        };
        cluster.start_control().await;
        cluster.start_node(1).await;
        cluster
    }

    /// The folder of this installation.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the embedded library keeps its files.
    pub fn library(&self) -> PathBuf {
        self.folder.path().join("library")
    }

    /// Starts (or restarts, on the same ports) the control plane.
    pub async fn start_control(&mut self) {
        let control = self.start_control_at("control", &self.api, &self.link).await;
        self.api = control.address("api").to_owned();
        self.link = control.address("link").to_owned();
        self.control = Some(control);
    }

    /// Starts one more control plane on the same database; nodes that start from now on know of it.
    pub async fn start_replica(&mut self) {
        let name = format!("replica{}", self.replicas.len() + 1);
        let replica = self.start_control_at(&name, "127.0.0.1:0", "127.0.0.1:0").await;
        self.replicas.push(replica);
    }

    /// A channel to the public API of a replica.
    pub async fn replica_api(&self, index: usize) -> Api {
        Channel::from_shared(self.replicas[index].url("api")).expect("address").connect().await.expect("api")
    }

    /// SIGKILL to the first control plane; whoever asks the cluster from now on asks its first replica.
    pub fn kill_control(&mut self) {
        self.control.take().expect("it runs").kill();
        self.api = self.replicas[0].address("api").to_owned();
    }

    async fn start_control_at(&self, name: &str, api: &str, link: &str) -> Process {
        let folder = self.folder.path().join("control");
        let mut settings = vec![
            ("RECORDER_DATABASE_URL", self.database.clone()),
            ("RECORDER_API_LISTEN", api.to_owned()),
            ("RECORDER_LINK_LISTEN", link.to_owned()),
            ("RECORDER_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("RECORDER_PLAYBACK_LISTEN", "127.0.0.1:0".to_owned()),
            ("RECORDER_LIBRARY_ROOT", self.library().display().to_string()),
            ("RECORDER_SEAL_KEY_FILE", folder.join("seal.key").display().to_string()),
        ];
        settings.extend(self.control_settings.iter().map(|(key, value)| (key.as_str(), value.clone())));
        Process::start("recorder-control", &self.folder.path().join(name), &settings).await
    }

    /// Starts (or restarts) node `m{number}` and waits until the control plane lists it as active.
    pub async fn start_node(&mut self, number: usize) {
        self.start_node_detached(number).await;
        let name = format!("nodes/m{number}");
        let mut nodes = v1::node_service_client::NodeServiceClient::new(self.api().await);
        wait::until("the node to be active", async || {
            let request = v1::GetNodeRequest { name: name.clone() };
            let node = nodes.get_node(request).await.ok()?.into_inner();
            (node.state() == v1::node::State::Active).then_some(())
        })
        .await;
    }

    /// Starts (or restarts) node `m{number}` without asking the control plane, which may be away.
    pub async fn start_node_detached(&mut self, number: usize) {
        let name = format!("m{number}");
        let folder = self.folder.path().join(&name);
        let listen = |listener: &str| {
            let before = self.nodes.get(number - 1).map(|node| node.address(listener).to_owned());
            before.unwrap_or_else(own_port)
        };
        let links = std::iter::once(format!("http://{}", self.link));
        let links: Vec<String> = links.chain(self.replicas.iter().map(|replica| replica.url("link"))).collect();
        let mut settings = vec![
            ("RECORDER_NODE_ID", name.clone()),
            ("RECORDER_LINK_CONTROL", links.join(",")),
            ("RECORDER_SPOOL_PATH", folder.join("spool").display().to_string()),
            ("RECORDER_LIBRARY_ROOT", self.library().display().to_string()),
            ("RECORDER_RTMP_LISTEN", listen("rtmp")),
            ("RECORDER_HTTP_LISTEN", listen("http")),
            ("RECORDER_WHIP_UDP", listen("whip-udp")),
            ("RECORDER_WHIP_TCP", listen("whip-tcp")),
            ("RECORDER_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            // Stops are quick even while somebody publishes.
            ("RECORDER_DRAIN_MODE", "move".to_owned()),
        ];
        settings.extend(self.settings.iter().map(|(key, value)| (key.as_str(), value.clone())));
        let node = Process::start("recorder-media", &folder, &settings).await;
        if self.nodes.len() < number {
            self.nodes.push(node);
        } else {
            self.nodes[number - 1] = node;
        }
    }

    /// Where the control plane takes nodes.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// One more setting for nodes started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Where node `m{number}` takes publishers.
    pub fn rtmp(&self, number: usize) -> &str {
        self.nodes[number - 1].address("rtmp")
    }

    /// A channel to the public API.
    pub async fn api(&self) -> Api {
        Channel::from_shared(format!("http://{}", self.api)).expect("address").connect().await.expect("api")
    }

    /// The publish URL of a stream on the first node, with the push domain as a parameter.
    pub fn rtmp_url(&self, domain: &str, stream: &str) -> String {
        format!("rtmp://{}/live/{stream}?domain={domain}", self.nodes[0].address("rtmp"))
    }
}
