//! One WebRTC connection without sockets and clocks: datagrams in, packets, answers and deadlines out. Every call of the
//! WebRTC library is in this module.

mod alert;
mod build;
mod deliver;
mod lite;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp;
use rtc::rtp_transceiver::RTCRtpReceiverId;
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use webrtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionEvent, RTCPeerConnectionState, RTCTrackEvent};

pub use build::Shared;
use lite::{Credentials, Lite};

use crate::limits::MAX_STREAMS;
use crate::offer::Offer;
use crate::packet::{KeyFrameRequest, Packet, SenderReport};
use crate::refused::Refused;
use crate::stun;

/// Stands for the shared socket inside the library, which knows one path only. Documentation addresses: no peer has them.
const INSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
/// Stands for the publisher, wherever it sends from.
const OUTSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 9);

/// What a connection has to say.
#[derive(Debug)]
pub enum Event {
    /// The handshake is over; media may come.
    Connected,
    /// Media.
    Packet(Packet),
    /// How a stream's ticks relate to the sender's clock.
    Report(SenderReport),
    /// The peer ended the connection (DTLS close_notify).
    Closed,
    /// It cannot go on; why, in words.
    Failed(String),
}

/// One connection; see the module.
pub struct Peer {
    connection: RTCPeerConnection,
    shared: Arc<Shared>,
    lite: Lite,
    /// What the library's own agent believes to be in use; ICE restarts do not reach it.
    credentials: Credentials,
    /// The library has been told that there is a path.
    introduced: bool,
    events: VecDeque<Event>,
    outbound: VecDeque<(SocketAddr, BytesMut)>,
    receivers: Vec<RTCRtpReceiverId>,
    /// Layer of each stream that has been seen.
    layers: HashMap<u32, Option<Arc<str>>>,
    /// When something came last that only the publisher can have sent.
    alive_at: Instant,
    connected: bool,
    over: bool,
    /// Why the handshake was given up, by the alert that either end has sent.
    complaint: Option<String>,
    fir_sequence: u8,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("connected", &self.connected).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Peer {
    /// A connection for `offer`, and the answer without candidates. `ufrag` and `password` are this end's.
    pub fn answer(
        shared: &Arc<Shared>,
        offer: &Offer,
        ufrag: &str,
        password: &str,
        now: Instant,
    ) -> Result<(Self, String), Refused> {
        let credentials = Credentials {
            ufrag: ufrag.to_owned(),
            password: password.to_owned(),
            remote_ufrag: offer.ufrag.clone(),
            remote_password: offer.password.clone(),
        };
        let (connection, answer) = build::connection(shared, &credentials, INSIDE, offer, now)
            .map_err(|error| Refused::unacceptable(format!("the offer cannot be answered: {error}")))?;
        let mut peer = Self {
            connection,
            shared: Arc::clone(shared),
            lite: Lite::new(credentials.clone()),
            credentials,
            introduced: false,
            events: VecDeque::new(),
            outbound: VecDeque::new(),
            receivers: Vec::new(),
            layers: HashMap::new(),
            alive_at: now,
            connected: false,
            over: false,
            complaint: None,
            fir_sequence: 0,
        };
        peer.receivers = peer.connection.get_receivers().collect();
        Ok((peer, answer))
    }

    /// The publisher restarts ICE with credentials of its own; these are this end's new ones.
    pub fn restart(&mut self, ufrag: &str, password: &str, remote_ufrag: &str, remote_password: &str) {
        self.lite.restart(Credentials {
            ufrag: ufrag.to_owned(),
            password: password.to_owned(),
            remote_ufrag: remote_ufrag.to_owned(),
            remote_password: remote_password.to_owned(),
        });
    }

    /// Takes one datagram. Garbage is ignored: anybody can send it.
    pub fn handle_datagram(&mut self, from: SocketAddr, data: BytesMut, now: Instant) {
        if self.over {
            return;
        }
        if stun::is_stun(&data) {
            self.handle_check(from, &data, now);
        } else if self.lite.knows(from) {
            let is_handshake = is_handshake(&data);
            self.read(data, now);
            if is_handshake && self.connected && self.is_closed() {
                self.over = true;
                self.events.push_back(Event::Closed);
            }
        }
        self.collect();
    }

    fn handle_check(&mut self, from: SocketAddr, data: &[u8], now: Instant) {
        let checked = self.lite.check(from, data, self.shared.crypto.crypto());
        if checked.genuine {
            self.alive_at = now;
        }
        if let Some(answer) = checked.answer {
            self.outbound.push_back((from, answer));
        }
        if !self.introduced && self.lite.nominated().is_some() {
            self.introduced = true;
            self.introduce(now);
        }
    }

    /// Convinces the library's agent that there is a path: a nomination, an answer to the check it makes because of that,
    /// and the nomination again.
    fn introduce(&mut self, now: Instant) {
        for _ in 0..2 {
            let nomination = lite::nomination(&self.credentials, self.shared.crypto.crypto());
            if let Some(nomination) = nomination {
                self.read(nomination, now);
            }
            self.send(now);
        }
    }

    /// Moves what the library wants to send to the outbound queue. Its own checks are answered here and do not leave.
    fn send(&mut self, now: Instant) {
        while let Some(out) = self.connection.poll_write() {
            if stun::is_stun(&out.message) {
                let password = &self.credentials.remote_password;
                let answer = lite::answer_to(&out.message, password, INSIDE, self.shared.crypto.crypto());
                if let Some(answer) = answer {
                    self.read(answer, now);
                }
            } else if let Some(to) = self.lite.nominated() {
                self.heed(&out.message, "this node");
                self.outbound.push_back((to, out.message));
            }
        }
    }

    fn read(&mut self, message: BytesMut, now: Instant) {
        let transport = TransportContext {
            local_addr: INSIDE,
            peer_addr: OUTSIDE,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        self.heed(&message, "the publisher");
        if let Err(error) = self.connection.handle_read(TaggedBytesMut { now, transport, message }) {
            tracing::debug!(%error, "datagram ignored");
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.over {
            return;
        }
        if let Err(error) = self.connection.handle_timeout(now) {
            self.over = true;
            self.events.push_back(Event::Failed(error.to_string()));
        }
        self.collect();
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        if self.over { None } else { self.connection.poll_timeout() }
    }

    /// The next datagram to send, and where to.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<(SocketAddr, BytesMut)> {
        if self.outbound.is_empty() {
            self.send(now);
        }
        self.outbound.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When something came last that only the publisher can have sent.
    pub fn alive_at(&self) -> Instant {
        self.alive_at
    }

    /// Whether the publisher has proven that it sends from this address.
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.lite.knows(address)
    }

    /// The path that the publisher has nominated.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.lite.nominated()
    }

    /// Whether the handshake is over.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Why the handshake was given up, as far as either end has said so; `None` once it is over.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref().filter(|_| !self.connected)
    }

