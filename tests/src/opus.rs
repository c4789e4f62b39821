//! A publisher of Opus over RTMP (Enhanced RTMP v2), with flashes and beeps by which picture and sound are held together;
//! and the judge of that.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::TrackKind;
use rtmp::client::{Client, payload};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::probe;
use crate::publisher::{ffmpeg, run};

/// Length of every flash and every beep, in seconds; one of each a second, from 0 on.
pub const LENGTH: f64 = 0.1;

/// A message body, picture or sound, with its time in milliseconds.
struct Body {
    track: TrackKind,
    millis: u32,
    body: Vec<u8>,
}

/// H.264 and Opus in memory.
pub struct FlashAndBeep {
    headers: [Vec<u8>; 2],
    bodies: Vec<Body>,
    /// What it was encoded to, for players.
    pub seconds: u32,
}

impl FlashAndBeep {
    /// Has ffmpeg encode this many seconds.
    pub fn encode(folder: &Path, seconds: u32) -> Self {
        let path = folder.join(format!("flash-and-beep-{seconds}.mp4"));
        let flash =
            format!("color=black:size=320x180:rate=30,drawbox=c=white:t=fill:enable='lt(mod(t+0.001,1),{LENGTH})'");
        let beep = format!("aevalsrc=0.5*sin(2*PI*1000*t)*lt(mod(t\\,1)\\,{LENGTH}):s=48000");
        let mut command = ffmpeg();
        command.args(["-f", "lavfi", "-i", &flash, "-f", "lavfi", "-i", &beep, "-t", &seconds.to_string()]);
        command.args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-pix_fmt",
            "yuv420p",
            "-g",
            "30",
        ]);
        run(command.args(["-c:a", "libopus", "-b:a", "64k", "-ac", "2"]).arg(&path));
        let media = mux::demux::mp4(&Bytes::from(std::fs::read(&path).expect("footage"))).expect("footage");
        let head = media.audio.first().expect("a sound track");
        let pre_skip = u16::from_be_bytes([head[2], head[3]]);
        // The first packet is that much before the first sample that is heard; RTMP cannot count below zero.
        let shift = i64::from(pre_skip.div_ceil(48));
        let mut bodies: Vec<Body> = Vec::new();
        for sample in &media.samples {
            let millis = u32::try_from(sample.dts.as_millis() + shift).expect("a time");
            let body = match sample.track {
                TrackKind::Audio => payload::opus_frame(&sample.payload),
                TrackKind::Video => {
                    let kind = if sample.keyframe { 0x17 } else { 0x27 };
                    let offset = i32::try_from((sample.pts - sample.dts).as_millis()).expect("an offset");
                    let [_, a, b, c] = offset.to_be_bytes();
                    [&[kind, 1, a, b, c], &sample.payload[..]].concat()
                }
            };
            bodies.push(Body { track: sample.track, millis, body });
        }
        bodies.sort_by_key(|body| body.millis);
        let record = media.video.first().expect("a picture track");
        Self { headers: [payload::avc_header(record), payload::opus_header(2, pre_skip)], bodies, seconds }
    }

    /// Publishes it once, `pace` times faster than real time, and says goodbye.
    pub async fn publish(&self, address: &str, domain: &str, stream: &str, pace: f64) {
        self.send(address, domain, stream, pace, true).await;
    }

    /// The same without a goodbye.
    pub async fn publish_and_vanish(&self, address: &str, domain: &str, stream: &str, pace: f64) {
        self.send(address, domain, stream, pace, false).await;
    }

    async fn send(&self, address: &str, domain: &str, stream: &str, pace: f64, goodbye: bool) {
        let mut socket = crate::numbered::open(address, domain, stream).await.expect("admitted");
        let mut client = Client::new();
        let [video, audio] = &self.headers;
        let start = [client.set_chunk_size(4_096), client.video(0, video), client.audio(0, audio)].concat();
        socket.write_all(&start).await.expect("taken");
        let begun = Instant::now();
        for Body { track, millis, body } in &self.bodies {
            let due = begun + Duration::from_secs_f64(f64::from(*millis) / 1_000.0 / pace);
            tokio::time::sleep_until(due.into()).await;
            let bytes =
                if *track == TrackKind::Video { client.video(*millis, body) } else { client.audio(*millis, body) };
            socket.write_all(&bytes).await.expect("taken");
        }
        if goodbye {
            socket.write_all(&client.unpublish(stream)).await.expect("taken");
        }
        end(socket).await;
    }
}

/// Closes, and reads on until the node has closed too.
async fn end(mut socket: TcpStream) {
    let _ = socket.shutdown().await;
    let _ = tokio::time::timeout(Duration::from_secs(5), tokio::io::copy(&mut socket, &mut tokio::io::sink())).await;
}

/// When flashes and beeps end in a file, in seconds on its own clock.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// The last moment of each flash.
    pub flashes: Vec<f64>,
    /// Of each beep.
    pub beeps: Vec<f64>,
}

impl Ends {
    /// Those between two moments.
    pub fn between(&self, from: f64, to: f64) -> Self {
        let inside = |times: &[f64]| times.iter().copied().filter(|time| (from..to).contains(time)).collect();
        Self { flashes: inside(&self.flashes), beeps: inside(&self.beeps) }
    }

    /// How much later the beep of each flash ends than the flash, in seconds.
    pub fn offsets(&self) -> Vec<f64> {
        let beep_of = |flash: f64| {
            self.beeps.iter().map(|beep| beep - flash).min_by(|one, other| one.abs().total_cmp(&other.abs()))
        };
        self.flashes.iter().filter_map(|flash| beep_of(*flash)).collect()
    }
}

/// Looks and listens for them, with ffmpeg. A flash lasts for whole pictures, so that its end is that of a beep within one
/// picture's rounding, which is none at 30 pictures a second.
pub fn ends(media: &Path, has_picture: bool) -> Ends {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "info", "-nostdin", "-copyts", "-i"]).arg(media);
    if has_picture {
        command.args(["-vf", "blackdetect=d=0.3:pix_th=0.5:pic_th=0.5"]);
    }
    command.args(["-af", "silencedetect=n=-30dB:d=0.3"]).args(probe::OWN_TIMES).args(["-f", "null", "-"]);
    let output = command.output().expect("ffmpeg");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let numbers = |name: &str| {
        let after = text.match_indices(name).map(|(at, _)| &text[at + name.len()..]);
        let number = |rest: &str| rest.trim_start().split([' ', '\r', '\n']).next().and_then(|word| word.parse().ok());
        after.filter_map(number).collect::<Vec<f64>>()
    };
    Ends { flashes: numbers("black_start:"), beeps: numbers("silence_start:") }
}
