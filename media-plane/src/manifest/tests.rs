//! The document that entries make.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use mux::ObjectPart;
use recorder_proto::facts::{Failure, GapSpan, OutputTotals, RecordingEnded, RecordingStarted, Video};
use recorder_proto::format::Format;
use recorder_proto::pb::node::Plan;
use recorder_proto::pb::v1::{self, Template};
use serde_json::{Value, json};

use super::document::Fold;
use super::*;
use crate::shipping::tests::meta as output_meta;

pub fn at(seconds: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap() + TimeDelta::seconds(seconds)
}

pub fn started(formats: &[Format]) -> RecordingStarted {
    RecordingStarted {
        stream: recorder_proto::names::StreamKey::new("push.example.com", "live", "cam").unwrap(),
        session: recorder_proto::ids::SessionId::new(at(0), [3; 10]),
        protocol: v1::protocol::Kind::Rtmp,
        origin: "domains/push.example.com/bindings/a".into(),
        also: Vec::new(),
        template: "templates/default".parse().unwrap(),
        template_revision: 7,
        storage: "storages/s3".parse().unwrap(),
        labels: [("team".to_owned(), "7".to_owned())].into(),
        formats: formats.to_vec(),
        start_time: at(0),
        claim_key: "k".into(),
    }
}

pub fn meta(formats: &[Format]) -> RecordingMeta {
    let plan =
        Plan { template: Some(Template { name: "templates/default".into(), ..Default::default() }), ..Plan::default() };
    RecordingMeta::new(started(formats), output_meta(formats[0]), &plan, std::time::Duration::from_secs(30))
}

pub fn gap(start: i64, millis: u64) -> GapSpan {
    GapSpan { start_time: at(start), duration_micros: millis * 1_000, reason: v1::gap::Reason::PublisherLost }
}

pub fn ended(gaps: Vec<GapSpan>) -> Entry {
    Entry::Ended(Box::new(RecordingEnded {
        end_reason: v1::recording::EndReason::PublisherEnded,
        start_time: at(0),
        end_time: at(60),
        media_duration_micros: 59_500_000,
        gaps,
        outputs: Vec::new(),
        error: None,
    }))
}

fn file(format: Format, index: u32) -> FileEntry {
    FileEntry {
        format,
        index,
        state: FileState::Available,
        storage: "storages/s3".into(),
        key: "rec/live/cam/x/index.m3u8".into(),
        uri: "s3://b/rec/live/cam/x/index.m3u8".into(),
        size: 30,
        crc32c: String::new(),
        media: Some(FileMedia {
            start_time: at(0),
            end_time: at(60),
            starts_at_micros: -40_000,
            ends_at_micros: 60_000_000,
            video_frames: 1_500,
            audio_frames: 0,
            video: Some(Video { codec: "h264".into(), width: 640, height: 360, frame_rate: 25.0 }),
            audio: None,
        }),
        error: None,
        chosen: false,
        kept: false,
    }
}

fn render(meta: &RecordingMeta, entries: Vec<Entry>) -> Value {
    let mut fold = Fold::default();
    entries.into_iter().for_each(|entry| {
        // As it comes back from the journal.
        fold.take(serde_json::from_value(serde_json::to_value(entry).unwrap()).unwrap());
    });
    serde_json::from_slice(&fold.render(meta)).unwrap()
}

fn failure() -> Failure {
    Failure { code: 13, reason: "SPOOL_FAILED".into(), message: "no".into(), http_status: 0, request_id: String::new() }
}

#[test]
fn the_document_says_what_was_written() {
    let meta = meta(&[Format::Hls]);
    let pieces = [
        Piece { part: ObjectPart::Playlist, size: 10, crc32c: 1 },
        Piece { part: ObjectPart::Segment(0), size: 20, crc32c: 2 },
    ];
    let change = CodecChange { track: "video".into(), at: at(1), from: String::new(), to: "h264 640x360".into() };
    let entries = vec![
        Entry::Codec(change),
        Entry::Gap(gap(10, 1_500)),
        Entry::Objects { format: Format::Hls, index: 0, pieces: Packed::new(&pieces[..1]) },
        Entry::Objects { format: Format::Hls, index: 0, pieces: Packed::new(&pieces[1..]) },
        Entry::File(Box::new(file(Format::Hls, 0))),
        Entry::Settled(Format::Hls),
        ended(vec![gap(10, 1_500)]),
    ];
    let recording = format!("recordings/{}", meta.recording());
    let hole = json!({ "start": "2026-11-22T12:00:10.000000Z", "duration": "1.500000s", "reason": "PUBLISHER_LOST" });
    assert_eq!(
        render(&meta, entries),
        json!({
            "version": 1,
            "recording": recording,
            "epoch": 1,
            "stream": meta.started.stream.to_string(),
            "origin": "domains/push.example.com/bindings/a",
            "session": meta.started.session.to_string(),
            "template": "templates/default",
            "template_revision": 7,
            "storage": "storages/s3",
            "labels": { "team": "7" },
            "start_time": "2026-11-22T12:00:00.000000Z",
            "state": "INCOMPLETE",
            "end_time": "2026-11-22T12:01:00.000000Z",
            "end_reason": "PUBLISHER_ENDED",
            "media_duration": "59.500000s",
            "files": [{
                "format": "hls",
                "index": 0,
                "state": "AVAILABLE",
                "storage": "storages/s3",
                "key": "rec/live/cam/x/index.m3u8",
                "uri": "s3://b/rec/live/cam/x/index.m3u8",
                "size": 30,
                "start_time": "2026-11-22T12:00:00.000000Z",
                "end_time": "2026-11-22T12:01:00.000000Z",
                "first_timestamp": "-0.040000s",
                "last_timestamp": "60.000000s",
                "video_frames": 1500,
                "audio_frames": 0,
                "video": { "codec": "h264", "width": 640, "height": 360 },
                "gaps": [hole],
                "objects": [
                    { "key": "rec/live/cam/x/0.ts", "size": 20, "crc32c": "AAAAAg==" },
                    { "key": "rec/live/cam/x/index.m3u8", "size": 10, "crc32c": "AAAAAQ==" },
                ],
            }],
            "gaps": [hole],
            "codec_changes": [
                { "at": "2026-11-22T12:00:01.000000Z", "track": "video", "from": "", "to": "h264 640x360" },
            ],
        })
    );
}

