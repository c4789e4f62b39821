//! H.265 access units: the kinds of NAL units (ITU-T H.265, table 7-1) and what the recorder asks of them.

use bytes::Bytes;

use crate::{ConfigError, h264};

pub use crate::h264::{annex_b_nals, nals};

/// `nal_unit_type` of a slice of an IDR picture that leading pictures may follow; the one after it has none.
pub const IDR_W_RADL: u8 = 19;
/// `nal_unit_type` of a slice of a clean random access picture: where an open group of pictures begins.
pub const CRA: u8 = 21;
/// `nal_unit_type` of a video parameter set.
pub const VPS: u8 = 32;
/// `nal_unit_type` of a sequence parameter set.
pub const SPS: u8 = 33;
/// `nal_unit_type` of a picture parameter set.
pub const PPS: u8 = 34;
/// `nal_unit_type` of an access unit delimiter.
pub const AUD: u8 = 35;
/// `nal_unit_type` of supplemental enhancement information before its picture.
pub const PREFIX_SEI: u8 = 39;

/// First and last `nal_unit_type` of an intra random access point: BLA, IDR and CRA pictures.
const RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=CRA;
/// Last `nal_unit_type` of a coded slice.
const LAST_VCL: u8 = 31;

/// `nal_unit_type` of a NAL unit; `None` when it is empty.
pub fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|header| header >> 1 & 63)
}

/// `nuh_layer_id` of a NAL unit: 0 for the base layer, the only one that is described; `None` when it is cut short.
pub fn layer(nal: &[u8]) -> Option<u8> {
    let &[high, low, ..] = nal else { return None };
    Some((high & 1) << 5 | low >> 3)
}

/// Brings the payload of an HEVC packet to 4-byte NAL lengths, as [`h264::normalise`] does.
///
/// # Errors
/// When the NAL units do not add up.
pub fn normalise(data: Bytes, length_size: u8) -> Result<Bytes, ConfigError> {
    h264::normalise(data, length_size).map_err(|error| ConfigError { record: "HEVC payload", ..error })
}

/// A decoder can start here: a random access point, or a recovery point (gradual refresh has no other).
pub fn is_keyframe(data: &[u8]) -> bool {
    nals(data).any(|nal| match nal_type(nal) {
        Some(PREFIX_SEI) => h264::has_recovery_point(nal.get(2..).unwrap_or_default()),
        Some(kind) => RANDOM_ACCESS.contains(&kind),
        None => false,
    })
}

/// There is a coded slice inside.
pub fn contains_vcl(data: &[u8]) -> bool {
    nals(data).any(|nal| nal_type(nal).is_some_and(|kind| kind <= LAST_VCL))
}

/// There is a sequence parameter set in band.
pub fn contains_sps(data: &[u8]) -> bool {
    nals(data).any(|nal| nal_type(nal) == Some(SPS))
}

/// Whether this payload begins an access unit (ITU-T H.265, 7.4.2.4.4), or goes on with the one before it: a further
/// slice segment, a suffix SEI, filler, or an end of sequence.
pub fn starts_new_access_unit(data: &[u8]) -> bool {
    nals(data)
        .find_map(|nal| match nal_type(nal)? {
            // `first_slice_segment_in_pic_flag` is the first bit after the header of two bytes.
            0..=LAST_VCL => Some(nal.get(2).is_some_and(|byte| byte & 0x80 != 0)),
            VPS..=AUD | PREFIX_SEI | 41..=44 | 48..=55 => Some(true),
            36..=38 | 40 => Some(false),
            _ => None,
        })
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
    }

    #[test]
    fn random_access_and_recovery_points_are_key_frames() {
        for kind in [16, 17, 18, IDR_W_RADL, 20, CRA] {
            assert!(is_keyframe(&unit(&[&[AUD << 1, 1, 0x10], &[kind << 1, 1, 0xa0]])), "{kind}");
        }
        for kind in [0, 1, 8, 9, 22] {
            assert!(!is_keyframe(&unit(&[&[VPS << 1, 1, 7], &[kind << 1, 1, 0xa0]])), "{kind}");
        }
        let recovery: &[u8] = &[PREFIX_SEI << 1, 1, 5, 1, 9, 6, 1, 0xc0, 0x80];
        assert!(is_keyframe(&unit(&[recovery, &[2, 1, 0x80]])));
        assert!(!is_keyframe(&unit(&[&[PREFIX_SEI << 1, 1, 5, 1, 9, 0x80], &[2, 1, 0x80]])));
    }

    #[test]
    fn borders_of_access_units() {
        assert!(starts_new_access_unit(&unit(&[&[AUD << 1, 1, 0x10]])));
        assert!(starts_new_access_unit(&unit(&[&[2, 1, 0x80]])));
        assert!(!starts_new_access_unit(&unit(&[&[2, 1, 0x40]])));
        assert!(!starts_new_access_unit(&unit(&[&[40 << 1, 1, 1], &[2, 1, 0x40]])));
        assert!(contains_vcl(&unit(&[&[2, 1, 0x40]])) && !contains_vcl(&unit(&[&[SPS << 1, 1]])));
        assert!(contains_sps(&unit(&[&[SPS << 1, 1]])));
        assert_eq!((layer(&[0x41, 0x09]), layer(&[0x40])), (Some(33), None));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(data in proptest::collection::vec(any::<u8>(), 0..200), size in 0u8..6) {
            if let Ok(out) = normalise(data.into(), size) {
                let _ = (is_keyframe(&out), contains_vcl(&out), starts_new_access_unit(&out));
            }
        }
    }
}
