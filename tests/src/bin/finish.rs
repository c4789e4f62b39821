//! `make bench-finish`: from a publisher's last byte until its file is complete in the storage, for files uploaded while
//! recording. Prints a table; asserts nothing but that the files come.
//!
//! Usage: `finish [s3 hmac account library ...]`, default all. `RECORDER_FINISH_RUNS` (default 50) streams a storage and
//! layout, each of `RECORDER_FINISH_MINUTES` (default 10) of media pushed `RECORDER_FINISH_SPEED` (default 30) times as
//! fast as real time, at `RECORDER_FINISH_KILOBITS` (default 2500) kbit/s.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::time::Duration;

use recorder_proto::pb::v1;
use recorder_tests::bucket::{BUCKET, Flavour, GcsServer, S3Options, S3Server};
use recorder_tests::cluster::Cluster;
use recorder_tests::load::connect;
use recorder_tests::scene::{Clients, tree};
use rtmp::client::{Client, payload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use v1::storage::{FileSystem, Gcs, S3, Target};
use v1::template::{Aac, Flv, Mp4, aac, mp4};

/// Longest wait for a file after its publisher has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the storage is looked at.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy)]
struct Settings {
    runs: usize,
    minutes: u64,
    speed: u64,
    kilobits: u64,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str, default| {
            let text = std::env::var(format!("RECORDER_FINISH_{name}")).ok();
            text.and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        Self {
            runs: number("RUNS", 50) as usize,
            minutes: number("MINUTES", 10),
            speed: number("SPEED", 30),
            kilobits: number("KILOBITS", 2_500),
        }
    }
}

/// Where files go, and how one looks at what is there.
enum Place {
    S3(S3Server),
    Google(GcsServer),
    Library,
}

impl Place {
    async fn start(kind: &str) -> (Self, Target) {
        match kind {
            "s3" => {
                let server = S3Server::start("AKTEST", "SKTEST-secret").await;
                let target = Target::S3(S3 {
                    bucket: BUCKET.into(),
                    endpoint: server.endpoint(),
                    access_key_id: "AKTEST".into(),
                    secret_access_key: "SKTEST-secret".into(),
                    path_style: true,
                    ..Default::default()
                });
                (Self::S3(server), target)
            }
            "hmac" => {
                let options = S3Options { flavour: Flavour::Google, ..S3Options::default() };
                let server = S3Server::start_with(options).await;
                let target = Target::Gcs(Gcs {
                    bucket: BUCKET.into(),
                    endpoint: server.endpoint(),
                    access_key_id: server.options().access_key.clone(),
                    secret_access_key: server.options().secret_key.clone(),
                    ..Default::default()
                });
                (Self::S3(server), target)
            }
            "account" => {
                let server = GcsServer::start().await;
                let target = Target::Gcs(Gcs {
                    bucket: BUCKET.into(),
                    endpoint: server.endpoint(),
                    service_account_json: server.service_account_json(),
                    ..Default::default()
                });
                (Self::Google(server), target)
            }
            "library" => (Self::Library, Target::FileSystem(FileSystem { directory: "finish".into() })),
            other => panic!("no storage {other}"),
        }
    }

    /// Size of the stream's object of this extension, once it is there; temporary objects do not count.
    fn size(&self, library: &Path, stream: &str, extension: &str) -> Option<usize> {
        let of = |keys: Vec<String>| keys.into_iter().find(|key| key.contains(stream) && key.ends_with(extension));
        match self {
            Self::S3(server) => server.object(&of(server.keys())?).map(|object| object.body.len()),
            Self::Google(server) => server.object(&of(server.keys())?).map(|object| object.body.len()),
            Self::Library => {
                let path = library.join(of(tree(library))?);
                std::fs::metadata(path).ok().map(|found| found.len() as usize)
            }
        }
    }

    /// Memory and disk are not for keeping what was measured.
    fn forget(&self, library: &Path, stream: &str) {
        match self {
            Self::S3(server) => server.keys().iter().filter(|key| key.contains(stream)).for_each(|key| {
                server.forget(key);
            }),
            Self::Google(server) => server.keys().iter().filter(|key| key.contains(stream)).for_each(|key| {
                server.forget(key);
            }),
            Self::Library => tree(library).iter().filter(|key| key.contains(stream)).for_each(|key| {
                let _ = std::fs::remove_file(library.join(key));
            }),
        }
    }
}

#[tokio::main]
async fn main() {
    let settings = Settings::read();
    let given: Vec<String> = std::env::args().skip(1).collect();
    let all = ["s3", "hmac", "account", "library"].map(str::to_owned).to_vec();
    let Settings { runs, minutes, speed, kilobits } = settings;
    println!(
        "{minutes} min at {kilobits} kbit/s pushed {speed}x, {runs} runs: publisher's last byte to complete object"
    );
    println!("{:>9} {:>16} {:>10} {:>9} {:>9} {:>9}", "storage", "format", "MiB", "p50 ms", "p99 ms", "max ms");
    for kind in if given.is_empty() { all } else { given } {
        let (place, target) = Place::start(&kind).await;
        let cluster = Cluster::with_settings(&[("RECORDER_LOG_FILTER", "warn")]).await;
        let mut clients = Clients::of(&cluster).await;
        clients.storage("finish", target).await;
        measure(&kind, &place, &cluster, &mut clients, settings, mp4::Layout::FastStart).await;
        measure(&kind, &place, &cluster, &mut clients, settings, mp4::Layout::Fragmented).await;
    }
}

async fn measure(
    kind: &str,
    place: &Place,
    cluster: &Cluster,
    clients: &mut Clients,
    settings: Settings,
    layout: mp4::Layout,
) {
    let is_fast = layout == mp4::Layout::FastStart;
    let id = if is_fast { "fast" } else { "fragmented" };
    let mp4 = Mp4 { layout: layout.into(), upload_while_recording: true, ..Default::default() };
    let flv = is_fast.then(|| Flv { upload_while_recording: true, ..Default::default() });
    let aac =
        is_fast.then(|| Aac { when: aac::When::Always.into(), upload_while_recording: true, ..Default::default() });
    let template = v1::Template { storage: "finish".into(), mp4: Some(mp4), flv, aac, ..Default::default() };
    clients.template(id, template).await;
    let domain = format!("{id}.example.com");
    clients.bind(id, &domain).await;
    let formats: &[(&str, &str)] = if is_fast {
        &[("FLV", ".flv"), ("MP4 fast-start", ".mp4"), ("AAC", ".aac")]
    } else {
        &[("MP4 fragmented", ".mp4")]
    };
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); formats.len()];
    let mut sizes = vec![0; formats.len()];
    let library = cluster.library();
    for run in 0..settings.runs {
        let stream = format!("run{run}x{id}");
        publish(cluster.rtmp(1), &domain, &stream, settings).await;
        let ended = Instant::now();
        let mut missing: Vec<usize> = (0..formats.len()).collect();
        while !missing.is_empty() {
            assert!(ended.elapsed() < PATIENCE, "{kind}: {stream} has no {:?}", formats[missing[0]]);
            missing.retain(|index| {
                let Some(size) = place.size(&library, &stream, formats[*index].1) else { return true };
                times[*index].push(ended.elapsed());
                sizes[*index] = size;
                false
            });
            tokio::time::sleep(LOOK).await;
        }
        clients.wait_for(&domain, &stream, 1, v1::recording::State::Succeeded).await;
        place.forget(&library, &stream);
    }
    for (index, (format, _)) in formats.iter().enumerate() {
        times[index].sort();
        let at = |share: f64| times[index][((times[index].len() - 1) as f64 * share).round() as usize].as_millis();
        let mib = sizes[index] as f64 / f64::from(1 << 20);
        println!("{kind:>9} {format:>16} {mib:>10.1} {:>9} {:>9} {:>9}", at(0.5), at(0.99), at(1.0));
    }
}

