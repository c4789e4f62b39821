//! Facts about recordings: created, moved through their states, settled when their files are.
use prost::Message;
use recorder_db::{recordings, recordings::Row};
use recorder_proto::facts::event_type as kind;
use recorder_proto::facts::{
    RecordingEnded, RecordingInterrupted, RecordingManifest, RecordingResumed, RecordingStarted,
};
use recorder_proto::ids::RecordingId;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::EndReason;
use recorder_proto::{Problem, time};

use super::held::{self, Held};
use super::settle::{advance, settle, state, write};
use super::{Entry, Trouble, deleted, file, presumed, totals};
use crate::directives::{changelog, command};
use crate::domain::recording::{End, Fact};
use crate::feed::{self, Stamp};
use crate::link::claim;
use crate::tasks;
use crate::usage;

/// The first frame was written. A recording whose claim never arrived is created from this fact.
pub(super) fn started(entry: &mut Entry<'_>, started: &RecordingStarted) -> Result<(), Trouble> {
    let (id, held) = held::of_current_epoch(entry)?;
    if entry.fact.epoch.get() == 0 {
        return Err(Problem::invalid_field("epoch", "is missing").into());
    }
    let told = started.to_pb(id, entry.fact.epoch, entry.node);
    match held {
        None if deleted::is_deleted(entry.scribe.db, &id.to_string())? => return Err(held::missing(id)),
        None => create(entry, id, started, told)?,
        Some(mut held) => {
            let (_, _) = state(&held.body).apply(&Fact::Started)?;
            let (manifest, health) = (held.body.manifest.take(), held.body.health.take());
            let origin = told.origin.clone().or(held.body.origin);
            held.body = v1::Recording { origin, manifest, health, ..told };
            held.row.session = started.session.to_string();
            held.row.start_time = time::micros(started.start_time);
            let stamp = entry.scribe.stamp();
            write(&mut entry.scribe, &mut held)?;
            feed::recording(entry.scribe.db, stamp, kind::RECORDING_STARTED, &held.body)?;
        }
    }
    presumed::decline(entry, started, &id.to_string())
}

fn create(
    entry: &mut Entry<'_>,
    id: RecordingId,
    started: &RecordingStarted,
    mut body: v1::Recording,
) -> Result<(), Trouble> {
    body.update_time = Some(time::timestamp(entry.scribe.now));
    let row = Row {
        id: id.to_string(),
        rev: 1,
        domain: started.stream.domain().to_owned(),
        app: started.stream.app().to_owned(),
        stream: started.stream.stream().to_owned(),
        state: body.state,
        epoch: held::told(entry),
        node: entry.node.id().to_owned(),
        template: started.template.id().to_owned(),
        storage: started.storage.id().to_owned(),
        task: body.origin.as_ref().and_then(claim::task),
        session: started.session.to_string(),
        start_time: time::micros(started.start_time),
        update_time: time::micros(entry.scribe.now),
        body: body.encode_to_vec(),
        inherited: None,
    };
    recordings::insert(entry.scribe.db, &row)?;
    if let Some(task) = &row.task {
        tasks::follow(entry.scribe.db, task, entry.scribe.now)?;
    }
    usage::ledger::recording(entry.scribe.db, &row, &body, entry.scribe.at)?;
    let stamp = entry.scribe.stamp();
    feed::recording(entry.scribe.db, Stamp::fresh(entry.scribe.now), feed::RECORDING_CREATED, &body)?;
    Ok(feed::recording(entry.scribe.db, stamp, kind::RECORDING_STARTED, &body)?)
}

/// The publisher was lost; the resume window is open.
pub(super) fn interrupted(entry: &mut Entry<'_>, told: &RecordingInterrupted) -> Result<(), Trouble> {
    let (_, mut held) = held::known(entry)?;
    let fact = Fact::Interrupted { since: told.since, deadline: told.resume_deadline };
    let before = held.row.inherited()?;
    held.body.media_duration = Some(totals::duration(before.media_duration.as_ref(), told.media_duration_micros));
    held.body.outputs = totals::outputs(&held.body.outputs, &before.outputs, &told.outputs);
    advance(&mut entry.scribe, &mut held, &fact)
}

/// The publisher is back, here or on another node.
pub(super) fn resumed(entry: &mut Entry<'_>, told: &RecordingResumed) -> Result<(), Trouble> {
    let (_, mut held) = held::taken_over(entry)?;
    let gap = told.gap.to_pb();
    if !held.body.gaps.iter().any(|known| known.start_time == gap.start_time) {
        held.body.gaps.push(gap);
    }
    held.row.session = told.session.to_string();
    advance(&mut entry.scribe, &mut held, &Fact::Resumed)
}

/// No more frames will come. Whatever files are still open are on their way now.
pub(super) fn ended(entry: &mut Entry<'_>, told: &RecordingEnded) -> Result<(), Trouble> {
    let (id, mut held) = held::known(entry)?;
    let reason = if told.end_reason == EndReason::Unspecified { EndReason::PublisherEnded } else { told.end_reason };
    let end = End { reason, at: told.end_time, cause: told.error.clone() };
    // Checked before anything is written: a refused fact must leave no trace.
    state(&held.body).apply(&Fact::Ended(end.clone()))?;
    let before = state(&held.body).end().cloned();
    let mut whole = folded(&held, told)?;
    if before.as_ref().is_some_and(|before| !before.is_presumed()) {
        // A hole that was told once is never taken back: damage found later may be told of alone.
        whole.gaps = totals::gaps(&held.body.gaps, &told.gaps);
    }
    let known = before.is_some_and(|known| known.reason == end.reason && known.at == end.at);
    if known && whole == held.body {
        return Ok(());
    }
    held.body = whole;
    advance(&mut entry.scribe, &mut held, &Fact::Ended(end))?;
    for output in &told.outputs {
        if let Some(error) = &output.error {
            file::give_up(&mut entry.scribe, &held, output.format, error)?;
        }
    }
    file::close_all(&mut entry.scribe, &held)?;
    for name in command::names_of(&id.to_string()) {
        changelog::remove(entry.scribe.db, &name, entry.scribe.now)?;
    }
    settle(&mut entry.scribe, &mut held)
}

/// The numbers of the whole recording, now that its last epoch has told its own.
fn folded(held: &Held, told: &RecordingEnded) -> Result<v1::Recording, Trouble> {
    let before = held.row.inherited()?;
    let mut body = held.body.clone();
    if held.row.inherited.is_none() {
        body.start_time = Some(time::timestamp(told.start_time));
    }
    body.media_duration = Some(totals::duration(before.media_duration.as_ref(), told.media_duration_micros));
    body.gaps = totals::gaps(&before.gaps, &told.gaps);
    body.outputs = totals::outputs(&body.outputs, &before.outputs, &told.outputs);
    Ok(body)
}

/// The manifest is in the storage. It says what is known already, and that no more files will be told of.
pub(super) fn manifest(entry: &mut Entry<'_>, told: &RecordingManifest) -> Result<(), Trouble> {
    let (_, mut held) = held::known(entry)?;
    held.body.manifest = Some(told.to_pb());
    write(&mut entry.scribe, &mut held)?;
    let stamp = entry.scribe.stamp();
    feed::recording(entry.scribe.db, stamp, kind::RECORDING_MANIFEST, &held.body)?;
    settle(&mut entry.scribe, &mut held)
}
