use proptest::prelude::*;

use super::*;

/// Profile 0, 322x182, as libvpx begins them.
const VP9: &[u8] = &[0x82, 0x49, 0x83, 0x42, 0x00, 0x14, 0x10, 0x0b, 0x50, 0, 0];
const VP8: &[u8] = &[0x10, 0x35, 0x00, 0x9d, 0x01, 0x2a, 0x42, 0x01, 0xb6, 0x00, 0, 7];
/// As ffmpeg writes `vpcC`, version and flags included.
const RECORD: &[u8] = &[1, 0, 0, 0, 0, 0x0b, 0x82, 2, 2, 2, 0, 0];

#[test]
fn key_frames_tell_size_and_profile() {
    for config in [VpxConfig::from_vp9_keyframe(VP9).unwrap(), VpxConfig::from_vp8_keyframe(VP8).unwrap()] {
        assert_eq!((config.width, config.height, config.profile, config.level), (322, 182, 0, 11));
        assert_eq!((config.record.len(), config.record[2]), (8, 0x82));
    }
    assert!(is_vp9_keyframe(VP9) && is_vp8_keyframe(VP8));
}

#[test]
fn other_frames_are_not_key_frames() {
    // Not a key frame; shown again; no sync code; cut short.
    for (at, value) in [(0, 0x86), (0, 0x8a), (1, 0x48)] {
        let mut frame = VP9.to_vec();
        frame[at] = value;
        assert!(!is_vp9_keyframe(&frame), "{at}");
    }
    assert!(!is_vp9_keyframe(&VP9[..8]) && !is_vp8_keyframe(&VP8[..9]));
    assert!(!is_vp8_keyframe(&[&[0x11], &VP8[1..]].concat()));
    assert!(!is_vp8_keyframe(&[&VP8[..6], &[0, 0], &VP8[8..]].concat()), "no width");
}

#[test]
fn ten_bits_are_profile_two() {
    // Profile 2, 10 bits, BT.709, 64x64.
    let frame = [0x92, 0x49, 0x83, 0x42, 0x20, 0x01, 0xf8, 0x01, 0xf8];
    let config = VpxConfig::from_vp9_keyframe(&frame).unwrap();
    assert_eq!((config.width, config.height, config.profile), (64, 64, 2));
    assert_eq!(config.record[2..6], [0xa2, 2, 2, 1]);
}

/// As ffmpeg made them of libvpx's VP9, all of 322x182.
#[test]
fn records_of_every_profile_are_made_alike() {
    const RECORDS: [(&str, &[u8], &[u8]); 3] = [
        (
            "4:4:4",
            &[0x01, 0x0b, 0x86, 0x02, 0x02, 0x02, 0x00, 0x00],
            &[0xa2, 0x49, 0x83, 0x42, 0x00, 0x02, 0x82, 0x01, 0x6a, 0xc0, 0x87, 0x04],
        ),
        (
            "10 bits",
            &[0x02, 0x0b, 0xa2, 0x02, 0x02, 0x02, 0x00, 0x00],
            &[0x92, 0x49, 0x83, 0x42, 0x00, 0x0a, 0x08, 0x05, 0xab, 0x02, 0x1c, 0x12],
        ),
        (
            "4:2:2",
            &[0x01, 0x0b, 0x84, 0x02, 0x02, 0x02, 0x00, 0x00],
            &[0xa2, 0x49, 0x83, 0x42, 0x08, 0x02, 0x82, 0x01, 0x6a, 0xc0, 0x87, 0x04],
        ),
    ];
    for (what, record, frame) in RECORDS {
        let config = VpxConfig::from_vp9_keyframe(frame).unwrap();
        assert_eq!((config.width, config.height), (322, 182), "{what}");
        assert_eq!(config.record, record, "{what}");
    }
}

#[test]
fn a_record_is_kept_where_it_agrees() {
    let announced = VpxConfig::parse(RECORD).unwrap();
    assert_eq!((&announced.record[..], announced.level, announced.width), (&RECORD[4..], 11, 0));
    assert_eq!(VpxConfig::parse(&RECORD[4..]).unwrap(), announced);
    let seen = VpxConfig::from_vp9_keyframe(VP9).unwrap();
    let mut other = RECORD.to_vec();
    (other[5], other[7]) = (41, 9);
    let told = seen.clone().with_record_of(&VpxConfig::parse(&other).unwrap());
    assert_eq!((&told.record[..], told.level, told.width), (&other[4..], 41, 322));
    other[4] = 1;
    assert_eq!(seen.clone().with_record_of(&VpxConfig::parse(&other).unwrap()), seen);
    assert!(VpxConfig::parse(&RECORD[..11]).is_err() && VpxConfig::parse(&[9; 8]).is_err());
}

proptest! {
    #[test]
    fn garbage_never_panics(data in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = (VpxConfig::parse(&data), is_vp8_keyframe(&data), is_vp9_keyframe(&data));
        let _ = VpxConfig::from_vp9_keyframe(&[VP9.get(..4).unwrap(), &data].concat());
    }
}
