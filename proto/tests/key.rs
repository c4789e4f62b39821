//! R38-R41 for any template and any value: keys are safe, bounded and never shared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeZone as _, Utc};
use proptest::prelude::*;
use recorder_proto::format::Format;
use recorder_proto::ids::{Epoch, FileIndex, RecordingId};
use recorder_proto::key::{KeyContext, KeyTemplate, ObjectPart, RecordSource, TimeZone, check_prefix, object_key};
use recorder_proto::limits;

/// Names as they come from outside: long, hidden, climbing, bidirectional, empty, not Latin.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        "[./\\\\%#?{}~-]{0,12}",
        "\\PC{0,600}",
        Just("..".to_owned()),
        Just("直".repeat(170)),
        Just("\u{202e}gpj.exe\0".to_owned()),
        Just("a.".to_owned()),
    ]
}

fn template() -> impl Strategy<Value = KeyTemplate> {
    let piece = prop_oneof![
        Just("/".to_owned()),
        "[a-z0-9._=~-]{1,3}",
        prop::sample::select(vec![
            "{RecordSource}",
            "{Domain}",
            "{AppName}",
            "{StreamID}",
            "{RecordId}",
            "{RandomID}",
            "{TemplateId}",
            "{Format}",
            "{FileIndex}",
            "{StartYear}",
            "{StartMillisecond}",
            "{label.a}",
            "{label.b}",
        ])
        .prop_map(str::to_owned),
    ];
    prop_oneof![
        Just(KeyTemplate::default()),
        prop::collection::vec(piece, 1..14)
            .prop_filter_map("sound", |pieces| KeyTemplate::parse(&pieces.concat()).ok()),
    ]
}

/// Everything about one recording that stays the same for all its files.
#[derive(Debug, Clone)]
struct Recording {
    id: RecordingId,
    random: [u8; 10],
    values: [String; 4],
    labels: BTreeMap<String, String>,
    start: DateTime<Utc>,
}

fn recording() -> impl Strategy<Value = Recording> {
    (any::<[u8; 10]>(), any::<[u8; 10]>(), [value(), value(), value(), value()], value(), value(), 0_i64..4_000_000_000)
        .prop_map(|(entropy, random, values, a, b, seconds)| {
            let start = Utc.timestamp_opt(seconds, 0).unwrap();
            let labels = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
            Recording { id: RecordingId::new(start, entropy), random, values, labels, start }
        })
}

impl Recording {
    fn key(
        &self,
        template: &KeyTemplate,
        prefix: &str,
        format: Format,
        index: u32,
        epoch: u64,
        part: ObjectPart,
    ) -> String {
        let base = template.expand(&KeyContext {
            source: RecordSource::Transcoding(&self.values[0]),
            domain: &self.values[1],
            app: &self.values[2],
            stream: &self.values[3],
            recording: self.id,
            record_id: None,
            epoch: Epoch(epoch),
            start: self.start,
            time_zone: TimeZone::UtcPlus8,
            random: self.random,
            template: &self.values[0],
            format,
            file_index: FileIndex(index),
            labels: &self.labels,
        });
        object_key(prefix, &base, format, FileIndex(index), part)
    }

    /// Every object of a few files under two epochs, with the file each belongs to.
    fn objects(&self, template: &KeyTemplate) -> Vec<String> {
        let mut keys = Vec::new();
        for format in Format::ALL {
            for (index, epoch) in [(0, 1), (1, 1), (11, 1), (12, 1), (0, 2), (1, 2), (11, 2), (2, 11), (1, 12)] {
                let hls = [
                    ObjectPart::Segment(0),
                    ObjectPart::Segment(1),
                    ObjectPart::Fragment(0),
                    ObjectPart::Init(0),
                    ObjectPart::Manifest,
                ];
                let single = [ObjectPart::Manifest];
                let more: &[ObjectPart] = if format == Format::Hls { &hls } else { &single };
                for part in std::iter::once(&ObjectPart::Whole).chain(more) {
                    keys.push(self.key(template, "", format, index, epoch, *part));
                }
            }
        }
        keys
    }
}

proptest! {
    // Each case expands hundreds of keys.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn r40_two_files_never_share_a_key(template in template(), mut one in recording(), other in recording()) {
        prop_assume!(one.id != other.id && one.random != other.random);
        let keys: Vec<String> = one.objects(&template).into_iter().chain(other.objects(&template)).collect();
        let distinct: BTreeSet<&String> = keys.iter().collect();
        prop_assert_eq!(distinct.len(), keys.len(), "{}", template);

        // Even when everything but the recording is the same.
        if !template.uses_random() {
            let before = one.objects(&template);
            one.id = other.id;
            let after: BTreeSet<String> = one.objects(&template).into_iter().collect();
            prop_assert!(before.iter().all(|key| !after.contains(key)), "{}", template);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn r41_keys_are_safe_and_bounded(template in template(), recording in recording(), prefix in "([a-zA-Z0-9_-]{1,60}/?){0,4}", n: u64) {
        prop_assume!(check_prefix(&prefix).is_ok());
        for (format, part) in [(Format::Hls, ObjectPart::Init(n)), (Format::Hls, ObjectPart::Segment(n)), (Format::Mp4, ObjectPart::Whole)] {
            let key = recording.key(&template, &prefix, format, u32::MAX, u64::MAX, part);
            prop_assert!(key.len() <= limits::KEY_MAX_BYTES, "{} bytes: {key}", key.len());
            prop_assert!(!key.starts_with('/') && !key.contains("//") && !key.ends_with('/'), "{key}");
            prop_assert!(!key.contains("..") && key.split('/').all(|part| !part.starts_with('.')), "{key}");
            prop_assert!(key.split('/').all(|part| part.len() <= 255), "file systems: {key}");
            prop_assert!(!key.chars().any(|c| c.is_control() || matches!(c, '\\' | '%' | '?' | '#' | '{' | '}')), "{key}");
        }
    }

    #[test]
    fn parsing_never_panics_and_what_it_shows_parses_to_the_same(text in "(\\{[A-Za-z.]{0,12}\\}|\\{RecordId\\}|\\{StreamID\\}|\\PC|/){0,30}") {
        match KeyTemplate::parse(&text) {
            Ok(template) => prop_assert_eq!(KeyTemplate::parse(&template.to_string()), Ok(template)),
            Err(errors) => prop_assert!(!errors.is_empty() && errors.iter().all(|e| e.to_string().len() < 1_000)),
        }
    }

    #[test]
    fn zones_never_panic(text in "\\PC{0,30}") {
        if let Ok(zone) = text.parse::<TimeZone>() { prop_assert_eq!(zone.to_string().parse::<TimeZone>(), Ok(zone)); }
    }
}
