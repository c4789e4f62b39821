//! Recordings that an earlier process left: rebuilt from their manifest and what the spool has of their outputs.
//!
//! One mechanism closes and continues: the muxers are restored, and either wait like those of a publisher that is away
//! or are finished at once. Dying in the middle of it changes nothing: the next start does it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use media::{GapReason, MediaTime, Tracks};
use mux::registry::Options;
use mux::{ObjectPart, ObjectSpec, Restored, RestoredFile, RestoredObject};
use recorder_proto::facts::{OutputTotals, RecordingEnded, RecordingInterrupted, event_type};
use recorder_proto::format::Format;
use recorder_proto::pb::v1::recording::EndReason;
use recorder_proto::time::std_duration;
use spool::{ObjectState, StoredOutput};

use super::health::Health;
use super::output::{Count, OutputPipe};
use super::report::{internal, media_reason, mux_format, totals};
use super::{Recording, formats, late};
use crate::manifest::{Abnormal, Entry, RecordingMeta, RestoredRecording};
use crate::node::Node;
use crate::shipping::OutputMeta;
use crate::spool_names;

/// A recording as an earlier process left it.
pub struct Revived {
    /// The recording, ready to go on or to be finished.
    pub recording: Recording,
    /// Since when nothing comes, on the wall clock.
    pub since: DateTime<Utc>,
    /// Why nothing comes.
    pub reason: GapReason,
    /// The control plane was told of the interruption.
    pub told: bool,
    /// It was being finished: it must not go on.
    pub ending: bool,
}

impl Recording {
    /// Rebuilds a recording that had not ended. `None` when its manifest is gone, which is logged.
    pub fn revive(node: &Arc<Node>, left: RestoredRecording, stored: &[StoredOutput]) -> Option<Revived> {
        let RestoredRecording { meta, entries, .. } = left;
        let manifest = node.manifests.handle(&meta.spool_key())?;
        let plan = meta.plan().unwrap_or_default();
        let template = plan.template.unwrap_or_default();
        let wall = meta.output.wall;
        let (mut outputs, mut failed, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ending, mut damaged, mut waiting) = (false, Vec::new(), Vec::new());
        let begun = meta.started.formats.iter().map(|format| (*format, None));
        for (format, late) in begun.chain(meta.late.iter().map(|late| (late.format, Some(late)))) {
            let mut ours: Vec<&StoredOutput> =
                stored.iter().filter(|output| is_output(output, &meta, format)).collect();
            ours.sort_by_key(|output| spool_names::split(&output.key.format).1);
            // The last one is where the format went on after the disks of the others had failed.
            let Some(output) = ours.pop() else {
                if let Some(late) = late.filter(|late| !late::has_begun(&entries, late)) {
                    waiting.push(late.clone());
                    continue;
                }
                let (totals, is_over) = missing(&entries, format);
                ending |= is_over;
                failed.push(totals);
                continue;
            };
            let left = Left::of(output);
            ends.extend(left.ends_at);
            damaged.extend(left.damaged_at(wall.media));
            let kind = mux_format(format);
            let options = formats::options_of(kind, &template, wall);
            for output in ours {
                let left = Left::of(output);
                ends.extend(left.ends_at);
                left.close(node, kind, &options);
            }
            if let Some(totals) = failure(&entries, format) {
                left.close(node, kind, &options);
                failed.push(totals.clone());
                continue;
            }
            if output.finished {
                ending = true;
                failed.push(totals(format, left.count(), None));
                continue;
            }
            let window = formats::resume_timeout(kind, &template);
            match left.reopen(node, kind, &options) {
                Ok(pipe) => outputs.push(pipe.waiting(window).hearing(formats::wish(&template))),
                Err((count, problem)) => {
                    tracing::error!(output = %output.key, problem, "an unfinished output cannot be gone on with");
                    failed.push(totals(format, count, Some(internal("SPOOL_FAILED", &problem))));
                }
            }
        }
        let last = ends.iter().copied().max().unwrap_or(wall.media);
        let now = node.clock.now();
        let told = interruption(&entries).cloned();
        let since = told.as_ref().map_or(wall.at(last), |told| told.since).min(now);
        let reason = told.as_ref().map_or(GapReason::NodeCrashed, |told| media_reason(told.reason));
        let first = (!ends.is_empty()).then_some(wall.media);
        let mut recording = Self {
            node: Arc::clone(node),
            manifest,
            session: meta.started.session,
            told_session: meta.started.session,
            outputs,
            failed,
            tracks: Tracks::default(),
            late: waiting,
            gaps: Vec::new(),
            gaps_full: false,
            health: Health::default(),
            codecs: Vec::new(),
            last,
            noted: last,
            first,
            max_duration: template.max_duration.as_ref().and_then(std_duration).filter(|limit| !limit.is_zero()),
            lost: None,
            gone: None,
            away: None,
            stop_asked: node.registry.recording_started(meta.recording(), meta.epoch(), &meta.started.stream),
            orphaned: false,
            meta,
        };
        recording.recall(entries);
        damaged.into_iter().for_each(|from| recording.lacks(from));
        let told = told.is_some();
        Some(Revived { recording, since, reason, told, ending })
    }

