//! Simulcast, and sources that take over from each other.

use crate::publisher::{Counter, Publisher};
use crate::seed;
use crate::world::{Network, World};

fn three_layers(seed: u64, network: Network) -> World {
    let mut publisher = Publisher::new(seed).simulcast(3);
    publisher.size = (1280, 704);
    World::new(publisher, network)
}

#[test]
fn the_highest_layer_is_delivered_soon_and_stays() {
    let mut world = three_layers(seed(21), Network { loss: 0.02, ..Network::default() });
    world.run(60.0);
    world.finish();
    assert_eq!(world.judge.layers.last(), Some(&0), "{:?}", world.judge.layers);
    let switches = world.session.counts().video.switches;
    assert!(switches <= 2, "{switches} switches");
    assert!(world.judge.pictures > 1_750, "{} pictures", world.judge.pictures);
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms at {} s", world.judge.worst(0.0), world.judge.worst_at());
}

#[test]
fn a_layer_that_dies_is_replaced_by_the_next_and_returned_to() {
    let mut world = three_layers(seed(22), Network::default());
    world.run(10.0);
    world.active[0] = false;
    world.run(15.0);
    assert_eq!(world.judge.layers.last(), Some(&1), "{:?}", world.judge.layers);
    world.active[1] = false;
    world.run(20.0);
    assert_eq!(world.judge.layers.last(), Some(&2), "{:?}", world.judge.layers);
    let down = world.judge.pictures;
    (world.active[0], world.active[1]) = (true, true);
    world.run(30.0);
    world.finish();
    assert_eq!(world.judge.layers.last(), Some(&0), "{:?}", world.judge.layers);
    assert!(world.judge.pictures > down + 280, "turning up costs no picture");
    assert!((1..=3).contains(&world.judge.losses), "each downturn is a hole, and told: {}", world.judge.losses);
}

#[test]
fn layers_are_turned_to_at_key_frames_only() {
    // The judge refuses every picture of another layer that is no key frame.
    let mut world = three_layers(seed(23), Network { answers: false, ..Network::default() });
    world.publisher.key_due = vec![false, false, true, false];
    world.run(5.0);
    assert_eq!(world.judge.layers, [2]);
    world.publisher.key_due[0] = true;
    world.run(6.0);
    world.finish();
    assert_eq!(world.judge.layers, [2, 0]);
    let asked = |layer: usize| {
        let ssrc = world.publisher.video[layer].ssrc;
        world.requests.iter().any(|(at, request)| *at > 2.0 && request.ssrc == ssrc)
    };
    assert!(asked(0) && asked(1), "better layers are asked for the key frame to turn to");
}

#[test]
fn a_new_source_takes_over_with_its_first_key_frame() {
    let mut world = World::new(Publisher::new(seed(1_003)), Network::default());
    world.run(10.0);
    for _ in 0..20 {
        let mut counter = Counter::new(90_000.0, -100.0, &mut world.publisher.rng);
        counter.since = world.now;
        world.publisher.video[0] = counter;
        world.publisher.key_due[0] = true;
        let end = world.now + 6.0;
        world.run(end);
    }
    world.finish();
    assert_eq!(world.session.counts().video.switches, 20);
    assert_eq!(world.judge.pictures as usize, world.publisher.pictures.len(), "none is lost");
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms at {} s", world.judge.worst(0.0), world.judge.worst_at());
}

#[test]
fn a_microphone_that_is_replaced_costs_nothing() {
    let mut world = World::new(Publisher::new(seed(25)), Network::default());
    world.run(10.0);
    for _ in 0..20 {
        let mut counter = Counter::new(48_000.0, 100.0, &mut world.publisher.rng);
        counter.since = world.now;
        world.publisher.audio = counter;
        let end = world.now + 7.3;
        world.run(end);
    }
    world.finish();
    assert_eq!(world.session.counts().audio.switches, 20);
    assert!(world.judge.sounds as usize + 20 >= world.publisher.sounds.len(), "{} sounds", world.judge.sounds);
    assert!(world.judge.worst(0.0) <= 40.0, "{} ms at {} s", world.judge.worst(0.0), world.judge.worst_at());
}
