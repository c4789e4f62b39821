//! The `onMetaData` script tag in AMF0: what is known before the first frame, and nothing that would need patching.

use bytes::{BufMut, Bytes, BytesMut};
use media::AacConfig;

use super::video;
use crate::picture::Picture;

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const STRING: u8 = 2;
const ECMA_ARRAY: u8 = 8;
const OBJECT_END: [u8; 3] = [0, 0, 9];

enum Value {
    Number(f64),
    Boolean(bool),
}

/// The payload of the tag.
pub(super) fn on_meta_data(video: Option<&Picture>, audio: Option<&AacConfig>) -> Bytes {
    let mut entries: Vec<(&str, Value)> = Vec::new();
    if let Some(picture) = video {
        let (width, height) = picture.size();
        entries.push(("width", Value::Number(width.into())));
        entries.push(("height", Value::Number(height.into())));
        entries.push(("videocodecid", Value::Number(video::codec_id(picture.codec()))));
    }
    if let Some(aac) = audio {
        entries.push(("audiosamplerate", Value::Number(aac.output_sample_rate.into())));
        entries.push(("audiosamplesize", Value::Number(16.0)));
        entries.push(("stereo", Value::Boolean(aac.channels > 1)));
        entries.push(("audiocodecid", Value::Number(10.0)));
    }
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(STRING);
    name(&mut out, "onMetaData");
    out.put_u8(ECMA_ARRAY);
    out.put_u32(entries.len() as u32);
    for (key, value) in entries {
        name(&mut out, key);
        match value {
            Value::Number(number) => {
                out.put_u8(NUMBER);
                out.put_f64(number);
            }
            Value::Boolean(flag) => out.put_slice(&[BOOLEAN, u8::from(flag)]),
        }
    }
    out.put_slice(&OBJECT_END);
    out.freeze()
}

fn name(out: &mut BytesMut, text: &str) {
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}
