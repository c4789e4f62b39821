//! Facts on disk: across restarts, torn files, and disks that refuse for a while.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use super::writer::COMPACT_BYTES;
use super::*;

struct Replayed {
    facts: Vec<Fact>,
    valid: u64,
    cut: u64,
}

fn replay(path: &Path) -> Replayed {
    let mut reader = record::Reader::new(File::open(path).unwrap());
    let facts = std::iter::from_fn(|| reader.next().unwrap()).collect();
    Replayed { facts, valid: reader.valid, cut: std::fs::metadata(path).unwrap().len() - reader.valid }
}

fn fact(id: &str) -> Fact {
    Fact { id: id.into(), r#type: "recording.started".into(), ..Default::default() }
}

#[tokio::test]
async fn facts_survive_a_restart_with_their_ids_and_sequences() {
    let folder = tempfile::tempdir().unwrap();
    let log = FactLog::open(folder.path()).unwrap();
    assert_eq!(log.append(fact("a")).await.unwrap(), 1);
    assert_eq!(log.append(fact("b")).await.unwrap(), 2);
    assert_eq!(log.append(fact("c")).await.unwrap(), 3);
    log.acknowledge(1);
    log.append(fact("d")).await.unwrap();
    drop(log);
    let log = FactLog::open(folder.path()).unwrap();
    let left: Vec<_> = log.after(0, 10).into_iter().map(|fact| (fact.sequence, fact.id)).collect();
    assert_eq!(left, [(2, "b".into()), (3, "c".into()), (4, "d".into())]);
    assert_eq!(log.append(fact("e")).await.unwrap(), 5);
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_the_rest_kept() {
    let folder = tempfile::tempdir().unwrap();
    let log = FactLog::open(folder.path()).unwrap();
    for id in ["a", "b", "c"] {
        log.append(fact(id)).await.unwrap();
    }
    drop(log);
    let path = folder.path().join(LOG);
    let whole = std::fs::read(&path).unwrap();
    let third = whole.len() - whole.len() / 3;
    for cut in third..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let log = FactLog::open(folder.path()).unwrap();
        assert_eq!(log.unreported(), 2, "cut at {cut}");
    }
}

#[tokio::test]
async fn sequences_do_not_repeat_after_the_log_was_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let log = FactLog::open(folder.path()).unwrap();
    let big = Fact { id: "x".repeat(COMPACT_BYTES as usize + 1), ..Default::default() };
    log.append(big).await.unwrap();
    log.acknowledge(1);
    log.append(fact("b")).await.unwrap();
    log.acknowledge(2);
    // The acknowledgement is on disk once a later append is confirmed, because one thread writes both in order.
    log.append(fact("c")).await.unwrap();
    drop(log);
    let log = FactLog::open(folder.path()).unwrap();
    assert_eq!(log.append(fact("d")).await.unwrap(), 4);
}

