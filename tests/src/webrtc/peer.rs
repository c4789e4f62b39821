//! The WebRTC library in its full role, over a UDP socket of its own, driven in real time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use media::TrackKind;
use rtc::ice::candidate::CandidateConfig;
use rtc::ice::candidate::candidate_host::CandidateHostConfig;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::RTCPeerConnectionBuilder;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_RTX};
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::net::UdpSocket;
use webrtc::peer_connection::{
    MediaEngine, RTCIceCandidate, RTCIceCandidateInit, RTCPeerConnection, RTCPeerConnectionState,
    RTCSessionDescription, Registry, SettingEngineBuilder, configure_nack,
};

use super::film::{Film, Packet};
use crate::whip::request;

const SDP: (&str, &str) = ("content-type", "application/sdp");
const H264: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
/// Payload type, synchronisation source, and ticks per second, of picture and sound.
const TRACKS: [(u8, u32, f64); 2] = [(96, 0x1111_1111, 90_000.0), (111, 0x2222_2222, 48_000.0)];
/// Media times of both tracks begin here: soon after, their timestamps wrap.
const FIRST_TICKS: u32 = u32::MAX - 100_000;
/// Handshakes take a few milliseconds, on a busy machine some more.
const PATIENCE: Duration = Duration::from_secs(20);
/// Seconds between 1900 and 1970: NTP time.
const NTP: f64 = 2_208_988_800.0;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent.
    Sent,
    /// It takes its sequence number and is never sent, however often it is asked for.
    Lost,
    /// It is sent; a packet in front of it was lost.
    BehindHole,
}

/// See the module.
pub struct Peer {
    connection: RTCPeerConnection,
    socket: UdpSocket,
    local: SocketAddr,
    server: SocketAddr,
    senders: [RTCRtpSenderId; 2],
    sequences: [u16; 2],
    /// Where HTTP is, and the session's path; empty without HTTP.
    session: (String, String),
    connected: bool,
    closed: bool,
    /// When media began, and how many seconds of it were played.
    began: Option<Instant>,
    played: f64,
    reported: f64,
}

fn place(track: TrackKind) -> usize {
    usize::from(track == TrackKind::Audio)
}

fn codec(mime: &str, clock_rate: u32, channels: u16, fmtp: &str, payload_type: u8) -> RTCRtpCodecParameters {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    let rtcp_feedback = if mime == MIME_TYPE_H264 {
        vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")]
    } else {
        Vec::new()
    };
    let rtp_codec =
        RTCRtpCodec { mime_type: mime.into(), clock_rate, channels, sdp_fmtp_line: fmtp.into(), rtcp_feedback };
    RTCRtpCodecParameters { rtp_codec, payload_type }
}

fn track(kind: RtpCodecKind, ssrc: u32, codec: &RTCRtpCodecParameters) -> MediaStreamTrack {
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: coding,
        active: true,
        codec: codec.rtp_codec.clone(),
        ..Default::default()
    };
    MediaStreamTrack::new("stream".into(), format!("track-{kind}"), "label".into(), kind, vec![encoding])
}

fn candidate(address: SocketAddr) -> RTCIceCandidateInit {
    let base_config = CandidateConfig {
        network: "udp".into(),
        address: address.ip().to_string(),
        port: address.port(),
        component: 1,
        ..Default::default()
    };
    let config = CandidateHostConfig { base_config, ..Default::default() };
    RTCIceCandidate::from(&config.new_candidate_host().expect("candidate")).to_json().expect("candidate")
}

impl Peer {
    /// Publishes `stream` over WHIP at a node's HTTP address; returns when media may flow.
    pub async fn publish(http: &str, domain: &str, stream: &str) -> Self {
        let (mut peer, offer) = Self::offer().await;
        let path = format!("/whip/live/{stream}?domain={domain}");
        let reply = request(http, "POST", &path, &[SDP], &offer).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        peer.session = (http.to_owned(), reply.header("location").to_owned());
        peer.connect(&reply.body).await;
        peer
    }

    /// A publisher of picture and sound, and its offer.
    pub async fn offer() -> (Self, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
        let local = socket.local_addr().expect("address");
        let now = Instant::now();
        let [h264, opus] =
            [codec(MIME_TYPE_H264, 90_000, 0, H264, 96), codec(MIME_TYPE_OPUS, 48_000, 2, "minptime=10", 111)];
        let mut media = MediaEngine::default();
        media.register_codec(h264.clone(), RtpCodecKind::Video).expect("codec");
        media.register_codec(codec(MIME_TYPE_RTX, 90_000, 0, "apt=96", 97), RtpCodecKind::Video).expect("codec");
        media.register_codec(opus.clone(), RtpCodecKind::Audio).expect("codec");
        let registry = configure_nack(Registry::new(), &mut media);
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(registry)
            .with_setting_engine(SettingEngineBuilder::new().with_include_loopback_candidate(true).build())
            .build(now)
            .expect("connection");
        let video = connection.add_track(track(RtpCodecKind::Video, TRACKS[0].1, &h264)).expect("track");
        let audio = connection.add_track(track(RtpCodecKind::Audio, TRACKS[1].1, &opus)).expect("track");
        let offer = connection.create_offer(None).expect("offer");
        connection.set_local_description(now, offer.clone()).expect("offer");
        connection.add_local_candidate(candidate(local)).expect("candidate");
        let peer = Self {
            connection,
            socket,
            local,
            server: local,
            senders: [video, audio],
            sequences: [65_000, 65_000],
            session: (String::new(), String::new()),
            connected: false,
            closed: false,
            began: None,
            played: 0.0,
            reported: 0.0,
        };
        (peer, offer.sdp.replace("a=sendrecv", "a=sendonly"))
    }

