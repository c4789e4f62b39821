//! Reliability test 31: everything that may change in the middle of a stream, by format: continue, cut, or refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::ffmpeg::{decode_all, generate, is_installed};
use common::files::{parts, write};
use common::{Step, Store, later, options, record, variants};
use media::{Codec, CodecConfig, MediaTime, TrackKind};
use mux::{Format, Options, Reaction, Rejected};

use Reaction::{Continue, CutHere, Unsupported};
use TrackKind::{Audio, Video};

/// What must come of a change: reaction to the last configuration and number of files, in the order of [`variants`].
struct Case {
    name: &'static str,
    steps: Vec<Step>,
    reactions: [Reaction; 6],
    files: [usize; 6],
    /// Files may begin without a key frame: joined in order they lose nothing, alone ffmpeg has reason to complain.
    joined: bool,
}

fn is_of(step: &Step, of: TrackKind) -> bool {
    match step {
        Step::Config(track, _) => *track == of,
        Step::Frame(frame) => frame.track == of,
        _ => false,
    }
}

fn at(step: &Step) -> MediaTime {
    if let Step::Frame(frame) = step { frame.dts } else { MediaTime::ZERO }
}

fn only(steps: &[Step], track: TrackKind) -> Vec<Step> {
    steps.iter().filter(|step| is_of(step, track)).cloned().collect()
}

/// The second stream right behind the first.
fn then(first: &[Step], second: &[Step]) -> Vec<Step> {
    let end = first.iter().map(at).max().unwrap() + MediaTime::from_millis(40);
    // Only what changes is announced.
    let is_news = |step: &Step| !matches!(step, Step::Config(..)) || !first.contains(step);
    let second: Vec<Step> = second.iter().filter(|step| is_news(step)).cloned().collect();
    [first, &later(second, end)].concat()
}

fn seconds(n: i64) -> MediaTime {
    MediaTime(n * MediaTime::SCALE)
}

fn cases(directory: &Path) -> Vec<Case> {
    let video = ["-c:v", "libx264", "-g", "30", "-tune", "zerolatency", "-c:a", "aac"];
    let stream = |more: &[&str]| generate(directory, &[&video[..], more].concat());
    let plain = stream(&["-t", "3", "-ar", "44100"]);
    let larger = stream(&["-t", "3", "-ar", "44100", "-s", "320x240"]);
    let other_sets = stream(&["-t", "3", "-ar", "44100", "-x264-params", "ref=3:cabac=1"]);
    let other_sound = stream(&["-t", "3", "-ar", "48000"]);
    let long = generate(directory, &["-t", "26", "-c:v", "libx264", "-g", "30", "-tune", "zerolatency", "-c:a", "aac"]);
    let endless = generate(
        directory,
        &["-t", "62", "-r", "10", "-c:v", "libx264", "-x264-params", "keyint=infinite:scenecut=0", "-c:a", "aac"],
    );
    let hevc = Step::Config(Video, CodecConfig::Unsupported(Codec::H265));
    let late_sound =
        long.iter().filter(|step| !is_of(step, Audio) || at(step) >= seconds(20) || matches!(step, Step::Config(..)));
    let (sound_config, late_sound): (Vec<&Step>, Vec<&Step>) =
        late_sound.partition(|step| matches!(step, Step::Config(Audio, _)));
    let first = late_sound.iter().position(|step| is_of(step, Audio)).unwrap();
    let late_sound =
        [&late_sound[..first], &sound_config, &late_sound[first..]].concat().into_iter().cloned().collect();
    let vanishing = long.iter().filter(|step| !is_of(step, Video) || at(step) < seconds(8)).cloned().collect();
    let case = |name, steps, reactions, files| Case { name, steps, reactions, files, joined: false };
    let picture_changes = [Continue, Continue, CutHere, CutHere, Unsupported, Continue];
    vec![
        case("resolution", then(&plain, &larger), picture_changes, [1, 1, 2, 2, 1, 1]),
        case("parameter sets", then(&plain, &other_sets), picture_changes, [1, 1, 2, 2, 1, 1]),
        case(
            "sampling rate",
            then(&plain, &other_sound),
            [Continue, Continue, CutHere, CutHere, CutHere, Continue],
            [1, 1, 2, 2, 2, 1],
        ),
        case(
            "codec",
            [&plain[..], &[hevc], &later(plain[2..].to_vec(), seconds(4))].concat(),
            [Unsupported; 6],
            [1; 6],
        ),
        // The head of a fragmented file names its tracks: another one needs another file.
        case("sound after 20 s", late_sound, [Continue; 6], [1, 1, 1, 2, 1, 1]),
        case("picture vanishes", vanishing, [Continue; 6], [1; 6]),
        case("sound only", only(&plain, Audio), [Continue; 6], [1; 6]),
        case(
            "picture only",
            only(&plain, Video),
            [Continue, Continue, Continue, Continue, Unsupported, Continue],
            [1, 1, 1, 1, 0, 1],
        ),
        Case { joined: true, ..case("no key frame for 60 s", endless, [Continue; 6], [3, 3, 3, 3, 4, 3]) },
    ]
}