#[tokio::test]
async fn large_facts_in_one_batch_broke_the_message_limit() {
    let folder = tempfile::tempdir().unwrap();
    let log = FactLog::open(folder.path()).unwrap();
    let sizes = [400 << 10, 400 << 10, 400 << 10, (1 << 20) - 1024, 10];
    for (id, size) in ["a", "b", "c", "d", "e"].into_iter().zip(sizes) {
        log.append(Fact { r#type: "x".repeat(size), ..fact(id) }).await.unwrap();
    }
    let batch = |after, limit| log.after(after, limit).into_iter().map(|fact| fact.sequence).collect::<Vec<_>>();
    assert_eq!(batch(0, 200), [1, 2]);
    assert_eq!(batch(0, 1), [1]);
    assert_eq!(batch(2, 200), [3]);
    assert_eq!(batch(3, 200), [4, 5], "the largest fact there is goes out");
}

#[tokio::test]
async fn a_fact_above_the_record_limit_cut_every_later_fact_off_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let log = FactLog::open(folder.path()).unwrap();
    log.append(fact("a")).await.unwrap();
    let huge = log.enqueue(Fact { r#type: "x".repeat(5 << 20), ..fact("huge") });
    assert_eq!(log.append(fact("b")).await.unwrap(), 2);
    assert!(huge.await.is_err(), "the receiver of the dropped fact sees the closure");
    drop(log);
    let log = FactLog::open(folder.path()).unwrap();
    let ids: Vec<_> = log.after(0, 10).into_iter().map(|fact| fact.id).collect();
    assert_eq!(ids, ["a", "b"]);
}

#[tokio::test]
async fn a_tail_of_zeros_was_read_as_facts_and_sequences_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let log = FactLog::open(folder.path()).unwrap();
    log.append(fact("a")).await.unwrap();
    drop(log);
    let path = folder.path().join(LOG);
    let whole = std::fs::metadata(&path).unwrap().len();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0; 24]).unwrap();
    let found = replay(&path);
    assert_eq!((found.valid, found.cut, found.facts.len()), (whole, 24, 1));
    let log = FactLog::open(folder.path()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
    assert_eq!(log.append(fact("b")).await.unwrap(), 2);
}

/// A log with one fact whose file is `device` from then on.
async fn on_device(folder: &Path, device: &str) -> FactLog {
    FactLog::open(folder).unwrap().append(fact("a")).await.unwrap();
    let (log, mut writer, inbox) = FactLog::prepare(folder).unwrap();
    writer.file = OpenOptions::new().read(true).write(true).open(device).unwrap();
    std::thread::spawn(move || writer.run(&inbox));
    log
}

fn stored(folder: &Path) -> Vec<(u64, String)> {
    let found = replay(&folder.join(LOG));
    assert_eq!(found.cut, 0);
    found.facts.into_iter().map(|fact| (fact.sequence, fact.id)).collect()
}

#[tokio::test]
async fn one_failed_write_ended_the_log_for_good() {
    let home = tempfile::tempdir().unwrap();
    let (folder, away) = (home.path().join("state"), home.path().join("away"));
    std::fs::create_dir(&folder).unwrap();
    let log = on_device(&folder, "/dev/full").await;
    assert_eq!(log.health(), Ok(()));
    // No replacement of the file can be written either, until the folder is back.
    std::fs::rename(&folder, &away).unwrap();
    let (second, third) = (log.enqueue(fact("b")), log.enqueue(fact("c")));
    let mut trouble = log.trouble.clone();
    tokio::time::timeout(Duration::from_secs(10), trouble.wait_for(Option::is_some)).await.unwrap().unwrap();
    assert!(log.health().unwrap_err().contains("facts cannot be written"), "{:?}", log.health());
    assert_eq!((log.unreported(), log.after(0, 10).len()), (3, 1), "nothing unconfirmed is delivered");
    std::fs::rename(&away, &folder).unwrap();
    let confirmed = tokio::time::timeout(Duration::from_secs(20), async { (second.await, third.await) }).await;
    assert_eq!(confirmed.unwrap(), (Ok(2), Ok(3)));
    assert_eq!(log.health(), Ok(()));
    assert_eq!(stored(&folder), [(1, "a".into()), (2, "b".into()), (3, "c".into())]);
    assert_eq!(log.append(fact("d")).await.unwrap(), 4);
    assert_eq!(stored(&folder).len(), 4, "the new file is the one that is written from then on");
}

#[tokio::test]
async fn one_failed_sync_ended_the_log_for_good() {
    let folder = tempfile::tempdir().unwrap();
    // Takes every byte and refuses to sync.
    let log = on_device(folder.path(), "/dev/null").await;
    let second = tokio::time::timeout(Duration::from_secs(20), log.append(fact("b"))).await.unwrap();
    assert_eq!(second.unwrap(), 2);
    assert_eq!(stored(folder.path()), [(1, "a".into()), (2, "b".into())]);
}

#[tokio::test]
async fn what_a_failed_write_left_behind_is_cut_off_before_the_next_attempt() {
    let folder = tempfile::tempdir().unwrap();
    FactLog::open(folder.path()).unwrap().append(fact("a")).await.unwrap();
    let (log, mut writer, _inbox) = FactLog::prepare(folder.path()).unwrap();
    writer.file.write_all(b"half a record of an append that failed, longer than what replaces it").unwrap();
    writer.misplaced = true;
    let append = Append { fact: Fact { sequence: 2, ..fact("b") }, done: oneshot::channel().0 };
    writer.attempt(&[append]).unwrap();
    assert_eq!(stored(folder.path()), [(1, "a".into()), (2, "b".into())]);
    assert_eq!(log.health(), Ok(()));
}

#[tokio::test]
async fn an_acknowledgement_that_could_not_be_noted_ended_the_log_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let log = FactLog::open(folder.path()).unwrap();
    log.append(fact("a")).await.unwrap();
    // A folder in place of the mark: it cannot be replaced by a file.
    std::fs::create_dir(folder.path().join(ACKED)).unwrap();
    log.acknowledge(1);
    assert_eq!(log.append(fact("b")).await.unwrap(), 2);
    std::fs::remove_dir(folder.path().join(ACKED)).unwrap();
    log.acknowledge(2);
    assert_eq!(log.append(fact("c")).await.unwrap(), 3);
    assert_eq!(read_acked(&folder.path().join(ACKED)).unwrap(), 2);
}

