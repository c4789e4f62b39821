//! Crashes of the power and of the process.

use bytes::Bytes;
use mux::{ObjectId, Output};
use serde_json::json;

use super::life::{Life, Rng, check, data};
use super::{PLAYLIST, WHOLE, apply, key, mark, segment, spec, summary};
use crate::decode::decode;
use crate::fault::FaultyDisk;
use crate::{Config, ObjectState, Spool, StoredOutput};

/// One life that ends in a loss of power, and maybe in a failed sync or a halt before; then what the next start finds.
async fn lose_power(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let mut rng = Rng::new(seed);
    let mut life = Life::start(dir.path(), disk.clone());
    let rounds = 1 + rng.below(25);
    let fault = rng.below(rounds);
    for round in 0..rounds {
        if round == fault {
            match rng.below(5) {
                0 => disk.fail_sync(rng.below(8)),
                1 | 2 => disk.halt_after_bytes(rng.below(40_000)),
                3 => disk.stand_still(true),
                _ => {}
            }
        }
        if rng.below(6) == 0 {
            disk.stand_still(false);
        }
        life.round(&mut rng);
        if rng.below(40) == 0 {
            let _ = life.end("mp4");
        }
    }
    let told = life.crash();
    disk.power_loss(seed).unwrap();
    let (spool, stored, _events, _stepper) = Spool::open_stepped(Config::new(dir.path()), disk.clone()).unwrap();
    let context = format!("seed {seed}");
    check(&spool, &stored, &told, &context).await;
    drop((spool, _stepper));
    // A second loss right after: what a start told as found is durable.
    disk.power_loss(seed + 1).unwrap();
    let (spool, again, _events, _stepper) = Spool::open_stepped(Config::new(dir.path()), disk).unwrap();
    for (first, second) in stored.iter().zip(&again) {
        assert_eq!(first, second, "{context}");
    }
    assert_eq!(stored.len(), again.len(), "{context}");
    check(&spool, &again, &told, &context).await;
}

/// R-1 at the spool: a thousand lives end in a loss of power.
#[tokio::test]
async fn power_loss_sim() {
    let from = std::env::var("SEED").map_or(0, |seed| seed.parse().unwrap());
    for seed in from..from + 1_000 {
        lose_power(seed).await;
    }
}

pub const FORMATS: [&str; 2] = ["hls", "mp4"];

fn script(format: &str) -> Vec<(ObjectId, u64)> {
    if format == "hls" { vec![(segment(0), 900), (segment(1), 500)] } else { vec![(WHOLE, 1_500)] }
}

fn playlist(last: bool) -> Output {
    let body = if last { "#EXTM3U\n0\n1\n#EXT-X-ENDLIST\n" } else { "#EXTM3U\n0\n" };
    Output::Playlist { object: PLAYLIST, body: Bytes::from_static(body.as_bytes()), last }
}

/// Writes what is missing of an output: what a muxer would say that goes on where an earlier process was.
pub fn go_on(spool: &Spool, format: &'static str, found: Option<&StoredOutput>) {
    if found.is_some_and(|found| found.finished) {
        return;
    }
    let mut writer = match found {
        Some(found) => spool.reopen(&found.key).unwrap(),
        None => spool.create(key(format), &json!({ "format": format })).unwrap(),
    };
    let objects = found.map(|found| found.objects.as_slice()).unwrap_or_default();
    for (object, len) in script(format) {
        let from = match objects.iter().find(|known| known.spec.object == object).map(|known| &known.state) {
            Some(ObjectState::Closed { .. }) => continue,
            Some(ObjectState::Open { bytes, .. }) => *bytes,
            None => {
                apply(&mut writer, [Output::Open(spec(object))]);
                0
            }
        };
        apply(&mut writer, [Output::Append(object, data(format, object, from, len - from)), mark(object, 40)]);
        if format == "mp4" {
            apply(&mut writer, [Output::Head(object, data("head", object, 0, 200))]);
        }
        apply(&mut writer, [Output::Close(object, summary(3))]);
        if format == "hls" {
            let knows = found.is_some_and(|found| !found.playlists.is_empty());
            apply(&mut writer, (object == segment(0) && !knows).then(|| playlist(false)));
        }
    }
    if format == "hls" {
        apply(&mut writer, [playlist(true)]);
    }
    apply(&mut writer, [Output::FileDone(0, summary(3))]);
    writer.finish();
}

