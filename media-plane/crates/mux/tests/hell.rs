//! Reliability test 30: a real stream under every clock a publisher may have, judged by ffmpeg.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::ffmpeg::{decode_all, generate, is_installed};
use common::files::{parts, write};
use common::{Step, all_steps, options, record, variants};
use media::ingest::{RawFrame, SourceTime};
use media::{Frame, Gap, GapReason, Lineup, Timeline, TrackKind};
use mux::{Format, Options};

/// What the publisher's clock says instead of `millis` (of the frame with this number), and its composition offset.
type Clock = fn(&Frame, i64, i64) -> (i64, i32);

const HOUR: i64 = 3_600_000;
const HALF: i64 = 2_500;
const CASES: [(&str, usize, Clock); 8] = [
    ("32-bit wrap", 0, |_, _, millis| (u32::MAX as i64 - 3_000 + millis, 0)),
    ("jump back 1 h", 1, |_, _, millis| (2 * HOUR + millis - if millis < HALF { 0 } else { HOUR }, 0)),
    ("jump forward 24 h", 1, |_, _, millis| (millis + if millis < HALF { 0 } else { 24 * HOUR }, 0)),
    ("all zero", 0, |_, _, _| (0, 0)),
    ("audio 3 s behind", 0, |frame, _, millis| {
        (millis + if frame.track == TrackKind::Audio { 2_000 } else { 5_000 }, 0)
    }),
    ("dts > pts", 0, |frame, _, millis| (millis, if frame.track == TrackKind::Video { -50 } else { 0 })),
    ("duplicate", 0, |_, number, millis| (millis - if number % 7 == 0 { millis % 100 } else { 0 }, 0)),
    ("1 ms cadence", 0, |_, number, _| (number, 0)),
];

/// What comes of the frames under this clock, as a recording would be told.
fn under(clock: Clock, source: &[Step]) -> Vec<Step> {
    let (mut timeline, mut lineup) = (Timeline::new(), Lineup::new());
    let (mut timed, mut out) = (Vec::new(), Vec::new());
    let mut number = 0;
    for step in source {
        let mut arrival = Duration::ZERO;
        match step {
            Step::Config(track, config) => timeline.config(*track, config.clone(), &mut timed),
            Step::Frame(frame) => {
                let millis = frame.dts.as_millis();
                let (value, composition) = clock(frame, number, millis);
                number += 1;
                arrival = Duration::from_millis(millis as u64);
                let time = SourceTime { value: value as u32, scale: 1_000 };
                let Frame { track, keyframe, data, .. } = frame.clone();
                timeline.push(RawFrame { track, time, composition, keyframe, data }, arrival, &mut timed);
            }
            _ => {}
        }
        for item in timed.drain(..) {
            lineup.push(item, arrival, &mut out);
        }
    }
    all_steps(timeline, lineup, timed, out)
}

#[test]
fn timestamps_from_hell() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let video = ["-t", "5", "-c:v", "libx264", "-g", "30", "-tune", "zerolatency", "-c:a", "aac"];
    let source = generate(directory.path(), &video);
    let pictures = source.iter().filter(|step| matches!(step, Step::Frame(f) if f.track == TrackKind::Video)).count();
    let limited = Options {
        max_file_duration: Some(Duration::from_secs(3)),
        segment_duration: Duration::from_secs(1),
        ..options()
    };
    for (case, expected_gaps, clock) in CASES {
        let steps = under(clock, &source);
        let gaps: Vec<Gap> =
            steps.iter().filter_map(|step| if let Step::Gap(gap) = step { Some(*gap) } else { None }).collect();
        assert_eq!(gaps.len(), expected_gaps, "{case}");
        assert!(gaps.iter().all(|gap| gap.reason == GapReason::FramesRejected && gap.resumes_at > gap.starts_at));
        let (mut files, mut expected) = (Vec::new(), 0);
        for (name, format, options) in variants(&limited) {
            let place = format!("{case}, {name}");
            let store = record(format, &options, &steps);
            store.assert_one_for_one(&place, format);
            assert!(
                store.refused.iter().all(|(frame, _)| format == Format::Aac && frame.track == TrackKind::Video),
                "{place}"
            );
            for track in [TrackKind::Video, TrackKind::Audio] {
                let times: Vec<i64> = store.taken.iter().filter(|f| f.track == track).map(|f| f.dts.0).collect();
                assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "R-10: {place}");
                for file in 0..store.done.len() as u32 {
                    let times: Vec<i64> = store.media(format, file).track(track).map(|sample| sample.dts.0).collect();
                    // FLV counts milliseconds; a frame moved by one tick shares its number with the one before.
                    let grows = |pair: &[i64]| pair[0] < pair[1] || format == Format::Flv && pair[0] == pair[1];
                    assert!(times.windows(2).all(grows), "R-10: {place} file {file}");
                }
            }
            // A picture group of a second may follow the limit; the hole at a jump is a tenth of one.
            let longest = store.done.iter().map(|done| (done.ends_at - done.starts_at).as_millis()).max().unwrap();
            assert!(longest <= 4_200, "{place}: a file of {longest} ms");
            files.extend(write(&store, directory.path(), &place, format).iter().flat_map(|path| parts(path)));
            expected += if format == Format::Aac { 0 } else { pictures };
        }
        let decoded = decode_all(&files);
        assert_eq!(decoded.len(), files.len(), "{case}");
        assert_eq!(decoded.iter().map(|(pictures, _)| pictures).sum::<usize>(), expected, "{case}: decoded pictures");
        assert!(decoded.iter().all(|(_, sounds)| *sounds > 0), "{case}");
    }
}
