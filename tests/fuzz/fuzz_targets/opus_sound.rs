//! Opus packets on their way to AAC: no panic, access units never overlap, and no packet makes more than a second.
//!
//! Input: a channel count, then records of a kind byte (gap, loss, or the next packet), a 16-bit step in time, a length
//! byte and a packet.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::{Frame, MediaTime, OpusConfig, TrackKind};
use transcode::Transcoder;

/// A second of access units, what the codecs still held, and some.
const MOST: usize = 60;
/// An access unit in timeline ticks.
const UNIT: i64 = 1_920;

fuzz_target!(|data: &[u8]| {
    let Some(([channels, pre_skip], mut rest)) = data.split_first_chunk::<2>() else { return };
    let config = OpusConfig { channels: channels % 3, pre_skip: (*pre_skip).into(), sample_rate_in: 0 };
    let Ok(mut transcoder) = Transcoder::new(&config) else { return };
    let (mut out, mut last, mut dts) = (Vec::new(), i64::MIN / 2, 0i64);
    while let Some(([kind, high, low, length], after)) = rest.split_first_chunk::<4>() {
        let (packet, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        match kind % 16 {
            0 => transcoder.finish(&mut out),
            1 => transcoder.lost(),
            _ => {}
        }
        // Steps are strictly positive on the timeline; most are those of real packets.
        dts += 1 + if kind & 0x80 == 0 { 1_799 } else { i64::from(u16::from_be_bytes([*high, *low])) * 4 };
        let time = MediaTime(dts);
        let data = Bytes::copy_from_slice(packet);
        transcoder.push(&Frame { track: TrackKind::Audio, dts: time, pts: time, keyframe: true, data }, &mut out);
        assert!(out.len() <= MOST, "{} access units of one packet", out.len());
        for unit in out.drain(..) {
            assert!(unit.dts.0 >= last + UNIT && unit.dts.0 <= dts + 90_000);
            last = unit.dts.0;
        }
    }
    transcoder.finish(&mut out);
    assert_eq!(transcoder.counts().failed, 0);
});
