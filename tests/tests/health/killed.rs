//! A node that is killed takes no finding along that is older than seconds, and none is counted twice.
// Times of the machine are what is compared here.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use recorder_proto::pb::v1::health::Finding;
use recorder_tests::publisher::Live;
use recorder_tests::scene::library_path;

use super::*;

/// Both clocks leap by 20 s every second.
fn jumping(source: &Path, url: &str) -> Live {
    let leaps = |frames: u32| format!("setts=pts=PTS+floor(N/{frames})*20000:dts=DTS+floor(N/{frames})*20000");
    let mut command = ffmpeg();
    command.args(["-re", "-stream_loop", "-1", "-i"]).arg(source).args(["-map", "0", "-c", "copy"]);
    Live::spawn({
        command.args(["-bsf:v", &leaps(30), "-bsf:a", &leaps(43), "-f", "flv", url]);
        command
    })
}

fn jumps(recording: &v1::Recording) -> Option<Finding> {
    recording.health.iter().flat_map(|health| &health.findings).find(|finding| finding.code == -9).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_of_up_to_a_minute_were_lost_with_a_killed_node() {
    let mut cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let hls = v1::template::Hls { segment_duration: second, ..Default::default() };
    clients.template("all", v1::Template { hls: Some(hls), ..v1::Template::default() }).await;
    clients.bind("all", DOMAIN).await;
    let source = Source { seconds: 30, gop: 30, ..Source::default() }.generate(cluster.folder());
    let mut live = jumping(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let first = wait::until("the first ones to be told", async || {
        jumps(clients.recordings_of(DOMAIN, "cam1").await.first()?)?.first_time
    })
    .await;
    // One a second.
    let first = UNIX_EPOCH + Duration::new(first.seconds as u64, first.nanos as u32);
    wait::until("twelve seconds of it", async || (SystemTime::now() >= first + Duration::from_secs(12)).then_some(()))
        .await;
    let before = jumps(&clients.recordings_of(DOMAIN, "cam1").await[0]).unwrap();
    assert!(before.count <= 5, "the others wait to be told: {before:?}");
    cluster.nodes[0].kill();
    live.kill();
    cluster.start_node(1).await;
    let done = wait::until("the end of the recording", async || {
        let recording = clients.recordings_of(DOMAIN, "cam1").await.pop()?;
        let is_over = [State::Succeeded, State::Incomplete].contains(&recording.state());
        (is_over && recording.manifest.is_some()).then_some(recording)
    })
    .await;
    let after = jumps(&done).unwrap();
    println!("{} jumps told before the node was killed, {} after", before.count, after.count);
    // One a second: those of the last five seconds may be lost, and none is counted twice.
    assert!((6..=14).contains(&after.count), "{after:?}");
    assert_eq!(after.first_time, before.first_time);
    let manifest = done.manifest.clone().unwrap();
    let path = library_path(&cluster, &v1::File { object_key: manifest.object_key, ..Default::default() });
    let manifest: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let listed = manifest["findings"].as_array().expect("findings");
    let listed = listed.iter().find(|finding| finding["code"] == -9).expect("jumps");
    assert_eq!((&listed["kind"], &listed["level"]), (&"VIDEO_TIMESTAMP_JUMP".into(), &"WARNING".into()));
    assert_eq!(listed["count"].as_u64(), Some(after.count), "{manifest:#}");
}
