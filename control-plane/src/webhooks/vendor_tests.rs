use chrono::DateTime;
use recorder_proto::health::ABNORMALITIES;
use recorder_proto::pb::v1::file::Video;
use recorder_proto::pb::v1::health::Finding;
use recorder_proto::pb::v1::recording::Output;
use recorder_proto::pb::v1::stream::{End, Track};
use recorder_proto::pb::v1::{Gap, StreamRef};

use super::*;

const NOW: i64 = 1_780_000_100;

fn row(kind: &str, subject: &str, body: &impl Message) -> Row {
    Row {
        seq: 77,
        id: "01J0".to_owned(),
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        time: 1_780_000_060_000_000,
        body: body.encode_to_vec(),
    }
}

fn seal() -> Seal<'static> {
    Seal { key: "5d41402abc4b2a76b9719d911017c592", now: DateTime::from_timestamp(NOW, 0).unwrap() }
}

fn stream() -> StreamRef {
    StreamRef { domain: "push.example.com".to_owned(), app: "live".to_owned(), stream: "cam1".to_owned() }
}

fn of_task() -> v1::Recording {
    let output = |format: v1::format::Kind| Output { format: format as i32, ..Output::default() };
    v1::Recording {
        name: "recordings/01J1".to_owned(),
        stream: Some(stream()),
        origin: Some(Origin::Task("tasks/ny".to_owned())),
        storage: "storages/s3".to_owned(),
        outputs: vec![output(v1::format::Kind::Hls), output(v1::format::Kind::Mp4)],
        ..v1::Recording::default()
    }
}

fn of_rule() -> v1::Recording {
    v1::Recording { origin: Some(Origin::Rule("rules/vip".to_owned())), ..of_task() }
}

fn s3(endpoint: &str) -> v1::Storage {
    let s3 = v1::storage::S3 {
        bucket: "rec".to_owned(),
        region: "ap-southeast-1".to_owned(),
        endpoint: endpoint.to_owned(),
        ..Default::default()
    };
    v1::Storage { target: Some(v1::storage::Target::S3(s3)), ..v1::Storage::default() }
}

fn file_event(recording: v1::Recording) -> Row {
    let file = v1::File {
        name: "recordings/01J1/files/mp4-0".to_owned(),
        format: v1::format::Kind::Mp4 as i32,
        uri: "s3://rec/origin/a.mp4".to_owned(),
        size_bytes: 12_345_678_901,
        start_time: Some(prost_types::Timestamp { seconds: 1_780_000_000, nanos: 250_001_000 }),
        end_time: Some(prost_types::Timestamp { seconds: 1_780_000_059, nanos: 750_000_000 }),
        duration: Some(prost_types::Duration { seconds: 59, nanos: 500_000_000 }),
        video: Some(Video { codec: "h264".to_owned(), width: 1920, height: 1080, frame_rate: 25.0 }),
        ..v1::File::default()
    };
    let change = v1::WatchRecordingsResponse { recording: Some(recording), file: Some(file), ..Default::default() };
    row("file.available", "recordings/01J1/files/mp4-0", &change)
}

fn holds(body: &Value, expected: &Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&body[key], value, "{key} in {body}");
    }
}

#[test]
fn every_body_is_sealed_for_ten_minutes() {
    let body = body(&file_event(of_rule()), 0, None, seal()).unwrap();
    assert_eq!(body["t"], json!(NOW + 600));
    assert_eq!(body["sign"], json!(sign::vendor(seal().key, NOW + 600)));
    holds(&test("webhooks/ops", seal()), &json!({"event_type": 341, "t": NOW + 600, "exception_level": "info"}));
}

