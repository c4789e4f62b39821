//! A publisher's session: packets, sender reports and time in; ingest events and requests out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use media::TrackKind;
use media::ingest::Event;

use crate::clock::Clock;
use crate::counts::{Counts, TrackCounts};
use crate::keyframes::{KeyFrameRequest, Want};
use crate::packet::{Format, Packet};
use crate::release::Release;
use crate::retransmission;
use crate::stream::{Given, Stream, Unit, track_of};

/// Sources followed at a time: three simulcast layers and a sound, before and after a change of all of them.
const MAX_SOURCES: usize = 12;
/// A source that sent nothing for so long makes room for another.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// A hole is waited for that long when nobody asks for retransmissions: it can only be reordering.
const REORDERING: Duration = Duration::from_millis(100);
/// While the round-trip time is not known, retransmissions are waited for that long.
const USUAL_WAIT: Duration = Duration::from_millis(400);
/// And at least and at most that long: 2 round trips and what the sender takes.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// What the sender takes to answer, and the asking side to ask.
const ANSWER: Duration = Duration::from_millis(100);

/// What was negotiated, and how patient the session is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What each payload type stands for.
    pub formats: BTreeMap<u8, Format>,
    /// Somebody sends NACKs (RFC 4585, 6.2.1) for what is missing, so that waiting for it makes sense.
    pub retransmission: bool,
    /// How long the first frames are held back at most for sender reports of both tracks, so that picture and sound
    /// start aligned; longer makes alignment at the start more often exact and costs delay only.
    pub start_hold: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { formats: BTreeMap::new(), retransmission: true, start_hold: Duration::from_secs(1) }
    }
}

/// What a session has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// For the publication.
    Event(Event),
    /// For the publisher.
    KeyFrame(KeyFrameRequest),
}

/// The session; see the crate.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    wait: Duration,
    now: Duration,
    streams: BTreeMap<u32, Stream>,
    /// Sources of retransmissions and the sources they repeat.
    repairs: HashMap<u32, u32>,
    /// The source delivered of each track.
    video: Option<u32>,
    audio: Option<u32>,
    clock: Clock,
    release: Release,
    sources_seen: u64,
    counts: Counts,
    out: VecDeque<Output>,
}

impl Session {
    /// A session in which nothing has arrived yet.
    pub fn new(settings: Settings) -> Self {
        let wait = if settings.retransmission { USUAL_WAIT } else { REORDERING };
        let tracks = settings.formats.values().filter_map(track_of).map(|(kind, _)| kind);
        let has_both = tracks.clone().any(|kind| kind == TrackKind::Video) && tracks.into_iter().any(is_sound);
        let hold = if has_both { settings.start_hold } else { Duration::ZERO };
        Self {
            settings,
            wait,
            now: Duration::ZERO,
            streams: BTreeMap::new(),
            repairs: HashMap::new(),
            video: None,
            audio: None,
            clock: Clock::default(),
            release: Release::new(hold),
            sources_seen: 0,
            counts: Counts::default(),
            out: VecDeque::new(),
        }
    }

    /// `rtx` repeats packets of `primary` (SDP `ssrc-group:FID`). Without it the session finds out by itself.
    pub fn add_repair(&mut self, rtx: u32, primary: u32) {
        if self.repairs.len() < MAX_SOURCES || self.repairs.contains_key(&rtx) {
            self.repairs.insert(rtx, primary);
        }
    }

