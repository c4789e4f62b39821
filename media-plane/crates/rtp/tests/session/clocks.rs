//! Picture and sound on one clock, with sender reports that come late, never, or wrong.

use rand::Rng;

use crate::publisher::{Counter, Publisher};
use crate::seed;
use crate::world::{Network, World, instant};

fn world(seed: u64, network: Network) -> World {
    World::new(Publisher::new(seed), network)
}

#[test]
fn at_the_start_arrival_aligns_both_tracks_until_reports_do() {
    for n in 0..20 {
        let mut world = world(seed(300) + n, Network { jitter: 0.015, encoding: 0.02, ..Network::default() });
        world.run(30.0);
        world.finish();
        assert!(world.judge.worst(0.0) <= 40.0, "{} ms at the start", world.judge.worst(0.0));
        // The sound's first report comes after 2.5 s; from then on the picture is moved by at most 5 %.
        assert!(world.judge.worst(4.0) <= 5.0, "{} ms with reports", world.judge.worst(4.0));
        assert!(world.session.counts().clock.reports > 20);
        let (picture, sound) =
            (world.judge.first[&media::TrackKind::Video], world.judge.first[&media::TrackKind::Audio]);
        assert!(picture < 0.5 && sound < 0.01, "the start is not lost: {picture} {sound}");
    }
}

#[test]
fn the_start_waits_a_second_at_most() {
    let mut world = world(seed(32), Network { reports: false, ..Network::default() });
    world.run(1.02);
    assert_eq!(world.judge.pictures + world.judge.sounds, 0);
    world.run(1.1);
    assert!(world.judge.pictures > 25 && world.judge.sounds > 45, "{}", world.judge.sounds);
    assert!(world.judge.latency < 1.1);
}

#[test]
fn reports_of_both_tracks_end_the_wait() {
    let mut world = world(seed(33), Network { encoding: 0.15, ..Network::default() });
    let audio = world.publisher.report(&world.publisher.audio, 0.0);
    world.session.push_sender_report(audio.ssrc, audio.ntp, audio.rtp, instant(0.0));
    let video = world.publisher.report(&world.publisher.video[0], 0.0);
    world.run(0.3);
    world.session.push_sender_report(video.ssrc, video.ntp, video.rtp, instant(0.3));
    world.run(0.4);
    assert!(world.judge.pictures > 0);
    world.run(60.0);
    world.finish();
    assert!(world.judge.worst(0.0) <= 4.0, "aligned from the first picture on: {} ms", world.judge.worst(0.0));
}

#[test]
fn without_reports_arrival_follows_the_drift_for_an_hour() {
    let network = Network { reports: false, loss: 0.01, jitter: 0.006, encoding: 0.015, ..Network::default() };
    let mut world = world(seed(34), network);
    world.publisher.slice_bytes = 100;
    world.frame = 0.1;
    world.run(3_600.0);
    world.finish();
    println!("without reports: {} ms at worst", world.judge.worst(0.0));
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms", world.judge.worst(0.0));
}

#[test]
fn a_slow_encoder_is_put_right_by_the_reports_without_a_jump() {
    let mut world = world(seed(35), Network { encoding: 0.18, ..Network::default() });
    world.run(20.0);
    world.finish();
    let offsets = &world.judge.offsets;
    assert!(world.judge.worst(0.0) > 150.0 && world.judge.worst(10.0) <= 5.0, "{} ms", world.judge.worst(10.0));
    let steps = offsets.windows(2).map(|pair| (pair[1].1 - pair[0].1).abs() * 1e3);
    let worst = steps.fold(0.0, f64::max);
    assert!(worst <= 2.0, "slewed, not jumped: {worst} ms from one frame to the next");
}

