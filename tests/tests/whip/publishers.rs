//! Real publishers: what they send is in the files, and their end is the stream's.

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Live, Source, ffmpeg};
use recorder_tests::scene::{Clients, all_formats, all_formats_waiting, library_path, tree};
use recorder_tests::{probe, wait, whip};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";

async fn scene(template: v1::Template, settings: &[(&str, &str)]) -> (Cluster, Clients) {
    let cluster = Cluster::with_settings(settings).await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("all", template).await;
    clients.bind("all", DOMAIN).await;
    (cluster, clients)
}

/// Pictures of the only file of each format that has some, each of which has to decode cleanly.
async fn pictures(cluster: &Cluster, clients: &mut Clients, recording: &v1::Recording) -> Vec<(&'static str, usize)> {
    let mut counts = Vec::new();
    for (format, files) in clients.files(recording).await {
        assert_eq!(files.len(), 1, "{format}");
        let path = library_path(cluster, &files[0]);
        probe::decodes(&path);
        let packets = probe::packets(&path);
        if format != "AAC" {
            counts.push((format, packets.video.len()));
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn aiortc_is_recorded_to_the_last_picture() {
    let (cluster, mut clients) = scene(all_formats(), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "cam1");
    let said = whip::publish(whip::aiortc(&url, &["--seconds", "6"])).await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let sent: usize =
        said.lines().find_map(|line| line.strip_prefix("sent ")?.split(' ').next()?.parse().ok()).unwrap();
    let counts = pictures(&cluster, &mut clients, &recording).await;
    assert_eq!(counts.iter().map(|(format, _)| *format).collect::<Vec<_>>(), ["FLV", "HLS", "MP4"]);
    for (format, recorded) in counts {
        // Its encoder holds the newest pictures when it stops.
        assert!(recorded <= sent && recorded + 6 >= sent, "{format}: {recorded} of {sent}");
    }
    assert_eq!(recording.end_reason(), v1::recording::EndReason::PublisherEnded);
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamers_webrtcbin_is_recorded() {
    let (cluster, mut clients) = scene(all_formats(), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "gst");
    whip::publish(whip::gstreamer(&url, &["--seconds", "5"])).await;
    let recording = clients.wait_for(DOMAIN, "gst", 1, State::Succeeded).await.remove(0);
    for (format, recorded) in pictures(&cluster, &mut clients, &recording).await {
        assert!(recorded >= 120, "{format}: {recorded}");
    }
}

/// A browser on `/publish`, with a camera and with the test picture. It sends key frames only when asked, so that
/// segments of a second say that it is.
#[tokio::test(flavor = "multi_thread")]
async fn chromium_publishes_from_the_page() {
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let hls = v1::template::Hls { segment_duration: second, ..Default::default() };
    let template = v1::Template { hls: Some(hls), flv: Some(v1::template::Flv::default()), ..Default::default() };
    let settings = [("RECORDER_WHIP_IDLE_TIMEOUT", "4s"), ("RECORDER_WHIP_KEY_FRAME_INTERVAL", "1s")];
    let (cluster, mut clients) = scene(template, &settings).await;
    for source in ["camera", "test"] {
        let mut browser = Live::spawn(whip::chromium(&cluster, DOMAIN, source, source));
        wait::until("four segments", async || {
            let segments = tree(&cluster.library()).into_iter().filter(|path| path.contains(source));
            (segments.filter(|path| path.ends_with(".ts")).count() >= 4).then_some(())
        })
        .await;
        browser.kill();
        let recording = clients.wait_for(DOMAIN, source, 1, State::Succeeded).await.remove(0);
        let files = clients.files(&recording).await;
        let playlist = library_path(&cluster, &files["HLS"][0]);
        // A browser's frame rate is what it can do at the moment: frames are judged at their own times.
        let judge = ["-map", "0", "-vsync", "passthrough", "-enc_time_base", "-1", "-f", "null", "-"];
        let output = ffmpeg().arg("-i").arg(&playlist).args(judge).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let pictures = probe::packets(&playlist).video.len();
        assert!(pictures >= 30, "{source}: {pictures}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_alone_may_be_published() {
    let (cluster, mut clients) = scene(all_formats(), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "radio");
    whip::publish(whip::aiortc(&url, &["--seconds", "3", "--audio-only"])).await;
    let recording = clients.wait_for(DOMAIN, "radio", 1, State::Succeeded).await.remove(0);
    assert!(!clients.files(&recording).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn w10_a_publisher_without_h264_is_told_why() {
    let (cluster, _) = scene(all_formats(), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "vp8");
    let command = whip::aiortc(&url, &["--seconds", "3", "--vp8"]);
    let output = tokio::task::spawn_blocking(move || {
        let mut command = command;
        command.output()
    })
    .await
    .unwrap()
    .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("refused 422") && said.contains("H.264") && said.contains("VP8"), "{said}");
}

/// W4: however it ends, the stream ends; a session deleted is an orderly end.
#[tokio::test(flavor = "multi_thread")]
async fn w4_a_publisher_may_delete_close_or_vanish() {
    let (cluster, mut clients) = scene(all_formats(), &[("RECORDER_WHIP_IDLE_TIMEOUT", "3s")]).await;
    for end in ["delete", "close", "kill"] {
        let url = whip::url(&cluster, DOMAIN, end);
        whip::publish(whip::aiortc(&url, &["--seconds", "2", "--end", end])).await;
        clients.wait_for(DOMAIN, end, 1, State::Succeeded).await;
    }
    let log = cluster.nodes[0].log_text();
    for (stream, cause) in [("delete", "Unpublished"), ("close", "ConnectionLost"), ("kill", "IdleTimeout")] {
        let wanted = format!("cause={cause}");
        let line = log.lines().find(|line| line.contains("stream ended") && line.contains(&format!("/live/{stream}")));
        assert!(line.is_some_and(|line| line.contains(&wanted)), "{stream}: {line:?}");
    }
}

/// A publisher that comes back within the window goes on with its recording, and one over RTMP takes over from it.
#[tokio::test(flavor = "multi_thread")]
async fn w4_resumption_is_the_same_as_over_rtmp() {
    let (cluster, mut clients) = scene(all_formats_waiting(20), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "cam1");
    whip::publish(whip::aiortc(&url, &["--seconds", "2"])).await;
    clients.wait_for(DOMAIN, "cam1", 1, State::Interrupted).await;
    whip::publish(whip::aiortc(&url, &["--seconds", "2", "--end", "close"])).await;
    let source = Source { seconds: 3, ..Default::default() }.generate(cluster.folder());
    let mut live = Live::file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Recording).await.remove(0);
    live.stop();
    let request = v1::StopRecordingRequest { name: recording.name.clone() };
    clients.recordings.stop_recording(request).await.unwrap();
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert!(recording.gaps.len() >= 2, "{:?}", recording.gaps);
}

/// E18 over WHIP: the newest publisher wins, in one recording.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_of_a_stream_takes_over() {
    let (cluster, mut clients) = scene(all_formats(), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "cam1");
    let mut first = Live::spawn(whip::aiortc(&url, &["--seconds", "60"]));
    clients.wait_for(DOMAIN, "cam1", 1, State::Recording).await;
    whip::publish(whip::aiortc(&url, &["--seconds", "3"])).await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    first.kill();
    assert_eq!(recording.gaps.len(), 1, "{:?}", recording.gaps);
    let log = cluster.nodes[0].log_text();
    wait::until("the first one to be told", async || log.contains("cause=Replaced").then_some(())).await;
}
