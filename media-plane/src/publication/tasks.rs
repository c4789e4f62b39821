//! Tasks of a live stream: begun from what is kept of it, ended when their time is over or they are stopped.
//!
//! A task has at most one recording in a publish session: one that ended early, because it was stopped or has reached the
//! longest time of its template, begins again with the next publisher only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use media::{Timed, Tracks};
use recorder_proto::pb::v1::recording::EndReason;
use recorder_proto::time::std_duration;

use super::Publication;
use crate::backlog::Backlog;
use crate::node::Node;
use crate::plans::{self, Ordered};
use crate::recording::{Feed, is_wanted};
use crate::shipping::Wall;
use crate::sound::{self, Sound};
use crate::starting::Starting;

/// A task that could not begin is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Tasks {
    backlog: Backlog,
    /// Those that this publisher has been recorded for.
    begun: BTreeSet<String>,
    /// One of them waits for a frame to begin with.
    waits: bool,
    due: Option<Duration>,
}

impl Tasks {
    pub(super) fn new(node: &Node) -> Self {
        Self { backlog: Backlog::new(&node.backlogs), begun: BTreeSet::new(), waits: false, due: None }
    }

    /// When to look at them again, on the monotonic clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Another publisher comes.
    pub(super) fn begin_session(&mut self) {
        self.begun.clear();
        self.backlog.clear();
    }

    /// Nothing is to begin with what there is any more. What is in force for what comes next stays.
    pub(super) fn forget_media(&mut self) {
        self.backlog.forget_media();
    }
}

impl Publication {
    /// Tasks have come, changed or gone.
    pub fn review_now(&mut self) {
        self.review(self.node.clock.monotonic());
    }

    /// [`Self::review_now`], or one of them is due.
    pub(super) fn review(&mut self, now: Duration) {
        self.tasks.due = None;
        self.end_tasks();
        if let Some(tracks) = self.tracks.filter(|_| self.starting.is_none()) {
            self.begin_task(tracks, now);
        }
        self.tasks.due = self.next_task(now);
    }

    /// [`Self::review`], if its time has come.
    pub(super) fn review_if_due(&mut self, now: Duration) {
        if self.tasks.due.is_some_and(|at| now >= at) {
            self.review(now);
        }
    }

    /// Keeps what a task may begin with.
    pub(super) fn keep(&mut self, feed: Feed, items: &[Timed]) {
        if !self.tasks.backlog.push(feed, items) {
            return;
        }
        self.tasks.backlog.keep(self.node.link.directives().pre_roll());
        if std::mem::take(&mut self.tasks.waits) {
            self.tasks.due = Some(Duration::ZERO);
        }
    }

    /// Tasks that are to be recorded now and are not, when a gate has just opened: they begin with everything there is.
    pub(super) fn tasks_at_gate(&mut self, tracks: Tracks) -> Vec<plans::Chosen> {
        let orders = self.orders_due(tracks, self.control_time());
        let chosen: Vec<_> = orders.into_iter().map(|order| order.chosen).collect();
        self.tasks.begun.extend(chosen.iter().map(|chosen| chosen.origin.clone()));
        chosen
    }

    /// Something could not begin: whatever is not recorded may be tried again.
    pub(super) fn retry_tasks(&mut self, now: Duration) {
        let recordings = &self.recordings;
        self.tasks.begun.retain(|task| recordings.iter().any(|running| running.origin() == task));
        self.tasks.due = Some(now.saturating_add(RETRY));
    }

    /// Finishes recordings of tasks whose time is over, or that the control plane has withdrawn.
    pub fn end_tasks(&mut self) {
        let (node, now) = (Arc::clone(&self.node), self.control_time());
        self.end_with_sound(|recording| is_over(&node, recording.origin(), now).then_some(EndReason::TaskEnded));
    }

    /// When the next task begins or ends, on the monotonic clock.
    pub(super) fn next_task(&self, now: Duration) -> Option<Duration> {
        let wall = self.control_time();
        let directives = self.node.link.directives();
        let orders = plans::ordered(directives, &self.publisher.stream);
        let starts = orders.iter().map(|order| order.start).filter(|start| *start > wall);
        let ends = self.recordings.iter().filter_map(|running| directives.task_end(running.origin()).flatten());
        let next = starts.chain(ends).min()?;
        let wait = (next - wall).to_std().unwrap_or_default();
        let retry = self.tasks.due.unwrap_or(Duration::MAX);
        Some(now.saturating_add(wait).min(retry))
    }

    /// Begins one task that is due; the next one is looked at when it has begun.
    fn begin_task(&mut self, tracks: Tracks, now: Duration) {
        let wall = self.control_time();
        let Some(Ordered { chosen, start, .. }) = self.orders_due(tracks, wall).into_iter().next() else { return };
        let pre_roll = chosen.plan.template.as_ref().and_then(|template| template.pre_roll.as_ref());
        let late = (wall - start).to_std().unwrap_or_default();
        let before = pre_roll.and_then(std_duration).unwrap_or_default().saturating_add(late);
        let Some(head) = self.tasks.backlog.head(before) else {
            self.tasks.waits = true;
            return;
        };
        self.tasks.begun.insert(chosen.origin.clone());
        let age = now.saturating_sub(self.last_arrival).saturating_add((head.newest - head.first).as_duration());
        let at = moment_before(self.node.clock.now(), age);
        let wall = Wall { at, media: head.first };
        let mut starting = Starting::new(&self.node, &self.publisher, vec![chosen], tracks, wall, now);
        if self.sound.is_none() && head.items.iter().any(sound::is_foreign) && starting.wants_aac() {
            let mut sound = Sound::new();
            sound.push(&head.items, now);
            self.sound = Some(sound);
        }
        let heard = self.sound.is_some().then(|| head.heard.unwrap_or_default());
        starting.begin_with(head.items, heard);
        self.starting = Some(starting);
    }

    /// Tasks that are to be recorded at this moment and are not.
    fn orders_due(&self, tracks: Tracks, now: DateTime<Utc>) -> Vec<Ordered> {
        let is_due = |order: &Ordered| {
            let origin = &order.chosen.origin;
            (order.start..order.end).contains(&now)
                && !self.tasks.begun.contains(origin)
                && self.recordings.iter().all(|running| running.origin() != *origin)
                && order.chosen.plan.template.as_ref().is_some_and(|template| is_wanted(template, tracks))
        };
        plans::ordered(self.node.link.directives(), &self.publisher.stream).into_iter().filter(is_due).collect()
    }

    /// Tasks go by the control plane's clock.
    fn control_time(&self) -> DateTime<Utc> {
        self.node.link.control_time(self.node.clock.now())
    }
}

/// Whether a recording is that of a task that is over. Of one that this node does not know, only the control plane can
/// have said so.
fn is_over(node: &Node, origin: &str, now: DateTime<Utc>) -> bool {
    match node.link.directives().task_end(origin) {
        None => false,
        Some(None) => node.link.directives().version() > 0,
        Some(Some(end)) => end <= now,
    }
}

fn moment_before(now: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age)).unwrap_or(now)
}
