//! From the entries of a recording to its manifest. No I/O; the same entries make the same bytes, whatever restarts lie
//! between them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use mux::{ObjectId, ObjectPart};
use recorder_proto::facts::{GapSpan, OutputTotals, RecordingEnded, RecordingInterrupted};
use recorder_proto::format::Format;
use recorder_proto::names::RecordingName;
use recorder_proto::pb::v1::recording::State;
use serde_json::{Map, Value, json};
use store::crc32c_base64;

use super::abnormal::Abnormal;
use super::entry::{CodecChange, Entry, FileEntry, FileState, MAX_PIECES, Packed, Piece};
use super::meta::RecordingMeta;
use crate::shipping::Target;
use crate::spool_names;

/// Changes kept one by one; a stream with more of them is beyond a list.
const MAX_CHANGES: usize = 1_000;

/// The version of the document's shape. Fields are only ever added to a version.
const VERSION: u32 = 1;

/// What the entries so far say.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    gaps: Vec<GapSpan>,
    codecs: Vec<CodecChange>,
    codecs_left_out: u64,
    files: BTreeMap<(Format, u32), FileEntry>,
    pieces: BTreeMap<(Format, u32), BTreeMap<ObjectPart, Piece>>,
    settled: BTreeSet<Format>,
    failed: BTreeMap<Format, OutputTotals>,
    /// Outputs under way, by their names in the spool: a format has several when a disk has failed.
    under_way: BTreeSet<String>,
    /// Facts that were told, and the interruption that lasts; for a manifest that begins anew on another disk.
    told: BTreeSet<String>,
    interrupted: Option<RecordingInterrupted>,
    abnormal: Abnormal,
    ended: Option<Box<RecordingEnded>>,
    /// Where what has not arrived goes, if somebody has said so.
    storage: Option<Box<Target>>,
}

