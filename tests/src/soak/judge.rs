//! Verifies each stream when it is over, and forgets it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;

use super::crowd::Done;
use super::{WINDOW, World};
use crate::accounting::{Accounting, Ledger};
use crate::prefix::Watch;
use crate::verify::{self, ALLOWANCE, Told, Verdict};

/// The formats of every plan.
const FORMATS: [&str; 4] = ["AAC", "FLV", "HLS", "MP4"];
/// How long recordings of a stream may take to be over after its window.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long nothing more must have happened to a stream before it is judged.
const QUIET: Duration = Duration::from_secs(5);

/// Judges until no stream is left.
pub(super) async fn judge(world: Arc<World>, mut finished: UnboundedReceiver<Done>) {
    let mut waiting = tokio::task::JoinSet::new();
    while let Some(done) = finished.recv().await {
        waiting.spawn(one(Arc::clone(&world), done));
        while waiting.try_join_next().is_some() {}
    }
    while waiting.join_next().await.is_some() {}
}

async fn one(world: Arc<World>, done: Done) {
    let told = outcome(&world, &done).await;
    let name = done.publisher.name.clone();
    let checker = Arc::clone(&world);
    let (verdict, leftovers) = tokio::task::spawn_blocking(move || check(&checker, &done, &told)).await.expect("check");
    world.report(|report| report.add(&name, verdict, leftovers));
}

/// Waits until every recording of the stream is over.
async fn outcome(world: &World, done: &Done) -> Vec<Told> {
    let mut clients = world.clients();
    let window = Duration::from_secs(if done.plan.window { WINDOW as u64 } else { 0 });
    let earliest = done.at + window + QUIET;
    let latest = earliest + PATIENCE;
    loop {
        sleep(Duration::from_millis(500)).await;
        let told = verify::told(&mut clients, &done.plan.domain(), &done.publisher.name).await;
        let over = told.as_ref().is_some_and(|told| told.iter().all(|(recording, _)| verify::is_over(recording)));
        if over && Instant::now() >= earliest || Instant::now() >= latest {
            return told.unwrap_or_default();
        }
    }
}

/// Everything about one stream; its objects are dropped.
///
/// Only a kill explains a loss, and no more than the allowance before it. A stand-still explains none, not even to a
/// publisher that closed its connection meanwhile: what waits in the sockets is read when the node goes on. That is so as
/// long as the node does go on: what waits in the sockets of one that is killed while it stands still, or before it has
/// read them, dies with it, however much that is. Nothing here kills one so soon: chaos does one thing at a time, and
/// [`super::chaos`] watches a node for seconds after its stand-still.
fn check(world: &World, done: &Done, told: &[Told]) -> (Verdict, Leftovers) {
    let sessions = done.publisher.sent();
    let crashes = world.crashes.lock().expect("crashes").clone();
    let Done { publisher, .. } = done;
    let ledger =
        Ledger { stream: publisher.number, footage: &publisher.footage, sessions: &sessions, crashes: &crashes };
    let fetch = |key: &str| world.s3.object(key).map(|object| object.body);
    let mut verdict = verify::verify(&ledger, told, &FORMATS, ALLOWANCE, &fetch);
    let mut leftovers = Leftovers::default();
    for (recording, _) in told {
        *leftovers.states.entry(recording.state().as_str_name()).or_default() += 1;
        if !verify::is_over(recording) {
            verdict.problems.push(format!("{} stays {}", recording.name, recording.state().as_str_name()));
        }
    }
    if told.is_empty() && verdict.formats.values().any(|format| !format.unexplained(ALLOWANCE).is_empty()) {
        verdict.problems.push("it was never recorded".to_owned());
    }
    let folder = format!("/{}/live/{}/", done.plan.domain(), publisher.name);
    for key in world.s3.keys().into_iter().filter(|key| key.contains(&folder)) {
        if key.ends_with("manifest.json") {
            leftovers.manifests += 1;
        } else if key.ends_with(".m3u8") && told.iter().any(|(recording, _)| recording.epoch > 1) {
            leftovers.superseded += 1;
        } else if !verdict.objects.contains(&key) {
            leftovers.unclaimed.push(key.clone());
        }
        if verdict.problems.is_empty() || !world.is_over() {
            world.s3.forget(&key);
        }
    }
    (verdict, leftovers)
}

/// What else there was about a stream.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    pub(super) states: BTreeMap<&'static str, usize>,
    pub(super) manifests: usize,
    /// Playlists that another node's took over.
    pub(super) superseded: usize,
    pub(super) unclaimed: Vec<String>,
}

/// Follows every change of the bucket.
pub(super) async fn watch(world: Arc<World>) {
    let changes = world.s3.changes();
    let mut watch = Watch::default();
    loop {
        while let Ok(change) = changes.try_recv() {
            watch.see(&change);
        }
        let problems = std::mem::take(&mut watch.problems);
        let (written, rewritten, versions) = (watch.written, watch.rewritten, watch.versions);
        world.report(|report| {
            report.bucket_problems.extend(problems);
            (report.objects_written, report.objects_rewritten, report.playlist_versions) =
                (written, rewritten, versions);
        });
        sleep(Duration::from_millis(200)).await;
    }
}

/// Frames of all formats together.
pub(super) fn total(formats: &BTreeMap<&'static str, Accounting>, count: impl Fn(&Accounting) -> usize) -> usize {
    formats.values().map(count).sum()
}
