use super::*;
use crate::ingest::SourceTime;
use crate::{AacConfig, MediaTime};
use TrackKind::{Audio, Video};
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::Arc;

/// First slice of a picture: `first_mb_in_slice` 0.
const SLICE: &[u8] = &[0, 0, 0, 2, 0x41, 0x9a];
const FURTHER_SLICE: &[u8] = &[0, 0, 0, 2, 0x41, 0x5a];
const SEI: &[u8] = &[0, 0, 0, 2, 6, 5];

fn raw(track: TrackKind, millis: u32) -> RawFrame {
    let data = Bytes::from_static(if track == Video { SLICE } else { &[0x21, 0x10] });
    RawFrame { track, time: SourceTime { value: millis, scale: 1_000 }, composition: 0, keyframe: true, data }
}

struct Run {
    timeline: Timeline,
    out: Vec<Timed>,
}

impl Run {
    fn new() -> Self {
        Self { timeline: Timeline::new(), out: Vec::new() }
    }

    /// Arrival in milliseconds.
    fn push(&mut self, track: TrackKind, millis: u32, arrival: u64) -> &mut Self {
        self.timeline.push(raw(track, millis), Duration::from_millis(arrival), &mut self.out);
        self
    }

    fn finish(mut self) -> (Vec<Timed>, Counts) {
        self.timeline.flush(&mut self.out);
        check(&self.out, self.timeline.counts());
        (self.out, self.timeline.counts())
    }
}

/// What holds whatever came in: nothing is lost, and every track's DTS strictly increases.
fn check(out: &[Timed], counts: Counts) {
    assert_eq!(counts.received, counts.emitted + counts.merged + counts.rejected);
    let frames: Vec<&Frame> = frames(out).collect();
    assert_eq!(frames.len() as u64, counts.emitted);
    for track in [Audio, Video] {
        let times: Vec<i64> = frames.iter().filter(|f| f.track == track).map(|f| f.dts.0).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{track:?} {times:?}");
    }
}

fn frames(out: &[Timed]) -> impl Iterator<Item = &Frame> {
    out.iter().filter_map(|item| if let Timed::Frame(frame) = item { Some(frame) } else { None })
}

fn gaps(out: &[Timed]) -> Vec<(i64, i64)> {
    let gap = |item: &Timed| match item {
        Timed::Gap(gap) => Some((gap.starts_at.as_millis(), gap.resumes_at.as_millis())),
        _ => None,
    };
    out.iter().filter_map(gap).collect()
}

fn millis(out: &[Timed], track: TrackKind) -> Vec<i64> {
    frames(out).filter(|frame| frame.track == track).map(|frame| frame.dts.as_millis()).collect()
}

#[test]
fn e6_the_first_timestamp_is_the_origin_however_large() {
    for start in [0u32, 1, 0xff_ffff, 0x7fff_ff00, 0xffff_ff00] {
        let mut run = Run::new();
        for step in 0..5u32 {
            run.push(Video, start.wrapping_add(step * 40), 0).push(Audio, start.wrapping_add(step * 40 + 7), 0);
        }
        let (out, counts) = run.finish();
        assert_eq!(millis(&out, Video), [0, 40, 80, 120, 160], "from {start}");
        assert_eq!(millis(&out, Audio), [7, 47, 87, 127, 167], "from {start}");
        assert_eq!((counts.jumps, counts.bumped), (0, 0));
    }
}

#[test]
fn e6_tracks_seconds_apart_keep_their_distance() {
    let mut run = Run::new();
    run.push(Video, 5_000, 0).push(Audio, 2_000, 0).push(Video, 5_040, 0).push(Audio, 2_023, 0);
    let (out, counts) = run.finish();
    assert_eq!((millis(&out, Video), millis(&out, Audio)), (vec![0, 40], vec![-3_000, -2_977]));
    assert_eq!(counts.jumps, 0);
}

#[test]
fn e7_tracks_on_unrelated_clocks_are_aligned_by_arrival() {
    let mut run = Run::new();
    run.push(Audio, 0, 0)
        .push(Audio, 23, 23)
        .push(Video, 90_000_000, 40)
        .push(Audio, 46, 46)
        .push(Video, 90_000_040, 80);
    let (out, counts) = run.finish();
    assert_eq!((millis(&out, Audio), millis(&out, Video)), (vec![0, 23, 46], vec![40, 80]));
    assert_eq!((counts.aligned_by_arrival, counts.jumps), (1, 0));
}

