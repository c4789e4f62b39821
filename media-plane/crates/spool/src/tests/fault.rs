//! Disks that fail.

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

async fn sweep(arm: impl Fn(&Disk, i64)) -> usize {
    for k in 0..200 {
        let disk = Disk::default();
        arm(&disk, k);
        let mut bench = Bench::with(|_| {}, disk);
        let result = record(&bench).await;
        let (closed, failed, finished) = told(&mut bench);
        if !failed {
            assert!(result.is_ok() && finished, "k = {k}: neither failed nor finished");
            return k as usize;
        }
        assert!(!finished);
        assert!(!bench.spool.usage().accepting, "k = {k}");
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
    let writes = sweep(|disk, k| disk.fail_writes_after(k)).await;
    assert!(writes > 5, "{writes}");
}

#[tokio::test]
async fn r1_the_kth_sync_fails_and_nothing_after_it_is_durable() {
    let syncs = sweep(|disk, k| disk.fail_syncs_after(k)).await;
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
    bench.spool.disk().fail_syncs_after(0);
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
