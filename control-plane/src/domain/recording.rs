//! The life of a recording: which facts may follow which, and what each one means (architecture A.11).
//!
//! Nothing is terminal until it is in the bucket: a recording that ended stays in [`Recording::Finalizing`] until
//! every one of its files is settled, and only [`Tally`] can settle it.
use chrono::{DateTime, Utc};
use recorder_proto::pb::v1::recording::EndReason;

use super::{Cause, Illegal};

/// Where a recording stands; what only some states know lives in those variants.
#[derive(Debug, Clone, PartialEq)]
pub enum Recording {
    /// Claimed by a node; no frame has been written yet.
    Starting,
    /// Frames are being written.
    Recording,
    /// The publisher is away; the recording goes on if it returns in time.
    Interrupted {
        /// When the last frame came.
        since: DateTime<Utc>,
        /// When the recording is finished without it.
        deadline: DateTime<Utc>,
    },
    /// Ended; files are still being closed or shipped.
    Finalizing(End),
    /// Every file is in the bucket and nothing that was received is missing.
    Succeeded(End),
    /// Playable, but with gaps or a lost output.
    Incomplete(End),
    /// Nothing that could be played exists; [`End::cause`] says why.
    Failed(End),
}

/// How a recording came to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// What ended it.
    pub reason: EndReason,
    /// When the last frame was taken.
    pub at: DateTime<Utc>,
    /// What went wrong, when something did.
    pub cause: Option<Cause>,
}

impl End {
    /// The end that is presumed of a recording whose node is not heard of.
    pub fn presumed(at: DateTime<Utc>, message: &str) -> Self {
        let cause = super::cause(tonic::Code::Unavailable, PRESUMED, message);
        Self { reason: EndReason::NodeLost, at, cause: Some(cause) }
    }

    /// [`End::presumed`], of a recording that somebody wanted to end. Its node never heard: if it returns, it has to.
    pub fn presumed_stopped(at: DateTime<Utc>, message: &str) -> Self {
        Self { reason: EndReason::Stopped, ..Self::presumed(at, message) }
    }

    /// Whether nobody who knows has said so: the node's word outweighs it.
    pub fn is_presumed(&self) -> bool {
        matches!(self.reason, EndReason::NodeLost | EndReason::Stopped)
            && self.cause.as_ref().is_some_and(|cause| cause.reason == PRESUMED)
    }
}

/// The reason given in the error of a recording whose end is presumed.
const PRESUMED: &str = "NODE_LOST";

/// What can happen to a recording.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The first frame was taken.
    Started,
    /// The publisher was lost; the resume window is open.
    Interrupted {
        /// When the last frame came.
        since: DateTime<Utc>,
        /// When the window closes.
        deadline: DateTime<Utc>,
    },
    /// The publisher is back, or another node took over.
    Resumed,
    /// Every output was cut at a key frame and goes on in new files.
    Split,
    /// No more frames will be taken.
    Ended(End),
    /// The state of all its files, counted after each change to one of them.
    Files(Tally),
}

/// The files of one recording, counted by what became of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Open or being uploaded.
    pub pending: u32,
    /// In the bucket.
    pub available: u32,
    /// Failed or lost.
    pub missing: u32,
    /// The recording has a hole that is the recorder's doing, not the publisher's.
    pub holes: bool,
    /// Why the first missing file is missing.
    pub cause: Option<Cause>,
}

/// What a change of state is told to watchers and webhooks as (api B.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `recording.started`
    Started,
    /// `recording.interrupted`
    Interrupted,
    /// `recording.resumed`
    Resumed,
    /// `recording.split`
    Split,
    /// `recording.ended`: no more frames; files may still be on their way.
    Ended,
    /// `recording.failed`
    Failed,
    /// Nothing with a name of its own: watchers see UPDATED.
    Updated,
}

