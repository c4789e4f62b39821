//! One WHIP publisher: packets of its WebRTC session through the RTP session to the publication, requests for key frames
//! back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::whip::{Cause, KeyFrameRequest, Offer, SessionEvent};
use media::TrackKind;
use media::ingest::EndCause;
use recorder_proto::ids::SessionId;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::protocol;
use rtp::Output;

use super::publishing::{Order, Publishing};
use super::whip_pictures::rtp_format;
use crate::node::Node;
use crate::publication::Publisher;
use crate::registry::Command;

/// How long a key frame is waited for at which to close a publisher.
const KEY_FRAME_PATIENCE: Duration = Duration::from_secs(5);
/// Attempts by picture loss indication before a full intra request.
const PLI_ATTEMPTS: u32 = 2;

static PUBLISHING: AtomicUsize = AtomicUsize::new(0);

/// WHIP publishers of this process at the moment.
pub fn publishing() -> usize {
    PUBLISHING.load(Ordering::Relaxed)
}

/// Counts itself as a publisher as long as it lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        PUBLISHING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        PUBLISHING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A publisher that is sent away.
struct Moving {
    reason: String,
    close_at: Duration,
}

struct Connection {
    node: Arc<Node>,
    stream: StreamKey,
    encoder: String,
    session: ::whip::Session,
    media: rtp::Session,
    /// The publisher understands full intra requests.
    full_intra: bool,
    has_video: bool,
    /// When the last key frame came, or was asked for because of its age.
    key_frame: Duration,
    /// One moment on the socket's clock and on the node's.
    origin: (Instant, Duration),
    publishing: Option<(Publishing, Counted)>,
    moving: Option<Moving>,
    /// Jumps of the publisher's clock that its recordings know of: of the picture, of the sound.
    jumps: [u64; 2],
}

enum Wake {
    Session(SessionEvent),
    Command(Command),
    Deadline,
}

/// Serves an answered session until it ends.
pub async fn serve(node: Arc<Node>, stream: StreamKey, offer: Offer, session: ::whip::Session) {
    let origin = (tokio::time::Instant::now().into_std(), node.clock.monotonic());
    let full_intra = offer.video.as_ref().is_some_and(|video| video.fir);
    let media = rtp::Session::new(settings(&offer));
    let encoder = offer.encoder.clone();
    let mut connection = Connection {
        node,
        stream,
        encoder,
        session,
        media,
        full_intra,
        has_video: offer.video.is_some(),
        key_frame: origin.1,
        origin,
        publishing: None,
        moving: None,
        jumps: [0; 2],
    };
    let cause = connection.run().await;
    connection.end(&cause);
}

/// What the RTP session has to know of an offer.
fn settings(offer: &Offer) -> rtp::Settings {
    let mut settings = rtp::Settings { retransmission: false, ..rtp::Settings::default() };
    if let Some(video) = &offer.video {
        settings.retransmission = video.nack;
        settings.formats.insert(video.payload_type, rtp_format(video));
        if let Some(payload_type) = video.retransmission {
            let format = rtp::Format::Retransmission { primary: video.payload_type };
            settings.formats.insert(payload_type, format);
        }
    }
    if let Some(sound) = &offer.sound {
        settings.formats.insert(sound.payload_type, rtp::Format::Opus { channels: sound.channels });
    }
    settings
}

