//! One publisher's stream, from ingest events to its recordings. Survives a change of publisher.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use media::ingest::{EndCause, Event, Metadata};
use media::{CodecConfig, GapReason, Lineup, MediaTime, Timed, Timeline, TrackKind, Tracks};
use recorder_proto::facts::FactKind;
use recorder_proto::ids::{RecordingId, SessionId};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::{protocol, recording::EndReason};
use recorder_runtime::drain::Stage;

use crate::node::Node;
use crate::recording::Recording;
use crate::shipping::Wall;
use crate::{plans, stream_facts};

/// Who publishes.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// Id of this publish session.
    pub session: SessionId,
    /// What is published.
    pub stream: StreamKey,
    /// Over which protocol.
    pub protocol: protocol::Kind,
    /// Address and port of the peer.
    pub remote: String,
    /// Encoder name and version, empty when unknown.
    pub encoder: String,
    /// When it was let in.
    pub since: DateTime<Utc>,
}

/// Frame counters of one track, for the stream's report.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrackCount {
    /// Frames taken.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames and records that could not be used.
    pub rejected: u64,
}

/// What is known of the publication's tracks.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Video configuration.
    pub video: Option<CodecConfig>,
    /// Audio configuration.
    pub audio: Option<CodecConfig>,
    /// Video counters.
    pub video_count: TrackCount,
    /// Audio counters.
    pub audio_count: TrackCount,
    /// What the publisher says about itself.
    pub metadata: Metadata,
}

/// A live stream and the recordings made of it.
pub struct Publication {
    node: Arc<Node>,
    publisher: Publisher,
    timeline: Timeline,
    lineup: Lineup,
    known: Known,
    /// Wall clock at media time zero, known with the first frame.
    wall: Option<Wall>,
    recordings: Vec<Recording>,
    timed: Vec<Timed>,
    ready: Vec<Timed>,
    /// When the start gate has to be looked at although nothing arrives.
    next_tick: Option<Duration>,
    last_dts: MediaTime,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication").field("publisher", &self.publisher).finish_non_exhaustive()
    }
}

impl Publication {
    /// A new publication of an admitted publisher.
    pub fn start(node: Arc<Node>, publisher: Publisher) -> Self {
        node.facts.emit(node.clock.now(), None, stream_facts::started(&publisher));
        Self {
            node,
            publisher,
            timeline: Timeline::new(),
            lineup: Lineup::new(),
            known: Known::default(),
            wall: None,
            recordings: Vec::new(),
            timed: Vec::new(),
            ready: Vec::new(),
            next_tick: None,
            last_dts: MediaTime::ZERO,
        }
    }

    /// The publisher went away, but another takes over at once.
    pub fn interrupt(&mut self, cause: &EndCause) {
        let mut timed = std::mem::take(&mut self.timed);
        self.timeline.interrupt(GapReason::PublisherLost, &mut timed);
        self.pass(&mut timed, self.node.clock.monotonic());
        self.timed = timed;
        self.report_end(cause);
    }

    /// The publisher that takes over.
    pub fn resume(&mut self, publisher: Publisher) {
        self.publisher = publisher;
        // What is counted and claimed belongs to the session; the configurations stay until the new one sends its own.
        self.known = Known { video: self.known.video.take(), audio: self.known.audio.take(), ..Known::default() };
        self.tell(stream_facts::started(&self.publisher));
        self.report_tracks();
    }

    /// Takes one event of the protocol session.
    pub fn ingest(&mut self, event: Event, arrival: Duration) {
        let mut timed = std::mem::take(&mut self.timed);
        match event {
            Event::Metadata(metadata) => {
                self.lineup.announce(&metadata);
                if let Some(encoder) = metadata.encoder.as_ref().filter(|_| self.publisher.encoder.is_empty()) {
                    self.publisher.encoder.clone_from(encoder);
                }
                self.known.metadata = metadata;
            }
            Event::Config(track, config) => self.timeline.config(track, config, &mut timed),
            Event::Frame(frame) => {
                let count = self.count(frame.track);
                count.frames += 1;
                count.bytes += frame.data.len() as u64;
                self.timeline.push(frame, arrival, &mut timed);
            }
            Event::Rejected(track, reason) => {
                self.count(track).rejected += 1;
                metrics::counter!("recorder_frames_rejected_total", "reason" => rejection(reason)).increment(1);
            }
        }
        self.pass(&mut timed, arrival);
        self.timed = timed;
    }

    /// When [`Self::tick`] is due, on the monotonic clock.
    pub fn next_tick(&self) -> Option<Duration> {
        self.next_tick
    }

    /// Opens the start gate when its wait is over although nothing arrives.
    pub fn tick(&mut self, now: Duration) {
        if self.next_tick.is_some_and(|at| now >= at) {
            self.next_tick = None;
            let mut ready = std::mem::take(&mut self.ready);
            let opened = self.lineup.tick(now, &mut ready);
            self.deliver(opened, &mut ready);
            self.ready = ready;
        }
    }

