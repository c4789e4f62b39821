//! The start gate: holds a publication's first frames until it is known which tracks it has.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ingest::Metadata;
use crate::{CodecConfig, MediaTime, Timed, TrackKind};

/// Wait for the second track, in media time or wall time, whichever passes first: players and publishers alike give up
/// on a missing track after about this long.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Frames held at most, in bytes of payload: two seconds of 16 Mbit/s.
const MAX_HELD_BYTES: usize = 4 << 20;
/// Items held at most, so that tiny frames cannot pile up either.
const MAX_HELD_ITEMS: usize = 2_048;

/// What is known of one track when the gate opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Neither announced nor seen.
    #[default]
    Absent,
    /// Announced by metadata or a sequence header, but no frame came.
    Announced,
    /// Of a codec that cannot be recorded.
    Unsupported,
    /// There are frames.
    Present,
}

/// The tracks of a publication when its recording starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// The picture.
    pub video: Presence,
    /// The sound.
    pub audio: Presence,
}

impl Tracks {
    /// Sound without picture, whether honestly so or "quasi audio/video" (video announced, never sent): what an
    /// audio-only recording is made of.
    pub fn is_audio_only(self) -> bool {
        self.audio == Presence::Present && self.video != Presence::Present
    }

    /// Video was announced but none came.
    pub fn is_quasi(self) -> bool {
        self.video == Presence::Announced
    }
}

/// The start gate; see the module.
///
/// A configuration passes only just before the first frame of its track, so that no muxer declares a track that never
/// comes. A track that shows up after the gate has opened is therefore a configuration and frames like any other, and the
/// gate says so: what could not be made without it can begin.
#[derive(Debug, Default)]
pub struct Lineup {
    held: VecDeque<Timed>,
    held_bytes: usize,
    tracks: Tracks,
    metadata: Option<Metadata>,
    first: Option<(MediaTime, Duration)>,
    open: bool,
    video: Gate,
    audio: Gate,
}

/// What one track has let through.
#[derive(Debug, Default)]
struct Gate {
    /// Its configuration, while it has no frame yet.
    waiting: Option<Timed>,
    /// It has passed a frame.
    started: bool,
}

impl Lineup {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the publisher says about itself, as a hint: if it names one kind of track only, nothing waits for the other.
    pub fn announce(&mut self, metadata: &Metadata) {
        for (codec, presence) in [(metadata.video, &mut self.tracks.video), (metadata.audio, &mut self.tracks.audio)] {
            if codec.is_some() && *presence == Presence::Absent {
                *presence = Presence::Announced;
            }
        }
        self.metadata = Some(metadata.clone());
    }

    /// Passes `item` on to `out`, or holds it. Answers with the tracks when the gate opens, and again with the first frame
    /// of a track that comes later.
    pub fn push(&mut self, item: Timed, arrival: Duration, out: &mut Vec<Timed>) -> Option<Tracks> {
        if self.open {
            let is_late = self.is_first(&item);
            self.pass(item, out);
            return is_late.then_some(self.tracks);
        }
        let mut media = MediaTime::ZERO;
        match &item {
            Timed::Config(track, CodecConfig::Unsupported(_)) => *self.presence(*track) = Presence::Unsupported,
            Timed::Config(track, _) => {
                let presence = self.presence(*track);
                if *presence != Presence::Present {
                    *presence = Presence::Announced;
                }
            }
            Timed::Frame(frame) => {
                *self.presence(frame.track) = Presence::Present;
                self.held_bytes += frame.data.len();
                let (first, _) = *self.first.get_or_insert((frame.dts, arrival));
                media = frame.dts - first;
            }
            Timed::Gap(_) => {}
        }
        self.held.push_back(item);
        let full = self.held_bytes >= MAX_HELD_BYTES || self.held.len() >= MAX_HELD_ITEMS;
        if self.is_complete() || full || media >= MediaTime::from_duration(MAX_WAIT) {
            return self.open(out);
        }
        self.tick(arrival, out)
    }

