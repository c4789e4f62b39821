//! The link against a control plane that refuses or stays silent.

use std::collections::BTreeMap;

use recorder_proto::Problem;
use recorder_proto::facts::{Fact, RecordingStarted};
use recorder_proto::ids::{EventId, RecordingId, SessionId};
use recorder_proto::pb::node::node_link_service_server::{NodeLinkService, NodeLinkServiceServer};
use recorder_proto::pb::node::{
    ClaimRecordingResponse, DeregisterRequest, DeregisterResponse, FetchCredentialRequest, FetchCredentialResponse,
    GetSnapshotRequest, GetSnapshotResponse, RegisterResponse, ReportFactsResponse, ValidateEpochsRequest,
    ValidateEpochsResponse,
};
use recorder_runtime::clock::SystemClock;
use recorder_runtime::drain::Drain;
use tokio::sync::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Streaming};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a call does at its first attempt; later ones succeed.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Succeeds,
    Hangs,
    IsFenced,
}

#[derive(Clone)]
struct Control {
    claim: First,
    credential: First,
    facts: First,
    registrations: watch::Sender<usize>,
    calls: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    reported: watch::Sender<u64>,
}

impl Control {
    fn new() -> Self {
        let (claim, credential, facts) = (First::Succeeds, First::Succeeds, First::Succeeds);
        let (registrations, reported) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { claim, credential, facts, registrations, calls: Arc::default(), reported }
    }

    async fn answer<T: Default>(&self, call: &'static str, first: First) -> Result<Response<T>, Status> {
        let mut calls = self.calls.lock().await;
        let count = calls.entry(call).or_default();
        *count += 1;
        let again = *count > 1;
        drop(calls);
        match first {
            First::IsFenced => Err(Problem::fenced("nodes/m1", 8).into()),
            First::Hangs if !again => std::future::pending().await,
            _ => Ok(Response::new(T::default())),
        }
    }
}

#[tonic::async_trait]
impl NodeLinkService for Control {
    type StreamDirectivesStream = ReceiverStream<Result<StreamDirectivesResponse, Status>>;
    type ReportFactsStream = ReceiverStream<Result<ReportFactsResponse, Status>>;

    async fn register(&self, _: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        self.registrations.send_modify(|count| *count += 1);
        Ok(Response::new(RegisterResponse { node_epoch: 7, ..Default::default() }))
    }

