//! Disks that fail.

use std::time::Duration;

use mux::Output;

use super::{Bench, WHOLE, apply, key, mark, object, pattern, segment, spec};
use crate::disk::Disk;
use crate::{Error, Event, ObjectState, recover};

/// Writes two segments and more, flushing in between; stops at the first error.
async fn record(bench: &Bench) -> Result<(), Error> {
    let mut writer = bench.spool.create(key("hls"), &serde_json::json!({}))?;
    for number in 0..2 {
        for output in object(segment(number), pattern(5_000, number as u8)) {
            writer.apply(output)?;
        }
        bench.spool.flush().await;
    }
    writer.apply(Output::Open(spec(segment(2))))?;
    writer.apply(Output::Append(segment(2), pattern(100, 3)))?;
    writer.apply(mark(segment(2), 40))?;
    bench.spool.flush().await;
    writer.apply(mark(segment(2), 41))?;
    writer.finish();
    bench.spool.flush().await;
    Ok(())
}

/// What listeners were told is durable, and whether they were told of the failure.
fn told(bench: &mut Bench) -> (Vec<(mux::ObjectId, u32)>, bool, bool) {
    let (mut closed, mut failed, mut finished) = (Vec::new(), false, false);
    while let Some(event) = bench.events.try_next() {
        match event {
            Event::Closed { spec, crc32c, .. } => {
                assert!(!failed, "durable after the failure");
                closed.push((spec.object, crc32c));
            }
            Event::Failed { .. } => {
                assert!(!failed, "told twice");
                failed = true;
            }
            Event::Finished { .. } => {
                assert!(!failed, "finished after the failure");
                finished = true;
            }
            _ => {}
        }
    }
    (closed, failed, finished)
}

/// Fails the k-th call for every k; a `sick` volume accepts nothing afterwards.
async fn sweep(sick: bool, disk: impl Fn() -> Disk, arm: impl Fn(&Disk, u64)) -> usize {
    for k in 0..200 {
        let disk = disk();
        arm(&disk, k);
        let mut bench = Bench::with(|_| {}, disk);
        let result = record(&bench).await;
        let (closed, failed, finished) = told(&mut bench);
        if !failed {
            assert!(result.is_ok() && finished, "k = {k}: neither failed nor finished");
            return k as usize;
        }
        assert!(!finished);
        assert_eq!(bench.spool.usage().accepting, !sick, "k = {k}");
        assert_eq!(bench.spool.usage().queued, 0, "k = {k}");
        bench.spool.close().await;
        // Whatever was told durable is there, whole, after a restart.
        let found = recover::scan(bench.dir.path(), &Disk::default()).unwrap();
        for (object, crc32c) in closed {
            let stored = found[0].state.stored(&found[0].key);
            let kept = stored.objects.iter().find(|kept| kept.spec.object == object).expect("a closed object is gone");
            assert!(matches!(kept.state, ObjectState::Closed { crc32c: kept, .. } if kept == crc32c), "k = {k}");
        }
    }
    panic!("never without a failure");
}

#[tokio::test]
async fn the_kth_write_fails() {
    let writes = sweep(true, Disk::default, |disk, k| disk.faults().fail_writes_after(k)).await;
    assert!(writes > 5, "{writes}");
}

#[tokio::test]
async fn r1_the_kth_sync_fails_and_nothing_after_it_is_durable() {
    let syncs = sweep(true, Disk::default, |disk, k| disk.faults().fail_syncs_after(k)).await;
    assert!(syncs >= 6, "{syncs}");
}

#[tokio::test]
async fn every_live_output_of_the_volume_fails_and_closed_ones_stay_readable() {
    let mut bench = Bench::new();
    let mut done = bench.writer("aac");
    apply(&mut done, object(WHOLE, pattern(5_000, 1)));
    done.finish();
    bench.spool.flush().await;
    let (mut first, mut second) = (bench.writer("flv"), bench.writer("mp4"));
    apply(&mut first, [Output::Open(spec(WHOLE)), Output::Append(WHOLE, pattern(10, 1))]);
    apply(&mut second, [Output::Open(spec(WHOLE)), Output::Append(WHOLE, pattern(10, 1))]);
    bench.spool.flush().await;
    bench.spool.disk().faults().fail_syncs_after(0);
    apply(&mut first, [Output::Append(WHOLE, pattern(10, 1)), mark(WHOLE, 1)]);
    let mut failed = Vec::new();
    for _ in 0..2 {
        failed.push(
            bench
                .event(|event| match event {
                    Event::Failed { key, error } => {
                        assert!(matches!(error, Error::Io { .. }), "{error}");
                        Some(key.format.clone())
                    }
                    _ => None,
                })
                .await,
        );
    }
    failed.sort();
    assert_eq!(failed, ["flv", "mp4"]);
    for writer in [&mut first, &mut second] {
        assert!(matches!(writer.apply(mark(WHOLE, 2)), Err(Error::Failed(_))));
    }
    assert_eq!(bench.whole("aac", WHOLE).await, pattern(5_000, 1));
}

