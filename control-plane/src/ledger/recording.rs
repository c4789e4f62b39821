//! Facts about recordings: created, moved through their states, settled when their files are.
use std::time::Duration;

use prost::Message;
use recorder_db::{files, recordings, recordings::Row};
use recorder_proto::facts::event_type as kind;
use recorder_proto::facts::{
    RecordingEnded, RecordingInterrupted, RecordingManifest, RecordingResumed, RecordingStarted,
};
use recorder_proto::ids::RecordingId;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::{EndReason, State};
use recorder_proto::{Problem, time};
use tonic::Code;

use super::{Entry, Trouble, file};
use crate::directives::{changelog, command};
use crate::domain::Cause;
use crate::domain::recording::{End, Event, Fact, Recording, Tally};
use crate::feed::{self, Stamp};
use crate::link::claim;

/// A recording while a fact is applied to it.
pub(super) struct Held {
    pub(super) row: Row,
    pub(super) body: v1::Recording,
}

/// The recording that the fact is about, if the fact's epoch is the one in force.
pub(super) fn held(entry: &mut Entry<'_>) -> Result<(RecordingId, Option<Held>), Trouble> {
    let id = entry.fact.recording.ok_or_else(|| Problem::invalid_field("recording", "is missing"))?;
    let Some(row) = recordings::get(entry.db, &id.to_string())? else { return Ok((id, None)) };
    let current = u64::try_from(row.epoch).unwrap_or_default();
    if entry.fact.epoch.get() != current || row.node != entry.node.id() {
        return Err(Problem::fenced(&format!("recordings/{id}"), current).into());
    }
    let body = row.recording()?;
    Ok((id, Some(Held { row, body })))
}

/// [`held`] for facts that only make sense about a known recording.
pub(super) fn known(entry: &mut Entry<'_>) -> Result<(RecordingId, Held), Trouble> {
    match held(entry)? {
        (id, Some(held)) => Ok((id, held)),
        (id, None) => Err(Problem::not_found("recording", &format!("recordings/{id}")).into()),
    }
}

/// The first frame was written. A recording whose claim never arrived is created from this fact.
pub(super) fn started(entry: &mut Entry<'_>, started: &RecordingStarted) -> Result<(), Trouble> {
    let (id, held) = held(entry)?;
    if entry.fact.epoch.get() == 0 {
        return Err(Problem::invalid_field("epoch", "is missing").into());
    }
    let told = started.to_pb(id, entry.fact.epoch, entry.node);
    let Some(mut held) = held else { return create(entry, id, started, told) };
    let (_, _) = state(&held.body).apply(&Fact::Started)?;
    held.body = v1::Recording { origin: told.origin.or(held.body.origin), ..told };
    held.row.session = started.session.to_string();
    held.row.start_time = time::micros(started.start_time);
    let stamp = entry.stamp();
    write(entry, &mut held)?;
    Ok(feed::recording(entry.db, stamp, kind::RECORDING_STARTED, &held.body)?)
}

fn create(
    entry: &mut Entry<'_>,
    id: RecordingId,
    started: &RecordingStarted,
    mut body: v1::Recording,
) -> Result<(), Trouble> {
    body.update_time = Some(time::timestamp(entry.now));
    let row = Row {
        id: id.to_string(),
        rev: 1,
        domain: started.stream.domain().to_owned(),
        app: started.stream.app().to_owned(),
        stream: started.stream.stream().to_owned(),
        state: body.state,
        epoch: i64::try_from(entry.fact.epoch.get()).unwrap_or(i64::MAX),
        node: entry.node.id().to_owned(),
        template: started.template.id().to_owned(),
        storage: started.storage.id().to_owned(),
        task: body.origin.as_ref().and_then(claim::task),
        session: started.session.to_string(),
        start_time: time::micros(started.start_time),
        update_time: time::micros(entry.now),
        body: body.encode_to_vec(),
    };
    recordings::insert(entry.db, &row)?;
    let stamp = entry.stamp();
    feed::recording(entry.db, Stamp::fresh(entry.now), feed::RECORDING_CREATED, &body)?;
    Ok(feed::recording(entry.db, stamp, kind::RECORDING_STARTED, &body)?)
}

