//! A publisher: the WebRTC library in its full role, over a UDP socket or an ICE-TCP connection of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc::ice::candidate::CandidateConfig;
use rtc::ice::candidate::candidate_host::CandidateHostConfig;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::RTCPeerConnectionBuilder;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_RTX};
use rtc::peer_connection::message::RTCMessage;
use rtc::rtcp;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use webrtc::peer_connection::{
    MediaEngine, RTCIceCandidate, RTCIceCandidateInit, RTCPeerConnection, RTCPeerConnectionState,
    RTCSessionDescription, Registry, SettingEngineBuilder, register_default_interceptors,
};
use whip::{Endpoint, Limits, Opened, Reachable, Refused, Request, SDP, Sessions, Wanted};

pub const VIDEO: u32 = 0x1111_1111;
pub const AUDIO: u32 = 0x2222_2222;

/// A node's worth of sessions on the loopback.
pub struct Server {
    pub sessions: Sessions,
    pub endpoint: std::sync::Arc<Endpoint>,
    pub reachable: Reachable,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(100, 50, Duration::from_secs(30)).await
    }

    pub async fn with(max_sessions: usize, max_pending: usize, idle_timeout: Duration) -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ports = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
        let reachable = Reachable::new(&["127.0.0.1".parse().unwrap()], ports.0, Some(ports.1));
        let endpoint = Endpoint::start(udp, Some(tcp));
        let limits = Limits { max_sessions, max_pending, idle_timeout };
        Self { sessions: Sessions::new(endpoint.clone(), limits).unwrap(), endpoint, reachable }
    }

    pub fn open(&self, offer: &str) -> Result<Opened, Refused> {
        self.open_as(offer, "h/live/cam1", None)
    }

    pub fn open_as(&self, offer: &str, stream: &str, token: Option<&str>) -> Result<Opened, Refused> {
        let reachable = &self.reachable;
        self.sessions.open(Request {
            content_type: Some(SDP),
            body: offer,
            stream,
            token,
            reachable,
            wanted: &Wanted::default(),
        })
    }
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream, BytesMut),
}

/// See the module.
pub struct Publisher {
    pub connection: RTCPeerConnection,
    socket: Socket,
    local: SocketAddr,
    server: SocketAddr,
    video: RTCRtpSenderId,
    audio: RTCRtpSenderId,
    pub connected: bool,
    /// Key frames that were asked for: picture loss indications, full intra requests.
    pub asked: (usize, usize),
    /// Datagrams of the server that were checks: a lite agent sends none.
    pub checks_received: usize,
    sequence: u16,
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

const H264: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

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

impl Publisher {
    /// A publisher and its offer, over UDP.
    pub async fn new() -> (Self, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let local = socket.local_addr().unwrap();
        Self::over(Socket::Udp(socket), local)
    }

    /// The same over an ICE-TCP connection to `server`.
    pub async fn over_tcp(server: SocketAddr) -> (Self, String) {
        let socket = TcpStream::connect(server).await.unwrap();
        let local = socket.local_addr().unwrap();
        Self::over(Socket::Tcp(socket, BytesMut::new()), local)
    }

    fn over(socket: Socket, local: SocketAddr) -> (Self, String) {
        let now = Instant::now();
        let h264 = codec(MIME_TYPE_H264, 90_000, 0, H264, 96);
        let opus = codec(MIME_TYPE_OPUS, 48_000, 2, "minptime=10;useinbandfec=1", 111);
        let mut media = MediaEngine::default();
        media.register_codec(h264.clone(), RtpCodecKind::Video).unwrap();
        media.register_codec(codec(MIME_TYPE_RTX, 90_000, 0, "apt=96", 97), RtpCodecKind::Video).unwrap();
        media.register_codec(opus.clone(), RtpCodecKind::Audio).unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut media).unwrap();
        let registry = registry.with(rtc::interceptor::Slot::from(20_000), Deliver::default());
        let settings = SettingEngineBuilder::new().with_include_loopback_candidate(true).build();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .build(now)
            .unwrap();
        let video = connection.add_track(track(RtpCodecKind::Video, VIDEO, &h264)).unwrap();
        let audio = connection.add_track(track(RtpCodecKind::Audio, AUDIO, &opus)).unwrap();
        let offer = connection.create_offer(None).unwrap();
        connection.set_local_description(now, offer.clone()).unwrap();
        connection.add_local_candidate(candidate(local)).unwrap();
        let server = local;
        let publisher = Self {
            connection,
            socket,
            local,
            server,
            video,
            audio,
            connected: false,
            asked: (0, 0),
            checks_received: 0,
            sequence: 0,
        };
        (publisher, offer.sdp.replace("a=sendrecv", "a=sendonly"))
    }

    /// Takes the answer. The server's address is read from it.
    pub fn accept(&mut self, answer: &str) {
        let is_tcp = matches!(self.socket, Socket::Tcp(..));
        let wanted = if is_tcp { " tcp " } else { " udp " };
        let line = answer.lines().find(|line| line.starts_with("a=candidate:") && line.contains(wanted)).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        self.server = format!("{}:{}", words[4], words[5]).parse().unwrap();
        // The library knows UDP only: what goes over TCP is framed here.
        let without: String =
            answer.lines().filter(|line| !line.contains("candidate")).map(|line| format!("{line}\r\n")).collect();
        let answer = RTCSessionDescription::answer(without).unwrap();
        self.connection.set_remote_description(Instant::now(), answer).unwrap();
        self.connection.add_remote_candidate(candidate(self.server)).unwrap();
    }

    /// Sends to this address without having been answered.
    pub fn aim(&mut self, server: SocketAddr) {
        self.server = server;
    }

