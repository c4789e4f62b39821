//! Events as users see them: the resource in proto JSON, the same in lists, watches and webhooks.
//!
//! The bodies in the database are encoded messages (see [`crate::feed`]); the contract's own descriptors turn them into
//! JSON, so that a new field needs no code here.
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::SecondsFormat;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value as Reflected};
use recorder_db::events::Row;
use recorder_proto::facts::to_struct;
use recorder_proto::pb::{FILE_DESCRIPTOR_SET, v1};
use recorder_proto::time;
use serde_json::{Map, Value};

/// Messages inside messages deeper than this are left out; ours are not half as deep.
const DEPTH_MAX: usize = 32;

/// The event with its resource.
pub fn shown(row: &Row) -> v1::Event {
    v1::Event {
        id: row.id.clone(),
        sequence: u64::try_from(row.seq).unwrap_or_default(),
        r#type: row.kind.clone(),
        subject: row.subject.clone(),
        time: Some(time::timestamp(time::from_micros(row.time))),
        data: Some(to_struct(&data(row))),
    }
}

/// The resource that an event is about, as JSON; empty when it cannot be read.
pub fn data(row: &Row) -> Value {
    let (message, body) = match row.kind.split('.').next().unwrap_or_default() {
        "file" | "upload" => {
            let file = change(row).and_then(|change| change.file).unwrap_or_default();
            ("recorder.v1.File", file.encode_to_vec())
        }
        collection => (message_of(collection), row.body.clone()),
    };
    json(message, &body)
}

/// Any message of the contract as proto JSON; empty when there is no such message.
pub fn json(message: &str, body: &[u8]) -> Value {
    let descriptor = pool().get_message_by_name(message);
    let decoded = descriptor.and_then(|descriptor| DynamicMessage::decode(descriptor, body).ok());
    decoded.map_or_else(|| Value::Object(Map::new()), |decoded| of_message(&decoded, DEPTH_MAX))
}

/// What a `file.*` or `upload.*` event holds: the file and its recording.
pub fn change(row: &Row) -> Option<v1::WatchRecordingsResponse> {
    v1::WatchRecordingsResponse::decode(row.body.as_slice()).ok()
}

/// The push domain that an event belongs to; None for events of the whole server.
pub fn domain(row: &Row) -> Option<String> {
    let stream = |stream: Option<v1::StreamRef>| stream.map(|stream| stream.domain);
    let of_name =
        |name: &str| name.strip_prefix("domains/").map(|rest| rest.split('/').next().unwrap_or(rest).to_owned());
    let body = row.body.as_slice();
    let found = match row.kind.split('.').next().unwrap_or_default() {
        "recording" => stream(v1::Recording::decode(body).ok()?.stream),
        "file" | "upload" => stream(change(row)?.recording?.stream),
        "stream" => stream(v1::Stream::decode(body).ok()?.stream),
        "task" => stream(v1::Task::decode(body).ok()?.stream),
        "rule" => of_name(&v1::Rule::decode(body).ok()?.domain),
        "domain" | "binding" => of_name(&row.subject),
        _ => None,
    };
    found.filter(|domain| !domain.is_empty())
}

fn message_of(collection: &str) -> &'static str {
    match collection {
        "recording" => "recorder.v1.Recording",
        "stream" => "recorder.v1.Stream",
        "node" => "recorder.v1.Node",
        "storage" => "recorder.v1.Storage",
        "template" => "recorder.v1.Template",
        "domain" => "recorder.v1.Domain",
        "binding" => "recorder.v1.Binding",
        "rule" => "recorder.v1.Rule",
        "task" => "recorder.v1.Task",
        "webhook" => "recorder.v1.Webhook",
        "token" => "recorder.v1.Token",
        "directive" => "google.rpc.Status",
        _ => "",
    }
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    // Our own build made the set; a test walks it.
    POOL.get_or_init(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default())
}

