//! W10: pictures in H.265, VP9, VP8 and AV1 are recorded where every format carries them, and refused with the reason
//! where one does not.

use std::process::Command;

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::opus::{LENGTH, ends};
use recorder_tests::scene::{Clients, library_path, tree};
use recorder_tests::{probe, whip};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";
/// What real publishers may be out of sync, in seconds: their own share is in it, which encoders in software make larger
/// than that of `publishers` (webrtcbin's VP9: up to 40 ms).
const OFF: f64 = 0.06;

fn mp4_and(hls: bool) -> v1::Template {
    let aac = v1::template::Aac { when: v1::template::aac::When::Always.into(), ..Default::default() };
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let hls = hls.then(|| v1::template::Hls { segment_duration: second, ..Default::default() });
    v1::Template { mp4: Some(v1::template::Mp4::default()), aac: Some(aac), hls, ..Default::default() }
}

async fn scene(template: v1::Template, settings: &[(&str, &str)]) -> (Cluster, Clients) {
    let cluster = Cluster::with_settings(settings).await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("chosen", template).await;
    clients.bind("chosen", DOMAIN).await;
    (cluster, clients)
}

/// What a publisher that is turned away says.
async fn refused(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Every file decodes cleanly, is of this codec, has the first beep, and its flashes belong to its beeps.
async fn judge(cluster: &Cluster, clients: &mut Clients, recording: &v1::Recording, codec: &str, least: usize) {
    assert!(recording.gaps.is_empty(), "{:?}", recording.gaps);
    for (format, files) in clients.files(recording).await {
        assert_eq!(files.len(), 1, "{format}");
        let path = library_path(cluster, &files[0]);
        probe::decodes(&path);
        let has_picture = format != "AAC";
        let (packets, found) = (probe::packets_of(&path, "null"), ends(&path, has_picture));
        let first = packets.audio[0].dts;
        println!("{format}: {} pictures, off by {:.3?} s", packets.video.len(), found.offsets());
        assert!((found.beeps[0] - first - LENGTH).abs() < 0.06, "{format}: {found:?} from {first}");
        assert!(found.beeps.len() >= 5, "{format}: {found:?}");
        if has_picture {
            let video = files[0].video.clone().map(|video| (video.codec, video.width, video.height));
            assert_eq!(video, Some((codec.to_owned(), 320, 180)), "{format}");
            assert!(probe::describe(&path, "stream=codec_name").contains(codec), "{format}");
            assert!(packets.video.len() >= least, "{format}: {}", packets.video.len());
            // Where the publisher stops, its last beep may have left before the picture that belongs to it.
            let (flashes, beeps) = (found.flashes.len(), found.beeps.len());
            assert!(flashes == beeps || flashes + 1 == beeps, "{format}: {found:?}");
            assert!(found.offsets().iter().all(|offset| offset.abs() <= OFF), "{format}: {:.3?}", found.offsets());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w10_gstreamers_h265_is_recorded_in_mp4_and_hls() {
    let (cluster, mut clients) = scene(mp4_and(true), &[]).await;
    whip::publish(whip::gstreamer(&whip::url(&cluster, DOMAIN, "cam"), &["--seconds", "6", "--codec", "h265"])).await;
    let recording = clients.wait_for(DOMAIN, "cam", 1, State::Succeeded).await.remove(0);
    assert_eq!(clients.files(&recording).await.keys().copied().collect::<Vec<_>>(), ["AAC", "HLS", "MP4"]);
    judge(&cluster, &mut clients, &recording, "hevc", 150).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w10_gstreamers_vp9_and_vp8_are_recorded_in_mp4() {
    let (cluster, mut clients) = scene(mp4_and(false), &[]).await;
    for codec in ["vp9", "vp8"] {
        let url = whip::url(&cluster, DOMAIN, codec);
        whip::publish(whip::gstreamer(&url, &["--seconds", "6", "--codec", codec])).await;
        let recording = clients.wait_for(DOMAIN, codec, 1, State::Succeeded).await.remove(0);
        judge(&cluster, &mut clients, &recording, codec, 150).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w10_aiortcs_vp8_is_recorded_in_mp4() {
    let (cluster, mut clients) = scene(mp4_and(false), &[]).await;
    let said = whip::publish(whip::aiortc(&whip::url(&cluster, DOMAIN, "cam"), &["--seconds", "6", "--vp8"])).await;
    let sent: usize =
        said.lines().find_map(|line| line.strip_prefix("sent ")?.split(' ').next()?.parse().ok()).unwrap();
    let recording = clients.wait_for(DOMAIN, "cam", 1, State::Succeeded).await.remove(0);
    judge(&cluster, &mut clients, &recording, "vp8", sent - 3).await;
}

/// Browsers send key frames only when asked: that they are asked is what makes segments and files.
#[tokio::test(flavor = "multi_thread")]
async fn w10_chromiums_vp9_vp8_and_av1_are_recorded_in_mp4() {
    let template = v1::Template {
        mp4: Some(v1::template::Mp4 { layout: v1::template::mp4::Layout::Fragmented.into(), ..Default::default() }),
        ..Default::default()
    };
    let (cluster, mut clients) = scene(template, &[("RECORDER_WHIP_IDLE_TIMEOUT", "3s")]).await;
    for (codec, name) in [("VP9", "vp9"), ("VP8", "vp8"), ("AV1", "av1")] {
        let browser = whip::chromium(&cluster, DOMAIN, name, &format!("test&codec={codec}"));
        let mut closed = Command::new("timeout");
        closed.args(["--signal=KILL", "14"]).arg(browser.get_program()).args(browser.get_args());
        tokio::task::spawn_blocking(move || closed.output()).await.unwrap().unwrap();
        let recording = clients.wait_for(DOMAIN, name, 1, State::Succeeded).await.remove(0);
        let files = clients.files(&recording).await.remove("MP4").unwrap();
        assert_eq!(files.len(), 1, "{name}");
        let path = library_path(&cluster, &files[0]);
        probe::decodes(&path);
        let video = files[0].video.clone().map(|video| (video.codec, video.width, video.height));
        assert_eq!(video, Some((name.to_owned(), 640, 360)));
        let (packets, found) = (probe::packets_of(&path, "null"), ends(&path, true));
        let first = packets.audio[0].dts;
        let found = found.between(first + 0.15, packets.audio.last().unwrap().dts - 0.5);
        println!("{name}: {} pictures, off by {:.3?} s", packets.video.len(), found.offsets());
        assert!(packets.video.len() >= 45 && found.beeps.len() >= 4, "{name}: {found:?}");
        assert_eq!(found.flashes.len(), found.beeps.len(), "{name}: {found:?}");
        assert!(found.offsets().iter().all(|offset| offset.abs() <= OFF), "{name}: {:.3?}", found.offsets());
    }
}

/// HLS as it is recorded, in transport streams, carries none of them.
#[tokio::test(flavor = "multi_thread")]
async fn w10_a_publisher_whose_picture_a_format_cannot_carry_is_told_which_and_why() {
    let (cluster, mut clients) = scene(mp4_and(true), &[]).await;
    let said = refused(whip::aiortc(&whip::url(&cluster, DOMAIN, "vp8"), &["--seconds", "3", "--vp8"])).await;
    let reason = "VP8 cannot be carried by HLS (TS segments), which this stream is recorded in";
    assert!(said.contains("refused 422") && said.contains(reason), "{said}");
    assert!(said.contains("H.264 and H.265 are taken") && !said.contains("MP4"), "{said}");
    let said =
        refused(whip::gstreamer(&whip::url(&cluster, DOMAIN, "vp9"), &["--seconds", "3", "--codec", "vp9"])).await;
    assert!(said.contains("refused 422") && said.contains("VP9 cannot be carried by HLS"), "{said}");
    for stream in ["vp8", "vp9"] {
        assert!(clients.recordings_of(DOMAIN, stream).await.is_empty(), "nobody was let in");
    }
    assert!(tree(&cluster.library()).is_empty());
}
