//! A real stream, crashed and gone on with, judged by ffmpeg: it plays, and picture and sound stay together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::crash::{played, script};
use common::ffmpeg::{decode_all, generate, is_installed};
use common::files::write;
use common::{Step, later, options, record, variants};
use media::{Gap, GapReason, MediaTime, TrackKind};
use mux::{Format, Options};

const RESUMES_AT: MediaTime = MediaTime(30 * MediaTime::SCALE);

/// Presentation times of the packets of a track in seconds, as a player maps them.
fn shown(path: &Path, track: &str) -> Vec<f64> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", track, "-show_entries", "packet=pts_time", "-of", "csv=p=0"]);
    let out = command.arg(path).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().filter_map(|line| line.trim_matches(',').parse().ok()).collect()
}

#[test]
fn a_file_with_a_hole_in_it_plays_and_stays_together() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = generate(directory.path(), &["-t", "4", "-c:v", "libx264", "-g", "30", "-bf", "2", "-c:a", "aac"]);
    let gap = Gap { starts_at: MediaTime::ZERO, resumes_at: RESUMES_AT, reason: GapReason::NodeCrashed };
    let comeback = [vec![Step::Gap(gap)], later(source.clone(), RESUMES_AT)].concat();
    let two_seconds = Options { segment_duration: Duration::from_secs(2), ..options() };
    for (name, format, options) in variants(&two_seconds) {
        let all = record(format, &options, &source);
        let script = script(format, &options, &source);
        let crashed = played(&script[..script.len() * 3 / 5], &all.taken);
        let store = crashed.restart(format, &options, &comeback);
        store.assert_one_for_one(name, format);
        assert_eq!(store.done.len(), 1, "{name}");
        let paths = write(&store, directory.path(), name, format);
        let count = |track| store.taken.iter().filter(|frame| frame.track == track).count();
        let (pictures, sounds) = decode_all(&paths)[0];
        assert_eq!(pictures, count(TrackKind::Video), "{name}");
        assert!(sounds.abs_diff(count(TrackKind::Audio)) <= 2, "{name}: {sounds}");
        if !matches!(format, Format::Mp4 | Format::Flv) {
            continue;
        }
        let sent = |track| {
            let of_track = store.taken.iter().filter(move |frame| frame.track == track);
            of_track.map(|frame| frame.pts.as_secs_f64()).collect::<Vec<_>>()
        };
        let (video, audio) = (shown(&paths[0], "v:0"), shown(&paths[0], "a:0"));
        let (sent_video, sent_audio) = (sent(TrackKind::Video), sent(TrackKind::Audio));
        assert_eq!((video.len(), audio.len()), (sent_video.len(), sent_audio.len()), "{name}");
        // How far sound is from picture behind the hole, against what was sent: the first of both after it.
        let after = |times: &[f64]| times.iter().position(|time| *time >= RESUMES_AT.as_secs_f64()).unwrap();
        let (v, a) = (after(&sent_video), after(&sent_audio));
        let (got, expected) = (audio[a] - video[v], sent_audio[a] - sent_video[v]);
        assert!((got - expected).abs() <= 0.001, "{name}: {got} instead of {expected}");
        // And how long the hole is.
        let (got, expected) = (video[v] - video[0], sent_video[v] - sent_video[0]);
        assert!((got - expected).abs() <= 0.001, "{name}: {got} instead of {expected}");
    }
}
