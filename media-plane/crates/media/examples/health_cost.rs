//! What looking for the abnormal costs: nanoseconds per frame of a stream with picture and sound.
//!
//! `cargo run --release -p media --example health_cost`

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::health::Detector;
use media::ingest::{Event, RawFrame, SourceTime};
use media::{AacConfig, CodecConfig, TrackKind};

const FRAMES: u32 = 20_000_000;

fn main() {
    let mut detector = Detector::new();
    let aac = AacConfig::parse(Bytes::from_static(&[0x12, 0x10])).unwrap();
    detector.event(&Event::Config(TrackKind::Audio, CodecConfig::Aac(Arc::new(aac))), Duration::ZERO);
    let data = Bytes::from_static(&[0x21, 0x10]);
    // Two frames in three are pictures' neighbours in sound, as at 25 pictures per second.
    let mut frame = RawFrame {
        track: TrackKind::Video,
        time: SourceTime { value: 0, scale: 1_000 },
        composition: 80,
        keyframe: true,
        data,
    };
    #[allow(clippy::disallowed_methods)]
    let began = Instant::now();
    for n in 0..FRAMES {
        let group = n / 3;
        (frame.track, frame.keyframe) =
            if n % 3 == 0 { (TrackKind::Video, group.is_multiple_of(50)) } else { (TrackKind::Audio, true) };
        frame.time.value = group * 40 + n % 3 * 20;
        detector.frame(&frame, Duration::from_millis(u64::from(frame.time.value)));
    }
    let nanos = began.elapsed().as_nanos() as f64 / f64::from(FRAMES);
    println!("{nanos:.1} ns per frame, {} bytes per stream", size_of::<Detector>());
    println!("found: {:?}", detector.tally().iter().map(|(kind, found)| (kind, found.count)).collect::<Vec<_>>());
}
