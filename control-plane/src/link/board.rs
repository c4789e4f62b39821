//! What the directive streams of all nodes have in common, read once and not by each: the newest changes, everything at
//! a version, and which process of which node is in force, under which order.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use recorder_db::{AnyConnection, Db, nodes};
use recorder_runtime::drain::Signal;
use recorder_runtime::secret::Sealer;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::drain::Order;
use super::{Result, load};
use crate::directives::changelog;
use crate::directives::parcel::Parcel;
use crate::pulse::Pulse;

/// Transactions kept in memory; a node that is further behind has them read again.
const KEPT: usize = 512;

/// Bytes of them.
const KEPT_BYTES: usize = 8 << 20;

/// Everything is not read again for each change from this size on.
const LARGE_BYTES: usize = 1 << 20;

/// Nodes that are told everything at the same time. More would not be done sooner, and the answers to the pings of a
/// connection would wait behind so much data that it would be taken for dead.
const TURNS: usize = 8;

/// What nobody has asked for during this time is let go: open keys are in it.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// Pause before a database that was away is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// What all streams see.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Version of the newest change.
    head: u64,
    /// Changes up to the newest one, without holes.
    log: VecDeque<Arc<Parcel>>,
    /// The epoch and the order in force of every node, by bare id.
    nodes: Arc<BTreeMap<String, (u64, Order)>>,
}

/// What comes next for a node.
pub(super) enum Next {
    /// Deltas, oldest first; empty = nothing new.
    Deltas(Vec<Arc<Parcel>>),
    /// More than is in memory, or a version from elsewhere.
    Missed,
}

impl Seen {
    /// The epoch and the order in force of a node; None for one that was forgotten.
    pub(super) fn node(&self, id: &str) -> Option<(u64, Order)> {
        self.nodes.get(id).copied()
    }

    /// What a node lacks that has this version, a limited number of deltas at a time.
    pub(super) fn after(&self, version: u64, limit: usize) -> Next {
        if !self.covers(version) {
            return Next::Missed;
        }
        let newer = self.log.iter().skip_while(|parcel| parcel.version <= version);
        Next::Deltas(newer.take(limit).cloned().collect())
    }

    fn covers(&self, version: u64) -> bool {
        let oldest = self.log.front().map_or(self.head, |parcel| parcel.version.saturating_sub(1));
        (oldest..=self.head).contains(&version)
    }

    /// Whether this still is what a node should begin with. What is small is put together anew rather than told together
    /// with what has changed since.
    fn serves(&self, everything: &Parcel) -> bool {
        let large = everything.length() >= LARGE_BYTES;
        everything.version == self.head || (large && self.covers(everything.version))
    }

    fn trim(&mut self) {
        let mut bytes: usize = self.log.iter().map(|parcel| parcel.length()).sum();
        while self.log.len() > KEPT || bytes > KEPT_BYTES {
            let Some(oldest) = self.log.pop_front() else { return };
            bytes = bytes.saturating_sub(oldest.length());
        }
    }
}

/// Reads for all; clones share it.
#[derive(Clone)]
pub(super) struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    sealer: Arc<Sealer>,
    seen: watch::Sender<Arc<Seen>>,
    /// Requests to look at the database, counted.
    asked: AtomicU64,
    /// Only one reads at a time.
    reading: Mutex<Reading>,
    everything: Mutex<Option<Kept>>,
    turns: Arc<Semaphore>,
    followed: AtomicBool,
}

#[derive(Default)]
struct Reading {
    /// How many requests the last read answered.
    answered: u64,
    /// From this version and from older ones nobody can go on: two hundred nodes need not find out each.
    out_of_reach: Option<u64>,
}

struct Kept {
    parcel: Arc<Parcel>,
    used: Instant,
}

