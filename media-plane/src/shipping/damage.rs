//! Bytes that the spool has lost after they were durable: an object ends before the damage, and what is missing is told.

use std::io::ErrorKind;
use std::sync::Arc;

use media::MediaTime;
use mux::{ObjectId, Summary};
use recorder_proto::facts::GapSpan;
use recorder_proto::ids::{Epoch, RecordingId};
use recorder_proto::pb::v1;
use spool::{ObjectState, OutputKey, StoredOutput};

use super::growing::take_back;
use super::progress::Progress;
use super::storage::Storage;
use super::upload::{Parcel, UploadError};
use super::{Context, OutputMeta, Wall};
use crate::manifest::Entry;

/// What an object held when it was closed, or holds since it was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// End of its media.
    pub ends_at: MediaTime,
    /// Video frames.
    pub video_frames: u64,
    /// Audio frames.
    pub audio_frames: u64,
}

impl From<&Summary> for Content {
    fn from(summary: &Summary) -> Self {
        let Summary { ends_at, video_frames, audio_frames, .. } = *summary;
        Self { ends_at, video_frames, audio_frames }
    }
}

/// What a file lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where the media of the damaged object ends now.
    pub from: MediaTime,
    /// Where it ended before.
    pub to: MediaTime,
    /// Video frames between.
    pub video_frames: u64,
    /// Audio frames between.
    pub audio_frames: u64,
}

impl Loss {
    /// Between what an object had and what is left of it.
    pub fn between(was: Content, left: Content) -> Self {
        Self {
            from: left.ends_at,
            to: was.ends_at.max(left.ends_at),
            video_frames: was.video_frames.saturating_sub(left.video_frames),
            audio_frames: was.audio_frames.saturating_sub(left.audio_frames),
        }
    }

    /// The file without it.
    pub fn of(&self, mut file: Summary) -> Summary {
        file.video_frames = file.video_frames.saturating_sub(self.video_frames);
        file.audio_frames = file.audio_frames.saturating_sub(self.audio_frames);
        if self.to >= file.ends_at {
            file.ends_at = self.from.max(file.starts_at);
        }
        file
    }

    fn span(&self, wall: &Wall) -> GapSpan {
        let length = (self.to - self.from).as_duration();
        GapSpan {
            start_time: wall.at(self.from),
            duration_micros: u64::try_from(length.as_micros()).unwrap_or(u64::MAX),
            reason: v1::gap::Reason::SpoolFailed,
        }
    }
}

/// Whether the bytes are there and not what was written, or fewer.
pub fn is_damage(error: &UploadError) -> bool {
    match error {
        UploadError::Spool(spool::Error::Corrupt { .. }) => true,
        UploadError::Spool(spool::Error::Io { source, .. }) => source.kind() == ErrorKind::UnexpectedEof,
        _ => false,
    }
}

/// Ends a closed object before its damage, so that the rest can be sent, and tells what it lacks; none when nothing of it
/// can be believed.
pub async fn cut(context: &Context, storage: &Storage, parcel: &mut Parcel, progress: &mut Progress) -> Option<Loss> {
    let (output, object) = (parcel.output.clone(), parcel.spec.object);
    let was = context.spool.summary(&output, object);
    let stored = match context.spool.end_at_damage(&output, object).await {
        Ok(stored) => stored,
        Err(error) => {
            tracing::error!(%output, object = spool::object_name(object), %error, "a damaged object is lost");
            return None;
        }
    };
    let ObjectState::Closed { summary, size, crc32c } = stored.state else { return None };
    let head = context.spool.head_len(&output, object);
    if size <= head {
        return None;
    }
    tracing::error!(%output, object = spool::object_name(object), was = parcel.size, size, "a damaged object ends early");
    if let Err(error) = take_back(context, storage, parcel, progress).await {
        tracing::warn!(key = parcel.key, %error, "an upload that nobody needs may stay open");
    }
    progress.anew();
    progress.head = head;
    (parcel.size, parcel.crc32c) = (size, crc32c);
    let left = Content::from(&summary);
    Some(Loss::between(was.as_ref().map_or(left, Content::from), left))
}

/// What one output has lost.
pub struct Losses {
    context: Arc<Context>,
    output: OutputKey,
    wall: Wall,
    about: (RecordingId, Epoch),
    found: Vec<(ObjectId, Loss)>,
}

impl Losses {
    /// Nothing so far.
    pub fn new(context: &Arc<Context>, output: &OutputKey, meta: &OutputMeta) -> Self {
        let (wall, about) = (meta.wall, (meta.recording, meta.epoch));
        let (context, output) = (Arc::clone(context), output.clone());
        Self { context, output, wall, about, found: Vec::new() }
    }

    /// Media is lost. That is told in the manifest, and with the end of the recording, now or when it comes.
    pub fn lose(&mut self, object: ObjectId, loss: Loss) {
        self.found.push((object, loss));
        let span = loss.span(&self.wall);
        let (start, micros) = (span.start_time, span.duration_micros);
        tracing::error!(output = %self.output, %start, micros, "recorded media is lost");
        let Some(manifest) = self.context.manifests.handle(&self.output) else { return };
        manifest.note(Entry::Gap(span.clone()));
        if let Some(ended) = manifest.lose(span) {
            self.context.facts.emit(self.context.clock.now(), Some(self.about), ended.into());
        }
    }

    /// A file without what it has lost.
    pub fn without(&self, file: u32, summary: Summary) -> Summary {
        let losses = self.found.iter().filter(|(object, _)| object.file == file);
        losses.fold(summary, |summary, (_, loss)| loss.of(summary))
    }
}

/// What was found damaged when the spool was opened and is not reported yet.
pub fn found(stored: &StoredOutput) -> Vec<(ObjectId, Loss)> {
    let mut found = Vec::new();
    for object in &stored.objects {
        let id = object.spec.object;
        let ObjectState::Closed { summary: left, .. } = &object.state else { continue };
        if object.damaged.is_none() || object.reported.is_some() {
            continue;
        }
        let left = Content::from(left);
        let next =
            closed(stored, id.file).filter(|(other, _)| other.part > id.part).map(|(_, next)| next.starts_at).min();
        let whole = stored.files.iter().find(|file| file.file == id.file).map(|file| Content::from(&file.summary));
        let sum = |count: fn(&Summary) -> u64| closed(stored, id.file).map(|(_, summary)| count(summary)).sum::<u64>();
        let was = Content {
            ends_at: next.or(whole.map(|whole| whole.ends_at)).unwrap_or(left.ends_at),
            // Of a file that goes on, its muxer counts what is left.
            video_frames: whole.map_or(0, |whole| whole.video_frames.saturating_sub(sum(|of| of.video_frames)))
                + left.video_frames,
            audio_frames: whole.map_or(0, |whole| whole.audio_frames.saturating_sub(sum(|of| of.audio_frames)))
                + left.audio_frames,
        };
        found.push((id, Loss::between(was, left)));
    }
    found
}

/// Closed objects of a file with media.
fn closed(stored: &StoredOutput, file: u32) -> impl Iterator<Item = (ObjectId, &Summary)> {
    let kept = stored.objects.iter().filter_map(|object| match &object.state {
        ObjectState::Closed { summary, .. } => Some((object.spec.object, summary)),
        ObjectState::Open { .. } => None,
    });
    let released = stored.released.iter().flat_map(|file| &file.objects);
    let released = released.filter_map(|object| Some((object.object, object.summary.as_ref()?)));
    kept.chain(released).filter(move |(id, _)| id.file == file)
}
