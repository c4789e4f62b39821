//! How a recording begins: as a new one, or where another node's ended.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use media::{Gap, GapReason, MediaTime, Tracks};
use mux::Restored;
use mux::registry::{Format, Options};
use recorder_proto::facts::{Failure, OutputTotals, RecordingStarted, event_type};
use recorder_proto::format::Format as ApiFormat;
use recorder_proto::ids::{Epoch, RecordingId};
use recorder_proto::pb::node::Plan;
use recorder_proto::pb::v1::Template;
use recorder_proto::time::std_duration;
use spool::OutputKey;

use super::health::Health;
use super::output::{Count, OutputPipe};
use super::report::{api_format, internal, span, totals};
use super::{Feed, Recording, formats, late};
use crate::manifest::{Entry, Handle, Late, RecordingMeta};
use crate::node::Node;
use crate::plans::{Chosen, TaskId};
use crate::publication::Publisher;
use crate::shipping::{Continues, OutputMeta, Target, Wall};
use crate::spool_names;

/// A node mints the first epoch itself; takeovers get theirs from the control plane.
const FIRST_EPOCH: Epoch = Epoch(1);

/// Characters of a ULID that are random, at its end.
const RANDOM_TAIL: usize = 16;

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

/// Under which id and epoch to record.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The recording.
    pub id: RecordingId,
    /// The epoch to write under.
    pub epoch: Epoch,
    /// What earlier epochs left, when the recording goes on.
    pub inheritance: Option<Inheritance>,
    /// The control plane says that no other recording of its task is the first.
    pub first_of_task: bool,
}

/// What earlier epochs left for their successor.
#[derive(Clone, Debug)]
pub struct Inheritance {
    /// Every file they wrote.
    pub files: Vec<Inherited>,
    /// When the recording began; none when the control plane does not say.
    pub began: Option<DateTime<Utc>>,
    /// When the media stopped, as far as is known.
    pub since: DateTime<Utc>,
    /// Why it stopped.
    pub reason: GapReason,
}

/// A file of an earlier epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// Its container.
    pub format: ApiFormat,
    /// Its position.
    pub index: u32,
    /// Its key; for HLS that of the playlist.
    pub key: String,
    /// Who wrote it.
    pub epoch: Epoch,
}

impl Grant {
    /// A recording that this node begins by itself.
    pub fn new(id: RecordingId) -> Self {
        Self { id, epoch: FIRST_EPOCH, inheritance: None, first_of_task: false }
    }
}

/// The longest time any format that is made of these tracks waits for a lost publisher.
pub fn window_of(template: &Template, tracks: Tracks) -> Duration {
    wanted(template, tracks, None)
        .iter()
        .map(|(format, _)| formats::resume_timeout(*format, template))
        .max()
        .unwrap_or_default()
}

/// Whether anything is made of these tracks.
pub fn is_wanted(template: &Template, tracks: Tracks) -> bool {
    !wanted(template, tracks, None).is_empty()
}

/// Whether any of what is made of these tracks may have its sound in AAC although it comes in another codec.
pub fn wants_aac(template: &Template, tracks: Tracks) -> bool {
    let wish = formats::wish(template);
    wanted(template, tracks, None).iter().any(|(format, options)| Feed::of(*format, options.segment, wish) == Feed::Aac)
}

fn wanted(template: &Template, tracks: Tracks, wall: Option<Wall>) -> Vec<(Format, Options)> {
    // The muxers anchor at media time zero.
    let anchor = wall.map(|wall| wall.at(MediaTime::ZERO).into());
    let outputs = formats::of_template(template, anchor);
    outputs.into_iter().filter(|(format, _)| formats::is_made(*format, template, tracks)).collect()
}

