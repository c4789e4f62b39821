//! One flipped bit, anywhere.

use std::path::{Path, PathBuf};

use mux::ObjectPart;

use super::key;
use super::life::{Life, Rng, Told, data};
use crate::fault::FaultyDisk;
use crate::output::output_dir;
use crate::{Config, Error, ObjectState, Spool, StoredObject, StoredOutput};

/// A spool with closed and open objects, heads, notes and playlists.
fn life(path: &Path) -> Told {
    let mut rng = Rng::new(7);
    let mut life = Life::start(path, FaultyDisk::new());
    for _ in 0..12 {
        life.round(&mut rng);
    }
    life.end("mp4").unwrap();
    life.end("hls").unwrap();
    for _ in 0..3 {
        life.stepper.step(std::time::Duration::from_secs(60));
    }
    life.crash()
}

fn files(path: &Path) -> Vec<PathBuf> {
    let dirs = ["flv", "hls", "mp4"].map(|format| output_dir(path, &key(format)));
    let mut files: Vec<_> =
        dirs.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap()).map(|f| f.unwrap().path()).collect();
    files.sort();
    files
}

/// Reads an object; one that cannot be read ends at its damage first. Returns its length and whether it is damaged.
async fn read(spool: &Spool, output: &StoredOutput, object: &StoredObject, context: &str) -> (u64, bool) {
    let id = object.spec.object;
    let format = output.key.format.as_str();
    let mut object = object.clone();
    let bytes = match spool.read(&output.key, id, 0, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(Error::Corrupt { .. }) => {
            if matches!(object.state, ObjectState::Open { .. }) {
                // Only its newest bytes were checked at the start. It is closed as after any crash, and then ends early.
                let mut writer = spool.reopen(&output.key).unwrap();
                writer.apply(mux::Output::Close(id, super::summary(9))).unwrap();
                spool.flush().await;
            }
            object = spool.end_at_damage(&output.key, id).await.unwrap();
            assert!(object.damaged.is_some());
            match spool.read(&output.key, id, 0, usize::MAX).await {
                Ok(bytes) => bytes,
                // The head itself: nothing of it can be believed, and that is told.
                Err(Error::Corrupt { .. }) if format == "mp4" => return (0, true),
                Err(error) => panic!("{context}: {error}"),
            }
        }
        Err(error) => panic!("{context}: {error}"),
    };
    let head = match &object.state {
        ObjectState::Closed { size, crc32c, .. } => {
            assert_eq!((bytes.len() as u64, crc32c::crc32c(&bytes)), (*size, *crc32c), "{context}");
            if format == "mp4" && bytes.len() >= 300 && bytes[..300] == data("head", id, 0, 300) { 300 } else { 0 }
        }
        ObjectState::Open { .. } => 0,
    };
    let expected = data(format, id, 0, bytes.len() as u64 - head);
    assert_eq!(bytes[head as usize..], expected, "{context}: wrong bytes");
    (bytes.len() as u64, object.damaged.is_some())
}

/// What there is of every object, whether damage was told, and the playlist.
async fn contents(path: &Path, context: &str) -> Vec<(String, Option<ObjectPart>, u64, bool)> {
    let (spool, stored, _events, mut stepper) = Spool::open_stepped(Config::new(path), FaultyDisk::new()).unwrap();
    let work = async {
        let mut found = Vec::new();
        for output in &stored {
            let format = output.key.format.clone();
            let told = output.damaged.is_some();
            for object in &output.objects {
                let (len, damaged) = read(&spool, output, object, context).await;
                found.push((format.clone(), Some(object.spec.object.part), len, told || damaged));
            }
            let length = output.playlists.first().map_or(0, |list| list.body.len() as u64);
            found.push((format, None, length + u64::from(output.finished), told));
        }
        found
    };
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            found = &mut work => return found,
            () = tokio::task::yield_now() => drop(stepper.step(std::time::Duration::from_secs(1))),
        }
    }
}

/// Flips a bit by seed; whatever is not as without it must have been told.
#[tokio::test]
async fn spool_bit_flip() {
    let source = tempfile::tempdir().unwrap();
    life(source.path());
    let whole = contents(source.path(), "no flip").await;
    assert!(whole.iter().all(|(.., damaged)| !damaged) && whole.len() > 6, "{whole:?}");
    let files = files(source.path());
    let sizes: Vec<u64> = files.iter().map(|path| path.metadata().unwrap().len()).collect();
    let mut seen = [0_u32; 2];
    for seed in 0..2_000 {
        let mut rng = Rng::new(seed);
        // Every other one in a journal, which is small beside the data.
        let journals_only = seed % 2 == 0;
        let at = loop {
            let at = rng.below(files.len() as u64) as usize;
            if sizes[at] > 0 && (!journals_only || files[at].ends_with("journal")) {
                break at;
            }
        };
        let copy = tempfile::tempdir().unwrap();
        let of_path = |format: &&str| files[at].starts_with(output_dir(source.path(), &key(format)));
        let hurt = ["flv", "hls", "mp4"].into_iter().find(of_path).unwrap();
        super::replay::copy(&output_dir(source.path(), &key(hurt)), &output_dir(copy.path(), &key(hurt)));
        let target = copy.path().join(files[at].strip_prefix(source.path()).unwrap());
        let mut bytes = std::fs::read(&target).unwrap();
        let byte = rng.below(bytes.len() as u64) as usize;
        bytes[byte] ^= 1 << rng.below(8);
        std::fs::write(&target, bytes).unwrap();
        let context = format!("seed {seed}: byte {byte} of {}", target.display());
        let found = contents(copy.path(), &context).await;
        for (format, part, len, _) in whole.iter().filter(|(format, ..)| format == hurt) {
            let same = found.iter().find(|(f, p, ..)| f == format && p == part);
            let told = found.iter().any(|(f, _, _, damaged)| f == format && *damaged);
            let is_whole = same.is_some_and(|(_, _, found, _)| found == len);
            assert!(is_whole || told, "{context}: {format} {part:?} has {same:?} of {len} and nothing was told");
            seen[usize::from(is_whole)] += 1;
        }
    }
    assert!(seen[0] > 500, "{seen:?}");
}
