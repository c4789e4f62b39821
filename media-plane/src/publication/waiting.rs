//! A publication without publisher: what waits for one to come back, and for how long.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use media::{GapReason, MediaTime, Timeline};
use recorder_proto::pb::v1::recording::EndReason;

use super::{Publication, Publisher};
use crate::node::Node;
use crate::recording::{Absence, Recording, Revived, Waiting};
use crate::shipping::Wall;

impl Publication {
    /// The recordings of one stream that an earlier process left, without publisher. Those that need not wait are
    /// finished. `None` when none is left.
    pub fn revive(node: &Arc<Node>, left: Vec<Revived>) -> Option<Box<Self>> {
        let now = node.clock.monotonic();
        let mut newest: Option<(MediaTime, Wall)> = None;
        let mut recordings = Vec::new();
        for Revived { mut recording, since, reason, told, ending } in left {
            let gone = ago(node, since);
            let absence = Absence::new(gone, now, reason);
            let end = if ending || recording.window().is_zero() {
                Some(EndReason::NodeLost)
            } else {
                let waiting =
                    if told { recording.still_lost(absence, now) } else { recording.publisher_lost(absence, now) };
                over(waiting)
            };
            if let Some(reason) = end {
                recording.finish(reason);
                continue;
            }
            if newest.is_none_or(|(last, _)| recording.last() > last) {
                newest = Some((recording.last(), recording.wall()));
            }
            recordings.push(recording);
        }
        let (last, wall) = newest?;
        let started = recordings.first()?.meta().started.clone();
        let publisher = Publisher {
            session: started.session,
            stream: started.stream,
            protocol: started.protocol,
            remote: String::new(),
            encoder: String::new(),
            since: started.start_time,
        };
        // The monotonic clock did not survive: the wall clock says how far the stream is by now.
        let mut timeline = Timeline::new();
        timeline.go_on(last, ago(node, wall.at(last)), now, GapReason::NodeCrashed);
        Some(Box::new(Self::over(Arc::clone(node), publisher, timeline, recordings)))
    }

    /// After [`Self::interrupt`], when nobody takes over at once: what waits for another publisher stays; `None` when
    /// nothing does. `drained` = this node sent the publisher away.
    pub fn begin_waiting(mut self: Box<Self>, drained: bool) -> Option<Box<Self>> {
        let now = self.node.clock.monotonic();
        let absence = Absence::new(now.saturating_sub(self.last_arrival), now, GapReason::PublisherLost);
        let without_window = if drained { EndReason::NodeDrained } else { EndReason::PublisherEnded };
        self.retain(|recording| {
            if recording.window().is_zero() {
                return Some(without_window);
            }
            over(recording.publisher_lost(absence, now))
        });
        if self.node.leaving.moves() {
            self.put_down();
        }
        self.wait(now).map(|_| self)
    }

    /// What is due of recordings whose publisher is away; gives when to look again, on the monotonic clock. `None` when
    /// nothing waits any more.
    pub fn wait(&mut self, now: Duration) -> Option<Duration> {
        self.end_tasks();
        let mut due: Option<Duration> = None;
        self.retain(|recording| {
            if !recording.is_away() {
                return None;
            }
            let waiting = recording.wait(now);
            if let Waiting::Until(at) = waiting {
                due = Some(due.map_or(at, |due| due.min(at)));
            }
            over(waiting)
        });
        due = due.map(|due| self.next_task(now).map_or(due, |task| due.min(task)));
        self.wait_due = due;
        due
    }

    /// Files of recordings that wait are closed, so that they ship and another node can go on behind them.
    pub fn put_down(&mut self) {
        self.recordings.iter_mut().for_each(Recording::put_down);
    }
}

fn over(waiting: Waiting) -> Option<EndReason> {
    match waiting {
        Waiting::Until(_) => None,
        Waiting::Over(reason) => Some(reason),
    }
}

/// How long ago something was, by the wall clock; never negative.
fn ago(node: &Node, then: DateTime<Utc>) -> Duration {
    (node.clock.now() - then).to_std().unwrap_or_default()
}
