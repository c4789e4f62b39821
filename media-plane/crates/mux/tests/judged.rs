//! Real encodes by ffmpeg, recorded in every format and judged by ffmpeg: no complaint, and frame for frame the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::ffmpeg::{decode, generate, is_installed, probe};
use common::files::write;
use common::{Step, Store, counts_samples, options, record, steps, variants};
use media::TrackKind;
use mux::{Format, Options};

/// Records a real stream in all formats and has everything judged.
fn judge(arguments: &[&str], options: &Options) {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = generate(directory.path(), arguments);
    let (pictures, sounds) = decode(&directory.path().join("source.flv"));
    for (name, format, options) in variants(options) {
        let has_sound = source.iter().any(|step| matches!(step, Step::Frame(f) if f.track == TrackKind::Audio));
        if format == Format::Aac && !has_sound {
            continue;
        }
        let store = record(format, &options, &source);
        store.assert_one_for_one(name, format);
        assert_times(&store, name, format, counts_samples(format, &options));
        let paths = write(&store, directory.path(), name, format);
        // An opinion other than our demuxers': what ffmpeg decodes equals what it decodes of the source.
        let decoded: Vec<(Vec<String>, usize)> = paths.iter().map(|path| decode(path)).collect();
        if format != Format::Aac {
            let got: Vec<&String> = decoded.iter().flat_map(|(pictures, _)| pictures).collect();
            assert_eq!(got.len(), pictures.len(), "{name}: number of decoded pictures");
            assert!(got.into_iter().eq(&pictures), "{name}: decoded pictures differ");
        }
        let got: usize = decoded.iter().map(|(_, sounds)| sounds).sum();
        assert!(got.abs_diff(sounds) <= paths.len(), "{name}: {got} decoded frames of sound instead of {sounds}");
    }
}

/// Distances of decode times within the rounding of the container.
fn assert_times(store: &Store, name: &str, format: Format, by_samples: bool) {
    for track in [TrackKind::Video, TrackKind::Audio] {
        let mut sent = store.taken.iter().filter(|frame| frame.track == track).map(|frame| frame.dts.0);
        for file in 0..store.done.len() as u32 {
            let media = store.media(format, file);
            let back: Vec<i64> = media.track(track).map(|sample| sample.dts.0).collect();
            let sent: Vec<i64> = sent.by_ref().take(back.len()).collect();
            let allowed = if track == TrackKind::Audio && by_samples { 185 } else { 1 };
            for (back, sent) in steps(back.into_iter()).iter().zip(steps(sent.into_iter())) {
                assert!((back - sent).abs() <= allowed, "{name}: {track:?} distance {back} instead of {sent}");
            }
        }
    }
}

const SOUND: [&str; 4] = ["-c:a", "aac", "-b:a", "96k"];

#[test]
fn r9_picture_and_sound_with_b_frames() {
    let video = ["-t", "6", "-c:v", "libx264", "-g", "60", "-bf", "3", "-x264-params", "b-pyramid=none:scenecut=0"];
    judge(&[&video[..], &SOUND].concat(), &Options { segment_duration: Duration::from_secs(2), ..options() });
}

#[test]
fn r9_picture_and_sound_without_b_frames() {
    let video = ["-t", "4", "-c:v", "libx264", "-g", "30", "-tune", "zerolatency"];
    judge(&[&video[..], &SOUND].concat(), &options());
}

#[test]
fn r10_sound_only() {
    judge(&["-t", "5", "-vn", "-c:a", "aac"], &Options { segment_duration: Duration::from_secs(2), ..options() });
}

#[test]
fn e20_picture_only() {
    judge(&["-t", "4", "-an", "-c:v", "libx264", "-g", "30", "-bf", "2"], &options());
}

#[test]
fn r24_files_cut_at_key_frames_decode_one_by_one() {
    // Closed groups, so that no picture of one file refers to the file before.
    let video = ["-t", "9", "-c:v", "libx264", "-g", "30", "-bf", "2", "-flags", "+cgop"];
    let options = Options {
        max_file_duration: Some(Duration::from_millis(2_500)),
        segment_duration: Duration::from_secs(1),
        ..options()
    };
    judge(&[&video[..], &SOUND].concat(), &options);
}

#[test]
fn r9_slices_and_in_band_parameter_sets() {
    let video = ["-t", "3", "-c:v", "libx264", "-g", "30", "-x264-params", "slices=4:repeat-headers=1:aud=1"];
    judge(&[&video[..], &SOUND].concat(), &options());
}

#[test]
fn e10_a_channel_layout_of_its_own_is_carried_by_every_format() {
    judge(&["-t", "2", "-vn", "-c:a", "aac", "-af", "aformat=channel_layouts=5.1(side)"], &options());
}

#[test]
fn ffprobe_reads_the_headers() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = generate(directory.path(), &["-t", "2", "-c:v", "libx264", "-g", "30", "-c:a", "aac", "-ac", "2"]);
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &source);
        let path = &write(&store, directory.path(), name, format)[0];
        let streams = probe(path, "stream=codec_name,width,height,sample_rate,channels");
        let mut lines: Vec<&str> = streams.lines().filter(|line| !line.is_empty()).collect();
        // Playlists list streams twice, once within the program.
        lines.sort_unstable();
        lines.dedup();
        let expected: &[&str] = if format == Format::Aac { &["aac,44100,2"] } else { &["aac,44100,2", "h264,160,120"] };
        assert_eq!(lines, expected, "{name}");
    }
}

#[test]
fn mp4_starts_with_its_index_and_is_as_long_as_the_source() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = generate(directory.path(), &["-t", "5", "-c:v", "libx264", "-g", "60", "-bf", "3", "-c:a", "aac"]);
    for (name, format, options) in variants(&options()).into_iter().filter(|(_, format, _)| *format == Format::Mp4) {
        let store = record(format, &options, &source);
        let bytes = store.file_bytes(0);
        assert_eq!(&bytes[4..8], b"ftyp");
        let position = |kind: &[u8]| bytes.windows(4).position(|window| window == kind).unwrap();
        assert!(position(b"moov") < position(b"mdat"), "{name}");
        let path = &write(&store, directory.path(), name, format)[0];
        let duration: f64 = probe(path, "format=duration").trim().parse().unwrap();
        // Without edit list the fragmented file begins with the delay of B-frames, like the source.
        assert!((5.0..5.1).contains(&duration), "{name}: {duration}");
        // Sound and picture start where they started in the source.
        let starts = probe(path, "stream=start_time");
        let of_source = probe(&directory.path().join("source.flv"), "stream=start_time");
        let parse =
            |text: &str| text.lines().map(|line| line.trim_matches(',').parse::<f64>().unwrap()).collect::<Vec<_>>();
        let (got, expected) = (parse(&starts), parse(&of_source));
        let offset = |times: &[f64]| times[1] - times[0];
        assert!((offset(&got) - offset(&expected)).abs() < 0.002, "{name}: {got:?} instead of {expected:?}");
    }
}
