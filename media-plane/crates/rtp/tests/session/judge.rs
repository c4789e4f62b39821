//! What must hold of everything that leaves a session, whatever the network did.

use std::collections::HashMap;
use std::time::Duration;

use media::health::Kind;
use media::ingest::Event;
use media::{CodecConfig, GapReason, Timed, Timeline, TrackKind};
use rtp::Output;

use crate::publisher::Captured;

/// Watches the output of one session.
#[derive(Default)]
pub struct Judge {
    timeline: Timeline,
    timed: Vec<Timed>,
    /// Ticks of the newest frame of each track, unwrapped.
    ticks: HashMap<TrackKind, i64>,
    /// Output minus capture time of the newest frame of each track, in seconds.
    errors: HashMap<TrackKind, f64>,
    /// Number and layer of the newest picture.
    newest: Option<(u64, usize)>,
    newest_sound: Option<u64>,
    told: HashMap<TrackKind, bool>,
    /// Offsets between picture and sound: capture time and seconds.
    pub offsets: Vec<(f64, f64)>,
    pub configs: Vec<(TrackKind, CodecConfig)>,
    pub layers: Vec<usize>,
    pub pictures: u64,
    pub sounds: u64,
    pub losses: u64,
    pub sound_holes: u64,
    pub gaps: u64,
    pub rejected: u64,
    pub first: HashMap<TrackKind, f64>,
    pub latency: f64,
    /// How far a frame was behind one of the other track that had left already, at most, in seconds.
    pub behind: f64,
    last_dts: HashMap<TrackKind, i64>,
}

impl Judge {
    pub fn take(&mut self, output: &Output, pictures: &[Captured], sounds: &[Captured], now: f64) {
        let Output::Event(event) = output else { return };
        self.timeline.watch(event, Duration::from_secs_f64(now));
        match event {
            Event::Config(track, config) => {
                self.configs.push((*track, config.clone()));
                self.timeline.config(*track, config.clone(), &mut self.timed);
            }
            Event::Lost { track, .. } => {
                self.losses += 1;
                self.told.insert(*track, true);
                self.timeline.lost(*track, &mut self.timed);
            }
            Event::Rejected(..) => self.rejected += 1,
            Event::Metadata(_) => panic!("RTP has no metadata"),
            Event::Frame(frame) => {
                let told = self.told.remove(&frame.track).unwrap_or(false);
                let captured = match frame.track {
                    TrackKind::Video => self.picture(&frame.data, frame.keyframe, told, pictures),
                    TrackKind::Audio => self.sound(&frame.data, told, sounds),
                };
                self.time(frame.track, frame.time.value, captured.time);
                self.latency = self.latency.max(now - captured.time);
                self.first.entry(frame.track).or_insert(captured.time);
                let arrival = Duration::from_secs_f64(now);
                self.timeline.push(frame.clone(), arrival, &mut self.timed);
            }
        }
        self.check_timeline();
    }

    /// What the health report would say.
    pub fn abnormal(&mut self) -> Vec<(Kind, u64)> {
        self.timeline.health().iter().map(|(kind, found)| (kind, found.count)).collect()
    }