/// The publisher was lost; the resume window is open.
pub(super) fn interrupted(entry: &mut Entry<'_>, told: &RecordingInterrupted) -> Result<(), Trouble> {
    let (_, mut held) = known(entry)?;
    let fact = Fact::Interrupted { since: told.since, deadline: told.resume_deadline };
    held.body.media_duration = Some(micros(told.media_duration_micros));
    if !told.outputs.is_empty() {
        held.body.outputs = told.outputs.iter().map(recorder_proto::facts::OutputTotals::to_pb).collect();
    }
    advance(entry, &mut held, &fact)
}

/// The publisher is back.
pub(super) fn resumed(entry: &mut Entry<'_>, told: &RecordingResumed) -> Result<(), Trouble> {
    let (_, mut held) = known(entry)?;
    held.body.gaps.push(told.gap.to_pb());
    held.row.session = told.session.to_string();
    advance(entry, &mut held, &Fact::Resumed)
}

/// No more frames will come. Whatever files are still open are on their way now.
pub(super) fn ended(entry: &mut Entry<'_>, told: &RecordingEnded) -> Result<(), Trouble> {
    let (id, mut held) = known(entry)?;
    let reason = if told.end_reason == EndReason::Unspecified { EndReason::PublisherEnded } else { told.end_reason };
    let end = End { reason, at: told.end_time, cause: told.error.clone() };
    // Checked before anything is written: a refused fact must leave no trace.
    state(&held.body).apply(&Fact::Ended(end.clone()))?;
    held.body.start_time = Some(time::timestamp(told.start_time));
    held.body.media_duration = Some(micros(told.media_duration_micros));
    held.body.gaps = told.gaps.iter().map(recorder_proto::facts::GapSpan::to_pb).collect();
    for output in &told.outputs {
        let total = output.to_pb();
        match held.body.outputs.iter_mut().find(|known| known.format == total.format) {
            // What has been uploaded is counted here, file by file.
            Some(known) => {
                let uploaded = known.bytes_uploaded.max(total.bytes_uploaded);
                *known = v1::recording::Output { bytes_uploaded: uploaded, ..total };
            }
            None => held.body.outputs.push(total),
        }
    }
    advance(entry, &mut held, &Fact::Ended(end))?;
    file::close_all(entry, &held.body, &id.to_string())?;
    changelog::remove(entry.db, &command::stop_name(&id.to_string()), entry.now)?;
    settle(entry, &mut held)
}

/// The manifest is in the storage. It says what is known already: no state depends on it.
pub(super) fn manifest(entry: &mut Entry<'_>, told: &RecordingManifest) -> Result<(), Trouble> {
    let (_, mut held) = known(entry)?;
    held.body.manifest = Some(told.to_pb());
    write(entry, &mut held)?;
    let stamp = entry.stamp();
    Ok(feed::recording(entry.db, stamp, kind::RECORDING_MANIFEST, &held.body)?)
}

/// Counts the files again and moves the recording on if that decides something.
pub(super) fn settle(entry: &mut Entry<'_>, held: &mut Held) -> Result<(), Trouble> {
    let tally = tally(entry, held)?;
    let before = held.body.state;
    let (next, events) = state(&held.body).apply(&Fact::Files(tally))?;
    show(&mut held.body, &next);
    if held.body.state == before {
        return Ok(());
    }
    write(entry, held)?;
    for event in events {
        tell(entry, held, event)?;
    }
    Ok(())
}

/// Writes the recording back; the caller has changed row or body.
pub(super) fn write(entry: &mut Entry<'_>, held: &mut Held) -> Result<(), Trouble> {
    held.body.update_time = Some(time::timestamp(entry.now));
    held.row.state = held.body.state;
    held.row.update_time = time::micros(entry.now);
    held.row.body = held.body.encode_to_vec();
    recordings::update(entry.db, &held.row)?;
    held.row.rev += 1;
    Ok(())
}

fn advance(entry: &mut Entry<'_>, held: &mut Held, fact: &Fact) -> Result<(), Trouble> {
    let (next, events) = state(&held.body).apply(fact)?;
    show(&mut held.body, &next);
    write(entry, held)?;
    for event in events {
        tell(entry, held, event)?;
    }
    Ok(())
}

