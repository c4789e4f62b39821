//! Nothing is found where nothing is wrong.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn clean(frames: &[Sent]) {
    assert_eq!(found(frames), []);
}

#[test]
fn constant_rates_are_clean_with_and_without_sound() {
    for rate in [10.0, 15.0, 23.976, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0, 120.0, 240.0] {
        let gop = (rate * 2.0) as usize;
        clean(&pictures(rate, 40.0, gop));
        clean(&interleaved(pictures(rate, 40.0, gop), sound(40.0)));
        let mut announced = Scene::rtmp();
        announced.announce(true, true, Some(rate));
        announced.send(&interleaved(pictures(rate, 40.0, gop), sound(40.0)));
        assert_eq!(announced.found(), [], "{rate}");
    }
    clean(&sound(60.0));
}

#[test]
fn e8_b_frames_and_negative_offsets_are_clean() {
    for offsets in [[80, 0, -40, 40], [-80, -120, 0, -40]] {
        let mut frames = both(30.0);
        for (n, picture) in frames.iter_mut().filter(|frame| frame.track == Video).enumerate() {
            picture.composition = offsets[n % 4];
        }
        clean(&frames);
    }
}

/// A screen that stands still for seconds, then moves at 60 frames per second, again and again.
fn screen() -> Vec<Sent> {
    let (mut frames, mut time) = (Vec::new(), 0.0);
    for n in 0..3_000 {
        let step = match n % 300 {
            0 => 4_000.0,
            1..10 => 1_000.0,
            10..60 => 16.7,
            60..100 => 100.0 + f64::from(n % 7) * 40.0,
            _ => 33.3,
        };
        let keyframe = n % 30 == 0 || n % 300 < 11;
        frames.push(Sent { track: Video, time, arrival: time, composition: 0, keyframe });
        time += step;
    }
    frames
}

#[test]
fn a_screen_share_with_a_variable_rate_is_clean() {
    let pictures = screen();
    clean(&pictures);
    let seconds = pictures.last().unwrap().time / 1_000.0;
    clean(&interleaved(pictures.clone(), sound(seconds)));
    let mut browser = Scene::whip();
    browser.send(&pictures);
    assert_eq!(browser.found(), []);
    let mut announced = Scene::rtmp();
    announced.announce(true, false, Some(60.0));
    announced.send(&pictures);
    assert_eq!(announced.found(), []);
}

#[test]
fn w14_discontinuous_opus_is_clean() {
    let packet = |n: usize| {
        let time = n as f64 * 20.0;
        Sent { track: Audio, time, arrival: time, composition: 0, keyframe: true }
    };
    // Three seconds of speech, then a packet every 400 ms.
    let sound: Vec<Sent> = (0..3_000).filter(|n| n % 300 < 150 || n % 20 == 0).map(packet).collect();
    for pictures in [Vec::new(), pictures(30.0, 60.0, 60)] {
        let mut browser = Scene::whip();
        browser.send(&interleaved(pictures, sound.clone()));
        assert_eq!(browser.found(), []);
    }
}

#[test]
fn one_track_alone_is_clean_unless_the_other_was_promised() {
    for (video, audio) in [(true, false), (false, true)] {
        let mut scene = Scene::rtmp();
        scene.announce(video, audio, None);
        let frames = if video { pictures(30.0, 30.0, 60) } else { sound(30.0) };
        assert_eq!(scene.send(&frames).found(), []);
    }
}

#[test]
fn e6_tracks_that_start_seconds_apart_are_clean() {
    for late in [Video, Audio] {
        let mut frames = both(40.0);
        frames.retain(|frame| frame.track != late || frame.time >= 4_000.0);
        clean(&frames);
    }
}

#[test]
fn e19_bursts_and_files_pushed_at_once_are_clean() {
    let mut stalled = both(60.0);
    // The road is closed for 7 s, and then everything comes at once.
    for frame in stalled.iter_mut().filter(|frame| (20_000.0..27_000.0).contains(&frame.arrival)) {
        frame.arrival = 27_000.0;
    }
    clean(&stalled);
    let mut at_once = both(60.0);
    at_once.iter_mut().for_each(|frame| frame.arrival = frame.time / 50.0);
    clean(&at_once);
    let mut slow = screen();
    slow.iter_mut().for_each(|frame| frame.arrival = frame.time / 50.0);
    clean(&slow);
}

