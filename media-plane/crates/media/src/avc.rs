//! Parsing of H.264 configuration: AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1) and the SPS inside.

use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::BitReader;
use crate::{AvcConfig, ConfigError, h264};

/// No H.264 level allows a side longer than this; a bigger one is garbage, not a picture.
const MAX_SIDE: u32 = 16_384;
/// Sizes of scaling lists: six 4x4, then up to six 8x8.
const SCALING_LISTS: [u32; 12] = [16, 16, 16, 16, 16, 16, 64, 64, 64, 64, 64, 64];

/// Parameter sets take a few dozen bytes each; the record is kept whole.
const MAX_RECORD_BYTES: usize = 64 * 1024;

impl AvcConfig {
    /// Parses the `avcC` of a sequence header. Parameter sets in Annex B form, which a few encoders send instead, are
    /// accepted and turned into a record.
    pub fn parse(record: Bytes) -> Result<Self, ConfigError> {
        if record.len() > MAX_RECORD_BYTES {
            return Err(bad("longer than any configuration is"));
        }
        let (sps, pps, length_size, record) = if starts_with_start_code(&record) {
            let (sps, pps) = from_annex_b(&record);
            let record = build_record(&sps, &pps)?;
            (sps, pps, 4, record)
        } else {
            from_record(record)?
        };
        let first = sps.first().ok_or_else(|| bad("no sequence parameter set"))?;
        let picture = parse_sps(first).ok_or_else(|| bad("the sequence parameter set does not parse"))?;
        Ok(Self {
            record,
            length_size,
            width: picture.width,
            height: picture.height,
            profile: picture.profile,
            level: picture.level,
            sps,
            pps,
        })
    }
}

fn bad(problem: impl Into<String>) -> ConfigError {
    ConfigError { record: "avcC", problem: problem.into() }
}

fn starts_with_start_code(data: &[u8]) -> bool {
    data.starts_with(&[0, 0, 0, 1]) || data.starts_with(&[0, 0, 1])
}

type Parsed = (Vec<Bytes>, Vec<Bytes>, u8, Bytes);

fn from_record(record: Bytes) -> Result<Parsed, ConfigError> {
    let short = || bad("truncated");
    let &[version, _, _, _, sizes, counts, ..] = &record[..] else { return Err(short()) };
    if version != 1 {
        return Err(bad(format!("version {version}, not 1")));
    }
    let length_size = sizes & 3;
    if length_size == 2 {
        return Err(bad("NAL length size 3"));
    }
    let mut position = 6;
    let sps = read_sets(&record, &mut position, counts & 31).ok_or_else(short)?;
    let pps_count = *record.get(position).ok_or_else(short)?;
    position += 1;
    let pps = read_sets(&record, &mut position, pps_count).ok_or_else(short)?;
    let record = if length_size == 3 {
        record
    } else {
        // What we write has 4-byte lengths, so the record that goes with it must say so.
        let mut copy = BytesMut::from(&record[..]);
        if let Some(byte) = copy.get_mut(4) {
            *byte = sizes | 3;
        }
        copy.freeze()
    };
    Ok((sps, pps, length_size + 1, record))
}

fn read_sets(record: &Bytes, position: &mut usize, count: u8) -> Option<Vec<Bytes>> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let &[high, low] = record.get(*position..*position + 2)? else { return None };
        let start = *position + 2;
        let end = start + usize::from(u16::from_be_bytes([high, low]));
        if end > record.len() {
            return None;
        }
        if end > start {
            sets.push(record.slice(start..end));
        }
        *position = end;
    }
    Some(sets)
}

fn from_annex_b(data: &Bytes) -> (Vec<Bytes>, Vec<Bytes>) {
    let (mut sps, mut pps) = (Vec::new(), Vec::new());
    for nal in h264::annex_b_nals(data) {
        match h264::nal_type(nal) {
            Some(h264::SPS) => sps.push(data.slice_ref(nal)),
            Some(h264::PPS) => pps.push(data.slice_ref(nal)),
            _ => {}
        }
    }
    (sps, pps)
}

fn build_record(sps: &[Bytes], pps: &[Bytes]) -> Result<Bytes, ConfigError> {
    let Some(&[_, profile, compatibility, level, ..]) = sps.first().map(|set| &set[..]) else {
        return Err(bad("no sequence parameter set"));
    };
    let mut record = BytesMut::new();
    record.put_slice(&[1, profile, compatibility, level, 0xff]);
    for (sets, reserved, limit) in [(sps, 0xe0, 31), (pps, 0, 255)] {
        let count = sets.len();
        if count > limit || sets.iter().any(|set| set.len() > usize::from(u16::MAX)) {
            return Err(bad("too many or too large parameter sets"));
        }
        record.put_u8(reserved | count as u8);
        for set in sets {
            record.put_u16(set.len() as u16);
            record.put_slice(set);
        }
    }
    Ok(record.freeze())
}

/// What a sequence parameter set tells about the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Picture {
    profile: u8,
    level: u8,
    width: u32,
    height: u32,
}

