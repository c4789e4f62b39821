//! StorageService: where files go. Secrets come in and never out.
use prost::Message;
use recorder_db::{AnyConnection, counters, deletions, files, recordings, storages, templates};
use recorder_proto::names::StorageName;
use recorder_proto::pb::v1::storage_service_server::StorageService;
use recorder_proto::pb::v1::{
    CreateStorageRequest, DeleteStorageRequest, GetStorageRequest, ListStoragesRequest, ListStoragesResponse, Storage,
    TestStorageRequest, TestStorageResponse, UpdateStorageRequest, file, recording, storage,
};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use tonic::{Request, Response, Status, async_trait};

use super::change::{Call, Tx};
use super::validate::{self, etag, expect_etag, only_name};
use super::{Api, answer, mask, probe, secrets, template};
use crate::directives::source::Source;
use crate::domain;

/// Id of the embedded library; always there.
pub const BUILT_IN: &str = "library";

const KIND: &str = "storage";
const FIELD: &str = "storage.is_default";
/// Enough of those that stand in the way to see which they are.
const REFERRERS_SHOWN: i64 = 100;

#[async_trait]
impl StorageService for Api {
    async fn create_storage(&self, request: Request<CreateStorageRequest>) -> Result<Response<Storage>, Status> {
        answer(create(self, request.into_inner()).await)
    }

    async fn get_storage(&self, request: Request<GetStorageRequest>) -> Result<Response<Storage>, Status> {
        answer(get(self, request.into_inner()).await)
    }

    async fn list_storages(
        &self,
        request: Request<ListStoragesRequest>,
    ) -> Result<Response<ListStoragesResponse>, Status> {
        answer(list(self, request.into_inner()).await)
    }

    async fn update_storage(&self, request: Request<UpdateStorageRequest>) -> Result<Response<Storage>, Status> {
        answer(update(self, request.into_inner()).await)
    }

    async fn delete_storage(&self, request: Request<DeleteStorageRequest>) -> Result<Response<()>, Status> {
        answer(delete(self, request.into_inner()).await)
    }

    async fn test_storage(
        &self,
        request: Request<TestStorageRequest>,
    ) -> Result<Response<TestStorageResponse>, Status> {
        answer(test(self, request.into_inner()).await)
    }
}

async fn create(api: &Api, request: CreateStorageRequest) -> Result<Storage, Problem> {
    let mut violations = Violations::new();
    let id = match request.storage_id.as_str() {
        "" => Some(api.mint.id(StorageName::COLLECTION, api.now())),
        given => violations.take("storage_id", given.parse::<StorageName>()).map(StorageName::into_id),
    };
    let given = request.storage.clone().unwrap_or_default();
    let storage = domain::storage::effective(id.as_deref().unwrap_or_default(), given, &mut violations);
    violations.finish()?;
    let id = id.unwrap_or_default();
    let call = Call {
        method: "recorder.v1.StorageService/CreateStorage",
        request_id: request.request_id.clone(),
        validate_only: request.validate_only,
    };
    api.change(call, request, move |tx, _| insert(tx, &id, storage)).await
}

/// Adds a checked storage to the database, its secrets sealed.
pub(super) fn insert(tx: &mut Tx<'_>, id: &str, storage: Storage) -> Result<Storage, Problem> {
    let name = full_name(id);
    if storages::get(tx.connection, id)?.is_some() {
        return Err(Problem::exists(KIND, &name));
    }
    validate::quota("storages", storages::count(tx.connection)?, limits::STORAGES_MAX)?;
    check_backup(tx.connection, id, &storage)?;
    if storage.is_default {
        demote(tx)?;
    }
    let (public, credential) = domain::storage::split(storage);
    let now = tx.micros();
    let mut row = storages::Row {
        id: id.to_owned(),
        uid: tx.uid(),
        rev: 1,
        is_default: public.is_default,
        backup: backup_id(&public),
        credential_version: 0,
        body: public.encode_to_vec(),
        state: storage::State::Active.into(),
        last_error: None,
        last_success_time: None,
        create_time: now,
        update_time: now,
    };
    let needed = needs_credential(&public);
    if needed {
        row.credential_version = next_version(tx, id)?;
    }
    storages::insert(tx.connection, &row)?;
    if needed {
        let sealed = secrets::seal_credential(&tx.api.sealer, &row, row.credential_version, &credential)?;
        storages::insert_credential(tx.connection, &sealed)?;
    }
    changed(tx, "storage.created", &row)
}

