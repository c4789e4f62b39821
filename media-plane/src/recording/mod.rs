//! One recording of a publication: its outputs, its holes, its end. A panic in it ends this recording only.

mod formats;
mod output;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use media::{Gap, GapReason, MediaTime, Timed, Tracks};
use recorder_proto::facts::{FactKind, Failure, GapSpan, OutputTotals, RecordingEnded, RecordingStarted};
use recorder_proto::format::Format;
use recorder_proto::ids::{Epoch, RecordingId};
use recorder_proto::names::RecordingName;
use recorder_proto::pb::v1::{self, recording::EndReason};
use recorder_proto::time::std_duration;
use spool::OutputKey;
use tonic::Code;

use crate::node::Node;
use crate::plans::Chosen;
use crate::publication::Publisher;
use crate::shipping::{OutputMeta, Target, Wall};
use output::OutputPipe;

pub use formats::of_template;

/// A node mints the first epoch itself; takeovers get theirs from the control plane.
const FIRST_EPOCH: Epoch = Epoch(1);

/// Holes told one by one; a recording with more of them is beyond a list.
const MAX_GAPS: usize = 1_000;

/// Why a recording did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directive is not usable; it should have been refused when it arrived.
    #[error("directive of {origin}: {problem}")]
    Directive {
        /// Whose.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// The spool cannot take it.
    #[error(transparent)]
    Spool(#[from] spool::Error),
}

/// A running recording.
pub struct Recording {
    node: Arc<Node>,
    id: RecordingId,
    name: String,
    wall: Wall,
    outputs: Vec<OutputPipe>,
    /// Formats that ended early, with why.
    failed: Vec<OutputTotals>,
    gaps: Vec<Gap>,
    gaps_full: bool,
    /// End of the media so far.
    last: MediaTime,
    first: Option<MediaTime>,
    max_duration: Option<Duration>,
    stream: recorder_proto::names::StreamKey,
}

impl Recording {
    /// Starts the outputs that the plan asks for and these tracks allow. `None` when there are none.
    pub fn start(
        node: &Arc<Node>,
        publisher: &Publisher,
        chosen: Chosen,
        tracks: Tracks,
        wall: Wall,
    ) -> Result<Option<Self>, StartError> {
        let Chosen { plan, origin, also } = chosen;
        let broken = |problem: &str| StartError::Directive { origin: origin.clone(), problem: problem.to_owned() };
        let template = plan.template.ok_or_else(|| broken("no template"))?;
        let storage = plan.storage.ok_or_else(|| broken("no storage"))?;
        let wanted: Vec<_> = formats::of_template(&template, Some(wall.at.into()))
            .into_iter()
            .filter(|(format, _)| formats::is_made(*format, &template, tracks))
            .collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let id = RecordingId::new(node.clock.now(), rand::random());
        let meta = OutputMeta {
            recording: id,
            epoch: FIRST_EPOCH,
            format: Format::Hls,
            stream: publisher.stream.clone(),
            storage: Target::from(&storage),
            backup: plan.backup_storage.as_ref().map(Target::from),
            continues: None,
            template: template.name.trim_start_matches("templates/").to_owned(),
            path: template.path.clone(),
            time_zone: template.time_zone.clone(),
            random: rand::random(),
            labels: template.labels.clone(),
            wall,
        };
        let mut outputs = Vec::with_capacity(wanted.len());
        for (kind, options) in wanted {
            let format = api_format(kind);
            let key = OutputKey { recording: id.to_string(), epoch: FIRST_EPOCH.get(), format: format.to_string() };
            let meta =
                serde_json::to_value(OutputMeta { format, ..meta.clone() }).map_err(|e| broken(&e.to_string()))?;
            let writer = node.spool.create(key, &meta)?;
            outputs.push(OutputPipe::open(kind, &options, writer).map_err(|e| broken(&e.to_string()))?);
        }
        let recording = Self {
            node: Arc::clone(node),
            id,
            name: RecordingName(id).to_string(),
            wall,
            outputs,
            failed: Vec::new(),
            gaps: Vec::new(),
            gaps_full: false,
            last: wall.media,
            first: None,
            max_duration: template.max_duration.as_ref().and_then(std_duration).filter(|limit| !limit.is_zero()),
            stream: publisher.stream.clone(),
        };
        let started = RecordingStarted {
            stream: publisher.stream.clone(),
            session: publisher.session,
            protocol: publisher.protocol,
            origin: origin.clone(),
            also,
            template: template.name.parse().map_err(|_| broken("template.name"))?,
            template_revision: template.revision,
            storage: storage.name.parse().map_err(|_| broken("storage.name"))?,
            labels: template.labels,
            formats: recording.outputs.iter().map(|output| api_format(output.format())).collect(),
            start_time: wall.at,
            claim_key: format!("{}/{}/{}/{id}", node.settings.node.id, node.boot, publisher.session),
        };
        recording.emit(started);
        node.registry.recording_started(&recording.name, &publisher.stream);
        tracing::info!(recording = %id, stream = %publisher.stream, template = template.name, "recording");
        Ok(Some(recording))
    }

    /// `recordings/{ulid}`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> RecordingId {
        self.id
    }

    /// Takes what the timeline gave. `Some` = the recording has to be finished for this reason.
    pub fn take(&mut self, items: &[Timed]) -> Option<EndReason> {
        for item in items {
            match item {
                Timed::Frame(frame) => {
                    self.last = self.last.max(frame.dts);
                    self.first = Some(self.first.map_or(frame.dts, |first| first.min(frame.dts)));
                }
                Timed::Gap(gap) => {
                    self.note_gap(*gap);
                    metrics::counter!("recorder_timeline_gaps_total", "reason" => gap_label(gap.reason)).increment(1);
                }
                Timed::Config(..) => {}
            }
        }
        let mut index = 0;
        while let Some(output) = self.outputs.get_mut(index) {
            let format = output.format();
            match catch_unwind(AssertUnwindSafe(|| output.take(items))) {
                Ok(Ok(())) => index += 1,
                Ok(Err(error)) => self.fail_output(index, format, "SPOOL_FAILED", &error.to_string()),
                Err(_) => self.fail_output(index, format, "MUXER_PANICKED", "the muxer panicked; this is a bug"),
            }
        }
        if self.outputs.is_empty() {
            return Some(EndReason::Error);
        }
        let limit = self.max_duration?;
        (self.media_duration() >= limit).then_some(EndReason::MaxDuration)
    }

    /// A publisher whose clock jumps with every frame must not make a list without end: the last hole grows instead.
    fn note_gap(&mut self, gap: Gap) {
        match self.gaps.last_mut() {
            Some(last) if self.gaps_full => last.resumes_at = gap.resumes_at,
            _ => self.gaps.push(gap),
        }
        self.gaps_full = self.gaps.len() >= MAX_GAPS;
    }

    fn fail_output(&mut self, index: usize, format: mux::registry::Format, reason: &str, message: &str) {
        tracing::error!(recording = %self.id, ?format, message, "output failed");
        let count = self.outputs.remove(index).count();
        self.failed.push(totals(format, count, Some(internal(reason, message))));
    }

    fn media_duration(&self) -> Duration {
        (self.last - self.first.unwrap_or(self.last)).as_duration()
    }

    /// Ends the recording: every output is closed, and shipped from the spool.
    pub fn finish(mut self, reason: EndReason) {
        let mut outputs = std::mem::take(&mut self.failed);
        for output in std::mem::take(&mut self.outputs) {
            let format = output.format();
            let before = output.count();
            let finished = catch_unwind(AssertUnwindSafe(|| output.finish()));
            outputs.push(match finished {
                Ok(Ok(count)) => totals(format, count, None),
                Ok(Err(error)) => totals(format, before, Some(internal("SPOOL_FAILED", &error.to_string()))),
                Err(_) => totals(format, before, Some(internal("MUXER_PANICKED", "the muxer panicked; this is a bug"))),
            });
        }
        let ended = RecordingEnded {
            end_reason: reason,
            start_time: self.wall.at,
            // Media pushed faster than real time ends later on its own clock than it was there.
            end_time: self.wall.at(self.last).min(self.node.clock.now()),
            media_duration_micros: u64::try_from(self.media_duration().as_micros()).unwrap_or(u64::MAX),
            gaps: self.gaps.iter().map(|gap| span(&self.wall, gap)).collect(),
            error: outputs.iter().find_map(|output| output.error.clone()),
            outputs,
        };
        self.emit(ended);
        self.node.registry.recording_ended(&self.name);
        tracing::info!(recording = %self.id, stream = %self.stream, reason = reason.as_str_name(), "recording ended");
    }

    fn emit(&self, kind: impl Into<FactKind>) {
        self.node.facts.emit(self.node.clock.now(), Some((self.id, FIRST_EPOCH)), kind.into());
    }
}

