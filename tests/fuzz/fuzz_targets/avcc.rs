//! AVC configuration records and access units: no panic, and normalised is normal.
//!
//! Input: the length of the record, the record, then a payload.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::{AvcConfig, h264};

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first() else { return };
    let (record, payload) = rest.split_at(usize::from(*length).min(rest.len()));
    let length_size = match AvcConfig::parse(Bytes::copy_from_slice(record)) {
        Ok(config) => {
            assert!(matches!(config.length_size, 1 | 2 | 4));
            assert!(!config.sps.is_empty() && config.width > 0 && config.height > 0);
            let again = AvcConfig::parse(config.record.clone()).expect("a normalised record parses");
            assert_eq!((again.length_size, again.sps, again.pps), (4, config.sps, config.pps));
            config.length_size
        }
        Err(_) => 4,
    };
    if let Ok(unit) = h264::normalise(Bytes::copy_from_slice(payload), length_size) {
        let total: usize = h264::nals(&unit).map(|nal| nal.len() + 4).sum();
        assert_eq!(total, unit.len(), "4-byte lengths cover the unit");
        assert_eq!(h264::normalise(unit.clone(), 4).as_ref(), Ok(&unit), "normalising twice changes nothing");
        let _ = (h264::is_keyframe(&unit), h264::contains_vcl(&unit), h264::starts_new_access_unit(&unit));
    }
});
