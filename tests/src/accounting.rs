//! Holding what was recorded against what was sent: every frame is there once, or its loss is explained by a crash.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use media::TrackKind;

use crate::footage::{Footage, index};
use crate::marker::Mark;
use crate::numbered::Session;
use crate::reading::{FileFrames, Found};

/// Both tracks.
pub const BOTH: [TrackKind; 2] = [TrackKind::Video, TrackKind::Audio];

/// Length of a frame in milliseconds.
const FRAME: u64 = 34;

/// A node that was killed, or stopped for so long that its publishers moved on.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// Which node, as the test numbers them.
    pub node: usize,
    /// When.
    pub at: Instant,
}

/// A frame that was sent and is nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// Which.
    pub mark: Mark,
    /// Picture or sound.
    pub track: TrackKind,
    /// When it was sent.
    pub at: Instant,
    /// How much media before the crash that explains it; zero when it was sent after it. `None`: nothing explains it.
    ///
    /// Media, not time: when nothing was sent for a while before the crash, that costs nothing.
    pub before_crash: Option<Duration>,
}

/// Where the frames of one stream have gone, in one format.
#[derive(Clone, Debug, Default)]
pub struct Accounting {
    /// Frames sent.
    pub sent: usize,
    /// Of these, frames in exactly one file, or more.
    pub present: usize,
    /// Of these, the others.
    pub lost: Vec<Lost>,
    /// Frames found again, whole but a second time.
    pub duplicates: usize,
    /// Frames behind a later one in the same file, and decode times that do not grow.
    pub out_of_order: usize,
    /// Frames that are damaged, unmarked, or never sent on this stream.
    pub strangers: usize,
    /// Largest shift of sound against picture within a connection and file, in milliseconds.
    pub worst_skew: i64,
}

/// The frames of one stream in the files of one format, oldest first.
pub struct Ledger<'a> {
    /// Number of the stream.
    pub stream: u32,
    /// What was published.
    pub footage: &'a Footage,
    /// All connections of the stream.
    pub sessions: &'a [Session],
    /// What may explain a loss.
    pub crashes: &'a [Crash],
}

/// A file's time minus the publisher's, at the first and at the newest frame of a track.
type Shift = (i64, i64);

impl Ledger<'_> {
    /// Accounts for all frames of `tracks`.
    pub fn account(&self, tracks: &[TrackKind], files: &[FileFrames]) -> Accounting {
        let mut accounting = Accounting::default();
        let mut seen: Vec<[Vec<bool>; 2]> = self
            .sessions
            .iter()
            .map(|session| [vec![false; session.sent[0].len()], vec![false; session.sent[1].len()]])
            .collect();
        for file in files {
            self.file(file, &mut seen, &mut accounting);
        }
        for (number, session) in self.sessions.iter().enumerate() {
            for track in tracks {
                let seen = &seen[number][index(*track)];
                accounting.sent += seen.len();
                let missing = (0u32..).zip(seen).filter(|(_, seen)| !**seen).map(|(counter, _)| counter);
                let lost = missing.map(|counter| self.lost(session, number, *track, counter));
                accounting.lost.extend(lost);
            }
        }
        accounting.present = accounting.sent - accounting.lost.len();
        accounting
    }

    fn file(&self, file: &FileFrames, seen: &mut [[Vec<bool>; 2]], accounting: &mut Accounting) {
        let mut last: BTreeMap<TrackKind, Found> = BTreeMap::new();
        let mut shifts = BTreeMap::<(u32, u16), [Option<Shift>; 2]>::new();
        for frame in &file.frames {
            let Some(mark) = frame.mark.filter(|mark| mark.stream == self.stream) else {
                accounting.strangers += 1;
                continue;
            };
            let track = index(frame.track);
            let Some(sent) = seen.get_mut(usize::from(mark.session)).map(|tracks| &mut tracks[track]) else {
                accounting.strangers += 1;
                continue;
            };
            let frames = sent.len();
            match sent.get_mut(mark.counter as usize) {
                Some(seen) if *seen => accounting.duplicates += 1,
                Some(seen) => *seen = true,
                // The frame at hand when the connection broke may have made it.
                None if mark.counter as usize == frames => {}
                None => accounting.strangers += 1,
            }
            if let Some(before) = last.insert(frame.track, *frame) {
                let later =
                    before.mark.is_none_or(|before| (before.session, before.counter) < (mark.session, mark.counter));
                let grows = before.part != frame.part || before.dts < frame.dts;
                accounting.out_of_order += usize::from(!(later && grows));
            }
            let shift = frame.dts - self.footage.time_of(frame.track, mark.counter) as i64;
            let ends = shifts.entry((frame.part, mark.session)).or_default()[track].get_or_insert((shift, shift));
            ends.1 = shift;
        }
        for [video, audio] in shifts.into_values() {
            if let (Some(video), Some(audio)) = (video, audio) {
                let skew = (video.0 - audio.0).abs().max((video.1 - audio.1).abs());
                accounting.worst_skew = accounting.worst_skew.max(skew);
            }
        }
    }

    fn lost(&self, session: &Session, number: usize, track: TrackKind, counter: u32) -> Lost {
        let mark = Mark { stream: self.stream, session: number as u16, counter };
        let at = session.sent_at(track, counter).unwrap_or(session.started);
        // The first crash of its node after the connection began ended it, whatever came later.
        let crash = self.crashes.iter().filter(|crash| crash.node == session.node && crash.at >= session.started);
        let crash = crash.min_by_key(|crash| crash.at);
        // What was sent behind it until the end, and itself.
        let later = |track: TrackKind| {
            let last = (session.sent[index(track)].len() as u32).checked_sub(1)?;
            self.footage.has(track).then(|| self.footage.time_of(track, last))
        };
        let end = BOTH.into_iter().filter_map(later).max().unwrap_or(0);
        let media = end.saturating_sub(self.footage.time_of(track, counter)) + FRAME;
        let media = Duration::from_millis(media);
        Lost { mark, track, at, before_crash: crash.map(|crash| media.min(crash.at.saturating_duration_since(at))) }
    }
}

