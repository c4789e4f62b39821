//! Tests of [`super`].

use bytes::Bytes;
use media::{CodecConfig, Frame, OpusConfig};

use super::*;

const PICTURE: u64 = 1_000;
const SOUND: u64 = 100;

fn at(millis: i64) -> MediaTime {
    MediaTime::from_millis(millis)
}

fn picture(millis: i64, keyframe: bool) -> Timed {
    let data = Bytes::from(vec![0; PICTURE as usize]);
    Timed::Frame(Frame { track: TrackKind::Video, dts: at(millis), pts: at(millis), keyframe, data })
}

fn sound(millis: i64) -> Timed {
    let data = Bytes::from(vec![0; SOUND as usize]);
    Timed::Frame(Frame { track: TrackKind::Audio, dts: at(millis), pts: at(millis), keyframe: true, data })
}

fn config(channels: u8) -> Timed {
    let opus = OpusConfig { channels, pre_skip: 0, sample_rate_in: 48_000 };
    Timed::Config(TrackKind::Audio, CodecConfig::Opus(opus.into()))
}

/// 25 pictures a second with a key frame every `group` milliseconds, and sound between them.
fn stream(from: i64, to: i64, group: i64) -> Vec<Timed> {
    (from..to).step_by(40).flat_map(|millis| [picture(millis, millis % group == 0), sound(millis + 20)]).collect()
}

fn span(head: &Head) -> (i64, i64) {
    let times: Vec<i64> = head.items.iter().filter_map(frame_millis).collect();
    (times[0], times[times.len() - 1])
}

