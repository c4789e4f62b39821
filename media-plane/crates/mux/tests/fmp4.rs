//! Segments of fragmented MP4: their boxes, times that go on over all of them, and which of them begin with other tracks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::{Step, Store, asc, fmp4, named, options, other_avc, record, stream};
use media::{Frame, Gap, GapReason, MediaTime, TrackKind};
use mux::{Format, ObjectId, ObjectPart, Options};

use TrackKind::{Audio, Video};

/// What times count from: 20 s before the timeline's zero.
const ZERO: i64 = -20 * MediaTime::SCALE;

fn two_seconds() -> Options {
    fmp4(&Options { segment_duration: Duration::from_secs(2), ..options() })
}

fn text(store: &Store) -> &str {
    &store.playlists[&0].last().unwrap().0
}

/// Initialisation segments of the playlist, with the number of the segment that each comes before.
fn maps(store: &Store) -> Vec<(u32, u32)> {
    let (mut maps, mut next) = (Vec::new(), 0);
    for part in named(text(store)) {
        match part {
            ObjectPart::Init(number) => maps.push((number, next)),
            _ => next += 1,
        }
    }
    maps
}

fn boxes(store: &Store, part: ObjectPart) -> Vec<String> {
    let bytes = store.objects[&ObjectId { file: 0, part }].bytes();
    let (mut kinds, mut at) = (Vec::new(), 0);
    while at + 8 <= bytes.len() {
        kinds.push(String::from_utf8(bytes[at + 4..at + 8].to_vec()).unwrap());
        at += u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    }
    assert_eq!(at, bytes.len(), "boxes end with the object");
    kinds
}

fn at(steps: &[Step], track: TrackKind, millis: i64) -> usize {
    let is_it = |step: &Step| matches!(step, Step::Frame(f) if f.track == track && f.dts.as_millis() >= millis);
    steps.iter().position(is_it).unwrap()
}

#[test]
fn a_segment_says_what_it_is_and_leaves_tracks_to_its_initialisation_segment() {
    let store = record(Format::Hls, &two_seconds(), &stream(5, 50));
    assert_eq!(boxes(&store, ObjectPart::Init(0)), ["ftyp", "moov"]);
    for number in 0..3 {
        let kinds = boxes(&store, ObjectPart::Fragment(number));
        assert_eq!(kinds[0], "styp");
        assert!(kinds[1..].chunks(2).all(|pair| pair == ["moof", "mdat"]), "{kinds:?}");
    }
    let spec = store.objects[&ObjectId { file: 0, part: ObjectPart::Init(0) }].spec.unwrap();
    assert_eq!((spec.extension, spec.content_type), ("mp4", "video/mp4"));
    assert_eq!(maps(&store), [(0, 0)]);
}

#[test]
fn decode_times_are_those_that_were_sent_in_every_segment_and_file() {
    let limited = Options { max_file_duration: Some(Duration::from_secs(6)), ..two_seconds() };
    let store = record(Format::Hls, &limited, &stream(20, 25));
    assert_eq!(store.done.len(), 4);
    let mut back: Vec<_> = (0..4).flat_map(|file| store.media(Format::Hls, file).samples).collect();
    back.sort_by_key(|sample| sample.track == Audio);
    let mut sent = store.taken.clone();
    sent.sort_by_key(|frame| frame.track == Audio);
    assert_eq!(back.len(), sent.len());
    for (back, sent) in back.iter().zip(&sent) {
        // Sound follows its sample count, which milliseconds only approximate.
        let allowed = if sent.track == Audio { 185 } else { 0 };
        let (dts, pts) = (back.dts.0 + ZERO, back.pts.0 + ZERO);
        assert!((dts - sent.dts.0).abs() <= allowed && (pts - sent.pts.0).abs() <= allowed, "{dts} for {sent:?}");
    }
}

