//! Packets of one source to pictures a decoder can show, whatever the codec.
//!
//! A picture ends where the timestamp changes. The marker says the same earlier, but some senders set it on every slice
//! and others never, so that it decides only where nothing else can: in front of a hole and in front of silence. After a
//! hole nothing leaves until the next picture that builds on none before it.

mod av1;
mod coding;
mod configs;
mod h264;
mod h265;
mod unit;
mod vp8;
mod vp9;

use std::time::Duration;

use bytes::Bytes;
use media::CodecConfig;

use crate::counts::TrackCounts;
use crate::packet::Packet;
use crate::reorder::Item;
pub(crate) use coding::{Coding, reorders};
use configs::Configs;
use unit::Unit;

/// Silence after a marker that shows that the picture was complete.
const SETTLED: Duration = Duration::from_millis(60);
/// A source that sends no picture to start from for so long works with recovery points alone (open GOP, intra refresh).
const PATIENCE: Duration = Duration::from_secs(10);

/// What is missing in front of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Packets that never came.
    pub(crate) packets: u64,
    /// Frames of which something came and that were dropped.
    pub(crate) frames: u64,
}

/// One complete access unit.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) timestamp: u32,
    pub(crate) keyframe: bool,
    /// As [`media::Frame::data`] says.
    pub(crate) data: Bytes,
    /// What decodes it.
    pub(crate) config: CodecConfig,
    /// `None` when it follows the one before.
    pub(crate) missing: Option<Missing>,
}

/// What leaves the depacketizer.
#[derive(Debug)]
pub(crate) enum Output {
    Picture(Picture),
    /// A key frame came, but no parameter sets ever.
    BeforeConfig,
    /// Parameter sets that do not parse.
    BadConfig,
}

/// Whether the next picture can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was ever delivered.
    Fresh { since: Option<Duration> },
    /// The chain is whole.
    Whole,
    /// Something the next pictures build on is lost.
    Broken { since: Duration },
}

/// The depacketizer of one source.
#[derive(Debug)]
pub(crate) struct Depacketizer {
    coding: Coding,
    unit: Option<Unit>,
    configs: Configs,
    /// The newest picture to start from came with parameter sets, so that one after a hole without them is not whole.
    sets_in_band: bool,
    /// Pictures that lead the newest one to start from build on what was not delivered.
    leads_nowhere: bool,
    /// Temporal layers seen, less one: pictures of the highest are those that none builds on.
    highest_layer: u8,
    state: State,
    missing: Missing,
    /// A hole lies in front of the next packet.
    hole: bool,
    now: Duration,
    out: Vec<Output>,
}

impl Depacketizer {
    /// With the parameter sets that SDP told.
    pub(crate) fn new(coding: Coding, parameter_sets: &[Bytes]) -> Self {
        Self {
            coding,
            unit: None,
            configs: Configs::new(coding, parameter_sets),
            sets_in_band: false,
            leads_nowhere: false,
            highest_layer: 0,
            state: State::Fresh { since: None },
            missing: Missing::default(),
            hole: false,
            now: Duration::ZERO,
            out: Vec::new(),
        }
    }

    /// Takes the next item of the source in order.
    pub(crate) fn push(&mut self, item: Item, counts: &mut TrackCounts) {
        match item {
            Item::Packet(packet) => self.packet(packet, counts),
            Item::Lost(packets) => {
                // With the marker, what is in front of the hole is complete.
                if self.unit.as_ref().is_some_and(|unit| unit.ended) {
                    self.finish(counts);
                }
                self.missing.packets += packets;
                self.hole = true;
            }
        }
    }

    /// Lets go of a picture whose end the marker told and that nothing followed.
    pub(crate) fn advance(&mut self, now: Duration, counts: &mut TrackCounts) {
        self.now = self.now.max(now);
        if self.deadline().is_some_and(|at| now >= at) {
            self.finish(counts);
        }
    }

