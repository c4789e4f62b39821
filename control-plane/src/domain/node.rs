//! The life of a media node as the control plane sees it (architecture A.11).
//!
//! A lost lease stops nothing on the node itself: it only changes what the control plane believes and shows.
use chrono::{DateTime, Utc};

use super::Illegal;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Takes publishers.
    Active {
        /// When it counts as lost unless it is heard of again.
        lease_until: DateTime<Utc>,
    },
    /// Finishes what it has and takes nothing new.
    Draining {
        /// When it counts as lost unless it is heard of again.
        lease_until: DateTime<Utc>,
    },
    /// Owns nothing: stopped cleanly, or drained and idle.
    Drained,
    /// Not heard of for longer than its lease.
    Lost,
}

/// What can happen to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// A process started under this id: the node epoch grew by one.
    Registered {
        /// The end of its first lease.
        lease_until: DateTime<Utc>,
        /// An operator wants it drained: that outlives processes.
        draining: bool,
    },
    /// A sign of life.
    Heard {
        /// The end of the renewed lease.
        lease_until: DateTime<Utc>,
        /// An operator wants it drained.
        draining: bool,
    },
    /// The lease ran out.
    LeaseExpired,
    /// An operator asked it to drain.
    DrainRequested,
    /// An operator wants it back.
    ResumeRequested {
        /// The end of its lease.
        lease_until: DateTime<Utc>,
    },
    /// It takes nothing new and has nothing left.
    Emptied,
    /// It stopped cleanly.
    Deregistered,
}

/// What a change of state is told as (api B.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `node.lost`
    Lost,
    /// `node.returned`
    Returned,
    /// `node.draining`
    Draining,
    /// `node.drained`
    Drained,
}

impl Node {
    /// The state after a fact and what to tell about it; [`Illegal`] leaves everything as it was.
    pub fn apply(self, fact: &Fact) -> Result<(Self, Option<Event>), Illegal> {
        match (self, *fact) {
            (Self::Lost, Fact::Registered { lease_until, draining } | Fact::Heard { lease_until, draining }) => {
                Ok((Self::alive(lease_until, draining), Some(Event::Returned)))
            }
            (_, Fact::Registered { lease_until, draining }) => Ok((Self::alive(lease_until, draining), None)),
            (Self::Active { .. }, Fact::Heard { lease_until, .. }) => Ok((Self::Active { lease_until }, None)),
            (Self::Draining { .. }, Fact::Heard { lease_until, .. }) => Ok((Self::Draining { lease_until }, None)),
            (Self::Active { .. } | Self::Draining { .. }, Fact::LeaseExpired) => Ok((Self::Lost, Some(Event::Lost))),
            (Self::Active { lease_until }, Fact::DrainRequested) => {
                Ok((Self::Draining { lease_until }, Some(Event::Draining)))
            }
            (Self::Draining { .. } | Self::Drained, Fact::ResumeRequested { lease_until }) => {
                Ok((Self::Active { lease_until }, Some(Event::Returned)))
            }
            (Self::Draining { .. }, Fact::Emptied) => Ok((Self::Drained, Some(Event::Drained))),
            (Self::Active { .. } | Self::Draining { .. } | Self::Lost, Fact::Deregistered) => {
                Ok((Self::Drained, Some(Event::Drained)))
            }
            (state, fact) => Err(Illegal { state: state.name(), fact: fact.name() }),
        }
    }

    fn alive(lease_until: DateTime<Utc>, draining: bool) -> Self {
        if draining { Self::Draining { lease_until } } else { Self::Active { lease_until } }
    }

    /// When it counts as lost, while it holds a lease.
    pub fn lease_until(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Active { lease_until } | Self::Draining { lease_until } => Some(*lease_until),
            Self::Drained | Self::Lost => None,
        }
    }

    /// The name of the state as the API spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Active { .. } => "ACTIVE",
            Self::Draining { .. } => "DRAINING",
            Self::Drained => "DRAINED",
            Self::Lost => "LOST",
        }
    }
}

impl Fact {
    fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "node.registered",
            Self::Heard { .. } => "node.heard",
            Self::LeaseExpired => "node.lease_expired",
            Self::DrainRequested => "node.drain_requested",
            Self::ResumeRequested { .. } => "node.resume_requested",
            Self::Emptied => "node.emptied",
            Self::Deregistered => "node.deregistered",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
         node.registered node.heard node.lease_expired node.drain_requested node.resume_requested node.emptied node.deregistered
ACTIVE   ACTIVE          ACTIVE     LOST               DRAINING             -                     -            DRAINED
DRAINING ACTIVE          DRAINING   LOST               -                    ACTIVE                DRAINED      DRAINED
DRAINED  ACTIVE          -          -                  -                    ACTIVE                -            -
LOST     ACTIVE          ACTIVE     -                  -                    -                     -            DRAINED
";

    #[test]
    fn every_state_and_fact_is_as_the_table_says() {
        let lease_until = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let states = [Node::Active { lease_until }, Node::Draining { lease_until }, Node::Drained, Node::Lost];
        let facts = [
            Fact::Registered { lease_until, draining: false },
            Fact::Heard { lease_until, draining: false },
            Fact::LeaseExpired,
            Fact::DrainRequested,
            Fact::ResumeRequested { lease_until },
            Fact::Emptied,
            Fact::Deregistered,
        ];
        let mut lines = TABLE.lines();
        let columns: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(columns, facts.iter().map(Fact::name).collect::<Vec<_>>());
        for (state, line) in states.into_iter().zip(lines) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(cells[0], state.name());
            for (fact, expected) in facts.iter().zip(&cells[1..]) {
                let outcome = state.apply(fact).map_or("-", |(next, _)| next.name());
                assert_eq!(outcome, *expected, "{} x {}", state.name(), fact.name());
            }
        }
    }

    #[test]
    fn a_drain_outlives_processes_and_silence() {
        let lease_until = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let registered = Fact::Registered { lease_until, draining: true };
        for state in [Node::Draining { lease_until }, Node::Drained, Node::Lost] {
            assert_eq!(state.apply(&registered).unwrap().0, Node::Draining { lease_until });
        }
        let heard = Fact::Heard { lease_until, draining: true };
        assert_eq!(Node::Lost.apply(&heard).unwrap(), (Node::Draining { lease_until }, Some(Event::Returned)));
    }

    #[test]
    fn only_a_lost_node_returns() {
        let lease_until = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let heard = Fact::Heard { lease_until, draining: false };
        assert_eq!(Node::Lost.apply(&heard).unwrap().1, Some(Event::Returned));
        assert_eq!(Node::Active { lease_until }.apply(&heard).unwrap().1, None);
    }
}
