//! Files are cut where the template says, at key frames, and consecutive files join without a lost or doubled frame.
//!
//! The API's shortest file is 60 s; media is pushed faster than real time, so nobody waits for minutes.

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::probe;
use recorder_tests::publisher::{Source, Tracks, push_file};
use recorder_tests::scene::{Clients, library_path};
use v1::recording::State;
use v1::template::{Aac, Flv, Hls, Mp4, aac};

const DOMAIN: &str = "push.example.com";
const MINUTE: prost_types::Duration = prost_types::Duration { seconds: 60, nanos: 0 };

fn one_minute_files() -> v1::Template {
    v1::Template {
        hls: Some(Hls { max_file_duration: Some(MINUTE), ..Default::default() }),
        flv: Some(Flv { max_file_duration: Some(MINUTE), ..Default::default() }),
        mp4: Some(Mp4 { max_file_duration: Some(MINUTE), ..Default::default() }),
        aac: Some(Aac { max_file_duration: Some(MINUTE), when: aac::When::Always.into(), ..Default::default() }),
        ..Default::default()
    }
}

/// R24, R26, R27, R28: 130 s in files of one minute.
async fn r24_r28_files_join(tracks: Tracks, b_frames: u32) {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("minute", one_minute_files()).await;
    clients.bind("minute", DOMAIN).await;
    let source = Source { tracks, seconds: 130, kilobits: 200, gop: 75, b_frames }.generate(cluster.folder());
    push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let sent = probe::packets(&source);
    for (format, files) in clients.files(&recording).await {
        assert_eq!(files.iter().map(|file| file.index).collect::<Vec<_>>(), [0, 1, 2], "{format}");
        let mut joined = probe::Packets::default();
        for file in &files {
            let path = library_path(&cluster, file);
            probe::decodes(&path);
            let packets = probe::packets(&path);
            let seconds = file.duration.as_ref().unwrap().seconds;
            // Key frames come every 2.5 s, so a cut is at most that late.
            let expected = if file.index < 2 { 60..=63 } else { 4..=11 };
            assert!(expected.contains(&seconds), "{format} file {}: {seconds} s", file.index);
            joined.video.extend(packets.video);
            joined.audio.extend(packets.audio);
        }
        let hashes = |packets: &[probe::Packet]| packets.iter().map(|packet| packet.hash.clone()).collect::<Vec<_>>();
        if format != "AAC" {
            assert_eq!(hashes(&joined.video), hashes(&sent.video), "{format}");
        }
        assert_eq!(hashes(&joined.audio), hashes(&sent.audio), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_r28_picture_and_sound() {
    r24_r28_files_join(Tracks::Both, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_r28_sound_only() {
    r24_r28_files_join(Tracks::Audio, 0).await;
}

/// R24: segmentation off makes one playlist; its segments are 10 s and together hold every frame.
#[tokio::test(flavor = "multi_thread")]
async fn r24_segmentation_off_is_one_playlist_of_ten_second_segments() {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("hls", v1::Template { hls: Some(Hls::default()), ..Default::default() }).await;
    clients.bind("hls", DOMAIN).await;
    let source = Source { seconds: 65, kilobits: 200, gop: 60, ..Default::default() }.generate(cluster.folder());
    push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let files = clients.files(&recording).await;
    assert_eq!(files["HLS"].len(), 1);
    let path = library_path(&cluster, &files["HLS"][0]);
    let text = std::fs::read(&path).unwrap();
    let (_, playlist) = m3u8_rs::parse_media_playlist(&text).unwrap();
    assert!(playlist.end_list);
    let durations: Vec<f32> = playlist.segments.iter().map(|segment| segment.duration).collect();
    assert_eq!(durations.len(), 7, "{durations:?}");
    let longest = playlist.segments.iter().map(|segment| segment.duration).fold(0.0, f32::max);
    assert!(longest <= playlist.target_duration as f32, "{longest} > {}", playlist.target_duration);
    for segment in &playlist.segments[..6] {
        assert!((segment.duration - 10.0).abs() < 0.1, "{}", segment.duration);
    }
    probe::assert_same_media(&probe::packets(&source), &probe::packets(&path), "HLS");
}
