//! When key frames are asked for.

use std::time::Duration;

use rtp::{KeyFrameRequest, Output, Want};

use crate::packets::{Feed, frames};
use crate::publisher::Publisher;
use crate::seed;
use crate::world::{Network, World};

fn requests(outputs: &[Output]) -> Vec<KeyFrameRequest> {
    let request = |output: &Output| if let Output::KeyFrame(request) = output { Some(*request) } else { None };
    outputs.iter().filter_map(request).collect()
}

#[test]
fn one_is_asked_for_at_the_start_and_after_a_loss() {
    let mut feed = Feed::new();
    feed.send(0, true, &[0x41u8, 0x9a][..]).key(3_000).lose(1).send(9_000, true, &[0x41u8, 0x9a][..]);
    let out = feed.finish();
    assert_eq!(frames(&out).len(), 1);
    let requests: Vec<(Want, u32)> = requests(&out).iter().map(|request| (request.why, request.attempt)).collect();
    assert_eq!(requests, [(Want::Start, 0), (Want::Loss, 0), (Want::Loss, 1)]);
}

#[test]
fn one_is_asked_for_before_a_cut() {
    let mut world = World::new(Publisher::new(seed(11)), Network::default());
    world.run(5.0);
    let before = world.judge.pictures;
    let asked = world.requests.len();
    world.session.request_key_frame();
    world.run(6.0);
    assert_eq!(world.requests.len(), asked + 1);
    assert_eq!(world.requests[asked].1.why, Want::Cut);
    let key = world.publisher.pictures.iter().skip(before as usize).any(|picture| picture.keyframe);
    assert!(key && world.judge.losses == 0);
}

#[test]
fn a_publisher_that_never_answers_is_asked_at_most_every_half_second_and_ever_less() {
    let mut world = World::new(Publisher::new(seed(12)), Network { answers: false, ..Network::default() });
    world.publisher.key_due[0] = false;
    world.run(20.0);
    let times: Vec<f64> = world.requests.iter().map(|(at, _)| *at).collect();
    let pauses: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= 0.5), "{pauses:?}");
    assert!((10..=14).contains(&times.len()), "{times:?}");
    assert_eq!(world.requests.last().unwrap().1.attempt as usize, times.len() - 1);
    assert_eq!(world.judge.pictures, 0);
    assert!(world.judge.sounds > 900, "the sound does not wait for the picture");
}

#[test]
fn a_camera_that_is_off_is_not_asked() {
    let mut world = World::new(Publisher::new(seed(13)), Network { answers: false, ..Network::default() });
    world.publisher.key_due[0] = false;
    world.run(2.0);
    world.camera = false;
    world.run(4.0);
    let asked = world.requests.len();
    world.run(30.0);
    assert_eq!(world.requests.len(), asked);
    assert!(world.session.next_timeout().is_none_or(|at| at > Duration::ZERO));
}