#[test]
fn e4_wraps_at_32_and_31_bits_are_seamless() {
    for (start, mask) in [(u32::MAX - 100, u32::MAX), (0x7fff_ffff - 100, 0x7fff_ffff)] {
        let mut run = Run::new();
        for step in 0..10u32 {
            run.push(Video, start.wrapping_add(step * 40) & mask, 0);
            run.push(Audio, start.wrapping_add(step * 40 + 10) & mask, 0);
        }
        let (out, counts) = run.finish();
        assert_eq!(millis(&out, Video), (0..10).map(|step| step * 40).collect::<Vec<_>>());
        assert_eq!(millis(&out, Audio), (0..10).map(|step| step * 40 + 10).collect::<Vec<_>>());
        assert_eq!(counts.jumps, 0);
    }
}

#[test]
fn e7_a_jump_of_both_tracks_is_one_gap_and_keeps_the_offset() {
    for target in [500u32, 3_600_000 * 24, 60_000] {
        let mut run = Run::new();
        for step in 0..50u32 {
            run.push(Video, 20_000 + step * 40, 0).push(Audio, 20_015 + step * 40, 0);
        }
        for step in 0..50u32 {
            run.push(Video, target + step * 40, 40).push(Audio, target + 15 + step * 40, 40);
        }
        let (out, counts) = run.finish();
        assert_eq!(counts.jumps, 1, "to {target}");
        assert_eq!(gaps(&out), [(1_975, 2_075)]);
        let (video, audio) = (millis(&out, Video), millis(&out, Audio));
        assert_eq!((video[49], video[50], video[99]), (1_960, 2_075, 2_075 + 49 * 40));
        assert!(video.iter().zip(&audio).all(|(video, audio)| audio - video == 15));
    }
}

#[test]
fn e7_audio_of_the_old_clock_may_arrive_after_the_jump() {
    let mut run = Run::new();
    run.push(Audio, 9_980, 0).push(Video, 10_000, 0).push(Video, 10_040, 0).push(Video, 100, 0).push(Video, 140, 0);
    run.push(Audio, 10_003, 0).push(Audio, 10_026, 0).push(Audio, 120, 0).push(Video, 180, 0);
    let (out, counts) = run.finish();
    assert_eq!(counts.jumps, 1);
    let (video, audio) = (millis(&out, Video), millis(&out, Audio));
    assert_eq!(audio[3] - video[2], 20, "offset on the new clock: {audio:?} {video:?}");
    assert_eq!(audio[1] - audio[0], 23);
}

#[test]
fn e7_the_length_of_a_hole_with_a_restarted_clock_comes_from_arrival() {
    let mut run = Run::new();
    run.push(Video, 50_000, 0).push(Video, 50_040, 40).push(Video, 0, 7_040).push(Video, 40, 7_080);
    let (out, _) = run.finish();
    assert_eq!(gaps(&out), [(40, 7_040)]);
    assert_eq!(millis(&out, Video), [0, 40, 7_040, 7_080]);
}

#[test]
fn e19_a_burst_after_a_stall_is_judged_by_the_source_clock() {
    let mut run = Run::new();
    for step in 0..200u32 {
        let arrival = if step < 50 { u64::from(step) * 40 } else { 8_000 };
        run.push(Video, step * 40, arrival).push(Audio, step * 40 + 3, arrival);
    }
    let (out, counts) = run.finish();
    assert_eq!((gaps(&out), counts.bumped), (vec![], 0));
    assert_eq!(millis(&out, Video).last(), Some(&(199 * 40)));
}

#[test]
fn e20_one_silent_track_is_not_a_jump() {
    let mut run = Run::new();
    run.push(Audio, 0, 0);
    for step in 0..1_000u32 {
        run.push(Video, step * 40, u64::from(step) * 40);
    }
    run.push(Audio, 40_000, 40_000).push(Audio, 40_023, 40_023);
    let (out, counts) = run.finish();
    assert_eq!((millis(&out, Audio), counts.jumps), (vec![0, 40_000, 40_023], 0));
}

