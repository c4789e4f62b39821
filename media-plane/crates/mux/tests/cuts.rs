//! Where files begin and end, and that nothing is lost or doubled there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::arbitrary::arbitrary_steps;
use common::{Step, aac, asc, avc, options, other_avc, picture, record, sound, stream, variants};
use media::{CodecConfig, Frame, TrackKind};
use mux::{Format, Options, Reaction, Rejected};
use proptest::prelude::*;

fn limited(seconds: u64) -> Options {
    Options { max_file_duration: Some(Duration::from_secs(seconds)), ..options() }
}

#[test]
fn files_end_at_the_first_key_frame_after_the_limit_and_join_exactly() {
    // Key frames every 3 s and a limit of 7 s: cuts at 9, 18, 27 s.
    let steps = stream(30, 75);
    for (name, format, options) in variants(&limited(7)) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        if format == Format::Aac {
            let lengths: Vec<i64> = store.done.iter().map(|d| (d.ends_at - d.starts_at).as_millis()).collect();
            assert_eq!(lengths.len(), 5, "{lengths:?}");
            assert!(lengths[..4].iter().all(|length| (7_000..7_030).contains(length)), "{lengths:?}");
            continue;
        }
        let starts: Vec<i64> = store.done.iter().map(|summary| summary.starts_at.as_millis()).collect();
        assert_eq!(starts, [0, 9_000, 18_000, 27_000], "{name}");
        for file in 0..4 {
            let media = store.media(format, file);
            let first = media.track(TrackKind::Video).next().unwrap();
            assert!(first.keyframe, "{name}: file {file} starts with a key frame");
        }
    }
}

#[test]
fn a_requested_cut_happens_at_the_next_key_frame() {
    let mut steps = stream(6, 50);
    let at = steps.iter().position(|step| matches!(step, Step::Frame(f) if f.dts.as_millis() >= 2_500)).unwrap();
    steps.insert(at, Step::Cut);
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        let starts: Vec<i64> = store.done.iter().map(|summary| summary.starts_at.as_millis()).collect();
        if format == Format::Aac {
            assert!(starts[1] >= 2_500 && starts[1] < 2_530, "{name}: {starts:?}");
        } else {
            assert_eq!(starts, [0, 4_000], "{name}");
        }
    }
}

#[test]
fn e12_without_key_frames_a_file_is_cut_at_one_and_a_half_limits() {
    let steps = stream(40, 100_000);
    for (name, format, options) in variants(&limited(10)) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        let longest = store.done.iter().map(|d| (d.ends_at - d.starts_at).as_millis()).max().unwrap();
        assert!(longest <= 15_100, "{name}: {longest} ms");
    }
}

#[test]
fn e20_when_video_vanishes_sound_decides() {
    let steps: Vec<Step> = stream(60, 25)
        .into_iter()
        .filter(|step| !matches!(step, Step::Frame(f) if f.track == TrackKind::Video && f.dts.as_millis() > 5_000))
        .collect();
    for (name, format, options) in variants(&limited(20)) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        let lengths: Vec<i64> = store.done.iter().map(|d| (d.ends_at - d.starts_at).as_millis()).collect();
        assert_eq!(lengths.len(), 3, "{name}: {lengths:?}");
        assert!(lengths.iter().all(|length| *length <= 20_100), "{name}: {lengths:?}");
    }
}

#[test]
fn sound_before_the_first_key_frame_is_kept_and_pictures_are_refused() {
    let mut steps = vec![Step::Config(TrackKind::Video, avc()), Step::Config(TrackKind::Audio, aac())];
    let frames = [sound(0, 0, 9), picture(5, 0, false, 0, 9), sound(23, 1, 9), picture(45, 0, true, 1, 9)];
    steps.extend(frames.clone().map(Step::Frame));
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        if format == Format::Aac {
            assert_eq!(store.refused, [1, 3].map(|index| (frames[index].clone(), Rejected::NoConfig)));
            assert_eq!(store.reactions, [Reaction::Unsupported, Reaction::Continue]);
        } else {
            assert_eq!(store.refused, [(frames[1].clone(), Rejected::WaitingForKeyFrame)], "{name}");
        }
    }
}

