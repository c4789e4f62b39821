//! StorageService over the wire.

use crate::support::{Control, bad_fields, mask, on_each, reason, refused};
use recorder_control::api::secrets;
use recorder_db::{events, files, recordings, storages};
use recorder_proto::pb::node::FetchCredentialResponse;
use recorder_proto::pb::v1::storage::{FileSystem, Gcs, S3, Target};
use recorder_proto::pb::v1::*;
use tonic::Code;

const ACCOUNT: &str = r#"{"client_email":"a@b.iam","private_key":"hunter2"}"#;

fn s3(access_key_id: &str, secret_access_key: &str) -> Storage {
    let s3 = S3 {
        bucket: "rec".into(),
        region: "ap-southeast-1".into(),
        access_key_id: access_key_id.into(),
        secret_access_key: secret_access_key.into(),
        ..S3::default()
    };
    Storage { target: Some(Target::S3(s3)), ..Storage::default() }
}

fn folder(directory: &str) -> Storage {
    Storage { target: Some(Target::FileSystem(FileSystem { directory: directory.into() })), ..Storage::default() }
}

async fn create(control: &Control, id: &str, storage: Storage) -> Storage {
    let request = CreateStorageRequest { storage_id: id.into(), storage: Some(storage), ..Default::default() };
    control.storages().create_storage(request).await.unwrap().into_inner()
}

async fn get(control: &Control, name: &str) -> Storage {
    control.storages().get_storage(GetStorageRequest { name: name.into() }).await.unwrap().into_inner()
}

async fn update(control: &Control, id: &str, storage: Storage, paths: &[&str]) -> Result<Storage, tonic::Status> {
    let storage = Some(Storage { name: format!("storages/{id}"), ..storage });
    let update_mask = if paths.is_empty() { None } else { mask(paths) };
    let request = UpdateStorageRequest { storage, update_mask, validate_only: false };
    control.storages().update_storage(request).await.map(tonic::Response::into_inner)
}

async fn delete(control: &Control, name: &str) -> Result<tonic::Response<()>, tonic::Status> {
    control.storages().delete_storage(DeleteStorageRequest { name: name.into(), ..Default::default() }).await
}

/// What a node would fetch.
async fn credential(control: &Control, id: &'static str) -> FetchCredentialResponse {
    let sealer = crate::support::sealer();
    let read = control.scratch.db.read(move |connection| {
        let row = storages::get(connection, id)?.unwrap();
        secrets::credential(connection, &sealer, &row)
    });
    read.await.unwrap()
}

#[test]
fn the_library_is_built_in_and_the_default() {
    on_each(async |control| {
        let library = get(&control, "library").await;
        assert!(library.is_default && matches!(library.target, Some(Target::FileSystem(_))));
        assert_eq!((library.state(), library.credential_version), (storage::State::Active, 0));
        assert_eq!(reason(delete(&control, "library").await), (Code::FailedPrecondition, "BUILT_IN".into()));
    });
}

#[test]
fn r4_r34_storages_are_created_read_listed_changed_and_deleted_without_showing_a_secret() {
    on_each(async |control| {
        let created = create(&control, "s3", s3("AKIA1", "hunter2")).await;
        let Some(Target::S3(shown)) = &created.target else { panic!("{created:?}") };
        assert_eq!((shown.access_key_id.as_str(), shown.secret_access_key.as_str()), ("AKIA1", ""));
        assert_eq!((created.name.as_str(), created.credential_version), ("storages/s3", 1));
        assert_eq!(get(&control, "storages/s3").await, created);
        let list = control.storages().list_storages(ListStoragesRequest::default()).await.unwrap().into_inner();
        assert_eq!(list.storages, [created.clone(), get(&control, "library").await]);
        let labelled = Storage { labels: [("a".into(), "b".into())].into(), ..Storage::default() };
        let updated = update(&control, "s3", labelled, &[]).await.unwrap();
        assert_eq!((updated.labels.len(), updated.credential_version), (1, 1), "the secret stayed");
        assert_eq!(credential(&control, "s3").await.secret_access_key, "hunter2");
        delete(&control, "s3").await.unwrap();
        assert_eq!(reason(delete(&control, "s3").await), (Code::NotFound, "STORAGE_NOT_FOUND".into()));
    });
}

