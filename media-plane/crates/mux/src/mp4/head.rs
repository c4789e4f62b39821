//! `ftyp`, `moov` and the header of `mdat`, written when everything behind them is known.

use media::{CodecConfig, TrackKind};

use super::boxes::{Boxes, hdlr, is_wide, mdhd, media_info, mvhd, pre_skip, stsd, tkhd};
use super::index::Tables;
use super::track::Track;

/// Size of an `mdat` header with a 64-bit size.
const MDAT_HEADER: u64 = 16;

/// The bytes in front of `data` bytes of samples.
pub(super) fn head(tables: &Tables, data: u64, created: u64) -> Vec<u8> {
    let tracks: Vec<&Track> = [&tables.video, &tables.audio].into_iter().flatten().collect();
    let (tracks, order) = (tracks.as_slice(), tables.order.as_slice());
    let (length, wide) = length(tracks, data, created);
    let mut boxes = Boxes { bytes: Vec::with_capacity(usize::try_from(length).unwrap_or_default()) };
    file_head(&mut boxes, tracks, order, length, wide, created);
    boxes.put(&[0, 0, 0, 1, b'm', b'd', b'a', b't']);
    boxes.put(&(data + MDAT_HEADER).to_be_bytes());
    boxes.bytes
}

/// How long that is, of tracks that need not have their tables any more, and whether offsets are wide: they are as wide
/// as they need be, and their width decides how far the data moves.
pub(super) fn length(tracks: &[&Track], data: u64, created: u64) -> (u64, bool) {
    let length = |wide| {
        let entry = if wide { 12 } else { 8 };
        let of_samples = tracks.iter().map(|track| track.dropped() + u64::from(track.samples) * entry);
        let mut rest = Boxes::default();
        file_head(&mut rest, tracks, &[], 0, wide, created);
        rest.bytes.len() as u64 + of_samples.sum::<u64>() + MDAT_HEADER
    };
    let narrow = length(false);
    if is_wide(narrow + data) { (length(true), true) } else { (narrow, false) }
}

fn file_head(boxes: &mut Boxes, tracks: &[&Track], order: &[u32], base: u64, wide: bool, created: u64) {
    boxes.nest(b"ftyp", |b| {
        b.put(b"isom");
        b.u32(0x200);
        b.put(b"isomiso2avc1mp41");
        let is_av1 = |track: &&Track| matches!(track.configs.first(), Some(CodecConfig::Av1(_)));
        if tracks.iter().any(is_av1) {
            b.put(b"av01");
        }
    });
    // The earliest frame shown is the start of the movie.
    let start = tracks.iter().map(|track| track.shown_at().0).min().unwrap_or(0);
    let length = |track: &Track| (track.shown_at().0 - start + track.shown_for()).max(0) as u64;
    boxes.nest(b"moov", |b| {
        mvhd(b, created, tracks.iter().map(|track| length(track)).max().unwrap_or(0));
        for track in tracks {
            b.nest(b"trak", |b| {
                tkhd(b, track.kind, created, length(track), track.configs.first());
                edits(b, track, track.shown_at().0 - start);
                b.nest(b"mdia", |b| media(b, track, order, base, wide, created));
            });
        }
    });
}

/// Shows the track from its first frame on, `delay` movie ticks after the start of the movie.
fn edits(boxes: &mut Boxes, track: &Track, delay: i64) {
    let (first, _) = track.presentation;
    let media_time = (first - track.min_composition).max(0) + track.clock.skip();
    if delay == 0 && media_time == 0 {
        return;
    }
    let duration = track.shown_for().max(0);
    let wide = is_wide(delay.max(duration).max(media_time) as u64) || media_time > i64::from(i32::MAX);
    boxes.nest(b"edts", |b| {
        b.full(b"elst", wide.into(), 0, |b| {
            b.u32(if delay > 0 { 2 } else { 1 });
            if delay > 0 {
                b.sized(wide, delay as u64);
                b.sized(wide, if wide { u64::MAX } else { u64::from(u32::MAX) });
                b.u32(0x1_0000);
            }
            b.sized(wide, duration as u64);
            b.sized(wide, media_time as u64);
            b.u32(0x1_0000);
        });
    });
}

