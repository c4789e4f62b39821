//! One source: its packets in order, and the frames they make.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::ingest::Rejection;
use media::{CodecConfig, OpusConfig, TrackKind};

use crate::counts::TrackCounts;
use crate::keyframes::{KeyFrames, Want};
use crate::opus;
use crate::packet::{Format, Packet};
use crate::picture::{self, Coding as PictureCoding, Depacketizer, Missing};
use crate::reorder::{Item, Reorder};
use crate::simulcast::Layer;

/// A frame of one source, with the source's own timestamp.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) timestamp: u32,
    pub(crate) keyframe: bool,
    pub(crate) data: Bytes,
    pub(crate) config: CodecConfig,
    pub(crate) missing: Option<Missing>,
}

/// Frames kept of a source that may be about to take over.
const MAX_SPARE: usize = 64;
/// And their bytes.
const MAX_SPARE_BYTES: usize = 2 << 20;

/// What a source gives.
#[derive(Debug)]
pub(crate) enum Given {
    Unit(Unit),
    Rejected(Rejection),
}

#[derive(Debug)]
enum Coding {
    Picture(Box<Depacketizer>),
    Opus { config: Arc<OpusConfig>, missing: Missing, is_fresh: bool },
}

/// The source.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) kind: TrackKind,
    pub(crate) payload_type: u8,
    pub(crate) layer: Layer,
    pub(crate) key_frames: KeyFrames,
    newest: Option<u16>,
    reorder: Reorder,
    coding: Coding,
    given: VecDeque<Given>,
    /// What it gave while another source was delivered, from a key frame on, and since when.
    spare: VecDeque<Unit>,
    spare_since: Duration,
}

/// The track a format belongs to and the rate of its clock in Hz; `None` for retransmissions.
pub(crate) fn track_of(format: &Format) -> Option<(TrackKind, u32)> {
    match format {
        Format::H264 { .. } | Format::H265 { .. } | Format::Av1 | Format::Vp9 | Format::Vp8 => {
            Some((TrackKind::Video, 90_000))
        }
        Format::Opus { .. } => Some((TrackKind::Audio, media::opus::SAMPLE_RATE)),
        Format::Retransmission { .. } => None,
    }
}

impl Stream {
    /// The source of `packet`, the `order`th; `None` for retransmissions.
    pub(crate) fn new(packet: &Packet, format: &Format, order: u64) -> Option<Self> {
        let (kind, _) = track_of(format)?;
        let picture = |coding, sets: &[Bytes]| Coding::Picture(Box::new(Depacketizer::new(coding, sets)));
        let coding = match format {
            Format::H264 { parameter_sets } => picture(PictureCoding::H264, parameter_sets),
            Format::H265 { parameter_sets } => picture(PictureCoding::H265, parameter_sets),
            Format::Av1 => picture(PictureCoding::Av1, &[]),
            Format::Vp9 => picture(PictureCoding::Vp9, &[]),
            Format::Vp8 => picture(PictureCoding::Vp8, &[]),
            Format::Opus { channels } => {
                let config = opus::config(*channels);
                Coding::Opus { config, missing: Missing::default(), is_fresh: true }
            }
            Format::Retransmission { .. } => return None,
        };
        Some(Self {
            kind,
            payload_type: packet.payload_type,
            layer: Layer { rid: packet.rid.clone(), pixels: 0, order, latest: packet.arrival },
            key_frames: KeyFrames::default(),
            newest: None,
            reorder: Reorder::default(),
            coding,
            given: VecDeque::new(),
            spare: VecDeque::new(),
            spare_since: Duration::ZERO,
        })
    }

    /// Takes a packet. True when it is newer than all before it.
    pub(crate) fn push(&mut self, packet: Packet, wait: Duration, counts: &mut TrackCounts) -> bool {
        counts.packets += 1;
        counts.bytes += packet.payload.len() as u64;
        self.layer.latest = packet.arrival;
        if packet.rid.is_some() && self.layer.rid.is_none() {
            self.layer.rid.clone_from(&packet.rid);
        }
        let sequence = packet.sequence_number;
        let is_newer = self.newest.is_none_or(|newest| (sequence.wrapping_sub(newest) as i16) > 0);
        if is_newer {
            self.newest = Some(sequence);
        }
        self.reorder.push(packet, wait, counts);
        self.pump(counts);
        is_newer
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, now: Duration, wait: Duration, counts: &mut TrackCounts) {
        self.reorder.advance(now, wait, counts);
        self.pump(counts);
        if let Coding::Picture(depacketizer) = &mut self.coding {
            depacketizer.advance(now, counts);
        }
        self.collect();
    }

