//! `library.open = false`: the nodes serve no file of the library, and signed URLs of the control plane still play.

use std::path::Path;

use recorder_proto::pb::v1;
use recorder_tests::publisher::{Source, push_file};
use recorder_tests::scene::{Clients, all_formats, library_path, recorded};
use recorder_tests::{probe, wait, whip};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";

async fn playback(clients: &mut Clients, name: &str, seconds: i64) -> String {
    let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
    let request = v1::GeneratePlaybackUrlRequest { name: name.into(), ttl };
    clients.recordings.generate_playback_url(request).await.unwrap().into_inner().url
}

async fn get(url: &str, headers: &[(&str, &str)]) -> whip::Reply {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    whip::request(host, "GET", &format!("/{path}"), headers, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_library_plays_by_signed_urls_alone() {
    for open in [true, false] {
        let settings = [("RECORDER_LIBRARY_OPEN", if open { "true" } else { "false" })];
        let (cluster, mut clients) = recorded(DOMAIN, all_formats(), &settings).await;
        let source = Source { seconds: 3, ..Default::default() }.generate(cluster.folder());
        push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
        let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
        let sent = probe::packets(&source);
        let mut short = Vec::new();
        for (format, files) in clients.files(&recording).await {
            let file = &files[0];
            let bytes = std::fs::read(library_path(&cluster, file)).unwrap();
            let door = format!("{}/library/{}", cluster.nodes[0].url("http"), file.object_key);
            assert_eq!(
                get(&door, &[]).await.status,
                if open { 200 } else { 404 },
                "{format} at the node, open: {open}"
            );
            let url = playback(&mut clients, &file.name, 600).await;
            assert_ne!(url.split('/').nth(2), door.split('/').nth(2), "from the control plane");
            let unsigned = url.split_once('?').unwrap().0;
            assert_eq!(get(unsigned, &[]).await.status, 403, "{format} without a signature");
            if format != "HLS" {
                let part = get(&url, &[("range", "bytes=3-9")]).await;
                assert_eq!(part.status, 206, "{format}");
                let range = format!("bytes 3-9/{}", bytes.len());
                assert_eq!(part.header("content-range"), range, "{format}");
            }
            let mut expected = sent.clone();
            if format == "AAC" {
                expected.video.clear();
            }
            probe::assert_same_media(&expected, &probe::packets(Path::new(&url)), format);
            short.push((format, playback(&mut clients, &file.name, 1).await));
        }
        for (format, url) in short {
            let ended = async || (get(&url, &[]).await.status == 403).then_some(());
            wait::until(&format!("the URL of {format} to end"), ended).await;
        }
    }
}
