//! FLV tags: no panic, and every frame obeys what the types promise.
//!
//! Input: records of a kind byte, a 16-bit length and a body.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::ingest::Event;
use media::{Codec, TrackKind, av1, h264};
use rtmp::flv::TagReader;
use rtmp::{Aggregate, Message, kind};

fn check(reader: &mut TagReader, codec: &mut Codec) {
    while let Some(event) = reader.poll() {
        if let Event::Config(TrackKind::Video, config) = &event {
            *codec = config.codec();
            assert!(config.picture_size().is_none_or(|(width, height)| width > 0 && height > 0));
        }
        let Event::Frame(frame) = event else { continue };
        assert!(!frame.data.is_empty());
        assert!((-0x0080_0000..0x0080_0000).contains(&frame.composition));
        if frame.track == TrackKind::Video {
            let total: usize = match codec {
                Codec::H264 | Codec::H265 => h264::nals(&frame.data).map(|nal| nal.len() + 4).sum(),
                Codec::Av1 => av1::obus(&frame.data).map(|unit| unit.whole.len()).sum(),
                _ => frame.data.len(),
            };
            assert_eq!(total, frame.data.len(), "4-byte lengths, or OBUs, cover the frame");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (mut reader, mut codec) = (TagReader::new(), Codec::H264);
    let mut rest = data;
    while let Some(([tag, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (body, after) = after.split_at(length);
        rest = after;
        let body = Bytes::copy_from_slice(body);
        match tag % 4 {
            0 => reader.video(length as u32, body),
            1 => reader.audio(length as u32, body),
            2 => reader.data(&body),
            _ => {
                let message = Message { kind: kind::AGGREGATE, timestamp: 0, stream_id: 1, payload: body };
                for part in Aggregate::new(message) {
                    match part.kind {
                        kind::VIDEO => reader.video(part.timestamp, part.payload),
                        kind::AUDIO => reader.audio(part.timestamp, part.payload),
                        _ => {}
                    }
                }
            }
        }
        check(&mut reader, &mut codec);
    }
});
