//! What a disk gives back of an object's notes: no panic, every object is closed once, and memory follows the input.
//!
//! Input: a byte of choices, the object's length (32 bits), the mark's time (64 bits) and counts (2 bytes), and the notes.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::{AacConfig, AvcConfig, CodecConfig, Frame, Gap, GapReason, MediaTime, TrackKind};
use mux::{
    Format, Layout, Mark, Muxer, ObjectId, ObjectPart, ObjectSpec, Options, Output, Restored, RestoredFile,
    RestoredObject,
};

const AVC: &[u8] =
    b"\x01\x64\x00\x1e\xff\xe1\x00\x1a\x67\x64\x00\x1e\xac\xd9\x40\xa0\x2f\xf9\x70\x11\x00\x00\x03\x00\x01\
    \x00\x00\x03\x00\x3c\x0f\x16\x2d\x96\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0";

/// What the object's bytes and the closes amount to.
#[derive(Default)]
struct Told {
    bytes: usize,
    closes: usize,
    files: usize,
    /// Of the object, of which its index is made.
    notes: Vec<u8>,
}

impl Told {
    fn take(&mut self, object: ObjectId, output: Output) {
        match output {
            Output::Append(_, bytes) | Output::Head(_, bytes) => self.bytes += bytes.len(),
            Output::Note(id, bytes) => {
                self.bytes += bytes.len();
                if id == object {
                    self.notes.extend_from_slice(&bytes);
                }
            }
            Output::Index(id, index) if id == object => {
                let head = index.head(&self.notes);
                assert!(head.is_some(), "the notes are those that the muxer has seen");
                self.bytes += head.map_or(0, |head| head.len());
            }
            Output::Close(id, _) => self.closes += usize::from(id == object),
            Output::FileDone(file, _) => self.files += usize::from(file == object.file),
            _ => {}
        }
    }
}

/// The publisher comes back with the same coding and four frames.
fn come_back(muxer: &mut dyn Muxer) {
    let starts_at = MediaTime(i64::from(i32::MAX));
    muxer.gap(Gap { starts_at, resumes_at: starts_at, reason: GapReason::NodeCrashed });
    if let Ok(avc) = AvcConfig::parse(Bytes::from_static(AVC)) {
        muxer.config(TrackKind::Video, &CodecConfig::Avc(avc.into()));
    }
    if let Ok(aac) = AacConfig::parse(Bytes::from_static(&[0x12, 0x10])) {
        muxer.config(TrackKind::Audio, &CodecConfig::Aac(aac.into()));
    }
    for n in 0..4 {
        let dts = MediaTime(starts_at.0 + n * 3_000);
        let video = Bytes::from_static(&[0, 0, 0, 2, 0x65, 0x88]);
        for (track, data) in [(TrackKind::Video, video), (TrackKind::Audio, Bytes::from_static(&[0x21]))] {
            let _ = muxer.push(&Frame { track, dts, pts: dts, keyframe: n == 0 || track == TrackKind::Audio, data });
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(([choices, rest @ ..], notes)) = data.split_first_chunk::<15>() else { return };
    let [l0, l1, l2, l3, time @ .., video, audio] = *rest;
    let (format, part) = match choices & 7 {
        0 => (Format::Hls, ObjectPart::Segment(u32::from(video))),
        1 => (Format::Flv, ObjectPart::Whole),
        2 => (Format::Aac, ObjectPart::Whole),
        4 => (Format::Hls, ObjectPart::Fragment(u32::from(video))),
        _ => (Format::Mp4, ObjectPart::Whole),
    };
    let layout = if choices & 7 == 3 { Layout::Fragmented } else { Layout::FastStart };
    let object = ObjectId { file: 0, part };
    let mark = Mark {
        media_time: MediaTime(i64::from_le_bytes(time)),
        video_frames: video.into(),
        audio_frames: audio.into(),
    };
    let restored = RestoredObject {
        spec: ObjectSpec { object, extension: "x", content_type: "x/x" },
        notes: Bytes::copy_from_slice(notes),
        len: u32::from_le_bytes([l0, l1, l2, l3]).into(),
        mark: (choices & 8 == 0).then_some(mark),
        closed: None,
    };
    let open = Some(RestoredFile { file: 0, objects: vec![restored], playlist: None });
    let options = Options { layout, ..Options::default() };
    let Ok(mut muxer) = mux::restore(format, &options, Restored { files: 1, open }) else { return };
    if choices & 16 != 0 {
        come_back(muxer.as_mut());
    }
    let mut told = Told { notes: notes.to_vec(), ..Told::default() };
    while let Some(output) = muxer.poll() {
        told.take(object, output);
    }
    muxer.finish().outputs.into_iter().for_each(|output| told.take(object, output));
    assert_eq!((told.closes, told.files), (1, 1), "the object and its file are closed once");
    // A sample of a few bits of notes takes four to forty bytes of index.
    assert!(told.bytes <= 64 * notes.len() + (16 << 10), "{} bytes of {}", told.bytes, notes.len());
});
