//! Playlists and segments, judged by the m3u8-rs parser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::{Step, aac, avc, fmp4, options, other_avc, picture, record, sound, stream};
use m3u8_rs::{MediaPlaylist, MediaPlaylistType};
use media::{Gap, GapReason, MediaTime, TrackKind};
use mux::{Format, ObjectId, ObjectPart, Options, demux};
use proptest::prelude::*;

fn parse(text: &str) -> MediaPlaylist {
    let (rest, playlist) = m3u8_rs::parse_media_playlist(text.as_bytes()).unwrap();
    assert!(rest.is_empty());
    playlist
}

/// for every text a playlist has had; gives the last one.
fn check(texts: &[(String, bool)]) -> MediaPlaylist {
    let target = parse(&texts[0].0).target_duration;
    for (text, last) in texts {
        let playlist = parse(text);
        assert_eq!(playlist.target_duration, target, "R-9: it never changes");
        let version = if text.contains("#EXT-X-MAP:") { 7 } else { 3 };
        assert_eq!((playlist.media_sequence, playlist.version), (0, Some(version)));
        assert_eq!(playlist.playlist_type, Some(MediaPlaylistType::Event));
        assert_eq!(playlist.end_list, *last);
        let rounded = |segment: &m3u8_rs::MediaSegment| segment.duration.round() as u64;
        assert!(playlist.segments.iter().all(|segment| rounded(segment) <= target), "R-9: no segment is longer");
    }
    for pair in texts.windows(2) {
        assert!(pair[1].0.starts_with(&pair[0].0), "R-8: it only grows");
    }
    assert!(texts.last().unwrap().1 && texts.iter().filter(|(_, last)| *last).count() == 1);
    parse(&texts.last().unwrap().0)
}

/// The options with segments of both kinds.
fn both(options: &Options) -> [Options; 2] {
    [options.clone(), fmp4(options)]
}

/// A segment with its initialisation segment, if it has one.
fn segment(store: &common::Store, number: u32) -> demux::Media {
    let bytes = |part| store.objects.get(&ObjectId { file: 0, part }).map(|object| object.bytes());
    if let Some(ts) = bytes(ObjectPart::Segment(number)) {
        return demux::ts(&ts).unwrap();
    }
    let mut head = None;
    for part in common::named(&store.playlists[&0].last().unwrap().0) {
        match part {
            ObjectPart::Init(_) => head = bytes(part),
            ObjectPart::Fragment(found) if found == number => break,
            _ => {}
        }
    }
    demux::mp4(&[head.unwrap(), bytes(ObjectPart::Fragment(number)).unwrap()].concat().into()).unwrap()
}

#[test]
fn r24_segments_of_ten_seconds_start_with_key_frames() {
    for (options, kind) in both(&options()).iter().zip([("ts", "video/mp2t"), ("m4s", "video/iso.segment")]) {
        let store = record(Format::Hls, options, &stream(35, 50));
        let playlist = check(&store.playlists[&0]);
        let durations: Vec<f32> = playlist.segments.iter().map(|segment| segment.duration).collect();
        assert_eq!(durations[..3], [10.0, 10.0, 10.0]);
        assert!((durations[3] - 5.0).abs() < 0.05);
        let expected: Vec<String> = (0..4).map(|number| format!("{number}.{}", kind.0)).collect();
        assert_eq!(playlist.segments.iter().map(|segment| segment.uri.as_str()).collect::<Vec<_>>(), expected);
        for number in 0..4 {
            // Every segment is complete in itself, or with its head: tables, key frame first, parameter sets.
            let media = segment(&store, number);
            let first = media.track(TrackKind::Video).next().unwrap();
            assert!(first.keyframe && (media::h264::contains_sps(&first.payload) || !media.video.is_empty()));
            let part = if kind.0 == "ts" { ObjectPart::Segment(number) } else { ObjectPart::Fragment(number) };
            let spec = store.objects[&ObjectId { file: 0, part }].spec.unwrap();
            assert_eq!((spec.extension, spec.content_type), kind);
        }
        let times: Vec<String> =
            playlist.segments.iter().map(|segment| segment.program_date_time.unwrap().to_rfc3339()).collect();
        assert_eq!(times[..2], ["2026-11-22T11:59:59+00:00", "2026-11-22T12:00:09+00:00"]);
    }
}

