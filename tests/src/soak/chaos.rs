//! What goes wrong, one thing after the other, by seed.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::{NODES, World};
use crate::accounting::Crash;
use crate::bucket::Fault;
use crate::cluster::Cluster;

/// Calm before the first disaster and between two.
const CALM: std::ops::Range<f64> = 4.0..14.0;
/// After so long a stand-still publishers may move on.
const SUSPICIOUS: Duration = Duration::from_secs(2);
/// Between two looks at the processes.
const SAMPLE: Duration = Duration::from_secs(2);

/// Breaks one thing after the other until the deadline; everything works again when it returns.
pub(super) async fn reign(world: &World, cluster: &mut Cluster, random: &mut StdRng, deadline: Instant) {
    while Instant::now() < deadline {
        calm(world, cluster, random.random_range(CALM)).await;
        let node = random.random_range(1..=NODES);
        let name = match random.random_range(0..100) {
            0..34 => kill_nodes(world, cluster, random, &[node]).await,
            34..40 => kill_nodes(world, cluster, random, &[1, 2]).await,
            40..52 => kill_control(world, cluster, random).await,
            52..58 => kill_both_planes(world, cluster, random, node).await,
            58..66 => pause(world, cluster, node, random.random_range(0.5..4.0), false).await,
            66..76 => pause(world, cluster, node, random.random_range(7.0..14.0), true).await,
            _ => break_bucket(world, cluster, random).await,
        };
        world.report(|report| {
            *report.disasters.entry(name).or_default() += 1;
            eprintln!("{} {name}", report.progress());
        });
    }
}

/// Waits, and looks at the processes meanwhile.
async fn calm(world: &World, cluster: &Cluster, seconds: f64) {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < until {
        sample(world, cluster);
        sleep(SAMPLE.min(until.saturating_duration_since(Instant::now()))).await;
    }
}

/// Notes the memory of the nodes.
pub(super) fn sample(world: &World, cluster: &Cluster) {
    world.report(|report| {
        for (node, memory) in cluster.nodes.iter().zip(&mut report.memory) {
            let now = node.resident_kib();
            memory.0 = if memory.0 == 0 { now } else { memory.0.min(now) };
            memory.1 = memory.1.max(now);
        }
    });
}

fn crash(world: &World, cluster: &mut Cluster, node: usize) {
    world.crashes.lock().expect("crashes").push(Crash { node, at: Instant::now() });
    cluster.nodes[node - 1].kill();
    world.report(|report| report.node_kills += 1);
}

async fn kill_nodes(world: &World, cluster: &mut Cluster, random: &mut StdRng, nodes: &[usize]) -> &'static str {
    for node in nodes {
        crash(world, cluster, *node);
    }
    sleep(Duration::from_secs_f64(random.random_range(0.0..4.0))).await;
    for node in nodes {
        cluster.start_node_detached(*node).await;
    }
    if nodes.len() > 1 { "every node killed" } else { "node killed" }
}

async fn kill_control(world: &World, cluster: &mut Cluster, random: &mut StdRng) -> &'static str {
    cluster.control.as_mut().expect("control plane").kill();
    world.report(|report| report.control_kills += 1);
    calm(world, cluster, random.random_range(0.0..10.0)).await;
    cluster.start_control().await;
    "control plane killed"
}

async fn kill_both_planes(world: &World, cluster: &mut Cluster, random: &mut StdRng, node: usize) -> &'static str {
    cluster.control.as_mut().expect("control plane").kill();
    world.report(|report| report.control_kills += 1);
    crash(world, cluster, node);
    sleep(Duration::from_secs_f64(random.random_range(0.0..2.0))).await;
    cluster.start_node_detached(node).await;
    calm(world, cluster, random.random_range(0.0..4.0)).await;
    cluster.start_control().await;
    "node and control plane killed"
}

async fn pause(world: &World, cluster: &mut Cluster, node: usize, seconds: f64, past_lease: bool) -> &'static str {
    let since = Instant::now();
    cluster.nodes[node - 1].pause();
    let end = since + Duration::from_secs_f64(seconds);
    while Instant::now() < end {
        if past_lease && since.elapsed() > SUSPICIOUS {
            world.suspects.lock().expect("suspects")[node - 1] = Some(since);
        }
        sleep(Duration::from_millis(100)).await;
    }
    cluster.nodes[node - 1].go_on();
    sleep(Duration::from_millis(500)).await;
    world.suspects.lock().expect("suspects")[node - 1] = None;
    // A node that was taken for dead ends itself when it learns that; whoever supervises it starts it again.
    let until = Instant::now() + Duration::from_secs(5);
    while past_lease && Instant::now() < until {
        if !cluster.nodes[node - 1].is_running() {
            crash(world, cluster, node);
            cluster.start_node_detached(node).await;
            world.report(|report| report.self_ended += 1);
        }
        sleep(Duration::from_millis(100)).await;
    }
    world.report(|report| report.pauses += 1);
    if past_lease { "node paused past its lease" } else { "node paused for a moment" }
}

async fn break_bucket(world: &World, cluster: &Cluster, random: &mut StdRng) -> &'static str {
    let faults = world.s3.faults();
    let (fault, chance, name) = match random.random_range(0..5) {
        0 => {
            let fault = Fault::Answer { status: 503, code: "SlowDown", message: "Please reduce your request rate." };
            (fault, 1.0, "bucket answers 503")
        }
        1 => (Fault::DropReply, 0.3, "bucket loses replies"),
        2 => (Fault::DropRequest, 0.5, "bucket ends connections"),
        3 => (Fault::Delay(Duration::from_millis(1_500)), 0.5, "bucket is slow"),
        _ => (Fault::ErrorInOk, 0.3, "bucket fails with status 200"),
    };
    faults.chance("*", fault, chance, random.random());
    calm(world, cluster, random.random_range(3.0..15.0)).await;
    faults.clear();
    world.report(|report| report.bucket_faults += 1);
    name
}