#[test]
fn the_state_is_the_truth_as_the_node_knows_it() {
    let meta = meta(&[Format::Hls, Format::Flv]);
    let state = |entries: Vec<Entry>| render(&meta, entries)["state"].clone();
    let good = || Entry::File(Box::new(file(Format::Hls, 0)));
    let lost = || {
        let entry = FileEntry { state: FileState::Failed, error: Some(failure()), ..file(Format::Flv, 0) };
        Entry::File(Box::new(entry))
    };
    let without_output = || {
        let Entry::Ended(mut end) = ended(vec![]) else { unreachable!() };
        end.outputs.push(OutputTotals {
            format: Format::Flv,
            files: 0,
            bytes_recorded: 0,
            bytes_uploaded: 0,
            upload_lag_micros: 0,
            error: Some(failure()),
        });
        Entry::Ended(end)
    };
    assert_eq!(state(vec![good(), ended(vec![])]), "SUCCEEDED");
    assert_eq!(state(vec![good(), ended(vec![gap(1, 1)])]), "INCOMPLETE");
    assert_eq!(state(vec![good(), Entry::Gap(gap(1, 1)), ended(vec![])]), "INCOMPLETE");
    assert_eq!(state(vec![good(), lost(), ended(vec![])]), "INCOMPLETE");
    assert_eq!(state(vec![good(), without_output()]), "INCOMPLETE");
    assert_eq!(state(vec![lost(), ended(vec![])]), "FAILED");
    assert_eq!(state(vec![ended(vec![])]), "FAILED");
}

#[test]
fn a_file_that_moved_is_where_it_went() {
    let meta = meta(&[Format::Flv]);
    let moved = FileEntry { storage: "storages/backup".into(), ..file(Format::Flv, 0) };
    let entries = [moved, file(Format::Flv, 0)].map(|file| Entry::File(Box::new(file)));
    let document = render(&meta, entries.into());
    assert_eq!(document["files"].as_array().unwrap().len(), 1);
    assert_eq!(document["files"][0]["storage"], "storages/s3");
}

#[test]
fn a_stream_that_changes_with_every_frame_makes_no_list_without_end() {
    let meta = meta(&[Format::Flv]);
    let change = |n: i64| CodecChange { track: "video".into(), at: at(n), from: String::new(), to: n.to_string() };
    let document = render(&meta, (0..1_500).map(|n| Entry::Codec(change(n))).collect());
    assert_eq!(document["codec_changes"].as_array().unwrap().len(), 1_000);
    assert_eq!(document["codec_changes_left_out"], 500);
}

#[test]
fn r2_manifests_of_different_recordings_and_epochs_have_different_keys() {
    let key = |path: &str, format: Format, recording: u8, epoch: u64| {
        let mut output = output_meta(format);
        output.recording = recorder_proto::ids::RecordingId::new(at(0), [recording; 10]);
        output.random = [recording; 10];
        output.epoch = recorder_proto::ids::Epoch(epoch);
        output.path = path.to_owned();
        output.manifest_key()
    };
    for path in ["", "{AppName}/{StreamID}/{RecordId}", "a/{RecordId}/x", "{RandomID}/x-{Format}", "{RecordId}", "x"] {
        for format in [Format::Hls, Format::Flv] {
            let keys =
                [key(path, format, 1, 1), key(path, format, 2, 1), key(path, format, 1, 2), key(path, format, 1, 3)];
            let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
            assert_eq!(distinct.len(), keys.len(), "{path} {keys:?}");
        }
    }
    let id = recorder_proto::ids::RecordingId::new(at(0), [1; 10]);
    assert_eq!(key("a/{RecordId}/x", Format::Flv, 1, 1), format!("rec/a/{id}/manifest.json"));
    assert_eq!(key("a/{RecordId}", Format::Flv, 1, 1), format!("rec/a/{id}-manifest.json"));
    assert_eq!(key("a/{RecordId}", Format::Hls, 1, 1), format!("rec/a/{id}/manifest.json"));
}

#[test]
fn a_recordings_meta_survives_its_journal() {
    let meta = meta(&[Format::Flv]);
    let back: RecordingMeta = serde_json::from_value(serde_json::to_value(&meta).unwrap()).unwrap();
    assert_eq!(back, meta);
    assert_eq!(back.plan().unwrap().template.unwrap().name, "templates/default");
    assert_eq!(back.output_of(Format::Aac).format, Format::Aac);
}