    /// Opens the gate if the wait is over on the wall clock; call it now and then while no frame comes.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Timed>) -> Option<Tracks> {
        let (_, since) = self.first?;
        if self.open || now.saturating_sub(since) < MAX_WAIT {
            return None;
        }
        self.open(out)
    }

    /// Opens the gate now, at the end of a publication that was shorter than the wait.
    pub fn flush(&mut self, out: &mut Vec<Timed>) -> Option<Tracks> {
        if self.open { None } else { self.open(out) }
    }

    /// Whether no frame has come yet.
    pub fn is_fresh(&self) -> bool {
        !self.open && self.first.is_none()
    }

    /// Whether the item is the first frame of its track; from then on the track is there.
    fn is_first(&mut self, item: &Timed) -> bool {
        let Timed::Frame(frame) = item else { return false };
        let presence = self.presence(frame.track);
        std::mem::replace(presence, Presence::Present) != Presence::Present
    }

    fn presence(&mut self, track: TrackKind) -> &mut Presence {
        match track {
            TrackKind::Video => &mut self.tracks.video,
            TrackKind::Audio => &mut self.tracks.audio,
        }
    }

    /// Every track that can be expected is there.
    fn is_complete(&self) -> bool {
        let Tracks { video, audio } = self.tracks;
        let settled = |presence| matches!(presence, Presence::Present | Presence::Unsupported);
        let (video_ruled_out, audio_ruled_out) = match &self.metadata {
            Some(Metadata { video: Some(_), audio: None, .. }) => (false, audio == Presence::Absent),
            Some(Metadata { video: None, audio: Some(_), .. }) => (video == Presence::Absent, false),
            _ => (false, false),
        };
        self.first.is_some() && (settled(video) || video_ruled_out) && (settled(audio) || audio_ruled_out)
    }

    fn open(&mut self, out: &mut Vec<Timed>) -> Option<Tracks> {
        self.open = true;
        self.held_bytes = 0;
        let mut held = std::mem::take(&mut self.held);
        // Containers say at their start which tracks they have, so what is known by now comes before the first frame.
        for (track, presence) in [(TrackKind::Video, self.tracks.video), (TrackKind::Audio, self.tracks.audio)] {
            if presence == Presence::Present
                && let Some(config) = take_first_config(&mut held, track)
            {
                self.gate(track).started = true;
                out.push(config);
            }
        }
        for item in held {
            self.pass(item, out);
        }
        Some(self.tracks)
    }

    fn pass(&mut self, item: Timed, out: &mut Vec<Timed>) {
        match &item {
            Timed::Config(track, _) => {
                let gate = self.gate(*track);
                if !gate.started {
                    gate.waiting = Some(item);
                    return;
                }
            }
            Timed::Frame(frame) => {
                let gate = self.gate(frame.track);
                gate.started = true;
                out.extend(gate.waiting.take());
            }
            Timed::Gap(_) => {}
        }
        out.push(item);
    }

    fn gate(&mut self, track: TrackKind) -> &mut Gate {
        match track {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        }
    }
}

