//! The node link: media nodes register, get directives, claim recordings, fetch credentials and report facts.
mod board;
pub(crate) mod claim;
mod credential;
pub(crate) mod drain;
mod facts;
mod keys;
mod load;
pub(crate) mod node;
mod notary;
mod register;
pub(crate) mod resume;
pub mod service;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use recorder_db::Db;
use recorder_proto::Problem;
use recorder_proto::pb::node as pb;
use recorder_proto::pb::node::node_link_service_server::NodeLinkService;
use recorder_runtime::clock::Clock;
use recorder_runtime::drain::Signal;
use recorder_runtime::secret::Sealer;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use board::Board;
use notary::Notary;

use crate::access::Caller;
use crate::pulse::Pulse;

/// What the parts of the link answer.
type Result<T, E = Problem> = std::result::Result<T, E>;

/// Implements [`NodeLinkService`]. Clones share everything.
#[derive(Clone)]
pub struct Link {
    db: Db,
    clock: Arc<dyn Clock>,
    sealer: Arc<Sealer>,
    pulse: Pulse,
    drain: Signal,
    lease: Duration,
    /// What all directive streams tell.
    board: Board,
    /// What all directive streams write.
    notary: Notary,
    /// Who speaks, while a call is served.
    caller: Option<Caller>,
}

impl Link {
    /// `lease` is how long a node counts as alive after its last heartbeat.
    pub fn new(
        db: Db,
        clock: Arc<dyn Clock>,
        sealer: Arc<Sealer>,
        pulse: Pulse,
        drain: Signal,
        lease: Duration,
    ) -> Self {
        let (board, notary) = (Board::new(db.clone(), Arc::clone(&sealer)), Notary::new(db.clone()));
        Self { db, clock, sealer, pulse, drain, lease, board, notary, caller: None }
    }

    /// The link as whoever makes this call may use it.
    fn of<T>(&self, request: &Request<T>) -> Self {
        Self { caller: request.extensions().get::<Caller>().cloned(), ..self.clone() }
    }

    /// Whether the caller may speak for this node: a certificate is good for the nodes it names.
    fn vouch(&self, node: &str) -> Result<()> {
        let bare = node.strip_prefix("nodes/").unwrap_or(node);
        if self.caller.as_ref().is_none_or(|caller| caller.speaks_for(bare)) {
            return Ok(());
        }
        let message = format!("the certificate of this client was not made for the node {bare}");
        Err(Problem::new(tonic::Code::PermissionDenied, "NODE_IDENTITY", message).with_metadata("node", bare))
    }

    /// [`Link::vouch`] for the node that speaks under an epoch.
    async fn vouch_epoch(&self, epoch: u64) -> Result<()> {
        if self.caller.as_ref().is_none_or(Caller::speaks_for_all) {
            return Ok(());
        }
        let node = self.db.read(move |db| node::by_epoch(db, epoch)).await?;
        self.vouch(&node.id)
    }

    fn lease_until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let lease = chrono::TimeDelta::from_std(self.lease).unwrap_or(chrono::TimeDelta::MAX);
        now.checked_add_signed(lease).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl NodeLinkService for Link {
    async fn register(&self, request: Request<pb::RegisterRequest>) -> Result<Response<pb::RegisterResponse>, Status> {
        let (link, request) = (self.of(&request), request.into_inner());
        register::check(&request)?;
        link.vouch(&request.node)?;
        let now = self.clock.now();
        let (lease, lease_until) = (self.lease, self.lease_until(now));
        let node = request.node.clone();
        let reply = self.db.write(move |db| register::register(db, &request, now, lease, lease_until)).await?;
        tracing::info!(node, epoch = reply.node_epoch, "node registered");
        Ok(Response::new(reply))
    }

    type StreamDirectivesStream = ResponseStream<pb::StreamDirectivesResponse>;

    async fn stream_directives(
        &self,
        request: Request<Streaming<pb::StreamDirectivesRequest>>,
    ) -> Result<Response<Self::StreamDirectivesStream>, Status> {
        let outgoing = stream::open(self.of(&request), request.into_inner());
        let decoded = |message: crate::directives::parcel::Outgoing| {
            message.message().map_err(|error| Status::internal(error.to_string()))
        };
        Ok(Response::new(Box::pin(outgoing.map(move |message| message.and_then(decoded)))))
    }

    type ReportFactsStream = ResponseStream<pb::ReportFactsResponse>;

    async fn report_facts(
        &self,
        request: Request<Streaming<pb::ReportFactsRequest>>,
    ) -> Result<Response<Self::ReportFactsStream>, Status> {
        Ok(Response::new(facts::open(self.of(&request), request.into_inner())))
    }

    async fn claim_recording(
        &self,
        request: Request<pb::ClaimRecordingRequest>,
    ) -> Result<Response<pb::ClaimRecordingResponse>, Status> {
        self.of(&request).vouch_epoch(request.get_ref().node_epoch).await?;
        let claim = claim::Claim::parse(request.into_inner(), self.clock.now())?;
        let now = self.clock.now();
        Ok(Response::new(self.db.write(move |db| claim::claim(db, &claim, now)).await?))
    }

    async fn validate_epochs(
        &self,
        request: Request<pb::ValidateEpochsRequest>,
    ) -> Result<Response<pb::ValidateEpochsResponse>, Status> {
        self.of(&request).vouch_epoch(request.get_ref().node_epoch).await?;
        let request = request.into_inner();
        Ok(Response::new(self.db.read(move |db| claim::validate(db, &request)).await?))
    }

    async fn fetch_credential(
        &self,
        request: Request<pb::FetchCredentialRequest>,
    ) -> Result<Response<pb::FetchCredentialResponse>, Status> {
        self.of(&request).vouch_epoch(request.get_ref().node_epoch).await?;
        Ok(Response::new(self.credential(request.into_inner()).await?))
    }

    async fn deregister(
        &self,
        request: Request<pb::DeregisterRequest>,
    ) -> Result<Response<pb::DeregisterResponse>, Status> {
        self.of(&request).vouch(&request.get_ref().node)?;
        let request = request.into_inner();
        let now = self.clock.now();
        let node = request.node.clone();
        self.db.write(move |db| register::deregister(db, &request, now)).await?;
        tracing::info!(node, "node deregistered");
        Ok(Response::new(pb::DeregisterResponse {}))
    }

    async fn get_snapshot(
        &self,
        request: Request<pb::GetSnapshotRequest>,
    ) -> Result<Response<pb::GetSnapshotResponse>, Status> {
        self.of(&request).vouch(&request.get_ref().node)?;
        let name = node::id(&request.into_inner().node)?;
        let effect = self.db.read(move |db| Ok::<_, Problem>(load::view(db, &name)?)).await?;
        let mut directives: Vec<_> = effect.upserts.into_iter().map(keys::masked).collect();
        directives.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(Response::new(pb::GetSnapshotResponse { version: effect.version, directives }))
    }
}

/// The node speaks under an epoch that is not in force.
fn fenced(node: &str, current: u64) -> Problem {
    Problem::fenced(&format!("nodes/{node}"), current)
}
