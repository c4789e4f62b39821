//! The index of a progressive file, made of its notes when it is closed: a growing file keeps nothing of it in memory.

use bytes::Bytes;
use media::{CodecConfig, TrackKind};

use super::head;
use super::track::Track;
use crate::notes::{Record, Sample, Samples, Story};

/// What a progressive file's head is made of beside the notes of its object; see [`crate::Output::Index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Bytes of media behind the head.
    pub(super) data: u64,
    /// Samples that the notes tell of.
    pub(super) samples: u64,
    /// ISO/IEC 14496-12 creation time.
    pub(super) created: u64,
    /// Bytes of the head.
    pub(super) len: u64,
}

impl Index {
    /// Bytes of the head, which is still to be made.
    pub fn head_len(&self) -> u64 {
        self.len
    }

    /// The bytes in front of the media, made of all notes of the object joined in order. `None` when these are others.
    ///
    /// Takes tens of nanoseconds and of bytes of memory for every sample: not to be called where nothing may wait.
    pub fn head(&self, notes: &[u8]) -> Option<Bytes> {
        let count = usize::try_from(self.samples).ok().filter(|count| *count <= notes.len())?;
        let mut tables = Tables { order: Vec::with_capacity(count), ..Tables::default() };
        replay(notes, self.data, |sample, config| tables.push(sample, config));
        (tables.order.len() == count).then(|| Bytes::from(head::head(&tables, self.data, self.created)))
    }
}

/// A growing file: what its index will be, without the tables.
#[derive(Debug, Default)]
pub(super) struct Outline {
    video: Option<Track>,
    audio: Option<Track>,
}

impl Outline {
    pub(super) fn push(&mut self, sample: &Sample, config: &CodecConfig) {
        let track = if sample.track == TrackKind::Audio { &mut self.audio } else { &mut self.video };
        let track = track.get_or_insert_with(|| Track::new(sample, config));
        track.push(sample, config);
        track.forget();
    }

    /// Samples of pictures and of sound.
    pub(super) fn counts(&self) -> (u64, u64) {
        let count = |track: &Option<Track>| track.as_ref().map_or(0, |track| track.samples.into());
        (count(&self.video), count(&self.audio))
    }

    /// For a head of so many bytes of media.
    pub(super) fn index(&self, data: u64, created: u64) -> Index {
        let tracks: Vec<&Track> = [&self.video, &self.audio].into_iter().flatten().collect();
        let (pictures, sounds) = self.counts();
        let (len, _) = head::length(&tracks, data, created);
        Index { data, samples: pictures + sounds, created, len }
    }
}

/// What a replay has come to.
pub(super) struct Replayed {
    /// The notes account for exactly the bytes, and more may follow.
    pub(super) is_whole: bool,
    /// What the next sample's note builds on.
    pub(super) samples: Samples,
}

/// Tells of every sample in the first `len` bytes with its configuration, up to the first that does not fit.
pub(super) fn replay(notes: &[u8], len: u64, mut each: impl FnMut(&Sample, &CodecConfig)) -> Replayed {
    let (mut video, mut audio) = (None, None);
    let (mut bytes, mut fits, mut story) = (0, true, Story::new(notes));
    for record in story.by_ref() {
        match record {
            Record::Picture(picture) => video = Some(picture.config()),
            Record::Sound(sound) => audio = Some(sound.config()),
            Record::Sample(sample) => {
                let config = if sample.track == TrackKind::Video { &video } else { &audio };
                let end = bytes + u64::from(sample.size);
                let Some(config) = config.as_ref().filter(|_| end <= len) else {
                    fits = false;
                    break;
                };
                bytes = end;
                each(&sample, config);
            }
            _ => {}
        }
    }
    // Later notes go on from the same state.
    story.by_ref().for_each(drop);
    Replayed { is_whole: fits && bytes == len && !story.is_cut(), samples: story.into_samples() }
}

/// What `moov` is written from.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) video: Option<Track>,
    pub(super) audio: Option<Track>,
    /// Sizes of the samples of both tracks in the order of the file: size << 1 | is sound.
    pub(super) order: Vec<u32>,
}

