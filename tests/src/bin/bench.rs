//! `make bench`: what a stream costs the media node, and how fast a binding is applied. Prints tables; asserts nothing.
//!
//! Usage: `bench [streams ...]`, default 1 20 100; `RECORDER_BENCH_SECONDS` (default 60) sets the measured window.
//! `bench --whip [streams ...]`, default 1 20, is the part about WebRTC publishers.
//! `bench --allocations` wants a media node built with the feature `count-allocations`, whose allocator is another one;
//! CPU and memory are therefore measured with the node as it is delivered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::load::{Load, Profile};
use recorder_tests::{wait, webrtc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use v1::domain_service_client::DomainServiceClient;
use v1::template_service_client::TemplateServiceClient;

const DOMAIN: &str = "bench.example.com";

#[tokio::main]
async fn main() {
    let asked: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let seconds = std::env::var("RECORDER_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    if std::env::args().any(|argument| argument == "--allocations") {
        return allocations(20, Duration::from_secs(20)).await;
    }
    if std::env::args().any(|argument| argument == "--whip") {
        let counts = if asked.is_empty() { vec![1, 20] } else { asked };
        return webrtc::bench(&counts, Duration::from_secs(seconds), DOMAIN, prepared).await;
    }
    let counts = if asked.is_empty() { vec![1, 20, 100] } else { asked };
    println!("{} s of real-time 2.5 Mbit/s H.264 + AAC over RTMP into FLV, by streams", seconds);
    println!("{:>8} {:>24} {:>18}", "streams", "CPU ms / stream-second", "KiB / stream");
    for count in counts {
        measure(count, Duration::from_secs(seconds)).await;
    }
    binding_latency().await;
}

async fn prepared() -> Cluster {
    let cluster = Cluster::with_settings(&[("RECORDER_LOG_FILTER", "warn")]).await;
    let template = v1::Template { flv: Some(v1::template::Flv::default()), ..Default::default() };
    let request =
        v1::CreateTemplateRequest { template_id: "bench".into(), template: Some(template), ..Default::default() };
    TemplateServiceClient::new(cluster.api().await).create_template(request).await.expect("template");
    bind(&cluster, DOMAIN).await;
    cluster
}

/// Binds the template to a new domain; returns when the node has applied it.
async fn bind(cluster: &Cluster, domain: &str) {
    let mut domains = DomainServiceClient::new(cluster.api().await);
    let request = v1::BindTemplateRequest {
        template: "bench".into(),
        domains: vec![domain.into()],
        create_domains: true,
        ..Default::default()
    };
    domains.bind_template(request).await.expect("bind");
    let request = v1::ListBindingsRequest { domain: domain.into(), ..Default::default() };
    wait::until("the binding", async || {
        let bindings = domains.list_bindings(request.clone()).await.ok()?.into_inner().bindings;
        bindings.iter().all(|binding| binding.state() == v1::binding::State::Active).then_some(())
    })
    .await;
}

async fn measure(count: usize, window: Duration) {
    let cluster = prepared().await;
    let node = &cluster.nodes[0];
    let idle = node.resident_kib();
    let load = Load::start(node.address("rtmp"), DOMAIN, count, Profile::default()).await;
    // Let every stream pass its start gate and open its files, so that the window holds the steady state only.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = node.cpu_millis();
    tokio::time::sleep(window).await;
    let cpu = (node.cpu_millis() - before) as f64 / (count as f64 * window.as_secs_f64());
    let resident = node.resident_kib().saturating_sub(idle) as f64 / count as f64;
    println!("{count:>8} {cpu:>24.2} {resident:>18.0}");
    load.stop().await;
}

async fn allocations(count: usize, window: Duration) {
    let cluster = prepared().await;
    let node = &cluster.nodes[0];
    let load = Load::start(node.address("rtmp"), DOMAIN, count, Profile::default()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (bytes, frames) = (allocated(node.address("admin")).await, load.frames());
    tokio::time::sleep(window).await;
    let (more, sent) = (allocated(node.address("admin")).await, load.frames() - frames);
    match bytes.zip(more) {
        Some((bytes, more)) => {
            println!("{:.0} bytes allocated per frame, at {count} streams", (more - bytes) / sent as f64)
        }
        None => println!("this media node does not count allocations"),
    }
    load.stop().await;
}

/// `recorder_allocated_bytes_total` of a node built with the feature `count-allocations`.
async fn allocated(admin: &str) -> Option<f64> {
    let mut socket = tokio::net::TcpStream::connect(admin).await.ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await.ok()?;
    let line = text.lines().find(|line| line.starts_with("recorder_allocated_bytes_total"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// Time from the call of BindTemplate to `Binding.state` ACTIVE, as a client sees it.
async fn binding_latency() {
    let cluster = prepared().await;
    let mut times = Vec::new();
    for number in 0..100 {
        let started = Instant::now();
        bind(&cluster, &format!("d{number}.example.com")).await;
        times.push(started.elapsed());
    }
    times.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (p50, p99) = (millis(times[times.len() / 2]), millis(times[times.len() * 99 / 100]));
    println!("binding to applied on the node, 100 times: p50 {p50:.1} ms, p99 {p99:.1} ms (polled every 20 ms)");
}
