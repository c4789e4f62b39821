//! What the stages of a WHIP stream cost, each alone on the same packets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::whip::{Endpoint, Limits, Reachable, Request, SDP, SessionEvent, Sessions, Wanted};
use media::{Frame, MediaTime, OpusConfig, TrackKind};
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use transcode::Transcoder;
use webrtc::peer_connection::crypto::default_provider;

use super::film::Film;

/// CPU time of a thread of this process so far, in milliseconds.
fn cpu_of(thread: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{thread}/schedstat")).expect("a running thread");
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).expect("schedstat") / 1e6
}

/// CPU milliseconds that `work` costs.
fn cost(work: impl FnOnce()) -> f64 {
    let before = cpu_of("thread-self");
    work();
    cpu_of("thread-self") - before
}

/// An offer and where its answer goes.
type Asked = (String, oneshot::Sender<String>);

/// The crate `whip` alone, on a thread of its own: sessions whose media goes nowhere.
pub struct Server {
    asked: mpsc::UnboundedSender<Asked>,
    thread: String,
}

impl Server {
    /// On a free port of the loopback.
    pub async fn start() -> Self {
        let (asked, offers) = mpsc::unbounded_channel();
        let (told, thread) = oneshot::channel();
        std::thread::spawn(move || {
            let path = std::fs::read_link("/proc/thread-self").expect("own thread");
            told.send(path.display().to_string()).expect("asked for");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(serve(offers));
        });
        Self { asked, thread: thread.await.expect("a thread") }
    }

    /// Answers an offer.
    pub async fn answer(&self, offer: String) -> String {
        let (reply, answer) = oneshot::channel();
        self.asked.send((offer, reply)).expect("a running server");
        answer.await.expect("an answer")
    }

    /// What it has cost so far, in CPU milliseconds.
    pub fn cpu_millis(&self) -> f64 {
        cpu_of(&self.thread)
    }
}

async fn serve(mut offers: mpsc::UnboundedReceiver<Asked>) {
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
    let reachable =
        Reachable::new(&["127.0.0.1".parse().expect("address")], udp.local_addr().expect("port").port(), None);
    let wanted = Wanted::default();
    let limits = Limits { max_sessions: 1_000, max_pending: 1_000, idle_timeout: Duration::from_secs(30) };
    let sessions = Sessions::new(Endpoint::start(udp, None), limits).expect("sessions");
    let mut number = 0;
    while let Some((offer, reply)) = offers.recv().await {
        let stream = format!("bench/live/{number}");
        number += 1;
        let request = Request {
            content_type: Some(SDP),
            body: &offer,
            stream: &stream,
            token: None,
            reachable: &reachable,
            wanted: &wanted,
        };
        let opened = sessions.open(request).expect("an offer to take");
        let mut session = opened.session;
        tokio::spawn(async move { while !matches!(session.next().await, SessionEvent::Ended(_)) {} });
        let _ = reply.send(opened.answer);
    }
}

/// Rounds that a film is put through: enough for a measure.
const ROUNDS: u32 = 10;

fn per_second(film: &Film, millis: f64) -> f64 {
    millis / f64::from(ROUNDS * film.seconds)
}

/// SRTP (RFC 3711, RFC 7714) taken off every packet, in CPU milliseconds per second of media.
pub fn unprotect(film: &Film, profile: ProtectionProfile) -> f64 {
    let provider = default_provider().expect("ciphers");
    let (key, salt) = (vec![7; profile.key_len()], vec![9; profile.salt_len()]);
    let context = || Context::new(&key, &salt, profile, None, None, provider.crypto()).expect("context");
    let (mut sender, mut receiver) = (context(), context());
    let mut sequence = 0_u16;
    let mut millis = 0.0;
    for _ in 0..ROUNDS {
        let protect = |packet: &super::film::Packet| {
            sequence = sequence.wrapping_add(1);
            let mut bytes = vec![0x80, 96];
            bytes.extend(sequence.to_be_bytes());
            bytes.extend(packet.ticks.to_be_bytes());
            bytes.extend([1, 2, 3, 4]);
            bytes.extend_from_slice(&packet.payload);
            sender.encrypt_rtp(&bytes).expect("protected")
        };
        let packets: Vec<_> = film.packets.iter().map(protect).collect();
        millis += cost(|| {
            packets.iter().for_each(|packet| drop(receiver.decrypt_rtp(packet).expect("genuine")));
        });
    }
    per_second(film, millis)
}

/// Jitter buffer, depacketizer, clock and release of the crate `rtp`.
pub fn rtp(film: &Film) -> f64 {
    let mut formats = BTreeMap::new();
    formats.insert(96, rtp::Format::H264 { parameter_sets: Vec::new() });
    formats.insert(111, rtp::Format::Opus { channels: 2 });
    let mut session = rtp::Session::new(rtp::Settings { formats, ..rtp::Settings::default() });
    let mut sequences = [0_u16; 2];
    let millis = cost(|| {
        let mut frames = 0_u32;
        for round in 0..ROUNDS {
            let before = round * film.seconds;
            for packet in &film.packets {
                let is_sound = packet.track == TrackKind::Audio;
                let (payload_type, rate) = if is_sound { (111, 48_000) } else { (96, 90_000) };
                let sequence = &mut sequences[usize::from(is_sound)];
                *sequence = sequence.wrapping_add(1);
                session.push_rtp(rtp::Packet {
                    payload_type,
                    marker: packet.marker,
                    sequence_number: *sequence,
                    timestamp: packet.ticks.wrapping_add(before * rate),
                    ssrc: u32::from(payload_type),
                    rid: None,
                    payload: packet.payload.clone(),
                    arrival: Duration::from_secs_f64(f64::from(before) + packet.at),
                });
                while let Some(output) = session.poll() {
                    frames += u32::from(matches!(output, rtp::Output::Event(media::ingest::Event::Frame(_))));
                }
            }
        }
        assert!(frames > ROUNDS * film.seconds * 70, "{frames} frames");
    });
    per_second(film, millis)
}

/// Opus to AAC.
pub fn transcode(film: &Film) -> f64 {
    let config = OpusConfig { channels: 2, pre_skip: 0, sample_rate_in: 48_000 };
    let mut transcoder = Transcoder::new(&config).expect("codecs");
    let sounds: Vec<_> = film.packets.iter().filter(|packet| packet.track == TrackKind::Audio).collect();
    let millis = cost(|| {
        let mut out = Vec::new();
        for round in 0..ROUNDS {
            for packet in &sounds {
                let ticks = u64::from(round * film.seconds) * 48_000 + u64::from(packet.ticks);
                let dts = MediaTime::from_duration(Duration::from_nanos(ticks * 1_000_000_000 / 48_000));
                let data = packet.payload.clone();
                transcoder.push(&Frame { track: TrackKind::Audio, dts, pts: dts, keyframe: true, data }, &mut out);
            }
        }
        assert!(out.len() > (ROUNDS * film.seconds * 40) as usize, "{} frames", out.len());
    });
    per_second(film, millis)
}

/// All three on one thread of their own, so that nothing else is counted: SRTP, RTP, Opus to AAC.
pub async fn alone(film: &Arc<Film>, profile: ProtectionProfile) -> [f64; 3] {
    let film = Arc::clone(film);
    let measure = move || [unprotect(&film, profile), rtp(&film), transcode(&film)];
    tokio::task::spawn_blocking(measure).await.expect("measured")
}