    async fn stream_directives(
        &self,
        request: Request<Streaming<StreamDirectivesRequest>>,
    ) -> Result<Response<Self::StreamDirectivesStream>, Status> {
        let (send, replies) = mpsc::channel(1);
        let mut said = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(_)) = said.message().await {}
            drop(send);
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn report_facts(
        &self,
        request: Request<Streaming<ReportFactsRequest>>,
    ) -> Result<Response<Self::ReportFactsStream>, Status> {
        let (send, replies) = mpsc::channel(1);
        let (mut said, control) = (request.into_inner(), self.clone());
        tokio::spawn(async move {
            while let Ok(Some(report)) = said.message().await {
                let durable_sequence = report.facts.last().unwrap().sequence;
                let reply = match control.facts {
                    First::IsFenced => Err(Problem::fenced("nodes/m1", 8).into()),
                    _ => Ok(ReportFactsResponse { durable_sequence, ..Default::default() }),
                };
                control.reported.send_replace(durable_sequence);
                let _ = send.send(reply).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn claim_recording(
        &self,
        _: Request<ClaimRecordingRequest>,
    ) -> Result<Response<ClaimRecordingResponse>, Status> {
        self.answer("claim", self.claim).await
    }

    async fn validate_epochs(
        &self,
        _: Request<ValidateEpochsRequest>,
    ) -> Result<Response<ValidateEpochsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn fetch_credential(
        &self,
        _: Request<FetchCredentialRequest>,
    ) -> Result<Response<FetchCredentialResponse>, Status> {
        self.answer("credential", self.credential).await
    }

    async fn deregister(&self, _: Request<DeregisterRequest>) -> Result<Response<DeregisterResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn get_snapshot(&self, _: Request<GetSnapshotRequest>) -> Result<Response<GetSnapshotResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

struct Node;

impl Report for Node {
    fn heartbeat(&self) -> Heartbeat {
        Heartbeat::default()
    }

    fn registration(&self) -> RegisterRequest {
        RegisterRequest { node: "m1".into(), ..Default::default() }
    }
}

struct Rig {
    link: Link,
    control: Control,
    drain: Drain,
    _folder: tempfile::TempDir,
}

/// A link that runs against `control`.
async fn rig(control: Control) -> Rig {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = NodeLinkServiceServer::new(control.clone());
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let folder = tempfile::tempdir().unwrap();
    let (directives, facts) = (Directives::open(folder.path()), FactLog::open(folder.path()).unwrap());
    let (controls, _) = mpsc::channel(1);
    let mut link = Link::new(&[url], directives, facts, Arc::new(SystemClock::new()), controls).unwrap();
    Arc::get_mut(&mut link.shared).unwrap().call_timeout = Duration::from_millis(200);
    let (running, drain) = (link.clone(), Drain::new());
    let signal = drain.signal();
    tokio::spawn(async move { running.run(Arc::new(Node), signal).await });
    Rig { link, control, drain, _folder: folder }
}

impl Rig {
    async fn start_recording(&self) {
        let at = SystemClock::new().now();
        let started = RecordingStarted {
            stream: recorder_proto::names::StreamKey::new("push.example.com", "live", "cam").unwrap(),
            session: SessionId::new(at, [1; 10]),
            protocol: recorder_proto::pb::v1::protocol::Kind::Rtmp,
            origin: "rules/vip".into(),
            also: Vec::new(),
            template: "show".parse().unwrap(),
            template_revision: 1,
            storage: "library".parse().unwrap(),
            labels: BTreeMap::new(),
            formats: Vec::new(),
            start_time: at,
            claim_key: "m1/boot/session/show".into(),
        };
        let fact = Fact {
            sequence: recorder_proto::ids::Sequence(0),
            id: EventId::new(at, [2; 10]),
            time: at,
            recording: Some(RecordingId::new(at, [3; 10])),
            epoch: 1.into(),
            kind: started.into(),
        };
        self.link.facts().append((&fact).into()).await.unwrap();
    }

    /// Waits until the link says it is fenced, and looks that it stays away.
    async fn is_fenced(&self) {
        let reason = tokio::time::timeout(PATIENCE, self.link.fenced()).await.expect("never fenced");
        assert!(reason.contains("epoch 8"), "{reason}");
        assert_eq!(*self.control.registrations.borrow(), 1, "it must not take the id back");
        self.drain.expire();
    }
}

#[tokio::test]
async fn a_claim_without_an_answer_held_back_every_fact() {
    let rig = rig(Control { claim: First::Hangs, ..Control::new() }).await;
    rig.start_recording().await;
    let mut reported = rig.control.reported.subscribe();
    tokio::time::timeout(PATIENCE, reported.wait_for(|sequence| *sequence == 1)).await.unwrap().unwrap();
    assert_eq!(rig.control.calls.lock().await.get("claim"), Some(&2));
}

#[tokio::test]
async fn a_credential_without_an_answer_held_back_uploads_forever() {
    let rig = rig(Control { credential: First::Hangs, ..Control::new() }).await;
    let reply = tokio::time::timeout(PATIENCE, rig.link.credential("storages/library", 1)).await.unwrap();
    assert_eq!(reply.unwrap(), FetchCredentialResponse::default());
    assert_eq!(rig.control.calls.lock().await.get("credential"), Some(&2));
}

#[tokio::test]
async fn a_fact_stream_that_was_fenced_registered_again() {
    let rig = rig(Control { facts: First::IsFenced, ..Control::new() }).await;
    rig.start_recording().await;
    rig.is_fenced().await;
}

#[tokio::test]
async fn a_claim_that_was_fenced_was_taken_for_a_refusal() {
    let rig = rig(Control { claim: First::IsFenced, ..Control::new() }).await;
    rig.start_recording().await;
    rig.is_fenced().await;
    assert_eq!(*rig.control.reported.borrow(), 0, "its facts belong to a process that is no more");
}

#[tokio::test]
async fn a_credential_that_was_fenced_went_unnoticed() {
    let rig = rig(Control { credential: First::IsFenced, ..Control::new() }).await;
    assert_eq!(rig.link.credential("storages/library", 1).await.unwrap_err().code(), Code::FailedPrecondition);
    rig.is_fenced().await;
}

#[test]
fn a_recording_that_moved_on_is_not_a_fenced_node() {
    let moved: Status = Problem::fenced("recordings/01", 8).into();
    assert_eq!(fenced_by(&moved), None);
    assert_eq!(fenced_by(&Status::failed_precondition("storage has no credential")), None);
}
