//! From a publisher's timestamps to files: timeline, start gate and muxers together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::{Step, Store, aac, all_steps, avc, options, picture, record, sound, variants};
use media::ingest::{RawFrame, SourceTime};
use media::{GapReason, Lineup, MediaTime, Timeline, TrackKind};
use mux::Options;
use proptest::prelude::*;

use TrackKind::{Audio, Video};

/// Runs raw frames through timeline and gate.
fn prepare(frames: &[(RawFrame, u64)]) -> Vec<Step> {
    let (mut timeline, mut lineup) = (Timeline::new(), Lineup::new());
    let (mut timed, mut out) = (Vec::new(), Vec::new());
    timeline.config(Video, avc(), &mut timed);
    timeline.config(Audio, aac(), &mut timed);
    for (frame, arrival) in frames {
        let arrival = Duration::from_millis(*arrival);
        timeline.push(frame.clone(), arrival, &mut timed);
        for item in timed.drain(..) {
            lineup.push(item, arrival, &mut out);
        }
    }
    all_steps(timeline, lineup, timed, out)
}

fn raw(track: TrackKind, value: u32, composition: i32, keyframe: bool, serial: u32) -> RawFrame {
    let frame = if track == Video { picture(0, 0, keyframe, serial, 40) } else { sound(0, serial, 20) };
    RawFrame { track, time: SourceTime { value, scale: 1_000 }, composition, keyframe, data: frame.data }
}

fn assert_bounded(store: &Store, name: &str, limit: i64) {
    let longest = store.done.iter().map(|done| (done.ends_at - done.starts_at).as_millis()).max().unwrap_or(0);
    // A file may wait half a limit for a key frame, and one hole of up to ten seconds may lie at its end.
    assert!(longest <= limit * 3 / 2 + 11_000, "{name}: {longest} ms");
}

#[test]
fn e7_clock_jumps_of_any_size_never_make_a_giant_file() {
    let mut frames = Vec::new();
    for (part, start) in [0u32, 3_600_000, 100, 86_400_000, u32::MAX - 2_000, 5_000_000].into_iter().enumerate() {
        for n in 0..100u32 {
            let serial = part as u32 * 100 + n;
            let time = start.wrapping_add(n * 40);
            let arrival = u64::from(serial) * 40;
            frames.push((raw(Video, time, 40, n % 25 == 0, serial), arrival));
            frames.push((raw(Audio, time.wrapping_add(11), 0, true, serial), arrival));
        }
    }
    let steps = prepare(&frames);
    let gaps = steps.iter().filter(|step| matches!(step, Step::Gap(gap) if gap.reason == GapReason::FramesRejected));
    assert_eq!(gaps.count(), 5);
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        assert_eq!(store.done.len(), 1, "{name}");
        let length = store.done[0].ends_at - store.done[0].starts_at;
        assert!((length.as_millis() - 24_500).abs() < 600, "{name}: {}", length.as_millis());
        assert_eq!(store.done[0].audio_frames, 600);
    }
}

#[test]
fn r10_headers_without_pictures_make_an_audio_only_file() {
    let frames: Vec<(RawFrame, u64)> = (0..200).map(|n| (raw(Audio, n * 23, 0, true, n), u64::from(n) * 23)).collect();
    let steps = prepare(&frames);
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        assert_eq!((store.done[0].audio_frames, store.done[0].video.is_none()), (200, true), "{name}");
        assert!(store.media(format, 0).video.is_empty(), "{name} declares no picture that never came");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Reliability test 30 (`hell.rs` has its list): whatever a publisher's clocks do, nothing is lost and no file outgrows its limit.
    #[test]
    fn timestamps_from_hell_at_random(
        input in proptest::collection::vec((any::<bool>(), any::<u32>(), 0u32..12, 0u64..200, -20_000i32..20_000), 1..200)
    ) {
        let (mut clocks, mut arrival) = ([0u32; 2], 0);
        let mut frames = Vec::new();
        for (serial, (is_sound, value, kind, wait, composition)) in input.into_iter().enumerate() {
            let clock = &mut clocks[usize::from(is_sound)];
            *clock = match kind {
                0 => value,
                1 => *clock,
                2 => clock.wrapping_sub(value % 3_000),
                3 => clock.wrapping_add(value % 60_000),
                _ => clock.wrapping_add(value % 50),
            };
            arrival += wait;
            let composition = if kind == 4 { composition } else { 0 };
            let track = if is_sound { Audio } else { Video };
            frames.push((raw(track, *clock, composition, value % 5 == 0, serial as u32), arrival));
        }
        let steps = prepare(&frames);
        let limited = Options { max_file_duration: Some(Duration::from_secs(20)), ..options() };
        for (name, format, options) in variants(&limited) {
            let store = record(format, &options, &steps);
            store.assert_one_for_one(name, format);
            assert_bounded(&store, name, 20_000);
            for summary in &store.done {
                prop_assert!(summary.starts_at <= summary.ends_at && summary.starts_at > MediaTime::from_millis(-10_001));
            }
        }
    }
}
