//! From the spool to the storages: every closed object is shipped, confirmed, reported, and only then released.
//!
//! One task an output takes its events in order; uploads of all of them share a fair pool of permits. Nothing is ever
//! given up because a storage fails: the bytes wait in the spool.

mod backup;
mod budget;
mod compose;
mod damage;
mod file;
mod growing;
mod lag;
mod lane;
mod leftovers;
mod manifest;
mod meta;
mod note;
mod nudge;
mod open;
mod output;
mod placement;
mod plan;
mod playlist;
mod progress;
mod release;
mod report;
mod restore;
mod sending;
mod splice;
mod stall;
mod storage;
#[cfg(test)]
pub mod tests;
mod tidying;
mod upload;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recorder_runtime::clock::Clock;
use recorder_runtime::drain::{Guard, Signal};
use recorder_runtime::metrics;
use spool::{Event, Events, OutputKey, Spool, StoredOutput};
use store::TargetKind;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::link::FactLog;
use crate::manifest::Manifests;
use crate::node::{Facts, Node};
use crate::spool_names;
use backup::{Copies, Errand};
use budget::{Bandwidth, Gate};
use output::Shipment;
use release::Releases;
use storage::{Open, Pace, Storage};
use tidying::Tidying;

pub use backup::CopyBack;
pub use lag::Lag;
pub use meta::{Continues, OutputMeta, Target, Wall};
pub use nudge::Nudge;
pub use restore::inventory;

/// How often a draining node looks whether everything is delivered.
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// How often the age of the oldest waiting object is published.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a clean stop waits for the control plane's acknowledgements, so that the spool is left empty.
const LAST_RELEASES: Duration = Duration::from_secs(3);

/// What every shipment shares.
pub struct Context {
    spool: Spool,
    facts: Facts,
    log: FactLog,
    manifests: Manifests,
    clock: Arc<dyn Clock>,
    gate: Gate,
    bandwidth: Bandwidth,
    releases: Releases,
    lag: Lag,
    progress: Arc<crate::recording::Progress>,
    nudge: Nudge,
    open: Open,
    pace: Pace,
    stalled_after: Duration,
    backup_after: Duration,
    copies: Copies,
    tidying: Tidying,
    storages: Mutex<HashMap<Target, Arc<Storage>>>,
}

impl Context {
    fn storage(&self, target: &Target) -> Arc<Storage> {
        let mut storages = self.storages.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let (open, clock) = (Arc::clone(&self.open), Arc::clone(&self.clock));
            let storage = Storage::new(target.clone(), open, self.pace, clock, self.facts.clone(), self.gate.clone());
            Arc::new(storage.nudged_by(self.nudge.clone()))
        };
        Arc::clone(storages.entry(target.clone()).or_insert_with(make))
    }

    /// Where an object is, in the form that the store's clients use; known before there is a client.
    fn uri(&self, target: &Target, key: &str) -> String {
        let kind = match target.kind.as_str() {
            "file_system" => TargetKind::FileSystem,
            "gcs" => TargetKind::GcsHmac,
            _ => TargetKind::S3,
        };
        store::object_uri(kind, &target.bucket, key)
    }
}

/// The shipping of one node.
pub struct Shipping {
    context: Arc<Context>,
    events: Events,
    stored: Vec<StoredOutput>,
    drain: Signal,
    /// Held until everything is delivered.
    guard: Guard,
    /// Whether something is still being recorded.
    busy: Box<dyn Fn() -> bool + Send>,
    outputs: HashMap<OutputKey, mpsc::UnboundedSender<Event>>,
    /// Outputs that go on after the next start were let go of: what still comes of them is for that start.
    let_go: bool,
    tasks: JoinSet<OutputKey>,
    /// Files on their way back from a backup storage, where they are safe, and what is to be tidied: nobody waits for
    /// them at the end.
    errands: mpsc::UnboundedReceiver<Errand>,
    copies: JoinSet<()>,
}

impl Shipping {
    /// Over what an earlier process left and what this one will spool.
    pub fn new(node: Arc<Node>, stored: Vec<StoredOutput>, events: Events) -> Self {
        let library = node.settings.library.root.clone();
        let library = std::path::absolute(&library).unwrap_or(library);
        let open = open::over_link(node.link.clone(), library);
        Self::opening(open, node, stored, events)
    }

