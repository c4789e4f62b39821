//! Journals that are cut short or damaged.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use mux::Output;
use proptest::prelude::*;

use super::{Bench, PLAYLIST, apply, key, mark, object, pattern, segment, spec, summary};
use crate::decode::decode;
use crate::disk::Disk;
use crate::journal::{Entry, Extent, MAGIC, Marked, Step, encode};
use crate::{ObjectState, Record, recover};

/// A spool directory with two closed segments, a playlist, shipping records and an open segment.
async fn eventful() -> (tempfile::TempDir, Vec<u8>) {
    let bench = Bench::new();
    let mut writer = bench.writer("hls");
    for number in 0..2 {
        apply(&mut writer, object(segment(number), pattern(3_000, number as u8)));
        let body = Bytes::from("#EXTM3U\n".repeat(number as usize + 1));
        apply(&mut writer, [Output::Playlist { object: PLAYLIST, body, last: false }]);
        bench.spool.flush().await;
    }
    let committed = Record::Committed { object: segment(0), etag: "e".into(), size: 3_000 };
    bench.spool.record(&key("hls"), committed).await.unwrap();
    apply(&mut writer, [Output::Open(spec(segment(2)))]);
    for round in 0..3 {
        apply(&mut writer, [Output::Append(segment(2), pattern(500, 9)), mark(segment(2), round * 40)]);
        bench.spool.flush().await;
    }
    apply(&mut writer, [Output::Append(segment(2), pattern(77, 9))]);
    bench.spool.close().await;
    let journal = fs::read(bench.output_dir("hls").join("journal")).unwrap();
    (bench.dir, journal)
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_torn_journal_is_a_prefix_of_history_at_every_byte() {
    let (dir, journal) = eventful().await;
    let whole = decode(&journal);
    assert_eq!((whole.end, whole.holes), (journal.len(), 0));
    let source = crate::output::output_dir(dir.path(), &key("hls"));
    let mut closed_before = 0;
    let mut open_before = 0;
    for cut in 0..=journal.len() {
        let torn = decode(&journal[..cut]);
        let valid = torn.end;
        assert!(valid <= cut && torn.holes == 0 && whole.entries.starts_with(&torn.entries), "cut at {cut}");
        // Between two record ends recovery sees the same entries: once inside and once at the end will do.
        if cut != valid && cut != valid + 1 {
            continue;
        }
        let torn = tempfile::tempdir().unwrap();
        let target = crate::output::output_dir(torn.path(), &key("hls"));
        copy(&source, &target);
        fs::write(target.join("journal"), &journal[..cut]).unwrap();
        let found = recover::scan(torn.path(), &Disk::default()).unwrap();
        let Some(found) = found.first() else {
            assert!(!target.exists(), "cut at {cut}: an empty output must not stay");
            continue;
        };
        let stored = found.state.stored(&found.key);
        let closed = stored.objects.iter().filter(|object| matches!(object.state, ObjectState::Closed { .. })).count();
        assert!(closed >= closed_before, "cut at {cut}");
        closed_before = closed;
        let open = stored.objects.iter().find(|object| object.spec.object == segment(2));
        if let Some(ObjectState::Open { bytes, .. }) = open.map(|object| &object.state) {
            assert!(bytes % 500 == 0 && *bytes >= open_before, "cut at {cut}: not at a mark");
            open_before = *bytes;
            assert_eq!(fs::metadata(target.join("0-s2.data")).unwrap().len(), *bytes);
        }
        // What recovery wrote is itself a whole journal.
        let repaired = fs::read(target.join("journal")).unwrap();
        assert_eq!(decode(&repaired).end, repaired.len());
    }
    assert_eq!((closed_before, open_before), (2, 1_500));
}

#[tokio::test]
async fn a_flipped_bit_costs_one_record_and_is_seen() {
    let (_dir, journal) = eventful().await;
    let whole = decode(&journal);
    for at in 0..journal.len() {
        let mut damaged = journal.clone();
        damaged[at] ^= 1 << (at % 8);
        let found = decode(&damaged);
        assert_eq!((found.holes, found.end), (1, journal.len()), "flip at {at}");
        let mut all = whole.entries.iter();
        assert!(found.entries.iter().all(|entry| all.any(|known| known == entry)), "flip at {at}: invented");
        let lost = usize::from(at >= MAGIC.len());
        assert_eq!(found.entries.len() + lost, whole.entries.len(), "flip at {at}");
    }
}

#[tokio::test]
async fn a_damaged_newest_extent_falls_back_to_the_mark_before_and_is_told() {
    let (dir, _) = eventful().await;
    let data = crate::output::output_dir(dir.path(), &key("hls")).join("0-s2.data");
    let mut bytes = fs::read(&data).unwrap();
    // The newest extent is the 77 bytes after the last mark.
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&data, &bytes).unwrap();
    let found = recover::scan(dir.path(), &Disk::default()).unwrap();
    let object = &found[0].state.objects[&segment(2)];
    assert_eq!(object.readable(), (0, 1_500));
    assert!(object.fate().damaged.is_some());
    assert_eq!(fs::read(&data).unwrap(), bytes[..1_500]);
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = Entry> {
    let mark =
        any::<(u64, u32, i64, u64, u64, u64)>().prop_map(|(len, crc, time, video_frames, audio_frames, notes)| {
            Marked { len, crc, ends_at: media::MediaTime(time), video_frames, audio_frames, notes }
        });
    prop_oneof![
        ((0_u32..3, any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>()), proptest::option::of(mark), bytes())
            .prop_map(|((number, offset, len, crc, noted), mark, notes)| {
                Entry::Extent(Extent { object: segment(number), offset, len, crc, mark, noted, notes })
            }),
        any::<Option<u64>>().prop_map(|synced| Entry::Flush { synced }),
        (any::<u32>(), bytes(), any::<bool>(), any::<Option<u32>>())
            .prop_map(|(keep, tail, last, crc)| Entry::Playlist { object: PLAYLIST, keep, tail, last, crc }),
        (".*", ".*").prop_map(|(key, text)| Step::Create { key, meta: serde_json::json!({ "text": text }) }.into()),
        (any::<u32>(), any::<u64>())
            .prop_map(|(file, frames)| Step::FileDone { file, summary: summary(frames) }.into()),
        (".*", any::<u64>()).prop_map(|(etag, len)| {
            let record = Record::PartDone { object: segment(1), number: 3, etag, crc32c: 9, len };
            Step::Shipping(record).into()
        }),
        (0_u32..3)
            .prop_map(|n| Step::Open { object: segment(n), extension: "ts".into(), content_type: "t".into() }.into()),
        (0_u32..3, 0_u64..9, any::<u32>())
            .prop_map(|(n, size, crc)| { Step::Closed { object: segment(n), summary: summary(1), size, crc }.into() }),
        (0_u32..3).prop_map(|n| Step::Released { object: segment(n) }.into()),
        Just(Step::Finished.into()),
    ]
}

proptest! {
    #[test]
    fn entries_round_trip(entries in proptest::collection::vec(entry(), 0..20)) {
        let mut bytes = MAGIC.to_vec();
        for entry in &entries {
            encode(entry, &mut bytes);
        }
        let decoded = decode(&bytes);
        prop_assert_eq!((decoded.end, decoded.holes), (if entries.is_empty() { 0 } else { bytes.len() }, 0));
        prop_assert_eq!(decoded.entries, entries);
    }

    #[test]
    fn any_records_replay_without_harm(
        records in proptest::collection::vec((entry(), any::<Option<(u8, u8)>>()), 0..30),
    ) {
        let mut input = Vec::new();
        for (entry, damage) in records {
            let mut record = Vec::new();
            encode(&entry, &mut record);
            let mut body = record.split_off(8);
            if let Some((at, bits)) = damage {
                let at = usize::from(at) % body.len();
                body[at] ^= bits;
            }
            input.extend_from_slice(&(body.len() as u16).to_le_bytes());
            input.extend_from_slice(&body);
        }
        crate::fuzz::journal(&input);
    }

    #[test]
    fn any_bytes_decode_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut journal = MAGIC.to_vec();
        journal.extend_from_slice(&bytes);
        prop_assert!(decode(&journal).end <= journal.len());
    }
}
