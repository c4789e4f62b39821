//! The health report, from real publishers with real faults to the recording and to a receiver of the vendor's callbacks.

mod killed;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::routing::post;
use axum::{Json, Router};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::webhook_service_client::WebhookServiceClient;
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Source, Tracks, ffmpeg, push_file, run};
use recorder_tests::scene::{Clients, all_formats};
use recorder_tests::{wait, whip};
use serde_json::Value;
use v1::recording::State;

const DOMAIN: &str = "push.example.com";

/// A receiver as the vendor's customers have it.
async fn receiver() -> (String, Arc<Mutex<Vec<Value>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let answer = move |Json(body): Json<Value>| {
        told.lock().unwrap().push(body);
        async { r#"{"code":0}"# }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/callback", post(answer))).await });
    (url, seen)
}

/// Pictures and sound of different lengths, encoded so.
fn encode(path: &Path, pictures: &[&str], lengths: (u32, u32), filter: &str) -> PathBuf {
    let lengths = (lengths.0.to_string(), lengths.1.to_string());
    let mut command = ffmpeg();
    command.args(["-f", "lavfi", "-t", &lengths.0, "-i", "testsrc2=size=320x180:rate=30"]);
    command.args(["-f", "lavfi", "-t", &lengths.1, "-i", "sine=frequency=440:sample_rate=44100"]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-sc_threshold", "0"]);
    command.args(pictures).args(["-vf", filter, "-fps_mode", "passthrough", "-c:a", "aac", "-f", "flv"]).arg(path);
    run(&mut command);
    path.to_owned()
}

/// The tags of an FLV file behind another's, so many milliseconds later.
fn joined(path: &Path, first: &Path, second: &Path, later: u32) -> PathBuf {
    const HEADER: usize = 13;
    let mut whole = std::fs::read(first).unwrap();
    let more = std::fs::read(second).unwrap();
    let mut at = HEADER;
    while at + 11 <= more.len() {
        let size = u32::from_be_bytes([0, more[at + 1], more[at + 2], more[at + 3]]) as usize;
        let mut tag = more[at..at + 11 + size + 4].to_vec();
        let time = u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]]) + later;
        let [high, rest @ ..] = time.to_be_bytes();
        tag[4..7].copy_from_slice(&rest);
        tag[7] = high;
        // Not what it says of itself: that is for the beginning.
        if tag[0] != 18 {
            whole.extend_from_slice(&tag);
        }
        at += 11 + size + 4;
    }
    std::fs::write(path, whole).unwrap();
    path.to_owned()
}

/// Pushes with the timestamps of pictures and sound moved by these expressions.
fn push_moved(source: &Path, url: &str, pictures: &str, sound: &str) {
    let moved = |by: &str| format!("setts=pts=PTS+{by}:dts=DTS+{by}");
    let mut command = ffmpeg();
    command.arg("-copyts").arg("-i").arg(source).args(["-map", "0", "-c", "copy"]);
    command.args(["-bsf:v", &moved(pictures), "-bsf:a", &moved(sound), "-f", "flv", url]);
    run(&mut command);
}

/// What is published under which name, and what is to be found in it.
const EXPECTED: &[(&str, &[(i32, u64)])] = &[
    ("clean", &[]),
    ("sound-only", &[]),
    ("jump", &[(-9, 1), (-8, 1)]),
    ("long-gop", &[(-132, 1)]),
    ("picture-stops", &[(-18, 1)]),
    ("resolution", &[(-100, 1)]),
    // From 12.0 s to 12.6 s.
    ("dropped", &[(-130, 19)]),
];

fn publish(folder: &Path, name: &str, url: &str) {
    let path = folder.join(format!("{name}.flv"));
    let gop = ["-g", "30", "-keyint_min", "30"];
    match name {
        "clean" => push_file(&Source { seconds: 12, ..Source::default() }.generate(folder), url),
        "sound-only" => {
            push_file(&Source { tracks: Tracks::Audio, seconds: 12, ..Source::default() }.generate(folder), url)
        }
        // Six seconds into it, both clocks leap by twenty.
        "jump" => {
            let source = encode(&path, &gop, (12, 12), "null");
            push_moved(&source, url, r"gte(N\,180)*20000", r"gte(N\,258)*20000");
        }
        "long-gop" => push_file(&encode(&path, &["-g", "450", "-keyint_min", "450"], (16, 16), "null"), url),
        "picture-stops" => push_file(&encode(&path, &gop, (4, 14), "null"), url),
        "resolution" => {
            let first = encode(&folder.join("large.flv"), &gop, (5, 5), "null");
            let second = encode(&folder.join("small.flv"), &gop, (5, 5), "scale=160:90");
            push_file(&joined(&path, &first, &second, 5_000), url);
        }
        "dropped" => push_file(&encode(&path, &gop, (20, 20), "select='not(between(t,12,12.61))'"), url),
        other => panic!("{other}"),
    }
}

