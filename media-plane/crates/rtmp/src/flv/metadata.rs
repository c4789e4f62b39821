//! `onMetaData`: what the encoder claims, in every shape encoders have found for it.

use media::Codec;
use media::ingest::Metadata;

use super::enhanced;
use crate::amf0::{Reader, Text, Value};
use crate::encoder;

/// The claims of a data message; `None` when it is not metadata or cannot be read.
pub(super) fn parse(body: &[u8]) -> Option<Metadata> {
    let mut reader = Reader::new(body, Text::Lossy);
    let mut name = reader.read().ok()??;
    if name.as_str() == Some("@setDataFrame") {
        name = reader.read().ok()??;
    }
    if name.as_str() != Some("onMetaData") {
        return None;
    }
    let object = reader.read().ok()??;
    let measure =
        |name: &str| object.get(name).and_then(Value::as_f64).filter(|value| value.is_finite() && *value > 0.0);
    Some(Metadata {
        encoder: object.get("encoder").and_then(Value::as_str).map(encoder::name),
        video: object.get("videocodecid").and_then(video_codec),
        audio: object.get("audiocodecid").and_then(audio_codec),
        width: measure("width"),
        height: measure("height"),
        frame_rate: measure("framerate").or_else(|| measure("fps")),
    })
}

fn video_codec(value: &Value) -> Option<Codec> {
    codec(value, |id| match id {
        7 => Codec::H264,
        12 => Codec::H265,
        other => Codec::Other(other),
    })
}

fn audio_codec(value: &Value) -> Option<Codec> {
    codec(value, |id| match id {
        10 => Codec::Aac,
        2 | 14 => Codec::Mp3,
        other => Codec::Other(other),
    })
}

/// From an FLV codec id, or a FourCC as a number or a string. Zero and nonsense announce nothing: encoders without a
/// picture send `videocodecid` 0.
fn codec(value: &Value, by_id: fn(u8) -> Codec) -> Option<Codec> {
    match value {
        Value::Number(number) if *number >= 1.0 && *number <= 255.0 => Some(by_id(*number as u8)),
        Value::Number(number) if *number > 255.0 && *number <= f64::from(u32::MAX) => {
            Some(enhanced::codec(&(*number as u32).to_be_bytes()))
        }
        Value::String(name) if !name.is_empty() => Some(enhanced::codec(name.as_bytes())),
        _ => None,
    }
}
