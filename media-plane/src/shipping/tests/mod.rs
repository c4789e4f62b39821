//! Shipping over a real spool and fact log, into buckets in memory that fail on purpose.

mod crashes;
mod damage;
mod ended;
mod faults;
mod growing;
mod happy;
mod incomplete;
mod manifests;
mod memory;
mod outages;
mod refusals;
mod restart;
mod retries;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{TimeZone, Utc};
use futures_util::FutureExt;
use media::MediaTime;
use mux::{Mark, ObjectId, ObjectPart, ObjectSpec, Output, Summary};
use recorder_proto::facts::{Fact, FactKind};
use recorder_proto::format::Format;
use recorder_proto::ids::Epoch;
use recorder_proto::names::StreamKey;
use recorder_runtime::clock::SystemClock;
use recorder_runtime::drain::Drain;
use recorder_runtime::retry::Policy;
use spool::{OutputKey, Spool, Writer};
use store::{Bucket, Faults, Memory, Unreliable};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::backup::Copies;
use super::budget::{Bandwidth, Gate};
use super::lag::Lag;
use super::nudge::Nudge;
use super::storage::{Open, Pace};
use super::tidying::Tidying;
use super::{Context, OutputMeta, Shipping, Target, Wall};
use crate::link::FactLog;
use crate::manifest::Manifests;
use crate::node::Facts;

pub const WHOLE: ObjectId = ObjectId { file: 0, part: ObjectPart::Whole };
pub const PLAYLIST: ObjectId = ObjectId { file: 0, part: ObjectPart::Playlist };

/// A bucket that does not answer.
pub const DOWN: Faults = Faults {
    refuse_first: u32::MAX,
    lose_replies_first: 0,
    refuse: 0.0,
    lose_reply: 0.0,
    refusal: store::Kind::Unavailable,
    seed: 0,
};

pub const fn segment(number: u32) -> ObjectId {
    ObjectId { file: 0, part: ObjectPart::Segment(number) }
}

/// A node's spool, fact log and shipping, and the bucket it ships to.
pub struct Yard {
    pub dir: TempDir,
    pub memory: Arc<Memory>,
    pub bucket: Arc<Unreliable>,
    /// The bucket of the storage `storages/backup`, which always works.
    pub backup: Arc<Memory>,
    patience: Patience,
    pub spool: Spool,
    pub manifests: Manifests,
    pub log: FactLog,
    pub lag: Lag,
    pub nudge: Nudge,
    pub drain: Drain,
    task: JoinHandle<()>,
}

/// How long a yard waits before it does something about an outage, and how many transfers it makes side by side.
#[derive(Clone, Copy)]
pub struct Patience {
    pub stalled_after: Duration,
    pub backup_after: Duration,
    pub slot: Duration,
    pub side_by_side: usize,
}

impl Default for Patience {
    fn default() -> Self {
        let hour = Duration::from_secs(3_600);
        Self { stalled_after: hour, backup_after: hour, slot: Duration::from_micros(100), side_by_side: 4 }
    }
}

type Buckets = (Arc<Memory>, Arc<Memory>);

impl Yard {
    pub fn new(faults: Faults) -> Self {
        Self::patient(faults, Patience::default())
    }

    pub fn patient(faults: Faults, patience: Patience) -> Self {
        Self::at(tempfile::tempdir().unwrap(), Default::default(), faults, patience)
    }

    /// Over a bucket that takes parts in their order.
    pub fn in_order(faults: Faults) -> Self {
        let buckets = (Arc::new(Memory::in_order()), Arc::default());
        Self::at(tempfile::tempdir().unwrap(), buckets, faults, Patience::default())
    }

