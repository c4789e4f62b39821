//! Credentials of storages, opened for the nodes that write there.
use prost::Message;
use recorder_db::storages;
use recorder_proto::Problem;
use recorder_proto::names::StorageName;
use recorder_proto::pb::node::{FetchCredentialRequest, FetchCredentialResponse};

use super::{Link, Result, node};
use crate::api::places;

impl Link {
    /// The latest credential: it is at least the version that a plan names, and an older one may be revoked already.
    pub(super) async fn credential(&self, request: FetchCredentialRequest) -> Result<FetchCredentialResponse> {
        let name = request.storage.parse::<StorageName>();
        let name = name.map_err(|error| Problem::invalid_field("storage", error.to_string()))?;
        let (epoch, wanted) = (request.node_epoch, request.credential_version);
        let id = name.id().to_owned();
        let found = self.db.read(move |db| {
            node::by_epoch(db, epoch)?;
            let Some(row) = storages::get(db, &id)? else { return Ok::<_, Problem>(None) };
            let credential = storages::credential(db, &id, row.credential_version)?;
            Ok(Some((row, credential)))
        });
        let Some((row, credential)) = found.await? else {
            return Err(Problem::not_found("storage", &name.to_string()));
        };
        if u64::try_from(row.credential_version).is_ok_and(|version| version < wanted) {
            let message = format!("{name} has no credential of version {wanted} yet");
            return Err(Problem::wrong_state("CREDENTIAL_VERSION", &name.to_string(), message));
        }
        // A folder needs none.
        let Some(credential) = credential else { return Ok(FetchCredentialResponse::default()) };
        let place = places::storage_credential(&row.uid, credential.version);
        let opened = self.sealer.open(&credential.sealed, &place).map_err(|error| {
            tracing::error!(storage = %name, %error, "a credential cannot be opened; was the seal key changed?");
            Problem::internal("the credential was sealed with another key")
        })?;
        FetchCredentialResponse::decode(opened.as_slice())
            .map_err(|_| Problem::internal("the stored credential is malformed"))
    }
}