impl Tables {
    fn push(&mut self, sample: &Sample, config: &CodecConfig) {
        let is_sound = sample.track == TrackKind::Audio;
        let track = if is_sound { &mut self.audio } else { &mut self.video };
        track.get_or_insert_with(|| Track::new(sample, config)).push(sample, config);
        self.order.push(sample.size << 1 | u32::from(is_sound));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::{Bytes, BytesMut};
    use media::{AacConfig, Frame, MediaTime};
    use proptest::prelude::*;

    use super::*;
    use crate::mp4::FastStart;
    use crate::notes::Notes;
    use crate::sound::Sound;
    use crate::{Mark, Muxer, ObjectId, ObjectPart, Options, Output, Restored, RestoredFile, RestoredObject};

    /// Notes of so many frames of sound, and the index they make.
    fn noted(count: i64) -> (BytesMut, Index) {
        let aac = Arc::new(AacConfig::parse(Bytes::from_static(&[0x12, 0x10])).unwrap());
        let (mut samples, mut outline, mut data) = (Samples::default(), Outline::default(), 0);
        let mut notes = Notes::default();
        notes.sound(&Sound::Aac(aac.clone()));
        let mut notes = BytesMut::from(&notes.take().unwrap()[..]);
        for n in 0..count {
            let dts = MediaTime::from_millis(n * 23 + n * n % 3);
            let size = 100 + n as u32 % 50;
            let sample = Sample { track: TrackKind::Audio, dts, pts: dts, keyframe: true, size };
            samples.write(&mut notes, &sample);
            outline.push(&sample, &CodecConfig::Aac(aac.clone()));
            data += u64::from(size);
        }
        (notes, outline.index(data, 7))
    }

    #[test]
    fn a_head_is_made_of_all_notes_or_not_at_all() {
        let (notes, index) = noted(1_000);
        let head = index.head(&notes).unwrap();
        assert_eq!(head.len() as u64, index.head_len());
        for len in (0..notes.len()).step_by(97) {
            assert_eq!(index.head(&notes[..len]), None, "{len} of {} bytes", notes.len());
        }
        let (others, _) = noted(1_001);
        // The sample that is too many is behind the media.
        assert_eq!(index.head(&others), Some(head));
        assert_eq!(index.head(&noted(999).0), None);
    }

    /// What is left of a file is gone on with, or closed at once; its index is made of its notes in either case.
    fn go_on(notes: Bytes, len: u64) -> Result<(), TestCaseError> {
        let object = ObjectId { file: 0, part: ObjectPart::Whole };
        let mut all = BytesMut::from(&notes[..]);
        let mark = Some(Mark { media_time: MediaTime::from_millis(90_000), ..Mark::default() });
        let restored = RestoredObject { spec: crate::mp4::spec(object), notes, len, mark, closed: None };
        let open = Some(RestoredFile { file: 0, objects: vec![restored], playlist: None });
        let mut muxer = Box::new(FastStart::restore(&Options::default(), Restored { files: 1, open }));
        let aac = AacConfig::parse(Bytes::from_static(&[0x11, 0x90])).unwrap();
        muxer.config(TrackKind::Audio, &CodecConfig::Aac(Arc::new(aac)));
        for n in 0..5 {
            let dts = MediaTime::from_millis(90_000 + n * 21);
            let data = Bytes::from_static(b"sound");
            muxer.push(&Frame { track: TrackKind::Audio, dts, pts: dts, keyframe: true, data }).unwrap();
        }
        let mut outputs: Vec<Output> = std::iter::from_fn(|| muxer.poll()).collect();
        outputs.extend(muxer.finish().outputs);
        for output in outputs {
            match output {
                Output::Note(of, note) if of == object => all.extend_from_slice(&note),
                Output::Index(of, index) if of == object => {
                    let head = index.head(&all);
                    prop_assert_eq!(head.map(|head| head.len() as u64), Some(index.head_len()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn an_index_is_made_of_whatever_notes_there_were(
            count in 0i64..60, cut in 0usize..400, flips in proptest::collection::vec((0usize..400, any::<u8>()), 0..3), by in -200i64..200,
        ) {
            let (mut notes, index) = noted(count);
            notes.truncate(notes.len().saturating_sub(cut / 4));
            for (at, byte) in flips {
                if let Some(place) = notes.get_mut(at) {
                    *place = byte;
                }
            }
            // As long as the notes say, and a little shorter or longer.
            let len = if by % 2 == 0 { index.data } else { index.data.saturating_add_signed(by) };
            go_on(notes.freeze(), len)?;
        }
    }
}
