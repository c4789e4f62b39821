//! The node link: media nodes register, get directives, claim recordings, fetch credentials and report facts.
pub(crate) mod claim;
mod credential;
pub(crate) mod drain;
mod facts;
mod keys;
pub(crate) mod node;
mod register;
pub(crate) mod resume;
mod stream;

use std::collections::BTreeMap;
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
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

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
    /// The newest epoch of every node that registered here: a fenced process hears of it at once, not at its next
    /// heartbeat.
    epochs: Arc<watch::Sender<BTreeMap<String, u64>>>,
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
        Self { db, clock, sealer, pulse, drain, lease, epochs: Arc::new(watch::Sender::new(BTreeMap::new())) }
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
        let request = request.into_inner();
        register::check(&request)?;
        let now = self.clock.now();
        let (lease, lease_until) = (self.lease, self.lease_until(now));
        let node = request.node.clone();
        let reply = self.db.write(move |db| register::register(db, &request, now, lease, lease_until)).await?;
        self.epochs.send_modify(|epochs| {
            epochs.insert(node.clone(), reply.node_epoch);
        });
        tracing::info!(node, epoch = reply.node_epoch, "node registered");
        Ok(Response::new(reply))
    }

    type StreamDirectivesStream = ResponseStream<pb::StreamDirectivesResponse>;

    async fn stream_directives(
        &self,
        request: Request<Streaming<pb::StreamDirectivesRequest>>,
    ) -> Result<Response<Self::StreamDirectivesStream>, Status> {
        Ok(Response::new(stream::open(self.clone(), request.into_inner())))
    }

    type ReportFactsStream = ResponseStream<pb::ReportFactsResponse>;

    async fn report_facts(
        &self,
        request: Request<Streaming<pb::ReportFactsRequest>>,
    ) -> Result<Response<Self::ReportFactsStream>, Status> {
        Ok(Response::new(facts::open(self.clone(), request.into_inner())))
    }

    async fn claim_recording(
        &self,
        request: Request<pb::ClaimRecordingRequest>,
    ) -> Result<Response<pb::ClaimRecordingResponse>, Status> {
        let claim = claim::Claim::parse(request.into_inner(), self.clock.now())?;
        let now = self.clock.now();
        Ok(Response::new(self.db.write(move |db| claim::claim(db, &claim, now)).await?))
    }

    async fn validate_epochs(
        &self,
        request: Request<pb::ValidateEpochsRequest>,
    ) -> Result<Response<pb::ValidateEpochsResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.db.read(move |db| claim::validate(db, &request)).await?))
    }

    async fn fetch_credential(
        &self,
        request: Request<pb::FetchCredentialRequest>,
    ) -> Result<Response<pb::FetchCredentialResponse>, Status> {
        Ok(Response::new(self.credential(request.into_inner()).await?))
    }

    async fn deregister(
        &self,
        request: Request<pb::DeregisterRequest>,
    ) -> Result<Response<pb::DeregisterResponse>, Status> {
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
        let name = node::id(&request.into_inner().node)?;
        let effect = self.db.read(move |db| stream::view(db, &name)).await?;
        let mut directives: Vec<_> = effect.upserts.into_iter().map(keys::masked).collect();
        directives.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(Response::new(pb::GetSnapshotResponse { version: effect.version, directives }))
    }
}

/// The node speaks under an epoch that is not in force.
fn fenced(node: &str, current: u64) -> Problem {
    Problem::fenced(&format!("nodes/{node}"), current)
}