    /// [`Self::new`], but whatever the storage is, it is this bucket.
    #[cfg(any(test, feature = "sim"))]
    pub fn into_bucket(
        bucket: Arc<dyn store::Bucket>,
        node: Arc<Node>,
        stored: Vec<StoredOutput>,
        events: Events,
    ) -> Self {
        let open: Open = Arc::new(move |_, _| Box::pin(std::future::ready(Ok(Arc::clone(&bucket)))));
        Self::opening(open, node, stored, events)
    }

    fn opening(open: Open, node: Arc<Node>, stored: Vec<StoredOutput>, events: Events) -> Self {
        let (copies, errands) = Copies::new();
        let context = Context {
            spool: node.spool.clone(),
            facts: node.facts.clone(),
            log: node.link.facts().clone(),
            manifests: node.manifests.clone(),
            clock: Arc::clone(&node.clock),
            gate: Gate::new(node.settings.upload.concurrency, node.settings.upload.storage_concurrency),
            bandwidth: Bandwidth::new(node.settings.upload.bandwidth),
            releases: Releases::default(),
            lag: node.lag.clone(),
            progress: Arc::clone(&node.progress),
            nudge: node.nudge.clone(),
            open,
            pace: Pace::default(),
            stalled_after: node.settings.upload.stalled_after,
            backup_after: node.settings.upload.backup_after,
            copies,
            tidying: Tidying::open(&Node::state_folder(&node.settings)),
            storages: Mutex::default(),
        };
        let drain = node.drain.clone();
        let busy = Box::new(move || node.is_busy());
        Self::over(context, stored, events, errands, drain, busy)
    }

    fn over(
        context: Context,
        stored: Vec<StoredOutput>,
        events: Events,
        errands: mpsc::UnboundedReceiver<Errand>,
        drain: Signal,
        busy: Box<dyn Fn() -> bool + Send>,
    ) -> Self {
        let guard = drain.guard("uploads");
        context.log.begin_behind(restore::highest_reported(&stored));
        let (outputs, let_go, tasks, copies) = Default::default();
        for (recording, target) in context.manifests.chosen() {
            context.nudge.recall(&recording, target);
        }
        context.tidying.all().into_iter().for_each(|left| context.copies.tidy(left));
        context.manifests.backed_up().into_iter().for_each(|copy| context.copies.send(copy));
        let context = Arc::new(context);
        Self { context, events, errands, stored, drain, guard, busy, outputs, let_go, tasks, copies }
    }

    /// Ships until the drain's deadline, or until the drain has begun and nothing is left.
    pub async fn run(mut self) {
        let context = Arc::clone(&self.context);
        let drain = self.drain.clone();
        tokio::select! {
            () = async {
                self.ship().await;
                context.releases.drained(LAST_RELEASES).await;
            } => {}
            () = context.releases.run(&context.spool, &context.log) => {}
            () = drain.deadline() => {}
        }
        drop(self.guard);
    }

    async fn ship(&mut self) {
        // The oldest first: ids of recordings grow with time.
        self.stored.sort_by(|a, b| a.key.cmp(&b.key));
        for stored in std::mem::take(&mut self.stored) {
            self.restore(stored);
        }
        let mut look = tokio::time::interval(IDLE_LOOK);
        let mut gauge = tokio::time::interval(GAUGE_INTERVAL);
        let mut stalls = tokio::time::interval((self.context.stalled_after / 4).clamp(IDLE_LOOK, GAUGE_INTERVAL));
        let drain = self.drain.clone();
        let draining = drain.draining();
        tokio::pin!(draining);
        let mut is_draining = false;
        loop {
            tokio::select! {
                event = self.events.next() => match event {
                    Some(event) => self.route(event),
                    None => return std::future::pending().await,
                },
                _ = gauge.tick() => {
                    ::metrics::gauge!(metrics::SPOOL_UNSHIPPED_SECONDS).set(self.context.lag.oldest().as_secs_f64());
                    ::metrics::gauge!(metrics::UPLOADS_STALLED).set(self.context.lag.stalled() as f64);
                }
                _ = stalls.tick() => self.context.tell_of_stalls(self.context.stalled_after),
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                Some(errand) = self.errands.recv() => drop(self.copies.spawn(errand.run(Arc::clone(&self.context)))),
                Some(_) = self.copies.join_next() => {}
                () = &mut draining, if !is_draining => is_draining = true,
                _ = look.tick(), if is_draining && !(self.busy)() => {
                    if self.is_delivered().await {
                        return;
                    }
                }
            }
        }
    }

