//! Secrets: opened for nodes, sealed in the database, hidden from people.
use recorder_proto::pb::node::directive::Directive as Kind;
use recorder_proto::pb::node::{FetchCredentialRequest, GetSnapshotRequest};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::domain::{PublishAuth, publish_auth::Mode};
use recorder_proto::pb::v1::storage::{S3, Target};

use super::control::{Control, on_each, refused};
use super::node::Node;

const PRIMARY: &str = "primary-publish-key-4711";
const SECONDARY: &str = "secondary-publish-key-0815";

async fn signed_domain(control: &Control) {
    let publish_auth = PublishAuth {
        mode: Mode::SignedUrl as i32,
        primary_key: PRIMARY.into(),
        secondary_key: SECONDARY.into(),
        ..Default::default()
    };
    let domain = v1::Domain { publish_auth: Some(publish_auth), ..Default::default() };
    let request =
        v1::CreateDomainRequest { domain_id: "push.example.com".into(), domain: Some(domain), ..Default::default() };
    control.domains().create_domain(request).await.unwrap();
}

#[test]
fn a_signed_domain_reaches_the_node_with_keys_it_can_check_signatures_with() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        signed_domain(&control).await;
        let delta = node.follow().await;
        let Some(Kind::Domain(policy)) = &delta.upserts[0].directive else { panic!("{delta:?}") };
        assert_eq!(policy.auth_mode, "SIGNED_URL");
        assert_eq!(policy.signing_keys, [PRIMARY.as_bytes(), SECONDARY.as_bytes()]);
        assert!(!format!("{policy:?}").contains(PRIMARY), "not even a debug log shows them");
    });
}

#[test]
fn publish_keys_are_neither_in_the_change_log_nor_in_the_snapshot_for_people() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        signed_domain(&control).await;
        node.follow().await;
        let rows = control.scratch.db.read(recorder_db::directives::all).await.unwrap();
        let log = control.scratch.db.read(|db| recorder_db::directives::changes_after(db, 0, 1_000)).await.unwrap();
        let bodies: Vec<Vec<u8>> =
            rows.into_iter().map(|row| row.body).chain(log.into_iter().filter_map(|change| change.body)).collect();
        assert!(!bodies.is_empty());
        for body in bodies {
            for key in [PRIMARY, SECONDARY] {
                assert!(!body.windows(key.len()).any(|window| window == key.as_bytes()), "a key lies open");
            }
        }
        let request = GetSnapshotRequest { node: "nodes/m1".into() };
        let shown = node.client.get_snapshot(request).await.unwrap().into_inner();
        assert_eq!(shown.version, node.version);
        let [directive] = shown.directives.as_slice() else { panic!("{shown:?}") };
        let Some(Kind::Domain(policy)) = &directive.directive else { panic!("{directive:?}") };
        assert_eq!((policy.auth_mode.as_str(), policy.signing_keys.len()), ("SIGNED_URL", 0));
    });
}

#[test]
fn an_open_domain_takes_no_keys_along() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        signed_domain(&control).await;
        node.follow().await;
        let publish_auth = PublishAuth { mode: Mode::Open as i32, ..Default::default() };
        let domain = v1::Domain {
            name: "domains/push.example.com".into(),
            publish_auth: Some(publish_auth),
            ..Default::default()
        };
        let request = v1::UpdateDomainRequest { domain: Some(domain), ..Default::default() };
        control.domains().update_domain(request).await.unwrap();
        let delta = node.follow().await;
        let Some(Kind::Domain(policy)) = &delta.upserts[0].directive else { panic!("{delta:?}") };
        assert_eq!((policy.auth_mode.as_str(), policy.signing_keys.len()), ("OPEN", 0));
    });
}

fn s3(secret: &str) -> v1::Storage {
    let s3 = S3 {
        bucket: "rec".into(),
        region: "eu-west-1".into(),
        access_key_id: "AKIA1".into(),
        secret_access_key: secret.into(),
        ..Default::default()
    };
    v1::Storage { target: Some(Target::S3(s3)), ..Default::default() }
}

#[test]
fn a_node_fetches_the_latest_credential_and_nobody_else_does() {
    on_each(async |control| {
        let mut node = Node::register(&control, "m1", "boot-1").await;
        let request = v1::CreateStorageRequest {
            storage_id: "s3".into(),
            storage: Some(s3("first-secret")),
            ..Default::default()
        };
        control.storages().create_storage(request).await.unwrap();
        let fetch = |epoch, version| FetchCredentialRequest {
            node_epoch: epoch,
            storage: "storages/s3".into(),
            credential_version: version,
        };
        let epoch = node.epoch;
        let first = node.client.fetch_credential(fetch(epoch, 1)).await.unwrap().into_inner();
        assert_eq!((first.access_key_id.as_str(), first.secret_access_key.as_str()), ("AKIA1", "first-secret"));
        assert!(!format!("{first:?}").contains("first-secret"));

        let storage = v1::Storage { name: "storages/s3".into(), ..s3("second-secret") };
        let request = v1::UpdateStorageRequest { storage: Some(storage), ..Default::default() };
        control.storages().update_storage(request).await.unwrap();
        for version in [0, 1, 2] {
            let latest = node.client.fetch_credential(fetch(epoch, version)).await.unwrap().into_inner();
            assert_eq!(latest.secret_access_key, "second-secret", "at least version {version}");
        }
        let early = refused(node.client.fetch_credential(fetch(epoch, 3)).await);
        assert_eq!(early.reason, "CREDENTIAL_VERSION");
        let stranger = refused(node.client.fetch_credential(fetch(epoch + 1, 1)).await);
        assert_eq!(stranger.reason, "EPOCH_FENCED");
        let folder = FetchCredentialRequest { storage: "storages/library".into(), ..fetch(epoch, 0) };
        assert_eq!(node.client.fetch_credential(folder).await.unwrap().into_inner().secret_access_key, "");
    });
}