#[test]
fn row_24_a_file() {
    let body = body(&file_event(of_task()), 0, Some(&s3("")), seal()).unwrap();
    let expected = json!({
        "event_type": 100, "app": "push.example.com", "appname": "live", "stream_id": "cam1", "channel_id": "cam1",
        "file_id": "01J1-mp4-0", "record_file_id": "01J1-mp4-0", "file_format": "mp4", "task_id": "ny",
        "start_time": 1_780_000_000, "start_time_usec": 250_001, "end_time": 1_780_000_059, "end_time_usec": 750_000,
        "duration": 60, "file_size": 12_345_678_901_u64,
        "video_url": "https://rec.s3.ap-southeast-1.amazonaws.com/origin/a.mp4",
    });
    holds(&body, &expected);
    assert_eq!(body.get("stream_param"), None, "absent for tasks");
    let ext: Value = serde_json::from_str(body["callback_ext"].as_str().unwrap()).unwrap();
    assert_eq!(ext, json!({"video_codec": "h264", "resolution": "1920x1080", "session_id": "ny"}));
}

#[test]
fn row_24_a_file_of_a_rule() {
    let body = body(&file_event(of_rule()), 0, Some(&s3("http://minio:9000/")), seal()).unwrap();
    holds(&body, &json!({"stream_param": "", "video_url": "http://minio:9000/rec/origin/a.mp4"}));
    assert_eq!(body.get("task_id"), None);
    assert_eq!(storage_of(&file_event(of_rule())).as_deref(), Some("s3"));
}

#[test]
fn row_26_the_states_of_a_recording_for_each_format() {
    for (kind, recording, event) in [
        ("recording.started", of_rule(), "record_start_succeeded"),
        ("recording.interrupted", of_rule(), "record_paused"),
        ("recording.resumed", of_rule(), "record_resumed"),
        ("recording.ended", of_rule(), "record_ended"),
        ("recording.failed", of_rule(), "record_start_failed"),
        ("recording.failed", v1::Recording { media_duration: Some(Default::default()), ..of_rule() }, "record_error"),
    ] {
        let row = row(kind, "recordings/01J1", &recording);
        assert_eq!(parts(&row), 2, "{kind}");
        let bodies: Vec<Value> = (0..3).filter_map(|part| body(&row, part, None, seal())).collect();
        assert_eq!(bodies.len(), 2);
        for (body, format) in bodies.iter().zip([2, 3]) {
            let expected = json!({
                "event_type": 332, "appname": "live", "domain": "push.example.com", "stream_id": "cam1",
                "session_id": "01J1", "seq": 77, "event_time": 1_780_000_060, "record_event": event,
            });
            holds(body, &expected);
            let detail = json!({"file_format": format, "start_model": 1, "record_content": 1, "source_type": 1});
            holds(&body["record_detail"], &detail);
        }
    }
    let task = body(&row("recording.started", "recordings/01J1", &of_task()), 0, None, seal()).unwrap();
    assert_eq!((&task["session_id"], &task["record_detail"]["start_model"]), (&json!("ny"), &json!(5)));
}

fn finding(kind: Kind, count: u64, recent: u64) -> Finding {
    let known = Abnormality::of(kind).unwrap();
    let last_time = Some(prost_types::Timestamp { seconds: 1_780_000_050, nanos: 900_000_000 });
    let (code, level) = (known.code, known.level.into());
    Finding { kind: kind.into(), code, level, count, recent, first_time: last_time, last_time }
}

/// Row 28: a body for each code of which there is news, with what is new of it.
#[test]
fn row_27_what_is_abnormal_is_told_code_by_code() {
    let findings = ABNORMALITIES.iter().map(|known| finding(known.kind, 9, 2)).collect();
    let every = v1::Recording { health: Some(v1::Health { findings }), ..of_rule() };
    let row = row("recording.abnormal", "recordings/01J1", &every);
    assert_eq!(parts(&row), ABNORMALITIES.len());
    for (part, known) in ABNORMALITIES.iter().enumerate() {
        let level = known.level.as_str_name().to_lowercase();
        let expected = json!({
            "event_type": 341, "appid": 0, "stream_id": "cam1", "session_id": "01J1", "file_format": "hls,mp4",
            "timestamp": 1_780_000_050, "exception_level": level, "t": NOW + 600,
            "exception": {"type": known.code, "occurs": 2, "desc": known.words},
        });
        holds(&body(&row, part, None, seal()).unwrap(), &expected);
    }
}

