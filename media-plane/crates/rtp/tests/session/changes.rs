//! Devices that are changed, switched off, or that stand still.

use media::TrackKind;

use crate::publisher::Publisher;
use crate::seed;
use crate::world::{Network, World};

fn world(seed: u64) -> World {
    World::new(Publisher::new(seed), Network { jitter: 0.006, ..Network::default() })
}

#[test]
fn timestamps_of_one_source_that_begin_anew_go_on_where_arrival_says() {
    for (n, jump) in [90_000 * 3_000u32, 0u32.wrapping_sub(90_000 * 20), 90_000 * 2].into_iter().enumerate() {
        let mut world = world(seed(50) + n as u64);
        world.run(20.0);
        world.publisher.video[0].first = world.publisher.video[0].first.wrapping_add(jump);
        world.run(60.0);
        world.finish();
        assert_eq!((world.session.counts().clock.timestamp_jumps, world.session.counts().clock.sound_jumps), (1, 0));
        assert!(
            world.judge.worst(0.0) <= 40.0,
            "{} ms at {} s after {jump}",
            world.judge.worst(0.0),
            world.judge.worst_at()
        );
        assert_eq!(world.judge.pictures as usize, world.publisher.pictures.len());
    }
}

#[test]
fn a_counter_that_stood_still_is_moved_on() {
    // A muted microphone whose device does not count meanwhile.
    let mut world = world(seed(53));
    world.run(20.0);
    world.microphone = false;
    world.run(50.0);
    world.microphone = true;
    world.publisher.audio.since += 30.0;
    world.run(120.0);
    world.finish();
    assert_eq!((world.session.counts().clock.timestamp_jumps, world.session.counts().clock.sound_jumps), (1, 1));
    assert!(world.judge.worst(60.0) <= 40.0, "{} ms", world.judge.worst(60.0));
}

#[test]
fn a_camera_that_is_off_for_minutes_comes_back_in_sync() {
    let mut world = world(seed(54));
    world.run(20.0);
    world.camera = false;
    world.run(320.0);
    world.camera = true;
    world.publisher.key_due[0] = true;
    world.run(400.0);
    world.finish();
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms at {} s", world.judge.worst(0.0), world.judge.worst_at());
    assert_eq!(world.session.counts().clock.timestamp_jumps, 0);
}

#[test]
fn a_picture_every_second_is_as_good_as_thirty() {
    let mut world = world(seed(55));
    world.frame = 1.0;
    world.run(120.0);
    world.finish();
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms at {} s", world.judge.worst(0.0), world.judge.worst_at());
    assert!(world.judge.pictures >= 119);
}

#[test]
fn silence_leaves_no_gap_and_is_no_loss() {
    let mut world = world(seed(56));
    for n in 0..30 {
        world.silence = n % 2 == 0;
        world.run(f64::from(n) * 2.0);
    }
    world.finish();
    assert_eq!((world.judge.losses, world.judge.sound_holes), (0, 0));
    assert_eq!(world.judge.sounds as usize, world.publisher.sounds.len());
}

#[test]
fn a_network_that_stands_still_for_seconds_moves_nothing() {
    let mut world = world(seed(57));
    world.run(20.0);
    // TCP that waits for a lost segment: everything comes, but late.
    world.network.delay = 4.0;
    world.run(24.0);
    world.network.delay = 0.03;
    world.run(90.0);
    world.finish();
    assert_eq!(world.session.counts().clock.timestamp_jumps, 0);
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms at {} s", world.judge.worst(0.0), world.judge.worst_at());
}

#[test]
fn a_way_that_becomes_slower_moves_both_tracks_alike() {
    let mut world = world(seed(58));
    world.network.reports = false;
    world.run(60.0);
    world.network.delay = 0.23;
    world.run(300.0);
    world.finish();
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms at {} s", world.judge.worst(0.0), world.judge.worst_at());
}

#[test]
fn the_picture_may_begin_long_after_the_sound() {
    let mut world = world(seed(59));
    world.camera = false;
    world.run(30.0);
    assert!(world.judge.sounds > 1_400, "the sound does not wait");
    world.camera = true;
    world.run(60.0);
    world.finish();
    assert!(world.judge.first[&TrackKind::Video] < 30.5);
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms at {} s", world.judge.worst(0.0), world.judge.worst_at());
}

#[test]
fn what_a_late_first_packet_did_to_a_counter_that_began_anew_is_soon_undone() {
    let mut world = world(seed(60));
    world.network.jitter = 0.001;
    world.run(20.0);
    world.publisher.video[0].first = world.publisher.video[0].first.wrapping_add(90_000 * 3_000);
    world.network.delay += 0.025;
    world.run(20.04);
    world.network.delay -= 0.025;
    world.run(60.0);
    world.finish();
    assert_eq!(world.session.counts().clock.timestamp_jumps, 1);
    let late = world.judge.offsets.iter().filter(|(at, _)| (20.0..20.3).contains(at));
    assert!(late.map(|(_, offset)| *offset).fold(0.0, f64::max) > 0.02, "the packet was late enough to matter");
    assert!(world.judge.worst(24.0) <= 5.0, "{} ms at {} s", world.judge.worst(24.0), world.judge.worst_at());
}
