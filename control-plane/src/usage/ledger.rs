//! Enters what facts say into the accounts, in their transaction.
use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::{AnyConnection, Result, recordings, usage};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::{EndReason, State};
use recorder_proto::time;

/// Enters a recording as it is now; `at` is when that happened which made it so. A channel is taken from the first frame
/// to the end of the resume window, which costs, too: until its deadline if nobody came back, until whoever ended the
/// recording did so otherwise.
///
/// # Errors
/// When the database fails.
pub fn recording(db: &mut AnyConnection, row: &recordings::Row, body: &v1::Recording, at: DateTime<Utc>) -> Result<()> {
    let known = usage::channel(db, &row.id)?;
    let before = known.as_ref().map(usage::Channel::reduced).transpose()?;
    let begun = known.is_some() || is_running(body.state()) || has_media(body);
    let Some(start) = micros(&body.start_time).filter(|_| begun && body.state() != State::Starting) else {
        return Ok(());
    };
    let reduced = reduce(body, before.as_ref());
    let end_time = match (&known, &before) {
        (Some(known), Some(before)) if is_same_end(before, body) => known.end_time,
        _ => free_at(&reduced, start, time::micros(at)),
    };
    let channel = usage::Channel {
        recording: row.id.clone(),
        domain: row.domain.clone(),
        template: row.template.clone(),
        start_time: start,
        end_time,
        body: reduced.encode_to_vec(),
    };
    if known.as_ref() == Some(&channel) { Ok(()) } else { usage::put_channel(db, &channel) }
}

/// Enters a file as it is now. `epoch` wrote it and calls it by `index`.
///
/// # Errors
/// When the database fails.
pub fn file(
    db: &mut AnyConnection,
    recording: &recordings::Row,
    (epoch, index): (i64, i64),
    file: &v1::File,
) -> Result<()> {
    let start = micros(&file.start_time);
    if let Some(start) = start {
        usage::put_output(db, &recording.id, file.format, start)?;
    }
    let (v1::file::State::Available, Some(available_time)) = (file.state(), micros(&file.available_time)) else {
        return Ok(());
    };
    let start_time = start.unwrap_or(available_time);
    let duration = file.duration.as_ref().and_then(time::std_duration).unwrap_or_default();
    let row = usage::File {
        recording: recording.id.clone(),
        format: file.format,
        epoch,
        epoch_index: index,
        domain: recording.domain.clone(),
        available_time,
        size_bytes: i64::try_from(file.size_bytes).unwrap_or(i64::MAX),
        start_time,
        end_time: micros(&file.end_time).unwrap_or(start_time).max(start_time),
        duration_micros: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
        transcoded: file.audio.as_ref().is_some_and(|audio| audio.transcoded),
    };
    usage::put_file(db, &row)
}

/// What the accounts need of a recording. The deadline of its last window stays with it when it ends in it.
fn reduce(body: &v1::Recording, before: Option<&v1::Recording>) -> v1::Recording {
    let resume_deadline = match body.state() {
        State::Recording => None,
        State::Interrupted => body.resume_deadline,
        _ => before.and_then(|before| before.resume_deadline),
    };
    v1::Recording {
        state: body.state,
        end_reason: body.end_reason,
        start_time: body.start_time,
        end_time: body.end_time,
        resume_deadline,
        media_duration: body.media_duration,
        gaps: body.gaps.clone(),
        ..v1::Recording::default()
    }
}

/// When the channel is free; None while frames come.
fn free_at(reduced: &v1::Recording, start: i64, at: i64) -> Option<i64> {
    let last = micros(&reduced.end_time).unwrap_or(at).max(start);
    let deadline = micros(&reduced.resume_deadline).map(|deadline| deadline.max(last));
    match (reduced.state(), deadline) {
        (State::Recording, _) => None,
        (_, None) => Some(last),
        (State::Interrupted, Some(deadline)) => Some(deadline),
        (_, Some(deadline)) if reduced.end_reason() == EndReason::ResumeTimeout => Some(deadline),
        (_, Some(deadline)) => Some(at.clamp(last, deadline)),
    }
}

/// Whether nothing has changed of how it ended: only its files have.
fn is_same_end(before: &v1::Recording, body: &v1::Recording) -> bool {
    let is_over = |state| !is_running(state) && state != State::Starting;
    is_over(before.state())
        && is_over(body.state())
        && (before.end_reason, before.end_time) == (body.end_reason, body.end_time)
}

fn is_running(state: State) -> bool {
    matches!(state, State::Recording | State::Interrupted)
}

/// A claim that came to nothing has none.
fn has_media(body: &v1::Recording) -> bool {
    body.outputs.iter().any(|output| output.files > 0)
}

fn micros(wire: &Option<prost_types::Timestamp>) -> Option<i64> {
    wire.as_ref().and_then(time::datetime).map(time::micros)
}
