//! Going on behind a crash: one file with a hole in it, picture and sound together on the other side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::arbitrary::arbitrary_steps;
use common::crash::{played, script, script_of};
use common::{Step, Store, avc, go_on, later, options, other_avc, record, stream, variants};
use media::{Gap, GapReason, MediaTime, TrackKind};
use mux::{Format, Mark, ObjectId, ObjectPart, ObjectSpec, Options, Restored, RestoredFile, RestoredObject, Summary};
use proptest::prelude::*;

const RESUMES_AT: MediaTime = MediaTime(20 * MediaTime::SCALE);

fn gap() -> Step {
    Step::Gap(Gap { starts_at: MediaTime::ZERO, resumes_at: RESUMES_AT, reason: GapReason::NodeCrashed })
}

/// What a publisher sends who comes back.
fn comeback() -> Vec<Step> {
    [vec![gap()], later(stream(4, 50), RESUMES_AT)].concat()
}

/// Crashes in the middle of the script and goes on with these steps.
fn resumed(format: Format, options: &Options, steps: &[Step]) -> (Store, Store) {
    let first = stream(6, 50);
    let all = record(format, options, &first);
    let script = script(format, options, &first);
    let crashed = played(&script[..script.len() * 2 / 3], &all.taken);
    let ended = played(&script[..script.len() * 2 / 3], &all.taken).restart(format, options, &[]);
    (ended, crashed.restart(format, options, steps))
}

fn times(store: &Store, format: Format, track: TrackKind) -> Vec<(i64, i64)> {
    store.media(format, 0).track(track).map(|sample| (sample.dts.0, sample.pts.0)).collect()
}

#[test]
fn the_same_file_goes_on_after_the_hole_and_picture_and_sound_stay_together() {
    let two_seconds = Options { segment_duration: Duration::from_secs(2), ..options() };
    for (name, format, options) in variants(&two_seconds) {
        let (before, store) = resumed(format, &options, &comeback());
        store.assert_one_for_one(name, format);
        assert_eq!(store.done.len(), 1, "{name}");
        assert_eq!(store.done[0].ends_at.as_secs_f64().round(), 24.0, "{name}");
        if format == Format::Aac {
            continue;
        }
        // Milliseconds in FLV; sound in MP4 follows its sample count up to 2 ms beside its times.
        let allowed = match format {
            Format::Flv => 90,
            Format::Mp4 => 185,
            _ if name == "fmp4 hls" => 185,
            _ => 1,
        };
        let zero = times(&store, format, TrackKind::Video)[0].0;
        for track in [TrackKind::Video, TrackKind::Audio] {
            let count = before.taken.iter().filter(|frame| frame.track == track).count();
            let back = times(&store, format, track);
            let sent: Vec<_> = store.taken.iter().filter(|frame| frame.track == track).collect();
            assert!(count > 50 && back.len() > count + 50, "{name}");
            for (number, (dts, pts)) in back.iter().enumerate() {
                let (want_dts, want_pts) = (sent[number].dts.0 - sent[0].dts.0, sent[number].pts.0 - sent[0].dts.0);
                let (dts, pts) = (dts - zero, pts - zero);
                let place = format!("{name}: {track:?} {number} at {dts} shown {pts}, not {want_dts} {want_pts}");
                assert!((dts - want_dts).abs() <= allowed && (pts - want_pts).abs() <= allowed, "{place}");
            }
        }
    }
}

#[test]
fn hls_goes_on_with_a_discontinuity_and_the_next_number() {
    let ts = Options { segment_duration: Duration::from_secs(2), ..options() };
    for (extension, options) in [("ts", ts.clone()), ("m4s", common::fmp4(&ts))] {
        let (_, store) = resumed(Format::Hls, &options, &comeback());
        let (text, last) = store.playlists[&0].last().unwrap();
        assert!(*last && text.ends_with("#EXT-X-ENDLIST\n"));
        let names: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected: Vec<String> = (0..names.len()).map(|number| format!("{number}.{extension}")).collect();
        assert_eq!(names, expected);
        let lines: Vec<&str> = text.lines().collect();
        let holes: Vec<usize> = (0..lines.len()).filter(|at| lines[*at] == "#EXT-X-DISCONTINUITY").collect();
        assert_eq!(holes.len(), 1);
        let mut behind = lines[holes[0] + 1..].iter();
        if extension == "m4s" {
            // What the process before has declared is not known to fit.
            assert_eq!(behind.next(), Some(&"#EXT-X-MAP:URI=\"init-1.mp4\""));
        }
        // The first time behind it is that of the comeback, 20 s after the start.
        assert_eq!(behind.next(), Some(&"#EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:19.000Z"));
        for texts in store.playlists[&0].windows(2) {
            assert!(texts[1].0.starts_with(&texts[0].0), "R-8: it only grows");
        }
    }
}

