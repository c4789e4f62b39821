//! Publishers and players: Opus from samples, samples from AAC, and how far apart two sounds are.

use bytes::Bytes;
use fdk_aac::dec::{Decoder, Transport};
use media::{AacConfig, Frame, MediaTime, OpusConfig, TrackKind};
use opus::{Application, Bitrate, Channels, Encoder};
use transcode::{Counts, Transcoder};

/// Samples of one second.
pub const SECOND: usize = 48_000;

/// As WHIP announces it.
pub fn stereo() -> OpusConfig {
    OpusConfig { channels: 2, pre_skip: 0, sample_rate_in: 0 }
}

/// Noise that never repeats, the same in every run; something correlation finds exactly one place for. `channels` are
/// different sounds.
pub fn noise(samples: usize, channels: usize, seed: u32) -> Vec<i16> {
    let (mut state, mut last) = (seed | 1, vec![0f64; channels]);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state) / f64::from(u32::MAX) - 0.5
    };
    let mut pcm = Vec::with_capacity(samples * channels);
    for _ in 0..samples {
        for value in &mut last {
            // Mostly below 2 kHz, which no codec leaves out.
            *value = *value * 0.8 + next() * 0.2;
            pcm.push((*value * 30_000.0) as i16);
        }
    }
    pcm
}

/// A tone of this frequency in every channel.
pub fn tone(samples: usize, channels: usize, hertz: f64) -> Vec<i16> {
    let value = |n: usize| ((n as f64 * hertz / 48_000.0 * std::f64::consts::TAU).sin() * 8_000.0) as i16;
    (0..samples).flat_map(|n| std::iter::repeat_n(value(n), channels)).collect()
}

/// Something like speech: a voice that comes and goes, in mono.
pub fn voice(samples: usize) -> Vec<i16> {
    let harmonic = |t: f64, n: f64| (t * 140.0 * n * std::f64::consts::TAU).sin() / n;
    let value = |n: usize| {
        let t = n as f64 / 48_000.0;
        let loud = (t * 3.1 * std::f64::consts::TAU).sin() * 0.4 + 0.6;
        (1..16).map(|n| harmonic(t, f64::from(n))).sum::<f64>() * loud * 6_000.0
    };
    (0..samples).map(|n| value(n) as i16).collect()
}

/// Another tone every 20 ms, which nobody can guess from the one before; in mono.
pub fn melody(samples: usize) -> Vec<i16> {
    let (mut phase, mut pitch, mut pcm) = (0.0, 0u32, Vec::with_capacity(samples));
    for n in 0..samples {
        if n % 960 == 0 {
            pitch = pitch.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        }
        phase += f64::from(300 + (pitch >> 16) % 1_500) / 48_000.0 * std::f64::consts::TAU;
        pcm.push((phase.sin() * 8_000.0) as i16);
    }
    pcm
}

pub fn publisher(channels: usize, application: Application) -> Encoder {
    let layout = if channels == 1 { Channels::Mono } else { Channels::Stereo };
    let mut encoder = Encoder::new(SECOND as u32, layout, application).unwrap();
    encoder.set_bitrate(Bitrate::Bits(64_000 * channels as i32)).unwrap();
    encoder
}

/// Packets of `length` samples, without the rest.
pub fn opus(encoder: &mut Encoder, pcm: &[i16], channels: usize, length: usize) -> Vec<Bytes> {
    pcm.chunks_exact(length * channels).map(|piece| encoder.encode_vec(piece, 4_000).unwrap().into()).collect()
}

pub fn time(samples: f64) -> MediaTime {
    MediaTime((samples * 90_000.0 / 48_000.0).round() as i64)
}

pub fn frame(data: Bytes, at: MediaTime) -> Frame {
    Frame { track: TrackKind::Audio, dts: at, pts: at, keyframe: true, data }
}

/// Packets of `length` samples one after the other from `start` (in samples) on.
pub fn frames(packets: Vec<Bytes>, length: usize, start: f64) -> Vec<Frame> {
    packets.into_iter().enumerate().map(|(n, data)| frame(data, time(start + (n * length) as f64))).collect()
}

/// Everything through a transcoder, to its end. Checks what holds whatever comes in.
pub fn transcode(config: &OpusConfig, packets: &[Frame]) -> (Vec<Frame>, AacConfig, Counts) {
    transcode_of(config, packets, false)
}

/// The same, of packets some of which were lost: wherever one is missing.
pub fn transcode_lossy(config: &OpusConfig, packets: &[Frame]) -> (Vec<Frame>, AacConfig, Counts) {
    transcode_of(config, packets, true)
}

