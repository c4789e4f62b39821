//! Timestamps in every container: exact where it can be, rounded where it must be, never lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::{Step, aac, asc, avc, counts_samples, options, picture, record, sound, steps, stream, variants};
use media::{Frame, MediaTime, TrackKind};
use mux::demux::Sample;
use mux::{Format, Options};
use proptest::prelude::*;

use TrackKind::{Audio, Video};

fn dts<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<i64> {
    steps(samples.map(|sample| sample.dts.0))
}

fn configured(frames: impl IntoIterator<Item = Frame>) -> Vec<Step> {
    let configs = [Step::Config(Video, avc()), Step::Config(Audio, aac())];
    configs.into_iter().chain(frames.into_iter().map(Step::Frame)).collect()
}

#[test]
fn distances_are_kept_by_every_container() {
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &stream(5, 25));
        let media = store.media(format, 0);
        if format != Format::Aac {
            assert!(dts(media.track(Video)).iter().all(|step| *step == 3_600), "{name}");
            assert!(media.track(Video).all(|sample| (sample.pts - sample.dts).0 == 7_200), "{name}");
        }
        // 1024 samples of 44.1 kHz are 2089.8 ticks; the source rounded to milliseconds.
        let sound = dts(media.track(Audio));
        let expected = if counts_samples(format, &options) { [2_089, 2_090] } else { [2_070, 2_160] };
        assert!(sound.iter().all(|step| expected.contains(step)), "{name}: {sound:?}");
    }
}

#[test]
fn picture_and_sound_keep_their_offset_whoever_starts() {
    for (video_at, audio_at) in [(0, 0), (0, 700), (700, 0), (-300, 200), (5, 0), (3_600_000, 3_600_040)] {
        let frames = (0..50)
            .flat_map(|n| [picture(video_at + n * 40, 0, n == 0, n as u32, 50), sound(audio_at + n * 23, n as u32, 9)]);
        let steps = configured(frames);
        for (name, format, options) in variants(&options()).into_iter().filter(|(_, format, _)| *format != Format::Aac)
        {
            let media = record(format, &options, &steps).media(format, 0);
            let first = |track| media.track(track).next().unwrap().pts;
            let offset = (first(Audio) - first(Video)).as_millis();
            assert_eq!(offset, audio_at - video_at, "{name} from {video_at}/{audio_at}");
            if matches!(format, Format::Flv | Format::Mp4) {
                assert_eq!(first(Audio).min(first(Video)), MediaTime::ZERO, "{name}: nothing before the start");
            }
        }
    }
}

#[test]
fn e8_negative_composition_offsets_are_shown_at_the_right_time() {
    // Decode order I P B B with DTS equal to the display slots, so that B is shown before it is decoded.
    let offsets = [0, 80, -40, -40];
    let frames = (0..80i64).map(|n| {
        let offset = if n == 0 { 0 } else { offsets[1 + (n as usize - 1) % 3] };
        picture(n * 40, offset, n == 0, n as u32, 50)
    });
    let frames: Vec<Frame> = frames.collect();
    for (name, format, options) in variants(&options()).into_iter().filter(|(_, format, _)| *format != Format::Aac) {
        let store = record(format, &options, &configured(frames.clone()));
        store.assert_one_for_one(name, format);
        let shown: Vec<i64> = store.media(format, 0).track(Video).map(|sample| sample.pts.0).collect();
        let sent: Vec<i64> = frames.iter().map(|frame| frame.pts.0).collect();
        let base = shown[0] - sent[0];
        for (n, (shown, sent)) in shown.iter().zip(&sent).enumerate() {
            // TS may move the one frame at which it learns of negative offsets by a tick.
            assert!((shown - sent - base).abs() <= 1, "{name}: frame {n} is shown {} ticks off", shown - sent - base);
        }
    }
}

