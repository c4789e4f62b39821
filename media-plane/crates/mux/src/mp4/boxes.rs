//! ISO base media boxes (ISO/IEC 14496-12): nesting, and the ones that both layouts share.

use std::time::{SystemTime, UNIX_EPOCH};

use media::{AacConfig, CodecConfig, OpusConfig, TrackKind, h265, opus};

/// Ticks per second of the movie header and of edits: the timeline's own, so that offsets are exact.
pub(super) const MOVIE_SCALE: u32 = 90_000;
/// Track ids: also the order of tracks.
pub(super) const VIDEO_ID: u32 = 1;
/// See [`VIDEO_ID`].
pub(super) const AUDIO_ID: u32 = 2;
/// Seconds from 1904, where MP4 counts from, to 1970.
const EPOCH_1904: u64 = 2_082_844_800;
/// "und" in packed ISO 639-2 letters.
const UNDETERMINED: u16 = 0x55c4;
/// The unit matrix of headers, 16.16 and 2.30 fixed point.
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// Bytes with boxes being nested into them.
#[derive(Debug, Default)]
pub(super) struct Boxes {
    pub(super) bytes: Vec<u8>,
}

impl Boxes {
    pub(super) fn nest(&mut self, kind: &[u8; 4], inner: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u32(0);
        self.bytes.extend_from_slice(kind);
        inner(self);
        let size = self.bytes.len() - start;
        self.patch(start, u32::try_from(size).unwrap_or(u32::MAX));
    }

    /// A box with version and flags.
    pub(super) fn full(&mut self, kind: &[u8; 4], version: u8, flags: u32, inner: impl FnOnce(&mut Self)) {
        self.nest(kind, |boxes| {
            boxes.u32(u32::from(version) << 24 | flags);
            inner(boxes);
        });
    }

    /// Overwrites four bytes.
    pub(super) fn patch(&mut self, at: usize, value: u32) {
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// 32 or 64 bits, as the version of the box says.
    pub(super) fn sized(&mut self, wide: bool, value: u64) {
        if wide { self.u64(value) } else { self.u32(u32::try_from(value).unwrap_or(u32::MAX)) }
    }
}

/// The version of a box whose times are this large.
pub(super) fn is_wide(time: u64) -> bool {
    time > u64::from(u32::MAX)
}

/// Seconds since 1904; 0 when unknown or before.
pub(crate) fn creation_time(wall: Option<SystemTime>) -> u64 {
    let since = wall.and_then(|wall| wall.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs() + EPOCH_1904).min(u64::from(u32::MAX))
}

pub(super) fn mvhd(boxes: &mut Boxes, created: u64, duration: u64) {
    let wide = is_wide(duration);
    boxes.full(b"mvhd", wide.into(), 0, |b| {
        b.sized(wide, created);
        b.sized(wide, created);
        b.u32(MOVIE_SCALE);
        b.sized(wide, duration);
        b.u32(0x1_0000);
        b.u16(0x100);
        b.zeros(10);
        MATRIX.iter().for_each(|value| b.u32(*value));
        b.zeros(24);
        b.u32(AUDIO_ID + 1);
    });
}

/// `duration` in movie ticks.
pub(super) fn tkhd(boxes: &mut Boxes, kind: TrackKind, created: u64, duration: u64, config: Option<&CodecConfig>) {
    let wide = is_wide(duration);
    let (id, volume) = match kind {
        TrackKind::Video => (VIDEO_ID, 0),
        TrackKind::Audio => (AUDIO_ID, 0x100),
    };
    let (width, height) = config.and_then(CodecConfig::picture_size).unwrap_or_default();
    // Enabled, in movie.
    boxes.full(b"tkhd", wide.into(), 3, |b| {
        b.sized(wide, created);
        b.sized(wide, created);
        b.u32(id);
        b.u32(0);
        b.sized(wide, duration);
        b.zeros(8);
        b.u16(0);
        b.u16(if kind == TrackKind::Audio { 1 } else { 0 });
        b.u16(volume);
        b.u16(0);
        MATRIX.iter().for_each(|value| b.u32(*value));
        // 16.16 fixed point.
        b.u32(width.min(u16::MAX.into()) << 16);
        b.u32(height.min(u16::MAX.into()) << 16);
    });
}

pub(super) fn mdhd(boxes: &mut Boxes, created: u64, scale: u32, duration: u64) {
    let wide = is_wide(duration);
    boxes.full(b"mdhd", wide.into(), 0, |b| {
        b.sized(wide, created);
        b.sized(wide, created);
        b.u32(scale);
        b.sized(wide, duration);
        b.u16(UNDETERMINED);
        b.u16(0);
    });
}

pub(super) fn hdlr(boxes: &mut Boxes, kind: TrackKind) {
    let (handler, name): (&[u8; 4], &[u8]) = match kind {
        TrackKind::Video => (b"vide", b"video\0"),
        TrackKind::Audio => (b"soun", b"audio\0"),
    };
    boxes.full(b"hdlr", 0, 0, |b| {
        b.u32(0);
        b.put(handler);
        b.zeros(12);
        b.put(name);
    });
}

/// Media header of the kind and "the data is in this file".
pub(super) fn media_info(boxes: &mut Boxes, kind: TrackKind) {
    match kind {
        TrackKind::Video => boxes.full(b"vmhd", 0, 1, |b| b.zeros(8)),
        TrackKind::Audio => boxes.full(b"smhd", 0, 0, |b| b.zeros(4)),
    }
    boxes.nest(b"dinf", |b| {
        b.full(b"dref", 0, 0, |b| {
            b.u32(1);
            b.full(b"url ", 0, 1, |_| {});
        });
    });
}

/// Sample descriptions, one per configuration.
pub(super) fn stsd(boxes: &mut Boxes, configs: &[CodecConfig]) {
    boxes.full(b"stsd", 0, 0, |b| {
        b.u32(configs.len() as u32);
        for config in configs {
            let size = config.picture_size().unwrap_or_default();
            match config {
                CodecConfig::Avc(avc) => picture(b, b"avc1", size, |b| b.nest(b"avcC", |b| b.put(&avc.record))),
                CodecConfig::Hevc(hevc) => picture(b, b"hvc1", size, |b| b.nest(b"hvcC", |b| hvcc(b, &hevc.record))),
                CodecConfig::Av1(av1) => picture(b, b"av01", size, |b| b.nest(b"av1C", |b| b.put(&av1.record))),
                CodecConfig::Vp8(vpx) => picture(b, b"vp08", size, |b| vpcc(b, &vpx.record)),
                CodecConfig::Vp9(vpx) => picture(b, b"vp09", size, |b| vpcc(b, &vpx.record)),
                CodecConfig::Aac(aac) => mp4a(b, aac),
                CodecConfig::Opus(config) => opus(b, config),
                CodecConfig::Unsupported(_) => {}
            }
        }
    });
}

/// A sample entry of pictures, with the box that holds the decoder's configuration.
fn picture(boxes: &mut Boxes, kind: &[u8; 4], (width, height): (u32, u32), configuration: impl FnOnce(&mut Boxes)) {
    boxes.nest(kind, |b| {
        b.zeros(6);
        b.u16(1);
        b.zeros(16);
        b.u16(u16::try_from(width).unwrap_or(u16::MAX));
        b.u16(u16::try_from(height).unwrap_or(u16::MAX));
        b.u32(0x48_0000);
        b.u32(0x48_0000);
        b.u32(0);
        b.u16(1);
        b.zeros(32);
        b.u16(24);
        b.u16(u16::MAX);
        configuration(b);
    });
}

/// VP Codec ISO Media File Format Binding: the only configuration with version and flags.
fn vpcc(boxes: &mut Boxes, record: &[u8]) {
    boxes.full(b"vpcC", 1, 0, |b| b.put(record));
}

/// `hvc1` promises that the parameter sets in the record are all there are (ISO/IEC 14496-15, 8.4.1.1.1), which records of
/// live encoders leave open.
fn hvcc(boxes: &mut Boxes, record: &[u8]) {
    /// Where the first array begins, and the bit of an array that is complete.
    const ARRAYS: usize = 23;
    const COMPLETE: u8 = 0x80;
    let start = boxes.bytes.len();
    boxes.put(record);
    let Some(copy) = boxes.bytes.get_mut(start..) else { return };
    let mut at = ARRAYS;
    while let Some(&mut [ref mut kind, high, low]) = copy.get_mut(at..at + 3) {
        if (h265::VPS..=h265::PPS).contains(&(*kind & 63)) {
            *kind |= COMPLETE;
        }
        at += 3;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let Some(&[high, low]) = copy.get(at..at + 2) else { return };
            at += 2 + usize::from(u16::from_be_bytes([high, low]));
        }
    }
}

