//! The promises of the system, R-1 to R-12 of its reliability design, as plain predicates: the same words are used by
//! unit tests, by whole-system tests that look into a bucket, and by checks in production.

mod media;
mod storage;

pub use media::{FrameSpan, drift_bounded, every_frame_once, timestamps_increase};
pub use storage::{
    ObjectFacts, available_when_confirmed, keys_unique, no_upload_open, playlist_entries_exist, playlist_grows,
    spool_may_go, target_duration_holds,
};

use crate::ids::{Epoch, Sequence};

/// A promise that does not hold, with what shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule} broken: {evidence}")]
pub struct Broken {
    /// The promise, e.g. `R-2`.
    pub rule: &'static str,
    /// What shows it, for a person to start from.
    pub evidence: String,
}

/// Whether a promise holds.
pub type Held = Result<(), Broken>;

fn broken(rule: &'static str, evidence: impl Into<String>) -> Held {
    Err(Broken { rule, evidence: evidence.into() })
}

/// at most one epoch's facts are accepted at a time, and epochs only grow. Gives the epoch in force afterwards.
///
/// # Errors
/// When the offered epoch has been overtaken; its facts are to be refused.
pub fn epoch_accepted(current: Epoch, offered: Epoch) -> Result<Epoch, Broken> {
    if offered >= current {
        return Ok(offered);
    }
    Err(Broken { rule: "R-5", evidence: format!("epoch {offered} was overtaken by {current}") })
}

/// a stale epoch never deletes, aborts or overwrites.
///
/// # Errors
/// When `own` is not the epoch in force.
pub fn may_destroy(own: Epoch, current: Epoch) -> Held {
    if own == current { Ok(()) } else { broken("R-6", format!("epoch {own} acts while {current} is in force")) }
}

/// events reach a watcher gap-free and in order.
///
/// # Errors
/// At the first event that is out of order, doubled, or follows a gap.
pub fn events_gap_free(resumed_after: Sequence, seen: impl IntoIterator<Item = Sequence>) -> Held {
    let mut last = resumed_after;
    for sequence in seen {
        if sequence != last.next() {
            return broken("R-11", format!("event {sequence} came after {last}"));
        }
        last = sequence;
    }
    Ok(())
}

/// memory and queues are bounded by configuration, not by publishers.
///
/// # Errors
/// When more is held than the bound allows.
pub fn within_bound(what: &str, held: u64, bound: u64) -> Held {
    if held <= bound { Ok(()) } else { broken("R-12", format!("{what} holds {held} of at most {bound}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_epochs_only_grow() {
        assert_eq!(epoch_accepted(Epoch(2), Epoch(2)), Ok(Epoch(2)));
        assert_eq!(epoch_accepted(Epoch(2), Epoch(5)), Ok(Epoch(5)));
        assert_eq!(
            epoch_accepted(Epoch(2), Epoch(1)).unwrap_err().to_string(),
            "R-5 broken: epoch 1 was overtaken by 2"
        );
    }

    #[test]
    fn r6_only_the_epoch_in_force_destroys() {
        assert_eq!(may_destroy(Epoch(2), Epoch(2)), Ok(()));
        assert!(may_destroy(Epoch(1), Epoch(2)).is_err());
        assert!(may_destroy(Epoch(3), Epoch(2)).is_err(), "an epoch nobody gave out is no better");
    }

    #[test]
    fn r11_events_are_gap_free() {
        let events = |seen: &[u64]| events_gap_free(Sequence(4), seen.iter().copied().map(Sequence));
        assert_eq!(events(&[]), Ok(()));
        assert_eq!(events(&[5, 6, 7]), Ok(()));
        for wrong in [&[6][..], &[5, 5], &[5, 7], &[5, 4]] {
            assert_eq!(events(wrong).unwrap_err().rule, "R-11");
        }
    }

    #[test]
    fn r12_bounds_hold() {
        assert_eq!(within_bound("queue", 10, 10), Ok(()));
        assert_eq!(within_bound("queue", 11, 10).unwrap_err().evidence, "queue holds 11 of at most 10");
    }
}