fn media(boxes: &mut Boxes, track: &Track, order: &[u32], base: u64, wide: bool, created: u64) {
    mdhd(boxes, created, track.clock.scale, track.media_duration().max(0) as u64);
    hdlr(boxes, track.kind);
    boxes.nest(b"minf", |b| {
        media_info(b, track.kind);
        b.nest(b"stbl", |b| {
            stsd(b, &track.configs);
            durations(b, track);
            compositions(b, track);
            if !track.is_all_keys() {
                b.full(b"stss", 0, 0, |b| {
                    b.u32(track.key_samples.len() as u32);
                    track.key_samples.iter().for_each(|number| b.u32(*number));
                });
            }
            chunks(b, track, order, base, wide);
            if let Some(CodecConfig::Opus(_)) = track.configs.first() {
                roll(b, track);
            }
        });
    });
}

/// Decoders of Opus have to hear 80 ms before a place to be right at that place (Encapsulation of Opus in ISO BMFF, 4.3.6).
fn roll(boxes: &mut Boxes, track: &Track) {
    let duration = track.clock.last_duration().max(1);
    let packets = (i64::from(track.clock.scale) * 80 / 1_000 + duration - 1) / duration;
    boxes.full(b"sgpd", 1, 0, |b| {
        b.put(b"roll");
        b.u32(2);
        b.u32(1);
        b.u16(i16::try_from(-packets).unwrap_or(i16::MIN).cast_unsigned());
    });
    boxes.full(b"sbgp", 0, 0, |b| {
        b.put(b"roll");
        b.u32(1);
        b.u32(track.samples);
        b.u32(1);
    });
}

fn durations(boxes: &mut Boxes, track: &Track) {
    boxes.full(b"stts", 0, 0, |b| {
        let last = u32::try_from(track.clock.last_duration()).unwrap_or(0);
        b.u32(track.durations.runs.len() as u32 + 1);
        for (count, duration) in &track.durations.runs {
            b.u32(*count);
            b.u32(*duration as u32);
        }
        b.u32(1);
        b.u32(last);
    });
}

/// Negative offsets are lifted to zero for all samples, and the edit list takes it back: so version 0 serves, which
/// every player reads.
fn compositions(boxes: &mut Boxes, track: &Track) {
    let runs = &track.compositions.runs;
    if track.is_in_order() {
        return;
    }
    boxes.full(b"ctts", 0, 0, |b| {
        b.u32(runs.len() as u32);
        for (count, offset) in runs {
            b.u32(*count);
            b.u32(u32::try_from(i64::from(*offset) - track.min_composition).unwrap_or(0));
        }
    });
}

/// Every sample is a chunk: sound and picture alternate sample by sample anyway, and the table of offsets is smaller
/// than one of ever-changing chunk lengths.
fn chunks(boxes: &mut Boxes, track: &Track, order: &[u32], base: u64, wide: bool) {
    boxes.full(b"stsc", 0, 0, |b| {
        b.u32(track.config_starts.len() as u32);
        for (description, first) in (1u32..).zip(&track.config_starts) {
            b.u32(*first);
            b.u32(1);
            b.u32(description);
        }
    });
    let is_sound = u32::from(track.kind == TrackKind::Audio);
    let mut offset = base;
    let samples = order.iter().filter_map(move |entry| {
        let (at, size) = (offset, entry >> 1);
        offset += u64::from(size);
        (entry & 1 == is_sound).then_some((at, size))
    });
    boxes.full(b"stsz", 0, 0, |b| {
        b.u32(0);
        b.u32(track.samples);
        samples.clone().for_each(|(_, size)| b.u32(size));
    });
    boxes.full(if wide { b"co64" } else { b"stco" }, 0, 0, |b| {
        b.u32(track.samples);
        samples.for_each(|(at, _)| b.sized(wide, at));
    });
}

