//! Single calls that the rest of the node makes over the link.

use std::sync::atomic::Ordering;

use recorder_proto::ids::{Epoch, RecordingId};
use recorder_proto::names::RecordingName;
use recorder_proto::pb::node::validate_epochs_request::Item;
use recorder_proto::pb::node::{
    ClaimRecordingRequest, FetchCredentialRequest, FetchCredentialResponse, ValidateEpochsRequest,
};
use tonic::Status;

use super::{Client, Link, RETRY, is_transient};
use crate::link::claims;
use crate::recording::Grant;

/// Recordings in one question about epochs.
const VALIDATED: usize = 1_000;

impl Link {
    /// The credential of a storage; waits for the control plane as long as it takes, because uploads can wait.
    pub async fn credential(&self, storage: &str, version: u64) -> Result<FetchCredentialResponse, Status> {
        let mut clients = self.shared.client.subscribe();
        loop {
            let client = match clients.wait_for(Option::is_some).await {
                Ok(client) => client.clone(),
                Err(_) => return Err(Status::cancelled("the link is closed")),
            };
            let Some(mut client) = client else { continue };
            let epoch = self.shared.node_epoch.load(Ordering::Relaxed);
            let request =
                FetchCredentialRequest { node_epoch: epoch, storage: storage.to_owned(), credential_version: version };
            match self.shared.in_time("fetch_credential", client.fetch_credential(request)).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) if is_transient(&status) => tokio::time::sleep(RETRY.1).await,
                Err(status) => {
                    self.shared.heed(&status, epoch);
                    return Err(status);
                }
            }
        }
    }

    /// Asks for a recording that may go on. One attempt: whoever asks does not wait long.
    pub async fn claim(&self, mut claim: ClaimRecordingRequest, proposed: RecordingId) -> Result<Grant, Status> {
        let (mut client, epoch) = self.client()?;
        claim.node_epoch = epoch;
        match self.shared.in_time("claim_recording", client.claim_recording(claim)).await {
            Ok(reply) => Ok(claims::granted(reply.into_inner(), proposed, self.shared.clock.now())),
            Err(status) => {
                self.shared.heed(&status, epoch);
                Err(status)
            }
        }
    }

    /// Which of these recordings (of which the control plane knows) another node goes on with.
    pub async fn taken_over(&self, held: &[(RecordingId, Epoch)]) -> Result<Vec<String>, Status> {
        let (mut client, node_epoch) = self.client()?;
        let mut stale = Vec::new();
        for some in held.chunks(VALIDATED) {
            let item = |(id, epoch): &(RecordingId, Epoch)| Item {
                recording: RecordingName(*id).to_string(),
                epoch: epoch.get(),
            };
            let request = ValidateEpochsRequest { node_epoch, items: some.iter().map(item).collect() };
            match self.shared.in_time("validate_epochs", client.validate_epochs(request)).await {
                Ok(reply) => stale.extend(reply.into_inner().stale),
                Err(status) => {
                    self.shared.heed(&status, node_epoch);
                    return Err(status);
                }
            }
        }
        Ok(stale)
    }

    fn client(&self) -> Result<(Client, u64), Status> {
        let client = self.shared.client.borrow().clone();
        let client = client.ok_or_else(|| Status::unavailable("the control plane is away"))?;
        Ok((client, self.shared.node_epoch.load(Ordering::Relaxed)))
    }
}
