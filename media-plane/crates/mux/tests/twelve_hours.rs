//! Reliability test 15: twelve hours at 12 Mbit/s in virtual time, through the muxers and past the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{aac, avc, options, picture};
use media::{Frame, MediaTime, TrackKind};
use mux::{Format, Muxer, Options, Output, Summary};

const HOUR: i64 = 3_600;
/// 30 pictures a second of 50 kB and 47 frames of sound of 340 bytes: 12 Mbit/s.
const PICTURE: usize = 49_600;
const SOUND: usize = 340;

/// What is left when the bytes are only counted.
#[derive(Default)]
struct Counted {
    appended: u64,
    /// Appended bytes of every file.
    files: Vec<u64>,
    heads: Vec<Bytes>,
    done: Vec<Summary>,
    marks: u64,
    /// Of the open object, and bytes of all.
    notes: Vec<u8>,
    noted: u64,
    /// The last small piece: in FLV, head or end of a tag.
    tail: Bytes,
}

impl Counted {
    fn take(&mut self, output: Output) {
        match output {
            Output::Append(_, bytes) => {
                self.appended += bytes.len() as u64;
                if bytes.len() < 1_000 {
                    self.tail = bytes;
                }
            }
            Output::Head(_, bytes) => self.heads.push(bytes),
            Output::Note(_, bytes) => {
                self.notes.extend_from_slice(&bytes);
                self.noted += bytes.len() as u64;
            }
            Output::Index(_, index) => {
                let start = Instant::now();
                self.heads.push(index.head(&self.notes).unwrap());
                assert_eq!(self.heads.last().unwrap().len() as u64, index.head_len());
                println!("an index of {} bytes in {:?}", self.heads.last().unwrap().len(), start.elapsed());
            }
            Output::Commit(..) => self.marks += 1,
            Output::Close(..) => {
                self.files.push(std::mem::take(&mut self.appended));
                self.notes.clear();
            }
            Output::FileDone(_, summary) => self.done.push(summary),
            Output::Open(_) | Output::Playlist { .. } => {}
        }
    }
}

/// Sends it all: every payload is the same shared memory, so that only what the muxer keeps is kept.
fn send(mut muxer: Box<dyn Muxer>, hours: i64) -> Counted {
    muxer.config(TrackKind::Video, &avc());
    muxer.config(TrackKind::Audio, &aac());
    let [key, other] = [true, false].map(|keyframe| picture(0, 0, keyframe, 7, PICTURE - 10).data);
    let sound = Bytes::from(vec![0x21; SOUND]);
    assert_eq!(key.len(), PICTURE);
    let mut counted = Counted::default();
    let (mut sounds, mut frame) = (
        0i64,
        Frame {
            track: TrackKind::Video,
            dts: MediaTime::ZERO,
            pts: MediaTime::ZERO,
            keyframe: true,
            data: key.clone(),
        },
    );
    let mut push = |track, millis: i64, offset: i64, keyframe, data: &Bytes| {
        (frame.track, frame.dts, frame.keyframe) = (track, MediaTime::from_millis(millis), keyframe);
        frame.pts = frame.dts + MediaTime::from_millis(offset);
        frame.data.clone_from(data);
        muxer.push(&frame).unwrap();
        while let Some(output) = muxer.poll() {
            counted.take(output);
        }
    };
    for n in 0..hours * HOUR * 30 {
        let (millis, is_key) = (n * 1_000 / 30, n % 60 == 0);
        let offset = if is_key { 67 } else { [133, 33, 67][n as usize % 3] };
        push(TrackKind::Video, millis, offset, is_key, if is_key { &key } else { &other });
        while sounds * 1_024 * 30 < (n + 1) * 44_100 {
            push(TrackKind::Audio, sounds * 1_024_000 / 44_100, 0, true, &sound);
            sounds += 1;
        }
    }
    muxer.finish().outputs.into_iter().for_each(|output| counted.take(output));
    counted
}

/// The most memory this process has used, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

/// Content of every box of this kind anywhere in `bytes`.
fn boxes<'a>(bytes: &'a [u8], kind: &[u8; 4], found: &mut Vec<&'a [u8]>) {
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if size < 8 || at + size > bytes.len() {
            // The header of `mdat`, whose content is elsewhere.
            assert_eq!((size, &bytes[at + 4..at + 8]), (1, &b"mdat"[..]));
            return;
        }
        let (name, body) = (&bytes[at + 4..at + 8], &bytes[at + 8..at + size]);
        if name == kind {
            found.push(body);
        } else if [b"moov", b"trak", b"mdia", b"minf", b"stbl"].iter().any(|nest| name == *nest) {
            boxes(body, kind, found);
        }
        at += size;
    }
}