impl Fold {
    /// Takes one entry.
    pub fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Gap(gap) => self.gap(gap),
            Entry::Resumed(resumed) => {
                self.interrupted = None;
                self.gap(resumed.gap);
            }
            Entry::Codec(change) if self.codecs.len() < MAX_CHANGES => self.codecs.push(change),
            Entry::Codec(_) => self.codecs_left_out += 1,
            Entry::Interrupted(interrupted) => self.interrupted = Some(interrupted),
            Entry::Told(name) => drop(self.told.insert(name)),
            Entry::OutputFailed(totals) => drop(self.failed.insert(totals.format, *totals)),
            Entry::Objects { format, index, pieces } => {
                let known = self.pieces.entry((format, index)).or_default();
                known.extend(pieces.pieces().into_iter().map(|piece| (piece.part, piece)));
            }
            Entry::File(file) => drop(self.files.insert((file.format, file.index), *file)),
            Entry::Settled(format) => drop(self.settled.insert(format)),
            Entry::Abnormal(_) | Entry::AbnormalTold(_) => self.abnormal.take(&entry),
            Entry::Storage(target) => self.storage = Some(target),
            // The first end holds: what follows it comes from a restart that did not know of it.
            Entry::Ended(ended) => drop(self.ended.get_or_insert(ended)),
        }
    }

    fn gap(&mut self, gap: GapSpan) {
        if self.gaps.last() != Some(&gap) && self.gaps.len() < MAX_CHANGES {
            self.gaps.push(gap);
        }
    }

    /// An output of this name is being written (again): its format is not settled yet.
    pub fn begun(&mut self, name: &str) {
        if let Some(format) = spool_names::format(name) {
            self.settled.remove(&format);
            self.under_way.insert(name.to_owned());
        }
    }

    /// Nothing more comes of an output. The entry to note when its format is settled with it.
    pub fn over(&mut self, name: &str) -> Option<Entry> {
        self.under_way.remove(name);
        let format = spool_names::format(name)?;
        let goes_on = self.under_way.iter().any(|other| spool_names::format(other) == Some(format));
        (!goes_on).then_some(Entry::Settled(format))
    }

    /// Entries that make the same state: what a manifest begins with that goes on on another disk.
    pub fn entries(&self) -> Vec<Entry> {
        let told = self.told.iter().cloned().map(Entry::Told);
        let gaps = self.gaps.iter().cloned().map(Entry::Gap);
        let codecs = self.codecs.iter().cloned().map(Entry::Codec);
        let objects = self.pieces.iter().flat_map(|((format, index), pieces)| {
            let pieces: Vec<Piece> = pieces.values().copied().collect();
            let packed: Vec<Packed> = pieces.chunks(MAX_PIECES).map(Packed::new).collect();
            packed.into_iter().map(|pieces| Entry::Objects { format: *format, index: *index, pieces })
        });
        let files = self.files.values().cloned().map(|file| Entry::File(Box::new(file)));
        let failed = self.failed.values().cloned().map(|totals| Entry::OutputFailed(Box::new(totals)));
        let settled = self.settled.iter().copied().map(Entry::Settled);
        let interrupted = self.interrupted.iter().cloned().map(Entry::Interrupted);
        let abnormal = Some(&self.abnormal).filter(|abnormal| **abnormal != Abnormal::default());
        let abnormal = abnormal.map(|abnormal| Entry::Abnormal(Box::new(abnormal.clone())));
        let storage = self.storage.iter().cloned().map(Entry::Storage);
        let ended = self.ended.iter().cloned().map(Entry::Ended);
        told.chain(gaps)
            .chain(codecs)
            .chain(objects)
            .chain(files)
            .chain(failed)
            .chain(settled)
            .chain(interrupted)
            .chain(abnormal)
            .chain(storage)
            .chain(ended)
            .collect()
    }

    /// Whether the recording is over.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Where what has not arrived goes, if somebody has said so.
    pub fn storage(&self) -> Option<&Target> {
        self.storage.as_deref()
    }

    /// Whether nothing more can come: the manifest is due. A file that is in another storage than it should be is
    /// waited for, and so is one that failed and may be tried again: there is one manifest, and it is true.
    pub fn is_complete(&self, meta: &RecordingMeta) -> bool {
        // Formats whose track came late are not among those it started with.
        let late = self.under_way.iter().filter_map(|name| spool_names::format(name));
        let is_settled = meta.started.formats.iter().copied().chain(late).all(|format| self.settled.contains(&format));
        let is_kept = |file: &FileEntry| file.state == FileState::Failed && file.kept;
        let is_waiting = self.files.values().any(is_kept) || self.elsewhere(meta).next().is_some();
        self.has_ended() && is_settled && !is_waiting
    }

    /// Files that are not in the recording's own storage, and what they consist of.
    pub fn elsewhere<'a>(&'a self, meta: &'a RecordingMeta) -> impl Iterator<Item = (&'a FileEntry, Vec<Piece>)> {
        let own = &meta.output.storage.name;
        let is_elsewhere =
            move |file: &&FileEntry| file.state == FileState::Available && file.storage != *own && !file.chosen;
        let pieces = |file: &FileEntry| self.pieces.get(&(file.format, file.index));
        self.files
            .values()
            .filter(is_elsewhere)
            .map(move |file| (file, pieces(file).map(|pieces| pieces.values().copied().collect()).unwrap_or_default()))
    }

    /// The manifest, as JSON; see [`super`] for its schema.
    pub fn render(&self, meta: &RecordingMeta) -> Vec<u8> {
        let started = &meta.started;
        let mut document = json!({
            "version": VERSION,
            "recording": RecordingName(meta.recording()).to_string(),
            "epoch": meta.epoch().get(),
            "stream": started.stream.to_string(),
            "origin": started.origin,
            "session": started.session.to_string(),
            "template": started.template.to_string(),
            "template_revision": started.template_revision,
            "storage": started.storage.to_string(),
            "labels": started.labels,
            "start_time": micros(started.start_time),
            "files": self.files.values().map(|file| self.file(meta, file)).collect::<Vec<_>>(),
            "gaps": self.all_gaps().iter().map(gap).collect::<Vec<_>>(),
            "codec_changes": self.codecs.iter().map(change).collect::<Vec<_>>(),
        });
        if let Some(fields) = document.as_object_mut() {
            self.put_end(meta, fields);
            if let Some(findings) = self.abnormal.findings() {
                fields.insert("findings".to_owned(), findings);
            }
            if self.codecs_left_out > 0 {
                fields.insert("codec_changes_left_out".to_owned(), self.codecs_left_out.into());
            }
        }
        let mut bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    fn put_end(&self, meta: &RecordingMeta, fields: &mut Map<String, Value>) {
        let Some(ended) = &self.ended else { return };
        let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
        put("state", self.state(meta).as_str_name().into());
        put("end_time", micros(ended.end_time).into());
        put("end_reason", ended.end_reason.as_str_name().into());
        put("media_duration", seconds(ended.media_duration_micros).into());
        if let Some(error) = &ended.error {
            put("error", json!({ "reason": error.reason, "message": error.message }));
        }
    }

    /// The same truth as `Recording.state`, as far as this node knows it.
    fn state(&self, meta: &RecordingMeta) -> State {
        let available = self.files.values().filter(|file| file.state == FileState::Available).count();
        let lost_output = self
            .ended
            .as_ref()
            .is_some_and(|ended| ended.error.is_some() || ended.outputs.iter().any(|output| output.error.is_some()));
        let lost_file = available < self.files.len();
        if available == 0 && (lost_output || lost_file || !meta.started.formats.is_empty()) {
            State::Failed
        } else if lost_output || lost_file || !self.all_gaps().is_empty() {
            State::Incomplete
        } else {
            State::Succeeded
        }
    }

    /// What the recording has told at its end, and what was noted besides.
    fn all_gaps(&self) -> Vec<GapSpan> {
        match &self.ended {
            Some(ended) => with_gaps(ended.gaps.clone(), &self.gaps),
            None => self.gaps.clone(),
        }
    }

    /// The end of the recording as it is known now.
    pub fn end(&self) -> Option<RecordingEnded> {
        let ended = self.ended.as_deref()?.clone();
        Some(RecordingEnded { gaps: self.all_gaps(), ..ended })
    }

    fn file(&self, meta: &RecordingMeta, file: &FileEntry) -> Value {
        let mut value = json!({
            "format": file.format.as_str(),
            "index": file.index,
            "state": match file.state { FileState::Available => "AVAILABLE", FileState::Failed => "FAILED" },
            "storage": file.storage,
            "key": file.key,
            "uri": file.uri,
            "size": file.size,
        });
        let Some(fields) = value.as_object_mut() else { return value };
        let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
        if !file.crc32c.is_empty() {
            put("crc32c", file.crc32c.clone().into());
        }
        if let Some(media) = &file.media {
            put("start_time", micros(media.start_time).into());
            put("end_time", micros(media.end_time).into());
            put("first_timestamp", signed_seconds(media.starts_at_micros).into());
            put("last_timestamp", signed_seconds(media.ends_at_micros).into());
            put("video_frames", media.video_frames.into());
            put("audio_frames", media.audio_frames.into());
            if let Some(video) = &media.video {
                put("video", json!({ "codec": video.codec, "width": video.width, "height": video.height }));
            }
            if let Some(audio) = &media.audio {
                let (rate, channels) = (audio.sample_rate, audio.channels);
                put("audio", json!({ "codec": audio.codec, "sample_rate": rate, "channels": channels }));
            }
            let inside = |span: &&GapSpan| span.start_time < media.end_time && end(span) > media.start_time;
            put("gaps", self.all_gaps().iter().filter(inside).map(gap).collect());
        }
        if let Some(pieces) = self.pieces.get(&(file.format, file.index)) {
            let folder = file.key.strip_suffix("index.m3u8").unwrap_or_default();
            put("objects", pieces.values().map(|piece| object(meta, file, folder, piece)).collect());
        }
        if let Some(error) = &file.error {
            put("error", json!({ "reason": error.reason, "message": error.message }));
        }
        value
    }
}

