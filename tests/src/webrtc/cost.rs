//! `make bench`, the WHIP part: what a stream that is published over WHIP and recorded to FLV costs the node, and where.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rtc::srtp::protection_profile::ProtectionProfile;
use tokio::task::JoinSet;

use super::stages::{self, Server};
use super::{Fate, Film, Look, Peer};
use crate::cluster::Cluster;

/// The stream: 2.5 Mbit/s of 720p30 with a key frame every two seconds, and 96 kbit/s of stereo Opus.
const LOOK: Look = Look { size: (1280, 720), seconds: 10, kilobits: 2_400, gop: 60, music: true };
/// Streams pass their start gate and open their files before the window begins.
const SETTLE: Duration = Duration::from_secs(5);

/// Publishers in this process, until they are dropped.
struct Peers {
    tasks: JoinSet<()>,
    stopping: Arc<AtomicBool>,
}

impl Peers {
    /// They play the film again and again, spread over one picture's time.
    fn start(peers: Vec<Peer>, film: &Arc<Film>) -> Self {
        let (stopping, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let count = u32::try_from(peers.len()).expect("a few").max(1);
        for (number, mut peer) in (0..).zip(peers) {
            let (film, stopping) = (Arc::clone(film), Arc::clone(&stopping));
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(33) * number / count).await;
                while !stopping.load(Ordering::Relaxed) && !peer.is_closed() {
                    peer.play(&film, |_, _| fate(&stopping)).await;
                }
            });
        }
        Self { tasks, stopping }
    }

    fn check(&mut self) {
        assert!(self.tasks.try_join_next().is_none(), "a publisher was turned away");
    }
}

/// Nothing is lost; when it is over, nothing is sent.
fn fate(stopping: &AtomicBool) -> Fate {
    if stopping.load(Ordering::Relaxed) { Fate::Lost } else { Fate::Sent }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Measures `counts` streams for `window` each and prints a table; `prepared` gives a cluster that records `domain` to FLV.
pub async fn bench(counts: &[usize], window: Duration, domain: &str, prepared: impl AsyncFn() -> Cluster) {
    let folder = tempfile::tempdir().expect("folder");
    let film = Film::encode(folder.path(), LOOK);
    let bytes: usize = film.packets.iter().map(|packet| packet.payload.len()).sum();
    println!(
        "{} s of real-time {:.2} Mbit/s H.264 + Opus over WHIP into FLV with AAC; {:.0} packets a second",
        window.as_secs(),
        bytes as f64 * 8.0 / 1e6 / f64::from(film.seconds),
        film.packets.len() as f64 / f64::from(film.seconds)
    );
    let profile = ProtectionProfile::AeadAes128Gcm;
    let [unprotect, rtp, sound] = stages::alone(&film, profile).await;
    let other = stages::alone(&film, ProtectionProfile::Aes128CmHmacSha1_80).await[0];
    println!("CPU ms / stream-second:");
    println!(
        "{:>8} {:>8} {:>18} {:>12} {:>8} {:>12} {:>8} {:>16} {:>14}",
        "streams",
        "total",
        "transport",
        "(of it SRTP)",
        "RTP",
        "Opus to AAC",
        "rest",
        "streams per core",
        "KiB / stream"
    );
    for &count in counts {
        let (total, kib) = node(count, window, domain, &film, &prepared).await;
        let transport = transport(count, window, &film).await;
        let rest = total - transport.steady - rtp - sound;
        println!(
            "{count:>8} {total:>8.2} {:>18.2} {unprotect:>12.2} {rtp:>8.2} {sound:>12.2} {rest:>8.2} {:>16.0} {kib:>14.0}",
            transport.steady,
            1_000.0 / total
        );
        println!("{:>8} {:.2} ms of CPU for each handshake (ICE, DTLS, session), once", "", transport.handshake);
    }
    println!("Opus to AAC is {:.0} x real time per core", 1_000.0 / sound);
    println!("total: the node's /proc/<pid>/stat over the window");
    println!("transport: UDP, ICE, DTLS/SRTP, RTCP; the crate whip alone with as many publishers, CPU of its thread");
    println!("of it SRTP: AES-128-GCM taken off the same packets in a loop (with HMAC-SHA1: {other:.2})");
    println!("RTP: jitter buffer, depacketizer, clock; the same packets through the crate rtp in a loop");
    println!("Opus to AAC: the same packets through the crate transcode in a loop");
    println!("rest: total less these: timeline, FLV, spool, shipping, handing on between threads, timers");
}

/// Total and memory of a node with so many streams.
async fn node(
    count: usize,
    window: Duration,
    domain: &str,
    film: &Arc<Film>,
    prepared: &impl AsyncFn() -> Cluster,
) -> (f64, f64) {
    let cluster = prepared().await;
    let node = &cluster.nodes[0];
    let idle = node.resident_kib();
    let mut peers = Vec::new();
    for number in 0..count {
        peers.push(Peer::publish(node.address("http"), domain, &format!("whip{number}")).await);
    }
    let mut peers = Peers::start(peers, film);
    tokio::time::sleep(SETTLE).await;
    let before = node.cpu_millis();
    tokio::time::sleep(window).await;
    let spent = node.cpu_millis() - before;
    peers.check();
    let kib = node.resident_kib().saturating_sub(idle) as f64 / count as f64;
    (spent as f64 / (count as f64 * window.as_secs_f64()), kib)
}

struct Transport {
    /// Per stream-second, while media flows.
    steady: f64,
    /// Per session, once.
    handshake: f64,
}

/// The same publishers against the crate `whip` alone.
async fn transport(count: usize, window: Duration, film: &Arc<Film>) -> Transport {
    let server = Server::start().await;
    let before = server.cpu_millis();
    let mut peers = Vec::new();
    for _ in 0..count {
        let (mut peer, offer) = Peer::offer().await;
        peer.connect(&server.answer(offer).await).await;
        peers.push(peer);
    }
    let handshake = (server.cpu_millis() - before) / count as f64;
    let mut peers = Peers::start(peers, film);
    tokio::time::sleep(SETTLE).await;
    let before = server.cpu_millis();
    tokio::time::sleep(window).await;
    let steady = (server.cpu_millis() - before) / (count as f64 * window.as_secs_f64());
    peers.check();
    Transport { steady, handshake }
}