fn internal(reason: &str, message: &str) -> Failure {
    Failure {
        code: Code::Internal.into(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        http_status: 0,
        request_id: String::new(),
    }
}

fn totals(format: mux::registry::Format, count: output::Count, error: Option<Failure>) -> OutputTotals {
    OutputTotals {
        format: api_format(format),
        files: count.files,
        bytes_recorded: count.bytes,
        bytes_uploaded: 0,
        upload_lag_micros: 0,
        error,
    }
}

fn span(wall: &Wall, gap: &Gap) -> GapSpan {
    let duration = (gap.resumes_at - gap.starts_at).as_duration();
    GapSpan {
        start_time: wall.at(gap.starts_at),
        duration_micros: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        reason: match gap.reason {
            GapReason::PublisherLost => v1::gap::Reason::PublisherLost,
            GapReason::NodeCrashed => v1::gap::Reason::NodeCrashed,
            GapReason::FramesRejected => v1::gap::Reason::FramesRejected,
            GapReason::SpoolFailed => v1::gap::Reason::SpoolFailed,
        },
    }
}

fn gap_label(reason: GapReason) -> &'static str {
    match reason {
        GapReason::PublisherLost => "publisher_lost",
        GapReason::NodeCrashed => "node_crashed",
        GapReason::FramesRejected => "frames_rejected",
        GapReason::SpoolFailed => "spool_failed",
    }
}

/// The muxer's word for a format in the vocabulary of the API.
fn api_format(format: mux::registry::Format) -> Format {
    match format {
        mux::registry::Format::Hls => Format::Hls,
        mux::registry::Format::Flv => Format::Flv,
        mux::registry::Format::Mp4 => Format::Mp4,
        mux::registry::Format::Aac => Format::Aac,
    }
}
