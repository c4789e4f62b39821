//! `make soak-memory`: the bucket is away for ten minutes, twenty streams go on; the node's memory must stay flat, and
//! everything must be delivered afterwards.

use std::fmt;
use std::time::{Duration, Instant};

use recorder_proto::pb::v1::Template;
use tokio::time::sleep;

use crate::accounting::Ledger;
use crate::bucket::{Fault, S3Server};
use crate::cluster::Cluster;
use crate::footage::Footage;
use crate::numbered::Publisher;
use crate::publisher::Source;
use crate::scene::{Clients, all_formats};
use crate::stage::{DOMAIN, STORAGE, s3_target};
use crate::verify::{self, ALLOWANCE};

/// Until memory has reached its level: every file is open, every buffer has been used, the bucket has been away.
const WARM_UP: Duration = Duration::from_secs(60);
/// Between two looks.
const SAMPLE: Duration = Duration::from_secs(5);
/// How long the delivery of everything may take afterwards.
const DELIVERY: Duration = Duration::from_secs(600);
/// Formats of the template: all, or those that `SOAK_FORMATS` names.
fn formats() -> Vec<&'static str> {
    let wanted = std::env::var("SOAK_FORMATS").unwrap_or_default();
    let is_wanted = |name: &&str| wanted.is_empty() || wanted.split(',').any(|one| one == *name);
    ["AAC", "FLV", "HLS", "MP4"].into_iter().filter(is_wanted).collect()
}

/// The template for them.
fn template() -> Template {
    let formats = formats();
    let mut template = Template { storage: STORAGE.into(), ..all_formats() };
    template.aac = template.aac.filter(|_| formats.contains(&"AAC"));
    template.flv = template.flv.filter(|_| formats.contains(&"FLV"));
    template.hls = template.hls.filter(|_| formats.contains(&"HLS"));
    template.mp4 = template.mp4.filter(|_| formats.contains(&"MP4"));
    template
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Memory {
    /// Streams.
    pub streams: usize,
    /// How long the bucket was away.
    pub outage: Duration,
    /// Resident KiB of the node, every five seconds after the warm-up.
    pub samples: Vec<u64>,
    /// How long delivery took after the last publisher had left.
    pub delivery: Duration,
    /// Bytes delivered.
    pub bytes: u64,
    /// What was wrong.
    pub problems: Vec<String>,
}

/// Twenty (or `streams`) publishers, the bucket away for `outage`.
pub async fn run(outage: Duration, streams: usize) -> Memory {
    let cluster = Cluster::with_settings(&[("RECORDER_SPOOL_LIMIT", "30GiB"), ("RECORDER_LOG_FILTER", "warn")]).await;
    let s3 = S3Server::start("AKTEST", "SKTEST-very-secret").await;
    let mut clients = Clients::of(&cluster).await;
    clients.storage(STORAGE, s3_target(&s3)).await;
    clients.template("all", template()).await;
    clients.bind("all", DOMAIN).await;
    let source = Source { seconds: 12, kilobits: 300, gop: 60, ..Default::default() };
    let footage = Footage::encode(&source, cluster.folder());
    let mut publishers = Vec::new();
    for number in 0..streams as u32 {
        let mut publisher = Publisher::new(DOMAIN, &format!("cam{number}"), number, &footage);
        publisher.connect(1, cluster.rtmp(1)).await.expect("publish");
        publishers.push(publisher);
    }
    let answer = Fault::Answer { status: 503, code: "ServiceUnavailable", message: "Service is unable to handle it." };
    s3.faults().add("*", answer, usize::MAX);
    let mut report = Memory { streams, outage, ..Memory::default() };
    let start = Instant::now();
    let warm_up = WARM_UP.min(outage / 4);
    while start.elapsed() < outage {
        sleep(SAMPLE.min(outage / 20)).await;
        let resident = cluster.nodes[0].resident_kib();
        eprintln!("{:>4} s {:>8} KiB", start.elapsed().as_secs(), resident);
        if start.elapsed() >= warm_up {
            report.samples.push(resident);
        }
    }
    for publisher in &mut publishers {
        publisher.leave().await;
    }
    s3.faults().clear();
    let healed = Instant::now();
    for publisher in &publishers {
        report.judge(&mut clients, &s3, publisher, healed + DELIVERY).await;
    }
    report.delivery = healed.elapsed();
    if s3.open_uploads() > 0 {
        report.problems.push(format!("{} uploads are open", s3.open_uploads()));
    }
    report
}

impl Memory {
    async fn judge(&mut self, clients: &mut Clients, s3: &S3Server, publisher: &Publisher, deadline: Instant) {
        let told = loop {
            let told = verify::told(clients, DOMAIN, &publisher.name).await.unwrap_or_default();
            let over = !told.is_empty() && told.iter().all(|(recording, _)| verify::is_over(recording));
            if over || Instant::now() > deadline {
                break told;
            }
            sleep(Duration::from_millis(200)).await;
        };
        let sessions = publisher.sent();
        let ledger =
            Ledger { stream: publisher.number, footage: &publisher.footage, sessions: &sessions, crashes: &[] };
        let fetch = |key: &str| s3.object(key).map(|object| object.body);
        let verdict = verify::verify(&ledger, &told, &formats(), ALLOWANCE, &fetch);
        self.bytes += verdict.bytes;
        verdict.objects.iter().for_each(|key| s3.forget(key));
        let named = verdict.problems.into_iter().map(|problem| format!("{}: {problem}", publisher.name));
        self.problems.extend(named);
    }

    /// Smallest and largest sample.
    pub fn range(&self) -> (u64, u64) {
        let (least, most) = (self.samples.iter().min(), self.samples.iter().max());
        (least.copied().unwrap_or(0), most.copied().unwrap_or(0))
    }

    /// Largest sample over the smallest, in percent.
    pub fn growth(&self) -> f64 {
        let (least, most) = self.range();
        (most as f64 / least.max(1) as f64 - 1.0) * 100.0
    }

    /// Whether memory stayed within 10 % and everything was delivered.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.growth() <= 10.0 && !self.samples.is_empty()
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.range();
        writeln!(
            f,
            "bucket away           {} s, {} streams in {}",
            self.outage.as_secs(),
            self.streams,
            formats().join(", ")
        )?;
        writeln!(f, "memory of the node    {least} to {most} KiB after the warm-up, {:.1} % apart", self.growth())?;
        let mib = self.bytes / (1 << 20);
        writeln!(f, "delivered             {mib} MiB, frame-exact, within {:.1} s", self.delivery.as_secs_f64())?;
        writeln!(f, "problems              {}", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "  {problem}"))
    }
}
