//! H.265, AV1, VP9 and VP8 as real encoders make them, recorded by every format that carries them: frame for frame the
//! same, with a configuration that decoders take, through changes, cuts and crashes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ffmpeg::{decode, is_installed, probe};
use common::files::write;
use common::{Step, Store, aac, crash, options, record, sound, stream, variants};
use media::{
    AacConfig, Av1Config, Codec, CodecConfig, Frame, HevcConfig, MediaTime, TrackKind, VpxConfig, av1, h265, vpx,
};
use mux::{Format, Options, Reaction, Segment, demux};

/// An MP4 made by ffmpeg, beside the steps that an ingest session would make of it: 25 pictures a second, sound if wanted.
fn source(directory: &Path, codec: Codec, seconds: u32, arguments: &[&str]) -> Vec<Step> {
    let path = directory.join("source.mp4");
    let encoder: &[&str] = match codec {
        Codec::H265 => {
            &["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=25:bframes=3"]
        }
        Codec::Av1 => &["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-g", "25"],
        Codec::Vp9 => &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "25"],
        other => panic!("{other:?}"),
    };
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=162x122:r=25", "-f", "lavfi", "-i"]);
    command.args(["sine=f=440:r=44100", "-pix_fmt", "yuv420p", "-t", &seconds.to_string()]).args(encoder);
    let out = command.args(["-c:a", "aac"]).args(arguments).arg(&path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    steps_of(codec, &std::fs::read(&path).unwrap().into())
}

fn steps_of(codec: Codec, mp4: &Bytes) -> Vec<Step> {
    let media = demux::mp4(mp4).unwrap();
    let mut frames: Vec<Frame> = Vec::new();
    for demux::Sample { track, dts, pts, keyframe, payload, .. } in media.samples.clone() {
        // To the milliseconds of RTMP, from zero on.
        let millis = |time: MediaTime| MediaTime::from_millis(time.as_millis() + 1_000);
        let data =
            if codec == Codec::Av1 && track == TrackKind::Video { av1::normalise(payload).unwrap() } else { payload };
        frames.push(Frame { track, dts: millis(dts), pts: millis(pts), keyframe, data });
    }
    frames.sort_by_key(|frame| frame.dts);
    let first = frames.iter().find(|frame| frame.track == TrackKind::Video).unwrap();
    let mut steps = vec![Step::Config(TrackKind::Video, config_of(codec, &media.video[0], &first.data))];
    if let Some(asc) = media.audio.first() {
        let config = AacConfig::parse(asc.clone()).unwrap();
        steps.push(Step::Config(TrackKind::Audio, CodecConfig::Aac(Arc::new(config))));
    }
    steps.extend(frames.into_iter().map(Step::Frame));
    steps
}

fn config_of(codec: Codec, record: &Bytes, first: &[u8]) -> CodecConfig {
    match codec {
        Codec::H265 => CodecConfig::Hevc(HevcConfig::parse(record.clone()).unwrap().into()),
        Codec::Av1 => CodecConfig::Av1(Av1Config::parse(record.clone()).unwrap().into()),
        _ => {
            let seen = VpxConfig::from_vp9_keyframe(first).unwrap();
            CodecConfig::Vp9(seen.with_record_of(&VpxConfig::parse(record).unwrap()).into())
        }
    }
}

/// The formats that carry a codec.
fn carrying(codec: Codec) -> Vec<(&'static str, Format, Options)> {
    let options = Options { segment_duration: Duration::from_secs(1), ..options() };
    variants(&options).into_iter().filter(|(_, format, options)| format.carries_in(options.segment, codec)).collect()
}

/// Everything is in the files once, decode times and composition as sent, key frames marked.
fn assert_exact(store: &Store, name: &str, format: Format) {
    store.assert_one_for_one(name, format);
    let sent: Vec<&Frame> = store.taken.iter().filter(|frame| frame.track == TrackKind::Video).collect();
    let back: Vec<demux::Sample> = (0..store.done.len() as u32)
        .flat_map(|file| store.media(format, file).samples)
        .filter(|sample| sample.track == TrackKind::Video)
        .collect();
    assert_eq!(sent.len(), back.len(), "{name}");
    let zero = back[0].dts.0 - sent[0].dts.0;
    for (sent, back) in sent.iter().zip(&back) {
        assert_eq!(sent.keyframe, back.keyframe, "{name}: key frame at {:?}", sent.dts);
        if store.done.len() == 1 {
            assert_eq!(((back.dts.0 - zero), back.pts.0 - zero), (sent.dts.0, sent.pts.0), "{name}");
        }
    }
}