impl Recording {
    /// Starts the outputs that the plan asks for and these tracks allow. `None` when there are none.
    pub fn start(
        node: &Arc<Node>,
        publisher: &Publisher,
        chosen: Chosen,
        tracks: Tracks,
        wall: Wall,
        grant: &Grant,
    ) -> Result<Option<Self>, StartError> {
        let Chosen { plan, origin, also, task } = chosen;
        let broken = |problem: &str| StartError::Directive { origin: origin.clone(), problem: problem.to_owned() };
        let template = plan.template.as_ref().ok_or_else(|| broken("no template"))?;
        let wanted = wanted(template, tracks, Some(wall));
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut common = common_meta(publisher, &plan, wall, grant).ok_or_else(|| broken("no storage"))?;
        common.record_id = task.map(|task| record_id(node, &task, grant));
        let started = RecordingStarted {
            stream: publisher.stream.clone(),
            session: publisher.session,
            protocol: publisher.protocol,
            origin: origin.clone(),
            also,
            template: template.name.parse().map_err(|_| broken("template.name"))?,
            template_revision: template.revision,
            storage: common.storage.name.parse().map_err(|_| broken("storage.name"))?,
            labels: template.labels.clone(),
            formats: wanted.iter().map(|(format, _)| api_format(*format)).collect(),
            start_time: wall.at,
            claim_key: format!("{}/{}/{}/{}", node.settings.node.id, node.boot, publisher.session, grant.id),
        };
        let window = window_of(template, tracks);
        let mut meta = RecordingMeta::new(started, common, &plan, window);
        let left = grant.inheritance.as_ref();
        meta.began = left.and_then(|left| left.began);
        meta.late = late::of_template(template, tracks, left, wall);
        // First, so that whatever a restart finds of the outputs, it finds what they belong to.
        let manifest = node.manifests.create(meta.clone())?;
        let (mut outputs, mut failed) = (Vec::with_capacity(wanted.len()), Vec::new());
        for (kind, options) in wanted {
            let format = api_format(kind);
            let place = left.map(|left| place(left, format, formats::resume_timeout(kind, template), wall.at));
            match open(node, &meta, template, place.unwrap_or_default(), (kind, &options)) {
                Ok(output) => outputs.push(output),
                // The process is on its way out.
                Err(Refused::Spool(spool::Error::Closed)) => return Err(spool::Error::Closed.into()),
                // The other formats go on without it; without any the recording ends as failed as soon as it has begun.
                Err(refused) => failed.push(refused.note(&manifest, grant.id, kind)),
            }
        }
        let mut recording = Self {
            node: Arc::clone(node),
            manifest,
            session: publisher.session,
            told_session: publisher.session,
            outputs,
            failed,
            tracks,
            late: meta.late.clone(),
            gaps: Vec::new(),
            gaps_full: false,
            health: Health::default(),
            codecs: Vec::new(),
            last: wall.media,
            noted: wall.media,
            first: None,
            max_duration: template.max_duration.as_ref().and_then(std_duration).filter(|limit| !limit.is_zero()),
            lost: None,
            gone: None,
            away: None,
            stop_asked: node.registry.recording_started(grant.id, grant.epoch, &publisher.stream),
            orphaned: false,
            meta,
        };
        recording.announce(grant);
        (0..recording.failed.len()).for_each(|_| recording.write_failed());
        tracing::info!(
            recording = %recording.id(), epoch = grant.epoch.get(), stream = %publisher.stream,
            template = %recording.meta.started.template, "recording"
        );
        Ok(Some(recording))
    }

    fn announce(&mut self, grant: &Grant) {
        let Some(inheritance) = &grant.inheritance else {
            return self.tell(self.meta.started.clone());
        };
        // The control plane knows it already, and a restart must not tell it as new.
        self.note(Entry::Told(event_type::RECORDING_STARTED.to_owned()));
        let wall = self.wall();
        let away = (wall.at - inheritance.since).to_std().unwrap_or_default();
        let starts_at = wall.media - MediaTime::from_duration(away);
        let gap = Gap { starts_at, resumes_at: wall.media, reason: inheritance.reason };
        self.keep_gap(span(&wall, &gap));
        self.resumed(&gap);
    }
}

/// What the outputs of a recording have in common.
fn common_meta(publisher: &Publisher, plan: &Plan, wall: Wall, grant: &Grant) -> Option<OutputMeta> {
    let (template, storage) = (plan.template.as_ref()?, plan.storage.as_ref()?);
    Some(OutputMeta {
        recording: grant.id,
        record_id: None,
        epoch: grant.epoch,
        format: ApiFormat::Hls,
        stream: publisher.stream.clone(),
        storage: Target::from(storage),
        backup: plan.backup_storage.as_ref().map(Target::from),
        continues: None,
        first_file: 0,
        template: template.name.trim_start_matches("templates/").to_owned(),
        path: template.path.clone(),
        time_zone: template.time_zone.clone(),
        random: rand::random(),
        labels: template.labels.clone(),
        wall,
        upload_while_recording: false,
        part_bytes: 0,
        head_last: false,
    })
}

/// `{RecordId}` of a task is its id, which no other task ever gets. A second recording of the task, or a later epoch of
/// the first, must not write over it: what follows is random, and behind a character that no id has. Two nodes that do not
/// know of each other may both take theirs for the first: only the one that was told so beforehand, or that the control
/// plane has just said so, is.
fn record_id(node: &Node, task: &TaskId, grant: &Grant) -> String {
    let begun = node.link.directives().begin_task(&task.id) || task.begun;
    let is_first = grant.first_of_task || task.node == node.settings.node.id;
    if !begun && is_first && grant.epoch == FIRST_EPOCH {
        return task.id.clone();
    }
    let (id, tail) = (grant.id.to_string(), RANDOM_TAIL);
    format!("{}_{}", task.id, id.get(id.len().saturating_sub(tail)..).unwrap_or(&id).to_ascii_lowercase())
}

