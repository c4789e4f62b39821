//! RetryUploads: what has failed is tried again, and what has not arrived goes where somebody says.

use recorder_proto::facts::{FileAvailable, FileFailed};
use recorder_proto::pb::node::Directive;
use recorder_proto::pb::node::directive::{Control, Directive as Body, control::Action};
use recorder_proto::pb::node::plan::StorageRef;
use serde_json::Value;
use store::Kind;

use super::growing::{PART, append, begun, end, parts};
use super::outages::{acknowledging, flv, in_backup, manifest, refusing};
use super::*;
use crate::link::Directives;
use crate::manifest::RecordingMeta;
use crate::manifest::tests::{ended, meta as recording_meta};

/// Another storage, which no template names.
fn other(meta: &OutputMeta) -> Target {
    Target { name: "storages/backup".into(), bucket: "b2".into(), prefix: "other".into(), ..meta.storage.clone() }
}

fn order(yard: &Yard, command: &str, target: Option<Target>) {
    yard.nudge.order(&meta(Format::Flv).recording.to_string(), command, target);
}

fn failures(yard: &Yard) -> Vec<FileFailed> {
    let failed = |fact: Fact| if let FactKind::FileFailed(failed) = fact.kind { Some(failed) } else { None };
    yard.facts().into_iter().filter_map(failed).collect()
}

async fn availables(yard: &Yard, count: usize) -> Vec<FileAvailable> {
    let available = |fact: Fact| if let FactKind::FileAvailable(file) = fact.kind { Some(file) } else { None };
    wait(|| {
        let found: Vec<_> = yard.facts().into_iter().filter_map(available).collect();
        (found.len() >= count).then_some(found)
    })
    .await
}

fn hls(yard: &Yard, meta: &OutputMeta) {
    let mut writer = yard.writer(meta);
    for number in 0..3 {
        object(&mut writer, segment(number), pattern(100 + number as usize, 1));
        playlist(&mut writer, number + 1, number == 2);
    }
    writer.apply(Output::FileDone(0, summary(0, 3_000))).unwrap();
    writer.finish();
}

