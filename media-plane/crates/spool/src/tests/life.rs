//! A random life of three outputs by seed, what of it was told durable, and what must be true of what a start finds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use mux::{Mark, ObjectId, Output};
use serde_json::json;

use super::{PLAYLIST, WHOLE, key, segment, spec, summary};
use crate::fault::FaultyDisk;
use crate::step::Stepper;
use crate::{Config, Error, Event, Events, ObjectState, Spool, StoredOutput, Writer};

/// Numbers by seed (xorshift).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }
}

/// Bytes of an object: the same in every life.
pub fn data(format: &str, object: ObjectId, from: u64, len: u64) -> Bytes {
    let number = if let mux::ObjectPart::Segment(n) = object.part { u64::from(n) } else { 0 };
    let salt = format.len() as u64 * 91 + u64::from(object.file) * 17 + number * 7;
    (from..from + len).map(|at| ((at * 31 + at / 251 + salt) % 256) as u8).collect()
}

/// What listeners were told, and marks with their notes.
#[derive(Default)]
pub struct Told {
    pub durable: BTreeMap<(String, ObjectId), u64>,
    pub closed: BTreeMap<(String, ObjectId), (u64, u32)>,
    pub playlists: BTreeMap<String, Bytes>,
    pub failed: BTreeSet<String>,
    /// Every mark made, with the notes before it.
    pub marks: BTreeMap<(String, ObjectId, u64), Bytes>,
    pub playlists_made: BTreeSet<Bytes>,
}

impl Told {
    pub fn hear(&mut self, events: &mut Events) {
        while let Some(event) = events.try_next() {
            let format = |key: &crate::OutputKey| {
                assert!(!self.failed.contains(&key.format), "told after its failure");
                key.format.clone()
            };
            match &event {
                Event::Durable { key, object, bytes } => drop(self.durable.insert((format(key), *object), *bytes)),
                Event::Closed { key, spec, size, crc32c, .. } => {
                    self.closed.insert((format(key), spec.object), (*size, *crc32c));
                }
                Event::Playlist { key, body, .. } => drop(self.playlists.insert(format(key), body.clone())),
                Event::Failed { key, .. } => drop(self.failed.insert(format(key))),
                _ => {}
            }
        }
    }
}

/// An object that grows.
struct Growing {
    object: ObjectId,
    len: u64,
    notes: Vec<u8>,
}

pub struct Life {
    pub spool: Spool,
    pub stepper: Stepper,
    pub events: Events,
    pub told: Told,
    pub writers: BTreeMap<&'static str, Writer>,
    growing: BTreeMap<&'static str, Growing>,
    segments: u32,
    playlist: String,
    now: Duration,
}

impl Life {
    pub fn start(path: &Path, disk: FaultyDisk) -> Self {
        Self::with(Config { flush_interval: Duration::from_millis(200), ..Config::new(path) }, disk)
    }

    pub fn with(config: Config, disk: FaultyDisk) -> Self {
        let (spool, _, events, stepper) = Spool::open_stepped(config, disk).unwrap();
        let writers =
            ["flv", "hls", "mp4"].map(|format| (format, spool.create(key(format), &json!({"f": format})).unwrap()));
        Self {
            spool,
            stepper,
            events,
            told: Told::default(),
            writers: writers.into(),
            growing: BTreeMap::new(),
            segments: 0,
            playlist: "#EXTM3U\n".into(),
            now: Duration::ZERO,
        }
    }

    /// A round of 100 ms: every output grows, segments end now and then. Errors are those of a failed disk.
    pub fn round(&mut self, rng: &mut Rng) {
        for format in ["flv", "hls", "mp4"] {
            // A failed output goes no further.
            let _ = self.grow(format, rng);
        }
        self.now += Duration::from_millis(100);
        self.stepper.step(self.now);
        self.told.hear(&mut self.events);
    }

    fn apply(&mut self, format: &'static str, output: Output) -> Result<(), Error> {
        self.writers.get_mut(format).unwrap().apply(output)
    }