/// An encoder that could not send for 20 s and goes on where the time is by now.
#[test]
fn a_pause_that_really_passed_is_no_jump() {
    let mut frames = both(60.0);
    frames.retain(|frame| !(20_000.0..40_000.0).contains(&frame.time));
    let found = found(&frames);
    assert_eq!(found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Kind::AudioFramesDropped], "{found:?}");
}

#[test]
fn e4_counters_wrap_unnoticed() {
    for origin in [u32::MAX - 10_000, (1 << 31) - 10_000] {
        let mut scene = Scene { origin, ..Scene::rtmp() };
        assert_eq!(scene.send(&both(30.0)).found(), []);
    }
    let mut obs = Scene::rtmp();
    let mut frames = both(30.0);
    // OBS leaves the upper bit out.
    frames.iter_mut().for_each(|frame| frame.time = (frame.time + 2_147_470_000.0) % 2_147_483_648.0);
    assert_eq!(obs.send(&frames).found(), []);
}

#[test]
fn another_publisher_may_have_another_clock() {
    let mut scene = Scene::rtmp();
    scene.announce(true, true, Some(30.0));
    scene.send(&both(20.0));
    scene.detector.interrupt();
    let mut again = both(20.0);
    again.iter_mut().for_each(|frame| (frame.time, frame.arrival) = (frame.time + 9e6, frame.arrival + 50_000.0));
    assert_eq!(scene.send(&again).found(), []);
    scene.detector.interrupt();
    let mut silent = pictures(25.0, 20.0, 50);
    silent.iter_mut().for_each(|frame| frame.arrival += 100_000.0);
    assert_eq!(scene.send(&silent).found(), [], "this one has no sound, and never said so");
}

proptest! {
    /// Whatever the rate, the start, the jitter of the road and the pace.
    #[test]
    fn ordinary_streams_are_clean(
        rate in 5.0..120.0f64,
        origin in any::<u32>(),
        pace in prop_oneof![Just(1.0), 1.0..100.0f64],
        jitter in prop::collection::vec(0.0..300.0f64, 50),
        apart in -2_000.0..2_000.0f64,
        announced in any::<bool>(),
    ) {
        let gop = (rate * 4.0) as usize;
        let mut frames = interleaved(pictures(rate, 30.0, gop), sound(30.0));
        let mut latest = 0.0f64;
        for (n, frame) in frames.iter_mut().enumerate() {
            latest = latest.max(frame.arrival / pace + jitter[n / 20 % 50]);
            frame.arrival = latest;
            frame.time += if frame.track == Audio { apart } else { 0.0 };
        }
        let mut scene = Scene { origin, ..Scene::rtmp() };
        scene.announce(announced, announced, announced.then_some(rate));
        prop_assert_eq!(scene.send(&frames).found(), []);
    }

    /// Nothing that comes makes it panic, or tell of more than there was.
    #[test]
    fn garbage_is_survived(
        frames in prop::collection::vec(
            (any::<bool>(), any::<u32>(), any::<u32>(), any::<i32>(), any::<bool>(), 0u64..100_000), 0..300),
        scales in prop::collection::vec(prop_oneof![Just(1_000u32), Just(90_000), any::<u32>()], 3),
        rate in prop::option::of(any::<f64>()),
    ) {
        let mut scene = Scene::rtmp();
        scene.announce(true, true, rate);
        for (n, (is_video, value, _, composition, keyframe, at)) in frames.iter().enumerate() {
            let track = if *is_video { Video } else { Audio };
            let time = SourceTime { value: *value, scale: scales[n % 3] };
            let frame = RawFrame { track, time, composition: *composition, keyframe: *keyframe, data: Bytes::new() };
            scene.detector.frame(&frame, Duration::from_millis(*at));
        }
        let jumps = [Kind::AudioTimestampJump, Kind::VideoTimestampJump];
        let tally = scene.detector.tally().take();
        prop_assert!(jumps.iter().map(|kind| tally.count(*kind)).sum::<u64>() <= frames.len() as u64);
    }
}
