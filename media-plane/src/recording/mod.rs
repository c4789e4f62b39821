//! One recording of a publication: its outputs, its holes, its end. A panic in it ends this recording only.

mod away;
mod feed;
mod formats;
mod health;
mod late;
mod output;
mod progress;
mod report;
mod restore;
mod spare;
mod start;
#[cfg(test)]
pub(crate) mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use media::{CodecConfig, Gap, MediaTime, Timed, TrackKind, Tracks};
use recorder_proto::facts::{FactKind, GapSpan, OutputTotals, RecordingEnded, event_type};
use recorder_proto::ids::{Epoch, RecordingId, SessionId};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::recording::EndReason;

use crate::manifest::{CodecChange, Entry, Handle, Late, RecordingMeta};
use crate::node::Node;
use crate::shipping::Wall;
use output::OutputPipe;
use report::{api_format, codec_text, gap_label, internal, not_carried, span, totals, track_name};
use spare::Hole;

pub use away::{Absence, Waiting};
pub use feed::Feed;
pub use formats::of_template;
pub use health::abnormal_codes;
pub use progress::Progress;
pub use restore::{Revived, finish_leftovers, retell};
pub use start::{Grant, Inheritance, Inherited, StartError, is_wanted, wants_aac, window_of};

/// Holes told one by one; a recording with more of them is beyond a list.
const MAX_GAPS: usize = 1_000;
/// How much media comes between two looks at how far a recording is.
const NOTED: MediaTime = MediaTime(MediaTime::SCALE);

/// A running recording.
pub struct Recording {
    node: Arc<Node>,
    meta: RecordingMeta,
    manifest: Handle,
    /// Whose frames it gets.
    session: SessionId,
    /// Whose frames it gets as far as the control plane has been told.
    told_session: SessionId,
    outputs: Vec<OutputPipe>,
    /// Formats that ended early, with why.
    failed: Vec<OutputTotals>,
    /// Tracks of which it has had frames, or was told at its start.
    tracks: Tracks,
    /// Formats that begin when their track comes.
    late: Vec<Late>,
    gaps: Vec<GapSpan>,
    gaps_full: bool,
    /// What is wrong with its media.
    health: health::Health,
    /// Configurations by track, as the manifest shows them.
    codecs: Vec<(TrackKind, String)>,
    /// End of the media so far.
    last: MediaTime,
    /// The same when people who watch were told of it.
    noted: MediaTime,
    first: Option<MediaTime>,
    max_duration: Option<Duration>,
    /// What a failed disk has cost, until all formats go on.
    lost: Option<Hole>,
    /// From where on a format is missing for good.
    gone: Option<MediaTime>,
    /// The publisher is away.
    away: Option<Absence>,
    /// Its stop was asked for before it began.
    stop_asked: bool,
    /// Another node speaks for it: only its files are still told of.
    orphaned: bool,
}

impl Recording {
    /// `recordings/{ulid}`.
    pub fn name(&self) -> String {
        recorder_proto::names::RecordingName(self.id()).to_string()
    }

    /// Its id.
    pub fn id(&self) -> RecordingId {
        self.meta.recording()
    }

    /// The epoch it is written under.
    pub fn epoch(&self) -> Epoch {
        self.meta.epoch()
    }

    /// The binding, rule or task that asked for it.
    pub fn origin(&self) -> &str {
        &self.meta.started.origin
    }

    /// What is recorded.
    pub fn stream(&self) -> &StreamKey {
        &self.meta.started.stream
    }

    /// As it started.
    pub fn meta(&self) -> &RecordingMeta {
        &self.meta
    }

    /// End of the media so far, on the publication's timeline.
    pub fn last(&self) -> MediaTime {
        self.last
    }

    /// Its two clocks.
    pub fn wall(&self) -> Wall {
        self.meta.output.wall
    }

    /// Whether any output takes the sound in AAC whatever it comes in, or will once its track is there.
    pub fn wants_aac(&self) -> bool {
        self.outputs.iter().any(|output| output.feed() == Feed::Aac) || self.late_wants_aac()
    }