    /// Takes the answer and goes through ICE and DTLS.
    pub async fn connect(&mut self, answer: &str) {
        let line = answer.lines().find(|line| line.starts_with("a=candidate:") && line.contains(" udp "));
        let words: Vec<&str> = line.expect("a UDP candidate").split(' ').collect();
        self.server = format!("{}:{}", words[4], words[5]).parse().expect("address");
        let without: String =
            answer.lines().filter(|line| !line.contains("candidate")).map(|line| format!("{line}\r\n")).collect();
        let answer = RTCSessionDescription::answer(without).expect("answer");
        self.connection.set_remote_description(Instant::now(), answer).expect("answer");
        self.connection.add_remote_candidate(candidate(self.server)).expect("candidate");
        let patience = Instant::now() + PATIENCE;
        while !self.connected {
            assert!(Instant::now() < patience, "no connection");
            self.work(Instant::now() + Duration::from_millis(5)).await;
        }
    }

    /// Whether the node has ended the connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Seconds of media played so far.
    pub fn played(&self) -> f64 {
        self.played
    }

    /// Plays a film once, behind what was played before, in real time. `fate` is asked with the packet and its time since
    /// the first film began. Ends early when the node ends the connection.
    pub async fn play(&mut self, film: &Film, mut fate: impl FnMut(&Packet, f64) -> Fate) {
        let began = *self.began.get_or_insert_with(Instant::now);
        let before = self.played;
        for packet in &film.packets {
            let time = before + packet.at;
            self.work(began + Duration::from_secs_f64(time)).await;
            if self.closed {
                return;
            }
            if time >= self.reported {
                self.reported += 1.0;
                self.report(time);
            }
            let fate = fate(packet, time);
            self.push(packet, before, fate);
            self.played = time;
        }
        self.played = before + f64::from(film.seconds);
    }

    /// Sends what waits, and deletes the session.
    pub async fn delete(mut self) {
        self.work(Instant::now()).await;
        let (http, session) = self.session.clone();
        let reply = request(&http, "DELETE", &session, &[], "").await;
        assert!(matches!(reply.status, 200 | 404), "{reply:?}");
    }

    fn push(&mut self, packet: &Packet, before: f64, fate: Fate) {
        let place = place(packet.track);
        let (payload_type, ssrc, rate) = TRACKS[place];
        let step = if fate == Fate::BehindHole { 2 } else { 1 };
        self.sequences[place] = self.sequences[place].wrapping_add(step);
        if fate == Fate::Lost {
            return;
        }
        let header = rtc::rtp::header::Header {
            version: 2,
            marker: packet.marker,
            payload_type,
            sequence_number: self.sequences[place],
            timestamp: FIRST_TICKS.wrapping_add((before * rate).round() as u32).wrapping_add(packet.ticks),
            ssrc,
            ..Default::default()
        };
        let packet = rtc::rtp::Packet { header, payload: packet.payload.clone() };
        let sender = self.connection.rtp_sender(self.senders[place]);
        sender.expect("sender").write_rtp(Instant::now(), packet).expect("sent");
    }

    /// Sender reports of both tracks: media of `time` is sent now.
    fn report(&mut self, time: f64) {
        let wall = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs_f64() + NTP;
        let ntp_time = ((wall.floor() as u64) << 32) | (wall.fract() * 4_294_967_296.0) as u64;
        for ((_, ssrc, rate), id) in TRACKS.into_iter().zip(self.senders) {
            let rtp_time = FIRST_TICKS.wrapping_add((time * rate).round() as u32);
            let report = SenderReport { ssrc, ntp_time, rtp_time, ..Default::default() };
            let sender = self.connection.rtp_sender(id);
            sender.expect("sender").write_rtcp(Instant::now(), vec![Box::new(report)]).expect("sent");
        }
    }

    /// Keeps the connection alive until then, and takes what comes.
    pub async fn work(&mut self, until: Instant) {
        loop {
            self.flush().await;
            let now = Instant::now();
            if self.connection.poll_timeout().is_some_and(|at| now >= at) {
                let _ = self.connection.handle_timeout(now);
                self.look();
                self.flush().await;
            }
            if now >= until || self.closed {
                return;
            }
            let wake = self.connection.poll_timeout().map_or(until, |at| at.min(until));
            let mut buffer = [0; 2_048];
            tokio::select! {
                biased;
                received = self.socket.recv_from(&mut buffer) => {
                    // An error is an answer to what was sent to a node that is gone.
                    if let Ok((length, _)) = received {
                        self.take(BytesMut::from(&buffer[..length]));
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    fn take(&mut self, message: BytesMut) {
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: self.server,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        let is_handshake = message.first().is_some_and(|first| (20..64).contains(first));
        let _ = self.connection.handle_read(TaggedBytesMut { now: Instant::now(), transport, message });
        self.look();
        if is_handshake && self.connected {
            let sender = self.connection.rtp_sender(self.senders[0]);
            let state = sender.and_then(|sender| sender.transport().map(|transport| transport.state()));
            self.closed |= matches!(state, Some(RTCDtlsTransportState::Closed | RTCDtlsTransportState::Failed));
        }
    }

    fn look(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            use webrtc::peer_connection::RTCPeerConnectionEvent::OnConnectionStateChangeEvent as State;
            match event {
                State(RTCPeerConnectionState::Connected) => self.connected = true,
                State(RTCPeerConnectionState::Closed | RTCPeerConnectionState::Failed) => self.closed = true,
                _ => {}
            }
        }
        while self.connection.poll_read().is_some() {}
    }

    async fn flush(&mut self) {
        while let Some(out) = self.connection.poll_write() {
            let _ = self.socket.send_to(&out.message, self.server).await;
        }
    }
}