#[test]
fn mp4_duration_of_sound_is_its_sample_count_until_it_really_jumps() {
    // Millisecond rounding, then a hole of 2 s.
    let at = |n: i64| n * 1_024 * 1_000 / 44_100 + if n >= 100 { 2_000 } else { 0 };
    let frames = (0..200).map(|n| sound(at(n), n as u32, 9));
    let steps: Vec<Step> = [Step::Config(Audio, aac())].into_iter().chain(frames.map(Step::Frame)).collect();
    for (name, format, options) in variants(&options()).into_iter().filter(|(_, format, _)| *format == Format::Mp4) {
        let media = record(format, &options, &steps).media(format, 0);
        let distances = dts(media.track(Audio));
        let jump = distances.iter().position(|step| *step > 3_000).unwrap();
        assert_eq!(jump, 99, "{name}");
        assert!((distances[99] - 2_090 - 180_000).abs() <= 180, "{name}: {}", distances[99]);
        assert!(distances.iter().enumerate().all(|(n, step)| n == 99 || [2_089, 2_090].contains(step)), "{name}");
    }
}

#[test]
fn a_960_sample_or_free_rate_configuration_is_refused_where_adts_must_carry_it() {
    // LC, 48 kHz, stereo, frame length flag.
    let config = asc(&[0x11, 0x94]);
    let steps = [Step::Config(Audio, config), Step::Frame(sound(0, 0, 9))];
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &steps);
        let carried = matches!(format, Format::Flv | Format::Mp4) || name == "fmp4 hls";
        assert_eq!(store.taken.len(), usize::from(carried), "{name}");
        assert_eq!(store.done.len(), usize::from(carried), "{name}");
    }
}

#[test]
fn ts_times_wrap_at_33_bits() {
    let near = (1i64 << 33) / 90 - 1_000 - 20_000;
    let frames = (0..100)
        .flat_map(|n| [picture(near + n * 40, 40, n % 25 == 0, n as u32, 50), sound(near + n * 40, n as u32, 9)]);
    let store = record(Format::Hls, &options(), &configured(frames));
    store.assert_one_for_one("hls", Format::Hls);
    let media = store.media(Format::Hls, 0);
    assert!(dts(media.track(Video)).iter().chain(&dts(media.track(Audio))).all(|step| *step == 3_600));
}

#[test]
fn twelve_hours_fit_into_every_format() {
    // One picture and one frame of sound every 10 s, so that clocks and 64-bit fields matter but not the bytes.
    let frames =
        (0..18 * 360i64).flat_map(|n| [picture(n * 10_000, 0, true, n as u32, 1), sound(n * 10_000, n as u32, 1)]);
    let steps = configured(frames);
    let options = Options { segment_duration: Duration::from_secs(60), ..options() };
    for (name, format, options) in variants(&options) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        assert_eq!(store.done.len(), 1, "{name}");
        let media = store.media(format, 0);
        if format != Format::Aac {
            assert!(dts(media.track(Video)).iter().all(|step| *step == 900_000), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Distances of neighbours come back within the rounding of the container, for any cadence.
    #[test]
    fn distances_come_back_within_rounding(
        gaps in proptest::collection::vec((1i64..2_000, 0i64..500), 2..120), first in -9_000i64..9_000
    ) {
        let mut now = first;
        let mut frames = Vec::new();
        for (serial, (step, offset)) in gaps.iter().enumerate() {
            frames.push(picture(now, *offset, serial == 0, serial as u32, 20));
            now += step;
        }
        let steps = configured(frames);
        for (name, format, options) in variants(&options()).into_iter().filter(|(_, format, _)| *format != Format::Aac) {
            let store = record(format, &options, &steps);
            store.assert_one_for_one(name, format);
            let media = store.media(format, 0);
            let back = dts(media.track(Video));
            let sent: Vec<i64> = gaps[..gaps.len() - 1].iter().map(|(step, _)| step * 90).collect();
            prop_assert_eq!(back, sent, "{}", name);
            let offsets: Vec<i64> = media.track(Video).map(|sample| (sample.pts - sample.dts).as_millis()).collect();
            prop_assert_eq!(offsets, gaps.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), "{}", name);
        }
    }
}