#[test]
fn flv_repeats_its_sequence_headers_behind_the_hole() {
    let (_, store) = resumed(Format::Flv, &options(), &comeback());
    let media = store.media(Format::Flv, 0);
    assert_eq!((media.video.len(), media.audio.len()), (2, 2));
    assert!(media.video[0] == media.video[1] && media.audio[0] == media.audio[1]);
}

#[test]
fn another_configuration_after_the_hole_is_what_it_is_without_one() {
    for (name, format, options) in variants(&options()) {
        let mut steps = comeback();
        let at = steps.iter().position(|step| matches!(step, Step::Config(TrackKind::Video, _))).unwrap();
        steps[at] = Step::Config(TrackKind::Video, other_avc());
        let (_, store) = resumed(format, &options, &steps);
        store.assert_one_for_one(name, format);
        let files = if format == Format::Mp4 { 2 } else { 1 };
        assert_eq!(store.done.len(), files, "{name}");
        let expected = if format == Format::Aac { None } else { Some(other_avc()) };
        assert_eq!(store.done[files - 1].video, expected, "{name}");
        let first = if files == 2 { Some(avc()) } else { expected };
        assert_eq!(store.done[0].video, first, "{name}");
    }
}

#[test]
fn pictures_wait_for_a_key_frame_behind_the_hole() {
    let mut steps = comeback();
    let at = steps
        .iter()
        .position(|step| matches!(step, Step::Frame(frame) if frame.keyframe && frame.track == TrackKind::Video));
    steps.remove(at.unwrap());
    for (name, format, options) in variants(&options()) {
        let (_, store) = resumed(format, &options, &steps);
        store.assert_one_for_one(name, format);
        let refused = store.refused.iter().filter(|(_, why)| *why == mux::Rejected::WaitingForKeyFrame).count();
        assert_eq!(refused, if format == Format::Aac { 0 } else { 49 }, "{name}");
    }
}

#[test]
fn a_suspended_output_is_complete_and_a_closed_file_is_followed_by_the_next() {
    let steps = stream(3, 50);
    for (name, format, options) in variants(&options()) {
        let taken = record(format, &options, &steps).taken;
        // Held and given up: everything taken is durable although the process dies.
        let held = [&steps[..], &[Step::Suspend]].concat();
        let mut outputs = script(format, &options, &held);
        outputs.retain(|(step, _)| *step < held.len());
        let held = played(&outputs, &taken);
        if format == Format::Hls {
            let (text, last) = held.playlists[&0].last().unwrap();
            let first = if name == "hls" { "\n0.ts\n" } else { "\n0.m4s\n" };
            assert!(!last && text.contains(first) && !text.contains("ENDLIST"));
        }
        let ended = held.restart(format, &options, &[]);
        ended.assert_one_for_one(name, format);
        assert_eq!((ended.taken.len(), ended.done.len()), (taken.len(), 1), "{name}");
        // Closed in between: the comeback is in the next file.
        let closed = [&steps[..], &[Step::Suspend, Step::CloseFile, Step::CloseFile], &comeback()].concat();
        let store = record(format, &options, &closed);
        store.assert_one_for_one(name, format);
        assert_eq!(store.done.len(), 2, "{name}");
        assert_eq!(store.done[0], ended.done[0], "{name}");
        assert_eq!(store.done[1].starts_at, RESUMES_AT, "{name}");
        if format == Format::Hls {
            assert!(store.playlists.values().all(|texts| texts.last().unwrap().1));
            assert!(!store.playlists[&1].last().unwrap().0.contains("DISCONTINUITY"));
        }
    }
}