    /// The library keeps its reasons to itself; what it sends tells them. The first refusal is the reason of the others.
    fn heed(&mut self, data: &[u8], who: &str) {
        if !self.connected
            && self.complaint.is_none()
            && let Some(alert) = alert::fatal(data)
        {
            self.complaint = Some(format!("{who} refused the handshake: {}", alert::words(alert)));
        }
    }

    /// Asks for a key frame of one stream.
    pub fn request_key_frame(&mut self, ssrc: u32, how: KeyFrameRequest, now: Instant) {
        let request: Box<dyn rtcp::Packet> = match how {
            KeyFrameRequest::PictureLoss => Box::new(PictureLossIndication { sender_ssrc: 0, media_ssrc: ssrc }),
            KeyFrameRequest::FullIntra => {
                self.fir_sequence = self.fir_sequence.wrapping_add(1);
                let entry = FirEntry { ssrc, sequence_number: self.fir_sequence };
                Box::new(FullIntraRequest { sender_ssrc: 0, media_ssrc: 0, fir: vec![entry] })
            }
        };
        let owner = self.receivers.iter().copied().find(|id| {
            self.connection.rtp_receiver(*id).is_some_and(|receiver| receiver.track().ssrcs().any(|own| own == ssrc))
        });
        let receiver = owner.and_then(|id| self.connection.rtp_receiver(id));
        if let Some(Err(error)) = receiver.map(|mut receiver| receiver.write_rtcp(now, vec![request])) {
            tracing::debug!(ssrc, %error, "key frame not asked for");
        }
    }

