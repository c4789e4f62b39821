//! A log whose disk refuses or changes it while facts wait on it that are not in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;

/// More than memory takes.
const FACTS: u64 = 12;

fn large(id: u64) -> Fact {
    Fact { id: id.to_string(), r#type: "x".repeat(1_000_000), ..Default::default() }
}

async fn filled(folder: &Path) -> (FactLog, Writer, mpsc::Receiver<Order>) {
    let log = FactLog::open(folder).unwrap();
    for id in 1..=FACTS {
        assert_eq!(log.append(large(id)).await.unwrap(), id);
    }
    drop(log);
    let prepared = FactLog::prepare(folder).unwrap();
    assert!(lock(&prepared.0.pending).window.spilled() > 1);
    prepared
}

fn stored(folder: &Path) -> Vec<u64> {
    let mut reader = record::Reader::new(File::open(folder.join(LOG)).unwrap());
    let found = std::iter::from_fn(|| reader.next().unwrap()).map(|fact| fact.sequence).collect();
    assert_eq!(reader.valid, std::fs::metadata(folder.join(LOG)).unwrap().len(), "whole records to the end");
    found
}

fn append(sequence: u64) -> Append {
    Append { fact: Fact { sequence, ..large(sequence) }, done: oneshot::channel().0 }
}

#[tokio::test]
async fn a_failed_compaction_let_the_next_fact_overwrite_confirmed_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (_log, mut writer, _inbox) = filled(folder.path()).await;
    // The new file is written and cannot take the old one's place.
    let (path, aside) = (folder.path().join(LOG), folder.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    writer.rebuild().unwrap_err();
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    writer.attempt(&[append(FACTS + 1)]).unwrap();
    assert_eq!(stored(folder.path()), (1..=FACTS + 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn r4_the_acknowledgement_of_later_facts_was_taken_for_that_of_lost_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (log, mut writer, _inbox) = filled(folder.path()).await;
    let in_memory = lock(&log.pending).window.facts().last().unwrap().sequence;
    let file = OpenOptions::new().write(true).open(folder.path().join(LOG)).unwrap();
    file.write_all_at(b"damage", writer.spill_at + 100).unwrap();
    log.acknowledge(in_memory);
    writer.refill();
    assert_eq!(log.unreported(), 0);
    writer.write(vec![append(0)]);
    assert_eq!(stored(folder.path()), [FACTS + 1], "it does not stand behind the damage, and has a new sequence");
    log.acknowledge(FACTS + 1);
    let fates = |log: &FactLog| [in_memory, in_memory + 1, FACTS, FACTS + 1].map(|sequence| log.fate(sequence));
    let expected = [Fate::Durable, Fate::Lost, Fate::Lost, Fate::Durable];
    assert_eq!(fates(&log), expected);
    writer.note_acked().unwrap();
    drop((log, writer));
    assert_eq!(fates(&FactLog::open(folder.path()).unwrap()), expected, "a restart knows it too");
}

/// Before that, a compaction that met damage was tried for ever, and nothing could be written.
#[tokio::test]
async fn damage_ended_the_log_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let (log, mut writer, _inbox) = filled(folder.path()).await;
    let end = writer.size - 100;
    writer.file.write_all_at(b"damage", end).unwrap();
    writer.rebuild().unwrap();
    writer.write(vec![append(0)]);
    let left: Vec<u64> = (1..FACTS).chain([FACTS + 1]).collect();
    assert_eq!(stored(folder.path()), left);
    assert_eq!((log.fate(FACTS), log.fate(FACTS - 1)), (Fate::Lost, Fate::Waits));
}

#[tokio::test]
async fn facts_that_only_the_spool_knew_of_gave_their_sequences_away_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = FactLog::open(folder.path()).unwrap();
    log.append(large(1)).await.unwrap();
    log.begin_behind(1);
    log.begin_behind(40);
    assert_eq!(log.append(large(41)).await.unwrap(), 41);
    log.acknowledge(41);
    log.append(large(42)).await.unwrap();
    log.refuse(42);
    assert_eq!(
        [1, 2, 40, 41, 42].map(|sequence| log.fate(sequence)),
        [Fate::Durable, Fate::Lost, Fate::Lost, Fate::Durable, Fate::Waits]
    );
    drop(log);
    let log = FactLog::open(folder.path()).unwrap();
    assert_eq!([2, 40, 41].map(|sequence| log.fate(sequence)), [Fate::Lost, Fate::Lost, Fate::Durable]);
}
