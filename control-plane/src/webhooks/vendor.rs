//! Bodies as Tencent Cloud CSS sends them (mission.md, rows 22 to 30), so that an existing receiver works unchanged.
//!
//! One event of ours may be several of the vendor's, because theirs are about one format each; some of ours are none.
use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::events::Row;
use recorder_proto::facts::event_type as kind;
use recorder_proto::format::Format;
use recorder_proto::health::Abnormality;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::gap::Reason;
use recorder_proto::pb::v1::health::{Kind, Level};
use recorder_proto::pb::v1::recording::Origin;
use recorder_proto::time;
use serde_json::{Value, json};

use super::sign;
use crate::event_data;

/// A publisher has gone.
const PUSH_ENDED: i64 = 0;
/// A publisher has come.
const PUSH_STARTED: i64 = 1;
/// A file is available.
const FILE: i64 = 100;
/// A recording has changed its state.
const STATUS: i64 = 332;
/// Something is wrong with what is recorded.
const ABNORMAL: i64 = 341;

/// How long a signature is good, seconds.
const VALIDITY: i64 = 600;

/// The vendor's number of an account, which nobody here has.
const APPID: i64 = 0;

/// What every body says of the receiver's own business.
#[derive(Debug, Clone, Copy)]
pub struct Seal<'a> {
    /// The callback key.
    pub key: &'a str,
    /// When it is sent.
    pub now: DateTime<Utc>,
}

/// How many bodies an event makes; 0 when the vendor has nothing of the kind.
pub fn parts(row: &Row) -> usize {
    bodies(row, None).len()
}

/// One body of an event, sealed. `storage` is where the recording's files are, for their public addresses.
pub fn body(row: &Row, part: usize, storage: Option<&v1::Storage>, seal: Seal<'_>) -> Option<Value> {
    Some(sealed(bodies(row, storage).into_iter().nth(part)?, seal))
}

/// The body of a test: an abnormality that is none, because a receiver takes no steps because of it.
pub fn test(webhook: &str, seal: Seal<'_>) -> Value {
    let test = json!({
        "event_type": ABNORMAL, "appid": APPID, "stream_id": "", "session_id": "", "file_format": "",
        "timestamp": seal.now.timestamp(), "exception_level": "info",
        "exception": {"type": 0, "occurs": 0, "desc": format!("test of {webhook}")},
    });
    sealed(test, seal)
}

fn sealed(mut body: Value, seal: Seal<'_>) -> Value {
    let expiry = seal.now.timestamp().saturating_add(VALIDITY);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("t".to_owned(), json!(expiry));
        fields.insert("sign".to_owned(), json!(sign::vendor(seal.key, expiry)));
    }
    body
}

fn bodies(row: &Row, storage: Option<&v1::Storage>) -> Vec<Value> {
    match row.kind.as_str() {
        kind::STREAM_STARTED | kind::STREAM_ENDED => push(row).into_iter().collect(),
        kind::FILE_AVAILABLE => file(row, storage).into_iter().collect(),
        kind::RECORDING_STARTED
        | kind::RECORDING_INTERRUPTED
        | kind::RECORDING_RESUMED
        | kind::RECORDING_ENDED
        | kind::RECORDING_FAILED => recording(row),
        kind::RECORDING_ABNORMAL => abnormal(row),
        _ => Vec::new(),
    }
}

/// Rows 30: push start and end.
fn push(row: &Row) -> Option<Value> {
    let stream = v1::Stream::decode(row.body.as_slice()).ok()?;
    let of = stream.stream.clone().unwrap_or_default();
    let ended = row.kind == kind::STREAM_ENDED;
    let (errcode, errmsg) = outcome(&stream, ended);
    let (ip, _) = stream.remote_address.rsplit_once(':').unwrap_or((&stream.remote_address, ""));
    let video = stream.tracks.iter().find(|track| track.kind == "video");
    let mut body = json!({
        "event_type": if ended { PUSH_ENDED } else { PUSH_STARTED },
        "appid": APPID, "app": of.domain, "appname": of.app, "stream_id": of.stream, "channel_id": of.stream,
        "event_time": row.time / 1_000_000,
        "sequence": stream.name.trim_start_matches("streams/"), "node": stream.node.trim_start_matches("nodes/"),
        "user_ip": ip.trim_matches(['[', ']']), "stream_param": "", "errcode": errcode, "errmsg": errmsg, "set_id": 0,
        "width": video.map_or(0, |video| video.width), "height": video.map_or(0, |video| video.height),
    });
    if let (true, Some(fields)) = (ended, body.as_object_mut()) {
        fields.insert("push_duration".to_owned(), json!(push_duration(row, &stream).to_string()));
    }
    Some(body)
}

