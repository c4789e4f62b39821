//! The bounds of storages, from tables; tests are named after the lines of the mission.
use super::*;

const SECRET: &str = "hunter2/hunter2";
const ACCOUNT: &str = r#"{"type":"service_account","client_email":"a@b.iam","private_key":"hunter2"}"#;

fn s3() -> S3 {
    S3 {
        bucket: "rec".to_owned(),
        region: "ap-southeast-1".to_owned(),
        access_key_id: "AKIA".to_owned(),
        secret_access_key: SECRET.to_owned(),
        ..S3::default()
    }
}

fn hmac() -> Gcs {
    Gcs {
        bucket: "rec".to_owned(),
        access_key_id: "GOOG1E".to_owned(),
        secret_access_key: SECRET.to_owned(),
        ..Gcs::default()
    }
}

fn account() -> Gcs {
    Gcs { bucket: "rec".to_owned(), service_account_json: ACCOUNT.to_owned(), ..Gcs::default() }
}

fn of(target: Target) -> Storage {
    Storage { target: Some(target), ..Storage::default() }
}

fn check(given: Storage) -> Result<Storage, String> {
    let mut violations = Violations::new();
    let storage = effective("s", given, &mut violations);
    violations.finish().map(|()| storage).map_err(|problem| problem.message)
}

fn folder(directory: &str) -> Storage {
    of(Target::FileSystem(FileSystem { directory: directory.to_owned() }))
}

#[test]
fn r4_exactly_one_kind_of_place() {
    assert_eq!(check(Storage::default()).unwrap_err(), "storage: needs one of s3, gcs and file_system");
    for target in [Target::S3(s3()), Target::Gcs(hmac()), Target::Gcs(account())] {
        check(of(target)).unwrap();
    }
}

#[test]
fn r34_access_key_id_and_access_key_are_required_and_not_repeated() {
    let without = check(of(Target::S3(S3 { access_key_id: String::new(), ..s3() }))).unwrap_err();
    assert!(without.starts_with("storage.s3.access_key_id: "), "{without}");
    let without = check(of(Target::S3(S3 { secret_access_key: String::new(), ..s3() }))).unwrap_err();
    assert_eq!(without, "storage.s3.secret_access_key: is required");
    let copied = check(of(Target::S3(S3 { secret_access_key: format!("{SECRET}\n"), ..s3() }))).unwrap_err();
    assert!(copied.contains("white space") && !copied.contains("hunter2"), "{copied}");
    let long = check(of(Target::S3(S3 { access_key_id: "A".repeat(129), ..s3() }))).unwrap_err();
    assert!(long.starts_with("storage.s3.access_key_id: must be 1 to 128 characters"), "{long}");
}

#[test]
fn r35_bucket_of_1_to_100_characters() {
    for bucket in ["b", &"b".repeat(100), "my.bucket-1_x"] {
        check(of(Target::S3(S3 { bucket: bucket.to_owned(), ..s3() }))).unwrap();
        check(of(Target::Gcs(Gcs { bucket: bucket.to_owned(), ..hmac() }))).unwrap();
    }
    for bucket in ["", &"b".repeat(101), "a b", "a/b", "a\n", "桶", "..%2f"] {
        let s3 = check(of(Target::S3(S3 { bucket: bucket.to_owned(), ..s3() }))).unwrap_err();
        assert!(s3.starts_with("storage.s3.bucket: "), "{s3}");
        let gcs = check(of(Target::Gcs(Gcs { bucket: bucket.to_owned(), ..hmac() }))).unwrap_err();
        assert!(gcs.starts_with("storage.gcs.bucket: "), "{gcs}");
    }
}

#[test]
fn r36_region_of_up_to_100_characters() {
    for region in ["ap-southeast-1", &"r".repeat(100)] {
        check(of(Target::S3(S3 { region: region.to_owned(), ..s3() }))).unwrap();
    }
    for region in [&"r".repeat(101), "a b", "a/b", "eu.west"] {
        let refusal = check(of(Target::S3(S3 { region: region.to_owned(), ..s3() }))).unwrap_err();
        assert!(refusal.starts_with("storage.s3.region: "), "{refusal}");
    }
    let missing = check(of(Target::S3(S3 { region: String::new(), ..s3() }))).unwrap_err();
    assert!(missing.starts_with("storage.s3.region: is required"), "{missing}");
}

#[test]
fn regions_have_defaults_where_the_provider_has() {
    let compatible = S3 { region: String::new(), endpoint: "http://minio:9000".to_owned(), ..s3() };
    let Some(Target::S3(effective)) = check(of(Target::S3(compatible))).unwrap().target else { panic!() };
    assert_eq!(effective.region, "us-east-1");
    let Some(Target::Gcs(effective)) = check(of(Target::Gcs(hmac()))).unwrap().target else { panic!() };
    assert_eq!(effective.region, "auto");
}

