//! What the tests share: a store that obeys muxers' outputs and checks their grammar, streams to record, and judges.
#![allow(dead_code)]

pub mod arbitrary;
pub mod crash;
pub mod ffmpeg;
pub mod files;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use media::{AacConfig, AvcConfig, Codec, CodecConfig, Frame, Gap, Lineup, MediaTime, Timed, Timeline, TrackKind};
use mux::{
    Format, Layout, Mark, Muxer, ObjectId, ObjectPart, ObjectSpec, Options, Output, Reaction, Rejected, Segment,
    Summary, demux,
};

/// x264, High, 640x360.
const AVC: &[u8] = &[
    0x01, 0x64, 0x00, 0x1e, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70,
    0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96, 0x01, 0x00, 0x06, 0x68,
    0xeb, 0xe3, 0xcb, 0x22, 0xc0,
];

/// Something to tell a muxer.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Config(TrackKind, CodecConfig),
    Frame(Frame),
    Gap(Gap),
    Cut,
    CloseFile,
    Suspend,
}

/// Ends timeline and gate; everything that came of them, as a recording would be told.
pub fn all_steps(mut timeline: Timeline, mut lineup: Lineup, mut timed: Vec<Timed>, mut out: Vec<Timed>) -> Vec<Step> {
    timeline.flush(&mut timed);
    for item in timed.drain(..) {
        lineup.push(item, Duration::ZERO, &mut out);
    }
    lineup.flush(&mut out);
    let step = |item| match item {
        Timed::Config(track, config) => Step::Config(track, config),
        Timed::Gap(gap) => Step::Gap(gap),
        Timed::Frame(frame) => Step::Frame(frame),
    };
    out.into_iter().map(step).collect()
}

pub fn avc() -> CodecConfig {
    CodecConfig::Avc(Arc::new(AvcConfig::parse(Bytes::from_static(AVC)).unwrap()))
}

/// The same with another picture parameter set.
pub fn other_avc() -> CodecConfig {
    let mut record = AVC.to_vec();
    let last = record.len() - 1;
    record[last] ^= 0x40;
    CodecConfig::Avc(Arc::new(AvcConfig::parse(record.into()).unwrap()))
}

pub fn aac() -> CodecConfig {
    asc(&[0x12, 0x10])
}

pub fn asc(bytes: &[u8]) -> CodecConfig {
    CodecConfig::Aac(Arc::new(AacConfig::parse(Bytes::copy_from_slice(bytes)).unwrap()))
}

/// A coded picture with a serial number inside, so that no two are equal.
pub fn picture(millis: i64, offset: i64, keyframe: bool, serial: u32, size: usize) -> Frame {
    let mut data = BytesMut::new();
    data.put_u32(size as u32 + 6);
    data.put_slice(&[if keyframe { 0x65 } else { 0x41 }, 0x9a]);
    // No byte is 0, so that nothing looks like a start code.
    data.put_slice(&[0, 7, 14, 21].map(|shift| (serial >> shift) as u8 | 0x80));
    data.put_bytes(0x5a, size);
    let dts = MediaTime::from_millis(millis);
    Frame { track: TrackKind::Video, dts, pts: dts + MediaTime::from_millis(offset), keyframe, data: data.freeze() }
}

pub fn sound(millis: i64, serial: u32, size: usize) -> Frame {
    let mut data = BytesMut::new();
    data.put_slice(&[0x21]);
    data.put_u32(serial);
    data.put_bytes(0xa5, size);
    let dts = MediaTime::from_millis(millis);
    Frame { track: TrackKind::Audio, dts, pts: dts, keyframe: true, data: data.freeze() }
}

/// `seconds` of 25 pictures and 43 frames of sound a second, a key frame every `gop` pictures.
pub fn stream(seconds: i64, gop: i64) -> Vec<Step> {
    let mut frames: Vec<Frame> = Vec::new();
    for n in 0..seconds * 25 {
        frames.push(picture(n * 40, 80, n % gop == 0, n as u32, 2_000));
    }
    for n in 0..seconds * 44_100 / 1_024 {
        frames.push(sound((n * 1_024 * 1_000 + 22_050) / 44_100, n as u32, 200));
    }
    frames.sort_by_key(|frame| frame.dts);
    let mut steps = vec![Step::Config(TrackKind::Video, avc()), Step::Config(TrackKind::Audio, aac())];
    steps.extend(frames.into_iter().map(Step::Frame));
    steps
}

/// The same steps later.
pub fn later(steps: Vec<Step>, by: MediaTime) -> Vec<Step> {
    let shift = |step| match step {
        Step::Frame(frame) => Step::Frame(Frame { dts: frame.dts + by, pts: frame.pts + by, ..frame }),
        step => step,
    };
    steps.into_iter().map(shift).collect()
}

pub fn options() -> Options {
    Options { wall_anchor: Some(UNIX_EPOCH + Duration::from_secs(1_795_348_799)), ..Options::default() }
}

