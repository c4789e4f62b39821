//! ffmpeg as the source of real streams and as a judge of what was made of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use media::{AacConfig, AvcConfig, CodecConfig, Frame, TrackKind};
use mux::demux;

use super::Step;

/// Whether there is a judge; without one, tests that need it say so and pass.
pub fn is_installed() -> bool {
    let found = Command::new("ffmpeg").arg("-version").output().is_ok_and(|out| out.status.success());
    if !found {
        eprintln!("ffmpeg is not installed: nothing judged");
    }
    found
}

/// An FLV made by ffmpeg from test pictures and tones, as steps.
pub fn generate(directory: &Path, arguments: &[&str]) -> Vec<Step> {
    let path = directory.join("source.flv");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=160x120:r=30", "-f", "lavfi", "-i"]);
    command.args(["sine=f=440:r=44100", "-pix_fmt", "yuv420p", "-preset", "ultrafast", "-shortest"]).args(arguments);
    let out = command.args(["-f", "flv"]).arg(&path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    steps_of(&Bytes::from(std::fs::read(&path).unwrap()))
}

/// What an ingest session would make of an FLV.
pub fn steps_of(flv: &Bytes) -> Vec<Step> {
    let media = demux::flv(flv).unwrap();
    let mut steps = Vec::new();
    if let Some(record) = media.video.first() {
        let config = AvcConfig::parse(record.clone()).unwrap();
        steps.push(Step::Config(TrackKind::Video, CodecConfig::Avc(Arc::new(config))));
    }
    if let Some(asc) = media.audio.first() {
        let config = AacConfig::parse(asc.clone()).unwrap();
        steps.push(Step::Config(TrackKind::Audio, CodecConfig::Aac(Arc::new(config))));
    }
    let frame = |sample: demux::Sample| {
        let demux::Sample { track, dts, pts, keyframe, payload, .. } = sample;
        Step::Frame(Frame { track, dts, pts, keyframe, data: payload })
    };
    steps.extend(media.samples.into_iter().map(frame));
    steps
}

/// Asks ffprobe for entries of the streams, one line a stream.
pub fn probe(path: &Path, entries: &str) -> String {
    let arguments = ["-v", "error", "-of", "csv=p=0", "-show_entries", entries];
    let out = Command::new("ffprobe").args(arguments).arg(path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Decodes everything: hashes of all pictures, and how many frames of sound. A single complaint fails the test.
pub fn decode(path: &Path) -> (Vec<String>, usize) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i"]).arg(path).args([
        "-map",
        "0:v?",
        "-map",
        "0:a?",
        "-fps_mode",
        "passthrough",
        "-f",
        "framemd5",
        "-",
    ]);
    let out = command.output().unwrap();
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && complaints.is_empty(), "{}: {complaints}", path.display());
    let text = String::from_utf8(out.stdout).unwrap();
    // A header line for every stream, then "stream, dts, pts, duration, size, hash" for every frame.
    let has_video = text.lines().any(|line| line == "#media_type 0: video");
    let frames = || text.lines().filter(|line| !line.starts_with('#'));
    let is_picture = |line: &&str| has_video && line.starts_with("0,");
    let hash = |line: &str| line.rsplit(',').next().unwrap().trim().to_owned();
    let pictures: Vec<String> = frames().filter(is_picture).map(hash).collect();
    let sounds = frames().count() - pictures.len();
    (pictures, sounds)
}

/// Decodes many files in one go: the number of pictures and of frames of sound of each. A single complaint fails the test.
pub fn decode_all(paths: &[PathBuf]) -> Vec<(usize, usize)> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error"]);
    for path in paths {
        command.arg("-i").arg(path);
    }
    for number in 0..paths.len() {
        command.args(["-map", &format!("{number}:v?"), "-map", &format!("{number}:a?")]);
    }
    let out = command.args(["-fps_mode", "passthrough", "-f", "framemd5", "-"]).output().unwrap();
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && complaints.is_empty(), "{paths:?}: {complaints}");
    let text = String::from_utf8(out.stdout).unwrap();
    let (mut decoded, mut streams) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some((_, kind)) = line.strip_prefix("#media_type ").and_then(|line| line.split_once(": ")) {
            // Of every file the picture comes first.
            let is_video = kind == "video";
            if is_video || streams.last().is_none_or(|(_, was_video)| !was_video) {
                decoded.push((0, 0));
            }
            streams.push((decoded.len() - 1, is_video));
        } else if let Some((stream, _)) = line.split_once(',').filter(|_| !line.starts_with('#')) {
            let (file, is_video) = streams[stream.trim().parse::<usize>().unwrap()];
            let (pictures, sounds) = &mut decoded[file];
            *if is_video { pictures } else { sounds } += 1;
        }
    }
    decoded
}
