//! A publisher: a camera, a microphone, their clocks, and what they become on the wire.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rtp::Packet;

use crate::bits::{avcc, pps, sps};

pub const VIDEO: u8 = 102;
pub const AUDIO: u8 = 111;
const MTU: usize = 1_100;
/// NTP time at the start of every simulation.
const WALL: f64 = 3_900_000_000.25;

/// A device that counts: RTP timestamps at a rate that is a little off.
#[derive(Clone)]
pub struct Counter {
    pub ssrc: u32,
    pub sequence: u16,
    pub first: u32,
    /// True ticks per second.
    pub rate: f64,
    /// Seconds at which `first` was counted.
    pub since: f64,
    pub packets: u64,
}

impl Counter {
    pub fn new(rate: f64, ppm: f64, rng: &mut StdRng) -> Self {
        let (ssrc, sequence, first) = (rng.random(), rng.random(), rng.random());
        Self { ssrc, sequence, first, rate: rate * (1.0 + ppm * 1e-6), since: 0.0, packets: 0 }
    }

    pub fn at(&self, time: f64) -> u32 {
        let ticks = ((time - self.since) * self.rate).round() as i64;
        self.first.wrapping_add(ticks as u32)
    }
}

/// A frame as it was captured.
#[derive(Clone)]
pub struct Captured {
    pub time: f64,
    pub keyframe: bool,
    pub data: Bytes,
    pub layer: usize,
    pub source: u32,
}

/// A sender report.
#[derive(Clone, Debug)]
pub struct Report {
    pub ssrc: u32,
    pub ntp: u64,
    pub rtp: u32,
}

/// The publisher. Frames of all layers are numbered in `pictures`, packets of sound in `sounds`.
pub struct Publisher {
    pub rng: StdRng,
    pub video: Vec<Counter>,
    pub audio: Counter,
    pub pictures: Vec<Captured>,
    pub sounds: Vec<Captured>,
    pub size: (u32, u32),
    /// Extra bytes of a slice, at most.
    pub slice_bytes: usize,
    pub slices: usize,
    pub key_due: Vec<bool>,
    /// Wall clock minus true time, and its drift.
    pub wall: f64,
    pub wall_ppm: f64,
    pub rids: bool,
    quantiser: u32,
}

impl Publisher {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let video = vec![Counter::new(90_000.0, -100.0, &mut rng)];
        let audio = Counter::new(48_000.0, 100.0, &mut rng);
        Self {
            rng,
            video,
            audio,
            pictures: Vec::new(),
            sounds: Vec::new(),
            size: (640, 352),
            slice_bytes: 1_500,
            slices: 2,
            key_due: vec![true; 4],
            wall: WALL,
            wall_ppm: 50.0,
            rids: false,
            quantiser: 0,
        }
    }

    /// Simulcast: layer n has 1/2^n of the size.
    pub fn simulcast(mut self, layers: usize) -> Self {
        self.video = (0..layers).map(|_| Counter::new(90_000.0, -100.0, &mut self.rng)).collect();
        self.rids = true;
        self
    }

    /// The encoder begins anew with other parameter sets.
    pub fn resize(&mut self, size: (u32, u32)) {
        self.size = size;
        self.quantiser += 1;
        self.key_due = vec![true; 4];
    }

    /// A picture of one layer captured at `time`, as packets.
    pub fn picture(&mut self, layer: usize, time: f64) -> Vec<Packet> {
        let number = self.pictures.len() as u64;
        let keyframe = std::mem::take(&mut self.key_due[layer]);
        let header = if keyframe { 0x65 } else { 0x41 };
        let mut nals = Vec::new();
        for slice in 0..self.slices {
            // first_mb_in_slice is 0 for the first slice: its ue(v) is one bit.
            let mut nal = vec![header, if slice == 0 { 0x88 } else { 0x48 }];
            nal.extend(number.to_be_bytes());
            let extra = self.rng.random_range(0..=if keyframe { self.slice_bytes * 3 } else { self.slice_bytes });
            nal.resize(nal.len() + extra, number as u8 | 1);
            nals.push(Bytes::from(nal));
        }
        let slices: Vec<&[u8]> = nals.iter().map(|nal| &nal[..]).collect();
        self.pictures.push(Captured { time, keyframe, data: avcc(&slices), layer, source: self.video[layer].ssrc });
        let mut payloads = Vec::new();
        if keyframe {
            let (width, height) = (self.size.0 >> layer & !15, self.size.1 >> layer & !15);
            payloads.extend(self.sets(sps(width, height), pps(0, self.quantiser)));
        }
        nals.iter().for_each(|nal| payloads.extend(packetise(nal)));
        let rid = self.rids.then(|| Arc::from(layer.to_string()));
        packets(&mut self.video[layer], VIDEO, time, payloads, rid)
    }

    /// A packet of sound.
    pub fn sound(&mut self, time: f64) -> Vec<Packet> {
        let number = self.sounds.len() as u64;
        // 20 ms, one frame, stereo.
        let data: Bytes = [&[0xfc][..], &number.to_be_bytes(), &[number as u8; 40]].concat().into();
        self.sounds.push(Captured { time, keyframe: true, data: data.clone(), layer: 0, source: self.audio.ssrc });
        packets(&mut self.audio, AUDIO, time, vec![data], None)
    }

    /// Reports of a source made at `time`.
    pub fn report(&self, counter: &Counter, time: f64) -> Report {
        let wall = self.wall + time * (1.0 + self.wall_ppm * 1e-6);
        let ntp = ((wall.trunc() as u64) << 32) | (wall.fract() * 4_294_967_296.0) as u64;
        Report { ssrc: counter.ssrc, ntp, rtp: counter.at(time) }
    }

    /// Parameter sets as one packet or as two.
    fn sets(&mut self, sps: Bytes, pps: Bytes) -> Vec<Bytes> {
        if self.rng.random() {
            return vec![sps, pps];
        }
        let mut both = vec![24];
        for set in [sps, pps] {
            both.extend((set.len() as u16).to_be_bytes());
            both.extend(set);
        }
        vec![both.into()]
    }
}

/// A NAL unit as payloads of one packet each.
pub fn packetise(nal: &Bytes) -> Vec<Bytes> {
    if nal.len() <= MTU {
        return vec![nal.clone()];
    }
    let parts: Vec<&[u8]> = nal[1..].chunks(MTU - 2).collect();
    let last = parts.len() - 1;
    let fragment = |(n, part): (usize, &&[u8])| {
        let edge = if n == 0 { 0x80 } else { 0 } | if n == last { 0x40 } else { 0 };
        Bytes::from([&[nal[0] & 0xe0 | 28, edge | nal[0] & 31][..], part].concat())
    };
    parts.iter().enumerate().map(fragment).collect()
}

fn packets(
    counter: &mut Counter,
    payload_type: u8,
    time: f64,
    payloads: Vec<Bytes>,
    rid: Option<Arc<str>>,
) -> Vec<Packet> {
    let last = payloads.len() - 1;
    let make = |(n, payload): (usize, Bytes)| {
        counter.sequence = counter.sequence.wrapping_add(1);
        counter.packets += 1;
        Packet {
            payload_type,
            marker: n == last,
            sequence_number: counter.sequence,
            timestamp: counter.at(time),
            ssrc: counter.ssrc,
            // Only the first packets say it.
            rid: rid.clone().filter(|_| counter.packets < 50),
            payload,
            arrival: Duration::ZERO,
        }
    };
    payloads.into_iter().enumerate().map(make).collect()
}
