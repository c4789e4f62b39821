//! The sound of a whole stream, in order with the picture.

use std::sync::Arc;

use bytes::Bytes;
use media::{AacConfig, CodecConfig, Frame, Gap, GapReason, MediaTime, OpusConfig, Timed, TrackKind};
use opus::Application;
use transcode::Stage;

use crate::lab::*;

fn opus_config(channels: u8) -> Timed {
    Timed::Config(TrackKind::Audio, CodecConfig::Opus(Arc::new(OpusConfig { channels, ..stereo() })))
}

fn picture(millis: i64) -> Timed {
    let dts = MediaTime::from_millis(millis);
    let data = Bytes::from_static(&[0, 0, 0, 2, 0x65, 0x9a]);
    Timed::Frame(Frame { track: TrackKind::Video, dts, pts: dts, keyframe: true, data })
}

/// `seconds` of 25 pictures and 50 packets a second, in the order in which they come.
fn stream(seconds: usize) -> Vec<Timed> {
    let packets = opus(&mut publisher(2, Application::Audio), &noise(seconds * SECOND, 2, 2), 2, 960);
    let mut items = vec![opus_config(2)];
    for (n, packet) in frames(packets, 960, 0.0).into_iter().enumerate() {
        if n % 2 == 0 {
            items.push(picture(n as i64 * 20));
        }
        items.push(Timed::Frame(packet));
    }
    items
}

fn pass(stage: &mut Stage, items: &[Timed]) -> Vec<Timed> {
    let mut out = Vec::new();
    items.iter().for_each(|item| stage.push(item, &mut out));
    out
}

fn times(items: &[Timed], track: TrackKind) -> Vec<i64> {
    let of_track = |item: &Timed| match item {
        Timed::Frame(frame) if frame.track == track => Some(frame.dts.0),
        _ => None,
    };
    items.iter().filter_map(of_track).collect()
}

fn configs(items: &[Timed]) -> usize {
    items.iter().filter(|item| matches!(item, Timed::Config(TrackKind::Audio, CodecConfig::Aac(_)))).count()
}

#[test]
fn picture_and_sound_come_out_in_the_order_of_their_times() {
    let mut stage = Stage::new();
    let mut out = pass(&mut stage, &stream(3));
    // What waits is at most a fifth of a second.
    assert!(times(&out, TrackKind::Video).len() >= 70);
    stage.finish(&mut out);
    assert!(matches!(out[0], Timed::Config(TrackKind::Audio, CodecConfig::Aac(_))));
    assert_eq!(times(&out, TrackKind::Video), (0..75).map(|n| n * 40 * 90).collect::<Vec<_>>());
    let all: Vec<i64> =
        out.iter().filter_map(|item| if let Timed::Frame(f) = item { Some(f.dts.0) } else { None }).collect();
    // The picture that came before any sound did not wait for it.
    assert!(all[1..].is_sorted(), "{:?}", &all[..20]);
    assert!(!stage.is_waiting());
}

#[test]
fn a_picture_does_not_wait_for_sound_that_stays_away() {
    let mut stage = Stage::new();
    let mut items = stream(1);
    items.extend((25..100).map(|n| picture(n * 40)));
    let out = pass(&mut stage, &items);
    let last = times(&out, TrackKind::Video).last().copied().unwrap();
    assert!(last >= (99 * 40 - 240) * 90, "the picture of {} ms is the last", last / 90);
    // And none for long when nothing comes at all.
    assert!(stage.is_waiting());
    let mut rest = Vec::new();
    stage.release(&mut rest);
    assert_eq!(times(&rest, TrackKind::Video).last(), Some(&(99 * 40 * 90)));
    assert!(!stage.is_waiting());
}

