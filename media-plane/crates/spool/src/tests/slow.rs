//! A disk that takes its time to sync.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mux::Output;

use super::{Bench, WHOLE, apply, key, mark, pattern, spec};
use crate::disk::Disk;
use crate::fault::FaultyDisk;
use crate::{Config, Event, ObjectState, Spool};

/// Waits until what a killed process would leave at this moment is so many bytes with a mark, and gives them.
async fn left_behind(bench: &Bench, bytes: u64) -> Bytes {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let copy = tempfile::tempdir().unwrap();
        let target = crate::output::output_dir(copy.path(), &key("flv"));
        super::replay::copy(&bench.output_dir("flv"), &target);
        let (spool, stored, _events, _stepper) =
            Spool::open_stepped(Config::new(copy.path()), FaultyDisk::new()).unwrap();
        let state = stored.first().and_then(|output| Some(&output.objects.first()?.state));
        if matches!(state, Some(ObjectState::Open { bytes: found, .. }) if *found == bytes) {
            assert!(stored[0].damaged.is_none() && stored[0].objects[0].damaged.is_none());
            return spool.read(&key("flv"), WHOLE, 0, usize::MAX).await.unwrap();
        }
        assert!(Instant::now() < deadline, "{state:?} instead of {bytes} bytes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A soak lost five seconds with a kill: the disk had not come back from a sync for so long, and what was written
/// meanwhile was in no journal.
#[tokio::test]
async fn a_kill_during_a_slow_sync_costs_no_more_than_another() {
    let disk = FaultyDisk::new();
    let mut bench = Bench::with(|_| {}, Disk::from(disk.clone()));
    let mut writer = bench.writer("flv");
    apply(&mut writer, [Output::Open(spec(WHOLE)), Output::Append(WHOLE, pattern(1_000, 0)), mark(WHOLE, 40)]);
    bench.event(|event| matches!(event, Event::Durable { bytes: 1_000, .. }).then_some(())).await;
    disk.stand_still(true);
    for round in 1..5_u64 {
        apply(&mut writer, [Output::Append(WHOLE, pattern(1_000, 0)), mark(WHOLE, 40 * (round as i64 + 1))]);
        let bytes = left_behind(&bench, 1_000 * (round + 1)).await;
        assert_eq!(bytes, pattern(1_000, 0).repeat(round as usize + 1));
        assert!(bench.events.try_next().is_none(), "told as durable before its sync came back");
    }
    disk.stand_still(false);
    bench.event(|event| matches!(event, Event::Durable { bytes: 5_000, .. }).then_some(())).await;
    drop(writer);
}