#[test]
fn reports_that_are_wrong_are_not_believed() {
    let mut world = world(seed(36), Network::default());
    for second in 1..120 {
        world.run(f64::from(second));
        if second > 10 && second % 3 == 0 {
            let (error, is_video) = (world.publisher.rng.random_range(-2_000_000i64..2_000_000), second % 2 == 0);
            let counter = if is_video { &world.publisher.video[0] } else { &world.publisher.audio };
            let report = world.publisher.report(counter, world.now);
            let now = instant(world.now);
            world.session.push_sender_report(report.ssrc, report.ntp, report.rtp.wrapping_add(error as u32), now);
        }
    }
    world.finish();
    assert!(world.session.counts().clock.reports_rejected > 25);
    assert!(world.judge.worst(0.0) <= 20.0, "{} ms", world.judge.worst(0.0));
}

#[test]
fn reports_without_a_wall_clock_or_of_nobody_are_ignored() {
    let mut world = world(seed(37), Network { reports: false, ..Network::default() });
    for second in 1..30 {
        world.run(f64::from(second));
        let ssrc = world.publisher.audio.ssrc;
        let now = instant(world.now);
        world.session.push_sender_report(ssrc, 0, 77, now);
        world.session.push_sender_report(second, u64::from(second) << 32, 77, now);
    }
    world.finish();
    assert_eq!((world.session.counts().clock.reports, world.session.counts().clock.reports_rejected), (0, 29));
    assert!(world.judge.worst(0.0) <= 20.0);
}

#[test]
fn late_and_repeated_reports_change_nothing() {
    let mut world = world(seed(38), Network::default());
    let mut old = Vec::new();
    for second in 1..90 {
        world.run(f64::from(second));
        old.push(world.publisher.report(&world.publisher.video[0], world.now));
        if let Some(report) = old.get(old.len().wrapping_sub(5)).cloned() {
            world.session.push_sender_report(report.ssrc, report.ntp, report.rtp, instant(world.now));
        }
    }
    world.finish();
    assert_eq!(world.session.counts().clock.reports_rejected, 0);
    assert!(world.judge.worst(5.0) <= 5.0, "{} ms", world.judge.worst(5.0));
}

#[test]
fn a_publisher_whose_wall_clock_is_set_stays_in_sync() {
    for step in [7_200.0, -3_600.0, 0.3, -0.08] {
        let mut world = world(seed(39), Network::default());
        world.run(40.0);
        world.publisher.wall += step;
        world.run(120.0);
        world.finish();
        let clock = world.session.counts().clock;
        assert_eq!((clock.wall_steps, clock.timestamp_jumps), (1, 0), "{step} s");
        assert!(world.judge.worst(5.0) <= 5.0, "{} ms after {step} s", world.judge.worst(5.0));
    }
}

#[test]
fn reports_that_begin_after_a_minute_are_slewed_to() {
    let mut world = world(seed(40), Network { reports: false, encoding: 0.035, ..Network::default() });
    world.run(60.0);
    world.network.reports = true;
    world.run(120.0);
    world.finish();
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms", world.judge.worst(0.0));
    assert!(world.judge.worst(75.0) <= 5.0, "{} ms", world.judge.worst(75.0));
}

#[test]
fn reports_that_end_are_lived_without() {
    let mut world = world(seed(41), Network { encoding: 0.1, ..Network::default() });
    world.run(60.0);
    world.network.reports = false;
    world.run(600.0);
    world.finish();
    assert!(world.judge.worst(10.0) <= 15.0, "what is known is kept: {} ms", world.judge.worst(10.0));
}

#[test]
fn an_encoder_that_takes_reports_for_another_counter_falls_back_to_arrival() {
    let mut world = world(seed(42), Network { reports: false, ..Network::default() });
    for second in 1..60 {
        world.run(f64::from(second));
        for (counter, wall) in [(&world.publisher.video[0], 0.0), (&world.publisher.audio, 500.0)] {
            let mut report = world.publisher.report(counter, world.now);
            report.ntp += (wall as u64) << 32;
            world.session.push_sender_report(report.ssrc, report.ntp, report.rtp, instant(world.now));
        }
    }
    world.finish();
    assert!(world.judge.worst(0.0) <= 20.0, "{} ms", world.judge.worst(0.0));
}

