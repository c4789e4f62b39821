//! H.264 over RTP (RFC 6184, packetization modes 0 and 1): packets of one source to pictures a decoder can show.
//!
//! A picture ends where the timestamp changes. The marker says the same earlier, but some senders set it on every slice
//! and others never, so that it decides only where nothing else can: in front of a hole and in front of silence. After a
//! hole nothing leaves until the next picture that builds on none before it.

mod parameter_sets;
mod unit;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::AvcConfig;
use media::h264::{IDR, PPS, SPS};

use crate::counts::TrackCounts;
use crate::packet::Packet;
use crate::reorder::Item;
use parameter_sets::ParameterSets;
use unit::Unit;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// Silence after a marker that shows that the picture was complete.
const SETTLED: Duration = Duration::from_millis(60);
/// A source that sends no IDR picture for so long works with recovery points alone (open GOP, intra refresh).
const IDR_PATIENCE: Duration = Duration::from_secs(10);

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
    pub(crate) config: Arc<AvcConfig>,
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
    unit: Option<Unit>,
    sets: ParameterSets,
    /// The newest IDR picture came with parameter sets, so that one after a hole without them is not whole.
    sets_in_band: bool,
    state: State,
    missing: Missing,
    /// A hole lies in front of the next packet.
    hole: bool,
    now: Duration,
    out: Vec<Output>,
}

impl Depacketizer {
    /// With the parameter sets that SDP told.
    pub(crate) fn new(parameter_sets: &[Bytes]) -> Self {
        Self {
            unit: None,
            sets: ParameterSets::new(parameter_sets),
            sets_in_band: false,
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
        let begins = unit::begins_access_unit(&packet.payload);
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
        let unit = self.unit.get_or_insert_with(|| Unit::new(packet.timestamp));
        unit.at(&packet);
        if hole && !goes_on && begins != Some(true) {
            unit.damage();
        }
        unit.after_hole |= hole;
        if !take_payload(unit, &packet.payload) {
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
        if !inside || unit.is_reference || is_reference(&packet.payload) {
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
            self.sets.learn(&unit.sets);
            return;
        }
        let keyframe = unit.is_keyframe();
        let lacks_sets = unit.after_hole && unit.has_idr && self.sets_in_band && unit.sets.is_empty();
        if unit.is_damaged() || lacks_sets {
            if unit.is_reference {
                self.break_chain();
            }
            self.sets.learn(&unit.sets);
            return self.drop_frame(counts);
        }
        let may_start = match &mut self.state {
            State::Whole => true,
            State::Fresh { since } => {
                let since = *since.get_or_insert(self.now);
                unit.has_idr || (keyframe && self.now >= since + IDR_PATIENCE)
            }
            State::Broken { since } => unit.has_idr || (keyframe && self.now >= *since + IDR_PATIENCE),
        };
        let sets = std::mem::take(&mut unit.sets);
        let news = if keyframe { Vec::new() } else { self.sets.news(&sets) };
        self.sets.learn(&sets);
        if !may_start {
            return self.drop_frame(counts);
        }
        if unit.has_idr {
            self.sets_in_band = !sets.is_empty();
        }
        if keyframe && self.sets.activate(&sets).is_err() {
            self.out.push(Output::BadConfig);
        }
        let Some(config) = self.sets.active() else {
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

    fn drop_frame(&mut self, counts: &mut TrackCounts) {
        counts.frames_dropped += 1;
        self.missing.frames += 1;
    }
}

fn is_reference(payload: &[u8]) -> bool {
    payload.first().is_none_or(|header| header & 0x60 != 0)
}

/// Adds the NAL units, or the part of one, of a packet. False when it does not parse.
fn take_payload(unit: &mut Unit, payload: &Bytes) -> bool {
    let Some(&header) = payload.first() else { return true };
    match header & 31 {
        1..=23 => unit.add(payload.clone()),
        STAP_A => {
            let mut rest = payload.slice(1..);
            let mut whole = true;
            while let Some((&[high, low], _)) = rest.split_first_chunk::<2>() {
                let size = usize::from(u16::from_be_bytes([high, low]));
                if size == 0 || size + 2 > rest.len() {
                    return false;
                }
                whole &= unit.add(rest.slice(2..2 + size));
                rest = rest.slice(2 + size..);
            }
            whole && rest.is_empty()
        }
        FU_A => {
            let &[_, fragment, ..] = &payload[..] else { return false };
            let nal = (header & 0xe0) | (fragment & 31);
            unit.add_fragment(nal, fragment & 0x80 != 0, fragment & 0x40 != 0, payload.slice(2..))
        }
        _ => false,
    }
}

/// Whether a NAL unit of this type is a parameter set.
fn is_set(kind: u8) -> bool {
    matches!(kind, SPS | PPS)
}

/// Whether a NAL unit of this type is a coded slice.
fn is_slice(kind: u8) -> bool {
    matches!(kind, 1..=IDR)
}
