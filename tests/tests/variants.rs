//! The same job in other surroundings: on Postgres, over TLS, published again and again.

use std::process::Command;

use recorder_db::scratch::{Scratch, kinds};
use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Live, Source, push_file, run};
use recorder_tests::scene::{Clients, all_formats, library_path, tree};
use recorder_tests::{probe, wait};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";

async fn bound(cluster: &Cluster) -> Clients {
    let mut clients = Clients::of(cluster).await;
    clients.template("all", all_formats()).await;
    clients.bind("all", DOMAIN).await;
    clients
}

/// R20: the pair as processes, on every database there is.
#[tokio::test(flavor = "multi_thread")]
async fn r20_the_pair_records_on_sqlite_and_postgres() {
    for kind in kinds() {
        let scratch = Scratch::new(kind).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::with_database(folder, scratch.url.clone(), &[]).await;
        let mut clients = bound(&cluster).await;
        let source = Source { seconds: 3, ..Default::default() }.generate(cluster.folder());
        push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
        let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
        let files = clients.files(&recording).await;
        assert_eq!(files.len(), 4, "{kind:?}");
        let recorded = probe::packets(&library_path(&cluster, &files["MP4"][0]));
        probe::assert_same_media(&probe::packets(&source), &recorded, &format!("{kind:?}"));
    }
}

/// E1: RTMPS, as ffmpeg speaks it.
#[tokio::test(flavor = "multi_thread")]
async fn e1_rtmps_publishes() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout"]);
    run(command.arg(&key).arg("-out").arg(&certificate));
    let settings = [
        ("RECORDER_RTMP_TLS_LISTEN", "127.0.0.1:0"),
        ("RECORDER_RTMP_TLS_CERTIFICATE", certificate.to_str().unwrap()),
        ("RECORDER_RTMP_TLS_KEY", key.to_str().unwrap()),
    ];
    let cluster = Cluster::with_settings(&settings).await;
    let mut clients = bound(&cluster).await;
    let source = Source { seconds: 3, ..Default::default() }.generate(cluster.folder());
    push_file(&source, &format!("rtmps://{}/live/cam1?domain={DOMAIN}", cluster.nodes[0].address("rtmps")));
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let files = clients.files(&recording).await;
    let recorded = probe::packets(&library_path(&cluster, &files["FLV"][0]));
    probe::assert_same_media(&probe::packets(&source), &recorded, "RTMPS");
}

/// R30, R39, R40: an interruption closes the files and a new publish opens others, whose keys never meet.
#[tokio::test(flavor = "multi_thread")]
async fn r30_each_publish_makes_its_own_files() {
    let cluster = Cluster::start().await;
    let mut clients = bound(&cluster).await;
    let source = Source { seconds: 2, ..Default::default() }.generate(cluster.folder());
    for count in 1..=3 {
        push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
        clients.wait_for(DOMAIN, "cam1", count, State::Succeeded).await;
    }
    let sent = probe::packets(&source);
    let mut keys = Vec::new();
    for recording in clients.recordings_of(DOMAIN, "cam1").await {
        let id = recording.name.trim_start_matches("recordings/").to_owned();
        for (format, files) in clients.files(&recording).await {
            assert_eq!(files.len(), 1, "{format}");
            let key = &files[0].object_key;
            assert!(key.starts_with(&format!("origin/{DOMAIN}/live/cam1/{id}/20")), "R38: {key}");
            assert_eq!(files[0].uri, format!("library:///{key}"));
            if format == "FLV" {
                probe::assert_same_media(&sent, &probe::packets(&library_path(&cluster, &files[0])), key);
            }
            keys.push(key.clone());
        }
    }
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!((count, keys.len()), (12, 12));
    // One playlist, one segment and three single files each, a manifest when it comes, and nothing else.
    let is_media = |name: &&String| !name.ends_with("/manifest.json");
    assert_eq!(tree(&cluster.library()).iter().filter(is_media).count(), 15);
}

/// R19, R21: a node that is told to stop finishes, ships and reports what is live, and leaves with success.
#[tokio::test(flavor = "multi_thread")]
async fn r21_sigterm_delivers_what_is_live() {
    let mut cluster = Cluster::start().await;
    let mut clients = bound(&cluster).await;
    let source = Source { seconds: 4, ..Default::default() }.generate(cluster.folder());
    let mut live = Live::file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    clients.wait_for(DOMAIN, "cam1", 1, State::Recording).await;
    wait::until("the first segment to be in the library", async || {
        tree(&cluster.library()).iter().any(|file| file.ends_with("/0.ts")).then_some(())
    })
    .await;
    assert_eq!(cluster.nodes[0].terminate().await, Some(0));
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert_eq!(recording.end_reason(), v1::recording::EndReason::NodeDrained);
    let files = clients.files(&recording).await;
    assert_eq!(files.len(), 4);
    for files in files.into_values() {
        let file = &files[0];
        probe::decodes(&library_path(&cluster, file));
        let (end, available) = (file.end_time.as_ref().unwrap(), file.available_time.as_ref().unwrap());
        assert!(available.seconds - end.seconds <= 2, "R19: {end:?} {available:?}");
    }
    live.kill();
}
