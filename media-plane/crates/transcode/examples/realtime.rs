//! How many times faster than real time a minute of sound is transcoded: `cargo run --release -p transcode --example
//! realtime -- [minutes]`. Also the size of an hour of drift, with the real codecs: 60 minutes at 100 ppm.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use media::opus::SAMPLE_RATE;
use media::{Frame, MediaTime, OpusConfig, TrackKind};
use opus::{Application, Bitrate, Channels, Encoder};
use transcode::Transcoder;

/// CPU time of this process's only thread, in seconds.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn publish(layout: Channels, bits: i32, seconds: usize) -> Vec<bytes::Bytes> {
    let mut encoder = Encoder::new(SAMPLE_RATE, layout, Application::Audio).unwrap();
    encoder.set_bitrate(Bitrate::Bits(bits)).unwrap();
    let channels = layout as usize;
    let (mut noise, mut phase, mut packets) = (1u32, 0.0f64, Vec::new());
    for n in 0..seconds * 50 {
        let mut pcm = Vec::with_capacity(960 * channels);
        for _ in 0..960 {
            phase += 0.0576 * (1.0 + 0.3 * (n as f64 * 0.01).sin());
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hiss = f64::from(noise >> 20) - 2_048.0;
            let value = phase.sin() * 9_000.0;
            pcm.extend([value + hiss, value - hiss * 0.5].iter().take(channels).map(|value| *value as i16));
        }
        packets.push(encoder.encode_vec(&pcm, 1_500).unwrap().into());
    }
    packets
}

fn main() {
    let minutes: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    for (name, layout, bits) in
        [("stereo, 96 kbit/s", Channels::Stereo, 96_000), ("mono, 32 kbit/s", Channels::Mono, 32_000)]
    {
        let packets = publish(layout, bits, 60);
        for ppm in [0.0, 100.0] {
            let config = OpusConfig { channels: layout as u8, pre_skip: 0, sample_rate_in: 48_000 };
            let mut transcoder = Transcoder::new(&config).unwrap();
            let (mut out, mut bytes, begun, mut newest) = (Vec::new(), 0usize, cpu(), MediaTime::ZERO);
            for n in 0..minutes * 3_000 {
                let dts = MediaTime((n as f64 * 1_800.0 * (1.0 + ppm * 1e-6)).round() as i64);
                let data = packets[n % packets.len()].clone();
                transcoder.push(&Frame { track: TrackKind::Audio, dts, pts: dts, keyframe: true, data }, &mut out);
                bytes += out
                    .drain(..)
                    .map(|frame| {
                        newest = frame.dts;
                        frame.data.len()
                    })
                    .sum::<usize>();
            }
            transcoder.finish(&mut out);
            newest = out.last().map_or(newest, |frame| frame.dts);
            let (spent, media) = (cpu() - begun, (minutes * 60) as f64);
            println!(
                "{name}, {ppm} ppm: {:.0} x real time, {:.2} ms a second, {:.0} kbit/s; ends at {:.3} s of {:.3}",
                media / spent,
                spent / media * 1e3,
                bytes as f64 * 8.0 / media / 1e3,
                newest.as_secs_f64() + 1_024.0 / 48_000.0,
                media * (1.0 + ppm * 1e-6),
            );
        }
    }
}