#[test]
fn r37_google_takes_hmac_keys_or_a_service_account() {
    let both = Gcs { service_account_json: ACCOUNT.to_owned(), ..hmac() };
    assert!(check(of(Target::Gcs(both))).unwrap_err().contains("not both"));
    let neither = Gcs { bucket: "b".to_owned(), ..Gcs::default() };
    assert!(check(of(Target::Gcs(neither))).unwrap_err().starts_with("storage.gcs: needs"));
    let half = Gcs { secret_access_key: String::new(), ..hmac() };
    assert_eq!(check(of(Target::Gcs(half))).unwrap_err(), "storage.gcs.secret_access_key: is required");
    for json in ["hunter2", "{}", r#"{"client_email":"hunter2"}"#, "[1]"] {
        let refusal = check(of(Target::Gcs(Gcs { service_account_json: json.to_owned(), ..account() }))).unwrap_err();
        assert!(refusal.starts_with("storage.gcs.service_account_json: ") && !refusal.contains("hunter2"));
    }
}

#[test]
fn folders_stay_within_the_library() {
    assert_eq!(check(folder("a/b/")).unwrap(), folder("a/b"));
    check(folder("")).unwrap();
    for directory in ["/etc", "..", "a/../b", "../a", ".hidden", "a//b", "a\0", "C:\\x"] {
        let refusal = check(folder(directory)).unwrap_err();
        assert!(refusal.starts_with("storage.file_system.directory: "), "{refusal}");
    }
}

#[test]
fn what_every_kind_has() {
    let prefix = |prefix: &str| check(Storage { prefix: prefix.to_owned(), ..folder("") });
    prefix("team/live").unwrap();
    prefix(&format!("{}/{}", "p".repeat(127), "p".repeat(128))).unwrap();
    for bad in [&format!("{}/{}", "p".repeat(128), "p".repeat(128)), "/x", "a/../b", "{Domain}"] {
        assert!(prefix(bad).unwrap_err().starts_with("storage.prefix: "), "{bad}");
    }
    let backup = |backup: &str| check(Storage { backup: backup.to_owned(), ..folder("") });
    assert_eq!(backup("other").unwrap().backup, "storages/other");
    assert_eq!(backup("storages/s").unwrap_err(), "storage.backup: must be another storage");
    assert!(backup("templates/x").unwrap_err().starts_with("storage.backup: "));
    for endpoint in ["minio:9000", "ftp://minio", "https://u:p@minio", "http://minio/path"] {
        let refusal = check(of(Target::S3(S3 { endpoint: endpoint.to_owned(), ..s3() }))).unwrap_err();
        assert!(refusal.starts_with("storage.s3.endpoint: "), "{refusal}");
    }
}

#[test]
fn secrets_are_taken_out_and_put_back() {
    for target in
        [Target::S3(S3 { session_token: "t".to_owned(), ..s3() }), Target::Gcs(hmac()), Target::Gcs(account())]
    {
        let storage = of(target);
        let (public, credential) = split(storage.clone());
        let shown = prost::Message::encode_to_vec(&public);
        assert!(!String::from_utf8_lossy(&shown).contains("hunter2"));
        assert_eq!(join(public, &credential), storage);
    }
}

#[test]
fn an_update_keeps_what_it_does_not_give() {
    let kept = |current: Target, patch: Target, updated: Target| {
        let (current, patch, mut updated) = (of(current), of(patch), of(updated));
        keep_secrets(&current, &patch, &mut updated);
        updated.target.unwrap()
    };
    let bare = S3 { secret_access_key: String::new(), ..s3() };
    assert_eq!(kept(Target::S3(s3()), Target::S3(bare.clone()), Target::S3(bare)), Target::S3(s3()));
    let other_key = S3 { access_key_id: "AKIA2".to_owned(), secret_access_key: String::new(), ..s3() };
    let updated = kept(Target::S3(s3()), Target::S3(other_key.clone()), Target::S3(other_key.clone()));
    assert_eq!(updated, Target::S3(other_key), "the secret of another key id is of no use");
    let merged = Gcs { service_account_json: ACCOUNT.to_owned(), ..hmac() };
    assert_eq!(kept(Target::Gcs(hmac()), Target::Gcs(account()), Target::Gcs(merged.clone())), Target::Gcs(account()));
    assert_eq!(kept(Target::Gcs(account()), Target::Gcs(hmac()), Target::Gcs(merged)), Target::Gcs(hmac()));
    let bare = Gcs { service_account_json: String::new(), ..account() };
    assert_eq!(kept(Target::Gcs(account()), Target::Gcs(bare.clone()), Target::Gcs(bare)), Target::Gcs(account()));
}