/// Why an output cannot be opened.
pub(super) enum Refused {
    Spool(spool::Error),
    Mux(String),
}

impl Refused {
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Spool(error) => internal("SPOOL_FAILED", &error.to_string()),
            Self::Mux(problem) => internal("MUXER_UNAVAILABLE", problem),
        }
    }

    /// Notes that the format has failed, and gives what there is to say of it.
    pub(super) fn note(&self, manifest: &Handle, recording: RecordingId, kind: Format) -> OutputTotals {
        let (format, failure) = (api_format(kind), self.failure());
        tracing::error!(%recording, %format, failure.message, "an output cannot be opened");
        let totals = totals(format, Count::default(), Some(failure));
        manifest.note(Entry::OutputFailed(Box::new(totals.clone())));
        manifest.note(Entry::Settled(format));
        totals
    }
}

/// Opens one output: a new one, or behind the files of earlier epochs or of a failed disk.
pub(super) fn open(
    node: &Node,
    meta: &RecordingMeta,
    template: &Template,
    place: Place,
    (kind, options): (Format, &Options),
) -> Result<OutputPipe, Refused> {
    let format = api_format(kind);
    let Place { first_file, continues, number, bytes } = place;
    let mut output = OutputMeta { first_file, continues, ..meta.output_of(format) };
    if formats::uploads_while_recording(kind, template) {
        output = output.growing(options);
    }
    let value = serde_json::to_value(output).map_err(|error| Refused::Mux(error.to_string()))?;
    let key = OutputKey { format: spool_names::name(format.as_str(), number), ..meta.spool_key() };
    let writer = node.spool.create(key, &value).map_err(Refused::Spool)?;
    let pipe = OutputPipe::restore(kind, options, writer, Restored { files: first_file, open: None }, bytes);
    let pipe = pipe.map_err(|unavailable| Refused::Mux(unavailable.to_string()))?;
    Ok(pipe.waiting(formats::resume_timeout(kind, template)).hearing(formats::wish(template)))
}

/// Where a format goes on behind what earlier epochs, or a failed disk, left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first_file: u32,
    pub(super) continues: Option<Continues>,
    /// Which output of its format in this epoch it is.
    pub(super) number: u32,
    /// What the others of this epoch hold.
    pub(super) bytes: u64,
}

impl From<&Late> for Place {
    fn from(late: &Late) -> Self {
        Self { first_file: late.first_file, ..Self::default() }
    }
}

/// HLS goes on in the same file while its window is open: its new playlist begins with the entries of the old one.
pub(super) fn place(left: &Inheritance, format: ApiFormat, window: Duration, now: DateTime<Utc>) -> Place {
    let newest = left.files.iter().filter(|file| file.format == format).max_by_key(|file| (file.index, file.epoch));
    let Some(newest) = newest else { return Place::default() };
    let gone = (now - left.since).to_std().unwrap_or_default();
    if format == ApiFormat::Hls && gone < window {
        return Place {
            first_file: newest.index,
            continues: Some(Continues { key: newest.key.clone() }),
            ..Place::default()
        };
    }
    Place { first_file: newest.index.saturating_add(1), ..Place::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_nodes_files_are_followed_not_overwritten() {
        let file = |format, index, key: &str, epoch| Inherited { format, index, key: key.into(), epoch: Epoch(epoch) };
        let since = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let left = Inheritance {
            files: vec![
                file(ApiFormat::Hls, 0, "a/0.m3u8", 1),
                file(ApiFormat::Hls, 0, "a-e2/0.m3u8", 2),
                file(ApiFormat::Flv, 3, "a-3.flv", 1),
            ],
            began: None,
            since,
            reason: GapReason::NodeCrashed,
        };
        let (window, later) = (Duration::from_secs(30), |seconds| since + chrono::TimeDelta::seconds(seconds));
        let continued =
            Place { first_file: 0, continues: Some(Continues { key: "a-e2/0.m3u8".into() }), ..Place::default() };
        assert_eq!(place(&left, ApiFormat::Hls, window, later(29)), continued);
        assert_eq!(place(&left, ApiFormat::Hls, window, later(30)), Place { first_file: 1, ..Place::default() });
        assert_eq!(place(&left, ApiFormat::Flv, window, later(1)), Place { first_file: 4, ..Place::default() });
        assert_eq!(place(&left, ApiFormat::Mp4, window, later(1)), Place::default());
    }
}