/// A control plane that is away: memory holds the oldest part, nothing is lost, order is kept, restarts change nothing.
#[tokio::test]
async fn r12_a_long_backlog_stays_on_disk_and_comes_in_order() {
    const FACTS: u64 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let mut log = FactLog::open(folder.path()).unwrap();
    let written: Vec<_> = (0..FACTS).map(|number| log.enqueue(fact(&number.to_string()))).collect();
    for durable in written {
        durable.await.unwrap();
    }
    let in_memory = |log: &FactLog| lock(&log.pending).window.facts().count();
    assert_eq!((log.unreported() as u64, in_memory(&log)), (FACTS, 4_096));
    let mut seen = 0;
    while seen < FACTS {
        if seen == 3_000 {
            // Acknowledgements are noted behind the caller's back.
            while read_acked(&folder.path().join(ACKED)).unwrap() < seen {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(log);
            log = FactLog::open(folder.path()).unwrap();
            assert_eq!((log.unreported() as u64, in_memory(&log)), (FACTS - seen, 4_096));
        }
        let mut appended = log.appended();
        appended.borrow_and_update();
        let batch = log.after(seen, 500);
        if batch.is_empty() {
            tokio::time::timeout(Duration::from_secs(20), appended.changed()).await.expect("nothing comes").unwrap();
            continue;
        }
        for fact in &batch {
            assert_eq!((fact.sequence, &fact.id), (seen + 1, &seen.to_string()));
            seen += 1;
        }
        assert!(in_memory(&log) <= 4_096);
        log.acknowledge(seen);
    }
    assert_eq!(log.unreported(), 0);
}

/// Fencing must not ask about recordings of which the control plane cannot have heard yet.
#[test]
fn facts_on_their_way_to_the_disk_counted_as_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (log, mut writer, inbox) = FactLog::prepare(folder.path()).unwrap();
    let mut durable = log.enqueue(fact("started"));
    assert_eq!((log.unreported(), log.after(0, 10).len()), (1, 0));
    writer.turn(inbox.recv().unwrap(), &inbox);
    assert_eq!((durable.try_recv().unwrap(), log.unreported()), (1, 1));
    log.acknowledge(1);
    assert_eq!(log.unreported(), 0);
}

/// A control plane that is always one fact behind.
#[tokio::test]
async fn r12_a_log_that_is_never_empty_does_not_grow_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let log = FactLog::open(folder.path()).unwrap();
    let large = || Fact { data: Some(Default::default()), ..fact(&"x".repeat(10_000)) };
    let mut most = 0;
    for _ in 0..200 {
        let sequence = log.append(large()).await.unwrap();
        log.acknowledge(sequence - 1);
        most = most.max(std::fs::metadata(folder.path().join(LOG)).unwrap().len());
    }
    // 2 MB were written.
    assert!(most < 3 * COMPACT_BYTES, "{most} bytes");
    assert_eq!(log.unreported(), 1);
    let left = log.after(0, 10);
    assert_eq!(left.iter().map(|fact| fact.sequence).collect::<Vec<_>>(), [200]);
}