impl Recording {
    /// The state after a fact and what to tell about it; [`Illegal`] when this fact cannot follow this state, which
    /// leaves everything as it was.
    pub fn apply(self, fact: &Fact) -> Result<(Self, Vec<Event>), Illegal> {
        match (self, fact) {
            (Self::Starting, Fact::Started) => Ok((Self::Recording, vec![Event::Started])),
            (Self::Starting | Self::Recording, Fact::Interrupted { since, deadline }) => {
                Ok((Self::Interrupted { since: *since, deadline: *deadline }, vec![Event::Interrupted]))
            }
            // The node has started anew and waits for longer than it said before.
            (Self::Interrupted { .. }, Fact::Interrupted { since, deadline }) => {
                Ok((Self::Interrupted { since: *since, deadline: *deadline }, vec![Event::Updated]))
            }
            // A takeover after a crash resumes what nobody saw interrupted, or even started.
            (Self::Starting | Self::Recording | Self::Interrupted { .. }, Fact::Resumed) => {
                Ok((Self::Recording, vec![Event::Resumed]))
            }
            (state @ (Self::Recording | Self::Interrupted { .. }), Fact::Split) => Ok((state, vec![Event::Split])),
            (Self::Starting | Self::Recording | Self::Interrupted { .. }, Fact::Ended(end)) => {
                Ok((Self::Finalizing(end.clone()), vec![Event::Ended]))
            }
            // Nobody had heard of its node; now the node itself says what is true.
            (state, fact) if state.end().is_some_and(End::is_presumed) && fact.is_of_node() => state.revived(fact),
            // The same end told in more detail; settled anew by its files.
            (Self::Finalizing(_) | Self::Succeeded(_) | Self::Incomplete(_) | Self::Failed(_), Fact::Ended(end)) => {
                Ok((Self::Finalizing(end.clone()), vec![Event::Updated]))
            }
            (Self::Finalizing(end), Fact::Files(tally)) => Ok(settle(end, tally)),
            // Retried uploads, or a late output, reopen what was settled.
            (Self::Succeeded(end) | Self::Incomplete(end) | Self::Failed(end), Fact::Files(tally)) => {
                Ok(settle(end, tally))
            }
            (state, Fact::Files(_)) => Ok((state, vec![Event::Updated])),
            (state, fact) => Err(Illegal { state: state.name(), fact: fact.name() }),
        }
    }

    /// A presumed end is undone by whatever the node does next.
    fn revived(self, fact: &Fact) -> Result<(Self, Vec<Event>), Illegal> {
        match fact {
            Fact::Started => Ok((Self::Recording, vec![Event::Started])),
            Fact::Resumed => Ok((Self::Recording, vec![Event::Resumed])),
            Fact::Interrupted { since, deadline } => {
                Ok((Self::Interrupted { since: *since, deadline: *deadline }, vec![Event::Interrupted]))
            }
            Fact::Ended(end) => Ok((Self::Finalizing(end.clone()), vec![Event::Ended])),
            Fact::Split | Fact::Files(_) => Err(Illegal { state: self.name(), fact: fact.name() }),
        }
    }

    /// Whether it will not change any more by itself.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Incomplete(_) | Self::Failed(_))
    }

    /// How it ended, once it has.
    pub fn end(&self) -> Option<&End> {
        match self {
            Self::Finalizing(end) | Self::Succeeded(end) | Self::Incomplete(end) | Self::Failed(end) => Some(end),
            Self::Starting | Self::Recording | Self::Interrupted { .. } => None,
        }
    }

    /// The name of the state as the API spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Recording => "RECORDING",
            Self::Interrupted { .. } => "INTERRUPTED",
            Self::Finalizing(_) => "FINALIZING",
            Self::Succeeded(_) => "SUCCEEDED",
            Self::Incomplete(_) => "INCOMPLETE",
            Self::Failed(_) => "FAILED",
        }
    }
}