#[test]
fn e7_static_timestamps_are_spaced_by_the_frame_duration() {
    let mut run = Run::new();
    let aac = AacConfig::parse(Bytes::from_static(&[0x11, 0x90])).unwrap();
    run.timeline.config(Audio, CodecConfig::Aac(Arc::new(aac)), &mut run.out);
    for _ in 0..400 {
        run.push(Audio, 0, 0).push(Video, 0, 0);
    }
    for step in 1..=20 {
        run.push(Audio, step * 21, 0);
    }
    let (out, counts) = run.finish();
    let audio: Vec<i64> = frames(&out).filter(|frame| frame.track == Audio).map(|frame| frame.dts.0).collect();
    assert!(audio[..400].windows(2).all(|pair| pair[1] - pair[0] == 1_920));
    assert_eq!((counts.repeated, counts.jumps), (399 * 2, 0));
    assert!(audio[419] - audio[399] >= 220 * 90, "goes on once the clock does: {:?}", &audio[398..]);
}

#[test]
fn e7_small_steps_back_move_the_frame_by_a_tick() {
    let mut run = Run::new();
    run.push(Audio, 0, 0).push(Audio, 23, 0).push(Audio, 20, 0).push(Audio, 46, 0);
    let (out, counts) = run.finish();
    let audio: Vec<i64> = frames(&out).map(|frame| frame.dts.0).collect();
    assert_eq!((audio, counts.bumped), (vec![0, 2_070, 2_071, 4_140], 1));
}

#[test]
fn e6_messages_of_one_picture_are_merged() {
    let mut run = Run::new();
    let mut message = |millis: u32, data: &'static [u8]| {
        let frame = RawFrame { data: Bytes::from_static(data), keyframe: data == SLICE, ..raw(Video, millis) };
        run.timeline.push(frame, Duration::ZERO, &mut run.out);
    };
    for (millis, data) in [(0, SEI), (0, SLICE), (0, FURTHER_SLICE), (0, FURTHER_SLICE), (33, SEI), (40, SLICE)] {
        message(millis, data);
    }
    // Another picture in the same millisecond is not part of the one before; an end of sequence is.
    message(40, SLICE);
    message(0, &[0, 0, 0, 1, 0x0a]);
    let (out, counts) = run.finish();
    let got: Vec<(i64, Bytes, bool)> = frames(&out).map(|f| (f.dts.as_millis(), f.data.clone(), f.keyframe)).collect();
    let joined = |parts: &[&[u8]]| Bytes::from(parts.concat());
    assert_eq!(got.len(), 3);
    assert_eq!(got[0], (0, joined(&[SEI, SLICE, FURTHER_SLICE, FURTHER_SLICE]), true));
    assert_eq!(got[1], (40, joined(&[SEI, SLICE]), true));
    assert_eq!(got[2].1, joined(&[SLICE, &[0, 0, 0, 1, 0x0a]]));
    assert_eq!((counts.merged, counts.jumps), (5, 0));
}

/// Slices of H.265 are told apart by another bit, and what has no slices is complete as it comes.
#[test]
fn e6_pictures_of_other_codecs_are_complete_when_they_are() {
    const VPS: &[u8] = &[0, 0, 0, 3, 0x40, 1, 7];
    const FIRST: &[u8] = &[0, 0, 0, 3, 0x26, 1, 0x80];
    const FURTHER: &[u8] = &[0, 0, 0, 3, 0x26, 1, 0x20];
    const FRAME: &[u8] = &[0x32, 1, 0x30];
    let (hevc, vp9) = ([VPS, FIRST, FURTHER, FIRST], [FRAME, FRAME, FRAME, FRAME]);
    for (config, messages, expected) in [(hevc_config(), hevc, 2), (vp9_config(), vp9, 4)] {
        let mut run = Run::new();
        run.timeline.config(Video, config, &mut run.out);
        for (millis, data) in [0, 0, 0, 40].into_iter().zip(messages) {
            let frame = RawFrame { data: Bytes::from_static(data), ..raw(Video, millis) };
            run.timeline.push(frame, Duration::ZERO, &mut run.out);
        }
        let held = usize::from(expected == 2);
        assert_eq!(frames(&run.out).count(), expected - held, "the newest may be incomplete");
        run.timeline.flush(&mut run.out);
        let sizes: Vec<usize> = frames(&run.out).map(|frame| frame.data.len()).collect();
        assert_eq!(sizes, if held == 1 { vec![21, 7] } else { vec![3; 4] });
    }
}