    /// Says goodbye; what has to be sent for it is in [`Self::poll_transmit`].
    pub fn close(&mut self, now: Instant) {
        self.over = true;
        if let Err(error) = self.connection.close() {
            tracing::debug!(%error, "closing");
        }
        self.send(now);
    }

    fn is_closed(&mut self) -> bool {
        let id = self.receivers.first().copied();
        let receiver = id.and_then(|id| self.connection.rtp_receiver(id));
        let state = receiver.and_then(|receiver| receiver.transport().map(|transport| transport.state()));
        matches!(state, Some(RTCDtlsTransportState::Closed | RTCDtlsTransportState::Failed))
    }

    fn collect(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(RTCPeerConnectionState::Connected)
                    if !self.connected =>
                {
                    self.connected = true;
                    self.events.push_back(Event::Connected);
                }
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(RTCPeerConnectionState::Failed) => {
                    self.over = true;
                    self.events.push_back(Event::Failed("the encrypted connection failed".into()));
                }
                RTCPeerConnectionEvent::OnTrack(RTCTrackEvent::OnOpen(open)) => {
                    tracing::debug!(ssrc = open.ssrc, layer = ?open.rid, "stream");
                    self.layers.remove(&open.ssrc);
                }
                _ => {}
            }
        }
        while let Some(tagged) = self.connection.poll_read() {
            match tagged.message {
                RTCMessage::RtpPacket(_, packet) => self.take_packet(packet, tagged.now),
                RTCMessage::RtcpPacket(_, reports) => self.take_reports(&reports, tagged.now),
                _ => {}
            }
        }
    }

    fn take_packet(&mut self, packet: rtp::Packet, at: Instant) {
        self.alive_at = self.alive_at.max(at);
        let header = packet.header;
        let Some(layer) = self.layer(header.ssrc) else { return };
        self.events.push_back(Event::Packet(Packet {
            payload_type: header.payload_type,
            marker: header.marker,
            sequence_number: header.sequence_number,
            timestamp: header.timestamp,
            ssrc: header.ssrc,
            layer,
            payload: packet.payload,
            at,
        }));
    }

    /// The layer of a stream; `None` when there are too many streams to know this one.
    fn layer(&mut self, ssrc: u32) -> Option<Option<Arc<str>>> {
        if let Some(layer) = self.layers.get(&ssrc) {
            return Some(layer.clone());
        }
        if self.layers.len() >= MAX_STREAMS {
            return None;
        }
        let layer = self.receivers.iter().find_map(|id| {
            let receiver = self.connection.rtp_receiver(*id)?;
            receiver.track().rid(ssrc).filter(|rid| !rid.is_empty()).map(|rid| Arc::from(rid.as_str()))
        });
        self.layers.insert(ssrc, layer.clone());
        Some(layer)
    }

    fn take_reports(&mut self, reports: &[Box<dyn rtcp::Packet>], at: Instant) {
        self.alive_at = self.alive_at.max(at);
        for report in reports {
            if let Some(report) = report.as_any().downcast_ref::<rtcp::sender_report::SenderReport>() {
                let (ssrc, ntp_time, rtp_time) = (report.ssrc, report.ntp_time, report.rtp_time);
                self.events.push_back(Event::Report(SenderReport { ssrc, ntp_time, rtp_time, at }));
            }
        }
    }
}

/// DTLS, of all that comes over one port (RFC 7983, section 7).
fn is_handshake(data: &[u8]) -> bool {
    data.first().is_some_and(|first| (20..64).contains(first))
}

/// Addresses of this machine that others may reach: no loopback, no link-local ones. IPv6 too when asked for.
pub fn interface_addresses(v6: bool) -> Vec<IpAddr> {
    let usable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    };
    let interfaces = rtc::shared::ifaces::ifaces().unwrap_or_default();
    let mut addresses: Vec<IpAddr> = interfaces
        .into_iter()
        .filter_map(|interface| interface.addr)
        .map(|address| address.ip())
        .filter(usable)
        .collect();
    addresses.retain(|address| v6 || address.is_ipv4());
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(crate::limits::MAX_ADDRESSES);
    addresses
}
