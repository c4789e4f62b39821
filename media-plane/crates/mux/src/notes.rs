//! What muxers note beside their bytes, so that an object can go on, or be closed, after its process has died.
//!
//! A note is a run of records; those of an object joined in order are its story. A record that cannot be read ends the
//! story: what came before it still counts.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use media::{AacConfig, Av1Config, AvcConfig, HevcConfig, MediaTime, OpusConfig, TrackKind, VpxConfig};

use crate::picture::Picture;
use crate::sound::Sound;

const START: u8 = 1;
const AVC: u8 = 2;
const AAC: u8 = 3;
const ZERO: u8 = 4;
const FRAGMENT: u8 = 5;
const SEGMENT: u8 = 6;
const OPUS: u8 = 7;
/// As [`AAC`], encoded by the recorder.
const AAC_TRANSCODED: u8 = 8;
const HEVC: u8 = 9;
const AV1: u8 = 10;
const VP8: u8 = 11;
const VP9: u8 = 12;
/// Set in the first byte of a frame's record; the bits below say what follows.
const FRAME: u8 = 0x80;
const SOUND: u8 = 1;
const KEY: u8 = 2;
/// Times beyond this, in timeline ticks, are damage: a thousand years.
const MAX_TIME: i64 = 1 << 52;
/// Values a track is expected to repeat: distances of times rounded to milliseconds, and offsets of a picture group.
const SLOTS: usize = 3;

/// A sample of a fast-start MP4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) track: TrackKind,
    pub(crate) dts: MediaTime,
    pub(crate) pts: MediaTime,
    pub(crate) keyframe: bool,
    pub(crate) size: u32,
}

/// The beginning of an HLS segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) discontinuity: bool,
    pub(crate) video: bool,
    pub(crate) audio: bool,
    /// First DTS of the file.
    pub(crate) starts_at: MediaTime,
    /// Frames of the file in the segments before.
    pub(crate) video_frames: u64,
    pub(crate) audio_frames: u64,
    /// Number of its initialisation segment, if it has one.
    pub(crate) init: Option<u32>,
}

/// One thing noted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// First DTS of the object; a later one replaces it.
    Start(MediaTime),
    /// Configuration of the frames that follow.
    Picture(Picture),
    /// See `Picture`.
    Sound(Sound),
    /// Timeline position of the object's timestamp 0.
    Zero(MediaTime),
    /// A fragment (MP4) was written, of a file with these tracks.
    Fragment {
        video: bool,
        audio: bool,
    },
    Segment(Opening),
    Sample(Sample),
}

/// Writes records that are needed now and then.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    bytes: BytesMut,
}

impl Notes {
    pub(crate) fn start(&mut self, at: MediaTime) {
        self.bytes.put_u8(START);
        signed(&mut self.bytes, at.0);
    }

    pub(crate) fn zero(&mut self, at: MediaTime) {
        self.bytes.put_u8(ZERO);
        signed(&mut self.bytes, at.0);
    }

    pub(crate) fn picture(&mut self, picture: &Picture) {
        let record = match picture {
            Picture::Avc(avc) => {
                self.bytes.put_slice(&[AVC, avc.length_size]);
                &avc.record
            }
            Picture::Hevc(hevc) => {
                self.bytes.put_slice(&[HEVC, hevc.length_size]);
                &hevc.record
            }
            Picture::Av1(av1) => {
                self.bytes.put_u8(AV1);
                &av1.record
            }
            Picture::Vp8(vpx) | Picture::Vp9(vpx) => {
                // The record does not tell the size.
                self.bytes.put_u8(if matches!(picture, Picture::Vp8(_)) { VP8 } else { VP9 });
                unsigned(&mut self.bytes, vpx.width.into());
                unsigned(&mut self.bytes, vpx.height.into());
                &vpx.record
            }
        };
        unsigned(&mut self.bytes, record.len() as u64);
        self.bytes.put_slice(record);
    }

    pub(crate) fn sound(&mut self, sound: &Sound) {
        match sound {
            Sound::Aac(aac) => {
                self.bytes.put_u8(if aac.transcoded { AAC_TRANSCODED } else { AAC });
                unsigned(&mut self.bytes, aac.asc.len() as u64);
                self.bytes.put_slice(&aac.asc);
            }
            Sound::Opus(opus) => {
                self.bytes.put_slice(&[OPUS, opus.channels]);
                unsigned(&mut self.bytes, opus.pre_skip.into());
                unsigned(&mut self.bytes, opus.sample_rate_in.into());
            }
        }
    }

    pub(crate) fn fragment(&mut self, video: bool, audio: bool) {
        self.bytes.put_slice(&[FRAGMENT, u8::from(video) | u8::from(audio) << 1]);
    }

    pub(crate) fn segment(&mut self, opening: &Opening) {
        let Opening { discontinuity, video, audio, starts_at, video_frames, audio_frames, init } = *opening;
        let flags =
            u8::from(video) | u8::from(audio) << 1 | u8::from(discontinuity) << 2 | u8::from(init.is_some()) << 3;
        self.bytes.put_slice(&[SEGMENT, flags]);
        signed(&mut self.bytes, starts_at.0);
        unsigned(&mut self.bytes, video_frames);
        unsigned(&mut self.bytes, audio_frames);
        if let Some(init) = init {
            unsigned(&mut self.bytes, init.into());
        }
    }

