//! Many cheap real-time RTMP publishers in one process, for benchmarks and for streams that must stay untouched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rtmp::client::{Client, payload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// What each publisher sends.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Video frames per second.
    pub frame_rate: u32,
    /// Bytes of a key frame.
    pub key_bytes: usize,
    /// Bytes of another frame.
    pub frame_bytes: usize,
    /// Frames between key frames.
    pub gop: u32,
    /// Bytes of an audio frame, sent 43 times a second.
    pub audio_bytes: usize,
}

impl Default for Profile {
    /// 2.5 Mbit/s: 30 frames a second, a key frame every two seconds, 128 kbit/s of sound.
    fn default() -> Self {
        Self { frame_rate: 30, key_bytes: 60_000, frame_bytes: 9_050, gop: 60, audio_bytes: 372 }
    }
}

/// Running publishers.
pub struct Load {
    tasks: JoinSet<()>,
    stopping: Arc<AtomicBool>,
    frames: Arc<AtomicU64>,
}

impl Load {
    /// Connects `count` publishers and returns once all of them publish. They are spread over one frame interval.
    pub async fn start(address: &str, domain: &str, count: usize, profile: Profile) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let frames = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let socket = connect(address, domain, &format!("load{number}")).await;
            let offset = Duration::from_millis(33) * number as u32 / count as u32;
            let (stopping, frames) = (Arc::clone(&stopping), Arc::clone(&frames));
            tasks.spawn(async move {
                tokio::time::sleep(offset).await;
                publish(socket, number, profile, &stopping, &frames).await;
            });
        }
        Self { tasks, stopping, frames }
    }

    /// Media frames sent so far by all publishers.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Unpublishes all of them.
    pub async fn stop(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A connection that may publish now, at a chunk size of 4096.
pub async fn connect(address: &str, domain: &str, stream: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.expect("connect");
    socket.set_nodelay(true).expect("nodelay");
    let mut client = Client::new();
    let url = format!("rtmp://{domain}/live");
    socket.write_all(&client.start("live", &url, stream)).await.expect("start");
    let mut heard = Vec::new();
    while !contains(&heard, b"NetStream.Publish.Start") {
        let mut bytes = [0; 4096];
        let read = socket.read(&mut bytes).await.expect("answer");
        assert!(read > 0, "{stream} was refused: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&bytes[..read]);
    }
    socket.write_all(&client.set_chunk_size(4096)).await.expect("chunk size");
    socket
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

async fn publish(mut socket: TcpStream, number: usize, profile: Profile, stopping: &AtomicBool, frames: &AtomicU64) {
    let mut client = Client::new();
    client.set_chunk_size(4096);
    let stream = format!("load{number}");
    let mut headers = client.video(0, &payload::avc_header(payload::AVC_RECORD));
    headers.extend(client.audio(0, &payload::aac_header(payload::ASC)));
    if socket.write_all(&headers).await.is_err() {
        return;
    }
    let key = payload::avc_frame(true, 0, profile.key_bytes);
    let other = payload::avc_frame(false, 0, profile.frame_bytes);
    let sound = payload::aac_frame(profile.audio_bytes);
    let mut tick = tokio::time::interval_at(Instant::now(), Duration::from_secs(1) / profile.frame_rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut video, mut audio) = (0_u64, 0_u64);
    while !stopping.load(Ordering::Relaxed) {
        tick.tick().await;
        let time = video * 1_000 / u64::from(profile.frame_rate);
        let body = if video.is_multiple_of(u64::from(profile.gop)) { &key } else { &other };
        video += 1;
        let mut sent = 1;
        if socket.write_all(&client.video(time as u32, body)).await.is_err() {
            return;
        }
        while audio * 1_024_000 / 44_100 <= time {
            let at = (audio * 1_024_000 / 44_100) as u32;
            audio += 1;
            sent += 1;
            if socket.write_all(&client.audio(at, &sound)).await.is_err() {
                return;
            }
        }
        frames.fetch_add(sent, Ordering::Relaxed);
    }
    let _ = socket.write_all(&client.unpublish(&stream)).await;
    let _ = socket.shutdown().await;
}
