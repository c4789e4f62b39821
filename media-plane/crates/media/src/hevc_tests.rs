use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// x265, Main, 322x182 coded as 328x184: what the parameter sets of RTP and of records hold.
const VPS_NAL: &[u8] = &[
    0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03,
    0x00, 0x3c, 0x95, 0x98, 0x09,
];
const SPS_NAL: &[u8] = &[
    0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0xa0,
    0x0a, 0x48, 0x0b, 0x9c, 0x95, 0x96, 0x65, 0x66, 0x92, 0x4c, 0xaf, 0x01, 0x68, 0x08, 0x00, 0x00, 0x03, 0x00, 0x08,
    0x00, 0x00, 0x03, 0x00, 0xc8, 0x42,
];
const PPS_NAL: &[u8] = &[0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40];

fn record() -> Vec<u8> {
    let mut record =
        vec![1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0x3c, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 3];
    for (kind, nal) in [(0x20, VPS_NAL), (0x21, SPS_NAL), (0x22, PPS_NAL)] {
        record.extend([0x80 | kind, 0, 1, 0, nal.len() as u8]);
        record.extend(nal);
    }
    record
}

fn sets() -> [Vec<Bytes>; 3] {
    [VPS_NAL, SPS_NAL, PPS_NAL].map(|nal| vec![Bytes::from_static(nal)])
}

#[test]
fn a_record_tells_its_sets_and_the_size_after_cropping() {
    let config = HevcConfig::parse(record().into()).unwrap();
    assert_eq!((config.width, config.height), (322, 182));
    assert_eq!((config.profile, config.level, config.length_size), (1, 60, 4));
    assert_eq!([config.vps, config.sps, config.pps], sets());
    assert_eq!(config.record, record());
}

#[test]
fn parameter_sets_of_rtp_and_of_annex_b_become_the_same_record() {
    let [vps, sps, pps] = sets();
    let config = HevcConfig::from_parameter_sets(vps, sps, pps).unwrap();
    assert_eq!(HevcConfig::parse(record().into()).unwrap(), config);
    let stream = [&[0, 0, 0, 1], VPS_NAL, &[0, 0, 1], SPS_NAL, &[0, 0, 0, 1], PPS_NAL].concat();
    assert_eq!(HevcConfig::parse(stream.into()).unwrap(), config);
    let [_, sps, pps] = sets();
    let without = HevcConfig::from_parameter_sets(Vec::new(), sps, pps).unwrap();
    assert_eq!(HevcConfig::parse(without.record.clone()).unwrap(), without);
}

#[test]
fn shorter_length_sizes_and_the_draft_version_are_normalised_in_the_record() {
    for (version, bits, size) in [(1, 0x0c, 1), (1, 0x0d, 2), (0, 0x0f, 4)] {
        let mut other = record();
        (other[0], other[21]) = (version, bits);
        let config = HevcConfig::parse(other.into()).unwrap();
        assert_eq!((config.length_size, config.record), (size, record().into()));
    }
    let mut other = record();
    other[21] = 0x0e;
    assert_eq!(HevcConfig::parse(other.into()).unwrap_err().problem, "NAL length size 3");
}

#[test]
fn too_many_or_misplaced_sets_are_refused() {
    let [vps, sps, pps] = sets();
    let many = vec![pps[0].clone(); 65];
    assert!(HevcConfig::from_parameter_sets(vps.clone(), sps.clone(), many).is_err());
    assert!(HevcConfig::from_parameter_sets(sps.clone(), sps.clone(), pps.clone()).is_err());
    assert!(HevcConfig::from_parameter_sets(vps, pps.clone(), pps).is_err());
    let mut wrong = record();
    let at = 23 + 5 + VPS_NAL.len() + 5 + SPS_NAL.len();
    wrong[at] = 0x80 | 0x21;
    let problem = HevcConfig::parse(wrong.into()).unwrap_err().problem;
    assert_eq!(problem, "a NAL unit of type 34 among those of type 33");
}

#[test]
fn every_truncation_is_an_error_not_a_panic() {
    let whole = record();
    for end in 0..whole.len() {
        assert!(HevcConfig::parse(Bytes::copy_from_slice(&whole[..end])).is_err(), "{end} bytes");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = HevcConfig::parse(data.into());
    }

    #[test]
    fn mutated_records_never_panic_and_sizes_stay_bounded(at in 0usize..113, value in any::<u8>()) {
        let mut other = record();
        let at = at.min(other.len() - 1);
        other[at] = value;
        if let Ok(config) = HevcConfig::parse(other.into()) {
            prop_assert!((1..=MAX_SIDE).contains(&config.width) && (1..=MAX_SIDE).contains(&config.height));
        }
    }
}