/// Codes and counts, in order.
fn found(recording: &v1::Recording) -> Vec<(i32, u64)> {
    let findings = recording.health.iter().flat_map(|health| &health.findings);
    let mut found: Vec<_> = findings.map(|finding| (finding.code, finding.count)).collect();
    found.sort_unstable();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_publisher_is_in_the_recording_and_in_a_341_callback() {
    let local = [("RECORDER_WEBHOOKS_ALLOW_HTTP", "true"), ("RECORDER_WEBHOOKS_NETWORKS", "127.0.0.0/8")];
    let cluster = Cluster::with_all_settings(&[], &local).await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("all", all_formats()).await;
    clients.bind("all", DOMAIN).await;
    let (url, seen) = receiver().await;
    let webhook = v1::Webhook { url, signature: v1::webhook::Signature::TencentMd5.into(), ..Default::default() };
    let request = v1::CreateWebhookRequest { webhook_id: "old".into(), webhook: Some(webhook), ..Default::default() };
    WebhookServiceClient::new(cluster.api().await).create_webhook(request).await.unwrap();

    let publishers = EXPECTED.iter().map(|(name, _)| {
        let (folder, url) = (cluster.folder().to_owned(), cluster.rtmp_url(DOMAIN, name));
        tokio::task::spawn_blocking(move || publish(&folder, name, &url))
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    for (name, expected) in EXPECTED {
        let recording = wait::until(&format!("{name} to be over"), async || {
            let recording = clients.recordings_of(DOMAIN, name).await.pop()?;
            [State::Succeeded, State::Incomplete].contains(&recording.state()).then_some(recording)
        })
        .await;
        assert_eq!(found(&recording), *expected, "{name}: {:#?}", recording.health);
        for finding in recording.health.iter().flat_map(|health| &health.findings) {
            let seconds = |time: &Option<prost_types::Timestamp>| time.as_ref().unwrap().seconds;
            let (first, last) = (seconds(&finding.first_time), seconds(&finding.last_time));
            let began = seconds(&recording.start_time);
            assert!(began <= first && first <= last && last <= began + 60, "{name}: {finding:?} of {recording:?}");
        }
    }
    for (name, expected) in EXPECTED {
        let told = || {
            let of_stream = |body: &&Value| body["event_type"] == 341 && body["stream_id"] == *name;
            let exception = |body: &Value| (body["exception"]["type"].as_i64(), body["exception"]["occurs"].as_u64());
            let mut told: Vec<_> = seen.lock().unwrap().iter().filter(of_stream).map(exception).collect();
            told.sort_unstable();
            told
        };
        let expected: Vec<_> = expected.iter().map(|(code, count)| (Some(i64::from(*code)), Some(*count))).collect();
        wait::until(&format!("the callbacks of {name}"), async || (told() == expected).then_some(())).await;
    }
    let seen = seen.lock().unwrap();
    let jump = seen.iter().find(|body| body["exception"]["type"] == -9).unwrap();
    assert_eq!(jump["exception_level"], "warning");
    assert_eq!(jump["exception"]["desc"], "video timestamps jumped");
    assert!(jump["sign"].as_str().is_some_and(|sign| sign.len() == 32) && jump["t"].as_i64().is_some());
}

/// Over WHIP the same detector sees what the session makes of RTP: nothing is wrong with a good publisher.
#[tokio::test(flavor = "multi_thread")]
async fn webrtc_publishers_are_found_healthy() {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("all", all_formats()).await;
    clients.bind("all", DOMAIN).await;
    let both = whip::publish(whip::aiortc(&whip::url(&cluster, DOMAIN, "both"), &["--seconds", "7"]));
    let sound = whip::publish(whip::aiortc(&whip::url(&cluster, DOMAIN, "sound"), &["--seconds", "7", "--audio-only"]));
    tokio::join!(both, sound);
    for stream in ["both", "sound"] {
        let recording = clients.wait_for(DOMAIN, stream, 1, State::Succeeded).await.remove(0);
        assert_eq!(recording.health, None, "{stream}");
        assert!(recording.media_duration.is_some_and(|length| length.seconds >= 6), "{recording:?}");
    }
}
