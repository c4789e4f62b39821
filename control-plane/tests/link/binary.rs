//! The control plane as a process of its own, which can be killed and whose disk can fail.
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::node::{RegisterRequest, ReportFactsRequest, ReportFactsResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::control::{PATIENCE, until};
use crate::support::FREE_PORTS;

/// The real binary, on a database that outlives it.
pub struct Process {
    child: Child,
    addresses: serde_json::Value,
}

impl Process {
    pub async fn start(folder: &Path, database: &str) -> Self {
        Self::start_with(folder, database, &[]).await
    }

    /// [`Process::start`] with settings.
    pub async fn start_with(folder: &Path, database: &str, extra: &[&str]) -> Self {
        let ready = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let mut command = Command::new("/bin/sh");
        command.env_clear().current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A write beyond the limit of `limit_files` is to be an error, not the end.
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_recorder-control")]);
        command.args(FREE_PORTS).args(["--ready-file", "ready.json"]);
        command.args(["--database-url", database, "--seal-key", &"5e".repeat(32)]).args(extra);
        let child = command.spawn().unwrap();
        let addresses =
            until("the process to be ready", async || serde_json::from_slice(&std::fs::read(&ready).ok()?).ok());
        Self { addresses: addresses.await, child }
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        self.addresses[listener].as_str().unwrap().parse().unwrap()
    }

    /// SIGKILL; dead when this returns.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// From now on it cannot write to a file beyond this many bytes; to None at all again.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let mut command = Command::new("prlimit");
        // Without the colon the limit could not be taken back.
        command.args(["--pid", &self.child.id().to_string(), &format!("--fsize={limit}:")]);
        assert!(command.status().unwrap().success(), "{command:?}");
    }

    /// The epoch of the node.
    pub async fn register(&self) -> u64 {
        let mut client = NodeLinkServiceClient::new(channel(self.address("link")).await);
        let register = RegisterRequest { node: "m1".into(), boot_id: "boot-1".into(), ..Default::default() };
        client.register(register).await.unwrap().into_inner().node_epoch
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Reports once; None when the stream ends without an answer.
pub async fn report(link: SocketAddr, report: ReportFactsRequest) -> Result<Option<ReportFactsResponse>, Status> {
    let mut client = NodeLinkServiceClient::new(channel(link).await);
    let (send, outbox) = tokio::sync::mpsc::channel(1);
    send.send(report).await.unwrap();
    let mut answers = client.report_facts(ReceiverStream::new(outbox)).await?.into_inner();
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("an answer or an end")?;
    if let Some(answer) = &answer {
        assert_eq!(answer.refusals, [], "nothing is refused, and not because it comes again");
    }
    Ok(answer)
}