/// ISO/IEC 14496-10, 7.3.2.1.1, up to the cropping rectangle.
fn parse_sps(nal: &[u8]) -> Option<Picture> {
    if h264::nal_type(nal)? != h264::SPS {
        return None;
    }
    let rbsp = h264::unescape(nal.get(1..)?);
    let mut r = BitReader::new(&rbsp);
    let profile = r.bits(8)? as u8;
    r.skip(8)?;
    let level = r.bits(8)? as u8;
    r.unsigned_golomb()?;
    let mut chroma_format = 1;
    let mut separate_planes = false;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma_format = r.unsigned_golomb()?;
        if chroma_format == 3 {
            separate_planes = r.bit()?;
        }
        r.unsigned_golomb()?;
        r.unsigned_golomb()?;
        r.skip(1)?;
        if r.bit()? {
            skip_scaling_lists(&mut r, chroma_format)?;
        }
    }
    r.unsigned_golomb()?;
    skip_picture_order(&mut r)?;
    r.unsigned_golomb()?;
    r.skip(1)?;
    let width_in_mbs = r.unsigned_golomb()?.checked_add(1)?;
    let height_in_units = r.unsigned_golomb()?.checked_add(1)?;
    let frame_mbs_only = r.bit()?;
    if !frame_mbs_only {
        r.skip(1)?;
    }
    r.skip(1)?;
    let fields = if frame_mbs_only { 1 } else { 2 };
    let width = width_in_mbs.checked_mul(16)?;
    let height = height_in_units.checked_mul(16 * fields)?;
    if width > MAX_SIDE || height > MAX_SIDE {
        return None;
    }
    let (mut crop_x, mut crop_y) = (0, 0);
    if r.bit()? {
        let (unit_x, unit_y) = match (chroma_format, separate_planes) {
            (1, _) => (2, 2),
            (2, _) => (2, 1),
            _ => (1, 1),
        };
        crop_x = r.unsigned_golomb()?.checked_add(r.unsigned_golomb()?)?.checked_mul(unit_x)?;
        crop_y = r.unsigned_golomb()?.checked_add(r.unsigned_golomb()?)?.checked_mul(unit_y * fields)?;
    }
    let width = width.checked_sub(crop_x).filter(|side| *side > 0)?;
    let height = height.checked_sub(crop_y).filter(|side| *side > 0)?;
    Some(Picture { profile, level, width, height })
}

fn skip_scaling_lists(r: &mut BitReader<'_>, chroma_format: u32) -> Option<()> {
    let lists = if chroma_format == 3 { 12 } else { 8 };
    for size in SCALING_LISTS.iter().take(lists) {
        if !r.bit()? {
            continue;
        }
        let (mut last, mut next) = (8i32, 8i32);
        for _ in 0..*size {
            if next != 0 {
                next = (last.checked_add(r.signed_golomb()?)?).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

fn skip_picture_order(r: &mut BitReader<'_>) -> Option<()> {
    match r.unsigned_golomb()? {
        0 => {
            r.unsigned_golomb()?;
        }
        1 => {
            r.skip(1)?;
            r.signed_golomb()?;
            r.signed_golomb()?;
            let cycle = r.unsigned_golomb()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                r.signed_golomb()?;
            }
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// x264, High, 640x360 with cropping 368 -> 360.
    const RECORD: &[u8] = &[
        0x01, 0x64, 0x00, 0x1e, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9,
        0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96, 0x01, 0x00,
        0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0,
    ];

    #[test]
    fn picture_size_is_what_remains_after_cropping() {
        let config = AvcConfig::parse(Bytes::from_static(RECORD)).unwrap();
        assert_eq!((config.width, config.height), (640, 360));
        assert_eq!((config.profile, config.level, config.length_size), (100, 30, 4));
        assert_eq!((config.sps.len(), config.pps.len()), (1, 1));
        assert_eq!(config.record, Bytes::from_static(RECORD));
    }

    #[test]
    fn shorter_length_sizes_are_normalised_in_the_record() {
        for (bits, size) in [(0xfc, 1), (0xfd, 2)] {
            let mut record = RECORD.to_vec();
            record[4] = bits;
            let config = AvcConfig::parse(record.into()).unwrap();
            assert_eq!(config.length_size, size);
            assert_eq!(config.record, Bytes::from_static(RECORD));
        }
        let mut record = RECORD.to_vec();
        record[4] = 0xfe;
        assert_eq!(AvcConfig::parse(record.into()).unwrap_err().problem, "NAL length size 3");
    }

    #[test]
    fn several_sets_are_all_kept() {
        let (sps, pps) = (&RECORD[8..34], &RECORD[37..]);
        let mut record = vec![1, 0x64, 0, 0x1e, 0xff, 0xe2];
        for set in [sps, sps] {
            record.extend((set.len() as u16).to_be_bytes());
            record.extend(set);
        }
        record.push(3);
        for set in [pps, pps, pps] {
            record.extend((set.len() as u16).to_be_bytes());
            record.extend(set);
        }
        let config = AvcConfig::parse(record.into()).unwrap();
        assert_eq!((config.sps.len(), config.pps.len()), (2, 3));
        assert_eq!(config.pps[2], Bytes::copy_from_slice(pps));
    }

    #[test]
    fn e11_annex_b_sequence_header_becomes_a_record() {
        let mut data = vec![0, 0, 0, 1];
        data.extend(&RECORD[8..34]);
        data.extend([0, 0, 1]);
        data.extend(&RECORD[37..]);
        let config = AvcConfig::parse(data.into()).unwrap();
        assert_eq!(config.record, Bytes::from_static(RECORD));
        assert_eq!((config.width, config.height), (640, 360));
    }

    #[test]
    fn every_truncation_is_an_error_not_a_panic() {
        for end in 0..RECORD.len() {
            assert!(AvcConfig::parse(Bytes::from_static(&RECORD[..end])).is_err(), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_sizes_stay_bounded(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(config) = AvcConfig::parse(data.into()) {
                prop_assert!(config.width <= MAX_SIDE && config.height <= MAX_SIDE);
            }
        }

        #[test]
        fn mutated_records_never_panic(at in 0..RECORD.len(), value in any::<u8>()) {
            let mut record = RECORD.to_vec();
            record[at] = value;
            let _ = AvcConfig::parse(record.into());
        }
    }
}