#[test]
fn r34_a_new_secret_is_a_new_version_and_the_old_one_is_gone() {
    on_each(async |control| {
        create(&control, "s3", s3("AKIA1", "hunter1")).await;
        let patch = |key: &str, secret: &str| {
            let s3 = S3 { access_key_id: key.into(), secret_access_key: secret.into(), ..S3::default() };
            Storage { target: Some(Target::S3(s3)), ..Storage::default() }
        };
        let rotated = update(&control, "s3", patch("AKIA2", "hunter2"), &[]).await.unwrap();
        let Some(Target::S3(shown)) = &rotated.target else { panic!("{rotated:?}") };
        assert_eq!((rotated.credential_version, shown.region.as_str()), (2, "ap-southeast-1"));
        let stored = credential(&control, "s3").await;
        assert_eq!((stored.access_key_id.as_str(), stored.secret_access_key.as_str()), ("AKIA2", "hunter2"));
        let old = control.scratch.db.read(|c| storages::credential(c, "s3", 1)).await.unwrap();
        assert!(old.is_none());
        let same = update(&control, "s3", patch("AKIA2", "hunter2"), &[]).await.unwrap();
        assert_eq!(same, rotated, "the same secret again is no change");
        let whole = update(&control, "s3", s3("AKIA2", ""), &["*"]).await.unwrap();
        assert_eq!(whole.credential_version, 2, "an empty secret stays as it is");
        delete(&control, "s3").await.unwrap();
        let reborn = create(&control, "s3", s3("AKIA3", "hunter3")).await;
        assert_eq!(reborn.credential_version, 3, "no version is ever given twice");
    });
}

#[test]
fn r37_google_by_hmac_keys_or_service_account() {
    on_each(async |control| {
        let hmac = Gcs {
            bucket: "rec".into(),
            access_key_id: "GOOG1E".into(),
            secret_access_key: "hunter2".into(),
            ..Gcs::default()
        };
        let gcs = |gcs| Storage { target: Some(Target::Gcs(gcs)), ..Storage::default() };
        let created = create(&control, "gcs", gcs(hmac)).await;
        let Some(Target::Gcs(shown)) = &created.target else { panic!("{created:?}") };
        assert_eq!((shown.region.as_str(), shown.secret_access_key.as_str()), ("auto", ""));
        let account = Gcs { service_account_json: ACCOUNT.into(), ..Gcs::default() };
        let updated = update(&control, "gcs", gcs(account), &[]).await.unwrap();
        let Some(Target::Gcs(shown)) = &updated.target else { panic!("{updated:?}") };
        assert_eq!((shown.access_key_id.as_str(), shown.service_account_json.as_str()), ("", ""));
        let stored = credential(&control, "gcs").await;
        assert_eq!((stored.secret_access_key.as_str(), stored.service_account_json.as_str()), ("", ACCOUNT));
        let changed = update(&control, "gcs", s3("AKIA", "hunter3"), &[]).await.unwrap();
        assert!(matches!(changed.target, Some(Target::S3(_))));
        assert_eq!(credential(&control, "gcs").await.service_account_json, "");
        let emptied = update(&control, "gcs", folder("x"), &[]).await.unwrap();
        assert_eq!(emptied.credential_version, 0, "a folder needs no credential");
        for version in 1..=emptied.credential_version.max(3) {
            let version = i64::try_from(version).unwrap();
            let left = control.scratch.db.read(move |c| storages::credential(c, "gcs", version)).await.unwrap();
            assert!(left.is_none(), "version {version}");
        }
    });
}

#[test]
fn r35_r36_every_bad_field_is_named_at_once() {
    on_each(async |control| {
        let bad = S3 { bucket: "b".repeat(101), region: "r".repeat(101), endpoint: "minio".into(), ..S3::default() };
        let storage = Storage {
            target: Some(Target::S3(bad)),
            prefix: "/absolute".into(),
            backup: "Bad".into(),
            ..Storage::default()
        };
        let request = CreateStorageRequest { storage_id: "-".into(), storage: Some(storage), ..Default::default() };
        let expected = [
            "storage.backup",
            "storage.prefix",
            "storage.s3.access_key_id",
            "storage.s3.bucket",
            "storage.s3.endpoint",
            "storage.s3.region",
            "storage.s3.secret_access_key",
            "storage_id",
        ];
        assert_eq!(bad_fields(control.storages().create_storage(request).await), expected);
        let empty = control.storages().create_storage(CreateStorageRequest::default()).await;
        assert_eq!(bad_fields(empty), ["storage"]);
        let outside = CreateStorageRequest { storage: Some(folder("../../etc")), ..Default::default() };
        assert_eq!(bad_fields(control.storages().create_storage(outside).await), ["storage.file_system.directory"]);
    });
}

