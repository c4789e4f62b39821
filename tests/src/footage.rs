//! Encoded picture and sound to publish again and again, held in memory and shared by publishers.

use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use media::TrackKind;
use rtmp::client::payload;

use crate::marker::{self, Mark};
use crate::publisher::Source;

/// NAL unit type of filler data.
const FILLER: u8 = 12;

/// One frame of the footage.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Picture or sound.
    pub track: TrackKind,
    /// Decode time from the start, in milliseconds.
    pub dts: u32,
    /// Composition offset in milliseconds.
    pub composition: i32,
    /// Whether decoding can start here.
    pub keyframe: bool,
    payload: Bytes,
}

/// A round of frames in decode order; begins with a key frame.
#[derive(Debug)]
pub struct Footage {
    shots: Vec<Shot>,
    /// Length of a round in milliseconds.
    length: u32,
    /// Frames of one round by track.
    per_round: [u32; 2],
    /// Decode times of one round by track.
    times: [Vec<u32>; 2],
    avc_record: Bytes,
    asc: Bytes,
}

/// Place of a track in arrays.
pub fn index(track: TrackKind) -> usize {
    usize::from(track == TrackKind::Audio)
}

impl Footage {
    /// Encodes `source` with ffmpeg and reads it in.
    pub fn encode(source: &Source, folder: &Path) -> Arc<Self> {
        Self::encode_padded(source, folder, 0)
    }

    /// The same with filler in every picture, so that the bit rate becomes at least `kilobits` per second.
    pub fn encode_padded(source: &Source, folder: &Path, kilobits: u32) -> Arc<Self> {
        let file = source.generate(folder);
        let media = mux::demux::flv(&std::fs::read(file).expect("footage").into()).expect("footage");
        let filler = usize::try_from(kilobits.saturating_sub(source.kilobits)).unwrap_or(0) * 1_000 / 8 / 30;
        let shots = media.samples.iter().map(|sample| Shot {
            track: sample.track,
            dts: u32::try_from(sample.dts.as_millis()).unwrap_or(0),
            composition: (sample.pts - sample.dts).as_millis() as i32,
            keyframe: sample.keyframe && sample.track == TrackKind::Video,
            payload: if sample.track == TrackKind::Video {
                padded(&sample.payload, filler)
            } else {
                sample.payload.clone()
            },
        });
        let mut shots: Vec<Shot> = shots.collect();
        shots.sort_by_key(|shot| shot.dts);
        let mut times = [Vec::new(), Vec::new()];
        shots.iter().for_each(|shot| times[index(shot.track)].push(shot.dts));
        // One more step, so that the first frame of a round is later than the last of the round before.
        let length = shots.last().expect("frames").dts + 34;
        let per_round = [times[0].len() as u32, times[1].len() as u32];
        let first = |records: &[Bytes]| records.first().cloned().unwrap_or_default();
        Arc::new(Self { shots, length, per_round, times, avc_record: first(&media.video), asc: first(&media.audio) })
    }

    /// The `number`th frame of an endless repetition, with its time in milliseconds.
    pub fn shot(&self, number: u64) -> (&Shot, u64) {
        let (round, place) = (number / self.shots.len() as u64, number % self.shots.len() as u64);
        let shot = &self.shots[place as usize];
        (shot, round * u64::from(self.length) + u64::from(shot.dts))
    }

    /// Decode time in milliseconds of a track's `counter`th frame.
    pub fn time_of(&self, track: TrackKind, counter: u32) -> u64 {
        let (track, frames) = (index(track), self.per_round[index(track)].max(1));
        u64::from(counter / frames) * u64::from(self.length) + u64::from(self.times[track][(counter % frames) as usize])
    }

    /// Whether the track exists.
    pub fn has(&self, track: TrackKind) -> bool {
        self.per_round[index(track)] > 0
    }

    /// The sequence headers as message bodies: picture, then sound.
    pub fn headers(&self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let video = self.has(TrackKind::Video).then(|| payload::avc_header(&self.avc_record));
        (video, self.has(TrackKind::Audio).then(|| payload::aac_header(&self.asc)))
    }
}

impl Shot {
    /// The body of the message that carries this frame with a mark in it.
    pub fn body(&self, mark: Mark) -> Vec<u8> {
        let marked = marker::put(mark, self.track, &self.payload);
        if self.track == TrackKind::Audio {
            return [&[0xaf, 1], &marked[..]].concat();
        }
        let [_, c0, c1, c2] = self.composition.to_be_bytes();
        [&[if self.keyframe { 0x17 } else { 0x27 }, 1, c0, c1, c2], &marked[..]].concat()
    }
}

/// `size` bytes of filler data behind the slices.
fn padded(payload: &Bytes, size: usize) -> Bytes {
    if size == 0 {
        return payload.clone();
    }
    let mut out = BytesMut::with_capacity(payload.len() + size + 8);
    out.put_slice(payload);
    out.put_u32(size as u32 + 2);
    out.put_u8(FILLER);
    out.put_bytes(0xff, size);
    out.put_u8(0x80);
    out.freeze()
}
