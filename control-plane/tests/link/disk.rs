//! The disk under an SQLite database fails: reliability test 26.
use std::time::{Duration, Instant};

use rand::Rng;
use recorder_db::Kind;
use recorder_db::scratch::Scratch;
use recorder_proto::pb::node::ReportFactsRequest;
use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording_service_client::RecordingServiceClient;
use recorder_proto::pb::v1::template_service_client::TemplateServiceClient;
use tonic::Response;

use super::binary::{Process, channel, report};
use super::chaos::away;
use super::control::until;
use super::kills::{Ordeal, held};

/// How often the disk fails, each time at another byte of the log.
const ROUNDS: u32 = 6;

/// Up to so much is left on the disk for the log: room for none, some or all of a round's reports.
const ROOM: u64 = 512 * 1024;

#[test]
fn db_chaos_sqlite_ioerr() {
    let seed: u64 = std::env::var("RECORDER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("RECORDER_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scratch = Scratch::new(Kind::Sqlite).unwrap();
    runtime.block_on(failing(&scratch, seed));
}

async fn failing(scratch: &Scratch, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut ordeal = Ordeal::new(seed);
    let mut process = Process::start(folder.path(), &scratch.url).await;
    let (mut taken, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let node_epoch = process.register().await;
        let log = std::fs::metadata(scratch.file().unwrap().with_extension("db-wal")).unwrap().len();
        let limit = match round {
            0 => 0,
            1 => log + ROOM,
            _ => log.saturating_sub(4_096) + ordeal.random.random_range(0..ROOM),
        };
        process.limit_files(Some(limit));
        for _ in 0..3 {
            let chapter = ordeal.chapter();
            ordeal.waiting.extend(chapter);
            let before = held(scratch).await;
            let request = ReportFactsRequest { node_epoch, facts: ordeal.waiting.clone() };
            match report(process.address("link"), request).await {
                Ok(answer) => {
                    let durable = answer.expect("the stream does not end of itself").durable_sequence;
                    assert_eq!(held(scratch).await, durable, "what was told is there; seed {seed}");
                    ordeal.confirm(durable);
                    taken += 1;
                }
                Err(status) => {
                    away::<()>(Err(status));
                    assert_eq!(held(scratch).await, before, "nothing of what was refused is there; seed {seed}");
                    refused += 1;
                }
            }
        }
        if limit == 0 {
            only_reads(&process, &ordeal, node_epoch).await;
        }
        if ordeal.random.random() {
            process.kill();
            process = Process::start(folder.path(), &scratch.url).await;
        } else {
            heal(&process).await;
        }
        if !ordeal.waiting.is_empty() {
            ordeal.catch_up(&process, scratch).await;
        }
    }
    println!("{taken} reports taken, {refused} refused");
    assert!(refused >= 3 && taken > 0, "{taken} taken, {refused} refused; seed {seed}");
    ordeal.settle(&process, scratch).await;
}

/// Whoever writes is told to come back; who reads is served.
async fn only_reads(process: &Process, ordeal: &Ordeal, node_epoch: u64) {
    let (api, link) = (channel(process.address("api")).await, channel(process.address("link")).await);
    let create = v1::CreateTemplateRequest::default();
    away(TemplateServiceClient::new(api.clone()).create_template(create).await);
    let claim = ordeal.story.another("claimed").claim(node_epoch);
    away(NodeLinkServiceClient::new(link).claim_recording(claim).await);
    let list = v1::ListRecordingsRequest::default();
    RecordingServiceClient::new(api).list_recordings(list).await.map(Response::into_inner).unwrap();
}

/// The disk works again, and within 2 s so does everything.
async fn heal(process: &Process) {
    let mut templates = TemplateServiceClient::new(channel(process.address("api")).await);
    process.limit_files(None);
    let healed = Instant::now();
    until("the database to be back", async || {
        templates.create_template(v1::CreateTemplateRequest::default()).await.ok()
    })
    .await;
    assert!(healed.elapsed() < Duration::from_secs(2), "{:?}", healed.elapsed());
}
