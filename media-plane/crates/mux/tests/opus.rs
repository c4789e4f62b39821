//! Opus as it comes, in the container that carries it: sample entries, pre-skip, times, crashes; judged by ffmpeg.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use common::ffmpeg::{generate, is_installed, probe};
use common::files::write;
use common::{Step, Store, avc, options, picture, record, variants};
use media::{Codec, CodecConfig, Frame, MediaTime, OpusConfig, TrackKind};
use mux::registry::FORMATS;
use mux::{Format, Options, Reaction, Segment, Treatment, Wish, demux};

fn opus(pre_skip: u16) -> CodecConfig {
    CodecConfig::Opus(Arc::new(OpusConfig { channels: 2, pre_skip, sample_rate_in: 44_100 }))
}

/// A packet of 20 ms with a serial number inside.
fn packet(millis: i64, serial: u32) -> Frame {
    let dts = MediaTime::from_millis(millis);
    let data = [&[0xfc][..], &serial.to_be_bytes(), &[7; 40]].concat();
    Frame { track: TrackKind::Audio, dts, pts: dts, keyframe: true, data: data.into() }
}

/// `seconds` of 25 pictures and 50 packets a second.
fn stream(seconds: i64) -> Vec<Step> {
    let mut frames: Vec<Frame> = (0..seconds * 25).map(|n| picture(n * 40, 0, n % 25 == 0, n as u32, 900)).collect();
    frames.extend((0..seconds * 50).map(|n| packet(n * 20, n as u32)));
    frames.sort_by_key(|frame| frame.dts);
    let mut steps = vec![Step::Config(TrackKind::Video, avc()), Step::Config(TrackKind::Audio, opus(0))];
    steps.extend(frames.into_iter().map(Step::Frame));
    steps
}

/// Every way to write what carries Opus.
fn mp4s(base: &Options) -> Vec<(&'static str, Format, Options)> {
    let carries = |variant: &(&str, Format, Options)| variant.1 == Format::Mp4 || variant.0 == "fmp4 hls";
    variants(base).into_iter().filter(carries).collect()
}

#[test]
fn r42_the_table_says_what_becomes_of_sound() {
    use Treatment::{Copy, Encode, LeaveOut};
    let packed = |segment, codec, wish| FORMATS.map(|row| row.format.treats(segment, codec, wish));
    let treatments = |codec, wish| packed(Segment::Ts, codec, wish);
    assert_eq!(treatments(Codec::Aac, Wish::Any), [Copy; 4]);
    assert_eq!(treatments(Codec::Aac, Wish::AsItComes), [Copy; 4]);
    assert_eq!(treatments(Codec::Aac, Wish::Aac), [Copy; 4]);
    assert_eq!(treatments(Codec::Opus, Wish::Any), [Encode; 4]);
    assert_eq!(treatments(Codec::Opus, Wish::Aac), [Encode; 4]);
    // HLS (of transport streams), FLV, MP4, AAC.
    assert_eq!(treatments(Codec::Opus, Wish::AsItComes), [LeaveOut, LeaveOut, Copy, LeaveOut]);
    // Of fragmented MP4, what MP4 carries.
    assert_eq!(packed(Segment::Fmp4, Codec::Opus, Wish::AsItComes), [Copy, LeaveOut, Copy, LeaveOut]);
    assert_eq!(packed(Segment::Fmp4, Codec::Opus, Wish::Any), [Encode; 4]);
    assert_eq!(packed(Segment::Fmp4, Codec::Aac, Wish::AsItComes), [Copy; 4]);
    for codec in [Codec::Aac, Codec::Opus, Codec::Mp3] {
        assert_eq!(treatments(codec, Wish::None), [LeaveOut; 4]);
    }
    assert_eq!(treatments(Codec::Mp3, Wish::Any), [LeaveOut; 4]);
}

#[test]
fn formats_without_opus_say_so() {
    for (name, format, options) in variants(&options()) {
        let mut muxer = mux::open(format, &options).unwrap();
        let carries = format == Format::Mp4 || name == "fmp4 hls";
        let expected = if carries { Reaction::Continue } else { Reaction::Unsupported };
        assert_eq!(muxer.config(TrackKind::Audio, &opus(0)), expected, "{name}");
    }
}

#[test]
fn the_sample_entry_is_that_of_the_encapsulation() {
    for (pre_skip, skipped) in [(0u16, 312u16), (120, 120)] {
        for (name, format, options) in mp4s(&options()) {
            let mut steps = stream(1);
            steps[1] = Step::Config(TrackKind::Audio, opus(pre_skip));
            let bytes = record(format, &options, &steps).file_bytes(0);
            let at = bytes.windows(4).position(|window| window == b"Opus").unwrap() - 4;
            let hex: String = bytes[at..at + 55].iter().map(|byte| format!("{byte:02x}")).collect();
            let expected = [
                // Size, name, data reference 1; 2 channels of 16 bits at 48000 Hz.
                "000000374f707573000000000000000100000000000000000002001000000000bb800000",
                // dOps: version 0, 2 channels, pre-skip, the rate that went in, no gain, family 0.
                &format!("00000013644f70730002{skipped:04x}0000ac44000000"),
            ];
            assert_eq!(hex, expected.concat(), "{name}");
        }
    }
}

