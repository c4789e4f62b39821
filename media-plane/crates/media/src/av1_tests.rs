use proptest::prelude::*;

use super::*;

/// libaom, Main, 322x182.
const RECORD: &[u8] = &[0x81, 0, 0x0c, 0, 0x0a, 0x0b, 0, 0, 0, 4, 0x3d, 6, 0xd4, 0xda, 0xf9, 0, 0x40];
const DELIMITER: &[u8] = &[0x12, 0];
/// A frame OBU with its size: first byte of the frame header, then something.
fn frame(header: u8) -> Vec<u8> {
    vec![0x32, 3, header, 7, 7]
}

#[test]
fn a_record_and_a_sequence_header_tell_the_same() {
    let config = Av1Config::parse(Bytes::from_static(RECORD)).unwrap();
    assert_eq!((config.width, config.height, config.profile, config.level), (322, 182, 0, 0));
    assert_eq!(config.record, RECORD);
    assert_eq!(config.sequence_header, &RECORD[4..]);
    assert_eq!(Av1Config::from_sequence_header(&RECORD[4..]).unwrap(), config);
    let without_size = [&[0x08], &RECORD[6..]].concat();
    assert_eq!(Av1Config::from_sequence_header(&without_size).unwrap(), config);
}

/// As ffmpeg made them of encoders' sequence headers, all of 322x182.
#[test]
fn records_of_every_profile_and_encoder_are_made_alike() {
    const RECORDS: [(&str, &[u8]); 5] = [
        (
            "SVT-AV1, 10 bits",
            &[0x81, 0x00, 0x4c, 0x00, 0x0a, 0x0b, 0x00, 0x00, 0x00, 0x04, 0x3d, 0x06, 0xd4, 0x02, 0xf8, 0x40, 0x40],
        ),
        (
            "libaom, High, 4:4:4",
            &[0x81, 0x20, 0x00, 0x00, 0x0a, 0x0a, 0x20, 0x00, 0x00, 0x04, 0x3d, 0x06, 0xd4, 0xda, 0xf9, 0x02],
        ),
        (
            "libaom, monochrome",
            &[0x81, 0x00, 0x1c, 0x00, 0x0a, 0x0a, 0x00, 0x00, 0x00, 0x04, 0x3d, 0x06, 0xd4, 0xda, 0xf9, 0x2a],
        ),
        (
            "rav1e, 4:2:0",
            &[
                0x81, 0x1f, 0x0c, 0x00, 0x0a, 0x0e, 0x00, 0x00, 0x00, 0xfa, 0x1e, 0x83, 0x6a, 0x21, 0x0a, 0x88, 0x10,
                0x10, 0x10, 0xa0,
            ],
        ),
        (
            "libaom, Professional, 4:2:2, 12 bits",
            &[0x81, 0x40, 0x68, 0x00, 0x0a, 0x0b, 0x40, 0x00, 0x00, 0x04, 0x3d, 0x06, 0xd4, 0xda, 0xf9, 0x62, 0x20],
        ),
    ];
    for (what, record) in RECORDS {
        let config = Av1Config::from_sequence_header(&record[4..]).unwrap();
        assert_eq!((config.width, config.height), (322, 182), "{what}");
        assert_eq!(config.record, record, "{what}");
    }
}

#[test]
fn records_without_sequence_header_or_of_another_version_are_refused() {
    let problem = |record: &[u8]| Av1Config::parse(Bytes::copy_from_slice(record)).unwrap_err().problem;
    assert_eq!(problem(&RECORD[..4]), "no sequence header");
    assert_eq!(problem(&[&[0x80], &RECORD[1..]].concat()), "marker and version 0x80, not 0x81");
    for end in 0..RECORD.len() - 1 {
        assert!(Av1Config::parse(Bytes::copy_from_slice(&RECORD[..end])).is_err(), "{end} bytes");
    }
}

#[test]
fn delimiters_and_padding_are_dropped_and_clean_units_not_copied() {
    let clean = [&RECORD[4..], &frame(0x10)[..]].concat();
    let data = Bytes::from([DELIMITER, &clean].concat());
    let out = normalise(data.clone()).unwrap();
    assert_eq!((&out[..], out.as_ptr()), (&clean[..], data[2..].as_ptr()));
    let padded = [&clean[..], &[0x7a, 1, 0], DELIMITER].concat();
    assert_eq!(normalise(padded.into()).unwrap(), clean);
    let open_end = [&RECORD[4..], &[0x30, 0x10, 7, 7]].concat();
    assert_eq!(normalise(open_end.into()).unwrap(), clean);
    assert_eq!(normalise(Bytes::from_static(DELIMITER)).unwrap(), Bytes::new());
    let error = normalise(Bytes::from_static(&[0x32, 9, 0])).unwrap_err();
    assert_eq!(error.to_string(), "AV1 payload: an OBU is longer than the payload of 3 bytes");
}

#[test]
fn shown_key_frames_are_where_a_decoder_starts() {
    assert!(is_keyframe(&[&RECORD[4..], &frame(0x10)[..]].concat()));
    assert!(is_keyframe(&frame(0x10)), "the sequence header may be in the record alone");
    for other in [0x30, 0x00, 0x90, 0x50] {
        assert!(!is_keyframe(&[&RECORD[4..], &frame(other)[..]].concat()), "{other:#x}");
    }
    assert!(!is_keyframe(&[frame(0x30), frame(0x10)].concat()));
    assert!(is_keyframe(&[&[0x0a, 1, 0x18], &frame(0xff)[..]].concat()), "a reduced still picture");
    assert!(contains_frame(&frame(0x30)) && !contains_frame(RECORD.get(4..).unwrap()));
}

proptest! {
    #[test]
    fn garbage_never_panics_and_normalised_is_normal(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Av1Config::parse([&RECORD[..4], &data].concat().into());
        let _ = Av1Config::from_sequence_header(&data);
        let _ = is_keyframe(&data);
        if let Ok(out) = normalise(data.into()) {
            let walked: usize = obus(&out).map(|unit| unit.whole.len()).sum();
            prop_assert_eq!(walked, out.len());
            prop_assert_eq!(normalise(out.clone()).unwrap(), out);
        }
    }

    #[test]
    fn mutated_sequence_headers_never_panic(at in 4..RECORD.len(), value in any::<u8>()) {
        let mut record = RECORD.to_vec();
        record[at] = value;
        if let Ok(config) = Av1Config::parse(record.into()) {
            prop_assert!((1..=1 << 16).contains(&config.width) && (1..=1 << 16).contains(&config.height));
        }
    }

    #[test]
    fn sizes_survive(payload in proptest::collection::vec(any::<u8>(), 0..600)) {
        let unit = [&[0x30], &payload[..]].concat();
        let out = normalise(unit.into()).unwrap();
        let all: Vec<_> = obus(&out).collect();
        prop_assert_eq!((all.len(), all[0].kind, all[0].payload), (1, FRAME, &payload[..]));
    }
}
