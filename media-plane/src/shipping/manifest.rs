//! The manifest of a recording on its way: after the files, never in front of them.

use std::sync::Arc;

use recorder_proto::facts::RecordingManifest;
use spool::{Event, ObjectState, OutputKey, Record, StoredOutput};
use store::{CACHE_IMMUTABLE, ObjectMeta, crc32c_base64};

use super::progress::Progress;
use super::sending::attempt;
use super::upload::Parcel;
use super::{Context, Target};
use crate::link::Fate;
use crate::manifest::RecordingMeta;

/// A closed document that waits for its upload, or for the release of its bytes.
pub struct Document {
    parcel: Parcel,
    meta: RecordingMeta,
    /// Where it goes.
    target: Target,
    progress: Progress,
    /// It is in the bucket already.
    is_committed: bool,
}

impl Document {
    /// Of a recording that was settled just now.
    pub fn of_event(context: &Context, event: &Event) -> Option<Self> {
        let Event::Closed { key, spec, size, crc32c, .. } = event else { return None };
        let meta = read(key, context.spool.meta(key)?)?;
        let target = destination(context, &meta);
        let parcel = parcel((key, *spec), &meta, &target, *size, *crc32c);
        Some(Self { parcel, meta, target, progress: Progress::default(), is_committed: false })
    }

    /// Of an earlier process; none when it is not written yet, or only waits for an acknowledgement.
    pub fn of_stored(context: &Context, stored: &StoredOutput) -> Option<Self> {
        let object = stored.objects.first()?;
        let ObjectState::Closed { size, crc32c, .. } = object.state else { return None };
        let reported = object.reported.filter(|sequence| context.log.fate(*sequence) != Fate::Lost);
        if let (Some(_), Some(sequence)) = (&object.committed, reported) {
            context.releases.add(sequence, stored.key.clone(), object.spec.object);
            return None;
        }
        let meta = read(&stored.key, stored.meta.clone())?;
        let target = destination(context, &meta);
        let parcel = parcel((&stored.key, object.spec), &meta, &target, size, crc32c);
        let progress = Progress::restored(object.upload.clone(), false);
        Some(Self { parcel, meta, target, progress, is_committed: object.committed.is_some() })
    }

    /// Ships until it is there.
    pub async fn ship(mut self, context: Arc<Context>) {
        if !self.is_committed && !self.send(&context).await {
            return;
        }
        // Facts are acknowledged in order: with this one, all that were told of the files before.
        let Some(sequence) = self.report(&context).await else { return };
        let (output, object) = (self.parcel.output, self.parcel.spec.object);
        match context.spool.record(&output, Record::Reported { object, sequence }).await {
            Ok(()) => context.releases.add(sequence, output, object),
            Err(error) => tracing::warn!(%output, %error, "a shipped manifest stays spooled until a restart"),
        }
    }

    /// None when the fact log is broken, which the node's readiness shows; the spool keeps the document.
    async fn report(&self, context: &Context) -> Option<u64> {
        let target = &self.target;
        let fact = RecordingManifest {
            storage: target.name.parse().ok()?,
            object_key: self.parcel.key.clone(),
            uri: context.uri(target, &self.parcel.key),
            size_bytes: self.parcel.size,
            crc32c: crc32c_base64(self.parcel.crc32c),
        };
        let about = Some((self.meta.recording(), self.meta.epoch()));
        context.facts.report(context.clock.now(), about, fact.into()).await.ok()
    }

    async fn send(&mut self, context: &Context) -> bool {
        let recording = self.parcel.output.recording.clone();
        let mut storage = context.storage(&self.target);
        let mut attempts = storage.attempts();
        let stored = loop {
            let attempted = tokio::select! {
                biased;
                attempted = attempt(context, &storage, &self.parcel, &mut self.progress, None) => attempted,
                () = context.nudge.sent_away(&recording, &self.target, true) => {
                    self.target = destination(context, &self.meta);
                    self.parcel.key = self.meta.key_in(&self.target);
                    self.progress = Progress::default();
                    storage = context.storage(&self.target);
                    attempts = storage.attempts();
                    continue;
                }
            };
            let error = match attempted {
                Ok(stored) => break stored,
                Err(error) => error,
            };
            if error.is_final() {
                tracing::error!(recording = %self.meta.recording(), %error, "the manifest cannot be stored");
                return false;
            }
            storage.failed(&error, &mut attempts).await;
        };
        let (output, object) = (&self.parcel.output, self.parcel.spec.object);
        tracing::info!(recording = %self.meta.recording(), key = self.parcel.key, "manifest stored");
        let record = Record::Committed { object, etag: stored.etag, size: stored.size };
        if let Err(error) = context.spool.record(output, record).await {
            tracing::warn!(%output, %error, "upload of a manifest not noted");
        }
        true
    }
}

/// The recording's own storage, unless somebody has chosen another for what has not arrived.
fn destination(context: &Context, meta: &RecordingMeta) -> Target {
    context.nudge.target(&meta.recording().to_string()).unwrap_or_else(|| meta.output.storage.clone())
}

fn parcel(
    (key, spec): (&OutputKey, mux::ObjectSpec),
    meta: &RecordingMeta,
    target: &Target,
    size: u64,
    crc32c: u32,
) -> Parcel {
    let headers = ObjectMeta::of_type(spec.content_type).cached(CACHE_IMMUTABLE);
    Parcel { output: key.clone(), spec, size, crc32c, key: meta.key_in(target), meta: headers }
}

fn read(key: &OutputKey, meta: serde_json::Value) -> Option<RecordingMeta> {
    let read = serde_json::from_value(meta);
    read.inspect_err(|error| tracing::error!(output = %key, %error, "a manifest stays in the spool")).ok()
}