fn hevc_config() -> CodecConfig {
    CodecConfig::Hevc(Arc::new(crate::HevcConfig {
        record: Bytes::new(),
        vps: Vec::new(),
        sps: Vec::new(),
        pps: Vec::new(),
        length_size: 4,
        width: 64,
        height: 64,
        profile: 1,
        level: 60,
    }))
}

fn vp9_config() -> CodecConfig {
    let record = Bytes::new();
    CodecConfig::Vp9(Arc::new(crate::VpxConfig { record, width: 64, height: 64, profile: 0, level: 10 }))
}

#[test]
fn empty_frames_and_scale_zero_are_rejected_and_absurd_composition_ignored() {
    let mut run = Run::new();
    run.timeline.push(RawFrame { data: Bytes::new(), ..raw(Audio, 0) }, Duration::ZERO, &mut run.out);
    let time = SourceTime { value: 0, scale: 0 };
    run.timeline.push(RawFrame { time, ..raw(Audio, 0) }, Duration::ZERO, &mut run.out);
    run.timeline.push(RawFrame { composition: -80, ..raw(Audio, 0) }, Duration::ZERO, &mut run.out);
    run.timeline.push(RawFrame { composition: 8_000_000, ..raw(Audio, 23) }, Duration::ZERO, &mut run.out);
    let (out, counts) = run.finish();
    assert_eq!((counts.rejected, counts.composition), (2, 1));
    let offsets: Vec<i64> = frames(&out).map(|frame| (frame.pts - frame.dts).as_millis()).collect();
    assert_eq!(offsets, [-80, 0]);
}

#[test]
fn an_interruption_begins_a_new_source_clock_after_a_gap() {
    let mut run = Run::new();
    run.push(Video, 1_000, 1_000).push(Audio, 1_010, 1_010);
    run.timeline.interrupt(GapReason::PublisherLost, &mut run.out);
    run.push(Audio, 77_000, 4_010).push(Video, 77_030, 4_040).push(Audio, 77_023, 4_050);
    let (out, counts) = run.finish();
    assert_eq!((gaps(&out), counts.jumps), (vec![(10, 3_010)], 0));
    assert_eq!((millis(&out, Audio), millis(&out, Video)), (vec![10, 3_010, 3_033], vec![0, 3_040]));
}

#[test]
fn an_earlier_process_is_gone_on_with_after_the_time_that_has_passed() {
    let mut run = Run::new();
    let (latest, ago) = (MediaTime::from_millis(60_000), Duration::from_secs(40));
    run.timeline.go_on(latest, ago, Duration::from_millis(500), GapReason::NodeCrashed);
    run.push(Video, 7_000, 2_500).push(Audio, 7_010, 2_510).push(Video, 7_040, 2_540);
    let (out, _) = run.finish();
    assert!(matches!(out[0], Timed::Gap(Gap { reason: GapReason::NodeCrashed, .. })));
    assert_eq!(gaps(&out), [(60_000, 102_000)]);
    assert_eq!((millis(&out, Video), millis(&out, Audio)), (vec![102_000, 102_040], vec![102_010]));
}