async fn get(api: &Api, request: GetStorageRequest) -> Result<Storage, Problem> {
    let name: StorageName = only_name("name", &request.name)?;
    api.db.read(move |connection| Ok(show(&existing(connection, &name)?)?)).await
}

async fn list(api: &Api, request: ListStoragesRequest) -> Result<ListStoragesResponse, Problem> {
    let mut violations = Violations::new();
    let scope = ListStoragesRequest::default();
    let (size, token) = (request.page_size, &request.page_token);
    let paging = api.tokens.paging(&mut violations, "StorageService/ListStorages", &scope, size, token);
    violations.finish()?;
    let page = paging.page();
    let mut rows = api.db.read(move |connection| storages::page(connection, &page)).await?;
    let next_page_token = api.tokens.next(&paging, &mut rows, |row| row.uid.clone());
    let storages = rows.iter().map(show).collect::<Result<_, _>>()?;
    Ok(ListStoragesResponse { storages, next_page_token })
}

async fn update(api: &Api, request: UpdateStorageRequest) -> Result<Storage, Problem> {
    let patch = request.storage.clone().unwrap_or_default();
    let name: StorageName = only_name("storage.name", &patch.name)?;
    let call = Call {
        method: "recorder.v1.StorageService/UpdateStorage",
        validate_only: request.validate_only,
        ..Call::default()
    };
    let replace = move |tx: &mut Tx<'_>, request: UpdateStorageRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&patch.etag, &etag(&row.uid, row.rev))?;
        let before = secrets::credential(tx.connection, &tx.api.sealer, &row)?;
        let public = Storage { is_default: row.is_default, ..row.storage()? };
        let current = domain::storage::join(public, &before);
        let mut violations = Violations::new();
        let mask = request.update_mask.as_ref();
        let mut merged = mask::apply(".recorder.v1.Storage", &current, &patch, mask, &mut violations);
        domain::storage::keep_secrets(&current, &patch, &mut merged);
        let storage = domain::storage::effective(&row.id, merged, &mut violations);
        let cleared = row.is_default && !storage.is_default;
        violations.check(!cleared, FIELD, "cannot be taken away: set it on another storage instead");
        violations.finish()?;
        if storage == current {
            return Ok(show(&row)?);
        }
        check_backup(tx.connection, &row.id.clone(), &storage)?;
        store(tx, row, storage, &before)
    };
    api.change(call, request, replace).await
}

/// Writes a changed storage, with a new version of the credential if that changed.
fn store(
    tx: &mut Tx<'_>,
    row: storages::Row,
    storage: Storage,
    before: &recorder_proto::pb::node::FetchCredentialResponse,
) -> Result<Storage, Problem> {
    if storage.is_default && !row.is_default {
        demote(tx)?;
    }
    let (public, credential) = domain::storage::split(storage);
    let needed = needs_credential(&public);
    let rotated = needed && (credential != *before || row.credential_version == 0);
    let mut changes = storages::Row {
        is_default: public.is_default,
        backup: backup_id(&public),
        body: public.encode_to_vec(),
        update_time: tx.micros(),
        ..row
    };
    if !needed {
        changes.credential_version = 0;
        storages::keep_credential(tx.connection, &changes.id, 0)?;
    }
    if rotated {
        changes.credential_version = next_version(tx, &changes.id)?;
        let version = changes.credential_version;
        let sealed = secrets::seal_credential(&tx.api.sealer, &changes, version, &credential)?;
        storages::insert_credential(tx.connection, &sealed)?;
        // A secret that was replaced must not be found in a copy of the database.
        storages::keep_credential(tx.connection, &changes.id, version)?;
    }
    storages::update(tx.connection, &changes)?;
    changed(tx, "storage.updated", &storages::Row { rev: changes.rev + 1, ..changes })
}