/// Milliseconds from start to end.
fn push_duration(row: &Row, stream: &v1::Stream) -> i64 {
    let began = stream.start_time.as_ref().and_then(time::datetime).map_or(row.time, time::micros);
    row.time.saturating_sub(began).max(0) / 1000
}

/// A publisher that said goodbye, and one that was just gone, in the vendor's words.
fn outcome(stream: &v1::Stream, ended: bool) -> (i64, String) {
    match &stream.end {
        _ if !ended => (0, "ok".to_owned()),
        Some(end) if end.orderly => (1, "recv rtmp deleteStream".to_owned()),
        Some(end) => (3, end.cause.clone()),
        None => (4, "its node went down".to_owned()),
    }
}

/// Rows 24 and 25: a file that is complete.
fn file(row: &Row, storage: Option<&v1::Storage>) -> Option<Value> {
    let change = event_data::change(row)?;
    let (recording, file) = (change.recording?, change.file?);
    let of = recording.stream.clone().unwrap_or_default();
    let (start, start_usec) = split(file.start_time.as_ref());
    let (end, end_usec) = split(file.end_time.as_ref());
    let id = file.name.trim_start_matches("recordings/").replace("/files/", "-");
    let video = file.video.clone().unwrap_or_default();
    let ext = json!({
        "video_codec": video.codec, "resolution": format!("{}x{}", video.width, video.height),
        "session_id": session(&recording),
    });
    let mut body = json!({
        "event_type": FILE, "appid": APPID, "app": of.domain, "appname": of.app, "stream_id": of.stream,
        "channel_id": of.stream, "file_id": id, "record_file_id": id, "file_format": word(file.format()),
        "start_time": start, "end_time": end, "start_time_usec": start_usec, "end_time_usec": end_usec,
        "duration": event_data::seconds(file.duration.as_ref()).as_secs_f64().round() as i64,
        "file_size": file.size_bytes, "video_url": address(&file.uri, storage), "media_start_time": 0,
        "record_bps": 0, "callback_ext": ext.to_string(),
    });
    if let Some(fields) = body.as_object_mut() {
        match &recording.origin {
            Some(Origin::Task(task)) => fields.insert("task_id".to_owned(), json!(task.trim_start_matches("tasks/"))),
            _ => fields.insert("stream_param".to_owned(), json!("")),
        };
    }
    Some(body)
}

/// Row 26, one for each format.
fn recording(row: &Row) -> Vec<Value> {
    let Ok(recording) = v1::Recording::decode(row.body.as_slice()) else { return Vec::new() };
    let event = match row.kind.as_str() {
        kind::RECORDING_STARTED => "record_start_succeeded",
        kind::RECORDING_INTERRUPTED => "record_paused",
        kind::RECORDING_RESUMED => "record_resumed",
        kind::RECORDING_FAILED if recording.media_duration.is_none() => "record_start_failed",
        kind::RECORDING_FAILED => "record_error",
        _ => "record_ended",
    };
    let mut bodies: Vec<Value> =
        recording.outputs.iter().map(|output| status(row, &recording, output.format(), event)).collect();
    if row.kind == kind::RECORDING_ENDED {
        bodies.extend(unwritten(row, &recording));
    }
    bodies
}

fn status(row: &Row, recording: &v1::Recording, format: v1::format::Kind, event: &str) -> Value {
    use v1::format::Kind::{Aac, Flv, Hls, Mp4, Unspecified};
    let of = recording.stream.clone().unwrap_or_default();
    let number = match format {
        Unspecified => 0,
        Flv => 1,
        Hls => 2,
        Mp4 => 3,
        Aac => 4,
    };
    let by_task = matches!(recording.origin, Some(Origin::Task(_)));
    json!({
        "event_type": STATUS, "appid": APPID, "appname": of.app, "domain": of.domain, "stream_id": of.stream,
        "event_time": row.time / 1_000_000, "session_id": session(recording), "seq": row.seq, "record_event": event,
        "record_detail": {
            "file_format": number, "record_bps": 0, "start_model": if by_task { 5 } else { 1 },
            "record_content": 1, "source_type": 1, "codec_temp_id": 0,
        },
    })
}

