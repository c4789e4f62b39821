//! Bytes that must never change by accident.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use common::{Step, aac, avc, options, picture, record, sound};
use media::{Codec, TrackKind};
use mux::Options;
use mux::registry::{FORMATS, Format, matrix};

fn steps() -> Vec<Step> {
    let configs = [Step::Config(TrackKind::Video, avc()), Step::Config(TrackKind::Audio, aac())];
    let frames = [sound(10, 0, 3), picture(33, 67, true, 1, 4), sound(33, 1, 3), picture(66, -10, false, 2, 4)];
    configs.into_iter().chain(frames.map(Step::Frame)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn flv_tags() {
    let bytes = record(Format::Flv, &options(), &steps()).file_bytes(0);
    let expected = [
        "464c5601050000000900000000",
        // onMetaData: width, height, videocodecid, audiosamplerate, audiosamplesize, stereo, audiocodecid.
        "120000a20000000000000002000a6f6e4d65746144617461080000000700057769647468004084000000000000000668656967687400",
        "4076800000000000000c766964656f636f646563696400401c000000000000000f617564696f73616d706c65726174650040e5888000",
        "000000000f617564696f73616d706c6573697a65004030000000000000000673746572656f0101000c617564696f636f646563696400",
        "4024000000000000000009000000ad",
        // The two sequence headers.
        "090000300000000000000017000000000164001effe1001a6764001eacd940a02ff970110000030001000003003c0f162d96010006",
        "68ebe3cb22c00000003b0800000400000000000000af0012100000000f",
        // Sound at the timeline's 10 ms, which is 0; the key picture at 23 shown 67 ms later; sound at 23.
        "0800000a00000000000000af012100000000a5a5a500000015",
        "090000130000170000000017010000430000000a659a818080805a5a5a5a0000001e",
        "0800000a00001700000000af012100000001a5a5a500000015",
        // A picture at 56, shown 10 ms before.
        "09000013000038000000002701fffff60000000a419a828080805a5a5a5a0000001e",
    ];
    assert_eq!(hex(&bytes), expected.concat());
}

#[test]
fn adts_frames() {
    let bytes = record(Format::Aac, &options(), &steps()).file_bytes(0);
    assert_eq!(hex(&bytes), "fff1508001fffc2100000000a5a5a5fff1508001fffc2100000001a5a5a5");
}

#[test]
fn transport_stream_begins_with_its_tables() {
    let bytes = record(Format::Hls, &options(), &steps()).file_bytes(0);
    assert_eq!(bytes.len() % 188, 0);
    assert_eq!(hex(&bytes[..21]), "474000100000b00d0001c100000001f0002ab104b2");
    assert_eq!(hex(&bytes[188..188 + 31]), "475000100002b0170001c10000e100f0001be100f0000fe101f0002f44b99b");
}

#[test]
fn mp4_boxes_in_order() {
    let tree = |options: &Options| {
        let bytes = record(Format::Mp4, options, &steps()).file_bytes(0);
        let mut kinds = Vec::new();
        let mut at = 0;
        while at + 8 <= bytes.len() {
            let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            let size = if word(at) == 1 { word(at + 12) } else { word(at) };
            kinds.push(String::from_utf8(bytes[at + 4..at + 8].to_vec()).unwrap());
            at += size;
        }
        assert_eq!(at, bytes.len(), "boxes end with the file");
        kinds
    };
    assert_eq!(tree(&options()), ["ftyp", "moov", "mdat"]);
    let fragmented = Options { layout: mux::Layout::Fragmented, ..options() };
    assert_eq!(tree(&fragmented), ["ftyp", "moov", "moof", "mdat", "moof", "mdat"]);
}

#[test]
fn r9_the_registry_knows_every_format() {
    for row in &FORMATS {
        assert_eq!(Format::from_name(row.name), Some(row.format));
        assert_eq!(row.format.row().name, row.name);
        assert!(row.format.carries(Codec::Aac));
        assert_eq!(row.format.carries(Codec::H264), row.format != Format::Aac);
    }
    assert_eq!(Format::from_name("mkv"), None);
    let text = matrix();
    assert_eq!(text.lines().count(), 2 + FORMATS.len());
    assert!(text.contains("| aac | .aac | audio/aac | Aac | Opus | uploadable |"));
    assert!(text.contains("| H264, H265, Aac; in fMP4 segments also Av1, Vp9, Opus | Opus | uploadable |"));
    let endless = Options { segment_duration: std::time::Duration::from_secs(43_201), ..options() };
    let refusal = mux::open(Format::Hls, &endless).map(|_| ()).unwrap_err();
    assert_eq!(refusal.to_string(), "Hls: segments are not longer than 12 hours");
}
