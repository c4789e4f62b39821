//! Tasks on streams whose sound is Opus, and in AAC for nobody before the task comes.

use std::path::Path;

use recorder_proto::pb::v1::template::AudioMode;
use recorder_tests::opus::{FlashAndBeep, ends};
use recorder_tests::webrtc::{Fate, Film, Look, Peer};

use super::*;

/// An AAC frame at 48 kHz, in seconds.
const UNIT: f64 = 1_024.0 / 48_000.0;
const SECONDS: u32 = 10;

/// A standing recording that takes the sound as it comes, and tasks that have it in AAC.
async fn scene_of_opus() -> (Cluster, Clients) {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    let hls = || Some(v1::template::Hls { segment_duration: seconds(1), ..Default::default() });
    let all = v1::Template { hls: hls(), aac: None, audio: AudioMode::Copy.into(), ..all_formats() };
    clients.template("all", all).await;
    clients.template("task", v1::Template { hls: hls(), aac: None, ..all_formats() }).await;
    clients.bind("all", DOMAIN).await;
    (cluster, clients)
}

/// Orders a task in the middle of the stream and stops it before its end. Gives when it was ordered, and what it made.
async fn order_and_stop(cluster: &Cluster, clients: &mut Clients) -> (SystemTime, v1::Recording) {
    let mut tasks = Tasks::of(cluster).await;
    media_passes(cluster, 2).await;
    let ordered = SystemTime::now();
    tasks.order("ny", v1::Task::default()).await.unwrap();
    tasks.reaches("ny", State::Running).await;
    media_passes(cluster, 6).await;
    tasks.stop("ny").await;
    let task = tasks.reaches("ny", State::Succeeded).await;
    assert_eq!(task.recordings.len(), 1, "{task:?}");
    (ordered, recording(clients, &task.recordings[0]).await)
}

/// Each format begins at a key frame not later than the order, has all the sound of its pictures, in sync, and no more.
async fn judge(
    cluster: &Cluster,
    clients: &mut Clients,
    sent: &[Packet],
    gop: usize,
    made: (SystemTime, v1::Recording),
) {
    let (ordered, made) = made;
    assert_eq!(made.end_reason(), EndReason::TaskEnded);
    let standing = clients.recordings_of(DOMAIN, "cam1").await.remove(0);
    let began = at(&standing.start_time);
    let files = clients.files(&made).await;
    assert_eq!(files.keys().copied().collect::<Vec<_>>(), ["FLV", "HLS", "MP4"]);
    for (format, files) in files {
        let [file] = &files[..] else { panic!("one {format} file: {files:?}") };
        assert!(file.object_key.contains("/cam1/ny/"), "{}", file.object_key);
        let audio = file.audio.clone().unwrap_or_else(|| panic!("{format} has no sound"));
        assert_eq!((audio.codec.as_str(), audio.transcoded), ("aac", true), "{format}");
        let path = library_path(cluster, file);
        probe::decodes(&path);
        let recorded = probe::packets(&path);
        let first = part_of(sent, &recorded.video, format);
        assert!(first > 0 && first.is_multiple_of(gop), "{format}: picture {first} is no key frame");
        let received = |index: usize| began + Duration::from_secs_f64(index as f64 / 30.0);
        let slack = Duration::from_millis(300);
        assert!(received(first) <= ordered + slack, "{format}: began after the order");
        assert!(received(first + gop) + slack >= ordered, "{format}: a later key frame was there");
        let (picture, sound) = (span(&recorded.video, 1.0 / 30.0), span(&recorded.audio, UNIT));
        let offsets = offsets(&path);
        println!("{format}: from picture {first}, picture {picture:.3?}, sound {sound:.3?}, off by {offsets:.3?} s");
        assert!(
            (picture.0 - sound.0).abs() <= 2.0 * UNIT,
            "{format}: sound from {}, picture from {}",
            sound.0,
            picture.0
        );
        assert!(
            (picture.1 - sound.1).abs() <= UNIT + 0.002,
            "{format}: sound to {}, picture to {}",
            sound.1,
            picture.1
        );
        let units = (sound.1 - sound.0) / UNIT;
        assert!((units - recorded.audio.len() as f64).abs() < 0.5, "{format}: {units} of {}", recorded.audio.len());
        assert!(picture.1 - picture.0 > 3.0 && offsets.len() >= 3, "{format}: {picture:?}, {offsets:?}");
        assert!(offsets.iter().all(|offset| offset.abs() <= 0.04), "{format}: sound is off by {offsets:.3?} s");
    }
}

/// When a track begins and ends, its last packet included.
fn span(packets: &[Packet], last: f64) -> (f64, f64) {
    (packets[0].dts, packets[packets.len() - 1].dts + last)
}

/// Of flashes and beeps that both end in the file.
fn offsets(path: &Path) -> Vec<f64> {
    let found = ends(path, true);
    let whole = found.flashes.len().min(found.beeps.len());
    assert!(found.flashes.len().max(found.beeps.len()) <= whole + 1, "{found:?}");
    found.offsets().into_iter().take(whole).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_on_a_whip_stream_has_its_sound_from_its_first_key_frame_to_its_last_picture() {
    let (cluster, mut clients) = scene_of_opus().await;
    let look = Look { seconds: SECONDS, gop: GOP as u32, ..Look::default() };
    let film = Film::encode(cluster.folder(), look);
    let sent = probe::pictures(&cluster.folder().join(format!("film-320x180-{SECONDS}s.mp4")));
    let mut peer = Peer::publish(cluster.nodes[0].address("http"), DOMAIN, "cam1").await;
    let play = async {
        peer.play(&film, |_, _| Fate::Sent).await;
        peer.delete().await;
    };
    let ((), made) = tokio::join!(play, order_and_stop(&cluster, &mut clients));
    judge(&cluster, &mut clients, &sent, GOP, made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_on_an_rtmp_stream_with_opus_has_its_sound_from_its_first_key_frame_to_its_last_picture() {
    let (cluster, mut clients) = scene_of_opus().await;
    let source = FlashAndBeep::encode(cluster.folder(), SECONDS);
    let sent = probe::pictures(&cluster.folder().join(format!("flash-and-beep-{SECONDS}.mp4")));
    let publish = source.publish(cluster.rtmp(1), DOMAIN, "cam1", 1.0);
    let ((), made) = tokio::join!(publish, order_and_stop(&cluster, &mut clients));
    judge(&cluster, &mut clients, &sent, 30, made).await;
}
