//! Encoded picture and sound as RTP payloads (RFC 6184 mode 1, RFC 7587), to be published again and again.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use media::{AvcConfig, TrackKind, h264};

use crate::opus::LENGTH;
use crate::publisher::{ffmpeg, run};

/// Payload bytes of a packet at most.
const MTU: usize = 1_180;
const FU_A: u8 = 28;
const STAP_A: u8 = 24;

/// What a film shows: a flash and a beep at the beginning of every second.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Length in seconds.
    pub seconds: u32,
    /// Bit rate of the picture in kbit/s, reached with noise; 0 = what the flashes need.
    pub kilobits: u32,
    /// Pictures between key frames, of 30 a second.
    pub gop: u32,
    /// Music instead of beeps, at 96 kbit/s: what an encoder and a decoder have to work for.
    pub music: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self { size: (320, 180), seconds: 1, kilobits: 0, gop: 30, music: false }
    }
}

/// One packet of a film.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Picture or sound.
    pub track: TrackKind,
    /// When it is sent, in seconds from the start.
    pub at: f64,
    /// RTP timestamp from the start: 90 kHz, or 48 kHz for sound.
    pub ticks: u32,
    /// The last packet of its picture.
    pub marker: bool,
    /// What follows the RTP header.
    pub payload: Bytes,
}

/// See the module.
#[derive(Debug)]
pub struct Film {
    /// In the order of sending.
    pub packets: Vec<Packet>,
    /// Its length.
    pub seconds: u32,
}

impl Film {
    /// Has ffmpeg encode it.
    pub fn encode(folder: &Path, look: Look) -> Arc<Self> {
        let path = folder.join(format!("film-{}x{}-{}s.mp4", look.size.0, look.size.1, look.seconds));
        run(command(look).arg(&path));
        let media = mux::demux::mp4(&Bytes::from(std::fs::read(&path).expect("film"))).expect("film");
        let config = AvcConfig::parse(media.video.first().expect("a picture track").clone()).expect("avcC");
        let head = media.audio.first().expect("a sound track");
        let pre_skip = f64::from(u16::from_be_bytes([head[2], head[3]])) / 48_000.0;
        let mut packets = Vec::new();
        for sample in &media.samples {
            // The first packet of sound is that much before the first sample that is heard.
            let early = if sample.track == TrackKind::Audio { pre_skip } else { 0.0 };
            let at = sample.dts.as_secs_f64() + early;
            if at >= f64::from(look.seconds) {
                continue;
            }
            match sample.track {
                TrackKind::Audio => packets.push(Packet {
                    track: TrackKind::Audio,
                    at,
                    ticks: (at * 48_000.0).round() as u32,
                    marker: false,
                    payload: sample.payload.clone(),
                }),
                TrackKind::Video => packets.extend(picture(&config, &sample.payload, sample.keyframe, at)),
            }
        }
        packets.sort_by(|one, other| one.at.total_cmp(&other.at));
        Arc::new(Self { packets, seconds: look.seconds })
    }
}

fn command(look: Look) -> std::process::Command {
    let (width, height) = look.size;
    let noise = if look.kilobits > 0 { ",noise=alls=24:allf=t" } else { "" };
    let flash = format!(
        "color=black:size={width}x{height}:rate=30,drawbox=c=white:t=fill:enable='lt(mod(t+0.001,1),{LENGTH})'{noise}"
    );
    let beep = format!("aevalsrc=0.5*sin(2*PI*1000*t)*lt(mod(t\\,1)\\,{LENGTH}):s=48000");
    let music = "aevalsrc=0.3*sin(2*PI*440*t)*sin(9*t)+0.2*sin(2*PI*(1200+300*sin(2*t))*t)+0.1*random(0):s=48000";
    let mut command = ffmpeg();
    command.args(["-f", "lavfi", "-i", &flash, "-f", "lavfi", "-i", if look.music { music } else { &beep }]);
    command.args(["-t", &look.seconds.to_string(), "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"]);
    let (gop, rate) = (look.gop.to_string(), format!("{}k", look.kilobits));
    command.args(["-pix_fmt", "yuv420p", "-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0"]);
    if look.kilobits > 0 {
        command.args(["-b:v", &rate, "-minrate", &rate, "-maxrate", &rate, "-bufsize", &rate]);
    }
    command.args(["-c:a", "libopus", "-b:a", if look.music { "96k" } else { "64k" }, "-ac", "2"]);
    command
}

/// The packets of one picture.
fn picture(config: &AvcConfig, data: &[u8], keyframe: bool, at: f64) -> Vec<Packet> {
    let mut payloads = Vec::new();
    if keyframe {
        let mut sets = vec![STAP_A | 0x60];
        for set in config.sps.iter().chain(&config.pps) {
            sets.extend(u16::try_from(set.len()).expect("a short set").to_be_bytes());
            sets.extend_from_slice(set);
        }
        payloads.push(Bytes::from(sets));
    }
    h264::nals(data).for_each(|nal| payloads.extend(fragments(nal)));
    let last = payloads.len() - 1;
    let packet = |(index, payload)| Packet {
        track: TrackKind::Video,
        at,
        ticks: (at * 90_000.0).round() as u32,
        marker: index == last,
        payload,
    };
    payloads.into_iter().enumerate().map(packet).collect()
}

fn fragments(nal: &[u8]) -> Vec<Bytes> {
    if nal.len() <= MTU {
        return vec![Bytes::copy_from_slice(nal)];
    }
    let (header, body) = (nal[0], &nal[1..]);
    let count = body.len().div_ceil(MTU);
    let fragment = |(index, part): (usize, &[u8])| {
        let first = if index == 0 { 0x80 } else { 0 };
        let last = if index + 1 == count { 0x40 } else { 0 };
        Bytes::from([&[header & 0xe0 | FU_A, first | last | header & 31], part].concat())
    };
    body.chunks(MTU).enumerate().map(fragment).collect()
}
