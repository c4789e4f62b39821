//! CPU of every muxer per second of a 2.5 Mbit/s stream (30 pictures and 47 frames of sound a second).
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use media::{AacConfig, AvcConfig, CodecConfig, Frame, MediaTime, TrackKind};
use mux::{Format, Layout, Options, Output};

const SECONDS: i64 = 3_600;
const AVC: &[u8] =
    b"\x01\x64\x00\x1e\xff\xe1\x00\x1a\x67\x64\x00\x1e\xac\xd9\x40\xa0\x2f\xf9\x70\x11\x00\x00\x03\x00\x01\
    \x00\x00\x03\x00\x3c\x0f\x16\x2d\x96\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0";

fn picture(keyframe: bool) -> Bytes {
    let mut data = BytesMut::new();
    data.put_u32(9_900);
    data.put_u8(if keyframe { 0x65 } else { 0x41 });
    data.put_bytes(0x9a, 9_899);
    data.freeze()
}

fn main() {
    let avc = CodecConfig::Avc(Arc::new(AvcConfig::parse(Bytes::from_static(AVC)).unwrap()));
    let aac = CodecConfig::Aac(Arc::new(AacConfig::parse(Bytes::from_static(&[0x11, 0x90])).unwrap()));
    let (key, other, sound) = (picture(true), picture(false), Bytes::from(vec![0x21; 340]));
    let options = Options::default();
    let fragmented = Options { layout: Layout::Fragmented, ..options.clone() };
    for (name, format, options) in [
        ("hls", Format::Hls, &options),
        ("flv", Format::Flv, &options),
        ("mp4", Format::Mp4, &options),
        ("mp4 fragmented", Format::Mp4, &fragmented),
        ("aac", Format::Aac, &options),
    ] {
        let mut muxer = mux::open(format, options).unwrap();
        muxer.config(TrackKind::Video, &avc);
        muxer.config(TrackKind::Audio, &aac);
        let (mut bytes, mut outputs) = (0usize, 0u64);
        let start = Instant::now();
        for n in 0..SECONDS * 30 {
            let frame = |track, at: i64, data: &Bytes, keyframe| Frame {
                track,
                dts: MediaTime(at),
                pts: MediaTime(at),
                keyframe,
                data: data.clone(),
            };
            let is_key = n % 60 == 0;
            let data = if is_key { &key } else { &other };
            let _ = muxer.push(&frame(TrackKind::Video, n * 3_000, data, is_key));
            for sample in n * 47 / 30..(n + 1) * 47 / 30 {
                let _ = muxer.push(&frame(TrackKind::Audio, sample * 1_920, &sound, true));
            }
            while let Some(output) = muxer.poll() {
                outputs += 1;
                if let Output::Append(_, data) = output {
                    bytes += data.len();
                }
            }
        }
        let finished = muxer.finish();
        let elapsed = start.elapsed();
        outputs += finished.outputs.len() as u64;
        let micros = elapsed.as_secs_f64() * 1e6 / SECONDS as f64;
        let mebibytes = bytes >> 20;
        println!(
            "{name}: {micros:.1} µs per stream-second, {mebibytes} MiB, {} outputs a second",
            outputs / SECONDS as u64
        );
    }
}