impl Accounting {
    /// Frames whose loss no crash explains: none happened, or it happened more than `allowance` after they were sent.
    pub fn unexplained(&self, allowance: Duration) -> Vec<Lost> {
        let beyond = |lost: &&Lost| lost.before_crash.is_none_or(|before| before > allowance);
        self.lost.iter().filter(beyond).copied().collect()
    }

    /// How long before its crash the earliest lost frame was sent.
    pub fn longest_loss(&self) -> Duration {
        self.lost.iter().filter_map(|lost| lost.before_crash).max().unwrap_or_default()
    }

    /// Panics unless every frame is there exactly once, in order, sound with picture, or lost within `allowance`.
    pub fn assert_clean(&self, allowance: Duration, what: &str) {
        let problems = self.problems(allowance);
        assert!(problems.is_empty(), "{what}: {problems}");
    }

    /// What is wrong, in words; empty when nothing is.
    pub fn problems(&self, allowance: Duration) -> String {
        let unexplained = self.unexplained(allowance);
        let mut problems = Vec::new();
        if self.duplicates > 0 || self.out_of_order > 0 || self.strangers > 0 {
            let Self { duplicates, out_of_order, strangers, .. } = self;
            problems.push(format!("{duplicates} duplicates, {out_of_order} out of order, {strangers} strangers"));
        }
        if self.worst_skew > 40 {
            problems.push(format!("sound is {} ms off the picture", self.worst_skew));
        }
        if let (Some(first), Some(last)) = (unexplained.first(), unexplained.last()) {
            let (count, lost, sent) = (unexplained.len(), self.lost.len(), self.sent);
            problems
                .push(format!("{count} of {lost} lost frames of {sent} sent are unexplained: {first:?} to {last:?}"));
        }
        problems.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::Source;

    fn frames(marks: &[(u16, u32)]) -> FileFrames {
        let found = |(session, counter): &(u16, u32)| Found {
            track: TrackKind::Audio,
            mark: Some(Mark { stream: 1, session: *session, counter: *counter }),
            dts: i64::from(*session) * 1_000 + i64::from(*counter) * 23,
            part: 0,
        };
        FileFrames { key: "a.aac".into(), frames: marks.iter().map(found).collect(), objects: Vec::new() }
    }

    /// The checker itself is checked: it must see what it is for.
    #[test]
    fn losses_duplicates_disorder_and_strangers_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source { seconds: 1, tracks: crate::publisher::Tracks::Audio, ..Default::default() };
        let footage = Footage::encode(&source, folder.path());
        let started = Instant::now();
        let sent = [Vec::new(), (0..10).map(|frame| frame * 23).collect()];
        let session = Session { node: 1, started, ended: None, sent, longest_write: Duration::ZERO, bytes: 0 };
        let crash = Crash { node: 1, at: started + Duration::from_millis(300) };
        let sessions = [session];
        let ledger = Ledger { stream: 1, footage: &footage, sessions: &sessions, crashes: &[crash] };
        let account = |marks: &[(u16, u32)]| ledger.account(&[TrackKind::Audio], &[frames(marks)]);
        let whole: Vec<(u16, u32)> = (0..10).map(|counter| (0, counter)).collect();
        let clean = account(&whole);
        assert_eq!((clean.sent, clean.present, clean.problems(Duration::ZERO)), (10, 10, String::new()));
        // The last two frames: 23 ms and one frame, although the crash came later.
        let short = account(&whole[..8]);
        assert_eq!(short.longest_loss().as_millis() / 10, 5);
        assert_eq!(short.unexplained(Duration::from_millis(40)).len(), 1);
        assert!(short.problems(Duration::from_millis(60)).is_empty());
        let twice = account(&[&whole[..], &[(0, 3)]].concat());
        assert_eq!((twice.duplicates, twice.out_of_order), (1, 1));
        assert_eq!(account(&[&whole[..], &[(0, 11)], &[(5, 0)]].concat()).strangers, 2);
        let no_crash = Ledger { crashes: &[], ..ledger };
        let lost = no_crash.account(&[TrackKind::Audio], &[frames(&whole[1..])]);
        assert_eq!(lost.unexplained(Duration::from_secs(999)).len(), 1);
    }
}
