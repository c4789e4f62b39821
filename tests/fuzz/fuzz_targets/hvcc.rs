//! HEVC configuration records and access units: no panic, and normalised is normal.
//!
//! Input: the length of the record in 16 bits, the record, then a payload.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::{HevcConfig, h265};

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (record, payload) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    let length_size = match HevcConfig::parse(Bytes::copy_from_slice(record)) {
        Ok(config) => {
            assert!(matches!(config.length_size, 1 | 2 | 4));
            assert!(!config.sps.is_empty() && config.width > 0 && config.height > 0);
            let again = HevcConfig::parse(config.record.clone()).expect("a normalised record parses");
            assert_eq!((again.length_size, &again.sps, &again.pps), (4, &config.sps, &config.pps));
            if let Ok(made) = HevcConfig::from_parameter_sets(again.vps, again.sps, again.pps) {
                assert_eq!((made.width, made.height), (config.width, config.height));
                let made_again = HevcConfig::parse(made.record.clone()).expect("a record that was made parses");
                assert_eq!(made_again, made);
            }
            config.length_size
        }
        Err(_) => 4,
    };
    if let Ok(unit) = h265::normalise(Bytes::copy_from_slice(payload), length_size) {
        let total: usize = h265::nals(&unit).map(|nal| nal.len() + 4).sum();
        assert_eq!(total, unit.len(), "4-byte lengths cover the unit");
        assert_eq!(h265::normalise(unit.clone(), 4).as_ref(), Ok(&unit), "normalising twice changes nothing");
        let _ = (h265::is_keyframe(&unit), h265::contains_vcl(&unit), h265::starts_new_access_unit(&unit));
    }
});
