//! H.265, AV1 and VP9 over Enhanced RTMP: the packets that were published are in the files, in every format that carries
//! them. Published and judged by ffmpeg's own muxers, a newer one where Debian's does not know Enhanced RTMP.

use std::path::{Path, PathBuf};
use std::process::Command;

use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::probe::{self, Packets};
use recorder_tests::publisher::{ffmpeg, run};
use recorder_tests::scene::{Clients, all_formats, library_path};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";
const H265: &[&str] =
    &["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=50:bframes=3"];
const AV1: &[&str] = &["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-g", "50"];
const VP9: &[&str] = &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "50"];

/// Four seconds of test pictures and a tone in MP4.
fn source(folder: &Path, encoder: &[&str]) -> PathBuf {
    let path = folder.join("source.mp4");
    let mut command = ffmpeg();
    command.args(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=f=440:r=44100"]);
    command.args(["-t", "4", "-pix_fmt", "yuv420p"]).args(encoder).args(["-c:a", "aac"]).arg(&path);
    run(&mut command);
    path
}

fn remux(from: &Path, to: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join(".tools/python/bin/python");
    assert!(python.exists(), "{} is missing: run `.ci/install test` first", python.display());
    run(Command::new(python).arg(root.join("tests/tools/remux.py")).arg(from).arg(to));
}

/// The packets of a file; FLV is copied into an MP4 first, by the newer ffmpeg.
fn packets(path: &Path) -> Packets {
    let filters = if probe::describe(path, "stream=codec_name").contains("hevc") {
        "hevc_mp4toannexb,filter_units=remove_types=32-35|39"
    } else {
        "null"
    };
    probe::packets_of(path, filters)
}

type Files = Vec<(&'static str, Vec<v1::File>)>;

async fn publish(encoder: &[&str], template: v1::Template, state: State) -> (Cluster, PathBuf, v1::Recording, Files) {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("all", template).await;
    clients.bind("all", DOMAIN).await;
    let source = source(cluster.folder(), encoder);
    let (from, url) = (source.clone(), cluster.rtmp_url(DOMAIN, "cam1"));
    tokio::task::spawn_blocking(move || remux(&from, &url)).await.unwrap();
    let recording = clients.wait_for(DOMAIN, "cam1", 1, state).await.remove(0);
    assert!(recording.gaps.is_empty(), "{:?}", recording.gaps);
    let files = clients.files(&recording).await.into_iter().collect();
    (cluster, source, recording, files)
}

/// Every format has what was published, packet by packet; `codec` is what the API calls it. Without a picture, only sound.
fn judge(cluster: &Cluster, source: &Path, files: &Files, codec: &str, without: &[&str]) {
    let sent = packets(source);
    assert_eq!(sent.video.len(), 100);
    for (format, files) in files {
        assert_eq!(files.len(), 1, "{format}");
        let video = files[0].video.clone().map(|video| (video.codec, video.width, video.height));
        let mut path = library_path(cluster, &files[0]);
        if without.contains(format) {
            assert_eq!(video, None, "{format}");
            probe::decodes(&path);
            probe::assert_same(&sent.audio, &packets(&path).audio, format);
            continue;
        }
        assert_eq!(video, Some((codec.to_owned(), 320, 180)), "{format}");
        if *format == "FLV" {
            let judged = cluster.folder().join("judged.mp4");
            remux(&path, &judged.display().to_string());
            path = judged;
        }
        probe::decodes(&path);
        probe::assert_same_media(&sent, &packets(&path), format);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e13_h265_over_enhanced_rtmp_is_the_same_in_every_format() {
    let template = v1::Template { aac: None, ..all_formats() };
    let (cluster, source, _, files) = publish(H265, template, State::Succeeded).await;
    assert_eq!(files.iter().map(|(format, _)| *format).collect::<Vec<_>>(), ["FLV", "HLS", "MP4"]);
    judge(&cluster, &source, &files, "hevc", &[]);
}

/// HLS, which carries no AV1, has the sound.
#[tokio::test(flavor = "multi_thread")]
async fn e13_av1_over_enhanced_rtmp_is_the_same_in_flv_and_mp4() {
    let template = v1::Template { aac: None, ..all_formats() };
    let (cluster, source, _, files) = publish(AV1, template, State::Succeeded).await;
    assert_eq!(files.iter().map(|(format, _)| *format).collect::<Vec<_>>(), ["FLV", "HLS", "MP4"]);
    judge(&cluster, &source, &files, "av1", &["HLS"]);
}

/// HLS, which carries no VP9 and has no sound to record, has no file and says why.
#[tokio::test(flavor = "multi_thread")]
async fn e13_vp9_over_enhanced_rtmp_is_the_same_in_flv_and_mp4_and_hls_says_why_not() {
    let template = v1::Template { aac: None, ..all_formats() };
    let encoder = [VP9, &["-an"]].concat();
    let (cluster, source, recording, files) = publish(&encoder, template, State::Incomplete).await;
    let error = Problem::from(recording.error.as_ref().unwrap());
    assert_eq!(error.reason, "CODEC_NOT_CARRIED", "{error:?}");
    assert_eq!(files.iter().map(|(format, _)| *format).collect::<Vec<_>>(), ["FLV", "MP4"]);
    judge(&cluster, &source, &files, "vp9", &[]);
}
