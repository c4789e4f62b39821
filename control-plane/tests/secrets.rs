//! No secret is ever found again: not in the database, not in a log line, not in a reply.

use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::support::running::Running;
use prost::Message;
use recorder_db::Kind;
use recorder_db::scratch::{Scratch, kinds};
use recorder_proto::pb::node::GetSnapshotRequest;
use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::v1::domain::PublishAuth;
use recorder_proto::pb::v1::domain::publish_auth::Mode;
use recorder_proto::pb::v1::domain_service_client::DomainServiceClient;
use recorder_proto::pb::v1::storage::{Gcs, S3, Target};
use recorder_proto::pb::v1::storage_service_client::StorageServiceClient;
use recorder_proto::pb::v1::*;
use recorder_runtime::telemetry;
use tonic::{Response, Status};

/// Begins every secret of this test.
const CANARY: &str = "canary";

/// Every log line of this process.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that a caller was told.
#[derive(Default)]
struct Replies(Vec<Vec<u8>>);

impl Replies {
    fn keep<T: Message>(&mut self, outcome: Result<Response<T>, Status>) {
        match outcome {
            Ok(reply) => self.0.push(reply.into_inner().encode_to_vec()),
            Err(status) => {
                self.0.push(format!("{status:?}").into_bytes());
                self.0.push(status.details().to_vec());
            }
        }
    }
}

fn s3(secret: &str) -> Storage {
    let s3 = S3 {
        bucket: "rec".into(),
        endpoint: "http://127.0.0.1:9".into(),
        access_key_id: "AKIA".into(),
        secret_access_key: format!("{CANARY}-{secret}"),
        session_token: format!("{CANARY}-token"),
        ..S3::default()
    };
    Storage { target: Some(Target::S3(s3)), ..Storage::default() }
}

fn gcs(gcs: Gcs) -> Storage {
    Storage { target: Some(Target::Gcs(Gcs { bucket: "rec".into(), ..gcs })), ..Storage::default() }
}

