//! What spooling costs: 100 writers of 2.5 Mbit/s FLV, in real time or as fast as the disk allows.
//!
//! `cargo run --release -p spool --example spool_bench -- [writers] [seconds] [fast]` prints CPU microseconds per MB,
//! CPU milliseconds per stream-second, and what of it the publishing side spends in `apply`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media::MediaTime;
use mux::{Mark, ObjectId, ObjectPart, ObjectSpec, Output, Summary};
use spool::{Config, OutputKey, Spool, Writer};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const OBJECT: ObjectId = ObjectId { file: 0, part: ObjectPart::Whole };
/// 25 pictures a second of 2.4 Mbit/s and 43 audio frames of 96 kbit/s.
const PICTURE: usize = 12_000;
const SOUND: usize = 280;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let writers: u32 = args.next().map_or(Ok(100), |text| text.parse())?;
    let seconds: u32 = args.next().map_or(Ok(10), |text| text.parse())?;
    let fast = args.next().is_some();
    let dir = tempfile::tempdir_in(".")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(dir.path(), writers, seconds, fast))
}

async fn run(path: &std::path::Path, writers: u32, seconds: u32, fast: bool) -> Outcome<()> {
    let (spool, _, mut events) = Spool::open(Config::new(path))?;
    let mut outputs = Vec::new();
    for number in 0..writers {
        let key = OutputKey { recording: format!("BENCH{number:05}"), epoch: 1, format: "flv".into() };
        let mut writer = spool.create(key, &serde_json::json!({}))?;
        writer.apply(Output::Open(ObjectSpec { object: OBJECT, extension: "flv", content_type: "video/x-flv" }))?;
        outputs.push(writer);
    }
    let picture = Bytes::from(vec![7; PICTURE]);
    let sound = Bytes::from(vec![9; SOUND]);
    let (cpu, started) = (cpu_time()?, Instant::now());
    let mut applying = Duration::ZERO;
    let mut durable = 0u64;
    for tick in 0..seconds * 50 {
        let before = Instant::now();
        for writer in &mut outputs {
            if tick % 2 == 0 {
                frame(writer, &picture, tick)?;
            }
            frame(writer, &sound, tick)?;
        }
        applying += before.elapsed();
        while events.try_next().is_some() {
            durable += 1;
        }
        spool.writable().await;
        if !fast {
            let due = started + Duration::from_millis(20) * (tick + 1);
            tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
        }
    }
    for mut writer in outputs {
        writer.apply(Output::Close(OBJECT, Summary::default()))?;
        writer.finish();
    }
    spool.flush().await;
    let spent = cpu_time()? - cpu;
    let wall = started.elapsed();
    let megabytes = spool.usage().bytes as f64 / 1e6;
    spool.close().await;
    println!("{writers} writers, {seconds} s of media in {:.2} s: {megabytes:.0} MB", wall.as_secs_f64());
    println!("CPU: {:.0} us per MB", spent.as_secs_f64() * 1e6 / megabytes);
    let stream_seconds = f64::from(writers * seconds);
    println!("CPU: {:.3} ms per stream-second", spent.as_secs_f64() * 1e3 / stream_seconds);
    println!("in apply: {:.3} ms per stream-second", applying.as_secs_f64() * 1e3 / stream_seconds);
    println!("durable events: {:.2} per stream-second", durable as f64 / stream_seconds);
    println!("resident: {} KiB", resident()?);
    Ok(())
}

/// What an FLV muxer says per frame: tag header, payload, previous tag size, mark.
fn frame(writer: &mut Writer, payload: &Bytes, tick: u32) -> Outcome<()> {
    writer.apply(Output::Append(OBJECT, Bytes::from_static(&[0; 16])))?;
    writer.apply(Output::Append(OBJECT, payload.clone()))?;
    writer.apply(Output::Append(OBJECT, Bytes::from_static(&[0; 4])))?;
    let media_time = MediaTime::from_millis(i64::from(tick) * 20);
    writer.apply(Output::Commit(OBJECT, Mark { media_time, ..Mark::default() }))?;
    Ok(())
}

/// User and system time of this process; the kernel counts in ticks of 10 ms.
fn cpu_time() -> Outcome<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Ok(Duration::from_millis((ticks(11) + ticks(12)) * 10))
}

fn resident() -> Outcome<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").to_owned())
}