    /// Takes what the timeline gave. `Some` = the recording has to be finished for this reason.
    pub fn take(&mut self, feed: Feed, items: &[Timed]) -> Option<EndReason> {
        if self.stop_asked {
            return Some(EndReason::Stopped);
        }
        // What is later is what there is of the whole recording.
        let later = if self.wants_aac() { Feed::Aac } else { Feed::Original };
        if feed.includes(later) {
            self.account(items);
        }
        self.begin_late(items);
        self.every_output(|output| if feed.includes(output.feed()) { output.take(items) } else { Ok(()) });
        self.tell_losses();
        self.note_progress();
        if self.outputs.is_empty() {
            return Some(EndReason::Error);
        }
        let limit = self.max_duration?;
        (self.recorded() >= limit).then_some(EndReason::MaxDuration)
    }

    fn note_progress(&mut self) {
        if self.last - self.noted >= NOTED {
            self.noted = self.last;
            self.node.progress.note(self.id(), self.epoch(), self.media_duration(), self.totals());
        }
    }

    fn account(&mut self, items: &[Timed]) {
        for item in items {
            match item {
                Timed::Frame(frame) => {
                    self.last = self.last.max(frame.dts);
                    self.first = Some(self.first.map_or(frame.dts, |first| first.min(frame.dts)));
                }
                Timed::Gap(gap) => self.hole(*gap),
                Timed::Config(track, config) => self.configured(*track, config),
            }
        }
    }

    /// A hole in the media. The first one after an absence is the absence.
    fn hole(&mut self, gap: Gap) {
        let away = self.away.take();
        // Other recordings of the stream may have durable media beyond ours.
        let starts_at = if self.first.is_some() { self.last.min(gap.starts_at) } else { gap.starts_at };
        let gap = Gap { starts_at, reason: away.map_or(gap.reason, |absence| absence.reason), ..gap };
        metrics::counter!("recorder_timeline_gaps_total", "reason" => gap_label(gap.reason)).increment(1);
        let told = span(&self.wall(), &gap);
        // A publisher that took over from one that was still there is another one all the same: who is not told of it
        // takes the recording for that of a session that is dead.
        if away.is_some() || self.session != self.told_session {
            self.resumed(&gap);
        } else if !self.gaps_full {
            self.note(Entry::Gap(told.clone()));
        }
        self.keep_gap(told);
    }

    /// A publisher whose clock jumps with every frame must not make a list without end: the last hole grows instead.
    fn keep_gap(&mut self, gap: GapSpan) {
        match self.gaps.last_mut() {
            Some(last) if self.gaps_full => {
                let ends =
                    gap.start_time + chrono::TimeDelta::microseconds(i64::try_from(gap.duration_micros).unwrap_or(0));
                let length = (ends - last.start_time).num_microseconds().unwrap_or(i64::MAX);
                last.duration_micros = u64::try_from(length).unwrap_or(last.duration_micros);
            }
            _ => self.gaps.push(gap),
        }
        self.gaps_full = self.gaps.len() >= MAX_GAPS;
    }

    fn configured(&mut self, track: TrackKind, config: &CodecConfig) {
        let to = codec_text(config);
        let known = self.codecs.iter_mut().find(|(of, _)| *of == track);
        let from = match known {
            Some((_, from)) if *from == to => return,
            Some((_, from)) => std::mem::replace(from, to.clone()),
            None => {
                self.codecs.push((track, to.clone()));
                String::new()
            }
        };
        let at = self.wall().at(self.last);
        self.note(Entry::Codec(CodecChange { track: track_name(track).to_owned(), at, from, to }));
    }

    /// Does something to every output; one that lost its disk goes on elsewhere, one that cannot or panics is over.
    fn every_output(&mut self, mut step: impl FnMut(&mut OutputPipe) -> Result<(), spool::Error>) {
        let mut index = 0;
        while let Some(output) = self.outputs.get_mut(index) {
            let format = output.format();
            match catch_unwind(AssertUnwindSafe(|| step(output))) {
                Ok(Ok(())) => index += 1,
                // The process is on its way out: as after a crash, the next start goes on.
                Ok(Err(spool::Error::Closed)) => index += 1,
                // The new one does the same step.
                Ok(Err(error)) if self.go_on_elsewhere(index, &error) => {}
                Ok(Err(error)) => self.fail_output(index, format, "SPOOL_FAILED", &error.to_string()),
                Err(_) => self.fail_output(index, format, "MUXER_PANICKED", "the muxer panicked; this is a bug"),
            }
        }
    }

    fn fail_output(&mut self, index: usize, format: mux::Format, reason: &str, message: &str) {
        tracing::error!(recording = %self.id(), ?format, message, "output failed");
        let output = self.outputs.remove(index);
        let count = output.count();
        self.write_failed();
        self.lose(output.ends_at().unwrap_or(self.wall().media));
        self.failed_for_good(totals(api_format(format), count, Some(internal(reason, message))));
    }