/// Takes the default mark from the storage that has it: there is one at most.
fn demote(tx: &mut Tx<'_>) -> Result<(), Problem> {
    let Some(former) = storages::default(tx.connection)? else { return Ok(()) };
    storages::clear_default(tx.connection)?;
    tx.touch(Source::DefaultStorage);
    let former = show(&storages::Row { is_default: false, rev: former.rev + 1, ..former })?;
    tx.event("storage.updated", &former.name, &former)
}

async fn delete(api: &Api, request: DeleteStorageRequest) -> Result<(), Problem> {
    let name: StorageName = only_name("name", &request.name)?;
    let call = Call::plain("recorder.v1.StorageService/DeleteStorage");
    let remove = move |tx: &mut Tx<'_>, request: DeleteStorageRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&request.etag, &etag(&row.uid, row.rev))?;
        let name = name.to_string();
        if row.id == BUILT_IN {
            return Err(Problem::wrong_state("BUILT_IN", &name, format!("{name} is built in and cannot be deleted")));
        }
        let referrers = referrers(tx.connection, &row)?;
        if !referrers.is_empty() {
            let remedy = "point them elsewhere, make another storage the default one, or wait until they are done";
            return Err(Problem::in_use("STORAGE_IN_USE", &name, referrers, remedy));
        }
        let last = show(&row)?;
        storages::delete(tx.connection, &row.id)?;
        tx.touch(Source::Storage(row.id.clone()));
        tx.event("storage.deleted", &last.name, &last)?;
        tx.recompile()
    };
    api.change(call, request, remove).await
}

/// Everything that still needs a storage, by name.
fn referrers(connection: &mut AnyConnection, row: &storages::Row) -> Result<Vec<String>, Problem> {
    let mut templates = templates::of_storage(connection, &row.id)?;
    if row.is_default {
        templates.extend(templates::of_default_storage(connection)?);
    }
    let mut referrers: Vec<String> = templates.iter().map(|id| template::full_name(id)).collect();
    referrers.extend(storages::backed_by(connection, &row.id)?.iter().map(|id| full_name(id)));
    let unfinished = recordings::Filter {
        storage: Some(row.id.clone()),
        states: [
            recording::State::Starting,
            recording::State::Recording,
            recording::State::Interrupted,
            recording::State::Finalizing,
        ]
        .map(i32::from)
        .into(),
        ..recordings::Filter::default()
    };
    let page = recorder_db::Page { before: None, limit: REFERRERS_SHOWN };
    let mut recordings: Vec<String> =
        recordings::page(connection, &unfinished, &page)?.into_iter().map(|row| row.id).collect();
    let waiting = [file::State::Open, file::State::Uploading].map(i32::from);
    recordings.extend(files::recordings_waiting_for(connection, &row.id, &waiting, REFERRERS_SHOWN)?);
    // Without its credential their objects could not be deleted.
    recordings.extend(deletions::waiting_for(connection, &row.id, REFERRERS_SHOWN)?);
    recordings.sort_unstable();
    recordings.dedup();
    referrers.extend(recordings.iter().map(|id| format!("recordings/{id}")));
    Ok(referrers)
}

async fn test(api: &Api, request: TestStorageRequest) -> Result<TestStorageResponse, Problem> {
    let name: StorageName = only_name("name", &request.name)?;
    let sealer = std::sync::Arc::clone(&api.sealer);
    let (storage, credential) = api
        .db
        .read(move |connection| {
            let row = existing(connection, &name)?;
            let credential = secrets::credential(connection, &sealer, &row)?;
            Ok::<_, Problem>((row.storage()?, credential))
        })
        .await?;
    Ok(TestStorageResponse { steps: probe::run(&api.library_root, &storage, credential).await })
}

