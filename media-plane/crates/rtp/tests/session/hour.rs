//! One hour of everything at once (issue "WebRTC publishers are recorded over WHIP", shown by 2).

use media::health::Kind;
use media::{CodecConfig, TrackKind};

use crate::publisher::{Counter, Publisher};
use crate::seed;
use crate::world::{Network, World};

const HOUR: f64 = 3_600.0;

/// Clocks 100 ppm off in either direction, counters about to wrap, silence, new sizes, new sources.
fn hour(seed: u64, network: Network) -> World {
    let mut publisher = Publisher::new(seed);
    publisher.slice_bytes = 400;
    // Both wrap on the way: the picture after 10 minutes, the sound after 25, sequence numbers at once and again.
    publisher.video[0].first = 0u32.wrapping_sub(90_000 * 600);
    publisher.audio.first = 0u32.wrapping_sub(48_000 * 1_500);
    (publisher.video[0].sequence, publisher.audio.sequence) = (65_500, 65_400);
    let mut world = World::new(publisher, network);
    let sizes = [(352, 640), (1280, 720), (640, 352)];
    for (n, minute) in (1..=60).enumerate() {
        world.run(f64::from(minute) * 60.0 - 20.0);
        world.silence = true;
        world.run(f64::from(minute) * 60.0 - 10.0);
        world.silence = false;
        if minute % 7 == 0 {
            world.publisher.resize(sizes[n / 7 % 3]);
        }
        if minute % 20 == 11 {
            let now = world.now;
            let mut counter = Counter::new(90_000.0, -100.0, &mut world.publisher.rng);
            counter.since = now;
            world.publisher.video[0] = counter;
            world.publisher.key_due[0] = true;
        }
        if minute % 20 == 17 {
            let now = world.now;
            let mut counter = Counter::new(48_000.0, 100.0, &mut world.publisher.rng);
            counter.since = now;
            world.publisher.audio = counter;
        }
        world.run(f64::from(minute) * 60.0);
    }
    world.run(HOUR);
    world.finish();
    world
}

fn report(name: &str, world: &World) {
    let (judge, counts) = (&world.judge, world.session.counts());
    println!(
        "{name}: pictures {}/{}, sounds {}/{}, gaps {} (lost packets {} + {}), A/V at worst {:.1} ms, {:.1} ms after 30 s, \
         {:.4} within 20 ms, latency at worst {:.3} s, out of order {:.3} s, key frames asked for {}, {:?}",
        judge.pictures,
        world.publisher.pictures.len(),
        judge.sounds,
        world.publisher.sounds.len(),
        judge.gaps,
        counts.video.packets_lost,
        counts.audio.packets_lost,
        judge.worst(0.0),
        judge.worst(30.0),
        judge.share(20.0),
        judge.latency,
        judge.behind,
        counts.key_frame_requests,
        counts.clock,
    );
}

/// What holds of either hour. The order, the bits and that gaps are told is checked frame by frame.
fn check(world: &World) {
    let judge = &world.judge;
    assert!(judge.worst(0.0) <= 40.0, "{} ms at worst", judge.worst(0.0));
    assert!(judge.share(20.0) >= 0.999, "{} within 20 ms", judge.share(20.0));
    assert!(judge.behind <= 0.3, "the sound waits for the picture's missing packets: {} s", judge.behind);
    let sizes: Vec<(u32, u32)> = judge.configs.iter().filter_map(|(_, config)| size(config)).collect();
    assert_eq!(&sizes[..4], [(640, 352), (352, 640), (1280, 720), (640, 352)]);
    assert_eq!(sizes.len(), 9);
    let of_sound = judge.configs.iter().filter(|(track, _)| *track == TrackKind::Audio).count();
    assert_eq!((of_sound, judge.rejected), (1, 0));
    let counts = world.session.counts();
    assert_eq!((counts.video.switches, counts.audio.switches), (3, 3));
    assert_eq!((counts.video.malformed, counts.audio.malformed, counts.unknown), (0, 0, 0));
    assert_eq!((counts.clock.wall_steps, counts.clock.reports_rejected), (0, 0));
}

/// The health report tells of what happened, and of nothing else: not of drift, wraps, silence, and what was slewed.
fn check_health(world: &mut World, loses_sound: bool) {
    let mut found = world.judge.abnormal();
    let missing = world.publisher.pictures.len() as u64 - world.judge.pictures;
    let dropped = found.iter().find(|(kind, _)| *kind == Kind::VideoFramesDropped).map_or(0, |(_, count)| *count);
    assert!(dropped <= missing && dropped * 100 >= missing * 80, "{dropped} of {missing} missing pictures were told");
    found.retain(|(kind, _)| *kind != Kind::VideoFramesDropped && (!loses_sound || *kind != Kind::AudioFramesDropped));
    // Nobody asks this encoder for key frames but after a loss.
    found.retain(|(kind, _)| *kind != Kind::GopAbnormal);
    assert_eq!(found, [(Kind::ResolutionChanged, 8)]);
}

fn size(config: &CodecConfig) -> Option<(u32, u32)> {
    if let CodecConfig::Avc(avc) = config { Some((avc.width, avc.height)) } else { None }
}

#[test]
fn an_hour_with_five_percent_loss_and_nack() {
    let mut world = hour(seed(1), Network { loss: 0.05, ..Network::default() });
    report("5 % loss, NACK", &world);
    check(&world);
    let sent = (world.publisher.pictures.len() as f64, world.publisher.sounds.len() as f64);
    assert!(world.judge.pictures as f64 >= 0.998 * sent.0, "pictures that were sent again arrive");
    assert!(world.judge.sounds as f64 >= 0.999 * sent.1);
    check_health(&mut world, false);
}

#[test]
fn an_hour_with_one_percent_loss_and_nothing_sent_again() {
    let mut world = hour(seed(2), Network { loss: 0.01, nack: false, ..Network::default() });
    report("1 % loss, no NACK", &world);
    check(&world);
    let sent = (world.publisher.pictures.len() as f64, world.publisher.sounds.len() as f64);
    assert!(world.judge.pictures as f64 >= 0.7 * sent.0, "a key frame soon follows every loss");
    assert!(world.judge.sounds as f64 >= 0.98 * sent.1);
    assert!(world.judge.gaps > 1_000, "{} gaps were told", world.judge.gaps);
    check_health(&mut world, true);
}