#[test]
fn there_is_exactly_one_default_storage() {
    on_each(async |control| {
        let library = get(&control, "library").await;
        let from = control.scratch.db.read(events::last).await.unwrap();
        let first = create(&control, "one", Storage { is_default: true, ..folder("one") }).await;
        let told = control.scratch.db.read(move |c| events::after(c, from, 10)).await.unwrap();
        let subjects: Vec<&str> = told.iter().map(|row| row.subject.as_str()).collect();
        assert_eq!(subjects, ["storages/library", "storages/one"], "both have changed");
        assert!(first.is_default);
        let demoted = get(&control, "library").await;
        assert!(!demoted.is_default && demoted.etag != library.etag);
        let template = GetTemplateRequest { name: "default".into(), ..Default::default() };
        let template = control.templates().get_template(template).await.unwrap().into_inner();
        assert_eq!(template.storage, "storages/one");
        create(&control, "two", folder("two")).await;
        let second = update(&control, "two", Storage { is_default: true, ..Storage::default() }, &[]).await.unwrap();
        assert!(second.is_default && !get(&control, "one").await.is_default);
        let cleared = update(&control, "two", Storage::default(), &["is_default"]).await;
        assert_eq!(bad_fields(cleared.map(tonic::Response::new)), ["storage.is_default"]);
        let used = refused(delete(&control, "two").await);
        assert_eq!(used.reason, "STORAGE_IN_USE");
        assert_eq!(used.details.preconditions[0].subject, "templates/default");
        delete(&control, "one").await.unwrap();
    });
}

#[test]
fn delete_is_refused_while_needed_and_names_every_referrer() {
    on_each(async |control| {
        create(&control, "s3", s3("AKIA", "hunter2")).await;
        create(&control, "other", Storage { backup: "s3".into(), ..folder("other") }).await;
        let template = Template { storage: "s3".into(), ..Template::default() };
        let template =
            CreateTemplateRequest { template_id: "show".into(), template: Some(template), ..Default::default() };
        control.templates().create_template(template).await.unwrap();
        let running = ["01ARZ3NDEKTSV4RRFFQ69G5FA1", "01ARZ3NDEKTSV4RRFFQ69G5FA2", "01ARZ3NDEKTSV4RRFFQ69G5FA3"];
        let insert = |id: &'static str, recording: recording::State, file: file::State| {
            control.scratch.db.write(move |connection| {
                recordings::insert(connection, &recording_row(id, recording))?;
                files::insert(connection, &file_row(id, file))
            })
        };
        insert(running[0], recording::State::Recording, file::State::Open).await.unwrap();
        insert(running[1], recording::State::Failed, file::State::Uploading).await.unwrap();
        insert(running[2], recording::State::Succeeded, file::State::Available).await.unwrap();
        let used = refused(delete(&control, "s3").await);
        assert_eq!((used.code, used.reason.as_str()), (Code::FailedPrecondition, "STORAGE_IN_USE"));
        let subjects: Vec<&str> = used.details.preconditions.iter().map(|p| p.subject.as_str()).collect();
        let recordings = running.map(|id| format!("recordings/{id}"));
        assert_eq!(subjects, ["templates/show", "storages/other", recordings[0].as_str(), recordings[1].as_str()]);
    });
}

fn recording_row(id: &str, state: recording::State) -> recordings::Row {
    recordings::Row {
        id: id.into(),
        rev: 1,
        domain: "d".into(),
        app: "live".into(),
        stream: "s".into(),
        state: state.into(),
        epoch: 1,
        node: "m1".into(),
        template: "show".into(),
        storage: "s3".into(),
        task: None,
        session: String::new(),
        start_time: 1,
        update_time: 1,
        body: vec![],
        inherited: None,
    }
}