impl Fact {
    /// Whether only the node that records can tell.
    fn is_of_node(&self) -> bool {
        matches!(self, Self::Started | Self::Interrupted { .. } | Self::Resumed | Self::Ended(_))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Started => "recording.started",
            Self::Interrupted { .. } => "recording.interrupted",
            Self::Resumed => "recording.resumed",
            Self::Split => "recording.split",
            Self::Ended(_) => "recording.ended",
            Self::Files(_) => "files",
        }
    }
}

/// Decides what an ended recording is worth; a recording of which nothing arrived is a failure whatever its end was.
fn settle(mut end: End, tally: &Tally) -> (Recording, Vec<Event>) {
    if tally.pending > 0 {
        return (Recording::Finalizing(end), vec![Event::Updated]);
    }
    if tally.available == 0 {
        let cause = tally.cause.clone().unwrap_or_else(super::no_media);
        end.cause.get_or_insert(cause);
        return (Recording::Failed(end), vec![Event::Failed]);
    }
    if tally.missing == 0 && !tally.holes && end.reason != EndReason::Error && !end.is_presumed() {
        end.cause = None;
        return (Recording::Succeeded(end), vec![Event::Updated]);
    }
    if end.cause.is_none() {
        end.cause = tally.cause.clone();
    }
    (Recording::Incomplete(end), vec![Event::Updated])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cause;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn end(reason: EndReason) -> End {
        End { reason, at: at(9), cause: None }
    }

    fn states() -> Vec<Recording> {
        let ended = end(EndReason::PublisherEnded);
        vec![
            Recording::Starting,
            Recording::Recording,
            Recording::Interrupted { since: at(1), deadline: at(31) },
            Recording::Finalizing(ended.clone()),
            Recording::Succeeded(ended.clone()),
            Recording::Incomplete(ended.clone()),
            Recording::Failed(ended),
        ]
    }

    /// Every kind of fact; the four tallies are pending, all arrived, one missing, none arrived.
    fn facts() -> Vec<(&'static str, Fact)> {
        let tally =
            |pending, available, missing| Fact::Files(Tally { pending, available, missing, holes: false, cause: None });
        vec![
            ("started", Fact::Started),
            ("interrupted", Fact::Interrupted { since: at(1), deadline: at(31) }),
            ("resumed", Fact::Resumed),
            ("split", Fact::Split),
            ("ended", Fact::Ended(end(EndReason::PublisherEnded))),
            ("pending", tally(1, 1, 0)),
            ("arrived", tally(0, 2, 0)),
            ("missing", tally(0, 1, 1)),
            ("nothing", tally(0, 0, 0)),
        ]
    }

    /// The whole table, state by fact; `-` is illegal. The README's diagram is drawn from it.
    const TABLE: &str = "\
             started    interrupted resumed   split       ended      pending     arrived    missing    nothing
STARTING     RECORDING  INTERRUPTED RECORDING -           FINALIZING STARTING    STARTING   STARTING   STARTING
RECORDING    -          INTERRUPTED RECORDING RECORDING   FINALIZING RECORDING   RECORDING  RECORDING  RECORDING
INTERRUPTED  -          INTERRUPTED RECORDING INTERRUPTED FINALIZING INTERRUPTED INTERRUPTED INTERRUPTED INTERRUPTED
FINALIZING   -          -           -         -           FINALIZING FINALIZING  SUCCEEDED  INCOMPLETE FAILED
SUCCEEDED    -          -           -         -           FINALIZING FINALIZING  SUCCEEDED  INCOMPLETE FAILED
INCOMPLETE   -          -           -         -           FINALIZING FINALIZING  SUCCEEDED  INCOMPLETE FAILED
FAILED       -          -           -         -           FINALIZING FINALIZING  SUCCEEDED  INCOMPLETE FAILED
";

    #[test]
    fn every_state_and_fact_is_as_the_table_says() {
        let mut lines = TABLE.lines();
        let columns: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(columns, facts().iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (state, line) in states().into_iter().zip(lines) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(cells[0], state.name());
            assert_eq!(cells.len(), columns.len() + 1, "{line}");
            for ((name, fact), expected) in facts().into_iter().zip(&cells[1..]) {
                let outcome = match state.clone().apply(&fact) {
                    Ok((next, _)) => next.name(),
                    Err(Illegal { state: refused, .. }) => {
                        assert_eq!(refused, state.name());
                        "-"
                    }
                };
                assert_eq!(outcome, *expected, "{} x {name}", state.name());
            }
        }
    }

    #[test]
    fn success_requires_every_file_and_no_hole() {
        let finalizing = Recording::Finalizing(end(EndReason::PublisherEnded));
        let arrived = Tally { available: 3, ..Tally::default() };
        let (state, events) = finalizing.clone().apply(&Fact::Files(arrived.clone())).unwrap();
        assert_eq!((state, events), (Recording::Succeeded(end(EndReason::PublisherEnded)), vec![Event::Updated]));
        let holes = Tally { holes: true, ..arrived.clone() };
        let (state, _) = finalizing.apply(&Fact::Files(holes)).unwrap();
        assert_eq!(state.name(), "INCOMPLETE");
        let (state, _) = Recording::Finalizing(end(EndReason::Error)).apply(&Fact::Files(arrived)).unwrap();
        assert_eq!(state.name(), "INCOMPLETE", "an error is never a success, even if its files arrived");
    }

    #[test]
    fn a_recording_without_any_file_says_why_it_failed() {
        let finalizing = Recording::Finalizing(end(EndReason::PublisherEnded));
        let (state, events) = finalizing.clone().apply(&Fact::Files(Tally::default())).unwrap();
        assert_eq!(events, vec![Event::Failed]);
        assert_eq!(state.end().unwrap().cause.as_ref().unwrap().reason, "NO_MEDIA");
        let denied = cause(tonic::Code::PermissionDenied, "ACCESS_DENIED", "AccessDenied: no s3:PutObject");
        let tally = Tally { missing: 1, cause: Some(denied.clone()), ..Tally::default() };
        let (state, _) = finalizing.apply(&Fact::Files(tally)).unwrap();
        assert_eq!(state.end().unwrap().cause, Some(denied));
    }

    #[test]
    fn a_presumed_end_gives_way_to_whatever_the_node_says() {
        let lost = End::presumed(at(9), "not heard of");
        let arrived = Fact::Files(Tally { available: 2, ..Tally::default() });
        let (settled, _) = Recording::Finalizing(lost.clone()).apply(&arrived).unwrap();
        assert_eq!(settled, Recording::Incomplete(lost.clone()), "what is there can be played; whether it is all?");
        for ended in [Recording::Finalizing(lost.clone()), settled, Recording::Failed(lost)] {
            let next = |fact: &Fact| ended.clone().apply(fact).unwrap().0.name();
            assert_eq!(next(&Fact::Started), "RECORDING");
            assert_eq!(next(&Fact::Resumed), "RECORDING");
            assert_eq!(next(&Fact::Interrupted { since: at(1), deadline: at(2) }), "INTERRUPTED");
            let told = Fact::Ended(end(EndReason::PublisherEnded));
            let (state, _) = ended.clone().apply(&told).unwrap().0.apply(&arrived).unwrap();
            assert_eq!(state, Recording::Succeeded(end(EndReason::PublisherEnded)));
        }
    }

    #[test]
    fn uploads_that_were_retried_turn_incomplete_into_success() {
        let cause = Some(cause(tonic::Code::Unavailable, "STORAGE", "SlowDown"));
        let incomplete = Recording::Incomplete(End { cause, ..end(EndReason::PublisherEnded) });
        let (reopened, _) =
            incomplete.apply(&Fact::Files(Tally { pending: 1, available: 1, ..Tally::default() })).unwrap();
        assert!(!reopened.is_terminal());
        let (state, _) = reopened.apply(&Fact::Files(Tally { available: 2, ..Tally::default() })).unwrap();
        assert_eq!(state, Recording::Succeeded(end(EndReason::PublisherEnded)), "the old complaint is gone");
    }
}