/// Publishes the whole stream and returns when its last byte is handed to the system.
async fn publish(address: &str, domain: &str, stream: &str, settings: Settings) {
    let socket = connect(address, domain, stream).await;
    let (mut answers, mut socket) = socket.into_split();
    // Acknowledgements must not fill the way back.
    let listening = tokio::spawn(async move {
        let mut heard = [0; 4096];
        while answers.read(&mut heard).await.is_ok_and(|read| read > 0) {}
    });
    let mut client = Client::new();
    client.set_chunk_size(4096);
    let mut headers = client.video(0, &payload::avc_header(payload::AVC_RECORD));
    headers.extend(client.audio(0, &payload::aac_header(payload::ASC)));
    socket.write_all(&headers).await.expect("headers");
    let frame = (settings.kilobits * 1_000 / 8 / 30) as usize;
    let (key, other) = (payload::avc_frame(true, 0, frame * 4), payload::avc_frame(false, 0, frame));
    let sound = payload::aac_frame(372);
    let (started, mut audio) = (Instant::now(), 0_u64);
    for video in 0..settings.minutes * 60 * 30 {
        let time = video * 1_000 / 30;
        if video % 30 == 0 {
            tokio::time::sleep_until(started + Duration::from_millis(time / settings.speed)).await;
        }
        let mut bytes = client.video(time as u32, if video % 60 == 0 { &key } else { &other });
        while audio * 1_024_000 / 44_100 <= time {
            bytes.extend(client.audio((audio * 1_024_000 / 44_100) as u32, &sound));
            audio += 1;
        }
        socket.write_all(&bytes).await.expect("media");
    }
    socket.write_all(&client.unpublish(stream)).await.expect("unpublish");
    socket.shutdown().await.expect("end");
    listening.abort();
}
