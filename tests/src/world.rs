//! One of each kind of storage, each behind a server of its own.

use recorder_proto::pb::v1;
use v1::storage::{FileSystem, Gcs, Target};

use crate::bucket::{BUCKET, Flavour, GcsServer, S3Options, S3Server};
use crate::cluster::Cluster;
use crate::scene::{Clients, all_formats};
use crate::stage::{KEY, SECRET, s3_target};

/// The storages `library`, `disk`, `s3`, `hmac` (Google by HMAC keys) and `account` (Google by service account).
pub struct World {
    /// The pair.
    pub cluster: Cluster,
    /// Clients of its API.
    pub clients: Clients,
    /// Behind `s3`.
    pub s3: S3Server,
    /// Behind `hmac`.
    pub hmac: S3Server,
    /// Behind `account`.
    pub gcs: GcsServer,
}

impl World {
    /// Each of these storages has a template of every format that is called as it is, bound to the domain.
    pub async fn bound(storages: &[&str], domain: &str) -> Self {
        let cluster = Cluster::start().await;
        let mut clients = Clients::of(&cluster).await;
        let s3 = S3Server::start(KEY, SECRET).await;
        let options = S3Options { access_key: KEY.into(), secret_key: SECRET.into(), ..Default::default() };
        let hmac = S3Server::start_with(S3Options { flavour: Flavour::Google, ..options }).await;
        let gcs = GcsServer::start().await;
        clients.storage("disk", Target::FileSystem(FileSystem { directory: "disk".into() })).await;
        clients.storage("s3", s3_target(&s3)).await;
        let (bucket, access_key_id, secret_access_key) = (BUCKET.into(), KEY.into(), SECRET.into());
        let target = Gcs { bucket, endpoint: hmac.endpoint(), access_key_id, secret_access_key, ..Default::default() };
        clients.storage("hmac", Target::Gcs(target)).await;
        let (endpoint, service_account_json) = (gcs.endpoint(), gcs.service_account_json());
        let target = Gcs { bucket: BUCKET.into(), endpoint, service_account_json, ..Default::default() };
        clients.storage("account", Target::Gcs(target)).await;
        for storage in storages {
            let template = v1::Template { storage: (*storage).into(), ..all_formats() };
            clients.template(storage, template).await;
            clients.bind(storage, domain).await;
        }
        Self { cluster, clients, s3, hmac, gcs }
    }
}