#[test]
fn e11_a_changed_video_configuration_starts_with_its_key_frame() {
    let mut steps = stream(8, 50);
    let at = steps.iter().position(|step| matches!(step, Step::Frame(f) if f.dts.as_millis() >= 4_000)).unwrap();
    steps.insert(at, Step::Config(TrackKind::Video, other_avc()));
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        let (reaction, files) = match format {
            Format::Mp4 => (Reaction::CutHere, 2),
            Format::Aac => (Reaction::Unsupported, 1),
            Format::Hls | Format::Flv => (Reaction::Continue, 1),
        };
        assert_eq!((store.reactions[2], store.done.len()), (reaction, files), "{name}");
        let record_of = |config: CodecConfig| match config {
            CodecConfig::Avc(avc) => avc.record.clone(),
            _ => panic!(),
        };
        let [old, new] = [avc(), other_avc()].map(record_of);
        if format == Format::Mp4 {
            assert_eq!((store.media(format, 0).video, store.media(format, 1).video), (vec![old], vec![new]), "{name}");
        } else if format == Format::Flv {
            assert_eq!(store.media(format, 0).video, [old, new]);
        }
    }
}

#[test]
fn e10_a_changed_audio_configuration_is_carried_by_every_format() {
    let mut steps = stream(8, 50);
    let at = steps.iter().position(|step| matches!(step, Step::Frame(f) if f.dts.as_millis() >= 3_000)).unwrap();
    steps.insert(at, Step::Config(TrackKind::Audio, asc(&[0x11, 0x90])));
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        let configs: Vec<Vec<u8>> =
            (0..store.done.len() as u32).flat_map(|file| store.media(format, file).audio).map(|c| c.to_vec()).collect();
        // The progressive file has both descriptions until it ends at the next key frame.
        let expected: &[&[u8]] = match (name, format) {
            ("mp4", _) => &[&[0x12, 0x10], &[0x11, 0x90], &[0x11, 0x90]],
            _ => &[&[0x12, 0x10], &[0x11, 0x90]],
        };
        assert_eq!(configs, expected, "{name}");
    }
}

#[test]
fn e9_a_late_track_loses_nothing() {
    for late in [TrackKind::Audio, TrackKind::Video] {
        let is_early = |f: &Frame| f.track == late && f.dts.as_millis() < 4_000;
        let mut steps: Vec<Step> = stream(8, 50)
            .into_iter()
            .filter(|step| !matches!(step, Step::Frame(f) if is_early(f)))
            .filter(|step| !matches!(step, Step::Config(track, _) if *track == late))
            .collect();
        let first = steps.iter().position(|step| matches!(step, Step::Frame(f) if f.track == late)).unwrap();
        let config = if late == TrackKind::Audio { aac() } else { avc() };
        steps.insert(first, Step::Config(late, config));
        for (name, format, options) in variants(&options()) {
            let store = record(format, &options, &steps);
            store.assert_one_for_one(name, format);
            let refused = store.refused.iter().filter(|(f, _)| format != Format::Aac || f.track == TrackKind::Audio);
            assert_eq!(refused.count(), 0, "{name}: nothing is refused");
        }
    }
}

#[test]
fn r47_unsupported_codecs_are_left_out() {
    let mut steps = stream(2, 25);
    steps[0] = Step::Config(TrackKind::Video, CodecConfig::Unsupported(media::Codec::H265));
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        assert_eq!(store.reactions, [Reaction::Unsupported, Reaction::Continue], "{name}");
        assert!(store.done[0].video.is_none() && store.done[0].audio.is_some() && store.done[0].video_frames == 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any sequence of frames, holes, changes and cuts, every taken frame is in exactly one file.
    #[test]
    fn no_frame_is_lost_or_doubled(steps in arbitrary_steps(), seconds in 1u64..5, segment in 1u64..4) {
        let options = Options { segment_duration: Duration::from_secs(segment), ..limited(seconds) };
        for (name, format, options) in variants(&options) {
            let store = record(format, &options, &steps);
            store.assert_one_for_one(name, format);
            for (frame, why) in &store.refused {
                let expected = if format == Format::Aac { Rejected::NoConfig } else { Rejected::WaitingForKeyFrame };
                prop_assert!(frame.track == TrackKind::Video && *why == expected, "{} {:?}", name, why);
            }
        }
    }
}