    /// When [`Self::advance`] has something to do.
    pub(crate) fn deadline(&self, wait: Duration) -> Option<Duration> {
        let picture = match &self.coding {
            Coding::Picture(depacketizer) => depacketizer.deadline(),
            Coding::Opus { .. } => None,
        };
        [self.reorder.deadline(wait), picture].into_iter().flatten().min()
    }

    /// Nothing more will come.
    pub(crate) fn end(&mut self, counts: &mut TrackCounts) {
        self.reorder.end(counts);
        self.pump(counts);
        if let Coding::Picture(depacketizer) = &mut self.coding {
            depacketizer.end(counts);
        }
        self.collect();
    }

    /// What is ready.
    pub(crate) fn poll(&mut self) -> Option<Given> {
        self.given.pop_front()
    }

    /// Keeps a frame while another source is delivered, whose newest packet came at `other`. Gives the number of frames
    /// that are of no use any more.
    pub(crate) fn spare(&mut self, unit: Unit, now: Duration, other: Duration) -> u64 {
        let held = self.spare.len();
        let bytes: usize = self.spare.iter().map(|unit| unit.data.len()).sum();
        let is_full = held >= MAX_SPARE || bytes + unit.data.len() > MAX_SPARE_BYTES;
        // What the other source has delivered meanwhile need not be shown again.
        let overlaps = unit.keyframe && other > self.spare_since;
        if is_full || overlaps {
            self.spare.clear();
        }
        if self.spare.is_empty() {
            self.spare_since = now;
        }
        if unit.keyframe || !self.spare.is_empty() {
            self.spare.push_back(unit);
        }
        (held + 1 - self.spare.len()) as u64
    }

    /// What was kept; it begins with a key frame.
    pub(crate) fn take_spare(&mut self) -> VecDeque<Unit> {
        std::mem::take(&mut self.spare)
    }

    /// There is something it could take over with.
    pub(crate) fn has_spare(&self) -> bool {
        !self.spare.is_empty()
    }

    /// Packets wait for a missing one.
    pub(crate) fn is_blocked(&self) -> bool {
        self.reorder.is_blocked()
    }

    /// This packet is missing here.
    pub(crate) fn misses(&self, sequence: u16) -> bool {
        self.reorder.misses(sequence)
    }

    /// Why no picture leaves, if none does.
    pub(crate) fn needs_key_frame(&self) -> Option<Want> {
        match &self.coding {
            Coding::Picture(depacketizer) => {
                let was_whole = depacketizer.needs_key_frame()?;
                Some(if was_whole { Want::Loss } else { Want::Start })
            }
            Coding::Opus { .. } => None,
        }
    }

    fn pump(&mut self, counts: &mut TrackCounts) {
        while let Some(item) = self.reorder.poll() {
            match &mut self.coding {
                Coding::Picture(depacketizer) => {
                    depacketizer.push(item, counts);
                    self.collect();
                }
                Coding::Opus { .. } => self.sound(item, counts),
            }
        }
    }

    /// Pictures that are complete.
    fn collect(&mut self) {
        let Coding::Picture(depacketizer) = &mut self.coding else { return };
        for output in depacketizer.drain() {
            self.given.push_back(match output {
                picture::Output::Picture(picture) => {
                    let (width, height) = picture.config.picture_size().unwrap_or_default();
                    self.layer.pixels = u64::from(width) * u64::from(height);
                    Given::Unit(Unit {
                        timestamp: picture.timestamp,
                        keyframe: picture.keyframe,
                        data: picture.data,
                        config: picture.config,
                        missing: picture.missing,
                    })
                }
                picture::Output::BeforeConfig => Given::Rejected(Rejection::BeforeConfig),
                picture::Output::BadConfig => Given::Rejected(Rejection::Malformed),
            });
        }
    }

    fn sound(&mut self, item: Item, counts: &mut TrackCounts) {
        let Coding::Opus { config, missing, is_fresh } = &mut self.coding else { return };
        let packet = match item {
            Item::Packet(packet) => packet,
            Item::Lost(packets) => {
                (missing.packets, missing.frames) = (missing.packets + packets, missing.frames + packets);
                return;
            }
        };
        if packet.payload.is_empty() {
            return;
        }
        if opus::samples(&packet.payload).is_none() {
            counts.malformed += 1;
            self.given.push_back(Given::Rejected(Rejection::Malformed));
            return;
        }
        let lost = std::mem::take(missing);
        let was_fresh = std::mem::replace(is_fresh, false);
        self.given.push_back(Given::Unit(Unit {
            timestamp: packet.timestamp,
            keyframe: true,
            data: packet.payload,
            config: CodecConfig::Opus(Arc::clone(config)),
            missing: Some(lost).filter(|lost| !was_fresh && *lost != Missing::default()),
        }));
    }
}
