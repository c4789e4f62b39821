//! AV1 configuration records and temporal units: no panic, and normalised is normal.
//!
//! Input: the length of the record, the record, then a temporal unit.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::{Av1Config, av1};

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first() else { return };
    let (record, unit) = rest.split_at(usize::from(*length).min(rest.len()));
    if let Ok(config) = Av1Config::parse(Bytes::copy_from_slice(record)) {
        assert!(config.width > 0 && config.height > 0);
        let again = Av1Config::from_sequence_header(&config.sequence_header).expect("its sequence header parses");
        assert_eq!((again.width, again.height), (config.width, config.height));
        assert_eq!(Av1Config::parse(again.record.clone()).as_ref(), Ok(&again));
    }
    if let Ok(unit) = av1::normalise(Bytes::copy_from_slice(unit)) {
        let total: usize = av1::obus(&unit).map(|unit| unit.whole.len()).sum();
        assert_eq!(total, unit.len(), "OBUs cover the unit");
        assert!(av1::obus(&unit).all(|unit| unit.kind != av1::TEMPORAL_DELIMITER));
        assert_eq!(av1::normalise(unit.clone()).as_ref(), Ok(&unit), "normalising twice changes nothing");
        let _ = (av1::is_keyframe(&unit), av1::contains_frame(&unit), av1::sequence_header(&unit));
    }
});