/// Every way to write a file: name, format, options.
pub fn variants(options: &Options) -> Vec<(&'static str, Format, Options)> {
    let fragmented = Options { layout: Layout::Fragmented, ..options.clone() };
    vec![
        ("hls", Format::Hls, options.clone()),
        ("flv", Format::Flv, options.clone()),
        ("mp4", Format::Mp4, options.clone()),
        ("fragmented mp4", Format::Mp4, fragmented),
        ("aac", Format::Aac, options.clone()),
        ("fmp4 hls", Format::Hls, fmp4(options)),
    ]
}

/// The same with segments of fragmented MP4.
pub fn fmp4(options: &Options) -> Options {
    Options { segment: Segment::Fmp4, ..options.clone() }
}

/// Sound is timed by its sample count there, which milliseconds only approximate.
pub fn counts_samples(format: Format, options: &Options) -> bool {
    matches!(format, Format::Mp4 | Format::Aac) || format == Format::Hls && options.segment == Segment::Fmp4
}

/// An object being written.
#[derive(Debug, Default)]
pub struct Object {
    pub spec: Option<ObjectSpec>,
    pub data: BytesMut,
    pub head: Option<Bytes>,
    pub notes: BytesMut,
    /// Length of the data at every commit mark.
    pub marks: Vec<(usize, Mark)>,
    /// Length of the notes at the last of them.
    pub noted: usize,
    pub closed: Option<Summary>,
}

impl Object {
    pub fn bytes(&self) -> Bytes {
        let mut all = BytesMut::from(self.head.as_deref().unwrap_or_default());
        all.extend_from_slice(&self.data);
        all.freeze()
    }
}

/// What a spool would have made of the outputs; panics when they break the rules of the port.
#[derive(Debug, Default)]
pub struct Store {
    pub objects: BTreeMap<ObjectId, Object>,
    /// Every text a playlist has had, with whether it was the last, by file.
    pub playlists: BTreeMap<u32, Vec<(String, bool)>>,
    pub done: Vec<Summary>,
    /// Frames taken, in order, and those refused.
    pub taken: Vec<Frame>,
    pub refused: Vec<(Frame, Rejected)>,
    pub reactions: Vec<Reaction>,
    /// Codec of pictures, by the number of frames taken before: H.264 unless told.
    pub codecs: BTreeMap<usize, Codec>,
}

impl Store {
    pub fn obey(&mut self, output: Output) {
        match output {
            Output::Open(spec) => {
                assert_eq!(spec.object.file as usize, self.done.len(), "files follow one another");
                let object = Object { spec: Some(spec), ..Object::default() };
                assert!(self.objects.insert(spec.object, object).is_none(), "opened once");
            }
            Output::Append(id, bytes) => {
                assert!(!bytes.is_empty());
                self.open(id).data.extend_from_slice(&bytes);
            }
            Output::Commit(id, mark) => {
                let object = self.open(id);
                assert!(object.marks.last().is_none_or(|(_, last)| last.media_time <= mark.media_time));
                object.marks.push((object.data.len(), mark));
                object.noted = object.notes.len();
            }
            Output::Note(id, bytes) => self.open(id).notes.extend_from_slice(&bytes),
            Output::Head(id, bytes) => assert!(self.open(id).head.replace(bytes).is_none(), "one head"),
            Output::Index(id, index) => {
                let object = self.open(id);
                let head = index.head(&object.notes).expect("the notes of the object");
                assert_eq!(head.len() as u64, index.head_len());
                assert!(object.head.replace(head).is_none(), "one head");
            }
            Output::Close(id, summary) => self.open(id).closed = Some(summary),
            Output::Playlist { object, body, last } => self.playlist(object, &body, last),
            Output::FileDone(file, summary) => {
                assert_eq!(file as usize, self.done.len());
                for (id, object) in self.objects.range(self.whole(file)..) {
                    assert!(object.closed.is_some() || id.part == ObjectPart::Playlist, "{id:?} is still open");
                }
                self.done.push(summary);
            }
        }
    }

    fn whole(&self, file: u32) -> ObjectId {
        ObjectId { file, part: ObjectPart::Whole }
    }

    fn open(&mut self, id: ObjectId) -> &mut Object {
        let object = self.objects.get_mut(&id).unwrap_or_else(|| panic!("{id:?} was not opened"));
        assert!(object.closed.is_none(), "{id:?} is closed");
        object
    }

    fn playlist(&mut self, object: ObjectId, body: &[u8], last: bool) {
        assert!(self.objects.contains_key(&object) && object.part == ObjectPart::Playlist);
        let text = String::from_utf8(body.to_vec()).unwrap();
        for part in named(&text) {
            let named = ObjectId { file: object.file, part };
            assert!(self.objects[&named].closed.is_some(), "R-8: {named:?} is named before it is complete");
        }
        self.playlists.entry(object.file).or_default().push((text, last));
    }

