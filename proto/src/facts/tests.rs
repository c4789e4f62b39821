use std::collections::BTreeMap;

use chrono::TimeZone as _;
use proptest::prelude::*;

use super::*;
use crate::format::Format;
use crate::ids::{FileIndex, SessionId};
use crate::names::StreamKey;
use crate::pb::{node, v1};

fn at(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_790_000_000 + seconds, 123_456_000).unwrap()
}

fn recording() -> RecordingId {
    RecordingId::new(at(0), [3; 10])
}

fn session() -> SessionId {
    SessionId::new(at(0), [4; 10])
}

fn stream_key() -> StreamKey {
    StreamKey::new("push.example.com", "live", "直播-1").unwrap()
}

fn failure() -> Failure {
    Failure {
        code: i32::from(Code::NotFound),
        reason: "NoSuchBucket".into(),
        message: "The specified bucket does not exist".into(),
        http_status: 404,
        request_id: "4442587FB7D0A2F9".into(),
    }
}

fn snapshot() -> StreamSnapshot {
    StreamSnapshot {
        session: session(),
        stream: stream_key(),
        protocol: v1::protocol::Kind::Rtmp,
        remote_address: "192.0.2.1:4711".into(),
        encoder: "obs-output module (libobs version 31.0)".into(),
        start_time: at(0),
        tracks: vec![Track {
            kind: "video".into(),
            codec: "h264".into(),
            bit_rate_bps: 2_500_000,
            frame_rate: 29.97,
            width: 1920,
            height: 1080,
            key_frame_interval_micros: 2_000_000,
            frames: 1 << 40,
            frames_rejected: 1,
            ..Default::default()
        }],
        recordings: vec![recording()],
    }
}

fn outputs() -> Vec<OutputTotals> {
    vec![OutputTotals {
        format: Format::Mp4,
        files: 2,
        bytes_recorded: 9_007_199_254_740_991,
        bytes_uploaded: 7,
        upload_lag_micros: 1_500_000,
        error: Some(failure()),
    }]
}

fn gap() -> GapSpan {
    GapSpan { start_time: at(5), duration_micros: 3_000_001, reason: v1::gap::Reason::PublisherLost }
}

fn available() -> FileAvailable {
    FileAvailable {
        format: Format::Hls,
        index: FileIndex(1),
        storage: "s3".parse().unwrap(),
        object_key: "a/b/index.m3u8".into(),
        uri: "s3://bucket/a/b/index.m3u8".into(),
        content_type: "application/vnd.apple.mpegurl".into(),
        size_bytes: 12_345_678_901,
        objects: 7,
        crc32c: "yZRlqg==".into(),
        object_etag: "\"abc\"".into(),
        start_time: at(0),
        end_time: at(60),
        duration_micros: 60_040_000,
        video: Some(Video { codec: "h264".into(), width: 1920, height: 1080, frame_rate: 25.0 }),
        audio: Some(Audio { codec: "aac".into(), sample_rate: 48_000, channels: 2, transcoded: true }),
        available_time: at(62),
    }
}

fn one_of_each() -> Vec<FactKind> {
    let storage = || "s3".parse().unwrap();
    vec![
        snapshot().into(),
        StreamUpdate(snapshot()).into(),
        StreamEnded {
            session: session(),
            stream: stream_key(),
            end_time: at(9),
            orderly: false,
            cause: "connection lost".into(),
            error: Some(failure()),
            tracks: snapshot().tracks,
            bytes_received: 77,
        }
        .into(),
        RecordingStarted {
            stream: stream_key(),
            session: session(),
            protocol: v1::protocol::Kind::Whip,
            origin: "rules/vip".into(),
            also: vec!["tasks/t".into()],
            template: "show".parse().unwrap(),
            template_revision: 3,
            storage: storage(),
            labels: BTreeMap::from([("team".into(), "news".into())]),
            formats: vec![Format::Hls, Format::Mp4],
            start_time: at(0),
            claim_key: "m1/boot/session/show".into(),
        }
        .into(),
        RecordingInterrupted {
            since: at(5),
            resume_deadline: at(35),
            reason: v1::gap::Reason::PublisherLost,
            media_duration_micros: 5_000_000,
            outputs: outputs(),
        }
        .into(),
        RecordingResumed { session: session(), time: at(8), gap: gap() }.into(),
        RecordingEnded {
            end_reason: v1::recording::EndReason::ResumeTimeout,
            start_time: at(0),
            end_time: at(60),
            media_duration_micros: 57_000_000,
            gaps: vec![gap()],
            outputs: outputs(),
            error: None,
        }
        .into(),
        RecordingManifest {
            storage: storage(),
            object_key: "a/b/manifest.json".into(),
            uri: "s3://bucket/a/b/manifest.json".into(),
            size_bytes: 4_321,
            crc32c: "yZRlqg==".into(),
        }
        .into(),
        RecordingAbnormal {
            found: vec![AbnormalSpan {
                kind: v1::health::Kind::VideoTimestampJump,
                count: 3,
                first_time: at(5),
                last_time: at(7),
            }],
        }
        .into(),
        FileOpened {
            format: Format::Flv,
            index: FileIndex(0),
            storage: storage(),
            object_key: "a/b.flv".into(),
            uri: "s3://bucket/a/b.flv".into(),
            content_type: "video/x-flv".into(),
            start_time: at(0),
            video: None,
            audio: available().audio,
        }
        .into(),
        available().into(),
        FileFailed {
            format: Format::Aac,
            index: FileIndex(2),
            storage: storage(),
            object_key: "a/b-2.aac".into(),
            error: failure(),
            bytes_kept: 9,
        }
        .into(),
        StorageFailing { storage: storage(), credential_version: 2, since: at(1), error: failure() }.into(),
        StorageRecovered { storage: storage(), credential_version: 3, time: at(9) }.into(),
        UploadStalled {
            format: Format::Mp4,
            index: FileIndex(0),
            storage: storage(),
            object_key: "a/b.mp4".into(),
            since: at(1),
            bytes_waiting: 8,
            error: None,
        }
        .into(),
        UploadRecovered {
            format: Format::Mp4,
            index: FileIndex(0),
            storage: storage(),
            object_key: "a/b.mp4".into(),
            stalled_micros: 61_000_000,
        }
        .into(),
        DirectiveRejected { directive: "standing/rules/vip".into(), version: 12, error: failure() }.into(),
    ]
}

