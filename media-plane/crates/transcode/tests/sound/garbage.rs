//! Whatever comes in: no panic, bounded output, times in order.

use media::{Frame, MediaTime};
use opus::Application;
use proptest::prelude::*;
use transcode::Transcoder;

use crate::lab::*;

#[derive(Clone, Debug)]
enum Sent {
    Good,
    Bytes(Vec<u8>),
    Cut(usize),
    Flipped(usize, u8),
    Gap,
    Lost,
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        4 => Just(Sent::Good),
        2 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Sent::Bytes),
        1 => (0usize..80).prop_map(Sent::Cut),
        2 => (0usize..80, 1u8..).prop_map(|(at, bits)| Sent::Flipped(at, bits)),
        1 => Just(Sent::Gap),
        1 => Just(Sent::Lost),
    ]
}

fn step() -> impl Strategy<Value = i64> {
    prop_oneof![5 => Just(1_800i64), 2 => 1i64..4_000, 1 => 1i64..200_000, 1 => Just(1)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn garbage_costs_itself_only(
        input in proptest::collection::vec((sent(), step()), 1..60),
        channels in 1u8..3,
        start in -900_000i64..i64::MAX / 4,
    ) {
        let good = opus(&mut publisher(2, Application::Audio), &noise(960 * 8, 2, 1), 2, 960);
        let mut transcoder = Transcoder::new(&media::OpusConfig { channels, ..stereo() }).unwrap();
        let (mut units, mut at, mut media) = (Vec::new(), start, 0);
        for (n, (sent, step)) in input.into_iter().enumerate() {
            let mut data = good[n % good.len()].to_vec();
            match sent {
                Sent::Good => {}
                Sent::Bytes(bytes) => data = bytes,
                Sent::Cut(length) => data.truncate(length),
                Sent::Flipped(place, bits) => {
                    let place = place % data.len();
                    data[place] ^= bits;
                }
                Sent::Gap => transcoder.finish(&mut units),
                Sent::Lost => transcoder.lost(),
            }
            let before = units.len();
            transcoder.push(&frame(data.into(), MediaTime(at)), &mut units);
            prop_assert!(units.len() - before <= 64, "{} access units of one packet", units.len() - before);
            at += step;
            media += step;
        }
        transcoder.finish(&mut units);
        check(&units);
        let inside = |unit: &Frame| unit.dts.0 >= start - 2 * 1_920 && unit.dts.0 <= start + media + 90_000;
        prop_assert!(units.iter().all(inside));
        let counts = transcoder.counts();
        prop_assert_eq!((counts.units, counts.failed), (units.len() as u64, 0));
    }
}

/// The extremes of the timeline.
#[test]
fn times_at_the_end_of_the_world_do_not_overflow() {
    let packet = opus(&mut publisher(2, Application::Audio), &noise(960, 2, 1), 2, 960).remove(0);
    for times in [[i64::MIN, i64::MAX], [i64::MAX, i64::MIN], [i64::MAX, i64::MAX], [i64::MIN, i64::MIN], [0, i64::MIN]]
    {
        let mut transcoder = Transcoder::new(&stereo()).unwrap();
        let mut units = Vec::new();
        for time in times {
            transcoder.push(&frame(packet.clone(), MediaTime(time)), &mut units);
        }
        transcoder.finish(&mut units);
        assert!(units.len() < 20);
    }
}
