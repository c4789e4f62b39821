//! H.264 access units: NAL units in and out of their wrappings, and the few questions the recorder asks of them.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::ConfigError;

/// `nal_unit_type` of a slice of an IDR picture.
pub const IDR: u8 = 5;
/// `nal_unit_type` of supplemental enhancement information.
pub const SEI: u8 = 6;
/// `nal_unit_type` of a sequence parameter set.
pub const SPS: u8 = 7;
/// `nal_unit_type` of a picture parameter set.
pub const PPS: u8 = 8;
/// `nal_unit_type` of an access unit delimiter.
pub const AUD: u8 = 9;

/// SEI payload type "recovery point" (ISO/IEC 14496-10, D.1.7).
const RECOVERY_POINT: u32 = 6;
/// Length prefix of every NAL unit inside the recorder.
const PREFIX: usize = 4;

/// `nal_unit_type` of a NAL unit; `None` when it is empty.
pub fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|header| header & 31)
}

/// NAL units of a normalised access unit (4-byte lengths). Ends early at the first length that does not fit.
pub fn nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    LengthPrefixed { rest: data, size: PREFIX }
}

/// NAL units of a byte stream with start codes (ISO/IEC 14496-10, Annex B), without trailing zero bytes.
pub fn annex_b_nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    AnnexB { rest: after_start_code(data) }
}

/// Brings the payload of an AVC packet to 4-byte NAL lengths.
///
/// `length_size` is what the publisher's record announced. Empty NAL units are dropped, Annex B payload is accepted
/// (some encoders send it in AVC packets), up to three trailing zero bytes are forgiven. Clean input comes back as the
/// same memory. The result is empty when there was nothing but empty units.
pub fn normalise(data: Bytes, length_size: u8) -> Result<Bytes, ConfigError> {
    let size = usize::from(length_size);
    let mut units = LengthPrefixed { rest: &data, size };
    let (mut count, mut total, mut clean) = (0usize, 0usize, size == PREFIX);
    for nal in units.by_ref() {
        count += 1;
        total += nal.len() + PREFIX;
        if nal.is_empty() {
            clean = false;
            (count, total) = (count - 1, total - PREFIX);
        }
    }
    let left = units.rest;
    if left.len() < PREFIX && left.iter().all(|byte| *byte == 0) {
        if clean {
            return Ok(data.slice(..data.len() - left.len()));
        }
        return Ok(join(LengthPrefixed { rest: &data, size }, total));
    }
    if starts_with_start_code(&data) {
        let total = annex_b_nals(&data).map(|nal| nal.len() + PREFIX).sum();
        return Ok(join(annex_b_nals(&data), total));
    }
    let problem = format!("NAL unit {count} is longer than the payload of {} bytes", data.len());
    Err(ConfigError { record: "AVC payload", problem })
}

/// A decoder can start here: an IDR picture, or a recovery point (open GOP and intra refresh have no other).
pub fn is_keyframe(data: &[u8]) -> bool {
    nals(data).any(|nal| match nal_type(nal) {
        Some(IDR) => true,
        Some(SEI) => has_recovery_point(nal.get(1..).unwrap_or_default()),
        _ => false,
    })
}

/// There is a coded slice inside.
pub fn contains_vcl(data: &[u8]) -> bool {
    nals(data).any(|nal| matches!(nal_type(nal), Some(1..=IDR)))
}

/// There is a sequence parameter set in band.
pub fn contains_sps(data: &[u8]) -> bool {
    nals(data).any(|nal| nal_type(nal) == Some(SPS))
}

/// Whether this payload begins an access unit (ISO/IEC 14496-10, 7.4.1.2.3), or goes on with the one before it: a
/// further slice (`first_mb_in_slice` > 0), filler, or an end of sequence.
pub fn starts_new_access_unit(data: &[u8]) -> bool {
    nals(data)
        .find_map(|nal| match nal_type(nal)? {
            SEI..=AUD | 14..=18 => Some(true),
            // ue(v) 0 is a single 1 bit, so the first slice of a picture has it on top.
            1 | 2 | IDR => Some(nal.get(1).is_some_and(|byte| byte & 0x80 != 0)),
            3 | 4 | 19..=21 => Some(false),
            _ => None,
        })
        .unwrap_or(false)
}

