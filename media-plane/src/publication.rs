//! One publisher's stream, from ingest events to its recordings. Survives a change of publisher, and its absence.

mod ending;
mod health;
mod tasks;
#[cfg(test)]
mod tests;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use media::ingest::{EndCause, Event};
use media::{GapReason, Lineup, MediaTime, Timed, Timeline, TrackKind, Tracks};
use recorder_proto::facts::FactKind;
use recorder_proto::ids::{RecordingId, SessionId};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::recording::EndReason;

use crate::meter::{self, Meter};
use crate::node::Node;
use crate::recording::{Feed, Recording, is_wanted};
use crate::shipping::Wall;
use crate::sound::{self, Sound};
use crate::starting::Starting;
use crate::{plans, stream_facts};
use ending::{Ending, Front};
use tasks::Tasks;

pub use crate::publisher::{Known, Publisher, TrackCount};

/// A stream, live or waiting for its publisher, and the recordings made of it.
pub struct Publication {
    node: Arc<Node>,
    publisher: Publisher,
    timeline: Timeline,
    /// Each publisher passes a gate of its own.
    lineup: Lineup,
    known: Known,
    /// What this publisher's gate has said of its tracks.
    tracks: Option<Tracks>,
    /// Wall clock at this publisher's first frame.
    wall: Option<Wall>,
    recordings: Vec<Recording>,
    /// Those of which the last sound is on its way.
    endings: Vec<Ending>,
    /// Up to where they have been given the stream as it comes.
    front: Front,
    /// On its way through the codecs, while a recording wants it so.
    sound: Option<Sound>,
    /// Recordings about to begin, with the frames they have missed so far.
    starting: Option<Starting>,
    /// Those of this stream.
    tasks: Tasks,
    /// Nothing is recorded because of this: the publisher has to come again.
    failure: Option<String>,
    meter: Meter,
    timed: Vec<Timed>,
    ready: Vec<Timed>,
    /// When the start gate has to be looked at although nothing arrives.
    gate_due: Option<Duration>,
    /// When a recording whose publisher is away has waited long enough for something.
    wait_due: Option<Duration>,
    /// When the newest frame arrived, on the monotonic clock.
    last_arrival: Duration,
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
        Self::over(node, publisher, Timeline::new(), Vec::new())
    }

    fn over(node: Arc<Node>, publisher: Publisher, timeline: Timeline, recordings: Vec<Recording>) -> Self {
        Self {
            last_arrival: node.clock.monotonic(),
            tasks: Tasks::new(&node),
            node,
            publisher,
            timeline,
            lineup: Lineup::new(),
            known: Known::default(),
            tracks: None,
            meter: Meter::new(),
            wall: None,
            recordings,
            endings: Vec::new(),
            front: Front::default(),
            sound: None,
            starting: None,
            failure: None,
            timed: Vec::new(),
            ready: Vec::new(),
            gate_due: None,
            wait_due: None,
        }
    }

    /// What is published.
    pub fn stream(&self) -> &StreamKey {
        &self.publisher.stream
    }

    /// The session of the newest publisher.
    pub fn session(&self) -> SessionId {
        self.publisher.session
    }

    /// The publisher went away: everything it sent reaches the recordings, and what follows comes after a hole.
    pub fn interrupt(&mut self, cause: &EndCause) {
        self.flush();
        tracing::info!(session = %self.publisher.session, stream = %self.publisher.stream, ?cause, "stream ended");
        self.report_end(cause);
    }

    /// The publisher that takes over, or is back.
    pub fn resume(&mut self, publisher: Publisher) {
        self.publisher = publisher;
        // What is counted and claimed belongs to the session; the configurations stay until the new one sends its own.
        self.known = Known { video: self.known.video.take(), audio: self.known.audio.take(), ..Known::default() };
        (self.lineup, self.tracks, self.wall, self.gate_due) = (Lineup::new(), None, None, None);
        self.tasks.begin_session();
        for recording in &mut self.recordings {
            recording.publisher_returned(self.publisher.session);
        }
        self.tell(stream_facts::started(&self.publisher));
        self.report_tracks();
    }

    /// Takes one event of the protocol session.
    pub fn ingest(&mut self, event: Event, arrival: Duration) {
        let mut timed = std::mem::take(&mut self.timed);
        self.timeline.watch(&event, arrival);
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
                self.last_arrival = arrival;
                self.timeline.push(frame, arrival, &mut timed);
            }
            Event::Rejected(track, reason) => {
                self.count(track).rejected += 1;
                meter::rejected(reason);
            }
            Event::Lost { track, frames, .. } => {
                self.count(track).rejected += frames;
                meter::lost(frames);
                self.timeline.lost(track, &mut timed);
            }
        }
        self.pass(&mut timed, arrival);
        self.timed = timed;
        self.weigh(arrival);
    }

    /// When [`Self::tick`] is due, on the monotonic clock.
    pub fn next_tick(&self) -> Option<Duration> {
        let starting = self.starting.as_ref().map(Starting::due);
        let sound = self.sound.as_ref().and_then(Sound::next_look);
        let own = [self.gate_due, self.wait_due, self.tasks.due(), self.health_due(), self.endings_due()];
        own.into_iter().chain([starting, sound]).flatten().min()
    }

    /// Does what is due although nothing arrives.
    pub fn tick(&mut self, now: Duration) {
        if self.gate_due.is_some_and(|at| now >= at) {
            self.gate_due = None;
            let mut ready = std::mem::take(&mut self.ready);
            let opened = self.lineup.tick(now, &mut ready);
            self.deliver(opened, &mut ready, now);
            self.ready = ready;
        }
        if self.wait_due.is_some_and(|at| now >= at) {
            self.wait(now);
        }
        if let Some(sound) = &mut self.sound {
            sound.tick(now);
            self.hear(false);
        }
        self.finish_endings_if_due(now);
        self.settle(now, false);
        self.review_if_due(now);
        self.weigh(now);
    }

    /// Why nothing is recorded although it should be; told once.
    pub fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// So much waits for recordings that are about to begin that the publisher has to wait too.
    pub fn is_full(&self) -> bool {
        self.starting.as_ref().is_some_and(Starting::is_full) || self.sound.as_ref().is_some_and(Sound::is_full)
    }

    /// Finishes one recording; the publisher stays.
    pub fn stop(&mut self, recording: &str) {
        self.end_with_sound(|running| (running.name() == recording).then_some(EndReason::Stopped));
    }

    /// New files in every format of one recording at the next key frame.
    pub fn split(&mut self, recording: &str) {
        self.recordings.iter_mut().filter(|running| running.name() == recording).for_each(Recording::split);
    }

    /// Closes what one recording keeps open, so that it ships.
    pub fn put_down_one(&mut self, recording: &str) {
        self.recordings.iter_mut().filter(|running| running.name() == recording).for_each(Recording::put_down);
    }

    /// Whether a recording is one of these.
    pub fn has(&self, recording: &str) -> bool {
        self.recordings.iter().any(|running| running.name() == recording)
    }

    /// Another node goes on with a recording. True when it was one of these: then its publisher belongs there too.
    pub fn orphan(&mut self, recording: &str) -> bool {
        if !self.has(recording) {
            return false;
        }
        // The newest frames wait for what follows them; nothing does.
        let mut timed = std::mem::take(&mut self.timed);
        self.timeline.flush(&mut timed);
        self.pass(&mut timed, self.last_arrival);
        self.timed = timed;
        self.hear(true);
        let index = self.recordings.iter().position(|running| running.name() == recording);
        index.map(|index| self.recordings.swap_remove(index).orphan()).is_some()
    }

    /// The recordings being made.
    pub fn recordings(&self) -> Vec<RecordingId> {
        self.recordings.iter().map(Recording::id).collect()
    }

    /// Ends everything for this reason.
    pub fn end(mut self: Box<Self>, reason: EndReason) {
        self.retain(|_| Some(reason));
    }

    /// Finishes the recordings for which there is a reason, at once.
    fn retain(&mut self, mut end: impl FnMut(&mut Recording) -> Option<EndReason>) {
        let mut index = 0;
        while let Some(recording) = self.recordings.get_mut(index) {
            match end(recording) {
                None => index += 1,
                Some(reason) => self.recordings.swap_remove(index).finish(reason),
            }
        }
    }

    fn count(&mut self, track: TrackKind) -> &mut TrackCount {
        match track {
            TrackKind::Video => &mut self.known.video_count,
            TrackKind::Audio => &mut self.known.audio_count,
        }
    }

    /// Everything the publisher sent reaches the recordings; what follows comes after a hole.
    fn flush(&mut self) {
        let now = self.node.clock.monotonic();
        let mut timed = std::mem::take(&mut self.timed);
        self.timeline.interrupt(GapReason::PublisherLost, &mut timed);
        self.pass(&mut timed, now);
        self.timed = timed;
        let mut ready = std::mem::take(&mut self.ready);
        // Nothing but headers came: there is nothing to record.
        let opened = self.lineup.flush(&mut ready).filter(|_| self.wall.is_some());
        self.deliver(opened, &mut ready, now);
        self.ready = ready;
        self.hear(true);
        self.sound.take().iter().for_each(Sound::tell);
        self.tasks.forget_media();
        self.settle(now, true);
        self.weigh(now);
        self.gate_due = None;
    }

    /// From the timeline through the start gate to the recordings.
    fn pass(&mut self, timed: &mut Vec<Timed>, arrival: Duration) {
        let mut ready = std::mem::take(&mut self.ready);
        let mut opened = None;
        for item in timed.drain(..) {
            match &item {
                Timed::Config(TrackKind::Video, config) => self.known.video = Some(config.clone()),
                Timed::Config(TrackKind::Audio, config) => self.known.audio = Some(config.clone()),
                Timed::Frame(frame) => {
                    self.meter.frame(frame);
                    self.first_frame(frame.dts, arrival);
                }
                // In front of this publisher's first frame: it is between the recordings there are and that frame, and
                // no business of those that begin with it.
                Timed::Gap(_) if self.lineup.is_fresh() => {
                    self.give(Feed::Both, &[item]);
                    continue;
                }
                Timed::Gap(_) => {}
            }
            opened = self.lineup.push(item, arrival, &mut ready).or(opened);
        }
        self.deliver(opened, &mut ready, arrival);
        self.ready = ready;
    }

    fn first_frame(&mut self, dts: MediaTime, arrival: Duration) {
        if self.wall.is_none() {
            self.wall = Some(Wall { at: self.node.clock.now(), media: dts });
            self.gate_due = Some(arrival + LINEUP_WAIT);
        }
    }

    /// The gate is open: every plan that matches now and is not being recorded gets a recording. When a track comes late,
    /// those do that could make nothing without it; recordings there are begin what they lack by themselves.
    fn begin(&mut self, tracks: Tracks, ready: &[Timed], now: Duration) {
        self.gate_due = None;
        let before = self.tracks.replace(tracks);
        let Some(wall) = self.wall else { return };
        if let Some(starting) = &mut self.starting {
            return starting.know(tracks);
        }
        let is_new = |chosen: &plans::Chosen| self.recordings.iter().all(|running| running.origin() != chosen.origin);
        // What had a format before has begun then, and may have been stopped since.
        let is_due = |chosen: &plans::Chosen| {
            let was_wanted = |before| chosen.plan.template.as_ref().is_some_and(|plan| is_wanted(plan, before));
            before.is_none_or(|before| !was_wanted(before))
        };
        let chosen = plans::of_stream(self.node.link.directives(), &self.publisher.stream);
        let mut chosen: Vec<_> = chosen.into_iter().filter(|chosen| is_new(chosen) && is_due(chosen)).collect();
        chosen.extend(self.tasks_at_gate(tracks));
        let first = ready.iter().find_map(|item| if let Timed::Frame(frame) = item { Some(frame.dts) } else { None });
        let wall = match first.filter(|_| before.is_some()) {
            Some(media) => Wall { at: wall.at(media), media },
            None => wall,
        };
        self.starting = Some(Starting::new(&self.node, &self.publisher, chosen, tracks, wall, now));
    }

    fn deliver(&mut self, opened: Option<Tracks>, ready: &mut Vec<Timed>, now: Duration) {
        if let Some(tracks) = opened {
            self.begin(tracks, ready, now);
        }
        if !ready.is_empty() {
            self.record(ready, now);
            ready.clear();
        }
        self.settle(now, false);
        self.review_if_due(now);
    }

    /// Recordings get the stream as it comes, or with its sound in AAC as soon as that is ready: each output what it wants.
    fn record(&mut self, items: &[Timed], now: Duration) {
        if self.sound.is_none() && items.iter().any(sound::is_foreign) && self.wants_aac() {
            self.sound = Some(Sound::new());
        }
        let Some(sound) = &mut self.sound else { return self.give(Feed::Both, items) };
        sound.push(items, now);
        self.give(Feed::Original, items);
        self.hear(false);
    }

    fn wants_aac(&self) -> bool {
        self.recordings.iter().any(Recording::wants_aac) || self.starting.as_ref().is_some_and(Starting::wants_aac)
    }

    /// What the codecs have ready; `all` = and what is inside them, so that what follows begins anew.
    fn hear(&mut self, all: bool) {
        let mut heard = Vec::new();
        self.sound.iter().for_each(|sound| if all { sound.flush(&mut heard) } else { sound.poll(&mut heard) });
        if !heard.is_empty() {
            self.give(Feed::Aac, &heard);
        }
        if all {
            self.finish_endings();
        }
    }

    fn give(&mut self, feed: Feed, items: &[Timed]) {
        self.retain(|recording| recording.take(feed, items));
        self.give_endings(feed, items);
        if feed.includes(Feed::Original) {
            self.front.pass(items);
        }
        if let Some(starting) = &mut self.starting {
            starting.hold(feed, items);
        }
        self.keep(feed, items);
    }

    /// Lets recordings begin once it is known which ones they are, or that this takes too long.
    fn settle(&mut self, now: Duration, at_once: bool) {
        if !self.starting.as_mut().is_some_and(|starting| at_once || starting.is_settled(now)) {
            return;
        }
        let Some(starting) = self.starting.take() else { return };
        let started = starting.start(&self.node, &self.publisher);
        self.recordings.extend(started.recordings);
        // A publisher that stays although nothing is recorded would never be recorded; one that comes back may be. Where
        // another recording is made it is not interrupted for that.
        let failed = started.failure.is_some();
        self.failure = started.failure.filter(|_| self.recordings.is_empty());
        self.report_tracks();
        if failed {
            self.retry_tasks(now);
        } else {
            self.review(now);
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