/// What ffmpeg decodes of the files is what it decodes of the source; it cannot read the FLV of Enhanced RTMP.
fn judge(codec: Codec, seconds: u32, ffmpeg_name: &str) {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let steps = source(directory.path(), codec, seconds, &[]);
    let (pictures, sounds) = decode(&directory.path().join("source.mp4"));
    assert_eq!(pictures.len(), seconds as usize * 25);
    let formats = carrying(codec);
    assert!(formats.len() >= 3, "{formats:?}");
    for (name, format, options) in formats {
        let store = record(format, &options, &steps);
        assert!(store.refused.is_empty() && store.reactions == [Reaction::Continue; 2], "{name}: {:?}", store.refused);
        assert_exact(&store, name, format);
        assert_eq!(store.done[0].video.as_ref().map(CodecConfig::picture_size), Some(Some((162, 122))), "{name}");
        let paths = write(&store, directory.path(), name, format);
        if format == Format::Flv {
            assert_pyav_reads(&paths[0], ffmpeg_name, &steps);
            continue;
        }
        let (got, heard) = decode(&paths[0]);
        assert!(got == pictures, "{name}: {} pictures instead of {}, or others", got.len(), pictures.len());
        assert!(heard.abs_diff(sounds) <= 1, "{name}: {heard} frames of sound instead of {sounds}");
        let streams = probe(&paths[0], "stream=codec_name,width,height");
        assert!(streams.contains(&format!("{ffmpeg_name},162,122")), "{name}: {streams}");
    }
}

/// Has the packets of a file listed by a newer ffmpeg, where the test tools are installed: as many as were sent, with their
/// times and sizes, and pictures that decode.
fn assert_pyav_reads(path: &Path, codec: &str, steps: &[Step]) {
    const READ: &str = "import sys, av\nf = av.open(sys.argv[1])\nv = f.streams.video[0]\n\
        print(v.codec_context.name, v.codec_context.width, v.codec_context.height)\n\
        for p in f.demux(v):\n    if p.size: print(p.dts, p.pts, p.size, int(p.is_keyframe))\n\
        print(sum(1 for _ in av.open(sys.argv[1]).decode(video=0)))\n";
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../.tools/python/bin/python");
    if !python.exists() {
        return eprintln!("the test tools are not installed: FLV not judged");
    }
    let out = Command::new(python).args(["-c", READ]).arg(path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let sent = || steps.iter().filter_map(|step| if let Step::Frame(frame) = step { Some(frame) } else { None });
    let zero = sent().map(|frame| frame.dts).min().unwrap();
    let pictures = sent().filter(|frame| frame.track == TrackKind::Video);
    let expected: Vec<String> = pictures
        .map(|f| {
            let (dts, pts) = ((f.dts - zero).as_millis(), (f.pts - zero).as_millis());
            format!("{dts} {pts} {} {}", f.data.len(), u8::from(f.keyframe))
        })
        .collect();
    assert_eq!(lines.pop(), Some(expected.len().to_string().as_str()), "decoded pictures");
    assert_eq!(lines.remove(0).replace("libdav1d", "av1"), format!("{codec} 162 122"));
    assert_eq!(lines, expected);
}

#[test]
fn h265_with_b_frames_is_the_same_in_every_format_that_carries_it() {
    judge(Codec::H265, 4, "hevc");
}

#[test]
fn av1_is_the_same_in_every_format_that_carries_it() {
    judge(Codec::Av1, 3, "av1");
}

#[test]
fn vp9_is_the_same_in_every_format_that_carries_it() {
    judge(Codec::Vp9, 3, "vp9");
}

/// Debian's ffmpeg writes no MP4 with VP8, so this source is an IVF: a head of 32 bytes, then frames behind 12 bytes each.
#[test]
fn vp8_is_the_same_in_every_format_that_carries_it() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("source.ivf");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=162x122:r=25", "-t", "3", "-c:v", "libvpx"]);
    let out = command.args(["-deadline", "realtime", "-g", "25"]).arg(&path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let ivf = Bytes::from(std::fs::read(&path).unwrap());
    let (mut steps, mut at, mut millis) = (Vec::new(), 32, 0);
    while at < ivf.len() {
        let size = u32::from_le_bytes(ivf[at..at + 4].try_into().unwrap()) as usize;
        let (dts, data) = (MediaTime::from_millis(millis), ivf.slice(at + 12..at + 12 + size));
        (at, millis) = (at + 12 + size, millis + 40);
        let keyframe = vpx::is_vp8_keyframe(&data);
        steps.push(Step::Frame(Frame { track: TrackKind::Video, dts, pts: dts, keyframe, data }));
    }
    let config = VpxConfig::from_vp8_keyframe(&frame(&steps[0]).unwrap().data).unwrap();
    steps.insert(0, Step::Config(TrackKind::Video, CodecConfig::Vp8(config.into())));
    let (pictures, _) = decode(&path);
    for (name, format, options) in carrying(Codec::Vp8) {
        let store = record(format, &options, &steps);
        assert_exact(&store, name, format);
        let paths = write(&store, directory.path(), name, format);
        // FLV with VP8 is in the specification, but ffmpeg 8.1 does not read it: nobody but our demuxer judges.
        if format != Format::Flv {
            assert_eq!(decode(&paths[0]).0, pictures, "{name}");
            assert!(probe(&paths[0], "stream=codec_name,width,height").contains("vp8,162,122"), "{name}");
        }
    }
}

#[test]
fn h265_in_hls_begins_key_frames_with_their_parameter_sets() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let steps = source(directory.path(), Codec::H265, 3, &[]);
    let options = Options { segment_duration: Duration::from_secs(1), ..options() };
    let store = record(Format::Hls, &options, &steps);
    let mut keys = 0;
    for sample in store.media(Format::Hls, 0).track(TrackKind::Video) {
        let kinds: Vec<u8> = h265::nals(&sample.payload).filter_map(h265::nal_type).collect();
        let begins = kinds.starts_with(&[h265::VPS, h265::SPS, h265::PPS]);
        assert_eq!(begins, sample.keyframe, "{kinds:?}");
        keys += usize::from(begins);
    }
    assert_eq!(keys, 3);
}