fn of_message(message: &DynamicMessage, depth: usize) -> Value {
    let encoded = message.encode_to_vec();
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => {
            let wire = prost_types::Timestamp::decode(encoded.as_slice()).unwrap_or_default();
            let at = time::datetime(&wire).unwrap_or_default();
            Value::String(at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
        "google.protobuf.Duration" => {
            let wire = prost_types::Duration::decode(encoded.as_slice()).unwrap_or_default();
            Value::String(time::wire_text(&wire))
        }
        "google.protobuf.Any" => of_any(&prost_types::Any::decode(encoded.as_slice()).unwrap_or_default(), depth),
        _ => Value::Object(of_fields(message, depth)),
    }
}

fn of_fields(message: &DynamicMessage, depth: usize) -> Map<String, Value> {
    let Some(depth) = depth.checked_sub(1) else { return Map::new() };
    let value = |(field, value): (FieldDescriptor, &Reflected)| {
        (field.json_name().to_owned(), of_value(&field.kind(), value, depth))
    };
    message.fields().map(value).collect()
}

/// Details of an error; those that nobody here knows are named only.
fn of_any(any: &prost_types::Any, depth: usize) -> Value {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let decoded =
        pool().get_message_by_name(name).and_then(|found| DynamicMessage::decode(found, any.value.as_slice()).ok());
    let mut fields = decoded.map(|decoded| of_fields(&decoded, depth)).unwrap_or_default();
    fields.insert("@type".to_owned(), Value::String(any.type_url.clone()));
    Value::Object(fields)
}

fn of_value(kind: &Kind, value: &Reflected, depth: usize) -> Value {
    match value {
        Reflected::Bool(value) => Value::Bool(*value),
        Reflected::I32(value) => Value::from(*value),
        Reflected::U32(value) => Value::from(*value),
        // JSON numbers lose what is beyond 2^53; proto JSON writes them as text.
        Reflected::I64(value) => Value::String(value.to_string()),
        Reflected::U64(value) => Value::String(value.to_string()),
        Reflected::F32(value) => Value::from(f64::from(*value)),
        Reflected::F64(value) => Value::from(*value),
        Reflected::String(value) => Value::String(value.clone()),
        Reflected::Bytes(value) => Value::String(STANDARD.encode(value)),
        Reflected::EnumNumber(number) => match kind.as_enum().and_then(|found| found.get_value(*number)) {
            Some(value) => Value::String(value.name().to_owned()),
            None => Value::from(*number),
        },
        Reflected::Message(message) => of_message(message, depth),
        Reflected::List(values) => values.iter().map(|value| of_value(kind, value, depth)).collect(),
        Reflected::Map(entries) => {
            let of = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            let entry = |(key, value): (&prost_reflect::MapKey, &Reflected)| {
                (of_key(key), of.as_ref().map_or(Value::Null, |of| of_value(of, value, depth)))
            };
            Value::Object(entries.iter().map(entry).collect())
        }
    }
}

fn of_key(key: &prost_reflect::MapKey) -> String {
    use prost_reflect::MapKey;
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// A duration of the contract in seconds; 0 when it is not set.
pub fn seconds(span: Option<&prost_types::Duration>) -> Duration {
    span.and_then(time::std_duration).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use recorder_proto::Problem;
    use recorder_proto::pb::v1::file::{State, Video};
    use serde_json::json;

    use super::*;

    fn row(kind: &str, subject: &str, body: &impl Message) -> Row {
        Row {
            seq: 7,
            id: "01J0".to_owned(),
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            time: 1_780_000_000_500_000,
            body: body.encode_to_vec(),
        }
    }

    fn recording() -> v1::Recording {
        v1::Recording {
            name: "recordings/01J0".to_owned(),
            stream: Some(v1::StreamRef { domain: "push.example.com".to_owned(), ..v1::StreamRef::default() }),
            labels: [("team".to_owned(), "a".to_owned())].into(),
            start_time: Some(prost_types::Timestamp { seconds: 1_780_000_000, nanos: 0 }),
            media_duration: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            error: Some(Problem::destination("NO_BUCKET", "there is none").into()),
            origin: Some(v1::recording::Origin::Rule("rules/vip".to_owned())),
            ..v1::Recording::default()
        }
    }

    #[test]
    fn resources_are_shown_as_proto_json() {
        let data = data(&row("recording.ended", "recordings/01J0", &recording()));
        let expected = json!({
            "name": "recordings/01J0", "stream": {"domain": "push.example.com"}, "labels": {"team": "a"},
            "startTime": "2026-05-28T20:26:40Z", "mediaDuration": "1.5s", "rule": "rules/vip",
        });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&data[key], value, "{key}");
        }
        let detail = &data["error"]["details"][0];
        assert_eq!(
            (&detail["@type"], &detail["reason"]),
            (&json!("type.googleapis.com/google.rpc.ErrorInfo"), &json!("NO_BUCKET"))
        );
    }

    #[test]
    fn events_of_files_show_the_file_and_belong_to_the_domain_of_its_recording() {
        let file = v1::File {
            name: "recordings/01J0/files/mp4-0".to_owned(),
            state: State::Available as i32,
            size_bytes: 1 << 60,
            video: Some(Video { codec: "h264".to_owned(), frame_rate: 29.97, ..Video::default() }),
            ..v1::File::default()
        };
        let change =
            v1::WatchRecordingsResponse { recording: Some(recording()), file: Some(file), ..Default::default() };
        let row = row("file.available", "recordings/01J0/files/mp4-0", &change);
        let expected = json!({
            "name": "recordings/01J0/files/mp4-0", "state": "AVAILABLE", "sizeBytes": "1152921504606846976",
            "video": {"codec": "h264", "frameRate": 29.97},
        });
        assert_eq!(data(&row), expected);
        assert_eq!(domain(&row).as_deref(), Some("push.example.com"));
        let shown = shown(&row);
        assert_eq!(
            (shown.sequence, shown.r#type.as_str(), shown.time.unwrap().nanos),
            (7, "file.available", 500_000_000)
        );
        assert_eq!(recorder_proto::facts::from_struct(&shown.data.unwrap()), expected);
    }

    #[test]
    fn every_collection_has_a_message_and_what_is_unknown_or_damaged_is_empty() {
        for collection in
            "recording stream node storage template domain binding rule task webhook token directive".split(' ')
        {
            assert!(pool().get_message_by_name(message_of(collection)).is_some(), "{collection}");
        }
        assert_eq!(data(&row("nobody.knows", "x", &recording())), json!({}));
        let damaged = Row { body: vec![0xff; 9], ..row("recording.ended", "x", &recording()) };
        assert_eq!((data(&damaged), domain(&damaged)), (json!({}), None));
        assert_eq!(
            domain(&row("binding.created", "domains/a.example/bindings/show", &recording())).as_deref(),
            Some("a.example")
        );
    }
}
