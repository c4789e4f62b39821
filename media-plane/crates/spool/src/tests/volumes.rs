//! Disks whose syncs fail: nothing after is durable, and new outputs go to the next disk.

use std::time::Duration;

use super::life::{Life, Rng, check};
use super::{WHOLE, apply, key, object, pattern};
use crate::fault::FaultyDisk;
use crate::{Config, Error, Spool};

/// The k-th sync of a life fails; the recordings go on elsewhere. Says whether it came to that.
async fn fail_kth(k: u64) -> bool {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = FaultyDisk::new();
    let mut rng = Rng::new(k);
    let spares = vec![second.path().to_path_buf()];
    let config =
        || Config { flush_interval: Duration::from_millis(200), spares: spares.clone(), ..Config::new(first.path()) };
    let mut life = Life::with(config(), disk.clone());
    disk.fail_sync(k);
    for _ in 0..8 {
        // Asserts that a failed output is told of nothing more.
        life.round(&mut rng);
    }
    let failed = !life.told.failed.is_empty();
    let healthy = if failed { second.path() } else { first.path() };
    assert_eq!(life.spool.healthy_path().as_deref(), Some(healthy), "k = {k}");
    assert!(life.spool.usage().accepting, "k = {k}: another disk is there");
    if failed {
        assert_eq!(life.told.failed.len(), 3, "k = {k}: everything open on that disk");
        for writer in life.writers.values_mut() {
            let refused = writer.apply(mux::Output::FileDone(0, super::summary(1)));
            assert!(matches!(refused, Err(Error::Failed(_))), "k = {k}");
        }
    }
    if !failed {
        disk.heal();
    }
    let mut elsewhere = life.spool.create(key("flv_1"), &serde_json::json!({"f": "flv_1"})).unwrap();
    apply(&mut elsewhere, object(WHOLE, super::life::data("flv_1", WHOLE, 0, 4_000)));
    elsewhere.finish();
    life.stepper.step(Duration::from_secs(100));
    life.told.hear(&mut life.events);
    assert!(life.told.closed.contains_key(&("flv_1".to_owned(), WHOLE)), "k = {k}");
    let shippable: Vec<_> = life.told.closed.keys().cloned().collect();
    for (format, object) in shippable {
        let bytes = life.spool.read(&key(&format), object, 0, usize::MAX).await.unwrap();
        let (size, crc) = life.told.closed[&(format, object)];
        assert_eq!((bytes.len() as u64, crc32c::crc32c(&bytes)), (size, crc), "k = {k}");
    }
    let told = life.crash();
    // First only the process dies, then the power as well.
    for seed in [None, Some(k)] {
        if let Some(seed) = seed {
            disk.power_loss(seed).unwrap();
        }
        let (spool, stored, _events, _stepper) = Spool::open_stepped(config(), disk.clone()).unwrap();
        check(&spool, &stored, &told, &format!("k = {k}, {seed:?}")).await;
    }
    failed
}

#[tokio::test]
async fn fsync_eio() {
    let mut k = 0;
    while fail_kth(k).await {
        k += 1;
    }
    assert!(k > 10, "{k}");
}

#[tokio::test]
async fn a_single_volume_that_failed_accepts_nothing_and_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let (spool, _, _events, mut stepper) = Spool::open_stepped(Config::new(dir.path()), disk.clone()).unwrap();
    let mut flv = spool.create(key("flv"), &serde_json::json!({})).unwrap();
    apply(&mut flv, object(WHOLE, pattern(5_000, 1)));
    spool.flush().await;
    disk.fail_sync(0);
    apply(&mut flv, [mux::Output::FileDone(0, super::summary(1))]);
    stepper.step(Duration::ZERO);
    stepper.step(Duration::from_secs(1));
    assert!(!spool.usage().accepting);
    assert_eq!(spool.healthy_path(), None);
    assert!(matches!(spool.create(key("aac"), &serde_json::json!({})), Err(Error::Failed(_))));
    assert_eq!(spool.read(&key("flv"), WHOLE, 0, usize::MAX).await.unwrap(), pattern(5_000, 1));
}

#[tokio::test]
async fn a_spare_that_cannot_be_opened_does_not_keep_the_node_from_recording() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("not-a-directory");
    std::fs::write(&file, "x").unwrap();
    let config = Config { spares: vec![file.join("spool")], ..Config::new(dir.path().join("spool")) };
    let (spool, ..) = Spool::open_stepped(config, FaultyDisk::new()).unwrap();
    assert!(spool.usage().accepting);
    let config = Config { spares: vec![dir.path().join("spool")], ..Config::new(dir.path().join("other")) };
    assert!(matches!(Spool::open_stepped(config, FaultyDisk::new()), Err(Error::Locked(_))));
}
