//! WebRTC publishers that users have, and plain HTTP against the WHIP endpoint.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::Cluster;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// The publish URL of a stream on the first node, with the push domain as a parameter.
pub fn url(cluster: &Cluster, domain: &str, stream: &str) -> String {
    format!("{}/whip/live/{stream}?domain={domain}", cluster.nodes[0].url("http"))
}

/// aiortc with a flash and a beep every second.
pub fn aiortc(url: &str, options: &[&str]) -> Command {
    let python = root().join(".tools/python/bin/python");
    assert!(python.exists(), "{} is missing: run `.ci/install test` first", python.display());
    script(&python, "whip_aiortc.py", url, options)
}

/// ffmpeg's WHIP muxer, of the libraries that aiortc brings.
pub fn ffmpeg(url: &str, options: &[&str]) -> Command {
    script(&root().join(".tools/python/bin/python"), "whip_ffmpeg.py", url, options)
}

/// GStreamer's webrtcbin with a test picture and a ticking tone. Its Python bindings are the system's.
pub fn gstreamer(url: &str, options: &[&str]) -> Command {
    script(Path::new("/usr/bin/python3"), "whip_gstreamer.py", url, options)
}

/// Headless Chromium on the node's own page: `source` is `camera` (a device that Chromium makes up) or `test`.
pub fn chromium(cluster: &Cluster, domain: &str, stream: &str, source: &str) -> Command {
    let page = format!(
        "{}/publish?app=live&stream={stream}&domain={domain}&source={source}&start=1",
        cluster.nodes[0].url("http")
    );
    let mut command = Command::new("chromium");
    let profile = format!("--user-data-dir={}", cluster.folder().join(format!("chromium-{stream}")).display());
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", &profile]);
    command.args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]);
    command.args(["--autoplay-policy=no-user-gesture-required", &page]).stdin(Stdio::null());
    command
}

fn script(python: &Path, name: &str, url: &str, options: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.arg(root().join("tests/tools").join(name)).arg(url).args(options).stdin(Stdio::null());
    command
}

/// Runs a publisher to its end; gives what it said. Panics when it failed.
pub async fn publish(mut command: Command) -> String {
    let run = move || command.output().expect("publisher starts");
    let output = tokio::task::spawn_blocking(run).await.expect("publisher");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the publisher failed: {said}\n{errors}");
    said.into_owned()
}

/// An answer as it came.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Head, lower-cased names.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Reply {
    /// A header's value; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }
}

/// One request on a connection of its own.
pub async fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    let mut socket = TcpStream::connect(address).await.expect("connect");
    // A server that refuses early may close before it has read everything.
    let _ = socket.write_all(head.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("status");
    let header = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()));
    Reply { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
}

/// An offer such as a publisher's that never connects.
pub fn offer() -> String {
    let transport = "c=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef012345\r\na=setup:actpass\r\n\
                     a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
                     a=rtcp-mux\r\na=sendonly\r\n";
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n{transport}a=rtpmap:111 opus/48000/2\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n{transport}a=rtpmap:96 H264/90000\r\n\
         a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\na=rtcp-fb:96 nack pli\r\n"
    )
}
