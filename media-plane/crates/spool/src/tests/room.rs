//! Full disks: everything waits, nothing is lost, and shipping can make room.

use std::time::Duration;

use mux::Output;

use super::crash::{FORMATS, finals, go_on, reference};
use super::{WHOLE, apply, key, mark, object, pattern, segment, spec};
use crate::fault::FaultyDisk;
use crate::{Config, Event, Record, Spool};

/// The disk is full after so many bytes, in whatever record or data that is; later there is room. Says whether it was.
async fn full_after(bytes: u64, expected: &[(String, mux::ObjectId, bytes::Bytes)], crash: bool) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    disk.set_space(Some(bytes));
    let config = || Config { flush_interval: Duration::from_millis(500), ..Config::new(dir.path()) };
    let (spool, _, mut events, mut stepper) = Spool::open_stepped(config(), disk.clone()).unwrap();
    assert!(spool.usage().accepting);
    FORMATS.iter().for_each(|format| go_on(&spool, format, None));
    for second in 0..3 {
        stepper.step(Duration::from_secs(second));
    }
    let was_full = !spool.usage().accepting;
    let mut finished = 0;
    let mut hear = |events: &mut crate::Events| {
        while let Some(event) = events.try_next() {
            assert!(!matches!(event, Event::Failed { .. }), "full after {bytes}: {event:?}");
            if let Event::Closed { key, spec, size, crc32c, .. } = &event {
                let known = |(format, object, _): &&(String, _, _)| *format == key.format && *object == spec.object;
                let whole = &expected.iter().find(known).unwrap().2;
                assert_eq!((*size, *crc32c), (whole.len() as u64, crc32c::crc32c(whole)), "full after {bytes}");
            }
            finished += u32::from(matches!(event, Event::Finished { .. }));
        }
        finished
    };
    assert_eq!(was_full, hear(&mut events) < 2, "full after {bytes}");
    if crash {
        drop((spool, stepper));
        disk.power_loss(bytes).unwrap();
        super::crash::resume(dir.path(), disk).await;
    } else {
        disk.set_space(None);
        stepper.step(Duration::from_secs(10));
        assert_eq!(hear(&mut events), 2, "full after {bytes}: nothing was lost, so everything ends");
        assert!(spool.usage().accepting && spool.usage().queued == 0, "full after {bytes}");
        spool.close().await;
    }
    assert_eq!(finals(dir.path()).await, expected, "full after {bytes}, crash: {crash}");
    was_full
}

#[tokio::test]
async fn disk_full() {
    let (_dir, expected) = reference().await;
    for (first, crash) in [(0, false), (3, true)] {
        let mut bytes = first;
        while full_after(bytes, &expected, crash).await {
            bytes += 41;
        }
        assert!(bytes > 4_000, "{bytes}");
    }
}

/// Only releases make room on a full disk, and they need room themselves.
#[tokio::test]
async fn a_full_disk_is_emptied_by_shipping_while_a_recording_waits() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    disk.set_space(Some(3 << 20));
    let (spool, _, mut events, mut stepper) = Spool::open_stepped(Config::new(dir.path()), disk.clone()).unwrap();
    let mut hls = spool.create(key("hls"), &serde_json::json!({})).unwrap();
    for number in 0..3 {
        apply(&mut hls, object(segment(number), pattern(900_000, number as u8)));
        stepper.step(Duration::from_secs(u64::from(number)));
    }
    apply(
        &mut hls,
        [Output::Open(spec(segment(3))), Output::Append(segment(3), pattern(5_000, 3)), mark(segment(3), 1)],
    );
    for second in 10..13 {
        stepper.step(Duration::from_secs(second));
    }
    assert!(!spool.usage().accepting, "{:?}", spool.usage());
    let closed = std::iter::from_fn(|| events.try_next()).filter(|event| matches!(event, Event::Closed { .. })).count();
    assert_eq!(closed, 2, "the third does not fit beside the ballast");
    let first = segment(0);
    let hls_key = key("hls");
    for record in [
        Record::Committed { object: first, etag: "e".into(), size: 1 },
        Record::Reported { object: first, sequence: 1 },
    ] {
        let noted = spool.record(&hls_key, record);
        assert!(stepped(noted, &mut stepper).await.is_ok());
    }
    assert!(stepped(spool.release(&hls_key, first), &mut stepper).await.is_ok());
    let flushed = stepped(async { spool.flush().await }, &mut stepper);
    flushed.await;
    for second in 20..23 {
        stepper.step(Duration::from_secs(second));
    }
    assert!(spool.usage().accepting);
    assert_eq!(spool.read(&hls_key, segment(2), 0, usize::MAX).await.unwrap(), pattern(900_000, 2));
    assert_eq!(spool.read(&hls_key, segment(3), 0, usize::MAX).await.unwrap(), pattern(5_000, 3));
}

/// Waits for something while the spool steps without its time going on.
async fn stepped<T>(work: impl Future<Output = T>, stepper: &mut crate::step::Stepper) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::task::yield_now() => drop(stepper.step(Duration::from_secs(13))),
        }
    }
}

/// A full disk fills memory up to its bound, and the publisher waits.
#[tokio::test]
async fn a_full_disk_stops_writers_by_back_pressure() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    disk.set_space(Some(10_000));
    let config = Config { max_queued: 100_000, ..Config::new(dir.path()) };
    let (spool, _, _events, mut stepper) = Spool::open_stepped(config, disk.clone()).unwrap();
    let mut flv = spool.create(key("flv"), &serde_json::json!({})).unwrap();
    apply(&mut flv, [Output::Open(spec(WHOLE))]);
    for round in 0..12 {
        apply(&mut flv, [Output::Append(WHOLE, pattern(10_000, round)), mark(WHOLE, 1)]);
        stepper.step(Duration::from_secs(u64::from(round)));
    }
    let waits = async {
        tokio::select! { biased; () = spool.writable() => false, () = std::future::ready(()) => true }
    };
    assert!(waits.await);
    disk.set_space(None);
    stepper.step(Duration::from_secs(60));
    spool.writable().await;
    spool.flush().await;
    let expected: Vec<u8> = (0..12).flat_map(|round| pattern(10_000, round)).collect();
    assert_eq!(spool.read(&key("flv"), WHOLE, 0, usize::MAX).await.unwrap(), expected);
}