#[tokio::test]
async fn a_shortage_of_descriptors_fails_one_output_and_not_the_volume() {
    let disk = || Disk::with_patience(Duration::from_millis(30));
    let opens = sweep(false, disk, |disk, k| disk.faults().refuse_opens(k, u64::MAX)).await;
    assert!(opens >= 8, "{opens}: files and directories");
}

#[tokio::test]
async fn a_short_shortage_of_descriptors_costs_nothing() {
    for k in 0..12 {
        let mut bench = Bench::new();
        bench.spool.disk().faults().refuse_opens(k, 3);
        record(&bench).await.unwrap();
        let (closed, failed, finished) = told(&mut bench);
        assert_eq!((closed.len(), failed, finished), (2, false, true), "k = {k}");
        assert!(bench.spool.usage().accepting);
    }
}

#[tokio::test]
async fn a_shortage_of_descriptors_leaves_live_outputs_alone() {
    let mut bench = Bench::with(|_| {}, Disk::with_patience(Duration::from_millis(30)));
    let mut live = bench.writer("flv");
    apply(&mut live, [Output::Open(spec(WHOLE)), Output::Append(WHOLE, pattern(10, 1)), mark(WHOLE, 1)]);
    bench.spool.flush().await;
    bench.spool.disk().faults().refuse_opens(0, u64::MAX);
    let mut late = bench.writer("mp4");
    let error = bench
        .event(|event| match event {
            Event::Failed { key, error } => {
                assert_eq!(key.format, "mp4");
                Some(error.clone())
            }
            _ => None,
        })
        .await;
    assert!(matches!(&error, Error::Io { source, .. } if crate::disk::is_shortage(source)), "{error}");
    assert!(matches!(late.apply(Output::Open(spec(WHOLE))), Err(Error::Failed(_))));
    apply(&mut live, [Output::Append(WHOLE, pattern(20, 2)), mark(WHOLE, 2)]);
    bench.event(|event| matches!(event, Event::Durable { bytes: 30, .. }).then_some(())).await;
    assert!(bench.spool.usage().accepting);
}

#[tokio::test]
async fn a_writer_dropped_unfinished_is_told_after_what_it_closed() {
    let mut bench = Bench::new();
    let mut writer = bench.writer("hls");
    apply(&mut writer, object(segment(0), pattern(5_000, 0)));
    apply(&mut writer, [Output::Open(spec(segment(1))), Output::Append(segment(1), pattern(10, 1))]);
    apply(&mut writer, [mark(segment(1), 40)]);
    drop(writer);
    let mut closed = false;
    let error = bench
        .event(|event| match event {
            Event::Closed { spec, .. } => {
                closed |= spec.object == segment(0);
                None
            }
            Event::Finished { .. } => panic!("it has not finished"),
            Event::Failed { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(matches!(error, Error::Abandoned) && closed, "{error}");
    // What is closed can go its way.
    let committed = crate::Record::Committed { object: segment(0), etag: "e".into(), size: 5_000 };
    bench.spool.record(&key("hls"), committed).await.unwrap();
    assert!(bench.spool.usage().accepting);
    let bench = bench.restart().await;
    assert!(!bench.stored[0].finished, "the next start goes on with it");
    assert_eq!(bench.stored[0].objects.len(), 2);
}

#[tokio::test]
async fn a_writer_dropped_after_its_end_or_its_failure_tells_nothing_more() {
    let mut bench = Bench::new();
    let mut done = bench.writer("aac");
    apply(&mut done, object(WHOLE, pattern(10, 1)));
    done.finish();
    bench.spool.flush().await;
    let (_, failed, finished) = told(&mut bench);
    assert!(finished && !failed);
    let mut bench = Bench::new();
    let mut writer = bench.writer("flv");
    bench.spool.flush().await;
    bench.spool.disk().faults().fail_syncs_after(0);
    apply(&mut writer, [Output::Open(spec(WHOLE))]);
    bench.spool.flush().await;
    drop(writer);
    bench.spool.flush().await;
    let (_, failed, _) = told(&mut bench);
    assert!(failed, "twice would not pass told()");
}