#[test]
fn row_27_what_was_told_before_is_not_told_again() {
    let findings = vec![finding(Kind::NoVideo, 3, 0), finding(Kind::GopAbnormal, 4, 1)];
    let row = row(
        "recording.abnormal",
        "recordings/01J1",
        &v1::Recording { health: Some(v1::Health { findings }), ..of_task() },
    );
    assert_eq!(parts(&row), 1);
    let body = body(&row, 0, None, seal()).unwrap();
    holds(
        &body,
        &json!({"session_id": "ny", "exception": {"type": -132, "occurs": 1, "desc": "key frames are too far apart"}}),
    );
}

/// A node of the release before tells of holes only.
#[test]
fn row_27_a_hole_that_nobody_explained_is_told_at_the_end() {
    let gap = |reason: Reason| Gap { reason: reason as i32, ..Gap::default() };
    let gaps = vec![gap(Reason::PublisherLost), gap(Reason::FramesRejected), gap(Reason::SpoolFailed)];
    let ended = v1::Recording { gaps, ..of_rule() };
    let told = row("recording.ended", "recordings/01J1", &ended);
    assert_eq!(parts(&told), 3);
    let body = body(&told, 2, None, seal()).unwrap();
    let expected = json!({
        "event_type": 341, "exception_level": "error", "timestamp": 1_780_000_060,
        "exception": {"type": -104, "occurs": 1, "desc": "media could not be written"},
    });
    holds(&body, &expected);
    let health = Some(v1::Health { findings: vec![finding(Kind::WriteFailed, 1, 1)] });
    let known = row("recording.ended", "recordings/01J1", &v1::Recording { health, ..ended });
    assert_eq!(parts(&known), 2, "it was told when it happened");
}

#[test]
fn row_30_push_start_and_end() {
    let began = v1::Stream {
        name: "streams/01J2".to_owned(),
        stream: Some(stream()),
        node: "nodes/m1".to_owned(),
        remote_address: "[2001:db8::7]:50000".to_owned(),
        start_time: Some(prost_types::Timestamp { seconds: 1_780_000_000, nanos: 0 }),
        tracks: vec![Track { kind: "video".to_owned(), width: 1280, height: 720, ..Track::default() }],
        ..v1::Stream::default()
    };
    let start = body(&row("stream.started", "streams/01J2", &began), 0, None, seal()).unwrap();
    let expected = json!({
        "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": "cam1", "channel_id": "cam1",
        "event_time": 1_780_000_060, "sequence": "01J2", "node": "m1", "user_ip": "2001:db8::7", "errcode": 0,
        "errmsg": "ok", "width": 1280, "height": 720,
    });
    holds(&start, &expected);
    assert_eq!(start.get("push_duration"), None);
    let end = |orderly, cause: &str| {
        let end = End { time: None, orderly, cause: cause.to_owned() };
        let gone = v1::Stream { end: Some(end), ..began.clone() };
        body(&row("stream.ended", "streams/01J2", &gone), 0, None, seal()).unwrap()
    };
    let expected = json!({
        "event_type": 0, "errcode": 1, "errmsg": "recv rtmp deleteStream", "sequence": "01J2", "push_duration": "60000",
    });
    holds(&end(true, "publisher left"), &expected);
    holds(&end(false, "connection lost"), &json!({"errcode": 3, "errmsg": "connection lost"}));
    let unknown = body(&row("stream.ended", "streams/01J2", &began), 0, None, seal()).unwrap();
    holds(&unknown, &json!({"errcode": 4, "errmsg": "its node went down"}));
}

#[test]
fn what_the_vendor_has_no_word_for_is_not_sent() {
    for kind in ["recording.split", "file.opened", "stream.updated", "node.lost", "template.created"] {
        assert_eq!(parts(&row(kind, "x", &of_rule())), 0, "{kind}");
    }
    let damaged = Row { body: vec![0xff; 7], ..file_event(of_rule()) };
    assert_eq!(parts(&damaged), 0);
}
