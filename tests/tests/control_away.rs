//! Recording never depends on the control plane: it may be away, and the node may even restart meanwhile.
// Times of the machine are what is compared here.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, SystemTime};

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Live, Source, push_file};
use recorder_tests::scene::{Clients, all_formats, library_path, tree};
use recorder_tests::{probe, wait};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";

async fn scene() -> Cluster {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("all", all_formats()).await;
    clients.bind("all", DOMAIN).await;
    cluster
}

fn at(time: &Option<prost_types::Timestamp>) -> SystemTime {
    let time = time.as_ref().expect("a time");
    SystemTime::UNIX_EPOCH + Duration::new(time.seconds as u64, time.nanos as u32)
}

/// Id of the one recording whose files are in the library, from its object keys.
fn id_in_library(cluster: &Cluster, stream: &str) -> String {
    let prefix = format!("origin/{DOMAIN}/live/{stream}/");
    let mut ids: Vec<_> = tree(&cluster.library())
        .iter()
        .filter_map(|path| path.strip_prefix(&prefix)?.split('/').next().map(str::to_owned))
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    ids.remove(0)
}

/// Issue 2, shown by 5: stopped during a publish, started after it.
#[tokio::test(flavor = "multi_thread")]
async fn control_stopped_during_a_publish_and_started_after() {
    let mut cluster = scene().await;
    let source = Source { seconds: 6, ..Default::default() }.generate(cluster.folder());
    let before = SystemTime::now();
    let mut live = Live::once(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let started = Clients::of(&cluster).await.wait_for(DOMAIN, "cam1", 1, State::Recording).await.remove(0);
    cluster.control.take().unwrap().kill();
    assert!(live.wait(), "the publisher does not notice");
    wait::until("the files to be in the library", async || {
        let files = tree(&cluster.library());
        files.iter().any(|file| file.ends_with(".mp4")).then_some(())
    })
    .await;
    // The last frames are read moments after the publisher has gone, and before the files are there.
    let after = SystemTime::now();
    cluster.start_control().await;
    let recording = Clients::of(&cluster).await.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert_eq!(recording.name, started.name);
    assert_eq!(recording.name, format!("recordings/{}", id_in_library(&cluster, "cam1")));
    let (start, end) = (at(&recording.start_time), at(&recording.end_time));
    assert!(before <= start && start < end && end <= after, "{before:?} {start:?} {end:?} {after:?}");
    let length = end.duration_since(start).unwrap().as_secs_f64();
    assert!((5.5..=6.1).contains(&length), "{length} s of 6 s");
    let sent = probe::packets(&source);
    for (format, files) in Clients::of(&cluster).await.files(&recording).await {
        let mut expected = sent.clone();
        if format == "AAC" {
            expected.video.clear();
        }
        probe::assert_same_media(&expected, &probe::packets(&library_path(&cluster, &files[0])), format);
    }
}

/// The node restarts while the control plane is away, then records from its stored directives; ids are the same later.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_restarts_without_the_control_plane_still_records() {
    let mut cluster = scene().await;
    let source = Source { seconds: 4, ..Default::default() }.generate(cluster.folder());
    cluster.control.take().unwrap().kill();
    assert_eq!(cluster.nodes[0].terminate().await, Some(0));
    cluster.start_node_detached(1).await;
    push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    // Killed before it could tell anyone; what it knows is on its disk.
    wait::until("the files to be in the library", async || {
        let files = tree(&cluster.library());
        let there = |extension: &str| files.iter().any(|file| file.ends_with(extension));
        (there(".mp4") && there(".flv") && there(".aac") && there(".m3u8")).then_some(())
    })
    .await;
    cluster.nodes[0].kill();
    cluster.start_node_detached(1).await;
    cluster.start_control().await;
    let recording = Clients::of(&cluster).await.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert_eq!(recording.name, format!("recordings/{}", id_in_library(&cluster, "cam1")));
    let files = Clients::of(&cluster).await.files(&recording).await;
    assert_eq!(files.len(), 4);
    let sent = probe::packets(&source);
    probe::assert_same_media(&sent, &probe::packets(&library_path(&cluster, &files["MP4"][0])), "MP4");
}
