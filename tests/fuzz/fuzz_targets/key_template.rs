//! Key templates: no panic, and no value, however hostile, leaves its place in the key.
//!
//! Input: lines of template, prefix, domain, app, stream, template id, time zone and label.
#![no_main]

use std::collections::BTreeMap;

use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use recorder_proto::format::Format;
use recorder_proto::ids::{Epoch, FileIndex, RecordingId};
use recorder_proto::key::{KeyContext, KeyTemplate, ObjectPart, RecordSource, check_prefix, object_key};

const KEY_MAX_BYTES: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (template, prefix) = (line(), line());
    let Ok(template) = KeyTemplate::parse(template) else { return };
    let shown = template.to_string();
    let again = KeyTemplate::parse(&shown).map(|template| template.to_string());
    assert_eq!(again.as_deref(), Ok(shown.as_str()), "what is shown is a template again");
    let prefix = if check_prefix(prefix).is_ok() { prefix } else { "" };
    let start = DateTime::from_timestamp_millis(1_774_745_947_045).expect("in range");
    let (domain, app, stream, name) = (line(), line(), line(), line());
    let time_zone = line().parse().unwrap_or_default();
    let labels = BTreeMap::from([("team".to_owned(), line().to_owned())]);
    let context = KeyContext {
        source: RecordSource::Transcoding(name),
        domain,
        app,
        stream,
        recording: RecordingId::new(start, [1; 10]),
        record_id: None,
        epoch: Epoch(2),
        start,
        time_zone,
        random: [0xab; 10],
        template: name,
        format: Format::Hls,
        file_index: FileIndex(u32::MAX),
        labels: &labels,
    };
    let base = template.expand(&context);
    let key = object_key(prefix, &base, Format::Hls, FileIndex(u32::MAX), ObjectPart::Init(u64::MAX));
    assert!(key.len() <= KEY_MAX_BYTES, "{} bytes", key.len());
    assert!(!key.starts_with('/') && !key.contains("//"), "{key:?}");
    assert!(key.split('/').all(|part| part != "." && part != ".."), "{key:?}");
    assert!(!key.contains(['\\', '\0']) && !key.chars().any(char::is_control), "{key:?}");
});