    /// Media of one API file.
    pub fn media(&self, format: Format, file: u32) -> demux::Media {
        let bytes = self.file_bytes(file);
        if bytes.is_empty() {
            return demux::Media::default();
        }
        let read = match format {
            Format::Hls if self.is_fmp4(file) => demux::mp4,
            Format::Hls => demux::ts,
            Format::Flv => demux::flv,
            Format::Mp4 => demux::mp4,
            Format::Aac => demux::adts,
        };
        read(&bytes).unwrap_or_else(|problem| panic!("{format:?} file {file}: {problem}"))
    }

    fn is_fmp4(&self, file: u32) -> bool {
        self.objects.keys().any(|id| id.file == file && matches!(id.part, ObjectPart::Fragment(_)))
    }

    /// The object of a file, or its segments in order, behind what they need.
    pub fn file_bytes(&self, file: u32) -> Bytes {
        let mut all = BytesMut::new();
        if self.is_fmp4(file) {
            let text = self.playlists.get(&file).and_then(|texts| texts.last()).map_or("", |(text, _)| text);
            named(text).for_each(|part| all.extend_from_slice(&self.objects[&ObjectId { file, part }].bytes()));
            return all.freeze();
        }
        for (id, object) in self.objects.iter().filter(|(id, _)| id.file == file) {
            if id.part != ObjectPart::Playlist {
                all.extend_from_slice(&object.bytes());
            }
        }
        all.freeze()
    }

    /// Payloads of a track over all files, as every container must preserve them.
    pub fn payloads(&self, format: Format, track: TrackKind) -> Vec<Bytes> {
        let files = 0..self.done.len() as u32;
        files.flat_map(|file| canonical(self.media(format, file).track(track))).collect()
    }

    /// Payloads that went in.
    pub fn sent(&self, track: TrackKind) -> Vec<Bytes> {
        let of_track = self.taken.iter().enumerate().filter(|(_, frame)| frame.track == track);
        let codec = |at| match track {
            TrackKind::Video => self.codecs.range(..=at).next_back().map_or(Codec::H264, |(_, codec)| *codec),
            TrackKind::Audio => Codec::Aac,
        };
        of_track.map(|(at, frame)| demux::canonical(codec(at), &frame.data)).collect()
    }

    /// Every frame that was taken is in exactly one file, in order.
    pub fn assert_one_for_one(&self, name: &str, format: Format) {
        for track in [TrackKind::Video, TrackKind::Audio] {
            let (sent, back) = (self.sent(track), self.payloads(format, track));
            assert_eq!(sent.len(), back.len(), "{name}: number of {track:?} frames");
            assert!(sent == back, "{name}: {track:?} payloads differ");
        }
        let count = |summary: &Summary| summary.video_frames + summary.audio_frames;
        assert_eq!(self.done.iter().map(count).sum::<u64>(), self.taken.len() as u64, "{name}: summaries");
    }
}

/// What a playlist names, in order.
pub fn named(text: &str) -> impl Iterator<Item = ObjectPart> {
    let part = |line: &str| {
        if let Some(init) = line.strip_prefix("#EXT-X-MAP:URI=\"init-") {
            return Some(ObjectPart::Init(init.strip_suffix(".mp4\"").unwrap().parse().unwrap()));
        }
        let (number, extension) = line.split_once('.').filter(|_| !line.starts_with('#'))?;
        let number = number.parse().unwrap();
        Some(if extension == "m4s" { ObjectPart::Fragment(number) } else { ObjectPart::Segment(number) })
    };
    text.lines().filter_map(part)
}

fn canonical<'a>(samples: impl Iterator<Item = &'a demux::Sample>) -> Vec<Bytes> {
    samples.map(demux::Sample::canonical).collect()
}

/// Tells a muxer all steps and stores what comes out.
pub fn record(format: Format, options: &Options, steps: &[Step]) -> Store {
    let muxer = mux::open(format, options).unwrap();
    go_on(muxer, Store::default(), steps)
}

/// Goes on telling a muxer, up to its end.
pub fn go_on(mut muxer: Box<dyn Muxer>, mut store: Store, steps: &[Step]) -> Store {
    for step in steps {
        tell(&mut muxer, &mut store, step);
        while let Some(output) = muxer.poll() {
            store.obey(output);
        }
    }
    let finished = muxer.finish();
    finished.outputs.into_iter().for_each(|output| store.obey(output));
    assert_eq!(finished.files as usize, store.done.len());
    store
}

pub fn tell(muxer: &mut Box<dyn Muxer>, store: &mut Store, step: &Step) {
    match step {
        Step::Config(track, config) => {
            if *track == TrackKind::Video {
                store.codecs.insert(store.taken.len(), config.codec());
            }
            store.reactions.push(muxer.config(*track, config));
        }
        Step::Frame(frame) => match muxer.push(frame) {
            Ok(()) => store.taken.push(frame.clone()),
            Err(why) => store.refused.push((frame.clone(), why)),
        },
        Step::Gap(gap) => muxer.gap(*gap),
        Step::Cut => muxer.cut(),
        Step::CloseFile => muxer.close_file(),
        Step::Suspend => muxer.suspend(),
    }
}

/// Differences between neighbours.
pub fn steps(times: impl Iterator<Item = i64>) -> Vec<i64> {
    let times: Vec<i64> = times.collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}