    /// From now on it sends from another socket, as after a change of network.
    pub async fn move_to_another_port(&mut self) {
        self.socket = Socket::Udp(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    }

    /// One step: sends what waits, then takes what comes within a few milliseconds.
    pub async fn step(&mut self) {
        self.send().await;
        let wait = Duration::from_millis(5);
        let packet = tokio::time::timeout(wait, self.receive()).await;
        let now = Instant::now();
        if let Ok(message) = packet {
            self.checks_received += usize::from(message.starts_with(&[0, 1]));
            let transport = TransportContext {
                local_addr: self.local,
                peer_addr: self.server,
                ecn: None,
                transport_protocol: TransportProtocol::UDP,
            };
            let _ = self.connection.handle_read(TaggedBytesMut { now, transport, message });
        }
        let _ = self.connection.handle_timeout(now);
        while let Some(event) = self.connection.poll_event() {
            use webrtc::peer_connection::RTCPeerConnectionEvent::OnConnectionStateChangeEvent as State;
            self.connected |= matches!(event, State(RTCPeerConnectionState::Connected));
        }
        while let Some(tagged) = self.connection.poll_read() {
            let RTCMessage::RtcpPacket(_, packets) = tagged.message else { continue };
            for packet in packets {
                let any = packet.as_any();
                use rtcp::payload_feedbacks::{full_intra_request as fir, picture_loss_indication as pli};
                self.asked.0 += usize::from(any.is::<pli::PictureLossIndication>());
                self.asked.1 += usize::from(any.is::<fir::FullIntraRequest>());
            }
        }
        self.send().await;
    }

    async fn receive(&mut self) -> BytesMut {
        match &mut self.socket {
            Socket::Udp(socket) => {
                let mut buffer = [0; 2_048];
                let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
                BytesMut::from(&buffer[..length])
            }
            Socket::Tcp(socket, input) => loop {
                if let Some(&[high, low]) = input.first_chunk::<2>() {
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if input.len() >= 2 + length {
                        let _ = input.split_to(2);
                        return input.split_to(length);
                    }
                }
                if socket.read_buf(input).await.unwrap_or(0) == 0 {
                    std::future::pending::<()>().await;
                }
            },
        }
    }

    async fn send(&mut self) {
        while let Some(out) = self.connection.poll_write() {
            self.send_raw(&out.message).await;
        }
    }

    /// Anything, from this publisher's address.
    pub async fn send_raw(&mut self, data: &[u8]) {
        match &mut self.socket {
            Socket::Udp(socket) => drop(socket.send_to(data, self.server).await),
            Socket::Tcp(socket, _) => {
                let mut framed = u16::try_from(data.len()).unwrap().to_be_bytes().to_vec();
                framed.extend_from_slice(data);
                let _ = socket.write_all(&framed).await;
            }
        }
    }

    /// One packet of a track.
    pub fn push(&mut self, video: bool, timestamp: u32, payload: &[u8]) {
        self.sequence = self.sequence.wrapping_add(1);
        let (id, ssrc, payload_type) = if video { (self.video, VIDEO, 96) } else { (self.audio, AUDIO, 111) };
        let header = rtc::rtp::header::Header {
            version: 2,
            marker: true,
            payload_type,
            sequence_number: self.sequence,
            timestamp,
            ssrc,
            ..Default::default()
        };
        let packet = rtc::rtp::Packet { header, payload: Bytes::copy_from_slice(payload) };
        self.connection.rtp_sender(id).unwrap().write_rtp(Instant::now(), packet).unwrap();
    }

    /// A sender report of the picture.
    pub fn report(&mut self, ntp_time: u64, rtp_time: u32) {
        let report = rtcp::sender_report::SenderReport { ssrc: VIDEO, ntp_time, rtp_time, ..Default::default() };
        self.connection.rtp_sender(self.video).unwrap().write_rtcp(Instant::now(), vec![Box::new(report)]).unwrap();
    }
}

fn candidate(address: SocketAddr) -> RTCIceCandidateInit {
    let config = CandidateHostConfig {
        base_config: CandidateConfig {
            network: "udp".into(),
            address: address.ip().to_string(),
            port: address.port(),
            component: 1,
            ..Default::default()
        },
        ..Default::default()
    };
    RTCIceCandidate::from(&config.new_candidate_host().unwrap()).to_json().unwrap()
}

/// Lets every RTCP packet through, so that requests for key frames can be counted.
#[derive(Default)]
struct Deliver {
    inbound: std::collections::VecDeque<rtc::interceptor::TaggedPacket>,
    outbound: std::collections::VecDeque<rtc::interceptor::TaggedPacket>,
}

impl Protocol<rtc::interceptor::TaggedPacket, rtc::interceptor::TaggedPacket, ()> for Deliver {
    type Rout = rtc::interceptor::TaggedPacket;
    type Wout = rtc::interceptor::TaggedPacket;
    type Eout = ();
    type Error = webrtc::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, mut packet: Self::Rout) -> Result<(), Self::Error> {
        if matches!(packet.message.packet, rtc::interceptor::Packet::Rtcp(_)) {
            packet.message.add(rtc::interceptor::Attribute::DeliverToApplication);
        }
        self.inbound.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.inbound.pop_front()
    }

    fn handle_write(&mut self, packet: Self::Wout) -> Result<(), Self::Error> {
        self.outbound.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.outbound.pop_front()
    }

    fn handle_timeout(&mut self, _: Instant) -> Result<(), Self::Error> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

impl rtc::interceptor::Interceptor for Deliver {
    fn bind_local_stream(&mut self, _: &rtc::interceptor::StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &rtc::interceptor::StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &rtc::interceptor::StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &rtc::interceptor::StreamInfo) {}
}