    /// Takes back what was noted, and tells of the start if nobody has.
    fn recall(&mut self, entries: Vec<Entry>) {
        let abnormal = Abnormal::of(&entries);
        let mut is_told = false;
        for entry in entries {
            match entry {
                Entry::Gap(gap) => self.keep_gap(gap),
                Entry::Resumed(resumed) => {
                    (self.session, self.told_session) = (resumed.session, resumed.session);
                    self.keep_gap(resumed.gap);
                }
                Entry::Codec(change) => {
                    let track = if change.track == "video" { media::TrackKind::Video } else { media::TrackKind::Audio };
                    self.codecs.retain(|(of, _)| *of != track);
                    self.codecs.push((track, change.to));
                }
                Entry::Told(name) => is_told |= name == event_type::RECORDING_STARTED,
                _ => {}
            }
        }
        if !is_told {
            self.tell(self.meta.started.clone());
        }
        self.recall_health(abnormal);
    }
}

/// The interruption that still lasts, if the last thing that happened was one.
fn interruption(entries: &[Entry]) -> Option<&RecordingInterrupted> {
    entries.iter().rev().find_map(|entry| match entry {
        Entry::Interrupted(interrupted) => Some(Some(interrupted)),
        Entry::Resumed(_) => Some(None),
        _ => None,
    })?
}

/// What an earlier process noted of a format that had failed.
fn failure(entries: &[Entry], format: Format) -> Option<&OutputTotals> {
    entries.iter().rev().find_map(|entry| match entry {
        Entry::OutputFailed(totals) if totals.format == format => Some(totals.as_ref()),
        _ => None,
    })
}

/// What is to be said of a format of which the spool has nothing, and whether its recording was being finished: then
/// all of it is shipped and released. What else is missing is lost, and who is told nothing waits for it for ever.
fn missing(entries: &[Entry], format: Format) -> (OutputTotals, bool) {
    if let Some(totals) = failure(entries, format) {
        return (totals.clone(), false);
    }
    let files: BTreeMap<u32, u64> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::File(file) if file.format == format => Some((file.index, file.size)),
            _ => None,
        })
        .collect();
    let newest = files.keys().next_back().map_or(0, |newest| newest.saturating_add(1));
    let count = Count { files: newest, bytes: files.values().sum(), rejected: 0 };
    let is_over = entries.iter().any(|entry| matches!(entry, Entry::Settled(settled) if *settled == format));
    let error = (!is_over).then(|| internal("SPOOL_FAILED", "its spooled bytes are gone"));
    (totals(format, count, error), is_over)
}

fn is_output(output: &StoredOutput, meta: &RecordingMeta, format: Format) -> bool {
    let ours = meta.spool_key();
    output.key.recording == ours.recording
        && output.key.epoch == ours.epoch
        && spool_names::format(&output.key.format) == Some(format)
}

/// What the spool has of one output.
struct Left<'a> {
    output: &'a StoredOutput,
    files: u32,
    bytes: u64,
    /// End of its media, if it has any.
    ends_at: Option<MediaTime>,
}

