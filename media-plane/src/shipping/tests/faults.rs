//! Storages that fail.

use mux::Output;
use recorder_proto::facts::FactKind;
use recorder_proto::format::Format;
use store::{Bucket, Faults, Kind};

use super::{WHOLE, Yard, key, meta, object, pattern, playlist, segment, summary};

fn file(yard: &Yard, bytes: usize) {
    let mut writer = yard.writer(&meta(Format::Flv));
    object(&mut writer, WHOLE, pattern(bytes, 1));
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
}

fn types(yard: &Yard) -> Vec<&'static str> {
    yard.facts().iter().map(|fact| fact.kind.event_type()).collect()
}

#[tokio::test]
async fn every_operation_refused_three_times_still_makes_one_object() {
    let yard = Yard::new(Faults { refuse_first: 3, ..Faults::default() });
    file(&yard, 20 << 20);
    let available = yard.available().await;
    assert!(yard.get(&available.object_key).await == pattern(20 << 20, 1));
    assert_eq!(yard.keys().await.len(), 1);
    assert_eq!(yard.memory.list_uploads("").await.unwrap(), []);
}

#[tokio::test]
async fn lost_replies_still_make_one_object() {
    let yard = Yard::new(Faults { lose_reply: 0.3, refuse: 0.1, seed: 5, ..Faults::default() });
    let mut writer = yard.writer(&meta(Format::Hls));
    for number in 0..20 {
        object(&mut writer, segment(number), pattern(10_000, number as u8));
        playlist(&mut writer, number + 1, number == 19);
    }
    writer.apply(Output::FileDone(0, summary(0, 20_000))).unwrap();
    writer.finish();
    let available = yard.available().await;
    assert_eq!(available.objects, 21);
    assert_eq!(yard.keys().await.len(), 21);
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn a_refused_credential_is_told_in_the_providers_words_and_heals() {
    let yard = Yard::new(Faults { refuse: 1.0, refusal: Kind::Denied, ..Faults::default() });
    file(&yard, 1_000);
    let failing = yard
        .fact(|kind| match kind {
            FactKind::StorageFailing(failing) => Some(failing.clone()),
            _ => None,
        })
        .await;
    assert_eq!(failing.storage.to_string(), "storages/s3");
    assert!(!failing.error.reason.is_empty() && !failing.error.message.is_empty());
    let attempts = yard.bucket.calls_of("put");
    while yard.bucket.calls_of("put") < attempts + 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(types(&yard).iter().filter(|kind| **kind == "storage.failing").count(), 1, "told once");
    assert!(!types(&yard).contains(&"file.failed"), "nothing is given up");
    yard.bucket.set(Faults::default());
    yard.available().await;
    let told = types(&yard);
    let at = |wanted| told.iter().position(|kind| *kind == wanted).unwrap();
    assert!(at("storage.failing") < at("storage.recovered"));
    assert!(at("storage.recovered") < at("file.available"));
}

#[tokio::test]
async fn an_outage_is_told_and_costs_nothing() {
    let yard = Yard::new(Faults { refuse: 1.0, ..Faults::default() });
    file(&yard, 1_000);
    yard.fact(|kind| matches!(kind, FactKind::StorageFailing(_)).then_some(())).await;
    assert!(yard.bucket.calls().values().sum::<u64>() >= 5, "one lost connection is no news");
    yard.bucket.set(Faults::default());
    let available = yard.available().await;
    assert_eq!(yard.get(&available.object_key).await, pattern(1_000, 1));
}

#[tokio::test]
async fn r6_damaged_bytes_are_never_shipped() {
    let yard = Yard::new(Faults { refuse: 1.0, ..Faults::default() });
    let meta = meta(Format::Flv);
    file(&yard, 1_000);
    yard.fact(|kind| matches!(kind, FactKind::StorageFailing(_)).then_some(())).await;
    let key = key(&meta);
    let folder = yard.dir.path().join(format!("spool/{}-e{}/{}", key.recording, key.epoch, key.format));
    let path = folder.join("0-whole.data");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    yard.bucket.set(Faults::default());
    let failed = yard
        .fact(|kind| match kind {
            FactKind::FileFailed(failed) => Some(failed.clone()),
            _ => None,
        })
        .await;
    assert_eq!(failed.error.reason, "SPOOL_UNREADABLE");
    assert!(yard.keys().await.is_empty());
}

#[tokio::test]
async fn a_failing_output_does_not_hold_up_the_others() {
    let yard = Yard::new(Faults { refuse: 1.0, refusal: Kind::Invalid, ..Faults::default() });
    file(&yard, 1_000);
    let failed = yard
        .fact(|kind| match kind {
            FactKind::FileFailed(failed) => Some(failed.clone()),
            _ => None,
        })
        .await;
    assert_eq!(failed.object_key, meta(Format::Flv).object_key(WHOLE));
    yard.bucket.set(Faults::default());
    let other = meta(Format::Aac);
    let mut writer = yard.writer(&other);
    object(&mut writer, WHOLE, pattern(100, 2));
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
    assert_eq!(yard.available().await.format, Format::Aac);
}
