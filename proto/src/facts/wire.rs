//! Facts between Rust and `recorder.node.v1.Fact`, whose data is a `google.protobuf.Struct`.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as WireValue};
use serde_json::{Map, Number, Value};

use super::{Fact, FactKind};
use crate::ids::{Epoch, Sequence};
use crate::names::RecordingName;
use crate::pb::node;
use crate::time;

/// Why a fact from the wire cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// From a newer node, or not a fact at all.
    #[error("unknown type of fact `{0}`")]
    UnknownType(String),
    /// The data does not have the type's shape.
    #[error("data of {event_type}: {error}")]
    Data {
        /// The type.
        event_type: &'static str,
        /// What is wrong.
        error: String,
    },
    /// A field beside the data is missing or malformed.
    #[error("`{0}` is missing or malformed")]
    Field(&'static str),
}

/// Whole numbers up to here are exact in a `Struct`, whose only number is a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Deeper data is cut off: no fact nests more than a few levels, and recursion must have an end.
const DEPTH_MAX: usize = 32;

/// JSON as a `Struct`; anything but an object becomes an empty one.
pub fn to_struct(value: &Value) -> Struct {
    match value {
        Value::Object(map) => object(map, DEPTH_MAX),
        _ => Struct::default(),
    }
}

fn object(map: &Map<String, Value>, depth: usize) -> Struct {
    Struct { fields: map.iter().map(|(key, value)| (key.clone(), to_value(value, depth))).collect() }
}

fn to_value(value: &Value, depth: usize) -> WireValue {
    let kind = match (value, depth.checked_sub(1)) {
        (Value::Bool(flag), _) => Kind::BoolValue(*flag),
        (Value::Number(number), _) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        (Value::String(text), _) => Kind::StringValue(text.clone()),
        (Value::Array(items), Some(depth)) => {
            Kind::ListValue(ListValue { values: items.iter().map(|item| to_value(item, depth)).collect() })
        }
        (Value::Object(map), Some(depth)) => Kind::StructValue(object(map, depth)),
        (Value::Null, _) | (_, None) => Kind::NullValue(0),
    };
    WireValue { kind: Some(kind) }
}

/// A `Struct` as JSON. Whole numbers come back as integers, so that counters can be read as what they are.
pub fn from_struct(wire: &Struct) -> Value {
    Value::Object(from_object(wire, DEPTH_MAX))
}

fn from_object(wire: &Struct, depth: usize) -> Map<String, Value> {
    wire.fields.iter().map(|(key, value)| (key.clone(), from_value(value, depth))).collect()
}

fn from_value(wire: &WireValue, depth: usize) -> Value {
    match (&wire.kind, depth.checked_sub(1)) {
        (Some(Kind::BoolValue(flag)), _) => Value::Bool(*flag),
        (Some(Kind::NumberValue(number)), _) => from_number(*number),
        (Some(Kind::StringValue(text)), _) => Value::String(text.clone()),
        (Some(Kind::ListValue(list)), Some(depth)) => {
            Value::Array(list.values.iter().map(|item| from_value(item, depth)).collect())
        }
        (Some(Kind::StructValue(map)), Some(depth)) => Value::Object(from_object(map, depth)),
        (Some(Kind::NullValue(_)) | None, _) | (_, None) => Value::Null,
    }
}

// Both casts are exact: the number is whole and within 53 bits.
#[allow(clippy::cast_possible_truncation)]
fn from_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return Value::Number((number as i64).into());
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

impl From<&Fact> for node::Fact {
    fn from(fact: &Fact) -> Self {
        // Serialising a fact cannot fail: its maps have text keys. An empty object would be refused on the other side.
        let data = serde_json::to_value(&fact.kind).unwrap_or_default();
        Self {
            sequence: fact.sequence.get(),
            id: fact.id.to_string(),
            time: Some(time::timestamp(fact.time)),
            r#type: fact.kind.event_type().to_owned(),
            recording: fact.recording.map(|id| RecordingName(id).to_string()).unwrap_or_default(),
            epoch: fact.epoch.get(),
            data: Some(to_struct(&data)),
        }
    }
}

impl TryFrom<&node::Fact> for Fact {
    type Error = FactError;
    fn try_from(wire: &node::Fact) -> Result<Self, FactError> {
        let recording = match wire.recording.as_str() {
            "" => None,
            name => Some(name.parse::<RecordingName>().map_err(|_| FactError::Field("recording"))?.0),
        };
        let data = wire.data.as_ref().map(from_struct).unwrap_or_default();
        Ok(Self {
            sequence: Sequence(wire.sequence),
            id: wire.id.parse().map_err(|_| FactError::Field("id"))?,
            time: wire.time.as_ref().and_then(time::datetime).ok_or(FactError::Field("time"))?,
            recording,
            epoch: Epoch(wire.epoch),
            kind: FactKind::from_json(&wire.r#type, data)?,
        })
    }
}