    fn grow(&mut self, format: &'static str, rng: &mut Rng) -> Result<(), Error> {
        let object = if format == "hls" { segment(self.segments) } else { WHOLE };
        if !self.growing.contains_key(format) {
            self.apply(format, Output::Open(spec(object)))?;
            self.growing.insert(format, Growing { object, len: 0, notes: Vec::new() });
        }
        for _ in 0..=rng.below(3) {
            let growing = self.growing.get_mut(format).unwrap();
            let long = if rng.below(40) == 0 { 70_000 } else { 0 };
            let len = long + rng.below(2_000);
            let bytes = data(format, object, growing.len, len);
            growing.len += len;
            let note = Bytes::from(format!("<{}>", growing.len));
            growing.notes.extend_from_slice(&note);
            let mark =
                Mark { media_time: media::MediaTime(growing.len as i64), video_frames: growing.len, audio_frames: 0 };
            let made = ((format.to_owned(), object, growing.len), Bytes::copy_from_slice(&growing.notes));
            self.apply(format, Output::Append(object, bytes))?;
            self.apply(format, Output::Note(object, note))?;
            if rng.below(3) > 0 {
                self.apply(format, Output::Commit(object, mark))?;
                self.told.marks.insert(made.0, made.1);
            }
        }
        if format == "hls" && rng.below(4) == 0 {
            self.end(format)?;
        }
        Ok(())
    }

    /// Ends the object that grows, with a head for MP4 and a playlist for HLS.
    pub fn end(&mut self, format: &'static str) -> Result<(), Error> {
        let Some(Growing { object, .. }) = self.growing.remove(format) else { return Ok(()) };
        if format == "mp4" {
            self.apply(format, Output::Head(object, data("head", object, 0, 300)))?;
        }
        self.apply(format, Output::Close(object, summary(7)))?;
        if format == "hls" {
            self.segments += 1;
            self.playlist.push_str(&format!("{}.ts\n", crate::object_name(object)));
            let body = Bytes::from(self.playlist.clone());
            self.told.playlists_made.insert(body.clone());
            self.apply(format, Output::Playlist { object: PLAYLIST, body, last: false })?;
        }
        Ok(())
    }

    /// The process is gone; returns what had been told.
    pub fn crash(self) -> Told {
        drop((self.writers, self.stepper, self.spool));
        self.told
    }
}

/// What a start found obeys what was told before. Returns the bytes of objects it found.
pub async fn check(spool: &Spool, stored: &[StoredOutput], told: &Told, context: &str) {
    for ((format, object), bytes) in &told.durable {
        let found = object_of(stored, format, *object);
        let found = found.unwrap_or_else(|| panic!("{context}: {format} {object:?} told durable is gone"));
        let kept = match &found.state {
            ObjectState::Open { bytes, .. } => *bytes,
            ObjectState::Closed { size, .. } => *size,
        };
        assert!(kept >= *bytes, "{context}: {format} {object:?}: {kept} of {bytes} durable bytes");
    }
    for ((format, object), (size, crc)) in &told.closed {
        let found = object_of(stored, format, *object).unwrap_or_else(|| panic!("{context}: {format} {object:?}"));
        let whole = matches!(&found.state, ObjectState::Closed { size: s, crc32c: c, .. } if s == size && c == crc);
        assert!(whole, "{context}: told closed, found {found:?}");
    }
    for (format, body) in &told.playlists {
        let output = stored.iter().find(|output| output.key.format == *format).unwrap();
        let found = &output.playlists[0].body;
        assert!(found.starts_with(body) && told.playlists_made.contains(found), "{context}: {found:?}");
    }
    for output in stored {
        let format = output.key.format.as_str();
        assert_eq!(output.meta["f"], format, "{context}");
        for object in &output.objects {
            right(spool, format, object, told, context).await;
        }
    }
}

/// An object is a prefix of what was applied, at a mark, with the notes of that mark.
async fn right(spool: &Spool, format: &str, found: &crate::StoredObject, told: &Told, context: &str) {
    let object = found.spec.object;
    let bytes = spool.read(&key(format), object, 0, usize::MAX).await.unwrap();
    match &found.state {
        ObjectState::Open { bytes: len, mark } => {
            assert_eq!(bytes, data(format, object, 0, *len), "{context}: {format} {object:?}");
            let Some(mark) = mark else { return assert_eq!(*len, 0) };
            assert_eq!(mark.video_frames, *len, "{context}");
            let notes = told.marks.get(&(format.to_owned(), object, *len));
            assert_eq!(Some(&found.notes), notes, "{context}: {format} {object:?} not at a mark");
        }
        ObjectState::Closed { size, crc32c, .. } => {
            assert_eq!((bytes.len() as u64, crc32c::crc32c(&bytes)), (*size, *crc32c), "{context}: {format}");
            let head = if format == "mp4" { data("head", object, 0, 300) } else { Bytes::new() };
            let expected = [head.clone(), data(format, object, 0, size - head.len() as u64)].concat();
            assert_eq!(bytes, expected, "{context}: {format} {object:?}");
        }
    }
}

fn object_of<'a>(stored: &'a [StoredOutput], format: &str, object: ObjectId) -> Option<&'a crate::StoredObject> {
    let output = stored.iter().find(|output| output.key.format == format)?;
    output.objects.iter().find(|found| found.spec.object == object)
}