fn frame_millis(item: &Timed) -> Option<i64> {
    if let Timed::Frame(frame) = item { Some(frame.dts.to_scale(1_000)) } else { None }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_head_begins_at_the_key_frame_at_or_before_what_is_asked_for() {
    let mut backlog = Backlog::new(&Budget::new(1 << 30));
    backlog.keep(seconds(10));
    backlog.push(Feed::Both, &[config(2)]);
    backlog.push(Feed::Both, &stream(0, 20_000, 2_000));
    for (before, first) in [(0, 18_000), (1, 18_000), (2, 16_000), (3, 16_000), (9, 10_000), (10, 8_000), (15, 6_000)] {
        let head = backlog.head(seconds(before)).unwrap();
        assert_eq!(span(&head), (first, 19_980), "{before}");
        assert_eq!((head.first, head.newest), (at(first), at(19_980)));
        assert_eq!(head.items[0], config(2), "what was in force before it");
        let frames = head.items.iter().filter_map(frame_millis).count() as i64;
        assert_eq!(frames, (20_000 - first) / 20, "nothing is left out");
        assert!(head.heard.is_none());
    }
}

#[test]
fn a_long_group_is_kept_from_its_beginning_and_old_ones_are_forgotten() {
    let budget = Budget::new(1 << 30);
    let mut backlog = Backlog::new(&budget);
    backlog.keep(Duration::ZERO);
    stream(0, 30_000, 1_000).into_iter().for_each(|item| _ = backlog.push(Feed::Both, &[item]));
    let few = budget.used();
    assert_eq!(backlog.original.groups.len(), 3, "what began before the grace, and since");
    assert_eq!(few, backlog.bytes());
    backlog.push(Feed::Both, &stream(30_000, 60_000, 60_000));
    assert_eq!(span(&backlog.head(Duration::ZERO).unwrap()).0, 29_000, "one group of 31 s");
    assert!(budget.used() > 9 * few);
    drop(backlog);
    assert_eq!(budget.used(), 0);
}

#[test]
fn all_streams_together_never_take_more_than_the_budget() {
    let second = 25 * (PICTURE + SOUND + 2 * ITEM_BYTES);
    let budget = Budget::new(20 * second);
    let mut backlogs: Vec<Backlog> = (0..4).map(|_| Backlog::new(&budget)).collect();
    for from in (0..60_000).step_by(1_000) {
        for backlog in &mut backlogs {
            backlog.keep(seconds(60));
            backlog.push(Feed::Both, &stream(from, from + 1_000, 1_000));
            assert!(budget.used() <= 20 * second, "{from}");
        }
    }
    // Five seconds each.
    for backlog in &backlogs {
        assert_eq!(span(&backlog.head(seconds(60)).unwrap()).0, 55_000);
    }
    backlogs.truncate(1);
    backlogs[0].push(Feed::Both, &stream(60_000, 90_000, 1_000));
    assert_eq!(span(&backlogs[0].head(seconds(60)).unwrap()).0, 70_000, "the others' part is free");
}

#[test]
fn a_group_that_does_not_fit_is_dropped_and_the_next_key_frame_begins_anew() {
    let second = 25 * (PICTURE + SOUND + 2 * ITEM_BYTES);
    let budget = Budget::new(5 * second);
    let mut backlog = Backlog::new(&budget);
    backlog.push(Feed::Both, &stream(0, 4_000, 100_000));
    assert!(!backlog.is_empty());
    backlog.push(Feed::Both, &stream(4_000, 6_000, 100_000));
    assert!(backlog.is_empty() && backlog.head(Duration::ZERO).is_none());
    assert_eq!(budget.used(), 0);
    assert!(!backlog.push(Feed::Both, &[picture(6_000, false), sound(6_020)]), "sound alone is no beginning");
    assert!(backlog.push(Feed::Both, &[picture(6_040, true)]));
    assert_eq!(span(&backlog.head(seconds(1)).unwrap()), (6_040, 6_040));
}

#[test]
fn both_forms_of_a_stream_begin_at_the_same_picture() {
    let mut backlog = Backlog::new(&Budget::new(1 << 30));
    backlog.keep(seconds(10));
    backlog.push(Feed::Original, &stream(0, 10_200, 1_000));
    assert_eq!(backlog.head(Duration::ZERO).unwrap().first, at(10_000));
    // The sound is 300 ms behind: the newest picture has not passed the codecs yet.
    backlog.push(Feed::Aac, &stream(0, 9_920, 1_000));
    let head = backlog.head(Duration::ZERO).unwrap();
    assert_eq!((head.first, span(&head)), (at(9_000), (9_000, 10_180)));
    let heard: Vec<i64> = head.heard.unwrap().iter().filter_map(frame_millis).collect();
    assert_eq!((heard[0], heard[heard.len() - 1]), (9_000, 9_900));
    let before = backlog.bytes();
    backlog.push(Feed::Aac, &stream(9_920, 10_200, 1_000));
    assert_eq!(backlog.head(Duration::ZERO).unwrap().first, at(10_000));
    assert!(backlog.bytes() - before < 20 * PICTURE, "pictures are counted once");
}

#[test]
fn sound_alone_begins_anywhere_but_not_before_what_is_asked_for_by_more_than_a_second() {
    let mut backlog = Backlog::new(&Budget::new(1 << 30));
    backlog.keep(seconds(5));
    let items: Vec<Timed> = (0..10_000).step_by(20).map(sound).collect();
    backlog.push(Feed::Original, &items);
    let heard: Vec<Timed> = (0..9_800).step_by(21).map(sound).collect();
    backlog.push(Feed::Aac, &heard);
    let head = backlog.head(seconds(4)).unwrap();
    assert_eq!(span(&head), (5_000, 9_980));
    let heard: Vec<i64> = head.heard.unwrap().iter().filter_map(frame_millis).collect();
    assert!((5_000..5_021).contains(&heard[0]) && heard.is_sorted(), "{heard:?}");
}

#[test]
fn another_publisher_is_another_beginning() {
    let budget = Budget::new(1 << 30);
    let mut backlog = Backlog::new(&budget);
    backlog.push(Feed::Both, &stream(0, 3_000, 1_000));
    backlog.clear();
    assert_eq!((backlog.is_empty(), budget.used()), (true, 0));
    backlog.push(Feed::Both, &stream(9_000, 9_500, 1_000));
    assert_eq!(span(&backlog.head(seconds(60)).unwrap()), (9_000, 9_480 + 20));
}

/// Groups that were freed at once made memory go up and down by a group of every stream.
#[test]
fn what_is_forgotten_is_freed_as_new_media_comes() {
    let budget = Budget::new(1 << 30);
    let mut backlog = Backlog::new(&budget);
    stream(0, 6_000, 2_000).into_iter().for_each(|item| _ = backlog.push(Feed::Both, &[item]));
    let (mut least, mut most) = (budget.used(), budget.used());
    for item in stream(6_000, 20_000, 2_000) {
        let before = budget.used();
        backlog.push(Feed::Both, &[item]);
        assert!(budget.used() + 2 * (PICTURE + ITEM_BYTES) >= before, "no more than two items at once");
        (least, most) = (least.min(budget.used()), most.max(budget.used()));
        assert_eq!(backlog.bytes(), budget.used());
    }
    let second = 25 * (PICTURE + SOUND + 2 * ITEM_BYTES);
    assert!(least >= 2 * second && most <= 4 * second + second / 10, "{least} to {most}");
    backlog.clear();
    assert_eq!(budget.used(), 0);
}
