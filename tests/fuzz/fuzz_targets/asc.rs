//! AudioSpecificConfig: no panic, and what is accepted can be used.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::AacConfig;

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = AacConfig::parse(Bytes::copy_from_slice(data)) {
        assert!(config.sample_rate > 0 && config.output_sample_rate > 0);
        assert!(config.samples_per_frame == 1024 || config.samples_per_frame == 960);
        assert_eq!(config.asc[..], *data);
        let _ = config.sample_rate_index();
    }
});
