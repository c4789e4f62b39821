//! Publishers who come back: the hole is as long as the wait was, and picture and sound stay together.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Timed, Timeline};
use crate::ingest::{RawFrame, SourceTime};
use crate::{Gap, GapReason, MediaTime, TrackKind};
use TrackKind::{Audio, Video};

struct Publisher {
    timeline: Timeline,
    out: Vec<Timed>,
}

impl Publisher {
    /// Sends four seconds of pictures and of sound that is 7 ms behind; the first message arrives at `arrival`.
    fn send(&mut self, start: u32, arrival: u64, sound_first: bool) {
        for n in 0..100u32 {
            let (picture, sound) = ((Video, n * 40), (Audio, n * 40 + 7));
            for (track, millis) in if sound_first { [sound, picture] } else { [picture, sound] } {
                let data = Bytes::from_static(if track == Video { &[0, 0, 0, 2, 0x65, 0x9a] } else { &[0x21, 0x10] });
                let time = SourceTime { value: start.wrapping_add(millis), scale: 1_000 };
                let frame = RawFrame { track, time, composition: 0, keyframe: true, data };
                self.timeline.push(frame, Duration::from_millis(arrival + u64::from(millis)), &mut self.out);
            }
        }
    }

    fn frames(&self, track: TrackKind) -> Vec<i64> {
        let time = |item: &Timed| match item {
            Timed::Frame(frame) if frame.track == track => Some(frame.dts.as_millis()),
            _ => None,
        };
        self.out.iter().filter_map(time).collect()
    }

    fn gaps(&self) -> Vec<Gap> {
        self.out.iter().filter_map(|item| if let Timed::Gap(gap) = item { Some(*gap) } else { None }).collect()
    }
}

proptest! {
    /// A hold in one process, of up to 1 800 s and what it takes to notice that the publisher is gone.
    #[test]
    fn a_hold_is_as_long_as_it_was(
        wait in 200u64..1_830_000, before in any::<u32>(), after in any::<u32>(), first in any::<bool>(), then in any::<bool>()
    ) {
        let mut publisher = Publisher { timeline: Timeline::new(), out: Vec::new() };
        publisher.send(before, 1_000, first);
        publisher.timeline.interrupt(GapReason::PublisherLost, &mut publisher.out);
        // A second loss before anything came changes nothing.
        publisher.timeline.interrupt(GapReason::SpoolFailed, &mut publisher.out);
        publisher.send(after, 1_000 + 3_967 + wait, then);
        publisher.timeline.flush(&mut publisher.out);
        let (video, audio, gaps) = (publisher.frames(Video), publisher.frames(Audio), publisher.gaps());
        prop_assert_eq!((video.len(), audio.len(), gaps.len()), (200, 200, 1));
        prop_assert_eq!(gaps[0].reason, GapReason::PublisherLost);
        let length = (gaps[0].resumes_at - gaps[0].starts_at).as_millis();
        prop_assert!((length - wait as i64).abs() <= 50, "{} instead of {}", length, wait);
        for number in 0..200 {
            prop_assert_eq!(audio[number] - video[number], 7, "frame {}", number);
        }
        // On the clock of arrivals everything is where it arrived, within what one frame is ahead of the other.
        prop_assert!((video[100] - video[0] - 3_967 - wait as i64).abs() <= 50);
        prop_assert!(video.windows(2).chain(audio.windows(2)).all(|pair| pair[0] < pair[1]));
    }

    /// The same across a restart.
    #[test]
    fn a_restart_is_as_long_as_it_was(
        end in 0i64..50_000_000, ago in 0u64..1_800_000, wait in 0u64..60_000, start in any::<u32>(), first in any::<bool>()
    ) {
        let mut publisher = Publisher { timeline: Timeline::new(), out: Vec::new() };
        let (latest, now) = (MediaTime::from_millis(end), Duration::from_millis(77));
        publisher.timeline.go_on(latest, Duration::from_millis(ago), now, GapReason::NodeCrashed);
        publisher.send(start, 77 + wait, first);
        publisher.timeline.flush(&mut publisher.out);
        let (video, audio, gaps) = (publisher.frames(Video), publisher.frames(Audio), publisher.gaps());
        prop_assert_eq!((video.len(), audio.len(), gaps.len()), (100, 100, 1));
        prop_assert_eq!((gaps[0].reason, gaps[0].starts_at), (GapReason::NodeCrashed, latest));
        let length = (gaps[0].resumes_at - latest).as_millis();
        prop_assert!((length - ((ago + wait) as i64).max(100)).abs() <= 50, "{} instead of {}", length, ago + wait);
        prop_assert!(video.iter().zip(&audio).all(|(video, audio)| audio - video == 7 && *video > end && *audio > end));
    }
}

/// Sound that began long before the first picture of the comeback still comes after everything of the earlier process.
#[test]
fn no_track_goes_back_behind_an_earlier_process() {
    let mut timeline = Timeline::new();
    let mut out = Vec::new();
    timeline.go_on(MediaTime::from_millis(10_000), Duration::ZERO, Duration::ZERO, GapReason::NodeCrashed);
    let frame = |track, value, data: &'static [u8]| RawFrame {
        track,
        time: SourceTime { value, scale: 1_000 },
        composition: 0,
        keyframe: true,
        data: Bytes::from_static(data),
    };
    timeline.push(frame(Video, 5_000, &[0, 0, 0, 2, 0x65, 0x9a]), Duration::from_millis(200), &mut out);
    timeline.push(frame(Audio, 2_000, &[0x21]), Duration::from_millis(201), &mut out);
    timeline.push(frame(Audio, 2_023, &[0x21]), Duration::from_millis(202), &mut out);
    timeline.flush(&mut out);
    let publisher = Publisher { timeline, out };
    assert_eq!(publisher.frames(Video), [10_200]);
    assert!(publisher.out.iter().all(|item| !matches!(item, Timed::Frame(frame) if frame.dts.0 <= 900_000)));
}