    /// What was noted since the last call.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        if self.bytes.is_empty() { None } else { Some(self.bytes.split().freeze()) }
    }
}

/// Writes and reads samples, three or four bytes each: distances of times come from a short list of the last ones.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    video: Recent,
    audio: Recent,
}

#[derive(Debug, Default)]
struct Recent {
    last: i64,
    steps: Slots,
    offsets: Slots,
}

#[derive(Debug, Default)]
struct Slots {
    values: [i64; SLOTS],
    oldest: usize,
}

impl Slots {
    /// The code of a value: its place counted from 1, or 0 for a value that takes the oldest place.
    fn code(&mut self, value: i64) -> u8 {
        match self.values.iter().position(|known| *known == value) {
            Some(place) => place as u8 + 1,
            None => {
                self.learn(value);
                0
            }
        }
    }

    fn learn(&mut self, value: i64) {
        if let Some(place) = self.values.get_mut(self.oldest) {
            *place = value;
        }
        self.oldest = (self.oldest + 1) % SLOTS;
    }

    fn value(&mut self, code: u8, story: &mut Story<'_>) -> Option<i64> {
        if let Some(place) = usize::from(code).checked_sub(1) {
            return self.values.get(place).copied();
        }
        let value = story.signed()?;
        self.learn(value);
        Some(value)
    }
}

impl Samples {
    /// The most bytes a record takes.
    pub(crate) const MAX_RECORD: usize = 1 + 10 + 10 + 5;

    fn recent(&mut self, is_sound: bool) -> &mut Recent {
        if is_sound { &mut self.audio } else { &mut self.video }
    }

    pub(crate) fn write(&mut self, out: &mut BytesMut, sample: &Sample) {
        let is_sound = sample.track == TrackKind::Audio;
        let recent = self.recent(is_sound);
        let step = sample.dts.0.saturating_sub(recent.last);
        let offset = sample.pts.0.saturating_sub(sample.dts.0);
        recent.last = sample.dts.0;
        let (step_code, offset_code) = (recent.steps.code(step), recent.offsets.code(offset));
        let kind = (u8::from(is_sound) * SOUND) | (u8::from(sample.keyframe) * KEY);
        out.put_u8(FRAME | kind | step_code << 2 | offset_code << 4);
        if step_code == 0 {
            signed(out, step);
        }
        if offset_code == 0 {
            signed(out, offset);
        }
        unsigned(out, sample.size.into());
    }

    fn read(&mut self, first: u8, story: &mut Story<'_>) -> Option<Sample> {
        let is_sound = first & SOUND != 0;
        let recent = self.recent(is_sound);
        let step = recent.steps.value(first >> 2 & 3, story)?;
        let offset = recent.offsets.value(first >> 4 & 3, story)?;
        let dts = sane(recent.last.checked_add(step)?)?;
        let pts = sane(dts.0.checked_add(offset)?)?;
        recent.last = dts.0;
        let size = u32::try_from(story.unsigned()?).ok()?;
        let track = if is_sound { TrackKind::Audio } else { TrackKind::Video };
        Some(Sample { track, dts, pts, keyframe: first & KEY != 0, size })
    }
}

/// Reads an object's notes in order, up to the first that cannot be read.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    rest: &'a [u8],
    samples: Samples,
    is_cut: bool,
}

impl<'a> Story<'a> {
    pub(crate) fn new(notes: &'a [u8]) -> Self {
        Self { rest: notes, samples: Samples::default(), is_cut: false }
    }

    /// Whether it ended at a record that cannot be read: what is noted behind that will not be read either.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// What the next sample's record builds on.
    pub(crate) fn into_samples(self) -> Samples {
        self.samples
    }