    /// Finishes one recording; the publisher stays.
    pub fn stop(&mut self, recording: &str) {
        if let Some(index) = self.recordings.iter().position(|running| running.name() == recording) {
            self.recordings.swap_remove(index).finish(EndReason::Stopped);
        }
    }

    /// The recordings being made.
    pub fn recordings(&self) -> Vec<RecordingId> {
        self.recordings.iter().map(Recording::id).collect()
    }

    /// The stream has ended.
    pub fn end(mut self: Box<Self>, cause: EndCause) {
        let mut timed = std::mem::take(&mut self.timed);
        self.timeline.flush(&mut timed);
        self.pass(&mut timed, self.node.clock.monotonic());
        let mut ready = std::mem::take(&mut self.ready);
        let opened = self.lineup.flush(&mut ready);
        // Nothing but headers came: there is nothing to record.
        let opened = opened.filter(|_| self.wall.is_some());
        self.deliver(opened, &mut ready);
        let accepting = self.node.drain.stage() == Stage::Accepting;
        let reason = if accepting { EndReason::PublisherEnded } else { EndReason::NodeDrained };
        for recording in self.recordings.drain(..) {
            recording.finish(reason);
        }
        tracing::info!(session = %self.publisher.session, stream = %self.publisher.stream, ?cause, "stream ended");
        self.report_end(&cause);
    }

    fn count(&mut self, track: TrackKind) -> &mut TrackCount {
        match track {
            TrackKind::Video => &mut self.known.video_count,
            TrackKind::Audio => &mut self.known.audio_count,
        }
    }

    /// From the timeline through the start gate to the recordings.
    fn pass(&mut self, timed: &mut Vec<Timed>, arrival: Duration) {
        let mut ready = std::mem::take(&mut self.ready);
        let mut opened = None;
        for item in timed.drain(..) {
            match &item {
                Timed::Config(TrackKind::Video, config) => self.known.video = Some(config.clone()),
                Timed::Config(TrackKind::Audio, config) => self.known.audio = Some(config.clone()),
                Timed::Frame(frame) => self.first_frame(frame.dts, arrival),
                Timed::Gap(_) => {}
            }
            opened = opened.or(self.lineup.push(item, arrival, &mut ready));
        }
        self.deliver(opened, &mut ready);
        self.ready = ready;
    }

    fn first_frame(&mut self, dts: MediaTime, arrival: Duration) {
        self.last_dts = dts;
        if self.wall.is_none() {
            self.wall = Some(Wall { at: self.node.clock.now(), media: dts });
            self.next_tick = Some(arrival + LINEUP_WAIT);
        }
    }

    fn deliver(&mut self, opened: Option<Tracks>, ready: &mut Vec<Timed>) {
        if let Some(tracks) = opened {
            self.next_tick = None;
            self.start_recordings(tracks);
            self.report_tracks();
        }
        if ready.is_empty() {
            return;
        }
        let mut index = 0;
        while let Some(recording) = self.recordings.get_mut(index) {
            match recording.take(ready) {
                None => index += 1,
                Some(reason) => {
                    let recording = self.recordings.swap_remove(index);
                    recording.finish(reason);
                }
            }
        }
        ready.clear();
    }

    fn start_recordings(&mut self, tracks: Tracks) {
        let Some(wall) = self.wall else { return };
        for chosen in plans::of_stream(self.node.link.directives(), &self.publisher.stream) {
            match Recording::start(&self.node, &self.publisher, chosen, tracks, wall) {
                Ok(Some(recording)) => self.recordings.push(recording),
                // The plan has no format for these tracks, for example AAC of a stream with picture.
                Ok(None) => {}
                Err(error) => tracing::error!(stream = %self.publisher.stream, %error, "recording cannot start"),
            }
        }
    }

    fn report_tracks(&self) {
        self.tell(stream_facts::updated(&self.publisher, &self.known, self.recordings()));
    }

    fn report_end(&self, cause: &EndCause) {
        self.tell(stream_facts::ended(&self.publisher, &self.known, self.node.clock.now(), cause));
    }

    fn tell(&self, kind: FactKind) {
        self.node.facts.emit(self.node.clock.now(), None, kind);
    }
}

/// Slightly above the gate's own wait, so that one look is enough.
const LINEUP_WAIT: Duration = Duration::from_millis(2_010);

fn rejection(reason: media::ingest::Rejection) -> &'static str {
    match reason {
        media::ingest::Rejection::BeforeConfig => "before_config",
        media::ingest::Rejection::Malformed => "malformed",
        media::ingest::Rejection::UnsupportedCodec => "unsupported_codec",
    }
}
