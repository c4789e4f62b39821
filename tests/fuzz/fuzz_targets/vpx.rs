//! VP8 and VP9 key frames and their configuration records: no panic, and what was made can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::{VpxConfig, vpx};

fuzz_target!(|data: &[u8]| {
    let _ = VpxConfig::parse(data);
    let (vp8, vp9) = (VpxConfig::from_vp8_keyframe(data), VpxConfig::from_vp9_keyframe(data));
    assert_eq!((vp8.is_ok(), vp9.is_ok()), (vpx::is_vp8_keyframe(data), vpx::is_vp9_keyframe(data)));
    for config in [vp8, vp9].into_iter().flatten() {
        assert!(config.width > 0 && config.height > 0);
        let read = VpxConfig::parse(&config.record).expect("a record that was made parses");
        assert_eq!((read.profile, read.level, &read.record), (config.profile, config.level, &config.record));
        assert_eq!(config.clone().with_record_of(&read), config);
    }
});