async fn use_storages(server: &Running, replies: &mut Replies) {
    let mut client = StorageServiceClient::new(server.api.clone());
    let account = format!(r#"{{"client_email":"a@b.iam","private_key":"{CANARY}-private"}}"#);
    let hmac = Gcs { access_key_id: "GOOG1E".into(), secret_access_key: format!("{CANARY}-hmac"), ..Gcs::default() };
    let account = Gcs { service_account_json: account, ..Gcs::default() };
    for (id, storage) in [("s3", s3("one")), ("hmac", gcs(hmac)), ("account", gcs(account))] {
        let request = CreateStorageRequest {
            storage_id: id.into(),
            storage: Some(storage),
            request_id: format!("request-{id}"),
            validate_only: false,
        };
        replies.keep(client.create_storage(request.clone()).await);
        replies.keep(client.create_storage(request.clone()).await);
        let reused = CreateStorageRequest { storage_id: "other".into(), ..request };
        replies.keep(client.create_storage(reused).await);
        replies.keep(client.get_storage(GetStorageRequest { name: id.into() }).await);
        replies.keep(client.test_storage(TestStorageRequest { name: id.into() }).await);
    }
    let rotated = Storage { name: "s3".into(), ..s3("two") };
    let update = |storage| UpdateStorageRequest { storage: Some(storage), ..Default::default() };
    replies.keep(client.update_storage(update(rotated.clone())).await);
    replies.keep(client.update_storage(update(Storage { etag: "stale".into(), ..rotated })).await);
    let bad = CreateStorageRequest { storage: Some(s3("with a space")), ..Default::default() };
    replies.keep(client.create_storage(bad).await);
    let text = Gcs { service_account_json: format!("{CANARY}-no-json"), ..Gcs::default() };
    let bad = CreateStorageRequest { storage: Some(gcs(text)), ..Default::default() };
    replies.keep(client.create_storage(bad).await);
    replies.keep(client.list_storages(ListStoragesRequest::default()).await);
}

async fn use_domains(server: &Running, replies: &mut Replies) {
    let mut client = DomainServiceClient::new(server.api.clone());
    let signed = |primary: &str, secondary: &str| Domain {
        name: "push.example.com".into(),
        publish_auth: Some(PublishAuth {
            mode: Mode::SignedUrl.into(),
            primary_key: format!("{CANARY}-{primary}"),
            secondary_key: format!("{CANARY}-{secondary}"),
            ..PublishAuth::default()
        }),
        ..Domain::default()
    };
    let create = CreateDomainRequest {
        domain_id: "push.example.com".into(),
        domain: Some(signed("first", "second")),
        request_id: "request-domain".into(),
        ..Default::default()
    };
    replies.keep(client.create_domain(create.clone()).await);
    replies.keep(client.create_domain(CreateDomainRequest { request_id: String::new(), ..create }).await);
    replies.keep(client.get_domain(GetDomainRequest { name: "push.example.com".into() }).await);
    let update = |domain| UpdateDomainRequest { domain: Some(domain), ..Default::default() };
    replies.keep(client.update_domain(update(signed("third", "fourth"))).await);
    replies.keep(client.update_domain(update(signed("with a space", "fourth"))).await);
    replies.keep(client.list_domains(ListDomainsRequest::default()).await);
    let url =
        GeneratePublishUrlRequest { domain: "push.example.com".into(), stream: "cam1".into(), ..Default::default() };
    replies.keep(client.generate_publish_url(url).await);
    let mut link = NodeLinkServiceClient::new(server.link.clone());
    replies.keep(link.get_snapshot(GetSnapshotRequest { node: "nodes/m1".into() }).await);
}

/// The database as a thief would get it.
fn stored(scratch: &Scratch) -> Vec<u8> {
    match scratch.file() {
        Some(file) => {
            let folder = file.parent().unwrap().to_owned();
            let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let files: Vec<_> = files.filter(|path| path.to_string_lossy().contains("control.db")).collect();
            assert!(files.len() >= 2, "the log beside the file counts too: {files:?}");
            files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect()
        }
        None => {
            let dump = std::process::Command::new("pg_dump").arg("--inserts").arg(&scratch.url).output().unwrap();
            assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
            dump.stdout
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn r34_no_secret_in_database_logs_or_replies() {
    let logs = Logs::default();
    let writer = logs.clone();
    let (subscriber, _handle) =
        telemetry::subscriber(telemetry::Format::Pretty, "trace", false, move || writer.clone()).unwrap();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for kind in kinds() {
        runtime.block_on(look(kind, &logs));
    }
}

async fn look(kind: Kind, logs: &Logs) {
    let scratch = tokio::task::spawn_blocking(move || Scratch::new(kind)).await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(&scratch.url, folder.path()).await;
    let mut replies = Replies::default();
    use_storages(&server, &mut replies).await;
    use_domains(&server, &mut replies).await;
    let database = tokio::task::block_in_place(|| stored(&scratch));
    server.stop().await;

    let logged = logs.0.lock().unwrap().clone();
    let hexadecimal = hex::encode(CANARY);
    assert!(logged.len() > 1000, "the log was caught");
    assert!(replies.0.len() > 20 && replies.0.iter().any(|reply| holds(reply, "AKIA")), "the replies were kept");
    let shown = if kind == Kind::Sqlite { "AKIA".to_owned() } else { hex::encode("AKIA") };
    assert!(holds(&database, &shown), "the database was read");
    for (index, reply) in replies.0.iter().enumerate() {
        let text = String::from_utf8_lossy(reply);
        assert!(!holds(reply, CANARY), "reply {index}: {text}");
    }
    for (place, bytes) in [("log", &logged), ("database", &database)] {
        for secret in [CANARY, &hexadecimal] {
            let at = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
            let around = at.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(100)..at + 40]).into_owned());
            assert_eq!(around, None, "{place}");
        }
    }
}
