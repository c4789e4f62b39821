//! How to record, with every reference followed: a node never looks anything up.
use std::collections::BTreeMap;

use recorder_proto::pb::node::{Plan, plan::StorageRef};
use recorder_proto::pb::v1::{Storage, Template, storage::Target};

/// The storages by full name, and the one for templates that name none.
#[derive(Debug, Default)]
pub struct Storages {
    /// By `storages/{storage}`.
    pub by_name: BTreeMap<String, Storage>,
    /// Full name of the default storage, while there is one.
    pub default: Option<String>,
}

/// Resolves a template at its current revision. Without a storage to resolve to, the plan has none: the node rejects
/// it by name, which the binding then shows, instead of nobody noticing.
pub fn plan(template: &Template, storages: &Storages) -> Plan {
    let named = Some(&template.storage).filter(|name| !name.is_empty());
    let storage = named.or(storages.default.as_ref()).and_then(|name| storages.by_name.get(name));
    let backup = storage.and_then(|storage| storages.by_name.get(&storage.backup));
    let mut resolved = template.clone();
    if let Some(storage) = storage {
        resolved.storage.clone_from(&storage.name);
    }
    // What only editors of the template need must not make nodes hear of a change.
    resolved.etag = String::new();
    resolved.create_time = None;
    resolved.update_time = None;
    Plan {
        template: Some(resolved),
        storage: storage.map(storage_ref),
        backup_storage: backup.map(storage_ref),
        watermark: None,
        transcoding: None,
    }
}

/// A storage as nodes are told of it: where, and which version of the credential, but not the credential.
pub fn storage_ref(storage: &Storage) -> StorageRef {
    let mut reference = StorageRef {
        name: storage.name.clone(),
        credential_version: storage.credential_version,
        prefix: storage.prefix.clone(),
        ..StorageRef::default()
    };
    match &storage.target {
        Some(Target::S3(s3)) => {
            reference.kind = "s3".to_owned();
            reference.bucket.clone_from(&s3.bucket);
            reference.region.clone_from(&s3.region);
            reference.endpoint.clone_from(&s3.endpoint);
            reference.path_style = s3.path_style;
            reference.storage_class.clone_from(&s3.storage_class);
            reference.kms_key.clone_from(&s3.kms_key);
        }
        Some(Target::Gcs(gcs)) => {
            reference.kind = "gcs".to_owned();
            reference.bucket.clone_from(&gcs.bucket);
            reference.region.clone_from(&gcs.region);
            reference.endpoint.clone_from(&gcs.endpoint);
            reference.storage_class.clone_from(&gcs.storage_class);
        }
        Some(Target::FileSystem(folder)) => {
            reference.kind = "file_system".to_owned();
            reference.bucket.clone_from(&folder.directory);
        }
        None => {}
    }
    reference
}

#[cfg(test)]
mod tests {
    use recorder_proto::pb::v1::storage::{FileSystem, S3};

    use super::*;

    fn storages() -> Storages {
        let library = Storage {
            name: "storages/library".to_owned(),
            target: Some(Target::FileSystem(FileSystem { directory: "main".to_owned() })),
            ..Storage::default()
        };
        let s3 = Storage {
            name: "storages/s3".to_owned(),
            backup: "storages/library".to_owned(),
            prefix: "rec".to_owned(),
            credential_version: 3,
            target: Some(Target::S3(S3 {
                bucket: "b".to_owned(),
                region: "eu-west-1".to_owned(),
                secret_access_key: "must-not-travel".to_owned(),
                path_style: true,
                storage_class: "STANDARD_IA".to_owned(),
                ..S3::default()
            })),
            ..Storage::default()
        };
        let by_name = [library, s3].into_iter().map(|storage| (storage.name.clone(), storage)).collect();
        Storages { by_name, default: Some("storages/library".to_owned()) }
    }

    #[test]
    fn a_template_is_resolved_to_its_storage_and_backup() {
        let template = Template {
            name: "templates/t".to_owned(),
            storage: "storages/s3".to_owned(),
            revision: 4,
            ..Template::default()
        };
        let plan = plan(&template, &storages());
        let storage = plan.storage.unwrap();
        assert_eq!((storage.kind.as_str(), storage.bucket.as_str(), storage.credential_version), ("s3", "b", 3));
        assert!(storage.path_style && storage.prefix == "rec" && storage.storage_class == "STANDARD_IA");
        assert_eq!(plan.backup_storage.unwrap().kind, "file_system");
        assert_eq!(plan.template.unwrap().revision, 4);
    }

    #[test]
    fn no_storage_named_is_the_default_one_and_none_at_all_is_left_open() {
        let template = Template { name: "templates/t".to_owned(), etag: "7".to_owned(), ..Template::default() };
        let resolved = plan(&template, &storages());
        assert_eq!(resolved.storage.unwrap().name, "storages/library");
        let inside = resolved.template.unwrap();
        assert_eq!((inside.storage.as_str(), inside.etag.as_str()), ("storages/library", ""));
        assert_eq!(plan(&template, &Storages::default()).storage, None);
    }
}