    /// Bit-exact, and decodable: a key frame, or right behind the picture before it.
    fn picture<'a>(&mut self, data: &[u8], keyframe: bool, told: bool, sent: &'a [Captured]) -> &'a Captured {
        let number = u64::from_be_bytes(data[6..14].try_into().unwrap());
        let captured = &sent[number as usize];
        assert_eq!(data, &captured.data[..], "picture {number}");
        assert_eq!(keyframe, captured.keyframe, "picture {number}");
        let layer = captured.layer;
        if let Some((newest, of)) = self.newest {
            let follows = (newest + 1..number).all(|between| sent[between as usize].layer != layer) && of == layer;
            assert!(keyframe || follows, "picture {number} after {newest}: what it builds on is missing");
            let before = &sent[newest as usize];
            let is_switch = before.source != captured.source && captured.time - before.time < 0.12;
            assert!(
                follows || told || of != layer || is_switch,
                "picture {number} after {newest}, and nobody was told"
            );
            assert!(number > newest || of != layer, "picture {number} after {newest}");
        } else {
            assert!(keyframe, "the first picture");
        }
        self.newest = Some((number, layer));
        if self.layers.last() != Some(&layer) {
            self.layers.push(layer);
        }
        self.pictures += 1;
        captured
    }

    fn sound<'a>(&mut self, data: &[u8], told: bool, sent: &'a [Captured]) -> &'a Captured {
        let number = u64::from_be_bytes(data[1..9].try_into().unwrap());
        let captured = &sent[number as usize];
        assert_eq!(data, &captured.data[..], "sound {number}");
        if let Some(newest) = self.newest_sound {
            assert!(number > newest, "sound {number} after {newest}");
            let missing = number - newest - 1;
            self.sound_holes += u64::from(missing > 0);
            // A switch of microphones is no loss the session could know of.
            assert!(missing <= 5 || told, "{missing} packets of sound are missing, and nobody was told");
        }
        self.newest_sound = Some(number);
        self.sounds += 1;
        captured
    }

    fn time(&mut self, track: TrackKind, value: u32, captured: f64) {
        let before = self.ticks.get(&track).or_else(|| self.ticks.values().next()).copied();
        let ticks =
            before.map_or(i64::from(value), |before| before + i64::from(value.wrapping_sub(before as u32) as i32));
        if let Some(before) = self.ticks.insert(track, ticks) {
            assert!(ticks > before, "{track:?} at {captured} s: {ticks} after {before}");
        }
        let newest = self.ticks.values().copied().max().unwrap_or(ticks);
        self.behind = self.behind.max((newest - ticks) as f64 / 90_000.0);
        self.errors.insert(track, ticks as f64 / 90_000.0 - captured);
        if let (Some(picture), Some(sound)) = (self.errors.get(&TrackKind::Video), self.errors.get(&TrackKind::Audio)) {
            self.offsets.push((captured, picture - sound));
        }
    }

    /// what the recorder makes of it increases strictly, and needed no correction.
    fn check_timeline(&mut self) {
        for item in self.timed.drain(..) {
            match item {
                Timed::Frame(frame) => {
                    let last = self.last_dts.insert(frame.track, frame.dts.0);
                    assert!(last.is_none_or(|last| frame.dts.0 > last), "{:?} {last:?} {:?}", frame.track, frame.dts);
                }
                Timed::Gap(gap) => {
                    assert_eq!(gap.reason, GapReason::FramesLost, "the clock jumped");
                    assert!(gap.resumes_at > gap.starts_at);
                    self.gaps += 1;
                }
                Timed::Config(..) => {}
            }
        }
        let counts = self.timeline.counts();
        assert_eq!((counts.jumps, counts.repeated, counts.aligned_by_arrival, counts.merged), (0, 0, 0, 0));
    }

    /// The greatest offset between picture and sound from `since` on, in milliseconds.
    pub fn worst(&self, since: f64) -> f64 {
        let offsets = self.offsets.iter().filter(|(at, _)| *at >= since);
        offsets.map(|(_, offset)| offset.abs() * 1e3).fold(0.0, f64::max)
    }

    /// When that was.
    pub fn worst_at(&self) -> f64 {
        self.offsets.iter().copied().reduce(|a, b| if a.1.abs() > b.1.abs() { a } else { b }).map_or(0.0, |(at, _)| at)
    }

    /// The share of offsets of at most so many milliseconds.
    pub fn share(&self, millis: f64) -> f64 {
        let good = self.offsets.iter().filter(|(_, offset)| offset.abs() * 1e3 <= millis).count();
        good as f64 / self.offsets.len() as f64
    }
}
