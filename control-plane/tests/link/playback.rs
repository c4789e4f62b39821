//! Signed URLs: what they open, for how long, and nothing else.
use std::time::Duration;

use recorder_proto::pb::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use super::control::{Control, on_each, on_each_with, refused};
use super::node::Node;
use super::story::Story;

/// Status line, headers in lower case, and body.
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn get(url: &str, range: Option<&str>) -> Answer {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut connection = TcpStream::connect(host).await.unwrap();
    let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n{range}Connection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).await.unwrap();
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let headers = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = bytes[head + 4..].to_vec();
    if headers.contains("transfer-encoding: chunked") {
        let text = String::from_utf8_lossy(&body).into_owned();
        body = text.split("\r\n").skip(1).step_by(2).collect::<String>().into_bytes();
    }
    Answer { status, headers, body }
}

async fn playback(control: &Control, name: &str, seconds: i64) -> v1::GeneratePlaybackUrlResponse {
    let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
    let request = v1::GeneratePlaybackUrlRequest { name: name.into(), ttl };
    control.recordings().generate_playback_url(request).await.unwrap().into_inner()
}

fn put(control: &Control, key: &str, text: &str) {
    let path = control.library().join(key);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_file_of_the_library_plays_by_range_until_its_url_ends() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        put(&control, &story.key(0), "0123456789");
        put(&control, &story.key(1), "another");
        let facts = vec![story.started(), story.opened(0)];
        node.report(facts).await;
        let name = format!("{}/files/mp4-0", story.name());
        let request = v1::GeneratePlaybackUrlRequest { name: name.clone(), ttl: None };
        let problem = refused(control.recordings().generate_playback_url(request).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, "FILE_NOT_AVAILABLE"));
        let facts = vec![story.ended(1), story.available(0)];
        node.report(facts).await;

        let made = playback(&control, &name, 60).await;
        assert_eq!(made.expire_time.unwrap().seconds, super::control::START + 60);
        let part = get(&made.url, Some("bytes=2-4")).await;
        assert_eq!((part.status, part.text().as_str()), (206, "234"), "{}", part.headers);
        assert!(part.headers.contains("content-type: video/mp4"), "{}", part.headers);
        assert!(part.headers.contains("content-range: bytes 2-4/10"), "{}", part.headers);
        assert_eq!(get(&made.url, None).await.text(), "0123456789");
        let first = playback(&control, &story.name(), 60).await;
        assert_eq!(first.url, made.url, "the recording's first playable file");

        let (until, later) = (made.expire_time.unwrap().seconds, super::control::START + 6_000);
        for tampered in [
            made.url.replace("-0.mp4", "-1.mp4"),
            made.url.replace("/library/", "/other/"),
            made.url.replace(&until.to_string(), &later.to_string()),
            made.url.split_once("&signature").unwrap().0.to_owned(),
            made.url.split_once('?').unwrap().0.to_owned(),
            format!("{}A", made.url),
        ] {
            let refused = get(&tampered, None).await;
            assert_eq!(refused.status, 403, "{tampered}");
            assert!(refused.text().contains("signature of this URL is wrong"), "{}", refused.text());
        }
        control.clock.advance(Duration::from_secs(60));
        let expired = get(&made.url, None).await;
        assert_eq!(expired.status, 403);
        assert!(expired.text().contains("expired"), "{}", expired.text());
    });
}

#[test]
fn a_playlist_comes_with_every_entry_signed_for_as_long() {
    on_each_with(&["--playback-url", "http://play.example.com/rec/"], async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let key = story.playlist_key();
        let folder = key.strip_suffix("/index.m3u8").unwrap().to_owned();
        put(&control, &key, "#EXTM3U\n#EXTINF:2,\n0.ts\n#EXTINF:2,\n1.ts\n#EXT-X-ENDLIST\n");
        put(&control, &format!("{folder}/0.ts"), "first");
        let facts = vec![story.started(), story.playlist_opened(), story.ended(0), story.playlist_available()];
        node.report(facts).await;
        let made = playback(&control, &story.name(), 600).await;
        let path = made.url.strip_prefix("http://play.example.com/rec").expect("what the operator says it begins with");
        let base = format!("http://{}", control.playback);
        let playlist = get(&format!("{base}{path}"), None).await;
        assert_eq!(playlist.status, 200);
        assert!(playlist.headers.contains("content-type: application/vnd.apple.mpegurl"), "{}", playlist.headers);
        let text = playlist.text();
        let entries: Vec<&str> = text.lines().filter(|line| line.contains(".ts")).collect();
        assert_eq!(entries.len(), 2, "{text}");
        let beside = path.rsplit_once('/').unwrap().0;
        let first = get(&format!("{base}{beside}/{}", entries[0]), None).await;
        assert_eq!((first.status, first.text().as_str()), (200, "first"));
        assert!(first.headers.contains("content-type: video/mp2t"), "{}", first.headers);
        let missing = get(&format!("{base}{beside}/{}", entries[1]), None).await;
        assert_eq!(missing.status, 404);
        let swapped = entries[0].replace("0.ts", "1.ts");
        assert_eq!(get(&format!("{base}{beside}/{swapped}"), None).await.status, 403);
    });
}

#[test]
fn what_cannot_be_played_is_refused_with_the_field() {
    on_each(async |control| {
        let ask = async |name: &str, seconds: i64| {
            let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
            refused(
                control
                    .recordings()
                    .generate_playback_url(v1::GeneratePlaybackUrlRequest { name: name.into(), ttl })
                    .await,
            )
        };
        let unknown = Story::new("push.example.com", "cam1").name();
        for (seconds, name) in [(604_801, unknown.as_str()), (-1, unknown.as_str()), (60, "recordings/x"), (60, "")] {
            let problem = ask(name, seconds).await;
            let field = if seconds == 60 { "name" } else { "ttl" };
            assert_eq!((problem.code, problem.fields[0].field.as_str()), (Code::InvalidArgument, field), "{problem}");
        }
        assert_eq!(ask(&unknown, 604_800).await.reason, "RECORDING_NOT_FOUND");
        assert_eq!(ask(&format!("{unknown}/files/mp4-0"), 1).await.reason, "FILE_NOT_FOUND");
    });
}
