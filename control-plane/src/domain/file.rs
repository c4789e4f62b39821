//! The life of one file, from the first byte in the spool to the object in the bucket (architecture A.11).
use chrono::{DateTime, Utc};

use super::{Cause, Illegal};

/// Where a file stands.
#[derive(Debug, Clone, PartialEq)]
pub enum File {
    /// Media is being written to the spool; parts may be on their way already.
    Open,
    /// Closed; the rest is on its way.
    Uploading,
    /// The object is in the bucket and was checked there.
    Available {
        /// When the check succeeded.
        at: DateTime<Utc>,
    },
    /// Given up; the media is still in the spool and can be retried.
    Failed(Cause),
    /// The node that held it was forgotten.
    Lost,
    /// The object was deleted through the API.
    Deleted,
}

/// What can happen to a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The last byte is in the spool.
    Closed,
    /// The object was found in the bucket with our size and checksum.
    Available {
        /// When.
        at: DateTime<Utc>,
    },
    /// The upload was given up.
    Failed(Cause),
    /// Somebody asked to try again.
    Retried,
    /// Its node will never come back.
    Lost,
    /// Its object was deleted.
    Deleted,
}

impl File {
    /// The state after a fact; [`Illegal`] leaves everything as it was.
    pub fn apply(self, fact: &Fact) -> Result<Self, Illegal> {
        match (self, fact) {
            (Self::Open, Fact::Closed) => Ok(Self::Uploading),
            // An HLS or upload-while-recording file may be complete the moment it is closed.
            (Self::Open | Self::Uploading, Fact::Available { at }) => Ok(Self::Available { at: *at }),
            (Self::Open | Self::Uploading, Fact::Failed(cause)) => Ok(Self::Failed(cause.clone())),
            // Another storage, or the same one after an operator repaired it, without having been asked to retry.
            (Self::Failed(_), Fact::Available { at }) => Ok(Self::Available { at: *at }),
            // A node that was given up came back and delivered.
            (Self::Lost, Fact::Available { at }) => Ok(Self::Available { at: *at }),
            // Told again, or copied from the backup storage to where it belongs.
            (Self::Available { .. }, Fact::Available { at }) => Ok(Self::Available { at: *at }),
            (Self::Failed(_), Fact::Retried) => Ok(Self::Uploading),
            (Self::Failed(_), Fact::Failed(cause)) => Ok(Self::Failed(cause.clone())),
            (Self::Available { .. }, Fact::Deleted) => Ok(Self::Deleted),
            (Self::Open | Self::Uploading | Self::Failed(_), Fact::Lost) => Ok(Self::Lost),
            (state, fact) => Err(Illegal { state: state.name(), fact: fact.name() }),
        }
    }

    /// Whether the recording still waits for it.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Open | Self::Uploading)
    }

    /// The name of the state as the API spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Uploading => "UPLOADING",
            Self::Available { .. } => "AVAILABLE",
            Self::Failed(_) => "FAILED",
            Self::Lost => "LOST",
            Self::Deleted => "DELETED",
        }
    }
}

impl Fact {
    fn name(&self) -> &'static str {
        match self {
            Self::Closed => "file.closed",
            Self::Available { .. } => "file.available",
            Self::Failed(_) => "file.failed",
            Self::Retried => "file.retried",
            Self::Lost => "file.lost",
            Self::Deleted => "file.deleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cause;

    const TABLE: &str = "\
            file.closed file.available file.failed file.retried file.lost file.deleted
OPEN        UPLOADING   AVAILABLE      FAILED      -            LOST      -
UPLOADING   -           AVAILABLE      FAILED      -            LOST      -
AVAILABLE   -           AVAILABLE      -           -            -         DELETED
FAILED      -           AVAILABLE      FAILED      UPLOADING    LOST      -
LOST        -           AVAILABLE      -           -            -         -
DELETED     -           -              -           -            -         -
";

    #[test]
    fn every_state_and_fact_is_as_the_table_says() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let denied = cause(tonic::Code::PermissionDenied, "ACCESS_DENIED", "no");
        let states = [
            File::Open,
            File::Uploading,
            File::Available { at },
            File::Failed(denied.clone()),
            File::Lost,
            File::Deleted,
        ];
        let facts =
            [Fact::Closed, Fact::Available { at }, Fact::Failed(denied), Fact::Retried, Fact::Lost, Fact::Deleted];
        let mut lines = TABLE.lines();
        let columns: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(columns, facts.iter().map(Fact::name).collect::<Vec<_>>());
        for (state, line) in states.into_iter().zip(lines) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(cells[0], state.name());
            for (fact, expected) in facts.iter().zip(&cells[1..]) {
                let outcome = state.clone().apply(fact).map_or("-", |next| next.name());
                assert_eq!(outcome, *expected, "{} x {}", state.name(), fact.name());
            }
            assert_eq!(state.is_pending(), matches!(cells[0], "OPEN" | "UPLOADING"));
        }
    }
}
