//! One real encoder among the numbered ones: ffmpeg, as users run it. Its files have to decode.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use recorder_proto::pb::v1;
use tokio::time::{Instant, sleep};

use super::{NODES, PLANS, World};
use crate::publisher::{Live, ffmpeg};
use crate::verify::{self, Told};

/// The stream's plan: every format, no window.
const PLAN: super::Plan = PLANS[0];

/// Publishes stream after stream, restarting as a supervisor would, and has each file decoded.
pub(super) async fn publish(world: Arc<World>, folder: PathBuf, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut number = 0;
    while !world.is_over() {
        number += 1;
        let stream = format!("real{number}");
        let end = Instant::now() + Duration::from_secs(random.random_range(20..60));
        while Instant::now() < end && !world.is_over() {
            let address = &world.addresses[random.random_range(0..NODES)];
            let mut live = encode(&format!("rtmp://{address}/live/{stream}?domain={}", PLAN.domain()));
            while live.is_running() && Instant::now() < end && !world.is_over() {
                sleep(Duration::from_millis(200)).await;
            }
            // A paused node cannot say goodbye to an encoder that is stopped politely.
            live.kill();
            sleep(Duration::from_millis(500)).await;
        }
        let told = outcome(&world, &stream).await;
        let (world, folder) = (Arc::clone(&world), folder.clone());
        // ffmpeg is waited for: not where publishers run.
        tokio::task::spawn_blocking(move || decode(&world, &stream, &folder, &told)).await.expect("decode");
    }
}

/// Encodes and pushes in real time.
fn encode(url: &str) -> Live {
    let mut command = ffmpeg();
    command.args(["-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"]);
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "60", "-bf", "2"]);
    command.args(["-c:a", "aac", "-b:a", "128k", "-f", "flv", url]);
    Live::spawn(command)
}

/// Waits until every recording of the stream is over.
async fn outcome(world: &World, stream: &str) -> Vec<Told> {
    let mut clients = world.clients();
    let latest = Instant::now() + Duration::from_secs(180);
    loop {
        sleep(Duration::from_secs(3)).await;
        let told = verify::told(&mut clients, &PLAN.domain(), stream).await.unwrap_or_default();
        let over = !told.is_empty() && told.iter().all(|(recording, _)| verify::is_over(recording));
        if over || Instant::now() > latest {
            return told;
        }
    }
}

/// Has every file decoded; its objects are dropped.
fn decode(world: &World, stream: &str, folder: &Path, told: &[Told]) {
    let root = folder.join("real");
    let prefix = format!("/{}/live/{stream}/", PLAN.domain());
    for key in world.s3.keys().into_iter().filter(|key| key.contains(&prefix)) {
        let path = root.join(&key);
        std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
        std::fs::write(path, world.s3.object(&key).expect("listed").body).expect("write");
        world.s3.forget(&key);
    }
    let files = told.iter().flat_map(|(_, files)| files);
    for file in files.filter(|file| file.state() == v1::file::State::Available) {
        let output =
            ffmpeg().arg("-i").arg(root.join(&file.object_key)).args(["-map", "0", "-f", "null", "-"]).output();
        let output = output.expect("ffmpeg");
        let complaints = String::from_utf8_lossy(&output.stderr);
        let complaints = complaints.lines().take(3).collect::<Vec<_>>().join("; ");
        if !complaints.is_empty() {
            let _ = std::fs::create_dir_all("target/soak/media");
            let name = file.object_key.replace('/', "_");
            let _ = std::fs::copy(root.join(&file.object_key), format!("target/soak/media/{name}"));
        }
        world.report(|report| match output.status.success() && complaints.is_empty() {
            true => report.decoded += 1,
            false => report.problems.push(format!("{stream}: {} does not decode: {complaints}", file.object_key)),
        });
    }
    let _ = std::fs::remove_dir_all(&root);
}
