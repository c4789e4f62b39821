//! `make soak`: a cluster under chaos for an hour, every frame accounted for.
//!
//! Streams are short and many: each is verified and forgotten when it is over, so that the soak itself stays small.

mod chaos;
mod crowd;
mod judge;
pub mod memory;
mod real;
mod report;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use recorder_proto::pb::v1;
use tokio::sync::mpsc;

use crate::accounting::Crash;
use crate::bucket::S3Server;
use crate::cluster::{Api, Cluster};
use crate::footage::Footage;
use crate::publisher::Source;
use crate::scene::{Clients, all_formats};
use crate::stage::{DOMAIN, STORAGE, s3_target};
pub use report::Report;

/// Nodes.
const NODES: usize = 2;
/// How long a node counts as alive without a heartbeat; short, so that pauses outlast it.
const LEASE: &str = "5s";
/// Resume window of the templates that have one, in seconds.
const WINDOW: i64 = 20;

/// How a soak is run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long streams are published and things break.
    pub duration: Duration,
    /// Publishers at once.
    pub publishers: usize,
    /// Every random choice comes from it (what the machine does in between does not).
    pub seed: u64,
}

/// What all tasks share.
struct World {
    s3: S3Server,
    api: Api,
    /// RTMP address by node, from 1.
    addresses: Vec<String>,
    crashes: Mutex<Vec<Crash>>,
    /// Since when a node stands still for so long that its publishers should move on.
    suspects: Mutex<[Option<Instant>; NODES]>,
    next_stream: AtomicU64,
    over: AtomicBool,
    report: Mutex<Report>,
}

impl World {
    fn report(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn suspect(&self, node: usize) -> Option<Instant> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)[node - 1]
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn clients(&self) -> Clients {
        Clients::over(&self.api)
    }

    fn next_stream(&self) -> u32 {
        self.next_stream.fetch_add(1, Ordering::Relaxed) as u32
    }
}

/// A way to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    id: &'static str,
    /// Formats wait for a lost publisher.
    window: bool,
    /// FLV, MP4 and AAC are uploaded while they are recorded.
    growing: bool,
    /// MP4 in fragments.
    fragmented: bool,
}

const PLANS: [Plan; 4] = [
    Plan { id: "whole", window: false, growing: false, fragmented: false },
    Plan { id: "growing", window: false, growing: true, fragmented: true },
    Plan { id: "window", window: true, growing: false, fragmented: true },
    Plan { id: "both", window: true, growing: true, fragmented: false },
];

impl Plan {
    fn domain(self) -> String {
        format!("{}.{DOMAIN}", self.id)
    }

    fn template(self) -> v1::Template {
        let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
        let resume_timeout = self.window.then_some(seconds(WINDOW));
        let upload_while_recording = self.growing;
        let base = all_formats();
        let layout =
            if self.fragmented { v1::template::mp4::Layout::Fragmented } else { v1::template::mp4::Layout::FastStart };
        let mp4 =
            v1::template::Mp4 { resume_timeout, upload_while_recording, layout: layout.into(), ..Default::default() };
        v1::Template {
            storage: STORAGE.into(),
            hls: Some(v1::template::Hls { segment_duration: Some(seconds(4)), resume_timeout, ..Default::default() }),
            flv: Some(v1::template::Flv { resume_timeout, upload_while_recording, ..Default::default() }),
            mp4: Some(mp4),
            aac: base.aac.map(|aac| v1::template::Aac { resume_timeout, upload_while_recording, ..aac }),
            ..base
        }
    }
}

/// Runs it and returns what was seen.
pub async fn run(settings: Settings) -> Report {
    let mut random = StdRng::seed_from_u64(settings.seed);
    let node = [("RECORDER_LOG_FILTER", "info"), ("RECORDER_SPOOL_LIMIT", "8GiB")];
    let mut cluster = Cluster::with_all_settings(&node, &[("RECORDER_LINK_LEASE", LEASE)]).await;
    cluster.start_node(2).await;
    let world = Arc::new(world(&cluster).await);
    let (plain, rich) = footage(&cluster);
    let (done, finished) = mpsc::unbounded_channel();
    let deadline = Instant::now() + settings.duration;
    let mut crowd = tokio::task::JoinSet::new();
    for slot in 0..settings.publishers {
        let footage = if slot % 3 == 1 { &rich } else { &plain };
        let slot = crowd::Slot::new(&world, footage, PLANS[slot % PLANS.len()], random.random(), done.clone());
        crowd.spawn(slot.run());
    }
    crowd.spawn(real::publish(Arc::clone(&world), cluster.folder().to_owned(), random.random()));
    drop(done);
    let judge = tokio::spawn(judge::judge(Arc::clone(&world), finished));
    let watch = tokio::spawn(judge::watch(Arc::clone(&world)));
    chaos::reign(&world, &mut cluster, &mut random, deadline).await;
    world.over.store(true, Ordering::Relaxed);
    while crowd.join_next().await.is_some() {}
    // Whoever waits for a return still has the window to wait for.
    let mut judged = std::pin::pin!(judge);
    while tokio::time::timeout(Duration::from_secs(1), &mut judged).await.is_err() {
        chaos::sample(&world, &cluster);
    }
    settle(&world).await;
    watch.abort();
    let mut report = std::mem::take(&mut *world.report.lock().unwrap_or_else(PoisonError::into_inner));
    report.duration = settings.duration;
    if !report.is_clean() {
        report.logs = keep_logs(&cluster);
    }
    report
}

async fn world(cluster: &Cluster) -> World {
    let s3 = S3Server::start("AKTEST", "SKTEST-very-secret").await;
    let mut clients = Clients::of(cluster).await;
    clients.storage(STORAGE, s3_target(&s3)).await;
    for plan in PLANS {
        clients.template(plan.id, plan.template()).await;
        clients.bind(plan.id, &plan.domain()).await;
    }
    World {
        s3,
        api: cluster.api().await,
        addresses: (1..=NODES).map(|node| cluster.rtmp(node).to_owned()).collect(),
        crashes: Mutex::default(),
        suspects: Mutex::default(),
        next_stream: AtomicU64::new(1),
        over: AtomicBool::new(false),
        report: Mutex::default(),
    }
}

/// 1.5 Mbit/s, and 6 Mbit/s so that uploads have several parts.
fn footage(cluster: &Cluster) -> (Arc<Footage>, Arc<Footage>) {
    let source = Source { seconds: 12, kilobits: 1_400, gop: 60, ..Default::default() };
    (Footage::encode(&source, cluster.folder()), Footage::encode_padded(&source, cluster.folder(), 6_000))
}

/// Gives late uploads a last chance to be closed, then counts what is left over.
async fn settle(world: &World) {
    let patience = Instant::now() + Duration::from_secs(60);
    while world.s3.open_uploads() > 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.report(|report| report.orphan_uploads = world.s3.open_uploads());
}

/// Copies the logs out of the cluster's folder, which disappears.
fn keep_logs(cluster: &Cluster) -> Option<std::path::PathBuf> {
    let folder = std::env::current_dir().ok()?.join("target/soak");
    std::fs::create_dir_all(&folder).ok()?;
    for name in ["control", "m1", "m2"] {
        let _ = std::fs::copy(cluster.folder().join(name).join("log.txt"), folder.join(format!("{name}.log")));
    }
    let _ = std::fs::copy(cluster.folder().join("control.db"), folder.join("control.db"));
    Some(folder)
}