    /// A format has failed, and a restart must not take it for healthy.
    fn failed_for_good(&mut self, totals: OutputTotals) {
        self.note(Entry::OutputFailed(Box::new(totals.clone())));
        self.failed.push(totals);
    }

    fn media_duration(&self) -> Duration {
        (self.last - self.first.unwrap_or(self.last)).as_duration()
    }

    /// How long it has been recorded, what earlier epochs recorded included: what its limit is about.
    fn recorded(&self) -> Duration {
        self.meta.recorded_before().saturating_add(self.media_duration())
    }

    /// A new file in every format at the next key frame.
    pub fn split(&mut self) {
        self.every_output(OutputPipe::cut);
    }

    /// All of it ships, while the recording waits: a playlist can be gone on with elsewhere, other files are closed.
    pub fn put_down(&mut self) {
        self.every_output(OutputPipe::put_down);
    }

    fn totals(&self) -> Vec<OutputTotals> {
        let running = self.outputs.iter().map(|output| totals(api_format(output.format()), output.count(), None));
        self.failed.iter().cloned().chain(running).collect()
    }

    /// Another node goes on with the recording: files are closed and shipped under this epoch's keys, and nothing is
    /// said of the recording itself any more.
    pub fn orphan(mut self) {
        tracing::warn!(recording = %self.id(), epoch = self.epoch().get(), "another node goes on with this recording");
        self.orphaned = true;
        self.finish(EndReason::NodeLost);
    }

    /// Ends the recording: every output is closed, and shipped from the spool.
    pub fn finish(mut self, reason: EndReason) {
        self.node.progress.forget(self.id(), self.epoch());
        self.tell_last_losses();
        self.tell_health(self.node.clock.monotonic());
        if self.node.spool.is_closed() {
            // The process is on its way out: the next start finds the recording running, and ends it if it has to.
            return;
        }
        let mut outputs = std::mem::take(&mut self.failed);
        for output in std::mem::take(&mut self.outputs) {
            let (format, before) = (api_format(output.format()), output.count());
            let nothing = output.made_nothing_of().map(|codec| not_carried(format, codec));
            let failed = |reason, message: &str| totals(format, before, Some(internal(reason, message)));
            outputs.push(match catch_unwind(AssertUnwindSafe(|| output.finish())) {
                Ok(Ok(count)) => totals(format, count, nothing),
                Ok(Err(spool::Error::Closed)) => return,
                Ok(Err(error)) => failed("SPOOL_FAILED", &error.to_string()),
                Err(_) => failed("MUXER_PANICKED", "the muxer panicked; this is a bug"),
            });
        }
        let ended = RecordingEnded {
            end_reason: reason,
            start_time: self.meta.started.start_time,
            // Media pushed faster than real time ends later on its own clock than it was there.
            end_time: self.wall().at(self.last).min(self.node.clock.now()),
            media_duration_micros: micros(self.media_duration()),
            gaps: std::mem::take(&mut self.gaps),
            error: outputs.iter().find_map(|output| output.error.clone()),
            outputs,
        };
        let ended = self.manifest.end(ended);
        self.tell(ended.clone());
        self.note(Entry::Ended(Box::new(ended)));
        self.node.registry.recording_ended(self.id(), self.epoch());
        tracing::info!(recording = %self.id(), stream = %self.stream(), reason = reason.as_str_name(), "recording ended");
    }

    fn note(&self, entry: Entry) {
        self.manifest.note(entry);
    }

    /// Tells of the recording; how it began and ended is noted as told, so that a restart tells it if this one does not.
    fn tell(&self, kind: impl Into<FactKind>) {
        if !self.orphaned {
            tell(&self.node, (self.id(), self.epoch()), &self.manifest, kind.into());
        }
    }
}

fn tell(node: &Node, about: (RecordingId, Epoch), manifest: &Handle, kind: FactKind) {
    let name = kind.event_type();
    let durable = node.facts.enqueue(node.clock.now(), Some(about), kind);
    let is_kept = [event_type::RECORDING_STARTED, event_type::RECORDING_ENDED].contains(&name);
    if let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| is_kept) {
        let manifest = manifest.clone();
        runtime.spawn(async move {
            if durable.await.is_ok() {
                manifest.note(Entry::Told(name.to_owned()));
            }
        });
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