#[test]
fn a_gap_comes_behind_everything_before_it() {
    let mut stage = Stage::new();
    let gap = Gap {
        starts_at: MediaTime::from_millis(980),
        resumes_at: MediaTime::from_millis(5_000),
        reason: GapReason::PublisherLost,
    };
    let shift = |item: &Timed| match item {
        Timed::Frame(frame) => {
            let by = MediaTime::from_millis(5_000);
            Timed::Frame(Frame { dts: frame.dts + by, pts: frame.pts + by, ..frame.clone() })
        }
        item => item.clone(),
    };
    let first = stream(1);
    let mut items = first.clone();
    items.push(Timed::Gap(gap));
    items.extend(first.iter().map(shift));
    let mut out = pass(&mut stage, &items);
    stage.finish(&mut out);
    let at = out.iter().position(|item| matches!(item, Timed::Gap(_))).unwrap();
    let (before, after) = out.split_at(at);
    assert!(times(before, TrackKind::Audio).last().unwrap() + 1_920 >= (1_000 - 7) * 90);
    assert_eq!(times(before, TrackKind::Video).len(), 25);
    assert_eq!(times(after, TrackKind::Audio)[0] + 1_920, 5_000 * 90);
    assert_eq!(times(after, TrackKind::Video)[0], 5_000 * 90);
    // The same configuration again is no news.
    assert_eq!(configs(&out), 1);
    assert_eq!(stage.counts().runs, 2);
}

/// A gap of one track is no break of the other.
#[test]
fn lost_pictures_do_not_touch_the_sound_and_lost_sound_is_made_up() {
    let ordered = stream(2);
    let position = |track, nth| {
        let of_track = |item: &Timed| matches!(item, Timed::Frame(frame) if frame.track == track);
        ordered.iter().enumerate().filter(|(_, item)| of_track(item)).nth(nth).unwrap().0
    };
    for (track, missing) in [(TrackKind::Video, 10), (TrackKind::Audio, 40)] {
        let time = |nth: usize| match &ordered[position(track, nth)] {
            Timed::Frame(frame) => frame.dts,
            _ => unreachable!(),
        };
        let (starts_at, resumes_at) = (time(missing - 1), time(missing + 1));
        let gap = Timed::Gap(Gap { starts_at, resumes_at, reason: GapReason::FramesLost });
        let mut items = ordered.clone();
        items.insert(position(track, missing + 1), gap.clone());
        items.remove(position(track, missing));
        let mut stage = Stage::new();
        let mut out = pass(&mut stage, &items);
        stage.finish(&mut out);
        let counts = stage.counts();
        assert_eq!((counts.runs, counts.silent), (1, 0));
        assert_eq!(counts.concealed, if track == TrackKind::Audio { 960 } else { 0 });
        assert_eq!(out.iter().filter(|item| **item == gap).count(), 1);
        let units = times(&out, TrackKind::Audio);
        assert!(units.windows(2).all(|pair| pair[1] - pair[0] == 1_920));
    }
}

#[test]
fn the_configuration_is_told_again_when_it_is_another() {
    let mut stage = Stage::new();
    let packets = opus(&mut publisher(1, Application::Audio), &noise(SECOND, 1, 2), 1, 960);
    let mut items = stream(1);
    items.push(opus_config(1));
    items.extend(frames(packets, 960, 48_000.0).into_iter().map(Timed::Frame));
    let mut out = pass(&mut stage, &items);
    stage.finish(&mut out);
    let channels = |item: &Timed| match item {
        Timed::Config(_, CodecConfig::Aac(aac)) => Some(aac.channels),
        _ => None,
    };
    assert_eq!(out.iter().filter_map(channels).collect::<Vec<_>>(), [2, 1]);
    let units = times(&out, TrackKind::Audio);
    assert!(units.windows(2).all(|pair| pair[1] > pair[0]), "{units:?}");
}

#[test]
fn what_is_not_opus_passes_as_it_is() {
    let aac = AacConfig::parse(Bytes::from_static(&[0x12, 0x10])).unwrap();
    let mut items = vec![Timed::Config(TrackKind::Audio, CodecConfig::Aac(Arc::new(aac)))];
    items.extend(
        (0..50).map(|n| Timed::Frame(frame(Bytes::from_static(&[0x21, 0x10]), MediaTime::from_millis(n * 23)))),
    );
    items.push(picture(1_000));
    let mut stage = Stage::new();
    assert_eq!(pass(&mut stage, &items), items);
    // Even behind sound that was not.
    let mut stage = Stage::new();
    let out = pass(&mut stage, &[stream(1), items.clone()].concat());
    assert_eq!(out[out.len() - items.len()..], items);
}