#[test]
fn the_first_report_of_a_new_source_threw_its_frames_hours_away() {
    for wrong in [40_000.0, -6_000.0, 5.0, 0.7] {
        let mut world = world(seed(43), Network::default());
        world.run(20.0);
        let mut counter = Counter::new(48_000.0, 100.0, &mut world.publisher.rng);
        counter.since = world.now;
        world.publisher.audio = counter;
        world.run(20.3);
        let mut report = world.publisher.report(&world.publisher.audio, world.now);
        report.ntp = report.ntp.wrapping_add(((wrong * 4_294_967_296.0) as i64) as u64);
        world.session.push_sender_report(report.ssrc, report.ntp, report.rtp, instant(20.3));
        world.run(60.0);
        world.finish();
        assert!(world.judge.worst(0.0) <= 40.0, "{} ms after {wrong} s", world.judge.worst(0.0));
    }
}

#[test]
fn sound_that_moved_against_its_reports_is_slewed_so_that_nobody_hears_it() {
    let mut world = world(seed(44), Network::default());
    world.run(30.0);
    // The device drops 200 ms and counts on: only reports can tell.
    world.publisher.audio.first = world.publisher.audio.first.wrapping_add(48_000 / 5);
    world.run(30.2);
    let moved = world.judge.offsets.len();
    world.run(150.0);
    world.finish();
    let steps = world.judge.offsets[moved + 5..].windows(2).map(|pair| (pair[1].1 - pair[0].1).abs() * 1e3);
    let worst = steps.fold(0.0, f64::max);
    assert!(worst <= 0.25, "{worst} ms from one frame to the next");
    assert!(world.judge.worst(30.5) > 150.0, "it was out of sync");
    assert!(world.judge.worst(110.0) <= 5.0, "{} ms", world.judge.worst(110.0));
    assert_eq!(world.session.counts().clock.timestamp_jumps, 0);
}

/// GStreamer's webrtcbin keeps what its encoders made before the connection stood, and sends it all when it does. Its
/// reports speak of when something was sent, and those of 1.22 count twice as fast as time passes.
#[test]
fn a_publisher_that_had_media_piled_up_was_out_of_sync_by_seconds() {
    for (pile, speed) in [(0.5, (10.0, 30.0)), (1.0, (5.0, 20.0)), (4.5, (8.0, 40.0)), (5.0, (3.0, 4.0))] {
        for counts_twice in [false, true] {
            let mut world = world(seed(45), Network { reports: false, pile, speed, ..Network::default() });
            for moment in [0.05, 0.2, 0.9, 5.0, 10.0] {
                world.run(pile + moment);
                let (picture, sound) = (world.publisher.video[0].clone(), world.publisher.audio.clone());
                for (counter, speed) in [(&picture, speed.0), (&sound, speed.1)] {
                    let sent = (moment * speed).min(pile + moment);
                    let ahead = if counts_twice { pile + moment } else { 0.0 };
                    let mut report = world.publisher.report(counter, world.now);
                    report.rtp = counter.at(sent + ahead);
                    world.session.push_sender_report(report.ssrc, report.ntp, report.rtp, instant(world.now));
                }
            }
            world.run(pile + 30.0);
            world.finish();
            let worst = world.judge.worst(0.0);
            assert!(worst <= 40.0, "{pile} s sent {speed:?} times as fast: {worst} ms at {}", world.judge.worst_at());
            assert!(world.judge.first[&media::TrackKind::Video] < 0.1, "nothing is lost");
            assert_eq!((world.judge.losses, world.session.counts().clock.timestamp_jumps), (0, 0));
        }
    }
}

#[test]
fn a_pile_that_takes_longer_than_the_wait_was_out_of_sync_for_minutes() {
    let network = Network { reports: false, pile: 4.0, speed: (1.5, 4.0), ..Network::default() };
    let mut world = world(seed(46), network);
    world.run(60.0);
    world.finish();
    assert!(world.judge.worst(0.0) > 1_000.0, "it was out of sync");
    assert!(world.judge.worst(45.0) <= 120.0, "{} ms", world.judge.worst(45.0));
}
