//! H.264 payloads of one source: no panic, what leaves is well formed, and no more of it than came.
//!
//! Input: per packet one byte of choices (marker, packets lost in front, timestamp), its length (16 bits), its payload.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::h264;
use media::ingest::Event;
use rtp::{Format, Output, Packet, Session, Settings};

const VIDEO: u8 = 102;

#[derive(Default)]
struct Watch {
    last: Option<u32>,
    bytes: usize,
    configured: bool,
}

impl Watch {
    fn drain(&mut self, session: &mut Session) {
        while let Some(output) = session.poll() {
            match output {
                Output::Event(Event::Config(..)) => self.configured = true,
                Output::Event(Event::Frame(frame)) => {
                    assert!(self.configured, "a frame before its configuration");
                    assert!(self.last.is_some() || frame.keyframe, "the first frame");
                    assert_eq!(frame.keyframe, h264::is_keyframe(&frame.data));
                    assert!(h264::contains_vcl(&frame.data));
                    let walked: usize = h264::nals(&frame.data).map(|nal| nal.len() + 4).sum();
                    assert_eq!(walked, frame.data.len(), "whole NAL units");
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
    let formats = [(VIDEO, Format::H264 { parameter_sets: Vec::new() })].into();
    let (mut session, mut watch) = (Session::new(Settings { formats, ..Settings::default() }), Watch::default());
    let (mut rest, mut now, mut sequence_number, mut timestamp, mut bytes) = (data, Duration::ZERO, 0u16, 0u32, 0);
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
    // A NAL unit of one byte takes three in an aggregate and five in a frame.
    assert!(watch.bytes <= 3 * bytes, "{} bytes out of {bytes}", watch.bytes);
});