#[test]
fn r10_sound_alone_is_cut_by_duration() {
    let steps: Vec<Step> = stream(25, 50)
        .into_iter()
        .filter(|step| match step {
            Step::Config(track, _) => *track == TrackKind::Audio,
            Step::Frame(frame) => frame.track == TrackKind::Audio,
            _ => true,
        })
        .collect();
    for options in both(&options()) {
        let store = record(Format::Hls, &options, &steps);
        store.assert_one_for_one("hls", Format::Hls);
        let playlist = check(&store.playlists[&0]);
        let durations: Vec<f32> = playlist.segments.iter().map(|segment| segment.duration).collect();
        assert_eq!(durations.len(), 3);
        assert!(durations[..2].iter().all(|duration| (duration - 10.0).abs() < 0.06), "{durations:?}");
    }
}

#[test]
fn e12_a_group_longer_than_the_target_is_cut_inside() {
    for options in both(&options()) {
        let store = record(Format::Hls, &options, &stream(100, 25 * 60));
        store.assert_one_for_one("hls", Format::Hls);
        let playlist = check(&store.playlists[&0]);
        assert_eq!(playlist.target_duration, 20);
        assert!(playlist.segments.iter().all(|segment| !segment.discontinuity));
        let total: f32 = playlist.segments.iter().map(|segment| segment.duration).sum();
        assert!((total - 100.0).abs() < 0.1, "{total}");
    }
}

#[test]
fn e7_a_gap_and_a_changed_configuration_are_discontinuities() {
    let mut steps = stream(30, 50);
    let at = |steps: &[Step], millis: i64| {
        steps.iter().position(|step| matches!(step, Step::Frame(f) if f.dts.as_millis() >= millis)).unwrap()
    };
    let changed = at(&steps, 12_000);
    steps.insert(changed, Step::Config(TrackKind::Video, other_avc()));
    let hole = at(&steps, 17_000);
    let moment = MediaTime::from_millis(17_000);
    let reason = GapReason::PublisherLost;
    steps.insert(
        hole,
        Step::Gap(Gap { starts_at: moment, resumes_at: moment + MediaTime::from_millis(60_000), reason }),
    );
    for step in &mut steps[hole + 1..] {
        if let Step::Frame(frame) = step {
            frame.dts = frame.dts + MediaTime::from_millis(60_000);
            frame.pts = frame.pts + MediaTime::from_millis(60_000);
        }
    }
    for options in both(&options()) {
        let store = record(Format::Hls, &options, &steps);
        store.assert_one_for_one("hls", Format::Hls);
        let playlist = check(&store.playlists[&0]);
        let got: Vec<(i64, bool)> = playlist
            .segments
            .iter()
            .map(|segment| ((segment.duration * 10.0).round() as i64, segment.discontinuity))
            .collect();
        // 0-10, 10-12 | 12-17 | 77-88 (first key frame after ten seconds), 88-90.
        assert_eq!(got, [(100, false), (20, false), (50, true), (110, true), (20, false)]);
    }
}

#[test]
fn frames_that_did_not_arrive_are_no_discontinuity_and_cost_no_others() {
    let (lost_at, back_at) = (MediaTime::from_millis(12_100), MediaTime::from_millis(12_500));
    let is_lost = |step: &Step| match step {
        Step::Frame(frame) => frame.track == TrackKind::Video && (lost_at..back_at).contains(&frame.dts),
        _ => false,
    };
    let mut steps: Vec<Step> = stream(30, 50).into_iter().filter(|step| !is_lost(step)).collect();
    let is_next = |step: &Step| matches!(step, Step::Frame(f) if f.track == TrackKind::Video && f.dts >= back_at);
    let next = steps.iter().position(is_next).unwrap();
    let is_key = matches!(&steps[next], Step::Frame(frame) if frame.keyframe);
    assert!(!is_key, "only a picture that none builds on was lost");
    let gap = Gap { starts_at: lost_at, resumes_at: back_at, reason: GapReason::FramesLost };
    steps.insert(next, Step::Gap(gap));
    let pictures = steps.iter().filter(|step| matches!(step, Step::Frame(f) if f.track == TrackKind::Video)).count();
    for options in both(&options()) {
        let store = record(Format::Hls, &options, &steps);
        let playlist = check(&store.playlists[&0]);
        assert!(playlist.segments.iter().all(|segment| !segment.discontinuity));
        let of = |number: usize| segment(&store, number as u32).track(TrackKind::Video).count();
        assert_eq!((0..playlist.segments.len()).map(of).sum::<usize>(), pictures);
    }
}

