//! Outputs whose journal is gone or unreadable.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Bench, WHOLE, apply, key, object, pattern};
use crate::aside::FOLDER;
use crate::disk::Disk;

const SIZE: usize = 50_000;

/// A spool in which `flv` was closed and never uploaded, and `aac` as well.
async fn unshipped() -> Bench {
    let bench = Bench::new();
    for (format, seed) in [("flv", 1), ("aac", 2)] {
        let mut writer = bench.writer(format);
        apply(&mut writer, object(WHOLE, pattern(SIZE, seed)));
        writer.finish();
    }
    bench.spool.flush().await;
    bench
}

/// Ends the spool in order, does something to the journal of its FLV, and opens it again.
async fn hurt(bench: Bench, damage: impl FnOnce(&Path)) -> Bench {
    let journal = bench.output_dir("flv").join("journal");
    bench.spool.close().await;
    damage(&journal);
    Bench::at(bench.dir, |_| {}, Disk::default())
}

fn kept(bench: &Bench) -> Vec<PathBuf> {
    let folder = fs::read_dir(bench.dir.path().join(FOLDER));
    let mut found: Vec<_> = folder.map(|all| all.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
    found.sort();
    found
}

fn formats(bench: &Bench) -> Vec<&str> {
    bench.stored.iter().map(|output| output.key.format.as_str()).collect()
}

/// Regression (M11): a start deleted the only copy of an output when the journal beside it could not be read.
#[tokio::test]
async fn recovery_deleted_media_whose_journal_was_gone() {
    let rewrite = |change: fn(&mut Vec<u8>)| {
        move |journal: &Path| {
            let mut bytes = fs::read(journal).unwrap();
            change(&mut bytes);
            fs::write(journal, bytes).unwrap();
        }
    };
    type Damage = Box<dyn Fn(&Path)>;
    let damages: [(&str, Damage); 4] = [
        ("gone", Box::new(|journal| fs::remove_file(journal).unwrap())),
        ("zeros", Box::new(rewrite(|bytes| bytes.fill(0)))),
        ("garbage", Box::new(rewrite(|bytes| bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(77) ^ 0x5a)))),
        ("cut in its first record", Box::new(rewrite(|bytes| bytes.truncate(40)))),
    ];
    for (name, damage) in damages {
        let bench = hurt(unshipped().await, damage).await;
        assert_eq!(formats(&bench), ["aac"], "{name}");
        let folders = kept(&bench);
        assert_eq!(folders.len(), 1, "{name}");
        assert_eq!(fs::read(folders[0].join("0-whole.data")).unwrap(), pattern(SIZE, 1), "{name}");
        // Admission sees it, now and after the next start.
        let used = bench.spool.usage().bytes;
        assert!(used > 2 * SIZE as u64, "{name}: {used}");
        let bench = bench.restart().await;
        assert_eq!((bench.spool.usage().bytes, kept(&bench).len()), (used, 1), "{name}");
        assert_eq!(bench.whole("aac", WHOLE).await, pattern(SIZE, 2), "{name}");
        // The recording begins the output anew, and loses it again.
        let mut writer = bench.writer("flv");
        apply(&mut writer, object(WHOLE, pattern(SIZE, 3)));
        writer.finish();
        bench.spool.flush().await;
        let bench = hurt(bench, |journal| fs::remove_file(journal).unwrap()).await;
        let folders = kept(&bench);
        assert_eq!(folders.len(), 2, "{name}");
        assert_eq!(fs::read(folders[1].join("0-whole.data")).unwrap(), pattern(SIZE, 3), "{name}");
        // Somebody took them away.
        bench.spool.close().await;
        fs::remove_dir_all(bench.dir.path().join(FOLDER)).unwrap();
        let bench = Bench::at(bench.dir, |_| {}, Disk::default());
        assert!(bench.spool.usage().bytes < 2 * SIZE as u64, "{name}");
        assert_eq!(formats(&bench), ["aac"], "{name}");
    }
}

/// Regression: where the record was lost that names the only object, the output looked as if all of it were released.
#[tokio::test]
async fn a_flipped_bit_made_a_finished_output_look_released() {
    let flip = |journal: &Path| {
        let mut bytes = fs::read(journal).unwrap();
        let at = bytes.windows(6).position(|window| window == b"\"open\"").unwrap();
        bytes[at + 2] ^= 1;
        fs::write(journal, bytes).unwrap();
    };
    let bench = hurt(unshipped().await, flip).await;
    assert_eq!(formats(&bench), ["aac"]);
    assert_eq!(fs::read(kept(&bench)[0].join("0-whole.data")).unwrap(), pattern(SIZE, 1));
}

/// What was never flushed is what a crash may cost: it does not pile up.
#[tokio::test]
async fn an_output_without_a_flush_leaves_nothing_behind() {
    let bench = hurt(unshipped().await, |journal| fs::write(journal, b"").unwrap()).await;
    assert_eq!((formats(&bench), kept(&bench).len()), (vec!["aac"], 0));
    assert!(!bench.output_dir("flv").exists());
    assert!(bench.spool.usage().bytes < 2 * SIZE as u64);
    assert!(bench.spool.create(key("flv"), &serde_json::json!({})).is_ok());
}