impl Board {
    pub(super) fn new(db: Db, sealer: Arc<Sealer>) -> Self {
        let shared = Shared {
            db,
            sealer,
            seen: watch::Sender::new(Arc::default()),
            asked: AtomicU64::new(0),
            reading: Mutex::default(),
            everything: Mutex::new(None),
            turns: Arc::new(Semaphore::new(TURNS)),
            followed: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Changes whenever there may be something to tell a node.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Seen>> {
        self.shared.seen.subscribe()
    }

    /// A node's turn to be told everything, in the order of asking. None: the process ends.
    pub(super) fn turn(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + use<> {
        let turns = Arc::clone(&self.shared.turns);
        async move { turns.acquire_owned().await.ok() }
    }

    /// Follows the database from now on, until the drain; the first stream begins it.
    pub(super) fn follow(&self, pulse: &Pulse, drain: &Signal) {
        if !self.shared.followed.swap(true, Ordering::Relaxed) {
            tokio::spawn(follow(self.clone(), pulse.clone(), drain.clone()));
        }
    }

    /// Looks at the database: on return, what was committed before the call is seen. Calls that come meanwhile are
    /// answered together.
    pub(super) async fn refresh(&self) -> Result<()> {
        let ticket = self.shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut reading = self.shared.reading.lock().await;
        if reading.answered >= ticket {
            return Ok(());
        }
        let asked = self.shared.asked.load(Ordering::SeqCst);
        let head = self.shared.seen.borrow().head;
        let sealer = Arc::clone(&self.shared.sealer);
        let (version, newer, nodes) = self.shared.db.read(move |db| look(db, &sealer, head)).await?;
        reading.answered = asked;
        if version < head {
            // Another database, or an older copy.
            reading.out_of_reach = None;
        }
        self.shared.seen.send_if_modified(|seen| {
            let changed = version != seen.head || nodes != *seen.nodes;
            if changed {
                *seen = Arc::new(seen.with(version, newer, nodes));
            }
            changed
        });
        Ok(())
    }

    /// Reads changes further back, so that a node can go on from `version`; false when only everything will do.
    pub(super) async fn reach(&self, version: u64) -> Result<bool> {
        self.refresh().await?;
        let mut reading = self.shared.reading.lock().await;
        let (covers, head) = {
            let seen = self.shared.seen.borrow();
            (seen.covers(version), seen.head)
        };
        if covers || version > head || reading.out_of_reach.is_some_and(|oldest| version <= oldest) {
            return Ok(covers);
        }
        let sealer = Arc::clone(&self.shared.sealer);
        let Some(parcels) = self.shared.db.read(move |db| load::since(db, &sealer, version)).await? else {
            reading.out_of_reach = Some(version);
            return Ok(false);
        };
        // Told even when the head is the same: the one who asked waits for it.
        self.shared.seen.send_modify(|seen| {
            let mut further = Seen::clone(seen);
            further.log = parcels.into_iter().map(Arc::new).collect();
            further.head = further.log.back().map_or(further.head, |newest| newest.version);
            *seen = Arc::new(further);
        });
        Ok(true)
    }

    /// Everything, at a version from which the changes in memory go on: what was put together for one node serves those
    /// that come soon after it.
    pub(super) async fn everything(&self) -> Result<Arc<Parcel>> {
        let mut kept = self.shared.everything.lock().await;
        if let Some(kept) = kept.as_mut().filter(|kept| self.shared.seen.borrow().serves(&kept.parcel)) {
            kept.used = Instant::now();
            return Ok(Arc::clone(&kept.parcel));
        }
        *kept = None;
        let sealer = Arc::clone(&self.shared.sealer);
        let parcel = Arc::new(self.shared.db.read(move |db| load::everything(db, &sealer)).await?);
        // Nobody may be ahead of what is seen: that would look like a version of another database.
        self.refresh().await?;
        *kept = Some(Kept { parcel: Arc::clone(&parcel), used: Instant::now() });
        Ok(parcel)
    }

    /// Lets go of everything if nobody wants it, and of the changes up to a version.
    async fn let_go(&self, until: u64) {
        let mut kept = self.shared.everything.lock().await;
        if kept.as_ref().is_some_and(|kept| kept.used.elapsed() >= KEPT_FOR) {
            *kept = None;
        }
        drop(kept);
        self.shared.seen.send_if_modified(|seen| {
            if seen.log.front().is_some_and(|oldest| oldest.version <= until) {
                let mut less = Seen::clone(seen);
                less.log.retain(|parcel| parcel.version > until);
                *seen = Arc::new(less);
            }
            // There is nothing new to tell.
            false
        });
    }
}

impl Seen {
    fn with(&self, version: u64, newer: Option<Vec<Parcel>>, nodes: BTreeMap<String, (u64, Order)>) -> Self {
        let mut log = match newer {
            Some(newer) => self.log.iter().cloned().chain(newer.into_iter().map(Arc::new)).collect(),
            None => VecDeque::new(),
        };
        // Cleared, too, when nothing was read yet: then there is nothing to go on from.
        if log.back().is_none_or(|newest: &Arc<Parcel>| newest.version != version) {
            log.clear();
        }
        let mut seen = Self { head: version, log, nodes: Arc::new(nodes) };
        seen.trim();
        seen
    }
}

type Look = (u64, Option<Vec<Parcel>>, BTreeMap<String, (u64, Order)>);

fn look(db: &mut AnyConnection, sealer: &Sealer, head: u64) -> recorder_db::Result<Look> {
    let version = changelog::version(db)?;
    // Whoever needs what was before the first look has it read.
    let newer = if head == 0 || head == version { Some(Vec::new()) } else { load::since(db, sealer, head)? };
    let epoch = |epoch| u64::try_from(epoch).unwrap_or_default();
    let orders = nodes::orders(db)?.into_iter();
    let nodes = orders.map(|row| (row.id, (epoch(row.epoch), Order::kept_as(row.drain.as_deref())))).collect();
    Ok((version, newer, nodes))
}

async fn follow(board: Board, pulse: Pulse, drain: Signal) {
    let mut heads = pulse.subscribe();
    let mut ticks = tokio::time::interval(KEPT_FOR);
    let mut before = 0;
    loop {
        tokio::select! {
            () = drain.draining() => return,
            // Its sender lives in `pulse`.
            _ = heads.changed() => {}
            _ = ticks.tick() => {
                board.let_go(before).await;
                before = board.shared.seen.borrow().head;
                continue;
            }
        }
        while let Err(problem) = board.refresh().await {
            tracing::debug!(%problem, "directives cannot be read");
            tokio::select! {
                () = drain.draining() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}