/// The manifest where it was sent.
async fn other_manifest(yard: &Yard, meta: &RecordingMeta) -> Value {
    let key = meta.key_in(&other(&meta.output));
    wait(|| yard.backup.meta(&key)).await;
    serde_json::from_slice(&yard.backup.get_range(&key, 0..u64::MAX).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_file_that_the_storage_refused_waited_for_the_next_start_although_somebody_asked() {
    let yard = Yard::new(refusing(Kind::Invalid));
    let meta = recording_meta(&[Format::Flv]);
    let handle = yard.manifests.create(meta.clone()).unwrap();
    let data = pattern(5_000, 1);
    flv(&yard, &meta.output, &data);
    handle.note(ended(vec![]));
    wait(|| (failures(&yard).len() == 1).then_some(())).await;
    assert_eq!(failures(&yard)[0].bytes_kept, 5_000);
    order(&yard, "one", None);
    wait(|| (failures(&yard).len() == 2).then_some(())).await;
    order(&yard, "one", None);
    yard.bucket.set(Faults::default());
    order(&yard, "two", None);
    let file = availables(&yard, 1).await.remove(0);
    assert_eq!((file.storage.to_string().as_str(), file.size_bytes), ("storages/s3", 5_000));
    assert_eq!(failures(&yard).len(), 2, "a command is done once");
    let document = manifest(&yard, &meta).await;
    assert_eq!((&document["state"], &document["files"][0]["state"]), (&"SUCCEEDED".into(), &"AVAILABLE".into()));
    assert_eq!(yard.get(&file.object_key).await, data);
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn a_playlist_that_the_storage_refused_is_kept_and_comes_with_the_retry() {
    let yard = Yard::new(DOWN);
    let meta = meta(Format::Hls);
    let mut writer = yard.writer(&meta);
    object(&mut writer, segment(0), pattern(100, 1));
    yard.bucket.set(Faults::default());
    wait(|| yard.memory.meta(&meta.object_key(segment(0)))).await;
    yard.bucket.set(refusing(Kind::Invalid));
    playlist(&mut writer, 1, true);
    writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
    writer.finish();
    let failed = wait(|| failures(&yard).pop()).await;
    assert!(failed.bytes_kept > 30, "{failed:?}");
    // Nothing of it goes without its segment.
    order(&yard, "away", Some(other(&meta)));
    wait(|| (failures(&yard).len() == 2).then_some(())).await;
    yard.bucket.set(Faults::default());
    order(&yard, "again", None);
    assert_eq!(availables(&yard, 1).await[0].storage.to_string(), "storages/s3");
    assert_eq!(in_backup(&yard).await, Vec::<String>::new());
    yard.acknowledged_and_empty().await;
}

/// What has failed, what waits, and the manifest, each time with a process that dies somewhere on the way.
#[tokio::test]
async fn files_that_wait_went_nowhere_else_whoever_asked() {
    for deaths in 0..3 {
        let mut yard = Yard::new(refusing(Kind::Denied));
        let meta = recording_meta(&[Format::Hls, Format::Flv]);
        let handle = yard.manifests.create(meta.clone()).unwrap();
        hls(&yard, &meta.output_of(Format::Hls));
        flv(&yard, &meta.output_of(Format::Flv), &pattern(4_000, 2));
        handle.note(ended(vec![]));
        wait(|| (yard.bucket.calls_of("put") >= 4).then_some(())).await;
        if deaths == 1 {
            // Before anything was done for the order: the next process hears of it again.
            yard = yard.restart(refusing(Kind::Denied)).await;
        }
        order(&yard, "one", Some(other(&meta.output)));
        if deaths == 2 {
            // The order itself is gone; what was noted holds.
            let noted = || journal(&yard, "manifest").contains("storage").then_some(());
            wait(noted).await;
            yard = yard.restart(refusing(Kind::Denied)).await;
        }
        let files = availables(&yard, 2).await;
        for file in &files {
            assert_eq!(file.storage.to_string(), "storages/backup");
            assert_eq!(file.uri, format!("s3://b2/{}", file.object_key));
        }
        let document = other_manifest(&yard, &meta).await;
        assert_eq!(document["state"], "SUCCEEDED");
        for file in document["files"].as_array().unwrap() {
            assert_eq!(file["storage"], "storages/backup");
        }
        let target = other(&meta.output);
        let there = |format, object| meta.output_of(format).object_key_in(&target, object);
        let whole = yard.backup.get_range(&there(Format::Flv, WHOLE), 0..u64::MAX).await.unwrap();
        assert_eq!(whole, pattern(4_000, 2));
        for number in 0..3 {
            let part = yard.backup.get_range(&there(Format::Hls, segment(number)), 0..u64::MAX).await.unwrap();
            assert_eq!(part, pattern(100 + number as usize, 1));
        }
        yard.acknowledged_and_empty().await;
        yard.bucket.set(Faults::default());
        yard = yard.restart(Faults::default()).await;
        wait(|| tidied(&yard)).await;
        assert_eq!(yard.keys().await, Vec::<String>::new(), "nothing is copied back");
        assert_eq!(in_backup(&yard).await.len(), 6, "and nothing is deleted there");
    }
}

fn journal(yard: &Yard, format: &str) -> String {
    let meta = meta(Format::Flv);
    let path = format!("spool/{}-e{}/{format}/journal", meta.recording, meta.epoch.get());
    String::from_utf8_lossy(&std::fs::read(yard.dir.path().join(path)).unwrap_or_default()).into_owned()
}

fn tidied(yard: &Yard) -> Option<()> {
    let left = std::fs::read_to_string(yard.dir.path().join("state/leftovers.json")).ok()?;
    (left == "[]").then_some(())
}

/// Nothing may be told of a playlist that is half here and half there.
#[tokio::test]
async fn a_playlist_that_has_begun_stays_and_what_has_not_goes() {
    let yard = Yard::new(Faults::default());
    let meta = recording_meta(&[Format::Hls, Format::Flv]);
    let handle = yard.manifests.create(meta.clone()).unwrap();
    let mut writer = yard.writer(&meta.output_of(Format::Hls));
    object(&mut writer, segment(0), pattern(100, 1));
    playlist(&mut writer, 1, false);
    wait(|| yard.memory.meta(&meta.output.object_key(PLAYLIST))).await;
    yard.bucket.set(refusing(Kind::Denied));
    flv(&yard, &meta.output_of(Format::Flv), &pattern(4_000, 2));
    object(&mut writer, segment(1), pattern(200, 3));
    playlist(&mut writer, 2, true);
    writer.apply(Output::FileDone(0, summary(0, 2_000))).unwrap();
    writer.finish();
    handle.note(ended(vec![]));
    order(&yard, "one", Some(other(&meta.output)));
    let moved = availables(&yard, 1).await.remove(0);
    assert_eq!((moved.storage.to_string().as_str(), moved.format), ("storages/backup", Format::Flv));
    yard.bucket.set(Faults::default());
    order(&yard, "two", None);
    let stayed = availables(&yard, 2).await.remove(1);
    assert_eq!((stayed.storage.to_string().as_str(), stayed.format), ("storages/s3", Format::Hls));
    let acknowledging = acknowledging(&yard);
    let document = other_manifest(&yard, &meta).await;
    for file in document["files"].as_array().unwrap() {
        let storage = if file["format"] == "hls" { "storages/s3" } else { "storages/backup" };
        assert_eq!(file["storage"], storage);
    }
    acknowledging.abort();
    yard.acknowledged_and_empty().await;
}

/// Parts of a file that grows are at the storage that fails: the file begins anew elsewhere, and the upload is aborted
/// when that storage is back, be it after a restart.
#[tokio::test]
async fn a_growing_file_goes_elsewhere_and_leaves_no_upload_open() {
    for restarts in [false, true] {
        let mut yard = Yard::new(Faults::default());
        let (meta, mut writer) = begun(&yard, Format::Flv, false);
        let data = pattern(3 * PART + 99, 2);
        append(&mut writer, data.slice(..PART + 5));
        parts(&yard, 1).await;
        yard.bucket.set(refusing(Kind::Denied));
        append(&mut writer, data.slice(PART + 5..2 * PART + 10));
        parts(&yard, 2).await;
        order(&yard, "one", Some(other(&meta)));
        wait(|| journal(&yard, "flv").contains("elsewhere").then_some(())).await;
        append(&mut writer, data.slice(2 * PART + 10..));
        wait(|| (yard.backup.open_uploads() == 1).then_some(())).await;
        end(writer, None);
        let file = availables(&yard, 1).await.remove(0);
        assert_eq!((file.storage.to_string().as_str(), file.size_bytes), ("storages/backup", data.len() as u64));
        assert!(yard.backup.get_range(&file.object_key, 0..u64::MAX).await.unwrap() == data, "other bytes");
        assert_eq!((yard.memory.open_uploads(), yard.backup.open_uploads()), (1, 0));
        yard.acknowledged_and_empty().await;
        if restarts {
            yard = yard.restart(refusing(Kind::Denied)).await;
        }
        yard.bucket.set(Faults::default());
        wait(|| (yard.memory.open_uploads() == 0).then_some(())).await;
        wait(|| tidied(&yard)).await;
    }
}

/// A request that never ends must not hold up what was asked for.
#[tokio::test]
async fn an_upload_that_hangs_gives_way_at_once() {
    let yard = Yard::new(Faults::default());
    let meta = meta(Format::Flv);
    yard.bucket.die_at(0, false);
    flv(&yard, &meta, &pattern(1_000, 1));
    wait(|| yard.bucket.is_dead().then_some(())).await;
    order(&yard, "one", Some(other(&meta)));
    assert_eq!(availables(&yard, 1).await[0].storage.to_string(), "storages/backup");
}

/// A drain waits for what is on its way, not for what has failed.
#[tokio::test]
async fn a_failed_file_does_not_hold_up_the_end_and_is_tried_at_the_next_start() {
    let yard = Yard::new(refusing(Kind::Invalid));
    flv(&yard, &meta(Format::Flv), &pattern(1_000, 1));
    wait(|| failures(&yard).pop()).await;
    let outcome = yard.drain.wait(Duration::from_secs(10)).await;
    assert!(matches!(outcome, recorder_runtime::drain::Outcome::Complete), "{outcome:?}");
    let yard = yard.restart(Faults::default()).await;
    assert_eq!(availables(&yard, 1).await.len(), 1);
}

/// The control plane tells a node only once what it has acknowledged.
#[tokio::test]
async fn an_order_to_another_storage_was_forgotten_by_a_restart_before_it_was_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let command = |name: &str, storage: Option<&str>| {
        let storage =
            storage.map(|kind| StorageRef { name: "storages/b".into(), kind: kind.into(), ..Default::default() });
        let action = Action::RetryUploads as i32;
        let control = Control { action, command_id: name.into(), storage, ..Default::default() };
        Directive { name: format!("control/{name}"), version: 1, directive: Some(Body::Control(control)) }
    };
    let directives = Directives::open(folder.path());
    let upserts = vec![command("here", None), command("there", Some("s3")), command("nowhere", Some("tape"))];
    let applied = directives.delta(1, upserts, &[]);
    assert_eq!((applied.controls.len(), applied.rejections.len()), (2, 1));
    directives.store().await;
    let directives = Directives::open(folder.path());
    let kept: Vec<String> = directives.retries().into_iter().map(|control| control.command_id).collect();
    assert_eq!(kept, ["there"]);
    directives.delta(2, Vec::new(), &["control/there".to_owned()]);
    assert_eq!(directives.retries(), []);
}
