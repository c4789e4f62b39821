//! Facts as nodes report them: of each recording its start, its file opened and available, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use recorder_proto::facts::{Fact, FactKind, FileAvailable, FileOpened, RecordingEnded, RecordingStarted};
use recorder_proto::format::Format;
use recorder_proto::ids::{Epoch, EventId, FileIndex, RecordingId, Sequence, SessionId};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::node::{self, ReportFactsRequest, ReportFactsResponse};
use recorder_proto::pb::v1;
use recorder_runtime::clock::{Clock, SystemClock};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::fleet::Node;
use crate::seed::domain;

/// Recordings told in one message: four facts each.
const BATCH: u64 = 10;

/// Pause before a batch is told again.
const AGAIN: Duration = Duration::from_millis(500);

/// Has every node report for so long; facts that became durable, a second.
pub async fn measure(nodes: &[Node], window: Duration) -> f64 {
    let (durable, until) = (Arc::new(AtomicU64::new(0)), Instant::now() + window);
    let report = |(number, node): (usize, &Node)| {
        let (durable, channel, epoch) = (Arc::clone(&durable), node.channel.clone(), node.epoch);
        tokio::spawn(async move { report(channel, number, epoch, until, &durable).await })
    };
    let started = Instant::now();
    let reports: Vec<_> = nodes.iter().enumerate().map(report).collect();
    for report in reports {
        report.await.expect("a node's reports");
    }
    durable.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

/// One node: a batch at a time, told again when the control plane is too busy to take it, as real nodes do.
async fn report(channel: Channel, number: usize, epoch: u64, until: Instant, durable: &AtomicU64) {
    let mut sequence = 0;
    let mut next = batch(number, epoch, &mut sequence);
    while Instant::now() < until {
        let before = sequence - BATCH * 4;
        match tell(channel.clone(), next.clone()).await {
            Ok(answer) => {
                assert!(answer.refusals.is_empty(), "every fact is taken: {:?}", answer.refusals.first());
                durable.fetch_add(answer.durable_sequence.saturating_sub(before), Ordering::Relaxed);
                next = batch(number, epoch, &mut sequence);
            }
            Err(status) if status.code() == Code::Unavailable => tokio::time::sleep(AGAIN).await,
            Err(status) => panic!("facts are refused: {status}"),
        }
    }
}

async fn tell(channel: Channel, facts: ReportFactsRequest) -> Result<ReportFactsResponse, Status> {
    let outbox = tokio_stream::once(facts);
    let mut answers = NodeLinkServiceClient::new(channel).report_facts(outbox).await?.into_inner();
    answers.message().await?.ok_or_else(|| Status::unavailable("no answer"))
}

fn batch(number: usize, node_epoch: u64, sequence: &mut u64) -> ReportFactsRequest {
    let now = SystemClock::new().now();
    let mut facts: Vec<node::Fact> = Vec::new();
    for index in 0..BATCH {
        let recording = RecordingId::new(now, rand::random());
        let stream = StreamKey::new(&domain(number), "live", &format!("cam-{index}")).expect("a stream");
        for kind in story(&stream, &recording, now) {
            *sequence += 1;
            let (sequence, id) = (Sequence(*sequence), EventId::new(now, rand::random()));
            let fact = Fact { sequence, id, time: now, recording: Some(recording), epoch: Epoch(1), kind };
            facts.push((&fact).into());
        }
    }
    ReportFactsRequest { node_epoch, facts }
}

fn story(stream: &StreamKey, recording: &RecordingId, now: DateTime<Utc>) -> [FactKind; 4] {
    let storage = || "library".parse().expect("a storage");
    let (key, session) = (format!("origin/{stream}/{recording}.mp4"), SessionId::new(now, rand::random()));
    let started = RecordingStarted {
        stream: stream.clone(),
        session,
        protocol: v1::protocol::Kind::Rtmp,
        origin: format!("rules/rule-{}", stream.stream().trim_start_matches("cam-")),
        also: Vec::new(),
        template: "default".parse().expect("a template"),
        template_revision: 1,
        storage: storage(),
        labels: BTreeMap::new(),
        formats: vec![Format::Mp4],
        start_time: now,
        claim_key: format!("{session}/default"),
    };
    let opened = FileOpened {
        format: Format::Mp4,
        index: FileIndex(0),
        storage: storage(),
        object_key: key.clone(),
        uri: format!("library:///{key}"),
        content_type: "video/mp4".to_owned(),
        start_time: now,
        video: None,
        audio: None,
    };
    let available = FileAvailable {
        format: Format::Mp4,
        index: FileIndex(0),
        storage: storage(),
        uri: format!("library:///{key}"),
        object_key: key,
        content_type: "video/mp4".to_owned(),
        size_bytes: 1_000_000,
        objects: 1,
        crc32c: "AAAAAA==".to_owned(),
        object_etag: "e".to_owned(),
        start_time: now,
        end_time: now,
        duration_micros: 29_000_000,
        video: None,
        audio: None,
        available_time: now,
    };
    let ended = RecordingEnded {
        end_reason: v1::recording::EndReason::PublisherEnded,
        start_time: now,
        end_time: now,
        media_duration_micros: 29_000_000,
        gaps: Vec::new(),
        outputs: Vec::new(),
        error: None,
    };
    [started.into(), opened.into(), ended.into(), available.into()]
}