/// Removes emulation prevention bytes (ISO/IEC 14496-10, 7.3.1).
pub(crate) fn unescape(data: &[u8]) -> Cow<'_, [u8]> {
    if !data.windows(3).any(|window| window == [0, 0, 3]) {
        return Cow::Borrowed(data);
    }
    let mut out = Vec::with_capacity(data.len());
    let mut zeros = 0;
    for &byte in data {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    Cow::Owned(out)
}

/// Whether these SEI messages, after the NAL unit's header, hold a recovery point; H.265 gives it the same number.
pub(crate) fn has_recovery_point(messages: &[u8]) -> bool {
    let rbsp = unescape(messages);
    let mut rest = &rbsp[..];
    // The last byte is the trailing bits; a message takes at least two.
    while rest.len() > 2 {
        let (Some(kind), Some(size)) = (sei_number(&mut rest), sei_number(&mut rest)) else { return false };
        if kind == RECOVERY_POINT {
            return true;
        }
        rest = rest.get(size as usize..).unwrap_or_default();
    }
    false
}

/// A number as bytes of 255 and a last smaller one.
fn sei_number(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value = value.checked_add(u32::from(byte))?;
        if byte != 255 {
            return Some(value);
        }
    }
}

fn join<'a>(nals: impl Iterator<Item = &'a [u8]>, total: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(total);
    for nal in nals.filter(|nal| !nal.is_empty()) {
        out.put_u32(nal.len() as u32);
        out.put_slice(nal);
    }
    out.freeze()
}

pub(crate) fn starts_with_start_code(data: &[u8]) -> bool {
    data.starts_with(&[0, 0, 0, 1]) || data.starts_with(&[0, 0, 1])
}

struct LengthPrefixed<'a> {
    rest: &'a [u8],
    size: usize,
}

impl<'a> Iterator for LengthPrefixed<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (prefix, tail) = self.rest.split_at_checked(self.size)?;
        let length = prefix.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
        if prefix.is_empty() {
            return None;
        }
        let (nal, rest) = tail.split_at_checked(length)?;
        self.rest = rest;
        Some(nal)
    }
}

struct AnnexB<'a> {
    /// What follows a start code, if one was found.
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for AnnexB<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let data = self.rest?;
        let end = data.windows(3).position(|window| window == [0, 0, 1]);
        let nal = data.get(..end.unwrap_or(data.len()))?;
        self.rest = end.and_then(|end| data.get(end + 3..));
        let length = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        nal.get(..length)
    }
}