impl Connection {
    async fn run(&mut self) -> EndCause {
        loop {
            let failure = self.publishing.as_mut().and_then(|(publishing, _)| publishing.publication.take_failure());
            if let Some(reason) = failure {
                return EndCause::Disconnected(reason);
            }
            let over = match self.wake().await {
                Wake::Session(event) => self.take(event).await,
                Wake::Command(command) => self.obey(command),
                Wake::Deadline => self.tick(),
            };
            if let Some(cause) = over {
                return cause;
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        if let Some(wake) = self.hold_back().await {
            return wake;
        }
        let now = self.node.clock.monotonic();
        let tick = self.publishing.as_ref().and_then(|(publishing, _)| publishing.publication.next_tick());
        let close = self.moving.as_ref().map(|moving| moving.close_at);
        let key_frame = self.publishing.as_ref().and(self.key_frame_due());
        let deadline = [self.media.next_timeout(), tick, close, key_frame].into_iter().flatten().min();
        let wait = deadline.map_or(Duration::MAX, |at| at.saturating_sub(now));
        let (session, publishing) = (&mut self.session, &mut self.publishing);
        let is_full = publishing.as_ref().is_some_and(|(publishing, _)| publishing.publication.is_full());
        let event = async {
            if is_full {
                // What comes waits in the session until its recordings have begun.
                loop {
                    session.work().await;
                }
            }
            session.next().await
        };
        let command = async {
            match publishing {
                Some((publishing, _)) => publishing.mailbox.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = command => Wake::Command(command),
            event = event => Wake::Session(event),
            () = tokio::time::sleep(wait) => Wake::Deadline,
        }
    }

    /// While the disk takes nothing, media waits in the session: answers to checks have to go out all the same.
    async fn hold_back(&mut self) -> Option<Wake> {
        let (publishing, _) = self.publishing.as_mut()?;
        let session = &mut self.session;
        let alive = async {
            loop {
                session.work().await;
            }
        };
        tokio::select! {
            biased;
            () = self.node.spool.writable() => None,
            command = publishing.mailbox.recv() => Some(Wake::Command(command)),
            () = alive => None,
        }
    }

    /// `Some` = the publisher is gone.
    async fn take(&mut self, event: SessionEvent) -> Option<EndCause> {
        match event {
            SessionEvent::Connected => return self.connected().await,
            SessionEvent::Packet(packet) => {
                let arrival = self.monotonic(packet.at);
                self.media.push_rtp(converted(packet, arrival));
            }
            SessionEvent::Report(report) => {
                let arrival = self.monotonic(report.at);
                self.media.push_sender_report(report.ssrc, report.ntp_time, report.rtp_time, arrival);
            }
            SessionEvent::Ended(cause) => return Some(end_cause(cause)),
        }
        self.deliver()
    }

    /// Lets the publisher in. An offer that never connects has disturbed nobody.
    async fn connected(&mut self) -> Option<EndCause> {
        let now = self.node.clock.now();
        let publisher = Publisher {
            session: SessionId::new(now, rand::random()),
            stream: self.stream.clone(),
            protocol: protocol::Kind::Whip,
            remote: self.session.remote().map(|address| address.to_string()).unwrap_or_default(),
            encoder: self.encoder.clone(),
            since: now,
        };
        match Publishing::admit(&self.node, publisher).await {
            Ok(publishing) => {
                self.publishing = Some((publishing, Counted::new()));
                None
            }
            Err(reason) => {
                tracing::info!(stream = %self.stream, reason, "publisher refused");
                metrics::counter!("recorder_publish_rejected_total", "protocol" => "whip", "reason" => "admission")
                    .increment(1);
                Some(EndCause::Disconnected(reason.to_owned()))
            }
        }
    }

    /// Passes on what the RTP session has ready. `Some` = the publisher has come to where it is cut.
    fn deliver(&mut self) -> Option<EndCause> {
        let now = self.node.clock.monotonic();
        while let Some(output) = self.media.poll() {
            match output {
                Output::Event(event) => {
                    if is_key(&event) {
                        self.key_frame = now;
                        if let Some(moving) = self.moving.take() {
                            return Some(EndCause::Disconnected(moving.reason));
                        }
                    }
                    if let Some((publishing, _)) = &mut self.publishing {
                        publishing.publication.ingest(event, now);
                    }
                }
                Output::KeyFrame(request) => {
                    let full = self.full_intra && request.attempt >= PLI_ATTEMPTS;
                    let how = if full { KeyFrameRequest::FullIntra } else { KeyFrameRequest::PictureLoss };
                    self.session.request_key_frame(request.ssrc, how);
                }
            }
        }
        self.report_jumps(now);
        None
    }

    /// Jumps of RTP timestamps are taken out before anybody behind sees them; the health report is told all the same.
    fn report_jumps(&mut self, now: Duration) {
        let clock = self.media.counts().clock;
        let jumps = [clock.timestamp_jumps.saturating_sub(clock.sound_jumps), clock.sound_jumps];
        let Some((publishing, _)) = self.publishing.as_mut().filter(|_| jumps != self.jumps) else { return };
        let before = std::mem::replace(&mut self.jumps, jumps);
        for ((track, jumps), before) in [TrackKind::Video, TrackKind::Audio].into_iter().zip(jumps).zip(before) {
            publishing.publication.clock_jumped(track, jumps.saturating_sub(before), now);
        }
    }

    fn obey(&mut self, command: Command) -> Option<EndCause> {
        let splits = matches!(command, Command::Split { .. });
        if let Command::Orphan { recording } = &command
            && self.publishing.as_ref().is_some_and(|(publishing, _)| publishing.publication.has(recording))
        {
            // What waits for missing packets waits for nothing any more: the publisher goes elsewhere.
            self.drain_media();
        }
        let (publishing, _) = self.publishing.as_mut()?;
        match publishing.obey(command) {
            Order::Done => {
                if splits {
                    // The new file begins with a key frame; browsers send none unasked.
                    self.media.request_key_frame();
                    return self.deliver();
                }
                None
            }
            Order::HandOver(to) => {
                self.drain_media();
                if let Some((publishing, _)) = self.publishing.take() {
                    publishing.hand_over(&self.node, to);
                }
                Some(EndCause::Replaced)
            }
            Order::End(cause) => Some(cause),
            Order::Move(reason) => {
                let close_at = self.node.clock.monotonic().saturating_add(KEY_FRAME_PATIENCE);
                self.moving = Some(Moving { reason, close_at });
                self.media.request_key_frame();
                self.deliver()
            }
        }
    }

    fn tick(&mut self) -> Option<EndCause> {
        let now = self.node.clock.monotonic();
        if let Some(moving) = self.moving.take_if(|moving| now >= moving.close_at) {
            return Some(EndCause::Disconnected(moving.reason));
        }
        self.media.handle_timeout(now);
        if self.key_frame_due().is_some_and(|at| now >= at) {
            self.key_frame = now;
            self.media.request_key_frame();
        }
        let over = self.deliver();
        if let Some((publishing, _)) = &mut self.publishing {
            publishing.publication.tick(now);
        }
        over
    }

    /// When the newest key frame is so old that another one is asked for.
    fn key_frame_due(&self) -> Option<Duration> {
        let interval = self.node.settings.whip.key_frame_interval;
        (self.has_video && !interval.is_zero()).then(|| self.key_frame.saturating_add(interval))
    }

    fn monotonic(&self, at: Instant) -> Duration {
        let (instant, monotonic) = self.origin;
        monotonic.saturating_add(at.saturating_duration_since(instant))
    }

    /// Everything that was sent reaches the publication.
    fn drain_media(&mut self) {
        // A key frame would end it in the middle.
        let moving = self.moving.take();
        self.session.take_received();
        while let Some(event) = self.session.try_next() {
            if let SessionEvent::Packet(packet) = event {
                let arrival = self.monotonic(packet.at);
                self.media.push_rtp(converted(packet, arrival));
            }
        }
        self.media.end();
        let _ = self.deliver();
        self.moving = moving;
    }

    fn end(&mut self, cause: &EndCause) {
        if self.publishing.is_none() {
            // A publisher that cannot be let in is somebody's question; one that does not come is everyday.
            match cause {
                EndCause::ProtocolError(why) => {
                    tracing::info!(stream = %self.stream, why, "WHIP publisher not connected")
                }
                cause => tracing::debug!(stream = %self.stream, ?cause, "WHIP session over"),
            }
            return;
        }
        let moved = self.moving.take().is_some();
        self.drain_media();
        let counts = self.media.counts();
        tracing::info!(stream = %self.stream, ?counts, dropped_here = self.session.lost(), "WHIP publisher gone");
        if let Some((publishing, _)) = self.publishing.take() {
            publishing.leave(&self.node, cause, moved, None);
        }
    }
}

fn converted(packet: ::whip::Packet, arrival: Duration) -> rtp::Packet {
    rtp::Packet {
        payload_type: packet.payload_type,
        marker: packet.marker,
        sequence_number: packet.sequence_number,
        timestamp: packet.timestamp,
        ssrc: packet.ssrc,
        rid: packet.layer,
        payload: packet.payload,
        arrival,
    }
}

fn is_key(event: &media::ingest::Event) -> bool {
    matches!(event, media::ingest::Event::Frame(frame) if frame.track == TrackKind::Video && frame.keyframe)
}

/// Why a session is over, in the words of all protocols.
fn end_cause(cause: Cause) -> EndCause {
    match cause {
        Cause::Deleted => EndCause::Unpublished,
        Cause::Closed | Cause::NeverConnected | Cause::Vanished => EndCause::ConnectionLost,
        Cause::Silent => EndCause::IdleTimeout,
        Cause::Displaced => EndCause::Replaced,
        Cause::Failed(why) => EndCause::ProtocolError(why),
    }
}

/// Whatever ends the task, a panic included, ends the publication.
impl Drop for Connection {
    fn drop(&mut self) {
        if let Some((publishing, _)) = self.publishing.take() {
            publishing.abandon(&self.node);
        }
    }
}
