//! Recording tasks: what may be ordered, and how far one has come (architecture A.11).
//!
//! The state of a task is no memory of its own: it follows from its times and from the recordings it has made, so that a
//! timer that fires late, or a node that reports late, leads to the same state as one in time.
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_proto::names::{StreamKey, TemplateName};
use recorder_proto::pb::v1::Task;
use recorder_proto::pb::v1::task::State;
use recorder_proto::problem::Violations;
use recorder_proto::{limits, time};

use crate::api::validate;

/// A start so long ago counts as now: clocks of callers differ from the server's.
const START_TOLERANCE: TimeDelta = TimeDelta::seconds(60);

/// A stream that was live when its task was over may have been recorded although no fact has told so yet.
pub const GRACE: TimeDelta = TimeDelta::seconds(10);

/// An order that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct Ordered {
    /// What to record.
    pub stream: StreamKey,
    /// How; the template of tasks that name none is filled in.
    pub template: TemplateName,
    /// From when.
    pub start: DateTime<Utc>,
    /// Until when.
    pub end: DateTime<Utc>,
}

/// Reads an order given at `now`; every violation is noted under `task.`.
pub fn ordered(
    given: &Task,
    default_template: &str,
    now: DateTime<Utc>,
    violations: &mut Violations,
) -> Option<Ordered> {
    let stream = match &given.stream {
        Some(stream) => violations.take("task.stream", StreamKey::try_from(stream)),
        None => {
            violations.add("task.stream", "is required");
            None
        }
    };
    let template = match given.template.as_str() {
        "" => default_template.parse::<TemplateName>().ok(),
        named => violations.take("task.template", named.parse::<TemplateName>()),
    };
    validate::labels(violations, "task.labels", &given.labels);
    let (start, end) = times(given, now, violations)?;
    Some(Ordered { stream: stream?, template: template?, start, end })
}

fn times(given: &Task, now: DateTime<Utc>, violations: &mut Violations) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let horizon = now + span(limits::TASK_HORIZON_MAX);
    let start = match &given.start_time {
        None => now,
        Some(wire) => {
            let asked = read(wire, "task.start_time", violations)?;
            let ahead = time::text(limits::TASK_HORIZON_MAX);
            let sound = (now - START_TOLERANCE..=horizon).contains(&asked);
            let shown = asked.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
            violations.check(sound, "task.start_time", format!("must be from now to {ahead} ahead, got {shown}"));
            asked.max(now)
        }
    };
    let end = match &given.end_time {
        None => (start + span(limits::TASK_DURATION_DEFAULT)).min(horizon),
        Some(wire) => read(wire, "task.end_time", violations)?,
    };
    let shown = end.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    let (ahead, longest) = (time::text(limits::TASK_HORIZON_MAX), time::text(limits::TASK_DURATION_MAX));
    // One of them is enough to hear of.
    let _ =
        violations.check(end > start, "task.end_time", format!("must be after the start and after now, got {shown}"))
            && violations.check(end <= horizon, "task.end_time", format!("must be at most {ahead} ahead, got {shown}"))
            && violations.check(
                end - start <= span(limits::TASK_DURATION_MAX),
                "task.end_time",
                format!("must be at most {longest} after the start, got {shown}"),
            );
    Some((start, end))
}

fn read(wire: &prost_types::Timestamp, field: &str, violations: &mut Violations) -> Option<DateTime<Utc>> {
    let read = time::datetime(wire);
    violations.check(read.is_some(), field, "must be a time between the years 1 and 9999");
    read
}

fn span(span: Duration) -> TimeDelta {
    TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)
}

/// When a task records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From when.
    pub start: DateTime<Utc>,
    /// Until when.
    pub end: DateTime<Utc>,
    /// When it was stopped before its end.
    pub stopped: Option<DateTime<Utc>>,
    /// It was withdrawn before it began.
    pub withdrawn: bool,
}

impl Times {
    /// When it is, or was, over.
    pub fn over(&self) -> DateTime<Utc> {
        self.stopped.map_or(self.end, |stopped| stopped.min(self.end))
    }
}

/// What has come of a task so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// It has a recording.
    pub any: bool,
    /// One of them goes on.
    pub running: bool,
    /// One of them has ended, and its files are on their way.
    pub finishing: bool,
    /// One of them has failed, or lacks a file.
    pub failed: bool,
    /// Without a recording: a node refuses the task.
    pub refused: bool,
    /// Without a recording: somebody publishes the stream.
    pub live: bool,
}

/// How far a task has come at `now`.
pub fn state(times: &Times, made: Made, now: DateTime<Utc>) -> State {
    if times.withdrawn {
        return State::Cancelled;
    }
    let over = now >= times.over();
    match made {
        Made { running: true, .. } if over => State::Stopping,
        Made { running: true, .. } => State::Running,
        _ if !over && now < times.start => State::Scheduled,
        _ if !over => State::AwaitingStream,
        Made { finishing: true, .. } => State::Stopping,
        Made { any: true, failed: true, .. } => State::Failed,
        Made { any: true, .. } => State::Succeeded,
        Made { refused: true, .. } => State::Failed,
        Made { live: true, .. } if now < times.over() + GRACE => State::Stopping,
        _ => State::Expired,
    }
}

/// When a timer has to look again at a task in this state; `None` = only a fact changes it.
pub fn due(times: &Times, state: State, made: Made) -> Option<DateTime<Utc>> {
    match state {
        State::Scheduled => Some(times.start.min(times.over())),
        State::AwaitingStream | State::Running => Some(times.over()),
        State::Stopping if !made.any => Some(times.over() + GRACE),
        _ => None,
    }
}

/// Whether media nodes have to know of a task in this state.
pub fn is_open(state: State) -> bool {
    OPEN.contains(&state)
}

/// The states in which a task records, or may yet.
pub const OPEN: [State; 3] = [State::Scheduled, State::AwaitingStream, State::Running];

/// The most of these spans (each from, until) that cover one moment of `within`.
pub fn most_at_once(spans: &[(i64, i64)], within: (i64, i64)) -> usize {
    let overlapping: Vec<_> = spans.iter().filter(|(from, until)| *from < within.1 && *until > within.0).collect();
    // The count only grows where a span begins.
    let moments = overlapping.iter().map(|(from, _)| (*from).max(within.0));
    let at = |moment: i64| overlapping.iter().filter(|(from, until)| *from <= moment && *until > moment).count();
    moments.map(at).max().unwrap_or(0)
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
