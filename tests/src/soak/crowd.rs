//! Publishers that come, are thrown out, return (in time or not, here or there) and leave, again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use super::{NODES, Plan, WINDOW, World};
use crate::footage::Footage;
use crate::numbered::Publisher;

/// How often a publisher looks around.
const GLANCE: Duration = Duration::from_millis(100);

/// A stream whose publisher will not come back.
pub(super) struct Done {
    pub(super) plan: Plan,
    pub(super) publisher: Publisher,
    pub(super) at: Instant,
}

/// A place in the crowd: one stream after the other, of one plan.
pub(super) struct Slot {
    world: Arc<World>,
    footage: Arc<Footage>,
    plan: Plan,
    random: StdRng,
    done: UnboundedSender<Done>,
}

impl Slot {
    pub(super) fn new(
        world: &Arc<World>,
        footage: &Arc<Footage>,
        plan: Plan,
        seed: u64,
        done: UnboundedSender<Done>,
    ) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { world: Arc::clone(world), footage: Arc::clone(footage), plan, random, done }
    }

    pub(super) async fn run(mut self) {
        while !self.world.is_over() {
            let number = self.world.next_stream();
            let mut publisher = Publisher::new(&self.plan.domain(), &format!("cam{number}"), number, &self.footage);
            publisher.timestamps_go_on = self.random.random();
            self.stream(&mut publisher).await;
            if publisher.sent().is_empty() {
                continue;
            }
            let sessions = publisher.sent();
            self.world.report(|report| {
                report.streams += 1;
                report.sessions += sessions.len();
                report.bytes_sent += sessions.iter().map(|session| session.bytes).sum::<u64>();
                let frames = sessions.iter().map(|session| session.sent[0].len() + session.sent[1].len());
                report.frames_sent += frames.sum::<usize>();
            });
            let _ = self.done.send(Done { plan: self.plan, publisher, at: Instant::now() });
        }
    }

    /// One stream from its first connection to its last.
    async fn stream(&mut self, publisher: &mut Publisher) {
        let end = Instant::now() + self.random.random_range(Duration::from_secs(15)..Duration::from_secs(75));
        let mut node = self.random.random_range(1..=NODES);
        loop {
            let Some(reached) = self.connect(publisher, node, end).await else { return };
            node = reached;
            // Now and then a publisher goes by itself, in the middle of it.
            let leaves = self.random.random_bool(0.5).then(|| self.random.random_range(5..60));
            let leaves = leaves.map(|seconds| Instant::now() + Duration::from_secs(seconds));
            let until = leaves.map_or(end, |leaves| leaves.min(end));
            self.watch(publisher, node, until).await;
            if Instant::now() >= end || self.world.is_over() {
                publisher.leave().await;
                return;
            }
            if publisher.is_publishing() {
                let goodbye: bool = self.random.random();
                if goodbye {
                    publisher.leave().await
                } else {
                    publisher.cut().await
                }
                self.world.report(|report| report.disconnects += 1);
            } else {
                publisher.broken().await;
            }
            // Most return soon, some after every window, where they were or elsewhere.
            let soon = !self.plan.window || self.random.random_bool(0.8);
            let late = WINDOW as f64 + 3.0;
            let pause =
                if soon { self.random.random_range(0.2..3.0) } else { self.random.random_range(late..late + 5.0) };
            sleep(Duration::from_secs_f64(pause)).await;
            if self.random.random_bool(0.3) || self.world.suspect(node).is_some() {
                node = node % NODES + 1;
            }
        }
    }

    /// Connects to a node, or to the other when that one does not answer.
    async fn connect(&mut self, publisher: &mut Publisher, first: usize, end: Instant) -> Option<usize> {
        let mut node = first;
        while Instant::now() < end && !self.world.is_over() {
            if self.world.suspect(node).is_none() {
                match publisher.connect(node, &self.world.addresses[node - 1]).await {
                    Ok(()) => return Some(node),
                    Err(reason) if reason.starts_with("refused") => {
                        self.world.report(|report| *report.refusals.entry(reason).or_default() += 1);
                    }
                    Err(_) => {}
                }
            }
            sleep(Duration::from_millis(self.random.random_range(100..400))).await;
            if self.random.random_bool(0.3) {
                node = node % NODES + 1;
            }
        }
        None
    }

    /// Until the time has come, the connection is gone, or the publisher gives up a node that stands still.
    async fn watch(&mut self, publisher: &mut Publisher, node: usize, until: Instant) {
        let mut patient = None;
        while Instant::now() < until && publisher.is_publishing() && !self.world.is_over() {
            sleep(GLANCE).await;
            if self.world.suspect(node).is_none() {
                patient = None;
            } else if !*patient.get_or_insert_with(|| self.random.random_bool(0.4)) {
                // It closes its socket; what it has sent waits there until the node goes on. Some encoders stay.
                return publisher.abandon().await;
            }
        }
    }
}
