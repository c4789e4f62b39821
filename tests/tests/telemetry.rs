//! What operators see of a recording that a crash interrupted (reliability test 37): metrics by their published names, no
//! warning that nobody expects, every line about a recording with its id, no secret.

use std::collections::BTreeMap;
use std::time::Duration;

use media::TrackKind;
use recorder_runtime::metrics::{self as names, Kind};
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::process::Process;
use recorder_tests::publisher::Source;
use recorder_tests::scene::all_formats;
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::wait;
use serde_json::Value;

/// What both processes are told to log as.
const JSON: &[(&str, &str)] = &[
    ("RECORDER_LOG_FORMAT", "json"),
    ("RECORDER_LOG_FILTER", "info,recorder_media=debug,recorder_control=debug,spool=debug,rtmp=debug,store=debug"),
];

/// What this scene may warn of, by a part of the message: a node dies and comes back.
const EXPECTED: &[&str] = &["nobody is asked for a token", "a new key that seals stored secrets was made"];

/// Modules that are about one recording at a time.
const ABOUT_RECORDINGS: &[&str] =
    &["recorder_media::recording", "recorder_media::shipping", "recorder_media::manifest"];

/// What a recorded stream moves on the node.
const OF_A_NODE: &[&str] = &[
    names::BUILD_INFO,
    names::PUBLICATIONS,
    names::RECORDINGS,
    names::FRAMES_TOTAL,
    names::AV_OFFSET_SECONDS,
    names::MUXED_BYTES_TOTAL,
    names::SPOOL_BYTES,
    names::SPOOL_LIMIT_BYTES,
    names::SPOOL_FSYNC_SECONDS,
    names::SPOOL_UNSHIPPED_SECONDS,
    names::UPLOAD_PARTS_TOTAL,
    names::UPLOAD_PART_SECONDS,
    names::UPLOADS_OPEN,
    names::UPLOADS_STALLED,
    names::LINK_CONNECTED,
    names::FACTS_UNREPORTED,
];

/// And on the control plane.
const OF_A_CONTROL_PLANE: &[&str] = &[
    names::BUILD_INFO,
    names::API_REQUESTS_TOTAL,
    names::API_REQUEST_SECONDS,
    names::DB_QUERY_SECONDS,
    names::DIRECTIVES_VERSION,
    names::DIRECTIVE_APPLY_SECONDS,
];

/// The samples of a scrape: name and labels as written, value.
async fn scrape(process: &Process) -> BTreeMap<String, f64> {
    let (status, text) = process.get("admin", "/metrics").await.expect("metrics");
    assert_eq!(status, 200);
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| line.rsplit_once(' ').expect(line))
        .map(|(name, value)| (name.into(), value.parse().expect(value)))
        .collect()
}

/// The metric that a sample belongs to.
fn base(sample: &str) -> &str {
    let name = sample.split('{').next().unwrap_or_default();
    let of_histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
    let is_histogram =
        |base: &&str| names::ALL.iter().any(|metric| metric.name == *base && metric.kind == Kind::Histogram);
    of_histogram.filter(is_histogram).unwrap_or(name)
}

/// The label names of a sample.
fn labels(sample: &str) -> Vec<&str> {
    let inside = sample.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
    let pairs = inside.split(',').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split('=').next().unwrap_or_default()).filter(|label| *label != "le").collect()
}

/// Every sample has a published name and its labels; everything that had to move is there.
fn check_metrics(samples: &BTreeMap<String, f64>, wanted: &[&str]) {
    for sample in samples.keys() {
        let metric = names::ALL.iter().find(|metric| metric.name == base(sample));
        let metric = metric.unwrap_or_else(|| panic!("{sample} is in no dictionary"));
        assert!(labels(sample).iter().all(|label| metric.labels.contains(label)), "{sample}: {:?}", metric.labels);
    }
    for name in wanted {
        assert!(samples.keys().any(|sample| base(sample) == *name), "no {name} in {:#?}", samples.keys());
    }
}

/// Every line is JSON; a warning is one of those expected; a line about a recording has its id. Gives how many lines
/// were about one.
fn check_log(process: &Process) -> usize {
    let text = process.log_text();
    for secret in recorder_tests::stage::SECRETS {
        assert!(!text.contains(secret), "a secret is in the log");
    }
    let mut about_recordings = 0;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |field: &str| line[field].as_str().unwrap_or_default();
        let (message, target) = (text("message"), text("target"));
        if matches!(text("level"), "WARN" | "ERROR") {
            assert!(EXPECTED.iter().any(|expected| message.contains(expected)), "unexpected: {line}");
        }
        if ABOUT_RECORDINGS.iter().any(|module| target.starts_with(module)) || message.starts_with("recording") {
            assert!(line["recording"].as_str().is_some_and(is_recording), "no id: {line}");
            about_recordings += 1;
        }
    }
    about_recordings
}

/// A ULID, or the name of a recording.
fn is_recording(text: &str) -> bool {
    ulid::Ulid::from_string(text.trim_start_matches("recordings/")).is_ok()
}

/// Reliability test 37.
#[tokio::test(flavor = "multi_thread")]
async fn metric_and_log_contract() {
    let mut stage = Stage::start_with(seeds(1)[0], JSON, JSON).await;
    let domain = stage.template("all", all_formats()).await;
    let footage = Footage::encode_padded(&Source { seconds: 4, ..Default::default() }, stage.cluster.folder(), 0);
    let address = stage.cluster.rtmp(1).to_owned();
    let mut publisher = Publisher::new(&domain, "cam", 1, &footage);
    publisher.connect(1, &address).await.unwrap();
    wait::until("frames to be sent", async || (publisher.frames(TrackKind::Video) >= 60).then_some(())).await;
    stage.random_pause(Duration::ZERO, Duration::from_secs(2)).await;
    stage.kill_node(1);
    publisher.broken().await;
    let before = publisher.frames(TrackKind::Video);
    stage.cluster.start_node(1).await;
    publisher.connect(1, &address).await.unwrap();
    wait::until("more frames", async || (publisher.frames(TrackKind::Video) >= before + 75).then_some(())).await;
    publisher.leave().await;
    let told = stage.outcome(&domain, "cam", 2).await;
    stage.verify(&publisher, &told, &["AAC", "FLV", "HLS", "MP4"]).assert_clean("cam");

    let node = scrape(&stage.cluster.nodes[0]).await;
    check_metrics(&node, OF_A_NODE);
    check_metrics(&scrape(stage.cluster.control.as_ref().unwrap()).await, OF_A_CONTROL_PLANE);
    let value = |sample: &str| *node.get(sample).unwrap_or_else(|| panic!("no {sample}"));
    // The process that followed the crash counts from its own start.
    let frames = publisher.frames(TrackKind::Video) - before;
    assert_eq!(value("recorder_frames_total{kind=\"video\"}") as usize, frames);
    for format in ["aac", "flv", "hls", "mp4"] {
        assert!(value(&format!("recorder_muxed_bytes_total{{format=\"{format}\"}}")) > 10_000.0, "{format}");
    }
    assert!(value("recorder_av_offset_seconds_sum") / value("recorder_av_offset_seconds_count") < 0.1);
    assert_eq!(value("recorder_link_connected") as u64, 1);
    assert_eq!(value("recorder_uploads_open") as u64, 0);

    assert!(check_log(&stage.cluster.nodes[0]) > 3);
    check_log(stage.cluster.control.as_ref().unwrap());
}