fn tell(entry: &mut Entry<'_>, held: &Held, event: Event) -> Result<(), Trouble> {
    let name = match event {
        Event::Started => kind::RECORDING_STARTED,
        Event::Interrupted => kind::RECORDING_INTERRUPTED,
        Event::Resumed => kind::RECORDING_RESUMED,
        Event::Split => kind::RECORDING_SPLIT,
        Event::Ended => kind::RECORDING_ENDED,
        Event::Failed => kind::RECORDING_FAILED,
        Event::Updated => feed::RECORDING_UPDATED,
    };
    let stamp = entry.stamp();
    Ok(feed::recording(entry.db, stamp, name, &held.body)?)
}

fn tally(entry: &mut Entry<'_>, held: &Held) -> Result<Tally, Trouble> {
    use v1::file::State as Of;
    let mut tally = Tally::default();
    let rows = files::of_recording(entry.db, &held.row.id)?;
    // The node knows how many files there are; one that never became known here cannot be called delivered.
    for output in &held.body.outputs {
        let known = rows.iter().filter(|row| row.format == output.format).count();
        let lost = output.files.saturating_sub(u32::try_from(known).unwrap_or(u32::MAX));
        if lost > 0 {
            tally.missing += lost;
            tally.cause.get_or_insert_with(unknown_file);
        }
    }
    for row in rows {
        match Of::try_from(row.state).unwrap_or_default() {
            Of::Open | Of::Uploading | Of::Unspecified => tally.pending += 1,
            Of::Available | Of::Deleted => tally.available += 1,
            Of::Failed | Of::Lost => {
                tally.missing += 1;
                let error = row.file()?.error;
                tally.cause = tally.cause.or(error.map(|error| Cause::from(&Problem::from(&error))));
            }
        }
    }
    // An output that failed as a whole may have left no file to count.
    for error in held.body.outputs.iter().filter_map(|output| output.error.as_ref()) {
        tally.missing += 1;
        tally.cause.get_or_insert_with(|| Cause::from(&Problem::from(error)));
    }
    tally.holes = held.body.gaps.iter().any(|gap| gap.reason() != v1::gap::Reason::PublisherLost);
    Ok(tally)
}

fn unknown_file() -> Cause {
    crate::domain::cause(Code::DataLoss, "FILE_UNKNOWN", "the node counted a file that it never reported")
}

/// The state machine's view of a recording.
pub(super) fn state(body: &v1::Recording) -> Recording {
    let at = |wire: &Option<prost_types::Timestamp>| wire.as_ref().and_then(time::datetime).unwrap_or_default();
    let end = || End {
        reason: body.end_reason(),
        at: at(&body.end_time),
        cause: body.error.as_ref().map(|error| Cause::from(&Problem::from(error))),
    };
    match body.state() {
        State::Starting | State::Unspecified => Recording::Starting,
        State::Recording => Recording::Recording,
        State::Interrupted => Recording::Interrupted { since: at(&body.end_time), deadline: at(&body.resume_deadline) },
        State::Finalizing => Recording::Finalizing(end()),
        State::Succeeded => Recording::Succeeded(end()),
        State::Incomplete => Recording::Incomplete(end()),
        State::Failed => Recording::Failed(end()),
    }
}

/// The API's view of a state.
fn show(body: &mut v1::Recording, state: &Recording) {
    body.set_state(match state {
        Recording::Starting => State::Starting,
        Recording::Recording => State::Recording,
        Recording::Interrupted { .. } => State::Interrupted,
        Recording::Finalizing(_) => State::Finalizing,
        Recording::Succeeded(_) => State::Succeeded,
        Recording::Incomplete(_) => State::Incomplete,
        Recording::Failed(_) => State::Failed,
    });
    let (end_time, deadline) = match state {
        Recording::Interrupted { since, deadline } => (Some(*since), Some(*deadline)),
        state => (state.end().map(|end| end.at), None),
    };
    body.end_time = end_time.map(time::timestamp);
    body.resume_deadline = deadline.map(time::timestamp);
    body.set_end_reason(state.end().map_or(EndReason::Unspecified, |end| end.reason));
    body.error = state.end().and_then(|end| end.cause.as_ref()).map(Into::into);
}

fn micros(micros: u64) -> prost_types::Duration {
    time::duration(Duration::from_micros(micros))
}