#[test]
fn a_format_that_cannot_carry_a_codec_leaves_the_picture_out() {
    let picture = vp9_picture(0, 64);
    let config = CodecConfig::Vp9(VpxConfig::from_vp9_keyframe(&picture.data).unwrap().into());
    let mut steps = vec![Step::Config(TrackKind::Video, config), Step::Config(TrackKind::Audio, aac())];
    steps.extend((0..20).flat_map(|n| [Step::Frame(vp9_picture(n * 40, 64)), Step::Frame(sound(n * 40, n as u32, 9))]));
    for (name, format, options) in variants(&options()) {
        let store = record(format, &options, &steps);
        let carries = format.carries_in(options.segment, Codec::Vp9);
        assert_eq!(store.reactions[0], if carries { Reaction::Continue } else { Reaction::Unsupported }, "{name}");
        assert_eq!(store.sent(TrackKind::Video).len(), if carries { 20 } else { 0 }, "{name}");
        assert_eq!(store.sent(TrackKind::Audio).len(), 20, "{name}");
        store.assert_one_for_one(name, format);
    }
}

/// A key frame of VP9 whose side is as long as that.
fn vp9_picture(millis: i64, side: u32) -> Frame {
    let bits = u64::from(side - 1) << 16 | u64::from(side - 1);
    // Frame marker to error resilience, sync code, colours: then width and height, from the middle of a byte on.
    let mut data = vec![0x82, 0x49, 0x83, 0x42];
    data.extend(&(bits << 28).to_be_bytes()[..5]);
    data.extend([0x5a; 300]);
    assert!(vpx::is_vp9_keyframe(&data));
    let dts = MediaTime::from_millis(millis);
    Frame { track: TrackKind::Video, dts, pts: dts, keyframe: true, data: data.into() }
}

fn vp9(side: u32) -> Vec<Step> {
    let start = if side == 64 { 0 } else { 10_000 };
    let config = VpxConfig::from_vp9_keyframe(&vp9_picture(0, side).data).unwrap();
    assert_eq!((config.width, config.height), (side, side));
    let mut steps = vec![Step::Config(TrackKind::Video, CodecConfig::Vp9(config.into()))];
    steps.extend((0..50).map(|n| Step::Frame(vp9_picture(start + n * 40, side))));
    steps
}

