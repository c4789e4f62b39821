//! The admin port over a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusRecorder;
use recorder_runtime::accept::Listener;
use recorder_runtime::admin::Admin;
use recorder_runtime::clock::SystemClock;
use recorder_runtime::drain::Drain;
use recorder_runtime::readiness::{Check, Readiness};
use recorder_runtime::telemetry::{self, Format, LogHandle};
use recorder_runtime::{build_info, metrics};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

struct Running {
    address: SocketAddr,
    drain: Drain,
    check: Check,
    logs: LogHandle,
    task: JoinHandle<Result<(), recorder_runtime::Error>>,
    _subscriber: Box<dyn std::any::Any + Send>,
}

async fn start() -> Running {
    start_with(&metrics::recorder().unwrap()).await
}

async fn start_with(recorder: &PrometheusRecorder) -> Running {
    let drain = Drain::new();
    let readiness = Readiness::new(drain.signal());
    let check = readiness.register("spool");
    let (subscriber, logs) = telemetry::subscriber(Format::Json, "info", false, std::io::sink).unwrap();
    ::metrics::with_local_recorder(recorder, metrics::describe);
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address();
    let admin = Admin {
        name: "recorder-test",
        readiness,
        drain: drain.signal(),
        metrics: recorder.handle(),
        logs: logs.clone(),
        config: "[seal]\nkey = \"[REDACTED]\"\n".to_owned(),
        clock: SystemClock::shared(),
    };
    let task = tokio::spawn(admin.run(listener));
    // The reload handle works as long as its subscriber exists.
    Running { address, drain, check, logs, task, _subscriber: Box::new(subscriber) }
}

/// Status and body of one request, over a connection of its own.
async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).unwrap();
        reply
    });
    let reply = reply.await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn probes_tell_alive_from_ready() {
    let running = start().await;
    let get = async |path| request(running.address, "GET", path, "").await;
    assert_eq!(get("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(get("/readyz").await, (503, "[+] accepting ok\n[-] spool: starting\n".to_owned()));
    running.check.ready();
    assert_eq!(get("/readyz").await, (200, "[+] accepting ok\n[+] spool ok\n".to_owned()));
    running.check.failing("disk is full");
    assert_eq!(get("/readyz").await, (503, "[+] accepting ok\n[-] spool: disk is full\n".to_owned()));
    let (status, body) = get("/healthz").await;
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!((&health["ready"], &health["problems"]["spool"]), (&false.into(), &"disk is full".into()));
    assert_eq!((&health["version"], &health["sha"]), (&build_info::VERSION.into(), &build_info::SHA.into()));
    running.check.ready();
    let _guard = running.drain.signal().guard("recording 01JD");
    running.drain.begin();
    assert_eq!(get("/readyz").await, (503, "[-] accepting: draining\n[+] spool ok\n".to_owned()));
    let health: serde_json::Value = serde_json::from_str(&get("/healthz").await.1).unwrap();
    assert_eq!((&health["stage"], &health["drain_waits_for"][0]), (&"draining".into(), &"recording 01JD".into()));
    assert_eq!(get("/nonsense").await.0, 404);
}

#[tokio::test]
async fn metrics_and_settings_are_shown() {
    let running = start().await;
    let (status, body) = request(running.address, "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(body.contains("recorder_build_info{version="), "{body}");
    assert_eq!(
        request(running.address, "GET", "/config", "").await,
        (200, "[seal]\nkey = \"[REDACTED]\"\n".to_owned())
    );
}

#[tokio::test]
async fn the_log_level_changes_while_running() {
    let running = start().await;
    let put = async |filter: &str| request(running.address, "PUT", "/log-level", filter).await;
    assert_eq!(request(running.address, "GET", "/log-level", "").await, (200, "info\n".to_owned()));
    assert_eq!(put("info,rtmp=debug\n").await, (200, "info,rtmp=debug\n".to_owned()));
    assert_eq!(running.logs.filter(), "info,rtmp=debug");
    let (status, body) = put("rtmp=loud").await;
    assert_eq!(status, 400);
    assert!(body.starts_with("log filter \"rtmp=loud\" is not understood: "), "{body}");
    assert_eq!(put(&"x".repeat(5_000)).await.0, 413);
    assert_eq!(running.logs.filter(), "info,rtmp=debug");
}

#[tokio::test]
async fn it_outlives_the_drain_and_ends_at_the_deadline_whoever_is_connected() {
    let running = start().await;
    let mut idle = TcpStream::connect(running.address).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    running.drain.begin();
    assert_eq!(request(running.address, "GET", "/livez", "").await.0, 200);
    running.drain.expire();
    timeout(PATIENCE, running.task).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(running.address).is_err());
}

/// Nobody scraped the node of the memory soak: the duration of every sync stayed, 24 bytes each, megabytes in ten minutes.
#[tokio::test(start_paused = true)]
async fn values_of_histograms_piled_up_until_a_scrape() {
    const VALUES: usize = 10_000;
    const ROUNDS: usize = 30;
    let held = || {
        let stats = ALLOCATOR.stats();
        stats.bytes_allocated - stats.bytes_deallocated
    };
    let recorder = metrics::recorder().unwrap();
    let running = start_with(&recorder).await;
    let before = held();
    for _ in 0..ROUNDS {
        ::metrics::with_local_recorder(&recorder, || {
            let histogram = ::metrics::histogram!(metrics::DB_QUERY_SECONDS, "operation" => "list");
            (0..VALUES).for_each(|_| histogram.record(0.02));
        });
        tokio::time::advance(Duration::from_secs(6)).await;
        tokio::task::yield_now().await;
    }
    let grown = held().saturating_sub(before);
    assert!(grown < VALUES * ROUNDS * 24 / 4, "{grown} bytes");
    let text = recorder.handle().render();
    let count = format!("recorder_db_query_seconds_count{{operation=\"list\"}} {}", VALUES * ROUNDS);
    assert!(text.lines().any(|line| line == count), "{text}");
    drop(running);
}
