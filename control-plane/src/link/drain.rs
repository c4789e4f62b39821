//! What an operator has ordered of a node: kept with the node, told on its directive stream until it is called off.
use chrono::{DateTime, TimeDelta, Utc};
use recorder_db::AnyConnection;
use recorder_db::nodes::Row;
use recorder_db::recordings::{self, Filter};
use recorder_proto::pb::node::StreamDirectivesResponse;
use recorder_proto::pb::node::stream_directives_request::Heartbeat;
use recorder_proto::pb::node::stream_directives_response::{Drain, Message};
use recorder_proto::time;
use serde::{Deserialize, Serialize};

use super::resume::RUNNING;

/// An order, as it is kept with its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Nothing was ordered of this process.
    None,
    /// Take nothing new.
    Drain {
        /// When publishers are closed, in microseconds; None = never.
        deadline: Option<i64>,
        /// Whether publishers are asked to reconnect elsewhere.
        move_publishers: bool,
    },
    /// Go on as before: a process that missed the end of its drain must hear of it.
    CalledOff,
}

impl Order {
    /// The order that a node is under.
    pub(crate) fn of(row: &Row) -> Self {
        Self::kept_as(row.drain.as_deref())
    }

    /// The order that was kept like this.
    pub(super) fn kept_as(kept: Option<&[u8]>) -> Self {
        kept.and_then(|kept| serde_json::from_slice(kept).ok()).unwrap_or(Self::None)
    }

    /// As it is kept.
    pub(crate) fn kept(self) -> Option<Vec<u8>> {
        // An enum of numbers always serialises.
        if self == Self::None { None } else { serde_json::to_vec(&self).ok() }
    }

    /// Whether the node is to be drained.
    pub(crate) fn is_in_force(self) -> bool {
        matches!(self, Self::Drain { .. })
    }

    /// How the node is told; a deadline counts from when the order was given, not from when it is heard.
    pub(super) fn message(self, now: DateTime<Utc>) -> Option<StreamDirectivesResponse> {
        let drain = match self {
            Self::None => return None,
            Self::CalledOff => Drain { cancelled: true, ..Drain::default() },
            Self::Drain { deadline, move_publishers } => {
                // Zero would mean that there is no deadline.
                let left = |deadline| (time::from_micros(deadline) - now).max(TimeDelta::milliseconds(1));
                let left = deadline.map(left).and_then(|left| left.to_std().ok()).map(time::duration);
                Drain { deadline: left, move_publishers, cancelled: false }
            }
        };
        let message = Some(Message::Drain(drain));
        Some(StreamDirectivesResponse { message, ..StreamDirectivesResponse::default() })
    }
}

/// Whether a node that takes nothing new has nothing left: nobody waits for a publisher on it either.
pub(super) fn is_empty(db: &mut AnyConnection, node: &str, said: &Heartbeat) -> recorder_db::Result<bool> {
    if said.accepting || said.streams > 0 || said.recordings > 0 || said.spool_bytes > 0 {
        return Ok(false);
    }
    let filter = Filter { node: Some(node.to_owned()), states: RUNNING.to_vec(), ..Filter::default() };
    Ok(recordings::page(db, &filter, &recorder_db::Page { before: None, limit: 1 })?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_counts_from_the_order() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let order = Order::Drain { deadline: Some(time::micros(at(60))), move_publishers: true };
        let left = |now| match order.message(now).unwrap().message {
            Some(Message::Drain(drain)) => drain.deadline.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!((left(at(20)).seconds, left(at(20)).nanos), (40, 0));
        assert_eq!((left(at(90)).seconds, left(at(90)).nanos), (0, 1_000_000), "over, but not without an end");
        let patient = Order::Drain { deadline: None, move_publishers: false };
        match patient.message(at(0)).unwrap().message {
            Some(Message::Drain(drain)) => assert_eq!(drain.deadline, None),
            other => panic!("{other:?}"),
        }
    }
}
