//! Recordings that end while the publisher stays: what was received before their end is still on its way through the codecs.
//!
//! What takes the stream as it comes has all of it. What takes its sound in AAC gets the rest of it, up to the end of the
//! last picture that was received; that takes about 100 ms, and never longer than [`PATIENCE`].

use std::time::Duration;

use media::{GapReason, MediaTime, Timed, TrackKind};
use recorder_proto::pb::v1::recording::EndReason;

use super::Publication;
use crate::recording::{Feed, Recording};

/// The codecs hold back 64 ms of sound and the picture with it. This much later they are too slow, or nothing comes that
/// would push it out of them.
const PATIENCE: Duration = Duration::from_secs(1);
/// When nothing has come for this long, the rest of the sound is taken out of the codecs at once.
const SILENT: Duration = Duration::from_millis(250);
/// Half an access unit at 48 kHz: sound ends so close to the picture.
const HALF_UNIT: MediaTime = MediaTime(MediaTime::SCALE * 512 / 48_000);
/// A picture is shown for this long at most.
const LONGEST_PICTURE: MediaTime = MediaTime(MediaTime::SCALE / 10);
/// Sound that is this far ahead of the picture has no picture.
const AHEAD: MediaTime = MediaTime(MediaTime::SCALE / 5);

/// How far the stream has come in the form in which it is received.
#[derive(Debug, Default)]
pub(super) struct Front {
    picture: Option<MediaTime>,
    /// How long the newest picture is shown, going by the one before it.
    shown: MediaTime,
    sound: Option<MediaTime>,
}

impl Front {
    pub(super) fn pass(&mut self, items: &[Timed]) {
        for item in items {
            let Timed::Frame(frame) = item else { continue };
            match frame.track {
                TrackKind::Video => {
                    let before = self.picture.replace(frame.dts);
                    let shown = before.map_or(MediaTime::ZERO, |before| frame.dts - before);
                    self.shown = shown.clamp(MediaTime::ZERO, LONGEST_PICTURE);
                }
                TrackKind::Audio => self.sound = Some(frame.dts),
            }
        }
    }

    fn cut(&self) -> Cut {
        let ends = self.picture.map(|picture| picture + self.shown);
        let alone = self.sound.filter(|sound| ends.is_none_or(|ends| *sound >= ends + AHEAD));
        Cut { picture: self.picture, sound: alone.or(ends).unwrap_or(MediaTime::ZERO) - HALF_UNIT }
    }
}

/// Up to where a recording is made.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// The last picture.
    picture: Option<MediaTime>,
    /// Sound that begins before this.
    sound: MediaTime,
}

/// What is still for a recording of what came out of the codecs, and whether that was the last of it.
fn part_of(cut: Cut, items: &[Timed]) -> (Vec<Timed>, bool) {
    let mut part = Vec::new();
    for item in items {
        match item {
            Timed::Frame(frame) => {
                let (is_in, is_last) = match frame.track {
                    // Pictures do not wait for sound that stays away, so this is not the end of the sound yet.
                    TrackKind::Video => (cut.picture.is_some_and(|last| frame.dts <= last), false),
                    TrackKind::Audio => (frame.dts < cut.sound, frame.dts >= cut.sound),
                };
                if is_in {
                    part.push(item.clone());
                }
                if is_last {
                    return (part, true);
                }
            }
            Timed::Gap(gap) if gap.resumes_at >= cut.sound => match gap.reason {
                // Of one track.
                GapReason::FramesLost => {}
                // Everything came out of the codecs before it.
                _ => return (part, true),
            },
            Timed::Gap(_) | Timed::Config(..) => part.push(item.clone()),
        }
    }
    (part, false)
}

/// See the module.
pub(super) struct Ending {
    recording: Recording,
    reason: EndReason,
    cut: Cut,
    /// On the monotonic clock.
    deadline: Duration,
}

impl Publication {
    /// Ends the recordings for which there is a reason, with everything that was received for them.
    pub(super) fn end_with_sound(&mut self, mut end: impl FnMut(&mut Recording) -> Option<EndReason>) {
        let deadline = self.node.clock.monotonic().saturating_add(PATIENCE);
        let mut index = 0;
        while let Some(recording) = self.recordings.get_mut(index) {
            let Some(reason) = end(recording) else {
                index += 1;
                continue;
            };
            let recording = self.recordings.swap_remove(index);
            if self.sound.is_some() && recording.wants_aac() {
                self.endings.push(Ending { recording, reason, cut: self.front.cut(), deadline });
            } else {
                recording.finish(reason);
            }
        }
    }

    /// Gives recordings that end what is still for them.
    pub(super) fn give_endings(&mut self, feed: Feed, items: &[Timed]) {
        if !feed.includes(Feed::Aac) {
            return;
        }
        let mut index = 0;
        while let Some(Ending { recording, cut, .. }) = self.endings.get_mut(index) {
            let (part, is_last) = part_of(*cut, items);
            let failed = if part.is_empty() { None } else { recording.take(Feed::Aac, &part) };
            if failed.is_none() && !is_last {
                index += 1;
                continue;
            }
            let Ending { recording, reason, .. } = self.endings.swap_remove(index);
            recording.finish(failed.filter(|failed| *failed == EndReason::Error).unwrap_or(reason));
        }
    }

    /// Nothing more comes for them.
    pub(super) fn finish_endings(&mut self) {
        for Ending { recording, reason, .. } in self.endings.drain(..) {
            recording.finish(reason);
        }
    }

    /// When [`Self::finish_endings_if_due`] has something to do, on the monotonic clock.
    pub(super) fn endings_due(&self) -> Option<Duration> {
        self.endings.iter().map(|ending| ending.deadline).min()
    }

    /// Those that have waited long enough.
    pub(super) fn finish_endings_if_due(&mut self, now: Duration) {
        if self.endings_due().is_none_or(|at| now < at) {
            return;
        }
        if now.saturating_sub(self.last_arrival) >= SILENT {
            self.hear(true);
        }
        let mut index = 0;
        while let Some(ending) = self.endings.get(index) {
            if now < ending.deadline {
                index += 1;
                continue;
            }
            let Ending { recording, reason, .. } = self.endings.swap_remove(index);
            tracing::warn!(recording = %recording.id(), "its last sound did not come out of the codecs in time");
            recording.finish(reason);
        }
    }
}