    fn at(dir: TempDir, (memory, backup): Buckets, faults: Faults, patience: Patience) -> Self {
        let bucket = Arc::new(Unreliable::new(Arc::clone(&memory) as Arc<dyn Bucket>, faults));
        let state = dir.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        let config =
            spool::Config { flush_interval: Duration::from_millis(20), ..spool::Config::new(dir.path().join("spool")) };
        let (spool, stored, events) = Spool::open(config).unwrap();
        let log = FactLog::open(&state).unwrap();
        let drain = Drain::new();
        let clients = (Arc::clone(&bucket), Arc::clone(&backup));
        let manifests = Manifests::open(&spool, &stored);
        let (copies, returning) = Copies::new();
        let lag = Lag::default();
        let open: Open = Arc::new(move |target, _| {
            let (bucket, backup) = clients.clone();
            let is_backup = target.name == "storages/backup";
            let client = if is_backup { backup as Arc<dyn Bucket> } else { bucket as Arc<dyn Bucket> };
            async move { Ok(client) }.boxed()
        });
        let tidying = Tidying::open(&state);
        let context = Context { tidying, ..context((&spool, &manifests, &log, &lag), copies, patience, open) };
        let nudge = context.nudge.clone();
        let shipping = Shipping::over(context, stored, events, returning, drain.signal(), Box::new(|| false));
        let task = tokio::spawn(shipping.run());
        Self { dir, memory, bucket, backup, patience, spool, manifests, log, lag, nudge, drain, task }
    }

    /// The process dies and starts again; the bucket stays.
    pub async fn restart(self, faults: Faults) -> Self {
        self.task.abort();
        let _ = self.task.await;
        self.spool.close().await;
        drop((self.spool, self.manifests, self.bucket));
        Self::at(self.dir, (self.memory, self.backup), faults, self.patience)
    }

    pub fn writer(&self, meta: &OutputMeta) -> Writer {
        self.spool.create(key(meta), &serde_json::to_value(meta).unwrap()).unwrap()
    }

    /// Every fact so far.
    pub fn facts(&self) -> Vec<Fact> {
        self.log.after(0, 1_000).iter().map(|fact| Fact::try_from(fact).unwrap()).collect()
    }

    /// Waits for a fact that `pick` accepts.
    pub async fn fact<T>(&self, mut pick: impl FnMut(&FactKind) -> Option<T>) -> T {
        let mut appended = self.log.appended();
        let search = async {
            loop {
                appended.borrow_and_update();
                if let Some(found) = self.facts().iter().find_map(|fact| pick(&fact.kind)) {
                    return found;
                }
                appended.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), search).await.expect("no such fact")
    }

    pub async fn available(&self) -> recorder_proto::facts::FileAvailable {
        self.fact(|kind| match kind {
            FactKind::FileAvailable(file) => Some(file.clone()),
            _ => None,
        })
        .await
    }

    /// The control plane confirms everything; waits until the spool is empty.
    pub async fn acknowledged_and_empty(&self) {
        let empty = async {
            loop {
                self.log.acknowledge(*self.log.appended().borrow());
                if self.spool.usage().bytes == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), empty).await.expect("bytes stay spooled");
    }

    pub async fn get(&self, key: &str) -> Bytes {
        self.memory.get_range(key, 0..u64::MAX).await.unwrap()
    }

    pub async fn keys(&self) -> Vec<String> {
        self.memory.list("").await.unwrap().into_iter().map(|listed| listed.key).collect()
    }

    /// Ends in order.
    pub async fn drained(self) -> recorder_runtime::drain::Outcome {
        let outcome = self.drain.wait(Duration::from_secs(10)).await;
        self.task.await.unwrap();
        outcome
    }
}

