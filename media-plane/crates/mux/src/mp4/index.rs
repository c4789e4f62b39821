//! The index of a file while it grows: packed, because a recording may last for hours; unfolded when the file is closed.

use media::{CodecConfig, TrackKind};

use super::packed::Packed;
use super::track::Track;
use crate::notes::Sample;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    samples: Packed,
    video: Described,
    audio: Described,
}

/// Sample descriptions of a track, each with the number of samples before it.
#[derive(Debug, Default)]
struct Described {
    samples: u32,
    configs: Vec<(u32, CodecConfig)>,
}

impl Described {
    fn count(&mut self, config: &CodecConfig) {
        if self.configs.last().is_none_or(|(_, last)| last != config) {
            self.configs.push((self.samples, config.clone()));
        }
        self.samples += 1;
    }

    /// That of the sample behind so many others.
    fn of(&self, before: u32) -> Option<&CodecConfig> {
        let begun = self.configs.partition_point(|(from, _)| *from <= before);
        self.configs.get(begun.checked_sub(1)?).map(|(_, config)| config)
    }
}

/// What `moov` is written from.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) video: Option<Track>,
    pub(super) audio: Option<Track>,
    /// Sizes of the samples of both tracks in the order of the file: size << 1 | is sound.
    pub(super) order: Vec<u32>,
}

impl Index {
    pub(super) fn push(&mut self, sample: &Sample, config: &CodecConfig) {
        match sample.track {
            TrackKind::Video => self.video.count(config),
            TrackKind::Audio => self.audio.count(config),
        }
        self.samples.push(sample);
    }

    /// Samples of either track.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.video.samples.into(), self.audio.samples.into())
    }

    pub(super) fn unfold(self) -> Tables {
        let mut tables = Tables { order: Vec::with_capacity(self.samples.len()), ..Tables::default() };
        for sample in self.samples {
            let (track, described) = match sample.track {
                TrackKind::Video => (&mut tables.video, &self.video),
                TrackKind::Audio => (&mut tables.audio, &self.audio),
            };
            let before = track.as_ref().map_or(0, |track| track.samples);
            // Each was counted with its own.
            let Some(config) = described.of(before) else { continue };
            track.get_or_insert_with(|| Track::new(&sample, config)).push(&sample, config);
            tables.order.push(sample.size << 1 | u32::from(sample.track == TrackKind::Audio));
        }
        tables
    }
}