fn after_start_code(data: &[u8]) -> Option<&[u8]> {
    let start = data.windows(3).position(|window| window == [0, 0, 1])?;
    data.get(start + 3..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(nals: &[&[u8]]) -> Bytes {
        let mut out = BytesMut::new();
        for nal in nals {
            out.put_u32(nal.len() as u32);
            out.put_slice(nal);
        }
        out.freeze()
    }

    #[test]
    fn clean_payload_is_not_copied() {
        let data = unit(&[&[0x09, 0xf0], &[0x65, 0x88, 1]]);
        let out = normalise(data.clone(), 4).unwrap();
        assert_eq!(out.as_ptr(), data.as_ptr());
        assert_eq!(out, data);
    }

    #[test]
    fn e11_length_sizes_empty_units_and_padding() {
        assert_eq!(
            normalise(Bytes::from_static(&[2, 0x65, 0x88, 0, 1, 0x0a]), 1).unwrap(),
            unit(&[&[0x65, 0x88], &[0x0a]])
        );
        assert_eq!(normalise(Bytes::from_static(&[0, 2, 0x65, 0x88]), 2).unwrap(), unit(&[&[0x65, 0x88]]));
        assert_eq!(normalise(unit(&[&[], &[0x65, 0x88], &[]]), 4).unwrap(), unit(&[&[0x65, 0x88]]));
        assert_eq!(normalise(unit(&[&[]]), 4).unwrap(), Bytes::new());
        let padded = [&unit(&[&[0x65, 0x88]])[..], &[0, 0]].concat();
        assert_eq!(normalise(padded.into(), 4).unwrap(), unit(&[&[0x65, 0x88]]));
    }

    #[test]
    fn e11_annex_b_payload_in_an_avc_packet() {
        let data = Bytes::from_static(&[0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x65, 0x88, 0x80]);
        assert_eq!(normalise(data, 4).unwrap(), unit(&[&[9, 0xf0], &[0x67, 1, 2], &[0x65, 0x88, 0x80]]));
    }

    #[test]
    fn overlong_units_are_refused() {
        let error = normalise(Bytes::from_static(&[0, 0, 0, 9, 0x65]), 4).unwrap_err();
        assert_eq!(error.to_string(), "AVC payload: NAL unit 0 is longer than the payload of 5 bytes");
        assert!(normalise(Bytes::from_static(&[1, 2, 3]), 0).is_err());
    }

    #[test]
    fn e12_recovery_point_is_a_key_frame() {
        let other: &[u8] = &[6, 5, 3, 1, 2, 3, 0x80];
        let recovery: &[u8] = &[6, 5, 3, 1, 2, 3, 6, 1, 0x84, 0x80];
        assert!(!is_keyframe(&unit(&[other, &[0x41, 0x9a]])));
        assert!(is_keyframe(&unit(&[recovery, &[0x41, 0x9a]])));
        assert!(is_keyframe(&unit(&[&[0x65, 0x88]])));
        assert!(!is_keyframe(&unit(&[&[0x67, 1], &[0x68, 1], &[0x41, 0x9a]])));
    }

    #[test]
    fn e6_access_unit_borders() {
        assert!(starts_new_access_unit(&unit(&[&[9, 0xf0]])));
        assert!(starts_new_access_unit(&unit(&[&[0x41, 0x9a]])));
        assert!(!starts_new_access_unit(&unit(&[&[0x41, 0x5a]])));
        assert!(!starts_new_access_unit(&unit(&[&[0x0a]])));
        assert!(!starts_new_access_unit(&unit(&[&[0x0c, 0xff], &[0x41, 0x5a]])));
        assert!(contains_vcl(&unit(&[&[6, 1], &[0x41, 0x5a]])));
        assert!(!contains_vcl(&unit(&[&[6, 1], &[9, 0xf0]])));
        assert!(contains_sps(&unit(&[&[0x67, 1]])));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(data in proptest::collection::vec(any::<u8>(), 0..300), size in 0u8..6) {
            let bytes = Bytes::from(data);
            if let Ok(out) = normalise(bytes, size) {
                let _ = (is_keyframe(&out), contains_vcl(&out), starts_new_access_unit(&out));
                let walked: usize = nals(&out).map(|nal| nal.len() + 4).sum();
                prop_assert_eq!(walked, out.len());
                prop_assert!(nals(&out).all(|nal| !nal.is_empty()));
            }
        }

        #[test]
        fn length_prefixed_units_survive_any_length_size(
            units in proptest::collection::vec(proptest::collection::vec(1u8..=255, 1..60), 1..6),
            size in prop::sample::select(vec![1usize, 2, 4]),
        ) {
            let mut data = Vec::new();
            for nal in &units {
                data.extend(&(nal.len() as u32).to_be_bytes()[4 - size..]);
                data.extend(nal);
            }
            let out = normalise(data.into(), size as u8).unwrap();
            let back: Vec<Vec<u8>> = nals(&out).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(back, units);
        }
    }
}