fn changed(tx: &mut Tx<'_>, kind: &str, row: &storages::Row) -> Result<Storage, Problem> {
    let storage = show(row)?;
    tx.event(kind, &storage.name, &storage)?;
    tx.touch(Source::Storage(row.id.clone()));
    tx.recompile()?;
    Ok(storage)
}

fn existing(connection: &mut AnyConnection, name: &StorageName) -> Result<storages::Row, Problem> {
    storages::get(connection, name.id())?.ok_or_else(|| Problem::not_found(KIND, &name.to_string()))
}

/// A backup has no backup of its own: a file goes to one place or the other and not round in circles.
fn check_backup(connection: &mut AnyConnection, id: &str, storage: &Storage) -> Result<(), Problem> {
    let Some(backup) = backup_id(storage) else { return Ok(()) };
    let row = storages::get(connection, &backup)?.ok_or_else(|| Problem::not_found(KIND, &storage.backup))?;
    if let Some(next) = row.backup {
        let message = format!("storages/{backup} has a backup itself (storages/{next})");
        return Err(Problem::invalid_field("storage.backup", message));
    }
    if storages::all(connection)?.iter().any(|other| other.id != id && other.backup.as_deref() == Some(id)) {
        let message = "this storage is the backup of another; a backup has none of its own";
        return Err(Problem::invalid_field("storage.backup", message));
    }
    let there = row.storage()?;
    if there.target.is_some() && same_place(&there, storage) {
        let message = format!("storages/{backup} is the same bucket: what fails here would fail there");
        return Err(Problem::invalid_field("storage.backup", message));
    }
    Ok(())
}

/// Whether two storages are one bucket (or folder), whatever the prefix or the credential.
fn same_place(one: &Storage, other: &Storage) -> bool {
    use storage::Target::{FileSystem, Gcs, S3};
    match (&one.target, &other.target) {
        (Some(S3(one)), Some(S3(other))) => (&one.endpoint, &one.bucket) == (&other.endpoint, &other.bucket),
        (Some(Gcs(one)), Some(Gcs(other))) => (&one.endpoint, &one.bucket) == (&other.endpoint, &other.bucket),
        (Some(FileSystem(one)), Some(FileSystem(other))) => one.directory == other.directory,
        _ => false,
    }
}

fn backup_id(storage: &Storage) -> Option<String> {
    storage.backup.parse::<StorageName>().ok().map(StorageName::into_id)
}

fn needs_credential(storage: &Storage) -> bool {
    !matches!(storage.target, Some(storage::Target::FileSystem(_)) | None)
}

/// Never the same version twice for one id, not even after the storage was deleted and made again: nodes keep
/// credentials by name and version.
fn next_version(tx: &mut Tx<'_>, id: &str) -> Result<i64, Problem> {
    Ok(counters::next(tx.connection, &format!("{}/credential", full_name(id)))?)
}

/// `storages/{id}`.
pub(super) fn full_name(id: &str) -> String {
    format!("{}/{id}", StorageName::COLLECTION)
}

/// A row as users see it.
fn show(row: &storages::Row) -> recorder_db::Result<Storage> {
    let error = row.last_error.as_deref().map(|error| tonic_types::pb::Status::decode(error).unwrap_or_default());
    let timestamp = |micros| time::timestamp(time::from_micros(micros));
    Ok(Storage {
        name: full_name(&row.id),
        is_default: row.is_default,
        state: row.state,
        last_error: error,
        last_success_time: row.last_success_time.map(timestamp),
        credential_version: u64::try_from(row.credential_version).unwrap_or_default(),
        create_time: Some(timestamp(row.create_time)),
        update_time: Some(timestamp(row.update_time)),
        etag: etag(&row.uid, row.rev),
        ..row.storage()?
    })
}
