//! "An object truncated at a mark is valid": cut at every one, and read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use bytes::Bytes;
use common::{options, record, stream, variants};
use mux::{Format, ObjectId, ObjectPart, demux};

fn read(format: Format, bytes: &Bytes) -> Result<demux::Media, demux::Corrupt> {
    match format {
        // Segments of fragmented MP4 come behind their head, which says what it is.
        Format::Hls if bytes.get(4..8) == Some(b"ftyp") => demux::mp4(bytes),
        Format::Hls => demux::ts(bytes),
        Format::Flv => demux::flv(bytes),
        Format::Mp4 => demux::mp4(bytes),
        Format::Aac => demux::adts(bytes),
    }
}

#[test]
fn r1_every_mark_is_the_end_of_a_playable_object() {
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &stream(4, 25));
        let heads = [ObjectPart::Playlist, ObjectPart::Init(0)];
        for (id, object) in store.objects.iter().filter(|(id, _)| !heads.contains(&id.part)) {
            let head = store.objects.get(&ObjectId { file: 0, part: ObjectPart::Init(0) });
            let head = head.map_or_else(Bytes::new, |head| head.bytes());
            let bytes = Bytes::from([head.clone(), object.bytes()].concat());
            if name == "mp4" {
                // Its index comes from the notes: see `crashes.rs`.
                assert!(!object.marks.is_empty() && !object.notes.is_empty());
                continue;
            }
            assert!(!object.marks.is_empty(), "{name} {id:?}");
            let mut before = 0;
            for (length, mark) in &object.marks {
                let media = read(format, &bytes.slice(..head.len() + *length))
                    .unwrap_or_else(|why| panic!("{name} {length}: {why}"));
                assert!(media.samples.len() > before, "{name}: every mark has something new");
                before = media.samples.len();
                assert!(mark.media_time <= store.done[0].ends_at);
            }
            assert_eq!(object.marks.last().unwrap().0, object.data.len(), "{name}: the last mark is the end");
        }
    }
}

#[test]
fn bytes_beyond_a_mark_are_noticed_by_the_demuxers() {
    for (name, format, options) in variants(&options()).into_iter().filter(|(name, ..)| *name != "mp4") {
        let store = record(format, &options, &stream(2, 25));
        let bytes = store.file_bytes(0);
        assert!(read(format, &bytes.slice(..bytes.len() - 3)).is_err(), "{name}");
    }
}

#[test]
fn demuxers_survive_any_damage() {
    for (_, format, options) in variants(&options()) {
        let store = record(format, &options, &stream(1, 25));
        let bytes = store.file_bytes(0);
        for at in
            (0..bytes.len().min(6_000)).step_by(7).chain((bytes.len().saturating_sub(2_000)..bytes.len()).step_by(11))
        {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0xff;
            let _ = read(format, &Bytes::from(damaged));
            let _ = read(format, &bytes.slice(..at));
        }
    }
}