    fn record(&mut self) -> Option<Record> {
        let kind = self.byte()?;
        Some(match kind {
            START => Record::Start(sane(self.signed()?)?),
            ZERO => Record::Zero(sane(self.signed()?)?),
            AVC => {
                let length_size = self.byte()?;
                let mut avc = AvcConfig::parse(self.bytes()?).ok()?;
                avc.length_size = length_size;
                Record::Picture(Picture::Avc(Arc::new(avc)))
            }
            HEVC => {
                let length_size = self.byte()?;
                let mut hevc = HevcConfig::parse(self.bytes()?).ok()?;
                hevc.length_size = length_size;
                Record::Picture(Picture::Hevc(Arc::new(hevc)))
            }
            AV1 => Record::Picture(Picture::Av1(Arc::new(Av1Config::parse(self.bytes()?).ok()?))),
            VP8 | VP9 => {
                let (width, height) = (u32::try_from(self.unsigned()?).ok()?, u32::try_from(self.unsigned()?).ok()?);
                let vpx = VpxConfig::parse(&self.bytes()?).ok()?;
                let vpx = Arc::new(VpxConfig { width, height, ..vpx });
                Record::Picture(if kind == VP8 { Picture::Vp8(vpx) } else { Picture::Vp9(vpx) })
            }
            AAC | AAC_TRANSCODED => {
                let mut aac = AacConfig::parse(self.bytes()?).ok()?;
                aac.transcoded = kind == AAC_TRANSCODED;
                Record::Sound(Sound::Aac(Arc::new(aac)))
            }
            OPUS => {
                let channels = self.byte()?;
                let pre_skip = u16::try_from(self.unsigned()?).ok()?;
                let sample_rate_in = u32::try_from(self.unsigned()?).ok()?;
                Record::Sound(Sound::Opus(Arc::new(OpusConfig { channels, pre_skip, sample_rate_in })))
            }
            FRAGMENT => {
                let flags = self.byte()?;
                Record::Fragment { video: flags & 1 != 0, audio: flags & 2 != 0 }
            }
            SEGMENT => {
                let flags = self.byte()?;
                let starts_at = sane(self.signed()?)?;
                let (video_frames, audio_frames) = (count(self.unsigned()?)?, count(self.unsigned()?)?);
                let (video, audio, discontinuity) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
                let init = if flags & 8 == 0 { None } else { Some(u32::try_from(self.unsigned()?).ok()?) };
                Record::Segment(Opening { discontinuity, video, audio, starts_at, video_frames, audio_frames, init })
            }
            first if first & FRAME != 0 => {
                let mut samples = std::mem::take(&mut self.samples);
                let sample = samples.read(first, self);
                self.samples = samples;
                Record::Sample(sample?)
            }
            _ => return None,
        })
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        let (now, later) = self.rest.split_at_checked(length)?;
        self.rest = later;
        Some(Bytes::copy_from_slice(now))
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let folded = self.unsigned()?;
        Some((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
    }
}

impl Iterator for Story<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let is_over = self.rest.is_empty();
        let record = self.record();
        if record.is_none() {
            self.is_cut |= !is_over;
            self.rest = &[];
        }
        record
    }
}

/// A time that media can have.
pub(crate) fn sane(ticks: i64) -> Option<MediaTime> {
    (-MAX_TIME..=MAX_TIME).contains(&ticks).then_some(MediaTime(ticks))
}

/// A number of frames that a file can have.
fn count(frames: u64) -> Option<u64> {
    (frames <= MAX_TIME.cast_unsigned()).then_some(frames)
}

/// Seven bits a byte, the least significant first.
fn unsigned(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Small negative values stay short.
fn signed(out: &mut BytesMut, value: i64) {
    unsigned(out, (value << 1 ^ value >> 63).cast_unsigned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_steady_stream_costs_three_or_four_bytes_a_sample() {
        let (mut samples, mut out) = (Samples::default(), BytesMut::new());
        for n in 0..3_000i64 {
            let dts = MediaTime::from_millis(n * 1_000 / 30);
            let pts = dts + MediaTime::from_millis([66, 133, 33][n as usize % 3]);
            let sample = Sample { track: TrackKind::Video, dts, pts, keyframe: n % 60 == 0, size: 10_000 };
            samples.write(&mut out, &sample);
            let dts = MediaTime::from_millis(n * 21);
            samples.write(&mut out, &Sample { track: TrackKind::Audio, dts, pts: dts, keyframe: true, size: 340 });
        }
        assert!(out.len() < 6_000 * 3 + 200, "{} bytes", out.len());
        assert_eq!(Story::new(&out).count(), 6_000);
    }

    #[test]
    fn configurations_of_sound_come_back() {
        let mut aac = AacConfig::parse(Bytes::from_static(&[0x11, 0x90])).unwrap();
        let opus = OpusConfig { channels: 1, pre_skip: 312, sample_rate_in: 44_100 };
        let mut sounds = vec![Sound::Aac(Arc::new(aac.clone())), Sound::Opus(Arc::new(opus))];
        aac.transcoded = true;
        sounds.push(Sound::Aac(Arc::new(aac)));
        let mut notes = Notes::default();
        sounds.iter().for_each(|sound| notes.sound(sound));
        let back: Vec<Record> = Story::new(&notes.take().unwrap()).collect();
        assert_eq!(back, sounds.into_iter().map(Record::Sound).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn samples_come_back(
            input in proptest::collection::vec((any::<bool>(), any::<bool>(), -90_000i64..9_000_000, -5i64..5, 0u32..1 << 31), 0..200)
        ) {
            let (mut samples, mut out, mut sent) = (Samples::default(), BytesMut::new(), Vec::new());
            for (is_sound, keyframe, dts, offset, size) in input {
                let track = if is_sound { TrackKind::Audio } else { TrackKind::Video };
                let sample = Sample { track, dts: MediaTime(dts), pts: MediaTime(dts + offset * 3_000), keyframe, size };
                samples.write(&mut out, &sample);
                sent.push(Record::Sample(sample));
            }
            prop_assert_eq!(Story::new(&out).collect::<Vec<_>>(), sent);
        }

        #[test]
        fn damaged_notes_end_the_story(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Story::new(&bytes).count() <= bytes.len());
        }
    }
}