#[test]
fn packets_come_back_one_for_one_in_their_places() {
    for (name, format, options) in
        mp4s(&Options { max_file_duration: Some(std::time::Duration::from_secs(2)), ..options() })
    {
        let store = record(format, &options, &stream(5));
        assert!(store.reactions.iter().all(|reaction| *reaction == Reaction::Continue));
        assert_eq!(store.done.len(), 3, "{name}");
        store.assert_one_for_one(name, format);
        for (file, summary) in store.done.iter().enumerate() {
            assert_eq!(summary.audio, Some(opus(0)), "{name}");
            let media = store.media(format, file as u32);
            let times: Vec<i64> = media.track(TrackKind::Audio).map(|sample| sample.dts.0).collect();
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 1_800), "{name}: {times:?}");
            // What the decoder drops is played before the first picture, which is to say not at all.
            let from = if format == Format::Hls { 20 * MediaTime::SCALE + summary.starts_at.0 } else { 0 };
            assert_eq!(times[0] - from, -585, "{name}");
        }
    }
}

/// RTMP counts milliseconds, and packets of 2.5 ms are shorter than three of them.
#[test]
fn rounded_times_become_whole_packets_again() {
    let mut steps = stream(1);
    steps.retain(|step| !matches!(step, Step::Frame(_)));
    steps.extend((0..400i64).map(|n| Step::Frame(packet((n * 5 + 1) / 2, n as u32))));
    for (name, format, options) in mp4s(&options()) {
        let media = record(format, &options, &steps).media(format, 0);
        let times: Vec<i64> = media.track(TrackKind::Audio).map(|sample| sample.dts.0).collect();
        assert_eq!(times.len(), 400);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 225), "{name}: {:?}", &times[..20]);
    }
}

#[test]
fn r_1_a_crash_costs_what_was_not_durable_and_the_file_goes_on() {
    let steps = stream(6);
    for (name, format, options) in mp4s(&options()) {
        for cut in [10, 101, 250] {
            let mut muxer = mux::open(format, &options).unwrap();
            let mut store = Store::default();
            for step in &steps[..cut] {
                common::tell(&mut muxer, &mut store, step);
                while let Some(output) = muxer.poll() {
                    store.obey(output);
                }
            }
            let rest = [&steps[..2], &steps[cut..]].concat();
            let store = store.restart(format, &options, &rest);
            store.assert_one_for_one(&format!("{name}, killed after {cut}"), format);
            assert_eq!(store.done.last().unwrap().audio, Some(opus(0)));
        }
    }
}

/// Packets as libopus made them, with what their container says of them.
fn real(directory: &Path) -> Option<(PathBuf, Vec<Step>)> {
    let path = directory.join("opus.mp4");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", "sine=f=440:r=48000:b=2:d=4", "-ac", "2"]);
    let out = command.args(["-c:a", "libopus", "-b:a", "64k"]).arg(&path).output().unwrap();
    if !out.status.success() {
        eprintln!("ffmpeg has no libopus: nothing judged");
        return None;
    }
    let media = demux::mp4(&Bytes::from(std::fs::read(&path).unwrap())).unwrap();
    assert_eq!(media.audio[0][2..4], [1, 56], "a pre-skip of 312");
    let mut steps = vec![Step::Config(TrackKind::Audio, opus(312))];
    steps.extend(media.samples.into_iter().map(|sample| {
        let demux::Sample { track, dts, pts, keyframe, payload, .. } = sample;
        Step::Frame(Frame { track, dts, pts, keyframe, data: payload })
    }));
    Some((path, steps))
}

/// Samples that ffmpeg plays, as bytes; a single complaint fails the test.
fn sound(path: &Path) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i"]).arg(path);
    let out = command.args(["-map", "0:a", "-f", "s16le", "-"]).output().unwrap();
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && complaints.is_empty(), "{}: {complaints}", path.display());
    out.stdout
}

#[test]
fn ffmpeg_plays_what_it_plays_of_its_own_file() {
    let directory = tempfile::tempdir().unwrap();
    if !is_installed() {
        return;
    }
    let Some((source, sound_steps)) = real(directory.path()) else { return };
    let pictures =
        generate(directory.path(), &["-t", "4", "-an", "-c:v", "libx264", "-g", "30", "-tune", "zerolatency"]);
    let time = |step: &Step| if let Step::Frame(frame) = step { frame.dts } else { MediaTime(i64::MIN) };
    let mut steps = [pictures, sound_steps].concat();
    steps.sort_by_key(time);
    let expected = sound(&source);
    assert!(expected.len() > 4 * 48_000 * 3);
    for (name, format, options) in mp4s(&options()) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        let path = &write(&store, directory.path(), name, format)[0];
        let streams = probe(path, "stream=codec_name,sample_rate,channels");
        assert!(streams.contains("opus,48000,2"), "{name}: {streams}");
        let starts = probe(path, "stream=start_time");
        // Playlists list streams twice, once within the program.
        let lines = starts.lines().map(|line| line.trim_matches(',')).filter(|line| !line.is_empty());
        let starts: Vec<f64> = lines.map(|line| line.parse().unwrap()).collect();
        // Of fragments ffmpeg names the first sample decoded, of the other layout the first that is played.
        let dropped = if name == "mp4" { 0.0 } else { 0.006_5 };
        assert!((starts[0] - starts[1] - dropped).abs() < 0.001, "{name}: picture and sound start at {starts:?}");
        let heard = sound(path);
        assert!(
            heard.len().abs_diff(expected.len()) <= 960 * 4,
            "{name}: {} bytes, not {}",
            heard.len(),
            expected.len()
        );
        let length = heard.len().min(expected.len());
        assert!(heard[..length] == expected[..length], "{name}: other samples");
    }
}