/// What shipping works with; storages are what `open` gives.
pub fn context(node: (&Spool, &Manifests, &FactLog, &Lag), copies: Copies, patience: Patience, open: Open) -> Context {
    let (spool, manifests, log, lag) = node;
    let millis = Duration::from_millis;
    Context {
        spool: spool.clone(),
        manifests: manifests.clone(),
        facts: Facts::new(log.clone()),
        log: log.clone(),
        clock: SystemClock::shared(),
        gate: Gate::new(patience.side_by_side, patience.side_by_side),
        bandwidth: Bandwidth::default(),
        releases: Default::default(),
        lag: lag.clone(),
        progress: Arc::default(),
        nudge: Default::default(),
        open,
        pace: Pace {
            transient: Policy::forever(millis(1), millis(10)),
            refused: Policy::forever(millis(10), millis(50)),
            slot: patience.slot,
        },
        stalled_after: patience.stalled_after,
        backup_after: patience.backup_after,
        copies,
        tidying: Default::default(),
        storages: Default::default(),
    }
}

pub fn key(meta: &OutputMeta) -> OutputKey {
    OutputKey { recording: meta.recording.to_string(), epoch: meta.epoch.get(), format: meta.format.to_string() }
}

pub fn meta(format: Format) -> OutputMeta {
    let at = Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap();
    OutputMeta {
        recording: recorder_proto::ids::RecordingId::new(at, [7; 10]),
        record_id: None,
        epoch: Epoch(1),
        format,
        stream: StreamKey::new("push.example.com", "live", "cam").unwrap(),
        storage: Target {
            name: "storages/s3".into(),
            kind: "s3".into(),
            bucket: "b".into(),
            prefix: "rec".into(),
            ..Target::default()
        },
        backup: None,
        continues: None,
        first_file: 0,
        template: "default".into(),
        path: "{AppName}/{StreamID}/{RecordId}".into(),
        time_zone: String::new(),
        random: [1; 10],
        labels: [("team.name".to_owned(), "Ünit 7".to_owned())].into(),
        wall: Wall { at, media: MediaTime::ZERO },
        upload_while_recording: false,
        part_bytes: 0,
        head_last: false,
    }
}

pub fn pattern(len: usize, seed: u8) -> Bytes {
    (0..len).map(|n| (n as u8).wrapping_mul(13).wrapping_add(seed)).collect()
}

pub fn summary(from: i64, to: i64) -> Summary {
    Summary {
        starts_at: MediaTime::from_millis(from),
        ends_at: MediaTime::from_millis(to),
        video_frames: 25,
        ..Summary::default()
    }
}

fn spec(object: ObjectId) -> ObjectSpec {
    let (extension, content_type) = match object.part {
        ObjectPart::Whole => ("flv", "video/x-flv"),
        ObjectPart::Fragment(_) => ("m4s", "video/iso.segment"),
        ObjectPart::Init(_) => ("mp4", "video/mp4"),
        _ => ("ts", "video/mp2t"),
    };
    ObjectSpec { object, extension, content_type }
}

/// Opens, fills and closes an object of one second.
pub fn object(writer: &mut Writer, object: ObjectId, data: Bytes) {
    open(writer, object, data);
    writer.apply(Output::Close(object, summary(0, 1_000))).unwrap();
}

/// Opens and fills an object.
pub fn open(writer: &mut Writer, object: ObjectId, data: Bytes) {
    writer.apply(Output::Open(spec(object))).unwrap();
    writer.apply(Output::Append(object, data)).unwrap();
    writer
        .apply(Output::Commit(object, Mark { media_time: MediaTime::from_millis(1_000), ..Mark::default() }))
        .unwrap();
}

/// A playlist that names segments 0 to `count`.
pub fn playlist(writer: &mut Writer, count: u32, last: bool) {
    let mut body = String::from("#EXTM3U\n#EXT-X-TARGETDURATION:20\n");
    for number in 0..count {
        body.push_str(&format!("#EXTINF:1.0,\n{number}.ts\n"));
    }
    if last {
        body.push_str("#EXT-X-ENDLIST\n");
    }
    writer.apply(Output::Playlist { object: PLAYLIST, body: body.into(), last }).unwrap();
}

/// Waits for what nobody tells of.
pub async fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("it never came")
}