    /// When [`Self::advance`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.unit.as_ref().filter(|unit| unit.ended && unit.has_slice).map(|unit| unit.latest + SETTLED)
    }

    /// Nothing more will come.
    pub(crate) fn end(&mut self, counts: &mut TrackCounts) {
        if self.unit.as_ref().is_some_and(|unit| unit.ended) {
            self.finish(counts);
        }
        self.unit = None;
    }

    /// What is ready.
    pub(crate) fn drain(&mut self) -> std::vec::Drain<'_, Output> {
        self.out.drain(..)
    }

    /// Nothing leaves before the next key frame: `Some(true)` when it once did, `Some(false)` when it never has.
    pub(crate) fn needs_key_frame(&self) -> Option<bool> {
        match self.state {
            State::Whole => None,
            State::Fresh { .. } => Some(false),
            State::Broken { .. } => Some(true),
        }
    }

    fn packet(&mut self, packet: Packet, counts: &mut TrackCounts) {
        self.now = self.now.max(packet.arrival);
        let hole = std::mem::take(&mut self.hole);
        if packet.payload.is_empty() {
            // Padding takes a sequence number and nothing else; a hole before it is still in front of what follows.
            self.hole = hole;
            return;
        }
        self.highest_layer = self.highest_layer.max(self.coding.temporal_layer(&packet.payload));
        let begins = self.coding.begins_access_unit(&packet.payload);
        let goes_on = self.unit.as_ref().is_some_and(|unit| {
            let same = unit.timestamp == packet.timestamp;
            if unit.has_slice { same && !(unit.ended && begins == Some(true)) } else { same || !hole }
        });
        if hole {
            self.mark_hole(&packet, goes_on, begins == Some(true));
        }
        if !goes_on {
            self.finish(counts);
        }
        let unit = self.unit.get_or_insert_with(|| Unit::new(self.coding, packet.timestamp));
        unit.at(&packet, self.highest_layer);
        if hole && !goes_on && begins != Some(true) {
            unit.damage();
        }
        unit.after_hole |= hole;
        if !self.coding.take_payload(unit, &packet.payload) {
            counts.malformed += u64::from(!unit.is_damaged());
            unit.damage();
        }
        unit.ended = packet.marker;
    }

    /// What a hole in front of this packet means for the picture before it, and for those after.
    fn mark_hole(&mut self, packet: &Packet, goes_on: bool, begins: bool) {
        let Some(unit) = &mut self.unit else { return self.break_chain() };
        let inside = goes_on && unit.timestamp == packet.timestamp && unit.has_slice && !begins;
        unit.damage();
        // A picture that none builds on may be lost alone.
        if !inside || unit.is_reference || self.coding.is_reference(&packet.payload, self.highest_layer) {
            self.break_chain();
        }
    }

    fn break_chain(&mut self) {
        if self.state == State::Whole {
            self.state = State::Broken { since: self.now };
        }
    }

    fn finish(&mut self, counts: &mut TrackCounts) {
        let Some(mut unit) = self.unit.take() else { return };
        if !unit.has_slice {
            self.configs.learn(&unit.sets);
            return;
        }
        let keyframe = unit.is_keyframe();
        let lacks_sets = unit.after_hole && unit.restarts && self.sets_in_band && unit.sets.is_empty();
        if unit.is_damaged() || lacks_sets {
            if unit.is_reference {
                self.break_chain();
            }
            self.configs.learn(&unit.sets);
            return self.drop_frame(counts);
        }
        let may_start = self.may_start(unit.restarts, keyframe);
        let sets = std::mem::take(&mut unit.sets);
        let news = if keyframe { Vec::new() } else { self.configs.news(&sets) };
        self.configs.learn(&sets);
        if !may_start {
            return self.drop_frame(counts);
        }
        if unit.is_leading && self.leads_nowhere {
            // Not lost: no decoder that starts here shows it (ITU-T H.265, 8.1.3).
            counts.frames_dropped += 1;
            return;
        }
        if unit.restarts {
            self.sets_in_band = !sets.is_empty();
            self.leads_nowhere = self.state != State::Whole || unit.breaks_link;
        }
        if keyframe && self.configs.activate(&sets, &unit).is_err() {
            self.out.push(Output::BadConfig);
        }
        let Some(config) = self.configs.active() else {
            self.out.push(Output::BeforeConfig);
            return self.drop_frame(counts);
        };
        let was_fresh = matches!(self.state, State::Fresh { .. });
        self.state = State::Whole;
        let missing = std::mem::take(&mut self.missing);
        let missing = Some(missing).filter(|missing| !was_fresh && *missing != Missing::default());
        let (timestamp, data) = (unit.timestamp, unit.into_data(news));
        self.out.push(Output::Picture(Picture { timestamp, keyframe, data, config, missing }));
    }

    /// Whether a picture can be shown: after what was shown before it, or because it builds on nothing.
    fn may_start(&mut self, restarts: bool, keyframe: bool) -> bool {
        let since = match &mut self.state {
            State::Whole => return true,
            State::Fresh { since } => *since.get_or_insert(self.now),
            State::Broken { since } => *since,
        };
        restarts || (keyframe && self.now >= since + PATIENCE)
    }

    fn drop_frame(&mut self, counts: &mut TrackCounts) {
        counts.frames_dropped += 1;
        self.missing.frames += 1;
    }
}