fn transcode_of(config: &OpusConfig, packets: &[Frame], lossy: bool) -> (Vec<Frame>, AacConfig, Counts) {
    let mut transcoder = Transcoder::new(config).unwrap();
    let (mut out, mut last) = (Vec::new(), None);
    for packet in packets {
        let length = media::opus::packet_samples(&packet.data).unwrap_or(0);
        if lossy && last.is_some_and(|end| packet.dts > end) {
            transcoder.lost();
        }
        last = Some(packet.dts + time(f64::from(length)) + MediaTime(2));
        transcoder.push(packet, &mut out);
    }
    transcoder.finish(&mut out);
    check(&out);
    let counts = transcoder.counts();
    assert_eq!((counts.units, counts.packets), (out.len() as u64, packets.len() as u64));
    (out, transcoder.config().as_ref().clone(), counts)
}

/// Access units never overlap.
pub fn check(units: &[Frame]) {
    for pair in units.windows(2) {
        assert!(pair[1].dts.0 - pair[0].dts.0 >= 1_920, "{:?} after {:?}", pair[1].dts, pair[0].dts);
    }
    assert!(units.iter().all(|unit| unit.track == TrackKind::Audio && unit.keyframe && !unit.data.is_empty()));
}

/// What a player makes of it: channels interleaved, with sample 0 at time 0. What is before that is left out.
pub fn play(units: &[Frame], config: &AacConfig) -> Vec<i16> {
    let mut out = Vec::new();
    for run in units.chunk_by(|one, next| next.dts.0 - one.dts.0 == 1_920) {
        play_run(run, config, &mut out);
    }
    out
}

fn play_run(units: &[Frame], config: &AacConfig, out: &mut Vec<i16>) {
    let mut decoder = Decoder::new(Transport::Raw);
    decoder.config_raw(&config.asc).unwrap();
    let channels = usize::from(config.channels);
    let mut pcm = vec![0; 2_048 * channels];
    let (begin, count) = (units[0].dts.to_scale(48_000), units.len() as i64);
    // This decoder is late, for its concealment and its limiter: two units more bring out the end.
    let last = units.last().unwrap();
    for (n, unit) in (0i64..).zip(units.iter().chain([last, last])) {
        assert_eq!(decoder.fill(&unit.data).unwrap(), unit.data.len());
        decoder.decode_frame(&mut pcm).unwrap();
        let info = decoder.stream_info();
        assert_eq!((info.frameSize, info.numChannels as usize, info.sampleRate), (1_024, channels, 48_000));
        let start = begin + n * 1_024 - i64::from(info.outputDelay);
        for (at, frame) in (start..).zip(pcm.chunks(channels).take(1_024)) {
            let Ok(place) = usize::try_from(at) else { continue };
            if at < begin || at >= begin + count * 1_024 {
                continue;
            }
            let place = place * channels;
            out.resize(out.len().max(place + channels), 0);
            out[place..place + channels].copy_from_slice(frame);
        }
    }
}

/// One channel of several.
pub fn channel(pcm: &[i16], channels: usize, number: usize) -> Vec<i16> {
    pcm.iter().skip(number).step_by(channels).copied().collect()
}

/// By how many samples `heard` is later than `sent`, and how alike they are then (1 = the same), looking at `length`
/// samples of `sent` from `from` on.
pub fn lag(sent: &[i16], heard: &[i16], from: usize, length: usize) -> (i64, f64) {
    lag_within(500, sent, heard, from, length)
}

/// The same, but later or earlier by at most `reach`.
pub fn lag_within(reach: i64, sent: &[i16], heard: &[i16], from: usize, length: usize) -> (i64, f64) {
    let sent = &sent[from..from + length];
    let at = |shift: i64| {
        let start = from as i64 + shift;
        let value = |n: usize| {
            usize::try_from(start + n as i64).ok().and_then(|at| heard.get(at)).map_or(0.0, |value| f64::from(*value))
        };
        let (mut both, mut left, mut right) = (0.0, 1.0, 1.0);
        for (n, sent) in sent.iter().enumerate() {
            let (sent, heard) = (f64::from(*sent), value(n));
            both += sent * heard;
            left += sent * sent;
            right += heard * heard;
        }
        both / f64::sqrt(left * right)
    };
    let best = (-reach..=reach).map(|shift| (shift, at(shift))).max_by(|one, other| one.1.total_cmp(&other.1));
    best.unwrap()
}

/// Root of the mean square.
pub fn loudness(pcm: &[i16]) -> f64 {
    let sum: f64 = pcm.iter().map(|value| f64::from(*value).powi(2)).sum();
    (sum / pcm.len().max(1) as f64).sqrt()
}

/// The steepest step between two neighbours: what a click is heard by.
pub fn steepest(pcm: &[i16]) -> i32 {
    pcm.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max().unwrap_or(0)
}
