//! Any sequence of frames, holes, changes and cuts.

use media::TrackKind;
use proptest::prelude::*;

use super::{Step, aac, asc, avc, other_avc, picture, sound};

pub fn arbitrary_steps() -> impl Strategy<Value = Vec<Step>> {
    let frame = (0u8..100, 0i64..120, -90i64..200, prop::bool::weighted(0.15), 1usize..3_000);
    proptest::collection::vec(frame, 1..250).prop_map(|input| {
        let mut steps = vec![Step::Config(TrackKind::Video, avc()), Step::Config(TrackKind::Audio, aac())];
        let (mut now, mut serial) = ([0i64, 15], 0);
        for (kind, wait, offset, keyframe, size) in input {
            serial += 1;
            let clock = &mut now[usize::from(kind % 2)];
            *clock += 1 + wait;
            match kind {
                0 => steps.push(Step::Cut),
                1 => steps.push(Step::Config(TrackKind::Video, if serial % 2 == 0 { avc() } else { other_avc() })),
                2 => {
                    steps.push(Step::Config(TrackKind::Audio, asc(&[0x11, if serial % 2 == 0 { 0x90 } else { 0x88 }])))
                }
                3 => {
                    let reason = media::GapReason::FramesRejected;
                    let starts_at = media::MediaTime::from_millis(now[0].max(now[1]));
                    now = [starts_at.as_millis() + wait * 100 + 1; 2];
                    let resumes_at = media::MediaTime::from_millis(now[0]);
                    steps.push(Step::Gap(media::Gap { starts_at, resumes_at, reason }));
                }
                kind if kind % 2 == 0 => steps.push(Step::Frame(picture(*clock, offset, keyframe, serial, size))),
                _ => steps.push(Step::Frame(sound(*clock, serial, size / 8))),
            }
        }
        steps
    })
}
