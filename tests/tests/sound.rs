//! Opus comes in, and every format has its sound: in its place, from the first beep to the last.

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::opus::{Ends, FlashAndBeep, LENGTH, ends};
use recorder_tests::probe;
use recorder_tests::scene::{Clients, all_formats, all_formats_waiting, library_path, recorded};
use v1::recording::State;
use v1::template::AudioMode;

const DOMAIN: &str = "push.example.com";
/// Faster than real time, so that tests are short.
const PACE: f64 = 3.0;

async fn scene(template: v1::Template) -> (Cluster, Clients) {
    recorded(DOMAIN, template, &[]).await
}

/// Every flash has its beep.
fn assert_in_sync(found: &Ends, count: usize, what: &str) {
    assert_eq!((found.flashes.len(), found.beeps.len()), (count, count), "{what}: {found:?}");
    let offsets = found.offsets();
    assert!(offsets.iter().all(|offset| offset.abs() <= 0.02), "{what}: sound is off by {offsets:?} s");
}

/// R42, R43, R44: the vendor loses the sound of WebRTC in FLV, and the first two seconds of what it transcodes.
#[tokio::test(flavor = "multi_thread")]
async fn r42_opus_is_heard_in_every_format_from_the_first_beep_to_the_last() {
    let (cluster, mut clients) = scene(all_formats()).await;
    let source = FlashAndBeep::encode(cluster.folder(), 6);
    source.publish(cluster.rtmp(1), DOMAIN, "cam1", PACE).await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let files = clients.files(&recording).await;
    for (format, files) in &files {
        assert_eq!(files.len(), 1, "{format}");
        let audio = files[0].audio.clone().unwrap_or_else(|| panic!("{format} has no sound"));
        assert_eq!((audio.codec.as_str(), audio.sample_rate, audio.channels), ("aac", 48_000, 2), "{format}");
        assert!(audio.transcoded, "{format}");
        let path = library_path(&cluster, &files[0]);
        probe::decodes(&path);
        let found = ends(&path, *format != "AAC");
        if *format == "AAC" {
            assert_eq!(found.beeps.len(), 6, "{found:?}");
            // A frame of nothing, for decoders to start from, is in front of the first beep.
            assert!((found.beeps[0] - LENGTH - 1_024.0 / 48_000.0).abs() < 0.015, "{found:?}");
        } else {
            assert_in_sync(&found, 6, format);
        }
    }
    assert_eq!(files.len(), 4);
}

/// The template decides: what a container carries is copied, the others go without.
#[tokio::test(flavor = "multi_thread")]
async fn opus_is_copied_where_the_template_asks_for_it() {
    let (cluster, mut clients) =
        scene(v1::Template { audio: AudioMode::Copy.into(), aac: None, ..all_formats() }).await;
    let source = FlashAndBeep::encode(cluster.folder(), 4);
    source.publish(cluster.rtmp(1), DOMAIN, "cam1", PACE).await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    for (format, files) in clients.files(&recording).await {
        let path = library_path(&cluster, &files[0]);
        probe::decodes(&path);
        let audio = files[0].audio.clone().map(|audio| (audio.codec, audio.channels, audio.transcoded));
        if format == "MP4" {
            assert_eq!(audio, Some(("opus".to_owned(), 2, false)));
            assert!(probe::describe(&path, "stream=codec_name").contains("codec_name=opus"));
            assert_in_sync(&ends(&path, true), 4, format);
        } else {
            assert_eq!(audio, None, "{format}");
            let streams = probe::describe(&path, "stream=codec_type");
            assert!(streams.contains("video") && !streams.contains("audio"), "{format}: {streams}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_without_sound_leaves_it_out() {
    let (cluster, mut clients) =
        scene(v1::Template { audio: AudioMode::None.into(), aac: None, ..all_formats() }).await;
    let source = FlashAndBeep::encode(cluster.folder(), 2);
    source.publish(cluster.rtmp(1), DOMAIN, "cam1", PACE).await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let files = clients.files(&recording).await;
    assert_eq!(files.len(), 3);
    for (format, files) in files {
        let streams = probe::describe(&library_path(&cluster, &files[0]), "stream=codec_type");
        assert!(streams.contains("video") && !streams.contains("audio"), "{format}: {streams}");
    }
}

/// After a publisher that vanished and came back the encoder begins anew, in the right place of the same file.
#[tokio::test(flavor = "multi_thread")]
async fn r1_after_an_interruption_picture_and_sound_go_on_together() {
    let (cluster, mut clients) = scene(all_formats_waiting(3)).await;
    let source = FlashAndBeep::encode(cluster.folder(), 3);
    source.publish_and_vanish(cluster.rtmp(1), DOMAIN, "cam1", PACE).await;
    source.publish(cluster.rtmp(1), DOMAIN, "cam1", PACE).await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    for (format, files) in clients.files(&recording).await {
        assert_eq!(files.len(), 1, "{format}");
        let path = library_path(&cluster, &files[0]);
        probe::decodes(&path);
        if format == "FLV" || format == "MP4" {
            assert_in_sync(&ends(&path, true), 6, format);
        }
    }
}