impl<'a> Left<'a> {
    fn of(output: &'a StoredOutput) -> Self {
        let objects = output.objects.iter().map(|object| object.spec.object.file);
        let playlists = output.playlists.iter().map(|playlist| playlist.object.file);
        let done = output.files.iter().map(|done| done.file);
        let released = output.released.iter().map(|released| released.file);
        let newest = objects.chain(playlists).chain(done).chain(released).max();
        let kept = output.objects.iter().map(|object| match object.state {
            ObjectState::Open { bytes, .. } => bytes,
            ObjectState::Closed { size, .. } => size,
        });
        let gone = output.released.iter().flat_map(|file| &file.objects);
        let bytes = kept.sum::<u64>()
            + gone
                .clone()
                .filter(|object| object.object.part != ObjectPart::Playlist)
                .map(|object| object.size)
                .sum::<u64>();
        let marks = output.objects.iter().filter_map(|object| match &object.state {
            ObjectState::Open { mark, .. } => mark.map(|mark| mark.media_time),
            ObjectState::Closed { summary, .. } => Some(summary.ends_at),
        });
        let summaries = gone.filter_map(|object| object.summary.as_ref().map(|summary| summary.ends_at));
        let files = output.files.iter().map(|done| done.summary.ends_at);
        let ends_at = marks.chain(summaries).chain(files).max();
        Self { output, files: newest.map_or(0, |newest| newest.saturating_add(1)), bytes, ends_at }
    }

    /// Where the media ends before bytes that were durable and are damaged; `begun` when none is left.
    fn damaged_at(&self, begun: MediaTime) -> Option<MediaTime> {
        let is_open = |object: &&spool::StoredObject| matches!(object.state, ObjectState::Open { .. });
        let is_damaged = self.output.objects.iter().filter(is_open).any(|object| object.damaged.is_some());
        (is_damaged || self.output.damaged.is_some()).then(|| self.ends_at.unwrap_or(begun))
    }

    fn count(&self) -> Count {
        Count { files: self.files, bytes: self.bytes, rejected: 0 }
    }

    /// What the muxer has to know. Of an output that goes on behind another epoch's, that is its first index.
    fn state(&self) -> Restored {
        let done: BTreeSet<u32> = self.output.files.iter().map(|done| done.file).collect();
        let newest = self.files.checked_sub(1).filter(|newest| !done.contains(newest));
        Restored { files: self.files, open: newest.map(|file| self.open_file(file)) }
    }

    fn open_file(&self, file: u32) -> RestoredFile {
        let kept = self.output.objects.iter().filter(|object| object.spec.object.file == file).map(|object| {
            let (len, mark, closed) = match &object.state {
                ObjectState::Open { bytes, mark } => (*bytes, *mark, None),
                ObjectState::Closed { summary, size, .. } => (*size, None, Some(summary.clone())),
            };
            RestoredObject { spec: object.spec, notes: object.notes.clone(), len, mark, closed }
        });
        let released = self.output.released.iter().filter(|released| released.file == file);
        let gone = released.flat_map(|released| &released.objects).filter_map(|object| {
            let closed = object.summary.clone()?;
            // What they were called nobody asks any more.
            let (extension, content_type) = ("released", "application/octet-stream");
            let spec = ObjectSpec { object: object.object, extension, content_type };
            Some(RestoredObject { spec, notes: Default::default(), len: object.size, mark: None, closed: Some(closed) })
        });
        let playlist = self.output.playlists.iter().find(|playlist| playlist.object.file == file);
        RestoredFile {
            file,
            objects: gone.chain(kept).collect(),
            playlist: playlist.map(|playlist| playlist.body.clone()),
        }
    }

    /// Closes what was open when its disk failed, as far as it is durable.
    fn close(&self, node: &Node, kind: mux::Format, options: &Options) {
        if self.output.finished {
            return;
        }
        let closed = self.reopen(node, kind, options).map(OutputPipe::finish);
        let problem = match closed {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err((_, problem)) => problem,
        };
        tracing::error!(output = %self.output.key, problem, "an output that had failed cannot be closed");
    }