/// The key follows from the file's own, which is in the storage that has the file.
fn object(meta: &RecordingMeta, file: &FileEntry, folder: &str, piece: &Piece) -> Value {
    let id = ObjectId { file: file.index, part: piece.part };
    let own = meta.output_of(file.format).object_key(id);
    let name = own.rsplit('/').next().unwrap_or_default();
    json!({ "key": format!("{folder}{name}"), "size": piece.size, "crc32c": crc32c_base64(piece.crc32c) })
}

/// Every hole once, the oldest first; lists that are full stay as they are.
pub fn with_gaps(mut gaps: Vec<GapSpan>, more: &[GapSpan]) -> Vec<GapSpan> {
    for gap in more {
        let at = gaps.partition_point(|known| known.start_time < gap.start_time);
        let is_known =
            gaps.iter().skip(at).take_while(|known| known.start_time == gap.start_time).any(|known| known == gap);
        if !is_known && gaps.len() < MAX_CHANGES {
            gaps.insert(at, gap.clone());
        }
    }
    gaps
}

fn gap(span: &GapSpan) -> Value {
    json!({
        "start": micros(span.start_time),
        "duration": seconds(span.duration_micros),
        "reason": span.reason.as_str_name(),
    })
}

fn end(span: &GapSpan) -> DateTime<Utc> {
    let micros = i64::try_from(span.duration_micros).unwrap_or(i64::MAX);
    span.start_time.checked_add_signed(TimeDelta::microseconds(micros)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn change(change: &CodecChange) -> Value {
    json!({ "at": micros(change.at), "track": change.track, "from": change.from, "to": change.to })
}

fn micros(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Seconds with exactly six decimals; a double would round after years.
fn seconds(micros: u64) -> String {
    format!("{}.{:06}s", micros / 1_000_000, micros % 1_000_000)
}

fn signed_seconds(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{}", seconds(micros.unsigned_abs()))
}
