//! Payloads of one source in H.265, AV1, VP9 or VP8: no panic, frames begin with a key frame and follow their
//! configuration, times increase, and no more leaves than came.
//!
//! Input: one byte that chooses the codec; then per packet one byte of choices (marker, packets lost in front,
//! timestamp), its length (16 bits), its payload.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::ingest::Event;
use media::{CodecConfig, av1, h265};
use rtp::{Format, Output, Packet, Session, Settings};

const VIDEO: u8 = 96;

#[derive(Default)]
struct Watch {
    last: Option<u32>,
    bytes: usize,
    config: Option<CodecConfig>,
}

impl Watch {
    fn drain(&mut self, session: &mut Session) {
        while let Some(output) = session.poll() {
            match output {
                Output::Event(Event::Config(_, config)) => self.config = Some(config),
                Output::Event(Event::Frame(frame)) => {
                    assert!(self.last.is_some() || frame.keyframe, "the first frame");
                    match self.config.as_ref().expect("a frame before its configuration") {
                        CodecConfig::Hevc(_) => {
                            assert!(h265::contains_vcl(&frame.data));
                            let walked: usize = h265::nals(&frame.data).map(|nal| nal.len() + 4).sum();
                            assert_eq!(walked, frame.data.len(), "whole NAL units");
                        }
                        CodecConfig::Av1(_) => {
                            let clean = av1::normalise(frame.data.clone()).expect("whole OBUs");
                            assert_eq!(clean, frame.data, "every OBU with its size, and none of no use");
                        }
                        _ => assert!(!frame.data.is_empty()),
                    }
                    let forward = self.last.is_none_or(|last| frame.time.value.wrapping_sub(last) as i32 > 0);
                    assert!(forward, "{} after {:?}", frame.time.value, self.last);
                    self.last = Some(frame.time.value);
                    self.bytes += frame.data.len();
                }
                _ => {}
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&which, mut rest)) = data.split_first() else { return };
    let format = match which & 3 {
        0 => Format::H265 { parameter_sets: Vec::new() },
        1 => Format::Av1,
        2 => Format::Vp9,
        _ => Format::Vp8,
    };
    let settings = Settings { formats: [(VIDEO, format)].into(), ..Settings::default() };
    let (mut session, mut watch) = (Session::new(settings), Watch::default());
    let (mut now, mut sequence_number, mut timestamp, mut bytes) = (Duration::ZERO, 0u16, 0u32, 0);
    while let Some(([choices, high, low], tail)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (payload, tail) = tail.split_at(length);
        rest = tail;
        sequence_number = sequence_number.wrapping_add(1 + u16::from(choices >> 1 & 3));
        timestamp = timestamp.wrapping_add(u32::from(choices >> 3 & 7) * 1_500);
        now += Duration::from_millis(if choices & 64 == 0 { 2 } else { 150 });
        bytes += payload.len();
        session.handle_timeout(now);
        session.push_rtp(Packet {
            payload_type: VIDEO,
            marker: choices & 1 != 0,
            sequence_number,
            timestamp,
            ssrc: 1,
            rid: None,
            payload: Bytes::copy_from_slice(payload),
            arrival: now,
        });
        watch.drain(&mut session);
    }
    session.end();
    watch.drain(&mut session);
    assert!(watch.bytes <= 3 * bytes, "{} bytes out of {bytes}", watch.bytes);
});