/// A head is out when it changes: a picture that is coded otherwise comes with a key frame, sound whenever it likes.
#[test]
fn another_coding_is_another_initialisation_segment_at_once() {
    let mut steps = stream(10, 50);
    let moment = at(&steps, Video, 4_500);
    steps.insert(moment, Step::Config(Video, other_avc()));
    let store = record(Format::Hls, &two_seconds(), &steps);
    store.assert_one_for_one("picture", Format::Hls);
    // From the key frame at 6 s on.
    assert_eq!(maps(&store), [(0, 0), (1, 3)]);
    assert_eq!(text(&store).matches("#EXT-X-DISCONTINUITY\n#EXT-X-MAP").count(), 1);
    assert_eq!(store.media(Format::Hls, 0).video.len(), 2);

    let mut steps = stream(10, 50);
    let moment = at(&steps, Audio, 4_500);
    steps.insert(moment, Step::Config(Audio, asc(&[0x11, 0x90])));
    let store = record(Format::Hls, &two_seconds(), &steps);
    store.assert_one_for_one("sound", Format::Hls);
    assert_eq!(maps(&store), [(0, 0), (1, 3)]);
    let starts: Vec<&str> = text(&store).lines().filter(|line| line.starts_with("#EXTINF")).collect();
    // No frame of the new sound may stand behind the old head, so that this one does not wait for a key frame.
    assert!(starts[2].starts_with("#EXTINF:0.5"), "{starts:?}");
}

/// Regression: a codec in between that is not carried must not hide that the next configuration differs.
#[test]
fn a_coding_that_changes_behind_one_that_is_not_carried_is_another_initialisation_segment() {
    let mut steps = stream(10, 50);
    let moment = at(&steps, Video, 4_500);
    steps.insert(moment, Step::Config(Video, media::CodecConfig::Unsupported(media::Codec::H265)));
    let moment = at(&steps, Video, 5_500);
    steps.insert(moment, Step::Config(Video, other_avc()));
    let store = record(Format::Hls, &two_seconds(), &steps);
    store.assert_one_for_one("hls", Format::Hls);
    let media = store.media(Format::Hls, 0);
    assert_eq!(media.video.len(), 2, "{}", text(&store));
    assert!(media.video[0] != media.video[1]);
}

#[test]
fn a_hole_is_a_discontinuity_with_the_same_initialisation_segment() {
    let mut steps = stream(10, 50);
    let moment = at(&steps, Video, 5_000);
    let hole = MediaTime::from_millis(30_000);
    for step in &mut steps[moment..] {
        if let Step::Frame(frame) = step {
            (frame.dts, frame.pts) = (frame.dts + hole, frame.pts + hole);
        }
    }
    let starts_at = MediaTime::from_millis(5_000);
    let reason = GapReason::PublisherLost;
    steps.insert(moment, Step::Gap(Gap { starts_at, resumes_at: starts_at + hole, reason }));
    let store = record(Format::Hls, &two_seconds(), &steps);
    store.assert_one_for_one("hls", Format::Hls);
    assert_eq!((maps(&store), text(&store).matches("#EXT-X-DISCONTINUITY\n").count()), (vec![(0, 0)], 1));
}

/// A configuration alone is no track: players wait for one that is declared.
#[test]
fn a_track_without_frames_is_declared_nowhere() {
    let steps: Vec<Step> =
        stream(10, 50).into_iter().filter(|step| !matches!(step, Step::Frame(f) if f.track == Audio)).collect();
    let store = record(Format::Hls, &two_seconds(), &steps);
    assert_eq!(maps(&store), [(0, 0)]);
    let media = store.media(Format::Hls, 0);
    assert_eq!((media.video.len(), media.audio.len()), (1, 0));
    // Sound that comes after all is introduced.
    let mut late = stream(20, 50);
    late.retain(|step| !matches!(step, Step::Frame(f) if f.track == Audio && f.dts.as_millis() < 9_100));
    let store = record(Format::Hls, &two_seconds(), &late);
    store.assert_one_for_one("late", Format::Hls);
    assert_eq!(maps(&store).len(), 2, "{}", text(&store));
    assert_eq!(store.media(Format::Hls, 0).audio.len(), 1);
}

/// Sound may be seconds late in a stream that has it: what comes first is kept until both can be declared.
#[test]
fn the_first_fragment_waits_for_a_track_that_is_expected() {
    let mut steps = stream(10, 50);
    let late = |step: &Step| matches!(step, Step::Frame(Frame { track: Audio, dts, .. }) if dts.as_millis() < 1_500);
    steps.retain(|step| !late(step));
    let store = record(Format::Hls, &two_seconds(), &steps);
    store.assert_one_for_one("hls", Format::Hls);
    assert_eq!(maps(&store), [(0, 0)]);
    let media = store.media(Format::Hls, 0);
    assert_eq!((media.video.len(), media.audio.len()), (1, 1));
}