#[test]
fn a_second_crash_is_survived_like_the_first() {
    let first = stream(3, 25);
    for (name, format, options) in variants(&options()) {
        let outputs = script(format, &options, &first);
        let all = record(format, &options, &first);
        let crash = || played(&outputs[..outputs.len() / 2], &all.taken).crash();
        let (whole, state) = crash();
        let came_back = script_of(mux::restore(format, &options, state).unwrap(), &comeback());
        let after = record(format, &options, &comeback()).taken;
        for at in (0..came_back.len()).step_by(7) {
            let (mut store, _) = crash();
            store.taken.extend_from_slice(&after);
            came_back[..at].iter().for_each(|(_, output)| store.obey(output.clone()));
            let store = store.restart(format, &options, &[]);
            store.assert_one_for_one(name, format);
            assert!(store.taken.len() >= whole.taken.len() && store.done.len() == 1, "{name}");
            if name != "mp4" || store.taken.len() == whole.taken.len() {
                continue;
            }
            // As if there had been no crash, but a hole.
            let before = whole.taken.iter().cloned().map(Step::Frame);
            let behind = store.taken[whole.taken.len()..].iter().cloned().map(Step::Frame);
            let steps: Vec<Step> = first[..2].iter().cloned().chain(before).chain([gap()]).chain(behind).collect();
            let uncrashed = record(format, &options, &steps);
            assert!(uncrashed.file_bytes(0) == store.file_bytes(0), "{name}, crash at {at}");
        }
    }
}

#[test]
fn the_index_of_a_file_without_a_durable_byte_is_used_again() {
    for (name, format, options) in variants(&options()) {
        let steps = stream(2, 50);
        for outputs in [0, 1, 2] {
            let script = script(format, &options, &steps);
            let crashed = played(&script[..outputs], &[]);
            let store = crashed.restart(format, &options, &comeback());
            store.assert_one_for_one(name, format);
            assert_eq!((store.done.len(), store.done[0].starts_at), (1, RESUMES_AT), "{name}");
        }
    }
}

fn whole(extension: &'static str, notes: Bytes, len: u64, mark: Option<Mark>) -> RestoredObject {
    let spec = ObjectSpec {
        object: ObjectId { file: 0, part: ObjectPart::Whole },
        extension,
        content_type: "application/octet-stream",
    };
    RestoredObject { spec, notes, len, mark, closed: None }
}

#[test]
fn without_notes_a_file_is_closed_as_far_as_known() {
    let mark = Mark { media_time: MediaTime::from_millis(4_000), video_frames: 100, audio_frames: 170 };
    for (name, format, options) in variants(&options()).into_iter().filter(|(_, format, _)| *format != Format::Hls) {
        for steps in [vec![], comeback()] {
            let object = whole(format.row().extension, Bytes::new(), 9_000, Some(mark));
            let open = Some(RestoredFile { file: 0, objects: vec![object.clone()], playlist: None });
            let mut store = Store::default();
            store.obey(mux::Output::Open(object.spec));
            store.obey(mux::Output::Append(object.spec.object, vec![0; 9_000].into()));
            let muxer = mux::restore(format, &options, Restored { files: 1, open }).unwrap();
            let store = go_on(muxer, store, &steps);
            let mut expected = Summary { starts_at: mark.media_time, ends_at: mark.media_time, ..Summary::default() };
            if name != "mp4" {
                (expected.video_frames, expected.audio_frames) = (100, 170);
            }
            let goes_on = format == Format::Aac && !steps.is_empty();
            assert_eq!(store.done.len(), if steps.is_empty() || goes_on { 1 } else { 2 }, "{name}");
            if !goes_on {
                assert_eq!(store.done[0], expected, "{name}");
            }
        }
    }
}

fn any_part() -> impl Strategy<Value = ObjectPart> {
    prop_oneof![
        any::<u32>().prop_map(ObjectPart::Segment),
        (0u32..4).prop_map(ObjectPart::Segment),
        (0u32..4).prop_map(ObjectPart::Fragment),
        prop_oneof![0u32..4, any::<u32>()].prop_map(ObjectPart::Init),
        Just(ObjectPart::Whole),
        Just(ObjectPart::Playlist)
    ]
}