/// What sample entries of sound begin with.
fn sound_entry(boxes: &mut Boxes, channels: u8, sample_rate: u32) {
    boxes.zeros(6);
    boxes.u16(1);
    boxes.zeros(8);
    boxes.u16(channels.into());
    boxes.u16(16);
    boxes.u32(0);
    // 16.16 fixed point holds rates below 65536; the decoder reads the real one from its configuration.
    boxes.u32(u16::try_from(sample_rate).map_or(0, |rate| u32::from(rate) << 16));
}

/// Encapsulation of Opus in ISO Base Media File Format, 4.3.
fn opus(boxes: &mut Boxes, config: &OpusConfig) {
    boxes.nest(b"Opus", |b| {
        sound_entry(b, config.channels, opus::SAMPLE_RATE);
        b.nest(b"dOps", |b| {
            b.put(&[0, config.channels]);
            b.u16(pre_skip(config));
            b.u32(config.sample_rate_in);
            // No gain; one stream, mono or stereo.
            b.u16(0);
            b.u8(0);
        });
    });
}

/// Samples that a decoder drops at the very beginning.
pub(super) fn pre_skip(config: &OpusConfig) -> u16 {
    if config.pre_skip == 0 { opus::LOOK_AHEAD } else { config.pre_skip }
}

fn mp4a(boxes: &mut Boxes, aac: &AacConfig) {
    boxes.nest(b"mp4a", |b| {
        sound_entry(b, aac.channels, aac.sample_rate);
        b.full(b"esds", 0, 0, |b| {
            // ES descriptor { decoder config { decoder specific info }, SL config }, ISO/IEC 14496-1.
            let asc = aac.asc.len();
            descriptor(b, 3, 3 + 5 + 13 + 5 + asc + 5 + 1);
            b.u16(AUDIO_ID as u16);
            b.u8(0);
            descriptor(b, 4, 13 + 5 + asc);
            b.put(&[0x40, 0x15, 0, 0, 0]);
            b.u32(0);
            b.u32(0);
            descriptor(b, 5, asc);
            b.put(&aac.asc);
            descriptor(b, 6, 1);
            b.u8(2);
        });
    });
}

/// Tag and size in the four-byte form.
fn descriptor(boxes: &mut Boxes, tag: u8, size: usize) {
    boxes.u8(tag);
    for shift in [21, 14, 7] {
        boxes.u8((size >> shift) as u8 & 0x7f | 0x80);
    }
    boxes.u8(size as u8 & 0x7f);
}
