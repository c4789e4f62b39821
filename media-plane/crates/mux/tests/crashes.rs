//! Crashes at every place: what is durable is kept, closed exactly as it would have been, and gone on with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::Duration;

use common::crash::{played, script};
use common::{Step, Store, options, record, stream, variants};
use mux::{Format, Layout, Options, Output, Segment, Summary};

/// The shortest beginning of the steps with this many frames taken.
fn beginning<'a>(format: Format, steps: &'a [Step], all: &Store, frames: usize) -> &'a [Step] {
    let mut refused = all.refused.iter().map(|(frame, _)| frame).peekable();
    let mut taken = 0;
    for (number, step) in steps.iter().enumerate() {
        if taken == frames {
            return &steps[..number];
        }
        let Step::Frame(frame) = step else { continue };
        if refused.next_if(|refused| *refused == frame).is_none() {
            taken += 1;
        }
    }
    assert_eq!(taken, frames, "{format:?}");
    steps
}

fn limited() -> Options {
    let second = Duration::from_secs(1);
    Options { max_file_duration: Some(second * 4), segment_duration: second, ..options() }
}

fn is_fragmented(format: Format, options: &Options) -> bool {
    format == Format::Mp4 && options.layout == Layout::Fragmented
        || format == Format::Hls && options.segment == Segment::Fmp4
}

/// Whatever is in the files: as if the process had been told to end at its last durable frame.
fn assert_same(name: &str, at: usize, crashed: &Store, whole: &Store) {
    // A file that was opened without a durable byte is closed as such.
    let (done, empty) = crashed.done.split_at(whole.done.len());
    assert_eq!(done, whole.done, "{name}, crash at {at}: summaries");
    assert!(empty.len() <= 1 && empty.iter().all(|summary| *summary == Summary::default()));
    for (id, object) in &whole.objects {
        let other = &crashed.objects[id];
        assert_eq!(object.closed, other.closed, "{name}, crash at {at}: {id:?}");
        assert!(object.bytes() == other.bytes(), "{name}, crash at {at}: bytes of {id:?} differ");
    }
    assert_eq!(crashed.playlists.len(), whole.playlists.len(), "{name}, crash at {at}");
    for (texts, others) in crashed.playlists.values().zip(whole.playlists.values()) {
        let (text, other) = (texts.last().unwrap(), others.last().unwrap());
        assert!(text.1 && other.1, "{name}, crash at {at}: playlists have their end");
        assert_eq!(text.0.lines().count(), other.0.lines().count(), "{name}, crash at {at}");
        for (line, other) in text.0.lines().zip(other.0.lines()) {
            // What is listed stays, although the frame it was measured to may be lost.
            match (extinf(line), extinf(other)) {
                (Some(one), Some(other)) => assert!((one - other).abs() < 0.041, "{name}, crash at {at}: {line}"),
                _ => assert_eq!(line, other, "{name}, crash at {at}"),
            }
        }
    }
}

fn extinf(line: &str) -> Option<f64> {
    line.strip_prefix("#EXTINF:")?.strip_suffix(',')?.parse().ok()
}

#[test]
fn a_crash_anywhere_leaves_what_an_end_there_would_have_left() {
    let steps = stream(5, 50);
    for (name, format, options) in variants(&limited()) {
        let all = record(format, &options, &steps);
        let script = script(format, &options, &steps);
        let mut lost = 0;
        // Bytes and notes behind the last mark are not durable: only what follows marks and the like differs.
        let is_durable = |at: &usize| {
            at.checked_sub(1).is_none_or(|last| !matches!(script[last].1, Output::Append(..) | Output::Note(..)))
        };
        for at in (0..script.len()).filter(is_durable) {
            let crashed = played(&script[..at], &all.taken).restart(format, &options, &[]);
            crashed.assert_one_for_one(name, format);
            let told = script[at].0;
            let pushed = steps[..told].iter().filter(|step| matches!(step, Step::Frame(_))).count();
            lost = lost.max((pushed - all.refused.len().min(pushed)).saturating_sub(crashed.taken.len()));
            if crashed.taken.is_empty() || is_fragmented(format, &options) {
                continue;
            }
            let whole = record(format, &options, beginning(format, &steps, &all, crashed.taken.len()));
            assert_same(name, at, &crashed, &whole);
        }
        // A picture and the sound beside it in fragments; nothing elsewhere but the first frame.
        let allowed = if is_fragmented(format, &options) { 3 } else { 1 };
        assert!(format == Format::Aac || lost <= allowed, "{name}: {lost} frames were not durable");
    }
}