fn any_object() -> impl Strategy<Value = RestoredObject> {
    let mark = (any::<i64>(), any::<u64>(), any::<u64>());
    let len = prop_oneof![Just(0), 0u64..100_000, any::<u64>()];
    let notes = proptest::collection::vec(any::<u8>(), 0..300);
    (any_part(), notes, len, proptest::option::of(mark), any::<bool>()).prop_map(|(part, notes, len, mark, closed)| {
        let mark = mark.map(|(time, video_frames, audio_frames)| Mark {
            media_time: MediaTime(time),
            video_frames,
            audio_frames,
        });
        let spec = ObjectSpec { object: ObjectId { file: 0, part }, ..whole("ts", Bytes::new(), 0, None).spec };
        let closed = closed.then(|| Summary { ends_at: MediaTime(7), video_frames: 3, ..Summary::default() });
        RestoredObject { spec, notes: notes.into(), len, mark, closed }
    })
}

/// Runs a restored muxer to its end, whatever it was made of.
fn run(format: Format, options: &Options, state: Restored, steps: &[Step]) {
    let mut muxer = mux::restore(format, options, state).unwrap();
    for step in steps {
        common::tell(&mut muxer, &mut Store::default(), step);
        while muxer.poll().is_some() {}
    }
    muxer.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a disk gives back: no panic, and an end.
    #[test]
    fn any_state_is_survived(
        objects in proptest::collection::vec(any_object(), 0..4),
        playlist in proptest::option::of("(#EXTM3U\n)?(#EXT-X-TARGETDURATION:[0-9]{1,25}\n)?(#EXT-X-MAP:URI=\"init-[0-9]{1,12}.mp4\"\n)?([0-9]{1,12}.(ts|m4s)\n)*(#EXT-X-ENDLIST\n)?"),
        files in any::<u32>(), comes_back in any::<bool>()
    ) {
        let steps = if comes_back { comeback() } else { Vec::new() };
        for (_, format, options) in variants(&options()) {
            let open = RestoredFile { file: 0, objects: objects.clone(), playlist: playlist.clone().map(Bytes::from) };
            run(format, &options, Restored { files: files / 2, open: Some(open) }, &steps);
        }
    }

    /// Real notes with damage in them.
    #[test]
    fn damaged_notes_cost_no_more_than_themselves(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let steps = stream(2, 25);
        for (_, format, options) in variants(&options()) {
            let script = script(format, &options, &steps);
            let (_, mut restored) = played(&script[..script.len() - 4], &[]).crash();
            for object in restored.open.iter_mut().flat_map(|open| &mut open.objects) {
                let mut notes = object.notes.to_vec();
                if notes.is_empty() {
                    continue;
                }
                let at = at.index(notes.len());
                if cut { notes.truncate(at) } else { notes[at] ^= 1 << bit }
                object.notes = notes.into();
            }
            for steps in [vec![], comeback()] {
                run(format, &options, restored.clone(), &steps);
            }
        }
    }

    /// For any stream and any place of the crash, what was durable is there and what comes after it too.
    #[test]
    fn nothing_durable_is_lost_or_doubled(
        steps in arbitrary_steps(), seconds in 1u64..5, segment in 1u64..4, at in any::<prop::sample::Index>(), goes_on in any::<bool>()
    ) {
        let options = Options {
            max_file_duration: Some(Duration::from_secs(seconds)), segment_duration: Duration::from_secs(segment), ..options()
        };
        let end = MediaTime::from_millis(200_000);
        let reason = GapReason::NodeCrashed;
        let hole = Step::Gap(Gap { starts_at: end, resumes_at: end, reason });
        let after = if goes_on { [vec![hole], later(stream(3, 20), end)].concat() } else { Vec::new() };
        for (name, format, options) in variants(&options) {
            let all = record(format, &options, &steps);
            let script = script(format, &options, &steps);
            let store = played(&script[..at.index(script.len() + 1)], &all.taken).restart(format, &options, &after);
            store.assert_one_for_one(name, format);
            if goes_on {
                let came = if format == Format::Aac { 3 * 44_100 / 1_024 } else { 3 * 25 + 3 * 44_100 / 1_024 };
                let last = &store.taken[store.taken.len() - came as usize..];
                prop_assert!(last.iter().all(|frame| frame.dts >= end), "{}", name);
            }
        }
    }
}
