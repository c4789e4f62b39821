//! What is found abnormal outlives the process that found it, and counts once.

use std::collections::BTreeMap as Map;

use media::health;

use super::*;

fn found(times: u64, at: Duration) -> health::Tally {
    let mut tally = health::Tally::default();
    tally.add(health::Kind::GopAbnormal, times, at);
    tally
}

/// What facts tell of it: of those with the same id the first counts, as at the control plane.
fn told(life: &Life) -> (u64, usize) {
    let mut by_id: Map<String, u64> = Map::new();
    let facts = life.log.after(0, 1_000);
    for wire in &facts {
        let fact = Fact::try_from(wire).unwrap();
        if let FactKind::RecordingAbnormal(told) = fact.kind {
            assert!(told.found.iter().all(|span| span.kind == Kind::GopAbnormal), "{told:?}");
            by_id.entry(wire.id.clone()).or_insert_with(|| told.found.iter().map(|span| span.count).sum());
        }
    }
    (by_id.values().sum(), by_id.len())
}

/// The first life: two findings are told, three more are noted, and four not even that when the node is killed.
async fn killed(folder: &Path, disk: &FaultyDisk, bucket: &Arc<Memory>) {
    let (folder, disk, bucket) = (folder.to_owned(), disk.clone(), Arc::clone(bucket));
    let life = async move {
        let mut life = Life::start(&folder, false, &disk, &bucket);
        let mut recording = record(&life.node);
        assert_eq!(recording.take(super::Feed::Both, &[avc(), picture(0), picture(40)]), None);
        let now = life.node.clock.monotonic();
        let second = |seconds| now + Duration::from_secs(seconds);
        recording.found(&found(2, second(0)));
        recording.tell_health_if_due(second(1));
        recording.found(&found(3, second(2)));
        assert_eq!(recording.health_due(), Some(second(6)), "of the same, five seconds later");
        recording.tell_health_if_due(second(6));
        recording.found(&found(4, second(7)));
        recording.tell_health_if_due(second(8));
        life.until("the first findings to be told", |life| told(life) == (2, 1)).await;
        for _ in 0..20 {
            life.turn().await;
        }
    };
    // All tasks of the node end with their runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::spawn_blocking(move || runtime.block_on(life)).await.unwrap();
}

#[tokio::test]
async fn what_was_found_and_not_told_when_a_node_was_killed_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
    killed(folder.path(), &disk, &bucket).await;
    let mut life = Life::start(folder.path(), false, &disk, &bucket);
    let manifest = |life: &Life| {
        let of = |fact| if let FactKind::RecordingManifest(manifest) = fact { Some(manifest) } else { None };
        life.facts().into_iter().find_map(of)
    };
    life.until("a manifest", |life| manifest(life).is_some()).await;
    assert_eq!(told(&life), (5, 2), "told and noted, each once");
    let manifest = manifest(&life).unwrap();
    let bytes = bucket.get_range(&manifest.object_key, 0..manifest.size_bytes).await.unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(manifest["findings"][0]["code"], -132, "{manifest:#}");
    assert_eq!((&manifest["findings"][0]["count"], manifest["findings"].as_array().unwrap().len()), (&5.into(), 1));
    life.die().await;
}
