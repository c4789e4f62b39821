//! What is lost or changed on the way of a real WHIP session is in the files, and told.

use std::collections::BTreeSet;
use std::path::Path;

use media::TrackKind;
use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::opus::ends;
use recorder_tests::scene::{Clients, all_formats, library_path, recorded};
use recorder_tests::webrtc::{Fate, Film, Look, Packet, Peer};
use recorder_tests::{probe, wait};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";

async fn scene() -> (Cluster, Clients) {
    recorded(DOMAIN, all_formats(), &[]).await
}

fn seconds(time: &prost_types::Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}

/// When each gap begins and ends, in seconds from the recording's start.
fn gaps(recording: &v1::Recording) -> Vec<(f64, f64)> {
    let origin = seconds(recording.start_time.as_ref().unwrap());
    let span = |gap: &v1::Gap| {
        let length = gap.duration.unwrap();
        let start = seconds(gap.start_time.as_ref().unwrap()) - origin;
        assert_eq!(gap.reason(), v1::gap::Reason::FramesRejected, "{gap:?}");
        (start, start + length.seconds as f64 + f64::from(length.nanos) / 1e9)
    };
    recording.gaps.iter().map(span).collect()
}

/// The recording's manifest, once it is there.
async fn manifest(cluster: &Cluster, recording: &v1::Recording) -> serde_json::Value {
    let id = recording.name.trim_start_matches("recordings/").to_owned();
    wait::until("the manifest", async || {
        let of_it = |path: &String| path.contains(&id) && path.ends_with("manifest.json");
        let path = recorder_tests::scene::tree(&cluster.library()).into_iter().find(of_it)?;
        serde_json::from_slice(&std::fs::read(cluster.library().join(path)).ok()?).ok()
    })
    .await
}

/// 0.9 s without a network, and one packet of one picture later: neither comes again, whatever is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_on_the_way_is_a_gap_with_its_reason() {
    let (cluster, mut clients) = scene().await;
    let film = Film::encode(cluster.folder(), Look { seconds: 8, ..Look::default() });
    let mut peer = Peer::publish(cluster.nodes[0].address("http"), DOMAIN, "cam1").await;
    let mut is_one_lost = false;
    let fate = |packet: &Packet, time: f64| {
        let is_one =
            packet.track == TrackKind::Video && time >= 6.5 && !std::mem::replace(&mut is_one_lost, time >= 6.5);
        if (3.55..4.45).contains(&time) || is_one { Fate::Lost } else { Fate::Sent }
    };
    peer.play(&film, fate).await;
    peer.delete().await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Incomplete).await.remove(0);
    let gaps = gaps(&recording);
    println!("gaps {gaps:.3?}");
    let covers =
        |from: f64, to: f64| gaps.iter().any(|(start, end)| (start - from).abs() < 0.1 && (end - to).abs() < 0.1);
    assert!(covers(3.53, 5.0), "the picture is away until its next key frame: {gaps:?}");
    assert!(covers(3.54, 4.45), "the sound comes back with the network: {gaps:?}");
    assert!(covers(6.47, 7.0), "what builds on a lost picture is lost with it: {gaps:?}");
    assert_eq!(gaps.len(), 3, "{gaps:?}");
    let manifest = manifest(&cluster, &recording).await;
    let reasons: Vec<_> = manifest["gaps"].as_array().unwrap().iter().map(|gap| gap["reason"].clone()).collect();
    assert_eq!(reasons.len(), 3, "{manifest}");
    assert!(reasons.iter().all(|reason| reason == &reasons[0]), "{reasons:?}");
    for (format, files) in clients.files(&recording).await {
        assert_eq!(files.len(), 1, "{format}");
        let path = library_path(&cluster, &files[0]);
        probe::decodes(&path);
        let found = ends(&path, format != "AAC");
        println!("{format}: off by {:.3?} s", found.offsets());
        // The one of 4.0 s is lost.
        assert_eq!(found.beeps.len(), 7, "{format}: {found:?}");
        if format != "AAC" {
            assert_eq!(found.flashes.len(), 7, "{format}: {found:?}");
            assert!(found.offsets().iter().all(|offset| offset.abs() <= 0.04), "{format}: {:?}", found.offsets());
        }
    }
}

/// Every size that pictures of a file decode to.
fn sizes(media: &Path) -> BTreeSet<String> {
    let mut command = std::process::Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v:0", "-show_entries", "frame=width,height", "-of", "csv=p=0"]);
    let output = command.arg(media).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.trim_end_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

/// As a browser does on a changing network: another SPS in the middle, on the same synchronisation source.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_resolution_is_in_the_files_and_told() {
    let (cluster, mut clients) = scene().await;
    let look = Look { seconds: 3, ..Look::default() };
    let small = Film::encode(cluster.folder(), look);
    let large = Film::encode(cluster.folder(), Look { size: (640, 360), ..look });
    let mut peer = Peer::publish(cluster.nodes[0].address("http"), DOMAIN, "cam1").await;
    for film in [&small, &large] {
        peer.play(film, |_, _| Fate::Sent).await;
    }
    peer.delete().await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert!(recording.gaps.is_empty(), "{:?}", recording.gaps);
    let manifest = manifest(&cluster, &recording).await;
    let changes = manifest["codec_changes"].as_array().unwrap();
    let pictures: Vec<_> = changes.iter().filter(|change| change["track"] == "video" && change["from"] != "").collect();
    assert_eq!(pictures.len(), 1, "{changes:?}");
    assert_eq!((&pictures[0]["from"], &pictures[0]["to"]), (&"h264 320x180".into(), &"h264 640x360".into()));
    for (format, files) in clients.files(&recording).await {
        let (mut found, mut pictures, mut beeps) = (BTreeSet::new(), 0, 0);
        for file in &files {
            let path = library_path(&cluster, file);
            probe::decodes(&path);
            beeps += ends(&path, false).beeps.len();
            if format != "AAC" {
                pictures += probe::packets(&path).video.len();
                found.extend(sizes(&path));
            }
        }
        println!("{format}: {} files, {pictures} pictures, {beeps} beeps, {found:?}", files.len());
        assert_eq!(beeps, 6, "{format}");
        if format != "AAC" {
            let both: BTreeSet<String> = ["320,180".to_owned(), "640,360".to_owned()].into();
            assert_eq!((found, pictures), (both, 180), "{format}");
        }
    }
}
