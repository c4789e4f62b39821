//! Every code is told when it should be, as often as it should be, and no other with it.

use proptest::prelude::*;

use super::*;
use crate::ingest::Rejection;

/// Moves the times of a track's frames from this one on.
fn shift(frames: &mut [Sent], track: TrackKind, from: f64, by: f64) {
    frames.iter_mut().filter(|frame| frame.track == track && frame.arrival >= from).for_each(|frame| frame.time += by);
}

#[test]
fn m8_m9_a_clock_that_jumps_is_told_for_each_track() {
    for by in [-15_000.0, -1_200.0, 1_500.0, 8_000.0, 50_000.0, 4e6] {
        let mut frames = both(40.0);
        shift(&mut frames, Video, 20_000.0, by);
        shift(&mut frames, Audio, 20_000.0, by);
        assert_eq!(found(&frames), [(Kind::AudioTimestampJump, 1), (Kind::VideoTimestampJump, 1)], "{by}");
    }
}

#[test]
fn m9_every_jump_counts_and_has_its_time() {
    let mut scene = Scene::rtmp();
    let mut frames = pictures(25.0, 60.0, 50);
    for (n, at) in [20_000.0, 30_000.0, 40_000.0].into_iter().enumerate() {
        shift(&mut frames, Video, at, 60_000.0 + n as f64);
    }
    scene.send(&frames);
    let tally = scene.detector.tally().take();
    let found: Vec<_> = tally.iter().map(|(kind, found)| (kind, found.count, found.first, found.last)).collect();
    let at = Duration::from_secs;
    assert_eq!(found, [(Kind::VideoTimestampJump, 3, at(20), at(40))]);
}

#[test]
fn m8_m9_a_file_pushed_at_once_may_leave_out_ten_seconds() {
    for (by, jumps) in [(9_000.0, 0), (11_000.0, 1)] {
        let mut frames = pictures(25.0, 40.0, 50);
        shift(&mut frames, Video, 20_000.0, by);
        frames.iter_mut().for_each(|frame| frame.arrival /= 100.0);
        let jumps: Vec<_> = (0..jumps).map(|_| (Kind::VideoTimestampJump, 1)).collect();
        assert_eq!(found(&frames), jumps, "{by}");
    }
}

#[test]
fn m10_tracks_that_go_on_apart_are_told_once() {
    let mut frames = both(40.0);
    frames.iter_mut().filter(|frame| frame.track == Audio).for_each(|frame| frame.time += 3_500.0);
    assert_eq!(found(&frames), [(Kind::TimestampsApart, 1)]);
    // One of two clocks jumped for good.
    let mut frames = both(40.0);
    shift(&mut frames, Audio, 20_000.0, 8_000.0);
    assert_eq!(found(&frames), [(Kind::AudioTimestampJump, 1), (Kind::TimestampsApart, 1)]);
}

#[test]
fn m11_m24_times_that_cannot_be_are_told() {
    let mut frames = both(20.0);
    for track in [Video, Audio] {
        let mut of_track = frames.iter_mut().filter(|frame| frame.track == track);
        of_track.nth(100).unwrap().time -= 200.0;
        of_track.nth(100).unwrap().time -= 500.0;
    }
    frames.iter_mut().rfind(|frame| frame.track == Video).unwrap().composition = 20_000;
    assert_eq!(found(&frames), [(Kind::VideoTimestampInvalid, 3), (Kind::AudioTimestampInvalid, 2)]);
}

#[test]
fn m17_m18_a_track_that_stays_away_is_told_once_for_each_absence() {
    for (track, kind) in [(Video, Kind::NoVideo), (Audio, Kind::NoAudio)] {
        let away = |time: f64| (10_000.0..18_000.0).contains(&time) || (25_000.0..35_000.0).contains(&time);
        let mut frames = both(40.0);
        frames.retain(|frame| frame.track != track || !away(frame.time));
        assert_eq!(found(&frames), [(kind, 2)], "{track:?}");
        // Four seconds are nothing: encoders that freeze, screens that stand still.
        let mut frames = interleaved(pictures(30.0, 40.0, 60), sound(40.0));
        frames.retain(|frame| frame.track != Video || !(10_000.0..14_000.0).contains(&frame.time));
        assert_eq!(found(&frames), []);
    }
}

