//! How long a start takes that finds many open outputs, as after a SIGKILL in the middle of recordings.
//!
//! `cargo run --release -p spool --example recover_bench -- [outputs] [megabytes]` writes that much media into each
//! output, drops the spool without closing it, and opens it again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media::MediaTime;
use mux::{Mark, ObjectId, ObjectPart, ObjectSpec, Output};
use spool::{Config, Error, Events, OutputKey, Spool, StoredOutput};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const OBJECT: ObjectId = ObjectId { file: 0, part: ObjectPart::Whole };

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let outputs: u32 = args.next().map_or(Ok(50), |text| text.parse())?;
    let megabytes: u64 = args.next().map_or(Ok(100), |text| text.parse())?;
    let dir = tempfile::tempdir_in(".")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fill(dir.path(), outputs, megabytes))?;
    let started = Instant::now();
    let (_spool, stored, _events) = open_when_free(dir.path())?;
    println!("{} open outputs of {megabytes} MB: recovered in {:.3} s", stored.len(), started.elapsed().as_secs_f64());
    Ok(())
}

/// The threads of a dropped spool let go of the directory when they have ended.
fn open_when_free(path: &std::path::Path) -> Result<(Spool, Vec<StoredOutput>, Events), Error> {
    loop {
        match Spool::open(Config::new(path)) {
            Err(Error::Locked(_)) => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

/// Writes all outputs and gives up without a flush.
async fn fill(path: &std::path::Path, outputs: u32, megabytes: u64) -> Outcome<()> {
    let (spool, _, _events) = Spool::open(Config::new(path))?;
    let mut writers = Vec::new();
    for number in 0..outputs {
        let key = OutputKey { recording: format!("BENCH{number:05}"), epoch: 1, format: "flv".into() };
        let mut writer = spool.create(key, &serde_json::json!({}))?;
        writer.apply(Output::Open(ObjectSpec { object: OBJECT, extension: "flv", content_type: "video/x-flv" }))?;
        writers.push(writer);
    }
    // A megabyte in pictures of 12 kB.
    let picture = Bytes::from(vec![7; 12_000]);
    for number in 0..megabytes * 83 {
        for writer in &mut writers {
            writer.apply(Output::Append(OBJECT, picture.clone()))?;
            let media_time = MediaTime::from_millis(number.cast_signed() * 40);
            writer.apply(Output::Commit(OBJECT, Mark { media_time, ..Mark::default() }))?;
        }
        spool.writable().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}