/// What was refused is what the codec change left without a configuration, or pictures in a format without them.
fn assert_refused(place: &str, format: Format, store: &Store, case: &Case) {
    let is_meant =
        |step: &Step| is_of(step, Video) && (format == Format::Aac || case.name == "codec" && at(step) >= seconds(4));
    let meant = case.steps.iter().filter(|step| matches!(step, Step::Frame(_)) && is_meant(step)).count();
    assert_eq!(store.refused.len(), meant, "{place}: refused");
    assert!(store.refused.iter().all(|(_, why)| *why == Rejected::NoConfig), "{place}");
}

/// Every text is valid, and changes of coding are announced.
fn assert_playlist(place: &str, store: &Store, holes: usize) {
    for texts in store.playlists.values() {
        let (text, _) = texts.last().unwrap();
        let (_, playlist) = m3u8_rs::parse_media_playlist(text.as_bytes()).unwrap();
        assert!(playlist.end_list && !playlist.segments.is_empty(), "{place}");
        let fits = |segment: &m3u8_rs::MediaSegment| segment.duration.round() as u64 <= playlist.target_duration;
        assert!(playlist.segments.iter().all(fits), "R-9: {place}");
        let found = playlist.segments.iter().filter(|segment| segment.discontinuity).count();
        assert_eq!(found, holes, "{place}: {text}");
    }
}

#[test]
fn mid_stream_changes() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let limited = Options {
        max_file_duration: Some(Duration::from_secs(20)),
        segment_duration: Duration::from_secs(4),
        ..options()
    };
    for case in cases(directory.path()) {
        let options =
            if case.joined { limited.clone() } else { Options { max_file_duration: None, ..limited.clone() } };
        let (mut files, mut expected) = (Vec::new(), (0, 0));
        for (number, (name, format, options)) in variants(&options).into_iter().enumerate() {
            let place = format!("{}, {name}", case.name);
            let store = record(format, &options, &case.steps);
            store.assert_one_for_one(&place, format);
            assert_refused(&place, format, &store, &case);
            assert_eq!(store.done.len(), case.files[number], "{place}: files");
            let last = case.steps.iter().filter(|step| matches!(step, Step::Config(..))).count() - 1;
            assert_eq!(store.reactions[last], case.reactions[number], "{place}: reaction");
            if format == Format::Hls && !case.joined {
                let holes = ["resolution", "parameter sets", "sampling rate", "sound after 20 s"];
                // An initialisation segment has the tracks that there are: one less is another.
                let is_less = name == "fmp4 hls" && ["codec", "picture vanishes"].contains(&case.name);
                assert_playlist(&place, &store, usize::from(holes.contains(&case.name) || is_less));
            }
            let longest = store.done.iter().map(|done| (done.ends_at - done.starts_at).as_millis()).max().unwrap_or(0);
            assert!(longest <= 30_100, "{place}: {longest} ms");
            let count = |track| store.taken.iter().filter(|frame| frame.track == track).count();
            // ffmpeg chooses streams at the start, where FLV and HLS do not have this one yet; our demuxers do see it.
            let is_unseen = case.name == "sound after 20 s" && ["hls", "flv"].contains(&name);
            expected = (expected.0 + count(Video), expected.1 + if is_unseen { 0 } else { count(Audio) });
            files.extend(write(&store, directory.path(), &place, format).iter().flat_map(|path| parts(path)));
        }
        if case.joined {
            continue;
        }
        let decoded = decode_all(&files);
        assert_eq!(decoded.len(), files.len(), "{}", case.name);
        let pictures: usize = decoded.iter().map(|(pictures, _)| pictures).sum();
        assert_eq!(pictures, expected.0, "{}: decoded pictures", case.name);
        let sounds: usize = decoded.iter().map(|(_, sounds)| sounds).sum();
        // A decoder that starts keeps its first frame, and a change of rate may repack the rest.
        assert!(
            sounds.abs_diff(expected.1) <= 3 * files.len() || case.name == "sampling rate",
            "{}: {sounds} frames of sound instead of {}",
            case.name,
            expected.1
        );
    }
}