/// Removes the configurations in front of the track's first frame and returns the one that counts, the last.
fn take_first_config(held: &mut VecDeque<Timed>, track: TrackKind) -> Option<Timed> {
    let is_frame = |item: &Timed| matches!(item, Timed::Frame(frame) if frame.track == track);
    let first_frame = held.iter().position(is_frame).unwrap_or(held.len());
    let mut rest = held.split_off(first_frame);
    let is_config = |item: &Timed| matches!(item, Timed::Config(of, _) if *of == track);
    let config = held.iter().rfind(|item| is_config(item)).cloned();
    held.retain(|item| !is_config(item));
    held.append(&mut rest);
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AacConfig, Codec, Frame};
    use bytes::Bytes;
    use std::sync::Arc;

    fn frame(track: TrackKind, millis: i64, size: usize) -> Timed {
        let dts = MediaTime::from_millis(millis);
        Timed::Frame(Frame { track, dts, pts: dts, keyframe: true, data: Bytes::from(vec![0; size]) })
    }

    fn config(track: TrackKind) -> Timed {
        let aac = AacConfig::parse(Bytes::from_static(&[0x12, 0x10])).unwrap();
        Timed::Config(track, CodecConfig::Aac(Arc::new(aac)))
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    use TrackKind::{Audio, Video};

    #[test]
    fn e9_opens_when_both_tracks_have_shown_a_frame_and_loses_nothing() {
        let (mut lineup, mut out) = (Lineup::new(), Vec::new());
        let items = [config(Video), config(Audio), frame(Audio, 0, 1), frame(Audio, 23, 1), frame(Video, 40, 1)];
        let mut opened = None;
        for item in items.clone() {
            assert!(opened.is_none() && out.is_empty());
            opened = lineup.push(item, at(0), &mut out);
        }
        assert_eq!(opened, Some(Tracks { video: Presence::Present, audio: Presence::Present }));
        assert_eq!(out, items);
        assert_eq!(lineup.push(frame(Audio, 46, 1), at(0), &mut out), None);
        assert_eq!(out.len(), 6);
    }

    /// Regression: sound that came before the first picture made an HLS segment of its own.
    #[test]
    fn both_configurations_come_before_the_first_frame() {
        let (mut lineup, mut out) = (Lineup::new(), Vec::new());
        let items = [config(Audio), frame(Audio, 0, 1), frame(Audio, 23, 1), config(Video), frame(Video, 40, 1)];
        for item in items {
            lineup.push(item, at(0), &mut out);
        }
        let expected = [config(Video), config(Audio), frame(Audio, 0, 1), frame(Audio, 23, 1), frame(Video, 40, 1)];
        assert_eq!(out, expected);
    }

    #[test]
    fn e20_metadata_that_names_one_kind_ends_the_wait() {
        let (mut lineup, mut out) = (Lineup::new(), Vec::new());
        lineup.announce(&Metadata { audio: Some(Codec::Aac), ..Metadata::default() });
        assert_eq!(lineup.push(config(Audio), at(0), &mut out), None);
        let tracks = lineup.push(frame(Audio, 0, 1), at(0), &mut out).unwrap();
        assert!(tracks.is_audio_only() && !tracks.is_quasi());
    }

    #[test]
    fn r10_announced_but_absent_video_is_quasi_after_the_wait() {
        for announce in [true, false] {
            let (mut lineup, mut out) = (Lineup::new(), Vec::new());
            if announce {
                let both = Metadata { audio: Some(Codec::Aac), video: Some(Codec::H264), ..Metadata::default() };
                lineup.announce(&both);
            } else {
                // Headers only.
                assert_eq!(lineup.push(config(Video), at(0), &mut out), None);
            }
            assert_eq!(lineup.push(frame(Audio, 0, 1), at(0), &mut out), None);
            assert_eq!(lineup.push(frame(Audio, 1_999, 1), at(1), &mut out), None);
            let tracks = lineup.push(frame(Audio, 2_000, 1), at(2), &mut out).unwrap();
            assert!(tracks.is_audio_only() && tracks.is_quasi());
            assert!(!out.contains(&config(Video)), "no track is declared that never came");
            assert_eq!(lineup.push(config(Video), at(3), &mut out), None);
            let both = Tracks { video: Presence::Present, audio: Presence::Present };
            assert_eq!(lineup.push(frame(Video, 2_001, 1), at(3), &mut out), Some(both), "it came late");
            assert_eq!(lineup.push(frame(Video, 2_041, 1), at(3), &mut out), None, "told once");
            assert_eq!(out[3..], [config(Video), frame(Video, 2_001, 1), frame(Video, 2_041, 1)]);
        }
    }

    #[test]
    fn e9_the_wait_ends_by_wall_clock_by_bytes_and_by_the_end() {
        let (mut lineup, mut out) = (Lineup::new(), Vec::new());
        assert_eq!(lineup.tick(at(9_000), &mut out), None);
        assert_eq!(lineup.push(frame(Video, 0, 1), at(100), &mut out), None);
        assert_eq!(lineup.tick(at(2_099), &mut out), None);
        assert_eq!(lineup.tick(at(2_100), &mut out).unwrap().video, Presence::Present);
        let (mut lineup, mut out) = (Lineup::new(), Vec::new());
        assert!(lineup.push(frame(Video, 0, MAX_HELD_BYTES), at(0), &mut out).is_some());
        let (mut lineup, mut out) = (Lineup::new(), Vec::new());
        assert_eq!(lineup.push(frame(Video, 0, 1), at(0), &mut out), None);
        assert_eq!(lineup.flush(&mut out).unwrap().audio, Presence::Absent);
        assert_eq!((out.len(), lineup.flush(&mut out)), (1, None));
    }

    #[test]
    fn r47_an_unsupported_track_is_not_waited_for() {
        let (mut lineup, mut out) = (Lineup::new(), Vec::new());
        let hevc = Timed::Config(Video, CodecConfig::Unsupported(Codec::H265));
        assert_eq!(lineup.push(hevc, at(0), &mut out), None);
        let tracks = lineup.push(frame(Audio, 0, 1), at(0), &mut out).unwrap();
        assert_eq!(tracks, Tracks { video: Presence::Unsupported, audio: Presence::Present });
        assert!(tracks.is_audio_only());
    }
}