fn all<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    boxes(bytes, kind, &mut found);
    found
}

/// Every sample lies behind the one before it, the first behind the head, the last at the end of the data.
fn check_index(head: &[u8], data: u64) {
    let mdat = &head[head.len() - 16..];
    assert_eq!(mdat[..8], [0, 0, 0, 1, b'm', b'd', b'a', b't']);
    assert_eq!(u64::from_be_bytes(mdat[8..].try_into().unwrap()), data + 16);
    let is_wide = head.len() as u64 + data > u64::from(u32::MAX);
    let (kind, width): (&[u8; 4], usize) = if is_wide { (b"co64", 8) } else { (b"stco", 4) };
    let mut samples: Vec<(u64, u64)> = Vec::new();
    let sizes = all(head, b"stsz");
    for (offsets, sizes) in all(head, kind).into_iter().zip(&sizes) {
        let offsets = offsets[8..].chunks(width).map(|at| at.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let sizes = sizes[12..].chunks(4).map(|size| u64::from(u32::from_be_bytes(size.try_into().unwrap())));
        samples.extend(offsets.zip(sizes));
    }
    samples.sort_unstable();
    let end = samples.iter().fold(head.len() as u64, |at, (offset, size)| {
        assert_eq!(*offset, at);
        at + size
    });
    assert_eq!((sizes.len(), end), (2, head.len() as u64 + data));
}

/// Sends so many hours into files of so many.
fn check(format: Format, hours: i64, each: i64) -> Counted {
    let limit = (each < hours).then(|| Duration::from_secs((each * HOUR) as u64));
    let options = Options { max_file_duration: limit, ..options() };
    let counted = send(mux::open(format, &options).unwrap(), hours);
    let video: u64 = counted.done.iter().map(|done| done.video_frames).sum();
    let audio: u64 = counted.done.iter().map(|done| done.audio_frames).sum();
    let seconds = (hours * HOUR) as u64;
    let (pictures, sounds) = (seconds * 30, (seconds * 44_100).div_ceil(1_024));
    assert_eq!((video, audio), (pictures, sounds));
    assert_eq!(counted.done.len() as i64, hours / each);
    for (number, done) in counted.done.iter().enumerate() {
        // Pictures and sound are a few milliseconds apart, and a file begins with the picture.
        let starts_at = number as i64 * each * HOUR * 1_000;
        assert_eq!(done.starts_at.as_millis(), starts_at);
        assert!((done.ends_at.as_millis() - starts_at - each * HOUR * 1_000).abs() < 60);
    }
    assert_eq!(counted.marks, pictures + sounds);
    let payload = pictures * PICTURE as u64 + sounds * SOUND as u64;
    assert!(payload > 12_000_000 / 8 * seconds);
    let appended: u64 = counted.files.iter().sum();
    match format {
        Format::Flv => assert!(appended - payload - pictures * 20 - sounds * 17 < 500 * counted.done.len() as u64),
        _ => assert_eq!(appended, payload),
    }
    assert!(peak() < 300 << 20, "{} bytes", peak());
    let notes = counted.noted / hours as u64;
    println!("{format:?}, {hours} h: {appended} bytes, notes {notes} bytes an hour, peak memory {} MiB", peak() >> 20);
    counted
}

#[test]
fn twelve_hours_fast_mp4() {
    let counted = check(Format::Mp4, 12, 12);
    assert!(counted.files[0] > u64::from(u32::MAX));
    check_index(&counted.heads[0], counted.files[0]);
    assert!(all(&counted.heads[0], b"stco").is_empty());
}

#[test]
fn twelve_hours_fast_cuts_by_the_hour() {
    let counted = check(Format::Mp4, 3, 1);
    for (head, data) in counted.heads.iter().zip(&counted.files) {
        check_index(head, *data);
    }
    check(Format::Flv, 3, 1);
}

#[test]
fn twelve_hours_fast_flv() {
    let counted = check(Format::Flv, 12, 12);
    // The last tag: sound, 11 bytes of header, timestamp in milliseconds with its upper byte last.
    let tag = counted.tail;
    assert_eq!((tag[0], tag.len()), (8, 11 + 2 + SOUND + 4));
    let timestamp = u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]]);
    assert!((43_199_950..43_200_000).contains(&timestamp), "{timestamp}");
}