/// What is on disk at the end, as a bucket would get it.
pub async fn finals(path: &std::path::Path) -> Vec<(String, ObjectId, Bytes)> {
    let (spool, stored, _events, _stepper) = Spool::open_stepped(Config::new(path), FaultyDisk::new()).unwrap();
    let mut found = Vec::new();
    for output in &stored {
        assert!(output.finished && output.damaged.is_none() && output.files.len() == 1, "{output:?}");
        for object in &output.objects {
            assert!(object.damaged.is_none(), "{object:?}");
            let bytes = spool.read(&output.key, object.spec.object, 0, usize::MAX).await.unwrap();
            let ObjectState::Closed { size, crc32c, .. } = object.state else { panic!("open: {object:?}") };
            assert_eq!((size, crc32c), (bytes.len() as u64, crc32c::crc32c(&bytes)));
            found.push((output.key.format.clone(), object.spec.object, bytes));
        }
        found.extend(output.playlists.iter().map(|list| (output.key.format.clone(), list.object, list.body.clone())));
    }
    found
}

/// Runs the script until the disk halts after so many bytes, then goes on in a new process. Says whether it halted.
async fn killed_after(bytes: u64, expected: &[(String, ObjectId, Bytes)]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    disk.halt_after_bytes(bytes);
    let (spool, _, _events, stepper) = Spool::open_stepped(Config::new(dir.path()), disk.clone()).unwrap();
    FORMATS.iter().for_each(|format| go_on(&spool, format, None));
    spool.flush().await;
    let halted = disk.written() >= bytes;
    drop((spool, stepper));
    disk.heal();
    resume(dir.path(), disk).await;
    assert_eq!(finals(dir.path()).await, expected, "killed after {bytes} bytes");
    halted
}

pub async fn reference() -> (tempfile::TempDir, Vec<(String, ObjectId, Bytes)>) {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _, _events, _stepper) = Spool::open_stepped(Config::new(dir.path()), FaultyDisk::new()).unwrap();
    FORMATS.iter().for_each(|format| go_on(&spool, format, None));
    spool.close().await;
    let expected = finals(dir.path()).await;
    assert_eq!(expected.len(), 4);
    (dir, expected)
}

/// The process dies between any two journal records, and at many bytes of what it writes.
#[tokio::test]
async fn kill9_during_finalize() {
    let (dir, expected) = reference().await;
    let mut cuts = 0;
    for format in FORMATS {
        let source = crate::output::output_dir(dir.path(), &key(format));
        let journal = std::fs::read(source.join("journal")).unwrap();
        for end in (0..=journal.len()).filter(|end| decode(&journal[..*end]).end == *end) {
            let torn = tempfile::tempdir().unwrap();
            for format in FORMATS {
                let from = crate::output::output_dir(dir.path(), &key(format));
                super::replay::copy(&from, &crate::output::output_dir(torn.path(), &key(format)));
            }
            let target = crate::output::output_dir(torn.path(), &key(format));
            std::fs::write(target.join("journal"), &journal[..end]).unwrap();
            resume(torn.path(), FaultyDisk::new()).await;
            assert_eq!(finals(torn.path()).await, expected, "{format} cut at {end}");
            cuts += 1;
        }
    }
    assert!(cuts > 20, "{cuts}");
    let mut bytes = 0;
    while killed_after(bytes, &expected).await {
        bytes += 23;
    }
    assert!(bytes > 4_000, "{bytes}");
}

/// A process that finishes whatever an earlier one left.
pub async fn resume(path: &std::path::Path, disk: FaultyDisk) {
    let (spool, stored, _events, _stepper) = Spool::open_stepped(Config::new(path), disk).unwrap();
    for format in FORMATS {
        go_on(&spool, format, stored.iter().find(|found| found.key.format == format));
    }
    spool.close().await;
}
