//! What a recording is worth: its state machine between database and API, and the count of its files that decides.
use prost::Message;
use recorder_db::{files, recordings};
use recorder_proto::facts::event_type as kind;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::{EndReason, State};
use recorder_proto::{Problem, time};
use tonic::Code;

use super::held::Held;
use super::{Scribe, Trouble};
use crate::directives::{changelog, command};
use crate::domain::Cause;
use crate::domain::recording::{End, Event, Fact, Recording, Tally};
use crate::feed;
use crate::tasks;
use crate::usage;

/// Applies what happened, writes the recording and tells of it.
pub(super) fn advance(scribe: &mut Scribe<'_>, held: &mut Held, fact: &Fact) -> Result<(), Trouble> {
    let (next, events) = state(&held.body).apply(fact)?;
    show(&mut held.body, &next);
    write(scribe, held)?;
    for event in events {
        tell(scribe, held, event)?;
    }
    Ok(())
}

/// Counts the files again and moves the recording on if that decides something.
pub(super) fn settle(scribe: &mut Scribe<'_>, held: &mut Held) -> Result<(), Trouble> {
    let tally = tally(scribe, held)?;
    let before = held.body.clone();
    let (next, events) = state(&held.body).apply(&Fact::Files(tally))?;
    show(&mut held.body, &next);
    if next.is_terminal() {
        changelog::remove(scribe.db, &command::retry_name(&held.row.id), scribe.now)?;
    }
    if held.body == before {
        return Ok(());
    }
    write(scribe, held)?;
    for event in events {
        tell(scribe, held, event)?;
    }
    Ok(())
}

/// Writes the recording back; the caller has changed row or body.
pub(super) fn write(scribe: &mut Scribe<'_>, held: &mut Held) -> Result<(), Trouble> {
    held.body.update_time = Some(time::timestamp(scribe.now));
    let before = std::mem::replace(&mut held.row.state, held.body.state);
    held.row.update_time = time::micros(scribe.now);
    held.row.body = held.body.encode_to_vec();
    recordings::update(scribe.db, &held.row)?;
    held.row.rev += 1;
    if let Some(task) = held.row.task.as_ref().filter(|_| before != held.row.state) {
        tasks::follow(scribe.db, task, scribe.now)?;
    }
    Ok(usage::ledger::recording(scribe.db, &held.row, &held.body, scribe.at)?)
}

fn tell(scribe: &mut Scribe<'_>, held: &Held, event: Event) -> Result<(), Trouble> {
    let name = match event {
        Event::Started => kind::RECORDING_STARTED,
        Event::Interrupted => kind::RECORDING_INTERRUPTED,
        Event::Resumed => kind::RECORDING_RESUMED,
        Event::Split => kind::RECORDING_SPLIT,
        Event::Ended => kind::RECORDING_ENDED,
        Event::Failed => kind::RECORDING_FAILED,
        Event::Updated => feed::RECORDING_UPDATED,
    };
    let stamp = scribe.stamp();
    Ok(feed::recording(scribe.db, stamp, name, &held.body)?)
}

fn tally(scribe: &mut Scribe<'_>, held: &Held) -> Result<Tally, Trouble> {
    use v1::file::State as Of;
    let mut tally = Tally::default();
    let rows = files::of_recording(scribe.db, &held.row.id)?;
    // The node knows how many files there are. One that is not known here may still be told of: the shipping that tells of
    // files is behind the recording that tells of its end. The manifest is the last that it tells; a file that never
    // became known by then cannot be called delivered.
    let is_told = held.body.manifest.is_some();
    for output in &held.body.outputs {
        let known = rows.iter().filter(|row| row.format == output.format).count();
        let lost = output.files.saturating_sub(u32::try_from(known).unwrap_or(u32::MAX));
        if lost > 0 && !is_told {
            tally.pending += lost;
        } else if lost > 0 {
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
pub(super) fn show(body: &mut v1::Recording, state: &Recording) {
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
