//! AMF0: no panic, and what was read reads the same after being written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtmp::amf0::{Reader, Text, Value, Writer};

fn read(bytes: &[u8], text: Text) -> Option<Vec<Value>> {
    let mut reader = Reader::new(bytes, text);
    let mut values = Vec::new();
    while let Some(value) = reader.read().ok()? {
        values.push(value);
    }
    Some(values)
}

fuzz_target!(|data: &[u8]| {
    let _ = read(data, Text::Lossy);
    if let Some(values) = read(data, Text::Strict) {
        let again = values.iter().fold(Writer::new(), Writer::value).finish();
        // As text, because a NaN does not equal itself.
        assert_eq!(format!("{:?}", read(&again, Text::Strict)), format!("{:?}", Some(values)));
    }
});