    fn reopen(&self, node: &Node, kind: mux::Format, options: &Options) -> Result<OutputPipe, (Count, String)> {
        let failed = |problem: String| (self.count(), problem);
        let mut state = self.state();
        if self.files == 0 {
            // Nothing was durable yet: a successor of another epoch still begins behind its files.
            let meta = serde_json::from_value::<OutputMeta>(self.output.meta.clone());
            state.files = meta.map_or(0, |meta| meta.first_file);
        }
        let writer = node.spool.reopen(&self.output.key).map_err(|error| failed(error.to_string()))?;
        OutputPipe::restore(kind, options, writer, state, self.bytes).map_err(|error| failed(error.to_string()))
    }
}

/// Tells of an end that an earlier process noted, unless that is known to be told.
pub fn retell(node: &Arc<Node>, left: &RestoredRecording) {
    let abnormal = Abnormal::of(&left.entries);
    if !abnormal.telling.is_empty()
        && let Some(manifest) = node.manifests.handle(&left.meta.spool_key())
    {
        super::health::tell_found(node, &left.meta, &manifest, &abnormal);
    }
    let told = |entry: &Entry| matches!(entry, Entry::Told(name) if name == event_type::RECORDING_ENDED);
    if left.entries.iter().any(told) {
        return;
    }
    let ended = left.entries.iter().find_map(|entry| match entry {
        Entry::Ended(ended) => Some(ended.as_ref().clone()),
        _ => None,
    });
    if let (Some(ended), Some(manifest)) = (ended, node.manifests.handle(&left.meta.spool_key())) {
        let about = (left.meta.recording(), left.meta.epoch());
        let started = |entry: &Entry| matches!(entry, Entry::Told(name) if name == event_type::RECORDING_STARTED);
        if !left.entries.iter().any(started) {
            super::tell(node, about, &manifest, left.meta.started.clone().into());
        }
        // With what shipping has found to be lost since.
        super::tell(node, about, &manifest, manifest.ended().unwrap_or(ended).into());
    }
}

/// Closes outputs that no running recording has: their recording ended while they were being closed, or died before its
/// manifest was durable. `taken` says which outputs are not left over.
/// `ended` are the recordings whose manifests say how they were begun.
pub fn finish_leftovers(
    node: &Arc<Node>,
    stored: &[StoredOutput],
    ended: &[RestoredRecording],
    taken: impl Fn(&StoredOutput) -> bool,
) {
    for output in stored.iter().filter(|output| !output.finished && !spool_names::is_manifest(&output.key)) {
        if taken(output) {
            continue;
        }
        let Ok(meta) = serde_json::from_value::<OutputMeta>(output.meta.clone()) else { continue };
        let kind = mux_format(meta.format);
        // As they were begun: an MP4 that was fragmented is closed as such.
        let is_its = |left: &&RestoredRecording| {
            let key = left.meta.spool_key();
            (&key.recording, key.epoch) == (&output.key.recording, output.key.epoch)
        };
        let plan = ended.iter().find(is_its).and_then(|left| left.meta.plan());
        let template = plan.and_then(|plan| plan.template).unwrap_or_default();
        let options = formats::options_of(kind, &template, meta.wall);
        let left = Left::of(output);
        let finished = left.reopen(node, kind, &options).map(OutputPipe::finish);
        let total = match finished {
            Ok(Ok(count)) => totals(meta.format, count, None),
            Ok(Err(error)) => totals(meta.format, left.count(), Some(internal("SPOOL_FAILED", &error.to_string()))),
            Err((count, problem)) => totals(meta.format, count, Some(internal("SPOOL_FAILED", &problem))),
        };
        tracing::info!(output = %output.key, "closed what an earlier process left open");
        if node.manifests.handle(&output.key).is_none() {
            end_unknown(node, &meta, &left, total);
        }
    }
}

/// Without a manifest nothing is known of the recording but this output; the first such end that arrives holds.
fn end_unknown(node: &Node, meta: &OutputMeta, left: &Left<'_>, total: OutputTotals) {
    let last = left.ends_at.unwrap_or(meta.wall.media);
    let now = node.clock.now();
    let ended = RecordingEnded {
        end_reason: EndReason::NodeLost,
        start_time: meta.wall.at,
        end_time: meta.wall.at(last).min(now),
        media_duration_micros: super::micros((last - meta.wall.media).as_duration()),
        gaps: Vec::new(),
        error: None,
        outputs: vec![total],
    };
    node.facts.emit(now, Some((meta.recording, meta.epoch)), ended.into());
}