fn file_row(recording: &str, state: file::State) -> files::Row {
    files::Row {
        recording: recording.into(),
        format: format::Kind::Mp4.into(),
        file_index: 0,
        epoch: 1,
        storage: "s3".into(),
        object_key: None,
        state: state.into(),
        rev: 1,
        update_time: 1,
        body: vec![],
        epoch_index: None,
    }
}

#[test]
fn a_failing_storage_shows_the_providers_words_and_keeps_its_etag() {
    on_each(async |control| {
        let before = create(&control, "s3", s3("AKIA", "hunter2")).await;
        let error = tonic_types::pb::Status { code: 7, message: "403 AccessDenied".into(), details: vec![] };
        let encoded = prost::Message::encode_to_vec(&error);
        let db = &control.scratch.db;
        db.write(move |c| storages::set_health(c, "s3", Some(&encoded), 5_000_000)).await.unwrap();
        let failing = get(&control, "s3").await;
        assert_eq!((failing.state(), failing.last_error), (storage::State::Failing, Some(error)));
        assert_eq!((failing.etag, failing.last_success_time), (before.etag, None));
        db.write(move |c| storages::set_health(c, "s3", None, 7_000_000)).await.unwrap();
        let well = get(&control, "s3").await;
        assert_eq!((well.state(), well.last_error), (storage::State::Active, None));
        assert_eq!(well.last_success_time.unwrap().seconds, 7);
    });
}

#[test]
fn r23_a_storage_is_tested_step_by_step() {
    on_each(async |control| {
        create(&control, "disk", Storage { prefix: "team".into(), ..folder("disk") }).await;
        let test = |name: &str| TestStorageRequest { name: name.into() };
        let steps = control.storages().test_storage(test("disk")).await.unwrap().into_inner().steps;
        let names: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
        assert_eq!(names, ["write", "read", "multipart", "delete"]);
        assert!(steps.iter().all(|step| step.ok && step.error.is_none()), "{steps:?}");
        let left = walk(&control.library.path().join("disk"));
        assert_eq!(left, Vec::<String>::new(), "nothing is left behind");

        let endpoint = "http://127.0.0.1:9".to_owned();
        let away = S3 {
            bucket: "rec".into(),
            endpoint,
            access_key_id: "AKIA".into(),
            secret_access_key: "hunter2".into(),
            ..S3::default()
        };
        create(&control, "away", Storage { target: Some(Target::S3(away)), ..Storage::default() }).await;
        let steps = control.storages().test_storage(test("away")).await.unwrap().into_inner().steps;
        assert_eq!((steps.len(), steps[0].ok), (1, false));
        let error = steps[0].error.clone().unwrap();
        assert!(!error.message.is_empty() && !format!("{error:?}").contains("hunter2"));
        let unknown = control.storages().test_storage(test("nowhere")).await;
        assert_eq!(reason(unknown), (Code::NotFound, "STORAGE_NOT_FOUND".into()));
    });
}

/// Every file below a folder.
fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}

#[test]
fn a_backup_is_another_place_and_has_no_backup_of_its_own() {
    on_each(async |control| {
        let with = |directory: &str, backup: &str| Storage { backup: backup.into(), ..folder(directory) };
        create(&control, "last", folder("last")).await;
        create(&control, "first", with("first", "last")).await;
        let refused = |id: &str, storage: Storage| {
            let request = CreateStorageRequest { storage_id: id.into(), storage: Some(storage), ..Default::default() };
            let mut client = control.storages();
            async move { bad_fields(client.create_storage(request).await) }
        };
        assert_eq!(refused("a", with("a", "first")).await, ["storage.backup"], "a backup of a backup");
        assert_eq!(refused("b", with("last", "last")).await, ["storage.backup"], "the same folder");
        let update = |name: &str, backup: &str| UpdateStorageRequest {
            storage: Some(Storage { name: name.into(), backup: backup.into(), ..Default::default() }),
            ..Default::default()
        };
        let chained = control.storages().update_storage(update("last", "library")).await;
        assert_eq!(bad_fields(chained), ["storage.backup"], "it is a backup already");
        let circle = control.storages().update_storage(update("last", "first")).await;
        assert_eq!(bad_fields(circle), ["storage.backup"]);
        let missing = control.storages().update_storage(update("first", "nowhere")).await;
        assert_eq!(reason(missing).1, "STORAGE_NOT_FOUND");
    });
}