    /// Whether nothing came while the last bytes were made durable.
    async fn is_delivered(&mut self) -> bool {
        self.context.spool.flush().await;
        while let Some(event) = self.events.try_next() {
            self.route(event);
        }
        // Outputs that wait for their publisher go on after the next start; what there is of them ships now.
        self.outputs.clear();
        self.let_go = true;
        self.tasks.is_empty() && self.context.manifests.is_idle()
    }

    fn ended(&mut self, ended: Result<OutputKey, tokio::task::JoinError>) {
        match ended {
            Ok(key) => drop(self.outputs.remove(&key)),
            Err(error) => tracing::error!(%error, "a shipment died; its bytes ship after the next start"),
        }
    }

    fn route(&mut self, event: Event) {
        let (Event::Opened { key, .. }
        | Event::Durable { key, .. }
        | Event::Closed { key, .. }
        | Event::Playlist { key, .. }
        | Event::FileDone { key, .. }
        | Event::Finished { key }
        | Event::Failed { key, .. }) = &event;
        if spool_names::is_manifest(key) {
            if let Some(document) = manifest::Document::of_event(&self.context, &event) {
                self.ship_manifest(key.clone(), document);
            }
        } else if let Some(output) = self.outputs.get(key) {
            // A shipment that is gone has ended: its output was over.
            let _ = output.send(event);
        } else if self.let_go {
            // Half of an output's events would make a manifest without its files.
        } else if matches!(event, Event::Opened { .. }) {
            let key = key.clone();
            let Some((meta, name)) = self.context.spool.meta(&key).and_then(|meta| read_meta(&key, meta)) else {
                return;
            };
            let shipment = Shipment::new(Arc::clone(&self.context), key.clone(), meta, name);
            self.start(key.clone(), shipment);
            if let Some(output) = self.outputs.get(&key) {
                let _ = output.send(event);
            }
        } else if matches!(event, Event::Finished { .. } | Event::Failed { .. }) {
            // Nothing was ever opened.
            settle(self.context.manifests.handle(key), key);
        }
    }

    fn ship_manifest(&mut self, key: OutputKey, document: manifest::Document) {
        let context = Arc::clone(&self.context);
        self.tasks.spawn(async move {
            document.ship(context).await;
            key
        });
    }

    fn start(&mut self, key: OutputKey, shipment: Shipment) {
        let (sender, inbox) = mpsc::unbounded_channel();
        self.outputs.insert(key.clone(), sender);
        let manifests = self.context.manifests.clone();
        manifests.begun(&key);
        self.tasks.spawn(async move {
            if shipment.run(inbox).await {
                settle(manifests.handle(&key), &key);
            }
            key
        });
    }

    /// Goes on with an output of an earlier process. One that is not finished is live: whoever records it reopens its
    /// writer, or drops it for good.
    fn restore(&mut self, stored: StoredOutput) {
        let key = stored.key.clone();
        if spool_names::is_manifest(&key) {
            if let Some(document) = manifest::Document::of_stored(&self.context, &stored) {
                self.ship_manifest(key, document);
            }
            return;
        }
        let Some((meta, _)) = read_meta(&key, stored.meta.clone()) else { return };
        let finished = stored.finished;
        let Some(mut shipment) = restore::resume(&self.context, meta, stored) else { return };
        if finished {
            shipment.set_over(true);
        }
        self.start(key, shipment);
    }
}

/// Notes that nothing more comes of an output.
fn settle(manifest: Option<crate::manifest::Handle>, key: &OutputKey) {
    if let Some(manifest) = manifest {
        manifest.over(key);
    }
}

/// Reads back what the recording gave the spool.
fn read_meta(key: &OutputKey, meta: serde_json::Value) -> Option<(OutputMeta, recorder_proto::names::StorageName)> {
    let meta: OutputMeta = match serde_json::from_value(meta) {
        Ok(meta) => meta,
        Err(error) => {
            tracing::error!(output = %key, %error, "an output without readable metadata stays in the spool");
            return None;
        }
    };
    let name = meta.storage.name.parse();
    name.inspect_err(|_| tracing::error!(output = %key, "an output without a storage stays in the spool"))
        .ok()
        .map(|name| (meta, name))
}