#[test]
fn e9_a_late_or_vanished_track_changes_the_program_map() {
    let is_kept = |step: &Step| match step {
        Step::Frame(frame) => {
            let millis = frame.dts.as_millis();
            if frame.track == TrackKind::Audio { millis >= 6_000 } else { !(20_000..45_000).contains(&millis) }
        }
        _ => true,
    };
    let mut steps: Vec<Step> = stream(60, 50).into_iter().filter(is_kept).collect();
    let config = steps.remove(1);
    let first = steps.iter().position(|step| matches!(step, Step::Frame(f) if f.track == TrackKind::Audio)).unwrap();
    steps.insert(first, config);
    for options in both(&options()) {
        let store = record(Format::Hls, &options, &steps);
        store.assert_one_for_one("hls", Format::Hls);
        let playlist = check(&store.playlists[&0]);
        assert!(playlist.segments[1].discontinuity, "sound appears");
        let count = |number: u32, track| segment(&store, number).track(track).count();
        assert_eq!(count(0, TrackKind::Audio), 0);
        let kinds: Vec<(bool, bool)> = (0..playlist.segments.len() as u32)
            .map(|number| (count(number, TrackKind::Video) > 0, count(number, TrackKind::Audio) > 0))
            .collect();
        assert!(kinds.contains(&(false, true)) && kinds.last() == Some(&(true, true)), "{kinds:?}");
    }
}

#[test]
fn every_api_file_has_a_playlist_of_its_own() {
    let options = Options { max_file_duration: Some(Duration::from_secs(12)), ..options() };
    for options in both(&options) {
        let store = record(Format::Hls, &options, &stream(30, 50));
        store.assert_one_for_one("hls", Format::Hls);
        assert_eq!(store.done.len(), 3);
        for file in 0..3 {
            let playlist = check(&store.playlists[&file]);
            assert!(["0.ts", "0.m4s"].contains(&playlist.segments[0].uri.as_str()));
            let length = (store.done[file as usize].ends_at - store.done[file as usize].starts_at).as_secs_f64();
            let total: f32 = playlist.segments.iter().map(|segment| segment.duration).sum();
            assert!((f64::from(total) - length).abs() < 0.1, "file {file}: {total} of {length}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// hold for any stream: whatever its cadence, holes and groups.
    #[test]
    fn r_9_target_duration_holds_for_any_stream(
        input in proptest::collection::vec((any::<bool>(), 1i64..4_000, prop::bool::weighted(0.1)), 1..120), aim in 1u64..15
    ) {
        let mut steps = vec![Step::Config(TrackKind::Video, avc()), Step::Config(TrackKind::Audio, aac())];
        let mut now = 0;
        for (serial, (video, step, keyframe)) in input.into_iter().enumerate() {
            now += step;
            let keyframe = keyframe || serial == 0;
            let serial = serial as u32;
            steps.push(Step::Frame(if video { picture(now, 0, keyframe, serial, 30) } else { sound(now, serial, 9) }));
        }
        let options = Options { segment_duration: Duration::from_secs(aim), ..options() };
        for options in both(&options) {
            let store = record(Format::Hls, &options, &steps);
            store.assert_one_for_one("hls", Format::Hls);
            store.playlists.values().for_each(|texts| drop(check(texts)));
        }
    }
}