fn fact(kind: FactKind) -> Fact {
    Fact {
        sequence: Sequence(42),
        id: EventId::new(at(1), [9; 10]),
        time: at(1),
        recording: Some(recording()),
        epoch: Epoch(2),
        kind,
    }
}

#[test]
fn every_fact_survives_the_wire() {
    for kind in one_of_each() {
        let fact = fact(kind);
        let bytes = prost::Message::encode_to_vec(&node::Fact::from(&fact));
        let wire: node::Fact = prost::Message::decode(bytes.as_slice()).unwrap();
        assert_eq!(Fact::try_from(&wire).unwrap(), fact, "{}", fact.kind.event_type());
    }
}

#[test]
fn every_reported_type_has_a_fact() {
    let types: Vec<&str> = one_of_each().iter().map(FactKind::event_type).collect();
    assert_eq!(types, event_type::REPORTED);
}

#[test]
fn unknown_fields_and_names_are_ignored_but_missing_ones_are_not() {
    let mut wire = node::Fact::from(&fact(one_of_each().swap_remove(5)));
    let data = wire.data.as_mut().unwrap();
    data.fields
        .insert("new_in_next_release".into(), to_struct(&serde_json::json!({"a": 1})).fields.remove("a").unwrap());
    assert!(Fact::try_from(&wire).is_ok());

    let mut json = from_struct(wire.data.as_ref().unwrap());
    json["gap"]["reason"] = "SOLAR_FLARE".into();
    wire.data = Some(to_struct(&json));
    match Fact::try_from(&wire).unwrap().kind {
        FactKind::RecordingResumed(resumed) => assert_eq!(resumed.gap.reason, v1::gap::Reason::Unspecified),
        other => panic!("{other:?}"),
    }

    json.as_object_mut().unwrap().remove("session");
    wire.data = Some(to_struct(&json));
    assert_eq!(Fact::try_from(&wire).unwrap_err().to_string(), "data of recording.resumed: missing field `session`");
    wire.r#type = "recording.teleported".into();
    assert_eq!(Fact::try_from(&wire).unwrap_err(), FactError::UnknownType("recording.teleported".into()));
}

#[test]
fn bad_headers_are_refused() {
    let good = node::Fact::from(&fact(one_of_each().swap_remove(0)));
    let refused = |change: &dyn Fn(&mut node::Fact)| {
        let mut wire = good.clone();
        change(&mut wire);
        Fact::try_from(&wire).unwrap_err()
    };
    assert_eq!(refused(&|w| w.id = "x".into()), FactError::Field("id"));
    assert_eq!(refused(&|w| w.time = None), FactError::Field("time"));
    assert_eq!(refused(&|w| w.recording = "recordings/x".into()), FactError::Field("recording"));
    assert!(matches!(refused(&|w| w.data = None), FactError::Data { .. }));
}

#[test]
fn resources_get_every_field_the_node_knows() {
    let stream = snapshot().to_pb(&"m1".parse().unwrap());
    assert_eq!(stream.name, format!("streams/{}", session()));
    assert_eq!((stream.node.as_str(), stream.tracks[0].frames), ("nodes/m1", 1 << 40));
    assert_eq!(stream.recordings, [format!("recordings/{}", recording())]);

    let file = available().to_pb(recording(), Epoch(2));
    assert_eq!(file.name, format!("recordings/{}/files/hls-1", recording()));
    assert_eq!((file.size_bytes, file.epoch, file.state()), (12_345_678_901, 2, v1::file::State::Available));
    assert_eq!(file.duration.unwrap().nanos, 40_000_000);
    assert!(file.audio.unwrap().transcoded && file.video.unwrap().width == 1920);

    let error = outputs()[0].to_pb().error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (5, "The specified bucket does not exist"));
    let problem = Problem::from(&error);
    assert_eq!((problem.reason.as_str(), problem.metadata["http_status"].as_str()), ("NoSuchBucket", "404"));
    assert_eq!(Failure::from(&problem), failure());

    assert_eq!(origin_to_pb("tasks/t"), Some(v1::recording::Origin::Task("tasks/t".into())));
    assert_eq!(origin_to_pb("nothing"), None);
}

proptest! {
    #[test]
    fn no_data_panics(name in prop::sample::select(event_type::REPORTED), key in "[a-z_]{0,12}", number: f64, text: String) {
        let mut wire = node::Fact::from(&fact(one_of_each().swap_remove(0)));
        wire.r#type = name.to_owned();
        wire.data = Some(to_struct(&serde_json::json!({ key: { "stream": text, "n": number } })));
        let _ = Fact::try_from(&wire);
        let back = from_struct(wire.data.as_ref().unwrap());
        prop_assert_eq!(to_struct(&back), wire.data.unwrap());
    }
}
