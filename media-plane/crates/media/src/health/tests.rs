//! Streams as publishers send them, and what the detector says of them.

mod abnormal;
mod clean;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Detector, Kind, Tally};
use crate::ingest::{Event, Metadata, RawFrame, SourceTime};
use crate::{AacConfig, AvcConfig, Codec, CodecConfig, OpusConfig, TrackKind};
use TrackKind::{Audio, Video};

/// One Opus frame of 20 ms.
const OPUS: &[u8] = &[19 << 3, 0];

/// A frame on its way: times in milliseconds.
#[derive(Clone, Debug)]
struct Sent {
    track: TrackKind,
    time: f64,
    arrival: f64,
    composition: i32,
    keyframe: bool,
}

/// Pictures at this rate, with a key frame every so many.
fn pictures(rate: f64, seconds: f64, gop: usize) -> Vec<Sent> {
    let picture = |n: usize| {
        let time = n as f64 * 1_000.0 / rate;
        Sent { track: Video, time, arrival: time, composition: 0, keyframe: n.is_multiple_of(gop) }
    };
    (0..(rate * seconds) as usize).map(picture).collect()
}

/// AAC at 44.1 kHz.
fn sound(seconds: f64) -> Vec<Sent> {
    let length = 1_024_000.0 / 44_100.0;
    let frame = |n: usize| {
        let time = n as f64 * length;
        Sent { track: Audio, time, arrival: time, composition: 0, keyframe: true }
    };
    (0..(seconds * 1_000.0 / length) as usize).map(frame).collect()
}

/// Pictures and sound as they arrive.
fn both(seconds: f64) -> Vec<Sent> {
    interleaved(pictures(30.0, seconds, 60), sound(seconds))
}

fn interleaved(pictures: Vec<Sent>, sound: Vec<Sent>) -> Vec<Sent> {
    let mut all = [pictures, sound].concat();
    all.sort_by(|one, other| one.arrival.total_cmp(&other.arrival));
    all
}

fn avc(width: u32, height: u32) -> CodecConfig {
    let (record, sps, pps) = (Bytes::new(), Vec::new(), Vec::new());
    CodecConfig::Avc(Arc::new(AvcConfig { record, sps, pps, length_size: 4, width, height, profile: 100, level: 31 }))
}

fn aac() -> CodecConfig {
    CodecConfig::Aac(Arc::new(AacConfig::parse(Bytes::from_static(&[0x12, 0x10])).unwrap()))
}

fn opus() -> CodecConfig {
    CodecConfig::Opus(Arc::new(OpusConfig { channels: 2, pre_skip: 0, sample_rate_in: 48_000 }))
}

/// A publisher of one protocol and the detector it is looked at with.
struct Scene {
    detector: Detector,
    /// Ticks per second of its timestamps.
    scale: u32,
    /// Its first timestamp.
    origin: u32,
    now: Duration,
    data: &'static [u8],
}

impl Scene {
    /// An encoder over RTMP that announces nothing.
    fn rtmp() -> Self {
        let detector = Detector::new();
        let mut scene = Self { detector, scale: 1_000, origin: 0, now: Duration::ZERO, data: &[0x21, 0x10] };
        scene.config(Audio, aac());
        scene.detector.interrupt();
        scene
    }

    /// A browser: Opus, and time in ticks of 90 kHz.
    fn whip() -> Self {
        let mut scene = Self { scale: 90_000, data: OPUS, detector: Detector::new(), ..Self::rtmp() };
        scene.config(Audio, opus());
        scene.detector.interrupt();
        scene
    }

    fn config(&mut self, track: TrackKind, config: CodecConfig) {
        self.event(Event::Config(track, config));
    }

    fn event(&mut self, event: Event) {
        self.detector.event(&event, self.now);
    }

    fn announce(&mut self, video: bool, audio: bool, frame_rate: Option<f64>) {
        let video = video.then_some(Codec::H264);
        let audio = audio.then_some(Codec::Aac);
        self.event(Event::Metadata(Metadata { video, audio, frame_rate, ..Metadata::default() }));
    }

    fn send(&mut self, frames: &[Sent]) -> &mut Self {
        for sent in frames {
            self.now = Duration::from_secs_f64(sent.arrival.max(0.0) / 1_000.0);
            let ticks = (sent.time * f64::from(self.scale) / 1_000.0).round() as i64;
            let value = self.origin.wrapping_add(ticks as u32);
            let frame = RawFrame {
                track: sent.track,
                time: SourceTime { value, scale: self.scale },
                composition: sent.composition,
                keyframe: sent.keyframe,
                data: Bytes::from_static(self.data),
            };
            self.detector.frame(&frame, self.now);
        }
        self
    }

    fn found(&mut self) -> Vec<(Kind, u64)> {
        self.detector.tally().take().iter().map(|(kind, found)| (kind, found.count)).collect()
    }
}

fn found(frames: &[Sent]) -> Vec<(Kind, u64)> {
    Scene::rtmp().send(frames).found()
}

#[test]
fn a_tally_spans_what_was_found_and_is_emptied_by_who_tells() {
    let at = Duration::from_secs;
    let (mut tally, mut more) = (Tally::default(), Tally::default());
    assert!(tally.is_empty());
    tally.add(Kind::NoVideo, 1, at(9));
    tally.add(Kind::NoVideo, 2, at(11));
    tally.add(Kind::WriteFailed, 0, at(1));
    more.add(Kind::NoVideo, 1, at(7));
    more.add(Kind::GopAbnormal, 1, at(8));
    tally.merge(&more);
    assert_eq!(tally.kinds(), more.kinds(), "nothing was counted of one that was found 0 times");
    let taken = tally.take();
    let found: Vec<_> = taken.iter().map(|(kind, found)| (kind, found.count, found.first, found.last)).collect();
    assert_eq!(found, [(Kind::NoVideo, 4, at(7), at(11)), (Kind::GopAbnormal, 1, at(8), at(8))]);
    assert_eq!((tally.is_empty(), taken.count(Kind::NoVideo), taken.count(Kind::NoAudio)), (true, 4, 0));
}

#[test]
fn it_is_small_and_says_of_every_kind_what_it_takes() {
    assert!(size_of::<Detector>() < 2_048, "{} bytes for each stream", size_of::<Detector>());
    let mut texts: Vec<String> = Kind::ALL.iter().map(|kind| kind.when()).collect();
    assert!(texts.iter().all(|text| text.len() > 20 && !text.contains('|')));
    texts.dedup();
    assert!(texts.len() > 12, "{texts:#?}");
}