proptest! {
    /// R-10 for whatever a publisher sends.
    #[test]
    fn r_10_dts_increases_and_no_frame_is_lost(
        input in proptest::collection::vec((any::<bool>(), any::<u32>(), 0u32..4, 0u64..5_000, any::<i32>()), 1..200)
    ) {
        let mut run = Run::new();
        let (mut clock, mut arrival) = ([0u32, 0], 0);
        for (video, value, kind, wait, composition) in input {
            let now = &mut clock[usize::from(video)];
            *now = match kind {
                0 => value,
                1 => *now,
                _ => now.wrapping_add(value % 60),
            };
            arrival += wait;
            let frame = RawFrame { composition, ..raw(if video { Video } else { Audio }, *now) };
            run.timeline.push(frame, Duration::from_millis(arrival), &mut run.out);
        }
        run.finish();
    }

    /// The offset of picture and sound stays exact from any start, across wraps, whatever the arrival times.
    #[test]
    fn av_offset_is_kept_across_wraps(start in any::<u32>(), skew in 0u32..3_000, step in 1u32..1_000, stall in 0u64..9_000) {
        let mut run = Run::new();
        for n in 0..100u32 {
            let arrival = u64::from(n) * 10 + if n > 50 { stall } else { 0 };
            run.push(Video, start.wrapping_add(n * step), arrival);
            run.push(Audio, start.wrapping_add(skew).wrapping_add(n * step), arrival);
        }
        let (out, counts) = run.finish();
        prop_assert_eq!((counts.jumps, counts.bumped), (0, 0));
        let (video, audio) = (millis(&out, Video), millis(&out, Audio));
        for n in 0..100 {
            prop_assert_eq!(audio[n] - video[n], i64::from(skew));
            prop_assert_eq!(video[n], n as i64 * i64::from(step));
        }
    }
}

#[test]
fn configurations_pass_in_order() {
    let mut run = Run::new();
    run.push(Video, 0, 0);
    let aac = AacConfig::parse(Bytes::from_static(&[0x11, 0x90])).unwrap();
    run.timeline.config(Audio, CodecConfig::Aac(Arc::new(aac)), &mut run.out);
    run.push(Audio, 0, 0);
    let (out, _) = run.finish();
    assert!(
        matches!(&out[..], [Timed::Frame(_), Timed::Config(Audio, _), Timed::Frame(frame)] if frame.dts == MediaTime::ZERO)
    );
}

#[test]
fn sound_of_any_size_held_behind_a_picture_stays_below_a_mebibyte() {
    let mut run = Run::new();
    let sound = |run: &mut Run, millis: u32, size: usize| {
        let frame = RawFrame { data: Bytes::from(vec![0x21; size]), ..raw(Audio, millis) };
        run.timeline.push(frame, Duration::ZERO, &mut run.out);
        frames(&run.out).count()
    };
    run.push(Video, 0, 0);
    // 16 frames of 64 KiB are the limit; the next byte lets go of the picture and all of them.
    for step in 0..16 {
        assert_eq!(sound(&mut run, step * 20, 64 << 10), 0, "held");
    }
    assert_eq!(sound(&mut run, 320, 1), 18);
    // The count of bytes starts again behind the next picture.
    run.push(Video, 400, 0);
    assert_eq!(sound(&mut run, 400, 1 << 20), 18, "held");
    assert_eq!(sound(&mut run, 420, 1), 21);
    // One frame alone may be too much.
    run.push(Video, 440, 0);
    assert_eq!(sound(&mut run, 440, (1 << 20) + 1), 23);
    let (out, counts) = run.finish();
    let order: Vec<TrackKind> = frames(&out).map(|frame| frame.track).take(2).collect();
    assert_eq!(order, [Video, Audio], "the picture leaves before the sound held behind it");
    assert_eq!((counts.emitted, counts.rejected, counts.jumps), (23, 0, 0));
}

#[test]
fn frames_that_did_not_arrive_are_a_gap_of_their_track_on_an_undisturbed_clock() {
    let mut run = Run::new();
    run.push(Video, 0, 0).push(Audio, 10, 10).push(Video, 40, 40);
    run.timeline.lost(Video, &mut run.out);
    run.push(Audio, 50, 50).push(Video, 900, 900).push(Audio, 910, 910);
    let (out, counts) = run.finish();
    assert_eq!((gaps(&out), counts.jumps), (vec![(40, 900)], 0));
    assert_eq!((millis(&out, Audio), millis(&out, Video)), (vec![10, 50, 910], vec![0, 40, 900]));
    let told = out.iter().position(|item| matches!(item, Timed::Gap(_))).unwrap();
    let after = out[told..].iter().find_map(|item| match item {
        Timed::Frame(frame) if frame.track == Video => Some(frame.dts.as_millis()),
        _ => None,
    });
    assert_eq!(after, Some(900), "the gap comes right in front of the frame after it");
}
