//! Bounds: memory, disk, and how often the disk is synced.

use std::time::{Duration, Instant};

use mux::Output;

use super::{Bench, WHOLE, apply, key, mark, object, pattern, spec};
use crate::Record;
use crate::disk::Disk;

async fn ship(bench: &Bench, format: &str) {
    let committed = Record::Committed { object: WHOLE, etag: "e".into(), size: 1 };
    bench.spool.record(&key(format), committed).await.unwrap();
    bench.spool.record(&key(format), Record::Reported { object: WHOLE, sequence: 1 }).await.unwrap();
    bench.spool.release(&key(format), WHOLE).await.unwrap();
}

#[tokio::test]
async fn r12_memory_is_bounded_by_back_pressure() {
    let max_queued = 256 << 10;
    let bench = Bench::with(|config| config.max_queued = max_queued, Disk::default());
    let mut writer = bench.writer("flv");
    apply(&mut writer, [Output::Open(spec(WHOLE))]);
    let frame = pattern(20_000, 1);
    let mut most = 0;
    for _ in 0..1_000 {
        bench.spool.writable().await;
        apply(&mut writer, [Output::Append(WHOLE, frame.clone())]);
        most = most.max(bench.spool.usage().queued);
    }
    assert!(most <= max_queued + frame.len(), "{most}");
    apply(&mut writer, [mark(WHOLE, 1)]);
    bench.spool.flush().await;
    assert_eq!(bench.spool.usage().queued, 0);
    assert_eq!(bench.whole("flv", WHOLE).await.len(), 20_000_000);
}

#[tokio::test]
async fn r12_the_disk_limit_stops_new_recordings_first_then_all() {
    let limit = 1 << 20;
    let bench = Bench::with(|config| config.limit = limit, Disk::default());
    assert!(bench.spool.usage().accepting);
    let mut writer = bench.writer("flv");
    apply(&mut writer, object(WHOLE, pattern(900_000, 1)));
    bench.spool.flush().await;
    assert!(!bench.spool.usage().accepting, "above the high-water mark");
    tokio::time::timeout(Duration::from_secs(5), bench.spool.writable()).await.expect("running recordings go on");
    let mut second = bench.writer("aac");
    apply(&mut second, object(WHOLE, pattern(200_000, 1)));
    bench.spool.flush().await;
    assert!(bench.spool.create(key("mp4"), &serde_json::json!({})).is_err());
    let waiting = tokio::spawn({
        let spool = bench.spool.clone();
        async move { spool.writable().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    ship(&bench, "flv").await;
    tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("released space wakes who waits").unwrap();
    assert!(bench.spool.usage().accepting);
}

#[tokio::test]
async fn syncs_are_grouped() {
    let interval = Duration::from_millis(200);
    let bench = Bench::with(|config| config.flush_interval = interval, Disk::default());
    let started = Instant::now();
    let mut writers: Vec<_> = (0..10).map(|n| bench.writer(&format!("f{n}"))).collect();
    for writer in &mut writers {
        apply(writer, [Output::Open(spec(WHOLE))]);
    }
    for round in 0..200 {
        for writer in &mut writers {
            apply(writer, [Output::Append(WHOLE, pattern(5_000, 1)), mark(WHOLE, round)]);
        }
        tokio::task::yield_now().await;
    }
    bench.spool.flush().await;
    let intervals = started.elapsed().as_millis() / interval.as_millis() + 2;
    let syncs = bench.spool.disk().faults().syncs();
    assert!(syncs >= 20, "data and journal of each output are synced: {syncs}");
    assert!(u128::from(syncs) <= intervals * 10 * 2, "{syncs} syncs in {intervals} intervals of 10 outputs");
}

#[tokio::test]
async fn much_data_is_synced_before_the_interval() {
    let mut bench = Bench::with(
        |config| {
            config.flush_interval = Duration::from_secs(3_600);
            config.flush_bytes = 100_000;
        },
        Disk::default(),
    );
    let mut writer = bench.writer("flv");
    apply(&mut writer, [Output::Open(spec(WHOLE))]);
    for time in 0..3 {
        apply(&mut writer, [Output::Append(WHOLE, pattern(60_000, 1)), mark(WHOLE, time)]);
    }
    let bytes = bench
        .event(|event| match event {
            crate::Event::Durable { bytes, .. } => Some(*bytes),
            _ => None,
        })
        .await;
    assert!(bytes >= 60_000, "{bytes}");
}