/// Row 27, one for each kind of which there is news.
fn abnormal(row: &Row) -> Vec<Value> {
    let Ok(recording) = v1::Recording::decode(row.body.as_slice()) else { return Vec::new() };
    let findings = recording.health.iter().flat_map(|health| &health.findings).filter(|finding| finding.recent > 0);
    let body = |finding: &v1::health::Finding| {
        let at = finding.last_time.as_ref().map_or(row.time / 1_000_000, |time| time.seconds);
        exception(&recording, Abnormality::of(finding.kind())?, finding.recent, at)
    };
    findings.filter_map(body).collect()
}

/// What nodes tell that know of no health report: they only count as a hole what could not be written.
fn unwritten(row: &Row, recording: &v1::Recording) -> Option<Value> {
    let failed = Abnormality::of(Kind::WriteFailed)?;
    let is_told = recording.health.iter().flat_map(|health| &health.findings).any(|known| known.kind() == failed.kind);
    let count = recording.gaps.iter().filter(|gap| gap.reason() == Reason::SpoolFailed).count();
    if is_told || count == 0 {
        return None;
    }
    exception(recording, failed, u64::try_from(count).unwrap_or(u64::MAX), row.time / 1_000_000)
}

fn exception(recording: &v1::Recording, what: &Abnormality, occurs: u64, timestamp: i64) -> Option<Value> {
    let level = match what.level {
        Level::Unspecified => return None,
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let formats: Vec<&str> = recording.outputs.iter().map(|output| word(output.format())).collect();
    Some(json!({
        "event_type": ABNORMAL, "appid": APPID,
        "stream_id": recording.stream.clone().unwrap_or_default().stream, "session_id": session(recording),
        "file_format": formats.join(","), "timestamp": timestamp, "exception_level": level,
        "exception": {"type": what.code, "occurs": occurs, "desc": what.words},
    }))
}

/// The vendor's id of a recording: of the task that made it, or of its own.
fn session(recording: &v1::Recording) -> String {
    match &recording.origin {
        Some(Origin::Task(task)) => task.trim_start_matches("tasks/").to_owned(),
        _ => recording.name.trim_start_matches("recordings/").to_owned(),
    }
}

fn word(format: v1::format::Kind) -> &'static str {
    Format::try_from(format).map_or("", Format::as_str)
}

/// Seconds, and the microseconds beyond.
fn split(wire: Option<&prost_types::Timestamp>) -> (i64, i32) {
    wire.map_or((0, 0), |wire| (wire.seconds, wire.nanos / 1000))
}

/// The address under which a browser would find the object; ours where it has none.
fn address(uri: &str, storage: Option<&v1::Storage>) -> String {
    use v1::storage::Target::{Gcs, S3};
    let Some((bucket, key)) = uri.split_once("://").and_then(|(_, rest)| rest.split_once('/')) else {
        return uri.to_owned();
    };
    let at = |endpoint: &str| format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/'));
    match storage.and_then(|storage| storage.target.as_ref()) {
        Some(S3(s3)) if uri.starts_with("s3://") && s3.endpoint.is_empty() => {
            format!("https://{bucket}.s3.{}.amazonaws.com/{key}", s3.region)
        }
        Some(S3(s3)) if uri.starts_with("s3://") => at(&s3.endpoint),
        Some(Gcs(gcs)) if uri.starts_with("gs://") && !gcs.endpoint.is_empty() => at(&gcs.endpoint),
        Some(Gcs(_)) if uri.starts_with("gs://") => at("https://storage.googleapis.com"),
        _ => uri.to_owned(),
    }
}

/// What a delivery of the vendor's kind is looked up by: the storage of the recording that an event is about.
pub fn storage_of(row: &Row) -> Option<String> {
    let name = event_data::change(row)?.recording?.storage;
    Some(name.trim_start_matches("storages/").to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
#[path = "vendor_tests.rs"]
mod tests;
