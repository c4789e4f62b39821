//! The spool without threads.

use std::time::Duration;

use mux::Output;
use serde_json::json;

use super::{PLAYLIST, WHOLE, apply, key, mark, object, pattern, segment, spec};
use crate::fault::FaultyDisk;
use crate::{Config, Event, Events, Spool};

fn drain(events: &mut Events, log: &mut Vec<String>) {
    while let Some(event) = events.try_next() {
        log.push(format!("{event:?}"));
    }
}

/// Two outputs, steps of 100 ms, a crash of the power half way, and what both lives told.
async fn run(seed: u64) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let mut log = Vec::new();
    let (spool, _, mut events, mut stepper) = Spool::open_stepped(Config::new(dir.path()), disk.clone()).unwrap();
    let mut hls = spool.create(key("hls"), &json!({})).unwrap();
    let mut flv = spool.create(key("flv"), &json!({})).unwrap();
    apply(&mut flv, [Output::Open(spec(WHOLE))]);
    for round in 0..18_u32 {
        apply(&mut flv, [Output::Append(WHOLE, pattern(700, round as u8)), mark(WHOLE, i64::from(round) * 40)]);
        if round % 4 == 3 {
            apply(&mut hls, object(segment(round / 4), pattern(3_000, round as u8)));
            let body = "x".repeat(round as usize).into();
            apply(&mut hls, [Output::Playlist { object: PLAYLIST, body, last: false }]);
        }
        if round == 17 {
            // What this flush wrote is not durable: the journal is torn somewhere in it.
            disk.fail_sync(seed % 4);
            apply(&mut hls, object(segment(9), pattern(100, 1)));
            stepper.step(Duration::from_secs(60));
            drain(&mut events, &mut log);
            break;
        }
        log.push(format!("{round}: {}", stepper.step(Duration::from_millis(u64::from(round) * 100))));
        drain(&mut events, &mut log);
    }
    drop((hls, flv, spool, stepper));
    disk.power_loss(seed).unwrap();
    let (spool, stored, mut events, mut stepper) = Spool::open_stepped(Config::new(dir.path()), disk).unwrap();
    log.push(format!("{stored:?}"));
    let mut flv = spool.reopen(&key("flv")).unwrap();
    apply(&mut flv, [Output::Append(WHOLE, pattern(1, 1)), Output::Close(WHOLE, super::summary(1))]);
    flv.finish();
    stepper.step(Duration::ZERO);
    drain(&mut events, &mut log);
    spool.close().await;
    let folder = dir.path().display().to_string();
    log.iter().map(|line| line.replace(&folder, "")).collect()
}

#[tokio::test]
async fn the_same_seed_gives_the_same_events_and_the_same_ruins() {
    let mut ruins = std::collections::BTreeSet::new();
    for seed in 0..10 {
        let first = run(seed).await;
        assert_eq!(first, run(seed).await, "seed {seed}");
        assert!(first.iter().any(|line| line.starts_with("Closed")), "{first:?}");
        ruins.insert(first);
    }
    assert!(ruins.len() > 1, "every seed the same");
}

#[tokio::test]
async fn nothing_is_durable_before_its_interval_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { flush_interval: Duration::from_millis(500), ..Config::new(dir.path()) };
    let disk = FaultyDisk::new();
    let (spool, _, mut events, mut stepper) = Spool::open_stepped(config, disk.clone()).unwrap();
    let mut flv = spool.create(key("flv"), &json!({})).unwrap();
    apply(&mut flv, [Output::Open(spec(WHOLE)), Output::Append(WHOLE, pattern(700, 1)), mark(WHOLE, 40)]);
    assert!(!stepper.step(Duration::from_millis(1_000)), "the interval begins with the first step");
    assert!(!stepper.step(Duration::from_millis(1_409)));
    assert!(events.try_next().is_none());
    assert_eq!(disk.syncs(), 0);
    // A little early: what a crash costs is counted from when the publisher sent it.
    assert!(stepper.step(Duration::from_millis(1_410)));
    assert!(matches!(events.try_next(), Some(Event::Opened { .. })));
    assert!(matches!(events.try_next(), Some(Event::Durable { bytes: 700, .. })));
    assert_eq!(spool.read(&key("flv"), WHOLE, 0, 1_000).await.unwrap(), pattern(700, 1));
    let flv = key("flv");
    let record = spool.record(&flv, crate::Record::Note(json!(1)));
    let mut record = std::pin::pin!(record);
    tokio::select! {
        biased;
        _ = &mut record => panic!("durable without a step"),
        () = std::future::ready(()) => {}
    }
    stepper.step(Duration::from_millis(1_501));
    record.await.unwrap();
}