/// R10: announced, by metadata or by a header, and never sent.
#[test]
fn m18_a_picture_that_was_only_announced_is_missed() {
    for by_header in [true, false] {
        let mut scene = Scene::rtmp();
        if by_header {
            scene.config(Video, avc(1_280, 720));
        } else {
            scene.announce(true, true, None);
        }
        assert_eq!(scene.send(&sound(4.9)).found(), []);
        assert_eq!(scene.send(&sound(20.0)[215..]).found(), [(Kind::NoVideo, 1)]);
    }
    let mut hevc = Scene::rtmp();
    hevc.config(Video, CodecConfig::Unsupported(Codec::H265));
    assert_eq!(hevc.send(&sound(20.0)).found(), [(Kind::NoVideo, 1)]);
}

#[test]
fn m22_m23_a_clock_that_stands_still_is_told_once() {
    let still = |track, limit: usize, count: usize| {
        let mut frames = if track == Video { pictures(30.0, 20.0, 60) } else { sound(20.0) };
        let at = frames[100].time;
        frames[100..100 + count].iter_mut().for_each(|frame| frame.time = at);
        let kind = if track == Video { Kind::VideoTimestampStatic } else { Kind::AudioTimestampStatic };
        let times = u64::from(count >= limit);
        let found = found(&frames);
        let of_kind = found.iter().find(|(found, _)| *found == kind).map_or(0, |(_, count)| *count);
        assert_eq!(of_kind, times, "{track:?} {count} {found:?}");
        assert!(found.iter().all(|(found, _)| *found == kind || *found == Kind::VideoTimestampUneven), "{found:?}");
    };
    for count in [2, 9, 10, 25] {
        still(Video, 10, count);
    }
    for count in [2, 24, 25, 40] {
        still(Audio, 25, count);
    }
    let mut for_ever = pictures(30.0, 30.0, 60);
    for_ever.iter_mut().for_each(|frame| frame.time = 7.0);
    assert_eq!(found(&for_ever), [(Kind::VideoTimestampStatic, 1)]);
}

#[test]
fn m100_m120_new_configurations_are_told_apart() {
    let mut scene = Scene::rtmp();
    for _ in 0..2 {
        scene.config(Video, avc(1_280, 720));
        scene.config(Audio, aac());
    }
    assert_eq!(scene.found(), [], "equal ones are none");
    scene.config(Video, avc(640, 360));
    scene.detector.interrupt();
    scene.config(Video, avc(1_280, 720));
    scene.config(Audio, opus());
    assert_eq!(scene.found(), [(Kind::ResolutionChanged, 2), (Kind::CodecChanged, 1)]);
    let vp9 = |side| {
        let (record, width, height) = (bytes::Bytes::new(), side, side);
        crate::CodecConfig::Vp9(crate::VpxConfig { record, width, height, profile: 0, level: 10 }.into())
    };
    let mut other = Scene::rtmp();
    other.config(Video, vp9(64));
    other.config(Video, vp9(128));
    other.config(Video, avc(128, 128));
    assert_eq!(other.found(), [(Kind::ResolutionChanged, 1), (Kind::CodecChanged, 1)]);
}

#[test]
fn m130_m131_what_did_not_come_through_counts_by_frames() {
    let mut scene = Scene::whip();
    scene.event(Event::Lost { track: Video, packets: 9, frames: 4 });
    scene.event(Event::Lost { track: Audio, packets: 3, frames: 0 });
    scene.event(Event::Rejected(Audio, Rejection::Malformed));
    scene.event(Event::Rejected(Video, Rejection::BeforeConfig));
    scene.event(Event::Rejected(Video, Rejection::UnsupportedCodec));
    assert_eq!(scene.found(), [(Kind::VideoFramesDropped, 5), (Kind::AudioFramesDropped, 2)]);
}

