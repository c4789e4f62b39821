//! The same media through every storage: fetched back, it decodes and is frame for frame what was sent.

use std::path::{Path, PathBuf};

use recorder_proto::pb::v1;
use recorder_tests::bucket::{Fault, S3Server, StoredObject};
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Source, Tracks, push_file};
use recorder_tests::scene::{Clients, tree};
use recorder_tests::stage::{KEY, SECRET, s3_target};
use recorder_tests::world::World;
use recorder_tests::{probe, wait};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";
const STORAGES: [&str; 4] = ["disk", "s3", "hmac", "account"];

/// Everything a storage holds, by key.
fn fetch(world: &World, storage: &str) -> Vec<(String, StoredObject)> {
    let object = |key: &str| match storage {
        "s3" => world.s3.object(key),
        "hmac" => world.hmac.object(key),
        _ => world.gcs.object(key),
    };
    let keys = match storage {
        "s3" => world.s3.keys(),
        "hmac" => world.hmac.keys(),
        _ => world.gcs.keys(),
    };
    keys.into_iter().map(|key| (key.clone(), object(&key).expect("listed"))).collect()
}

/// Writes a storage's objects below `folder` as they are named, so that playlists find their segments.
fn download(world: &World, storage: &str, folder: &Path) -> PathBuf {
    let root = folder.join(storage);
    if storage == "disk" {
        return world.cluster.library().join("disk");
    }
    for (key, object) in fetch(world, storage) {
        let path = root.join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &object.body).unwrap();
    }
    root
}

/// Issue 2, shown by 3: formats x storages for one kind of stream.
async fn every_format_in_every_storage(source: Source) {
    let mut world = World::bound(&STORAGES, DOMAIN).await;
    let tracks = source.tracks;
    let folder = tempfile::tempdir().unwrap();
    let source = source.generate(folder.path());
    push_file(&source, &world.cluster.rtmp_url(DOMAIN, "cam1"));
    let recordings = world.clients.wait_for(DOMAIN, "cam1", 4, State::Succeeded).await;
    let sent = probe::packets(&source);
    for recording in recordings {
        let storage = recording.storage.trim_start_matches("storages/").to_owned();
        let root = download(&world, &storage, folder.path());
        let files = world.clients.files(&recording).await;
        assert_eq!(files.len(), if tracks == Tracks::Video { 3 } else { 4 }, "{storage}");
        for (format, files) in files {
            assert_eq!(files.len(), 1, "{storage} {format}");
            let path = root.join(&files[0].object_key);
            probe::decodes(&path);
            let mut expected = sent.clone();
            if format == "AAC" {
                expected.video.clear();
            }
            probe::assert_same_media(&expected, &probe::packets(&path), &format!("{storage} {format}"));
        }
    }
    assert_eq!(world.s3.open_uploads() + world.hmac.open_uploads() + world.gcs.open_uploads(), 0);
    for storage in ["s3", "hmac", "account"] {
        r4_objects_are_labelled(&fetch(&world, storage), storage);
    }
}

/// T4: content types and cache headers; no access control lists, playlist after its segments is the shipping test's.
fn r4_objects_are_labelled(objects: &[(String, StoredObject)], storage: &str) {
    for (key, object) in objects {
        let expected = match key.rsplit_once('.').expect("an extension").1 {
            "m3u8" => "application/vnd.apple.mpegurl",
            "ts" => "video/mp2t",
            "flv" => "video/x-flv",
            "mp4" => "video/mp4",
            "aac" => "audio/aac",
            "json" => "application/json",
            other => panic!("{storage}: {key}: {other}"),
        };
        assert_eq!(object.content_type.as_deref(), Some(expected), "{storage} {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn picture_and_sound() {
    every_format_in_every_storage(Source::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn picture_only() {
    every_format_in_every_storage(Source { tracks: Tracks::Video, ..Default::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_only() {
    every_format_in_every_storage(Source { tracks: Tracks::Audio, ..Default::default() }).await;
}

/// Files above 20 MiB really go in parts.
#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_in_parts() {
    let mut world = World::bound(&STORAGES, DOMAIN).await;
    let folder = tempfile::tempdir().unwrap();
    let source = Source { seconds: 25, kilobits: 9_000, ..Default::default() }.generate(folder.path());
    assert!(std::fs::metadata(&source).unwrap().len() > 21 << 20, "the source is too small for this test");
    push_file(&source, &world.cluster.rtmp_url(DOMAIN, "big"));
    let recordings = world.clients.wait_for(DOMAIN, "big", 4, State::Succeeded).await;
    let sent = probe::packets(&source);
    for recording in recordings {
        let storage = recording.storage.trim_start_matches("storages/").to_owned();
        let root = download(&world, &storage, folder.path());
        for (format, files) in world.clients.files(&recording).await {
            if format == "AAC" {
                continue;
            }
            let what = format!("{storage} {format}");
            probe::assert_same_media(&sent, &probe::packets(&root.join(&files[0].object_key)), &what);
        }
    }
    for storage in ["s3", "hmac", "account"] {
        for (key, object) in fetch(&world, storage) {
            if key.ends_with(".flv") || key.ends_with(".mp4") {
                assert!(object.body.len() > 20 << 20, "{storage} {key}");
                assert!(
                    object.parts.is_some_and(|parts| parts >= 3),
                    "{storage} {key} came in {:?} parts",
                    object.parts
                );
            }
        }
    }
}

/// A failing storage shows on the Storage with the provider's own words, recording goes on, new keys heal it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_storage_is_visible_and_heals() {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    let s3 = S3Server::start(KEY, SECRET).await;
    clients.storage("s3", s3_target(&s3)).await;
    clients
        .template("s3", v1::Template { storage: "s3".into(), flv: Some(Default::default()), ..Default::default() })
        .await;
    clients.bind("s3", DOMAIN).await;
    let words = "The key has been revoked by its owner";
    s3.faults().add("*", Fault::Answer { status: 403, code: "AccessDenied", message: words }, usize::MAX);
    let folder = tempfile::tempdir().unwrap();
    let source = Source { seconds: 3, ..Default::default() }.generate(folder.path());
    push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let storage = wait::until("the storage to be shown as failing", async || {
        let request = v1::GetStorageRequest { name: "storages/s3".into() };
        let storage = clients.storages.get_storage(request).await.ok()?.into_inner();
        (storage.state() == v1::storage::State::Failing).then_some(storage)
    })
    .await;
    let error = storage.last_error.unwrap();
    assert!(error.message.contains(words), "{error:?}");
    s3.faults().clear();
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert_eq!(s3.keys().iter().filter(|key| key.ends_with(".flv")).count(), 1);
    assert_eq!(clients.files(&recording).await["FLV"].len(), 1);
    wait::until("the storage to be active again", async || {
        let request = v1::GetStorageRequest { name: "storages/s3".into() };
        let storage = clients.storages.get_storage(request).await.ok()?.into_inner();
        (storage.state() == v1::storage::State::Active).then_some(())
    })
    .await;
    for text in [cluster.control.as_ref().unwrap().log_text(), cluster.nodes[0].log_text()] {
        assert!(!text.contains(SECRET), "a secret was logged");
    }
    for file in tree(cluster.folder()) {
        let bytes = std::fs::read(cluster.folder().join(&file)).unwrap_or_default();
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "a secret is in {file}");
    }
}
