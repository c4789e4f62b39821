//! `field=value` words, put into a request by what the contract says about the field.

use std::io::Read;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Puts `path=text` into `object`, which is a message of this kind in JSON. The path goes through messages by dots; lists
/// are separated by commas; `@file` (`@-`: standard input) is the file's text.
pub fn assign(
    object: &mut Map<String, Value>,
    message: &MessageDescriptor,
    path: &str,
    text: &str,
) -> Result<(), Failure> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let field = message.get_field_by_name(first).or_else(|| message.get_field_by_json_name(first));
    let field = field.ok_or_else(|| unknown(message, first))?;
    let Some(rest) = rest else {
        object.insert(field.name().to_owned(), value(&field, &text_of(text)?)?);
        return Ok(());
    };
    let inner = object.entry(field.name().to_owned()).or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(inner) = inner else {
        return Err(Failure::Usage(format!("{first} is given both whole and in part")));
    };
    if field.is_map() {
        inner.insert(rest.to_owned(), Value::String(text_of(text)?));
        return Ok(());
    }
    match field.kind() {
        Kind::Message(nested) if !field.is_list() && !is_plain(&nested) => assign(inner, &nested, rest, text),
        _ => Err(Failure::Usage(format!("{first} has no fields of its own, so no {path}"))),
    }
}

/// `field=value` apart.
pub fn split(word: &str) -> Result<(&str, &str), Failure> {
    word.split_once('=').ok_or_else(|| Failure::Usage(format!("{word} is no field=value")))
}

fn unknown(message: &MessageDescriptor, name: &str) -> Failure {
    let known: Vec<_> = message.fields().map(|field| field.name().to_owned()).collect();
    Failure::Usage(format!("{} has no field {name}; it has {}", message.name(), known.join(", ")))
}

fn text_of(text: &str) -> Result<String, Failure> {
    let failed = |error| Failure::Io { what: text.to_owned(), error };
    match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some(rest) if rest.starts_with('@') => Ok(rest.to_owned()),
        Some("-") => {
            let mut read = String::new();
            std::io::stdin().read_to_string(&mut read).map_err(failed)?;
            Ok(read.trim_end_matches('\n').to_owned())
        }
        Some(path) => Ok(std::fs::read_to_string(path).map_err(failed)?.trim_end_matches('\n').to_owned()),
    }
}

/// Messages that are one word in JSON.
fn is_plain(message: &MessageDescriptor) -> bool {
    matches!(
        message.full_name(),
        "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask"
    )
}

fn value(field: &FieldDescriptor, text: &str) -> Result<Value, Failure> {
    if field.is_map() || (field.is_list() && text.starts_with('[')) {
        return json(field, text);
    }
    if field.is_list() {
        let parts = text.split(',').filter(|part| !part.is_empty());
        return parts.map(|part| single(field, part)).collect::<Result<Vec<_>, _>>().map(Value::Array);
    }
    single(field, text)
}

fn single(field: &FieldDescriptor, text: &str) -> Result<Value, Failure> {
    let wrong = |what: &str| Failure::Usage(format!("{} is {what}, not {text}", field.name()));
    match field.kind() {
        Kind::Bool => text.parse().map(Value::Bool).map_err(|_| wrong("true or false")),
        Kind::String | Kind::Bytes => Ok(Value::String(text.to_owned())),
        Kind::Enum(kind) => {
            let name = text.to_uppercase();
            if kind.get_value_by_name(&name).is_some() {
                return Ok(Value::String(name));
            }
            let known: Vec<_> = kind.values().skip(1).map(|value| value.name().to_owned()).collect();
            Err(wrong(&format!("one of {}", known.join(", "))))
        }
        Kind::Message(message) if is_plain(&message) => Ok(Value::String(text.to_owned())),
        Kind::Message(_) => json(field, if text.is_empty() { "{}" } else { text }),
        _ if text.parse::<f64>().is_ok() => Ok(Value::String(text.to_owned())),
        _ => Err(wrong("a number")),
    }
}

fn json(field: &FieldDescriptor, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Usage(format!("{} takes JSON: {error}", field.name())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract;

    fn made(message: &str, words: &[&str]) -> Result<Value, Failure> {
        let descriptor = contract::pool().get_message_by_name(&format!("recorder.v1.{message}")).unwrap();
        let mut object = Map::new();
        for word in words {
            let (path, text) = split(word)?;
            assign(&mut object, &descriptor, path, text)?;
        }
        // What the words make is what the contract takes.
        contract::from_json(descriptor, Value::Object(object.clone()))?;
        Ok(Value::Object(object))
    }

    #[test]
    fn every_kind_of_field_takes_its_words() {
        let words = [
            "display_name=Evening",
            "mp4.max_file_duration=3600s",
            "hls=",
            "flv.upload_while_recording=true",
            "labels.team.name=a=b",
            "audio=copy",
            "revision=3",
            "createTime=2026-11-22T00:00:00Z",
        ];
        let expected = json!({
            "display_name": "Evening", "mp4": {"max_file_duration": "3600s"}, "hls": {},
            "flv": {"upload_while_recording": true}, "labels": {"team.name": "a=b"}, "audio": "COPY", "revision": "3",
            "create_time": "2026-11-22T00:00:00Z",
        });
        assert_eq!(made("Template", &words).unwrap(), expected);
        let words = ["domains=a.example.com,b.example.com", "roles=viewer,operator"];
        let expected = json!({"domains": ["a.example.com", "b.example.com"], "roles": ["VIEWER", "OPERATOR"]});
        assert_eq!(made("Token", &words).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (word, told) in [
            ("colour=red", "has no field colour; it has name, display_name"),
            ("mp4.depth=1", "Mp4 has no field depth"),
            ("audio=loud", "one of AUTO, COPY, AAC_LC, NONE"),
            ("record_standby=maybe", "true or false"),
            ("revision=many", "a number"),
            ("description.x=1", "no fields of its own"),
            ("mp4={", "takes JSON"),
            ("description", "no field=value"),
            ("description=@/no/such/file", "/no/such/file"),
            ("max_duration=soon", "Template: "),
        ] {
            let failure = made("Template", &[word]).unwrap_err();
            assert!(failure.to_string().contains(told), "{word}: {failure}");
        }
    }
}
