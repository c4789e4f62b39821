//! Real publishers: what they send is in the files, and their end is the stream's.

use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::opus::{LENGTH, ends};
use recorder_tests::publisher::{Live, Source, run};
use recorder_tests::scene::{Clients, all_formats, all_formats_waiting, library_path, recorded, tree};
use recorder_tests::{probe, wait, whip};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";

async fn scene(template: v1::Template, settings: &[(&str, &str)]) -> (Cluster, Clients) {
    recorded(DOMAIN, template, settings).await
}

/// What real publishers may be out of sync, in seconds: their own share is in it.
const OFF: f64 = 0.04;
/// The same where sender reports are of no use, so that the picture is late by what its encoder takes.
const OFF_WITHOUT_REPORTS: f64 = 0.1;

/// The only file of each format decodes cleanly, has every flash and every beep, also the first, and they belong together
/// from the first to the last. Gives how many pictures each format has.
async fn judge(
    cluster: &Cluster,
    clients: &mut Clients,
    recording: &v1::Recording,
    beeps: RangeInclusive<usize>,
    off: f64,
) -> Vec<(&'static str, usize)> {
    let mut counts = Vec::new();
    for (format, files) in clients.files(recording).await {
        assert_eq!(files.len(), 1, "{format}");
        let audio = files[0].audio.clone().unwrap_or_else(|| panic!("{format} has no sound"));
        assert_eq!((audio.codec.as_str(), audio.transcoded), ("aac", true), "{format}");
        let path = library_path(cluster, &files[0]);
        probe::decodes(&path);
        let (packets, found) = (probe::packets(&path), ends(&path, format != "AAC"));
        let first = found.beeps[0] - packets.audio[0].dts;
        println!(
            "{format}: {} pictures, first beep after {first:.3} s, off by {:.3?} s",
            packets.video.len(),
            found.offsets()
        );
        assert!((first - LENGTH).abs() < 0.06, "{format}: the first beep ends after {first} s");
        assert!(beeps.contains(&found.beeps.len()), "{format}: {found:?}");
        if format != "AAC" {
            assert_eq!(found.flashes.len(), found.beeps.len(), "{format}: {found:?}");
            let offsets = found.offsets();
            assert!(offsets.iter().all(|offset| offset.abs() <= off), "{format}: sound is off by {offsets:.3?} s");
            counts.push((format, packets.video.len()));
        }
    }
    assert_eq!(counts.iter().map(|(format, _)| *format).collect::<Vec<_>>(), ["FLV", "HLS", "MP4"]);
    assert!(recording.gaps.is_empty(), "{:?}", recording.gaps);
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn aiortc_is_recorded_from_the_first_beep_to_the_last_picture() {
    let (cluster, mut clients) = scene(all_formats(), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "cam1");
    let said = whip::publish(whip::aiortc(&url, &["--seconds", "6"])).await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let sent: usize =
        said.lines().find_map(|line| line.strip_prefix("sent ")?.split(' ').next()?.parse().ok()).unwrap();
    for (format, recorded) in judge(&cluster, &mut clients, &recording, 6..=7, OFF).await {
        // One or two are being encoded when it stops.
        assert!(recorded <= sent && recorded + 2 >= sent, "{format}: {recorded} of {sent}");
    }
    assert_eq!(recording.end_reason(), v1::recording::EndReason::PublisherEnded);
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamers_webrtcbin_is_recorded_from_the_first_beep_to_the_last() {
    let (cluster, mut clients) = scene(all_formats(), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "gst");
    whip::publish(whip::gstreamer(&url, &["--seconds", "5"])).await;
    let recording = clients.wait_for(DOMAIN, "gst", 1, State::Succeeded).await.remove(0);
    for (format, recorded) in judge(&cluster, &mut clients, &recording, 5..=90, OFF).await {
        assert!(recorded >= 150, "{format}: {recorded}");
    }
}

/// Its own certificate is on a curve that nobody offers (see README); one on P-256 works.
#[tokio::test(flavor = "multi_thread")]
async fn ffmpegs_muxer_is_recorded_with_a_p256_certificate_and_told_why_without() {
    let (cluster, mut clients) = scene(all_formats(), &[]).await;
    let mut own = whip::ffmpeg(&whip::url(&cluster, DOMAIN, "own"), &["--seconds", "2"]);
    let refused = tokio::task::spawn_blocking(move || own.output()).await.unwrap().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    wait::until("the reason in the log", async || {
        let log = cluster.nodes[0].log_text();
        let line = log.lines().find(|line| line.contains("WHIP publisher not connected"))?;
        assert!(line.contains("/live/own") && line.contains("bad_certificate"), "{line}");
        Some(())
    })
    .await;
    let (certificate, key) = (cluster.folder().join("certificate.pem"), cluster.folder().join("key.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    run(command.args(["-subj", "/CN=ffmpeg", "-keyout"]).arg(&key).arg("-out").arg(&certificate));
    let options = ["--seconds", "5", "--certificate", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let said = whip::publish(whip::ffmpeg(&whip::url(&cluster, DOMAIN, "ffmpeg"), &options)).await;
    let recording = clients.wait_for(DOMAIN, "ffmpeg", 1, State::Succeeded).await.remove(0);
    for (format, recorded) in judge(&cluster, &mut clients, &recording, 5..=5, OFF).await {
        // It deletes the session with a picture or two still in its hands.
        assert!((148..=150).contains(&recorded), "{format}: {recorded}: {said}");
    }
}

/// What was encoded before the connection stood comes at once, and its sender reports are wrong: the picture was seconds
/// away from the sound.
#[tokio::test(flavor = "multi_thread")]
async fn gstreamers_backlog_was_out_of_sync() {
    let (cluster, mut clients) = scene(all_formats(), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "gst");
    whip::publish(whip::gstreamer(&url, &["--seconds", "4", "--backlog", "3"])).await;
    let recording = clients.wait_for(DOMAIN, "gst", 1, State::Succeeded).await.remove(0);
    for (format, recorded) in judge(&cluster, &mut clients, &recording, 7..=90, OFF_WITHOUT_REPORTS).await {
        assert!(recorded >= 210, "{format}: {recorded}");
    }
}

/// A browser on `/publish`, with a camera and with the test picture. It sends key frames only when asked, so that
/// segments of a second say that it is.
#[tokio::test(flavor = "multi_thread")]
async fn chromium_publishes_from_the_page() {
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let hls = v1::template::Hls { segment_duration: second, ..Default::default() };
    let template = v1::Template { hls: Some(hls), ..all_formats() };
    let settings = [("RECORDER_WHIP_IDLE_TIMEOUT", "3s"), ("RECORDER_WHIP_KEY_FRAME_INTERVAL", "1s")];
    let (cluster, mut clients) = scene(template, &settings).await;
    for source in ["camera", "test"] {
        let mut browser = Live::spawn(whip::chromium(&cluster, DOMAIN, source, source));
        wait::until("six segments", async || {
            let segments = tree(&cluster.library()).into_iter().filter(|path| path.contains(source));
            (segments.filter(|path| path.ends_with(".ts")).count() >= 6).then_some(())
        })
        .await;
        browser.kill();
        let recording = clients.wait_for(DOMAIN, source, 1, State::Succeeded).await.remove(0);
        let files = clients.files(&recording).await;
        assert_eq!(files.keys().copied().collect::<Vec<_>>(), ["AAC", "FLV", "HLS", "MP4"]);
        let mut beeps = Vec::new();
        for (format, files) in files {
            assert_eq!(files.len(), 1, "{source}, {format}");
            let path = library_path(&cluster, &files[0]);
            probe::decodes(&path);
            beeps.push(browsers_sound(&path, source, format));
        }
        // One may be just at the edge of what is looked at.
        let (least, most) = (beeps.iter().min().unwrap(), beeps.iter().max().unwrap());
        assert!(most - least <= 1, "{source}: every format has the same beeps: {beeps:?}");
    }
}

/// How many beeps a file of a browser has. Those of the test picture belong to its flashes, from the first to the last:
/// what was on when the file began or ended is but half there.
fn browsers_sound(path: &Path, source: &str, format: &str) -> usize {
    let (has_picture, is_test) = (format != "AAC", source == "test");
    let (packets, found) = (probe::packets(path), ends(path, is_test && has_picture));
    let first = packets.audio[0].dts;
    let found = found.between(first + 0.15, packets.audio.last().unwrap().dts - 0.5);
    let pictures = packets.video.len();
    println!("{source}, {format}: {pictures} pictures, {} beeps, off by {:.3?} s", found.beeps.len(), found.offsets());
    assert!(found.beeps.len() >= 4, "{source}, {format}: {found:?}");
    assert!(pictures >= 45 || !has_picture, "{source}, {format}: {pictures}");
    if is_test {
        // One a second from the beginning on.
        assert!(found.beeps[0] - first < 1.3, "{format}: {found:?}");
        assert!(found.beeps.windows(2).all(|pair| (0.7..1.3).contains(&(pair[1] - pair[0]))), "{format}: {found:?}");
        if has_picture {
            assert_eq!(found.flashes.len(), found.beeps.len(), "{format}: {found:?}");
            assert!(found.offsets().iter().all(|offset| offset.abs() <= OFF), "{format}: {:.3?}", found.offsets());
        }
    }
    found.beeps.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_alone_may_be_published() {
    let (cluster, mut clients) = scene(all_formats(), &[]).await;
    let url = whip::url(&cluster, DOMAIN, "radio");
    whip::publish(whip::aiortc(&url, &["--seconds", "3", "--audio-only"])).await;
    let recording = clients.wait_for(DOMAIN, "radio", 1, State::Succeeded).await.remove(0);
    assert!(!clients.files(&recording).await.is_empty());
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