/// Head of a fragmented file: tracks without samples.
pub(super) fn init(configs: &[(TrackKind, CodecConfig, u32)], created: u64) -> Vec<u8> {
    let mut boxes = Boxes::default();
    boxes.nest(b"ftyp", |b| {
        b.put(b"iso6");
        b.u32(0x200);
        b.put(b"iso6mp41");
        if configs.iter().any(|(_, config, _)| matches!(config, CodecConfig::Av1(_))) {
            b.put(b"av01");
        }
    });
    boxes.nest(b"moov", |b| {
        mvhd(b, created, 0);
        for (kind, config, scale) in configs {
            b.nest(b"trak", |b| {
                tkhd(b, *kind, created, 0, Some(config));
                if let CodecConfig::Opus(config) = config {
                    skip(b, pre_skip(config).into());
                }
                b.nest(b"mdia", |b| {
                    mdhd(b, created, *scale, 0);
                    hdlr(b, *kind);
                    b.nest(b"minf", |b| {
                        media_info(b, *kind);
                        b.nest(b"stbl", |b| {
                            stsd(b, std::slice::from_ref(config));
                            for kind in [b"stts", b"stsc", b"stco"] {
                                b.full(kind, 0, 0, |b| b.u32(0));
                            }
                            b.full(b"stsz", 0, 0, |b| b.zeros(8));
                        });
                    });
                });
            });
        }
        b.nest(b"mvex", |b| {
            for (kind, ..) in configs {
                b.full(b"trex", 0, 0, |b| {
                    b.u32(super::track_id(*kind));
                    b.u32(1);
                    b.zeros(12);
                });
            }
        });
    });
    boxes.bytes
}

/// Plays a track to its end, but for as many samples at its beginning.
fn skip(boxes: &mut Boxes, samples: u32) {
    boxes.nest(b"edts", |b| {
        b.full(b"elst", 0, 0, |b| {
            b.u32(1);
            b.u32(0);
            b.u32(samples);
            b.u32(0x1_0000);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notes::Sample;
    use bytes::Bytes;
    use media::{AacConfig, MediaTime};
    use std::sync::Arc;

    /// Samples of 2 GiB each, which need not exist to be indexed.
    #[test]
    fn offsets_beyond_four_gibibytes_are_64_bits_wide() {
        let aac = AacConfig::parse(Bytes::from_static(&[0x12, 0x10])).unwrap();
        let config = CodecConfig::Aac(Arc::new(aac));
        let frame = |n: i64| {
            let dts = MediaTime(n * 2_090);
            Sample { track: TrackKind::Audio, dts, pts: dts, keyframe: true, size: 0 }
        };
        let mut track = Track::new(&frame(0), &config);
        let size = u64::from(u32::MAX >> 1);
        for count in [1u32, 2, 3] {
            track.push(&frame(count.into()), &config);
            let order = vec![(size as u32) << 1 | 1; count as usize];
            let tables = Tables { video: None, audio: Some(track), order };
            let bytes = head(&tables, size * u64::from(count), 0);
            let wide = bytes.windows(4).position(|window| window == b"co64");
            assert_eq!(wide.is_some(), count > 1, "{count} samples");
            if let Some(at) = wide {
                let offsets = bytes[at + 12..].chunks(8).take(count as usize);
                let offsets: Vec<u64> = offsets.map(|offset| u64::from_be_bytes(offset.try_into().unwrap())).collect();
                let expected: Vec<u64> = (0..u64::from(count)).map(|n| bytes.len() as u64 + n * size).collect();
                assert_eq!(offsets, expected);
            }
            let mdat = &bytes[bytes.len() - 16..];
            assert_eq!(mdat[..8], [0, 0, 0, 1, b'm', b'd', b'a', b't']);
            assert_eq!(u64::from_be_bytes(mdat[8..].try_into().unwrap()), size * u64::from(count) + 16);
            track = tables.audio.unwrap();
        }
    }
}