    /// The round-trip time to the publisher: decides how long a retransmission is waited for (2 round trips and 100 ms,
    /// 250 ms to 1 s).
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        if self.settings.retransmission {
            self.wait = round_trip.saturating_mul(2).saturating_add(ANSWER).clamp(WAITS.0, WAITS.1);
        }
    }

    /// Takes a packet as it was received.
    pub fn push_rtp(&mut self, mut packet: Packet) {
        self.now = self.now.max(packet.arrival);
        packet.arrival = self.now;
        let Some(format) = self.settings.formats.get(&packet.payload_type) else {
            self.counts.unknown += 1;
            return self.advance();
        };
        let repeated = matches!(format, Format::Retransmission { .. });
        let Some(packet) = self.primary(packet) else { return self.advance() };
        let Some(format) = self.settings.formats.get(&packet.payload_type) else { return self.advance() };
        let Some((kind, rate)) = track_of(format) else { return self.advance() };
        if !self.streams.contains_key(&packet.ssrc) {
            let made = Stream::new(&packet, format, self.sources_seen);
            if !self.make_room() {
                self.counts.unknown += 1;
                return self.advance();
            }
            self.sources_seen += 1;
            self.streams.extend(made.map(|stream| (packet.ssrc, stream)));
        }
        let (ssrc, timestamp, is_media) = (packet.ssrc, packet.timestamp, !packet.payload.is_empty());
        let Some(stream) = self.streams.get_mut(&ssrc) else { return };
        if stream.kind != kind {
            // A source does not turn from picture into sound.
            self.counts.unknown += 1;
            return self.advance();
        }
        let is_newer = stream.push(packet, self.wait, counts_of(&mut self.counts, kind));
        if is_newer && is_media && !repeated {
            self.clock.observe(kind, ssrc, rate, timestamp, self.now);
        }
        self.release.begin(self.now);
        self.take(ssrc);
        self.advance();
    }

    /// Takes a sender report (RFC 3550, 6.4.1): `ntp` is the 64-bit NTP timestamp, `rtp` the RTP timestamp.
    pub fn push_sender_report(&mut self, ssrc: u32, ntp: u64, rtp: u32, arrival: Duration) {
        self.now = self.now.max(arrival);
        self.clock.report(ssrc, ntp, rtp, self.now);
        self.advance();
    }

    /// Wants a key frame, for a file to begin with.
    pub fn request_key_frame(&mut self) {
        if let Some(stream) = self.video.and_then(|ssrc| self.streams.get_mut(&ssrc)) {
            stream.key_frames.want(Want::Cut);
        }
        self.advance();
    }

    /// The next thing to do; call until `None` after every other call.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Self::handle_timeout`] is due, on the clock of [`Packet::arrival`].
    pub fn next_timeout(&self) -> Option<Duration> {
        let due = self.streams.values().flat_map(|stream| {
            let key_frame = stream.key_frames.due().filter(|_| stream.layer.is_alive(self.now));
            [stream.deadline(self.wait), key_frame]
        });
        due.flatten().chain(self.release.deadline()).chain(self.settles_at()).min()
    }

    /// Does what is due although nothing arrives.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let due: Vec<u32> =
            self.streams.iter().filter(|(_, stream)| self.is_due(stream)).map(|(ssrc, _)| *ssrc).collect();
        for ssrc in due {
            if let Some(stream) = self.streams.get_mut(&ssrc) {
                stream.advance(self.now, self.wait, counts_of(&mut self.counts, stream.kind));
            }
            self.take(ssrc);
        }
        self.advance();
    }

    /// Nothing more will come: what is complete leaves.
    pub fn end(&mut self) {
        let all: Vec<u32> = self.streams.keys().copied().collect();
        for ssrc in all {
            if let Some(stream) = self.streams.get_mut(&ssrc) {
                stream.end(counts_of(&mut self.counts, stream.kind));
            }
            self.take(ssrc);
        }
        self.release.open();
        self.release(true);
    }

    /// What the session has seen so far.
    pub fn counts(&self) -> Counts {
        Counts { clock: self.clock.counts(), ..self.counts }
    }

    fn is_due(&self, stream: &Stream) -> bool {
        stream.deadline(self.wait).is_some_and(|at| self.now >= at)
    }

    /// What a retransmission repeats; other packets as they are.
    fn primary(&mut self, packet: Packet) -> Option<Packet> {
        let Some(&Format::Retransmission { primary }) = self.settings.formats.get(&packet.payload_type) else {
            return Some(packet);
        };
        let &[high, low, ..] = &packet.payload[..] else { return None };
        let sequence = u16::from_be_bytes([high, low]);
        let ssrc = self.repaired(&packet, primary, sequence)?;
        retransmission::original(packet, ssrc, primary)
    }

    fn repaired(&self, packet: &Packet, primary: u8, sequence: u16) -> Option<u32> {
        if let Some(ssrc) = self.repairs.get(&packet.ssrc) {
            return Some(*ssrc);
        }
        let all = || self.streams.iter().filter(move |(_, stream)| stream.payload_type == primary);
        let of_layer = all().find(|(_, stream)| packet.rid.is_some() && stream.layer.rid == packet.rid);
        let found = of_layer.or_else(|| all().find(|(_, stream)| stream.misses(sequence)));
        found.map(|(ssrc, _)| *ssrc)
    }

    /// Room for one more source.
    fn make_room(&mut self) -> bool {
        if self.streams.len() < MAX_SOURCES {
            return true;
        }
        let idle = self.streams.iter().filter(|(ssrc, stream)| {
            ![self.video, self.audio].contains(&Some(**ssrc)) && self.now >= stream.layer.latest + FORGOTTEN
        });
        let Some(ssrc) = idle.min_by_key(|(_, stream)| stream.layer.latest).map(|(ssrc, _)| *ssrc) else {
            return false;
        };
        self.streams.remove(&ssrc);
        self.clock.forget(ssrc);
        true
    }

    /// Takes over what a source has ready.
    fn take(&mut self, ssrc: u32) {
        let Some(kind) = self.streams.get(&ssrc).map(|stream| stream.kind) else { return };
        while let Some(given) = self.streams.get_mut(&ssrc).and_then(Stream::poll) {
            match given {
                Given::Rejected(why) => self.out.push_back(Output::Event(Event::Rejected(kind, why))),
                Given::Unit(unit) => self.choose(kind, ssrc, unit),
            }
        }
    }

    /// Queues the unit if its source is the one delivered, or becomes that with it.
    fn choose(&mut self, kind: TrackKind, ssrc: u32, unit: Unit) {
        let chosen = self.chosen(kind);
        let other =
            chosen.and_then(|chosen| self.streams.get(&chosen)).map_or(Duration::ZERO, |other| other.layer.latest);
        let Some(stream) = self.streams.get_mut(&ssrc) else { return };
        if unit.keyframe {
            stream.key_frames.satisfied();
        }
        if chosen == Some(ssrc) {
            return self.release.push(kind, ssrc, unit);
        }
        let unused = stream.spare(unit, self.now, other);
        counts_of(&mut self.counts, kind).frames_unused += unused;
        self.settle(kind);
        // A layer is turned to at its key frame or not at all: sources without name may turn out to have taken over.
        if let Some(stream) = self.streams.get_mut(&ssrc).filter(|stream| stream.layer.rid.is_some()) {
            counts_of(&mut self.counts, kind).frames_unused += stream.take_spare().len() as u64;
        }
    }

    /// Turns to a source that takes over.
    fn settle(&mut self, kind: TrackKind) {
        let chosen = self.chosen(kind);
        let current = chosen.and_then(|chosen| self.streams.get(&chosen)).map(|stream| &stream.layer);
        let takes_over = |stream: &Stream| {
            let replaces = current.is_none_or(|current| stream.layer.replaces(current, self.now));
            stream.kind == kind && stream.has_spare() && replaces
        };
        let Some(ssrc) = self.streams.iter().find(|(_, stream)| takes_over(stream)).map(|(ssrc, _)| *ssrc) else {
            return;
        };
        counts_of(&mut self.counts, kind).switches += u64::from(chosen.is_some());
        match kind {
            TrackKind::Video => self.video = Some(ssrc),
            TrackKind::Audio => self.audio = Some(ssrc),
        }
        let spare = self.streams.get_mut(&ssrc).map(Stream::take_spare).unwrap_or_default();
        if let Some(first) = spare.front() {
            let unneeded = self.release.turn(kind, ssrc, first.timestamp, &self.clock);
            counts_of(&mut self.counts, kind).frames_unused += unneeded;
        }
        for unit in spare {
            self.release.push(kind, ssrc, unit);
        }
    }

    fn chosen(&self, kind: TrackKind) -> Option<u32> {
        match kind {
            TrackKind::Video => self.video,
            TrackKind::Audio => self.audio,
        }
    }

    /// When a source takes over unless the one before it goes on.
    fn settles_at(&self) -> Option<Duration> {
        let waiting = self.streams.values().filter(|stream| stream.has_spare());
        let at = |stream: &Stream| {
            let current = self.chosen(stream.kind).and_then(|chosen| self.streams.get(&chosen))?;
            Some(stream.layer.replaces_at(&current.layer))
        };
        waiting.filter_map(at).min()
    }

    fn advance(&mut self) {
        self.settle(TrackKind::Video);
        self.settle(TrackKind::Audio);
        self.want_key_frames();
        let (synchronised, catching_up) = (self.clock.is_synchronised(), self.clock.is_catching_up(self.now));
        self.release.advance(self.now, synchronised, catching_up);
        self.release(false);
    }

    fn release(&mut self, everything: bool) {
        let blocked = |ssrc: Option<u32>| {
            !everything && ssrc.and_then(|ssrc| self.streams.get(&ssrc)).is_some_and(Stream::is_blocked)
        };
        let (video, audio) = (blocked(self.video), blocked(self.audio));
        self.release.drain(&mut self.clock, (video, audio), |event| {
            if let Event::Frame(frame) = &event {
                counts_of(&mut self.counts, frame.track).frames += 1;
            }
            self.out.push_back(Output::Event(event));
        });
    }

    fn want_key_frames(&mut self) {
        let (now, chosen) = (self.now, self.video);
        let current = chosen.and_then(|ssrc| self.streams.get(&ssrc)).map(|stream| stream.layer.clone());
        for (ssrc, stream) in self.streams.iter_mut().filter(|(_, stream)| !is_sound(stream.kind)) {
            match &current {
                Some(current) if chosen != Some(*ssrc) => {
                    if stream.layer.pixels == 0 || stream.layer.is_wanted(current, now) {
                        stream.key_frames.want(Want::Layer);
                    } else {
                        stream.key_frames.satisfied();
                    }
                }
                _ => {
                    if let Some(why) = stream.needs_key_frame() {
                        stream.key_frames.want(why);
                    }
                }
            }
            if stream.layer.is_alive(now)
                && let Some(request) = stream.key_frames.ask(*ssrc, now)
            {
                self.counts.key_frame_requests += 1;
                self.out.push_back(Output::KeyFrame(request));
            }
        }
    }
}

fn is_sound(kind: TrackKind) -> bool {
    kind == TrackKind::Audio
}

fn counts_of(counts: &mut Counts, kind: TrackKind) -> &mut TrackCounts {
    match kind {
        TrackKind::Video => &mut counts.video,
        TrackKind::Audio => &mut counts.audio,
    }
}
