//! `make bench-scale`: a large installation against the real control plane, on SQLite and, where `TEST_DATABASE_URL`
//! names an empty one, on Postgres. Prints numbers; asserts nothing about them.
//!
//! Usage: `scale [NODES DOMAINS RULES]`, default 200 10000 100000. `RECORDER_SCALE_AT_ONCE` (default: all) nodes take
//! their first snapshot at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod facts;
mod fleet;
mod seed;
mod server;
mod wire;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::rule_service_client::RuleServiceClient;
use tokio::sync::Semaphore;
use tonic::transport::Channel;

use fleet::Node;
use seed::Size;
use server::Server;

/// Rules made one after the other.
const CHANGES: usize = 60;

/// How long nodes are idle before their memory is measured: longer than the control plane keeps everything encoded.
const IDLE: Duration = Duration::from_secs(75);

/// How long facts are reported.
const FACTS: Duration = Duration::from_secs(15);

/// Most memory that the control plane may take before the run is called off, MiB: others live on the machine, too.
const MOST: f64 = 8_192.0;

#[tokio::main]
async fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let at = |index: usize, default| sizes.get(index).copied().unwrap_or(default);
    let size = Size { nodes: at(0, 200), domains: at(1, 10_000), rules: at(2, 100_000) };
    let folder = std::env::temp_dir().join(format!("recorder-scale-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let mut databases = vec![("SQLite", format!("sqlite://{}/control.db", folder.display()))];
    databases.extend(std::env::var("TEST_DATABASE_URL").ok().map(|url| ("Postgres", url)));
    println!("{} nodes, {} domains, {} rules", size.nodes, size.domains, size.rules);
    println!("load of the machine: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    for (name, url) in databases {
        println!("\n{name}");
        measure(&folder, &url, size).await;
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn row(what: &str, value: String) {
    println!("  {what:<58} {value}");
}

async fn measure(folder: &Path, url: &str, size: Size) {
    // The first start makes the tables and what is built in.
    drop(Server::start(folder, url).await);
    // Room for those that are made one after the other.
    let grown = Size { rules: size.rules.saturating_sub(CHANGES), ..size };
    let compiled = seed::seed(url, grown).await;
    row("compiling all directives for the first time", seconds(compiled));
    let server = Server::start(folder, url).await;
    let idle = server.memory("VmRSS:");
    row("memory of the control plane without nodes", format!("{idle:.0} MiB"));
    let alone = fleet::join(&server.link, 0).await;
    let kib = alone.bytes as f64 / 1024.0;
    row("snapshot", format!("{} directives, {:.1} MiB", alone.directives, kib / 1024.0));
    row("one node: Register to first directive, to last", both(alone.first, alone.whole));
    row("memory at its peak", format!("{:.0} MiB", server.memory("VmHWM:")));
    let mut nodes = vec![alone];
    let started = Instant::now();
    nodes.extend(crowd(&server, size.nodes).await);
    row("all nodes: together", seconds(started.elapsed()));
    row("  Register to first directive", spread(nodes.iter().map(|node| node.first).collect()));
    row("  Register to last directive", spread(nodes.iter().map(|node| node.whole).collect()));
    row("memory at its peak", format!("{:.0} MiB", server.memory("VmHWM:")));
    // Acknowledgements are taken in, what nobody needs any more is let go, and freed memory goes back.
    tokio::time::sleep(IDLE).await;
    let session = (server.memory("VmRSS:") - idle) / nodes.len() as f64 * 1024.0;
    row("memory per idle session of a node", format!("{session:.0} KiB"));
    changes(&server, &nodes).await;
    row("facts", format!("{:.0} a second", facts::measure(&nodes, FACTS).await));
}

/// The other nodes, a few at a time.
async fn crowd(server: &Server, count: usize) -> Vec<Node> {
    let at_once = std::env::var("RECORDER_SCALE_AT_ONCE").ok().and_then(|text| text.parse().ok()).unwrap_or(count);
    let gate = Arc::new(Semaphore::new(at_once));
    let join = |number: usize| {
        let (gate, link) = (Arc::clone(&gate), server.link.clone());
        tokio::spawn(async move {
            let _permit = gate.acquire().await.expect("the gate stays");
            fleet::join(&link, number).await
        })
    };
    let joins: Vec<_> = (1..count).map(join).collect();
    let mut nodes = Vec::new();
    for join in joins {
        nodes.push(join.await.expect("a node"));
        let memory = server.memory("VmRSS:");
        assert!(memory < MOST, "the control plane takes {memory:.0} MiB with {} nodes", nodes.len());
    }
    nodes
}

/// Makes rules; for each the time to the call's answer, to the last node's acknowledgement, and to ACTIVE.
async fn changes(server: &Server, nodes: &[Node]) {
    let channel = Channel::from_shared(server.api.clone()).expect("address").connect().await.expect("api");
    let mut rules = RuleServiceClient::new(channel);
    let (mut answered, mut acknowledged, mut active) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..CHANGES {
        let before: Vec<u64> = nodes.iter().map(|node| node.acknowledged.borrow().0).collect();
        let rule = v1::Rule { domain: seed::domain(0), stream: format!("new-{number}"), ..Default::default() };
        let rule = v1::Rule { template: "default".to_owned(), ..rule };
        let id = format!("new-{number}");
        let request = v1::CreateRuleRequest { rule_id: id.clone(), rule: Some(rule), ..Default::default() };
        let started = Instant::now();
        if let Err(status) = rules.create_rule(request).await {
            row("CreateRule", format!("refused after {}: {}", seconds(started.elapsed()), status.message()));
            return;
        }
        answered.push(started.elapsed());
        let mut last = started;
        for (node, before) in nodes.iter().zip(before) {
            let mut acknowledgement = node.acknowledged.clone();
            let wait = acknowledgement.wait_for(|(version, _)| *version > before);
            let (_, at) = *tokio::time::timeout(Duration::from_secs(120), wait).await.expect("in time").expect("there");
            last = last.max(at);
        }
        acknowledged.push(last.duration_since(started));
        loop {
            let rule = rules.get_rule(v1::GetRuleRequest { name: id.clone() }).await.expect("rule").into_inner();
            if rule.state() == v1::rule::State::Active {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        active.push(started.elapsed());
    }
    row("CreateRule to its answer", spread(answered));
    row("CreateRule to the last node's acknowledgement", spread(acknowledged));
    row("CreateRule to ACTIVE", spread(active));
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

fn both(first: Duration, last: Duration) -> String {
    format!("{}, {}", seconds(first), seconds(last))
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| seconds(times[(times.len() * share / 100).min(times.len() - 1)]);
    format!("p50 {}, p99 {}", at(50), at(99))
}