#[test]
fn m130_pictures_missing_from_the_announced_rate_are_counted() {
    for (announced, expected) in [(Some(30.0), Some(15)), (Some(60.0), None), (None, None)] {
        let mut scene = Scene::rtmp();
        scene.announce(true, true, announced);
        let mut frames = both(30.0);
        frames.retain(|frame| frame.track != Video || !(15_000.0..15_490.0).contains(&frame.time));
        let expected: Vec<_> = expected.map(|count| (Kind::VideoFramesDropped, count)).into_iter().collect();
        assert_eq!(scene.send(&frames).found(), expected, "{announced:?}");
    }
}

#[test]
fn m131_holes_in_aac_are_counted_and_batches_are_none() {
    let mut frames = sound(30.0);
    frames.drain(500..507);
    frames.drain(800..803);
    assert_eq!(found(&frames), [(Kind::AudioFramesDropped, 7)], "70 ms are not told");
    let mut batches = sound(30.0);
    for batch in batches.chunks_mut(6).step_by(20) {
        let first = batch[0].time;
        batch.iter_mut().for_each(|frame| frame.time = first);
    }
    assert_eq!(found(&batches), []);
}

#[test]
fn m132_a_group_that_is_too_long_is_told_once() {
    for (gop, told) in [(300, 0), (301, 3), (450, 2), (10_000, 1)] {
        let expected: Vec<_> = (told > 0).then_some((Kind::GopAbnormal, told)).into_iter().collect();
        assert_eq!(found(&pictures(30.0, 40.0, gop)), expected, "{gop}");
    }
}

#[test]
fn m200_m201_uneven_steps_are_told_for_each_window() {
    let mut jumpy = sound(30.9);
    jumpy.iter_mut().enumerate().for_each(|(n, frame)| frame.time += if n % 2 == 0 { 0.0 } else { 18.0 });
    assert_eq!(found(&jumpy), [(Kind::AudioTimestampUneven, 3)]);
    let mut pairs = pictures(30.0, 30.9, 60);
    pairs.iter_mut().enumerate().for_each(|(n, frame)| frame.time += if n % 4 == 0 { 31.0 } else { 0.0 });
    assert_eq!(found(&pairs), [(Kind::VideoTimestampUneven, 3)]);
    let mut seldom = pictures(30.0, 30.9, 60);
    seldom.iter_mut().enumerate().for_each(|(n, frame)| frame.time += if n % 20 == 0 { 31.0 } else { 0.0 });
    assert_eq!(found(&seldom), []);
}

proptest! {
    /// Wherever the clock of a live stream jumps to, it is told once for each track, and nothing else is.
    #[test]
    fn jumps_are_told_wherever_they_go(
        at in 10_000.0..30_000.0f64,
        by in prop_oneof![-2e9..-1_100.0f64, 1_200.0..2e9f64],
        origin in any::<u32>(),
    ) {
        // A step of half the counter's range is one back, or across the bit that OBS leaves out.
        prop_assume!((by.abs() - 2_147_483_648.0).abs() > 50_000.0);
        let mut frames = both(40.0);
        shift(&mut frames, Video, at, by.round());
        shift(&mut frames, Audio, at, by.round());
        let mut scene = Scene { origin, ..Scene::rtmp() };
        prop_assert_eq!(
            scene.send(&frames).found(),
            [(Kind::AudioTimestampJump, 1), (Kind::VideoTimestampJump, 1)]
        );
    }

    /// However long a track stays away, and whichever it is.
    #[test]
    fn absences_are_told_from_five_seconds_on(is_video in any::<bool>(), from in 2_000.0..20_000.0f64, length in 0.0..30_000.0f64) {
        prop_assume!((length - 5_000.0).abs() > 100.0);
        let (track, kind) = if is_video { (Video, Kind::NoVideo) } else { (Audio, Kind::NoAudio) };
        let mut frames = both(60.0);
        frames.retain(|frame| frame.track != track || !(from..from + length).contains(&frame.time));
        let found = found(&frames);
        let told = found.iter().any(|(found, count)| *found == kind && *count == 1);
        prop_assert_eq!(told, length > 5_000.0, "{:?}", found);
    }
}