#[test]
fn a_resolution_change_behaves_as_with_h264() {
    let steps = [vp9(64), vp9(128)].concat();
    for (name, format, options) in carrying(Codec::Vp9) {
        let store = record(format, &options, &steps);
        store.assert_one_for_one(name, format);
        let files = if format == Format::Mp4 { 2 } else { 1 };
        assert_eq!(store.done.len(), files, "{name}");
        let last = store.done.last().unwrap().video.as_ref().and_then(CodecConfig::picture_size);
        assert_eq!(last, Some((128, 128)), "{name}");
        let configs: usize = (0..files as u32).map(|file| store.media(format, file).video.len()).sum();
        assert_eq!(configs, 2, "{name}");
    }
}

#[test]
fn another_codec_begins_another_file_or_segment_at_its_first_key_frame() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let hevc = source(directory.path(), Codec::H265, 2, &["-an"]);
    let hevc = common::later(hevc, MediaTime::from_millis(4_000));
    // Behind the change comes a picture that is none to start with.
    let stray = common::picture(4_900, 0, false, 999, 20);
    let mut steps = stream(4, 25);
    steps.push(hevc[0].clone());
    steps.push(Step::Frame(stray));
    steps.extend_from_slice(&hevc[1..]);
    for (name, format, options) in carrying(Codec::H265) {
        let store = record(format, &options, &steps);
        assert_eq!(store.refused.len(), 1, "{name}: {:?}", store.refused);
        store.assert_one_for_one(name, format);
        if format == Format::Hls {
            let (text, _) = store.playlists[&0].last().unwrap();
            // The sound ends with the first picture's codec: the segment after that is described without it.
            let breaks = if options.segment == Segment::Fmp4 { 2 } else { 1 };
            assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), breaks, "{text}");
        } else {
            assert_eq!(store.done.len(), 2, "{name}");
            let of = |file: usize| store.done[file].video.as_ref().map(CodecConfig::codec);
            assert_eq!((of(0), of(1)), (Some(Codec::H264), Some(Codec::H265)), "{name}");
            let codecs: Vec<Codec> =
                store.media(format, 1).track(TrackKind::Video).map(|sample| sample.codec).collect();
            assert_eq!(codecs, vec![Codec::H265; 50], "{name}");
        }
    }
}

#[test]
fn after_a_crash_the_file_goes_on_with_the_configuration_it_had() {
    if !is_installed() {
        return;
    }
    for codec in [Codec::H265, Codec::Av1, Codec::Vp9] {
        let directory = tempfile::tempdir().unwrap();
        let steps = source(directory.path(), codec, 2, &[]);
        for (name, format, options) in carrying(codec) {
            // Crashes between the key frame at 0 and the one at 1 s; what follows is told from that one on.
            let half = steps.iter().position(|step| at_least(step, 1_500)).unwrap();
            let rest = steps.iter().position(|step| is_key(step, 1_900)).unwrap();
            let muxer = mux::open(format, &options).unwrap();
            let script = crash::script_of(muxer, &steps[..half]);
            let frames: Vec<Frame> = steps[..half].iter().filter_map(frame).collect();
            let before: Vec<_> = script.into_iter().filter(|(number, _)| *number < half).collect();
            let mut store = crash::played(&before, &frames);
            store.codecs.insert(0, codec);
            let store = store.restart(format, &options, &[&steps[..2], &steps[rest..]].concat());
            assert_eq!(store.done.len(), 1, "{name}, {codec:?}: the file goes on");
            store.assert_one_for_one(name, format);
            let (paths, count) = (write(&store, directory.path(), name, format), store.sent(TrackKind::Video).len());
            assert!(count >= 35, "{name}: {count} pictures");
            if format == Format::Mp4 {
                // Pictures that refer across the hole cannot be told apart here, but packets can be counted.
                let packets = probe(&paths[0], "packet=stream_index,codec_type");
                let pictures = packets.lines().filter(|line| line.contains("video")).count();
                assert_eq!(pictures, count, "{name}, {codec:?}");
            }
        }
    }
}

fn frame(step: &Step) -> Option<Frame> {
    if let Step::Frame(frame) = step { Some(frame.clone()) } else { None }
}

fn at_least(step: &Step, millis: i64) -> bool {
    frame(step).is_some_and(|frame| frame.dts >= MediaTime::from_millis(millis))
}

fn is_key(step: &Step, millis: i64) -> bool {
    at_least(step, millis) && frame(step).is_some_and(|frame| frame.track == TrackKind::Video && frame.keyframe)
}
