//! What every part of the node shares.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use recorder_proto::facts::{Fact, FactKind};
use recorder_proto::ids::{BootId, Epoch, EventId, RecordingId, Sequence};
use recorder_proto::names::{RecordingName, StreamKey};
use recorder_proto::pb;
use recorder_proto::pb::node::register_request::{Capacity, SpoolEntry};
use recorder_proto::pb::node::stream_directives_request::Heartbeat;
use recorder_proto::pb::v1::{format, protocol};
use recorder_runtime::build_info;
use recorder_runtime::clock::Clock;
use recorder_runtime::drain::{Signal, Stage};
use spool::Spool;
use tokio::sync::oneshot;

use crate::backlog::Budget;
use crate::config::Config;
use crate::leaving::Leaving;
use crate::link::{FactError, FactLog, Link, Report};
use crate::manifest::Manifests;
use crate::recording::Progress;
use crate::registry::{Command, Registry};
use crate::shipping::{Lag, Nudge};

/// The shared parts; see the module.
pub struct Node {
    /// Settings in effect.
    pub settings: Config,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// This start of the process.
    pub boot: BootId,
    /// Control link.
    pub link: Link,
    /// Local journal.
    pub spool: Spool,
    /// What happened to each recording, for its manifest and for the next start.
    pub manifests: Manifests,
    /// Live publications.
    pub registry: Registry,
    /// How far uploads are behind.
    pub lag: Lag,
    /// How far recordings are.
    pub progress: Arc<Progress>,
    /// Has waiting uploads tried at once.
    pub nudge: Nudge,
    /// Memory for what live streams keep of their newest media.
    pub backlogs: Arc<Budget>,
    /// On the way out?
    pub drain: Signal,
    /// Being emptied?
    pub leaving: Leaving,
    /// Where facts go.
    pub facts: Facts,
    /// URLs under which publishers reach this node.
    pub addresses: Vec<String>,
    /// What the spool held at start, told at registration.
    pub found: Vec<SpoolEntry>,
}

impl Node {
    /// Whether a new publisher is taken; the sentence says why not.
    pub fn admits(&self) -> Result<(), &'static str> {
        if self.drain.stage() != Stage::Accepting {
            return Err("the node is stopping; publish to another one");
        }
        if self.leaving.is_leaving() {
            return Err("the node is being emptied; publish to another one");
        }
        if !self.spool.usage().accepting {
            return Err("the node's spool is full; uploads are behind");
        }
        Ok(())
    }

    /// Whether a stop has to wait for something that is recorded or handed over. Recordings that wait for a publisher go
    /// on after the next start, unless their publishers were sent elsewhere.
    pub fn is_busy(&self) -> bool {
        let (streams, _) = self.registry.counts();
        streams > 0 || (self.leaving.moves() && self.registry.held() > 0)
    }

    /// What the spool held at start, and what is recorded now: after a pause of this process somebody else may do that.
    fn spooled(&self) -> Vec<SpoolEntry> {
        let mut entries = self.found.clone();
        for (id, epoch) in self.registry.running() {
            let (recording, epoch) = (RecordingName(id).to_string(), epoch.get());
            if !entries.iter().any(|entry| entry.recording == recording && entry.epoch == epoch) {
                entries.push(SpoolEntry { recording, epoch, bytes_unshipped: 0, open: true });
            }
        }
        entries
    }

    /// Where this process keeps its own state, beside the recorded bytes.
    pub fn state_folder(settings: &Config) -> PathBuf {
        settings.spool.path.join("state")
    }

    /// Where the spool keeps recorded bytes.
    pub fn spool_folder(settings: &Config) -> PathBuf {
        settings.spool.path.join("spool")
    }
}

impl Report for Node {
    fn heartbeat(&self) -> Heartbeat {
        let (streams, recordings) = self.registry.counts();
        Heartbeat {
            streams: u32::try_from(streams).unwrap_or(u32::MAX),
            recordings: u32::try_from(recordings).unwrap_or(u32::MAX),
            cpu_load: load(),
            spool_bytes: self.spool.usage().bytes,
            upload_lag: Some(recorder_proto::time::duration(self.lag.oldest())),
            node_time: None,
            accepting: self.admits().is_ok(),
            progress: self.progress.tell(),
        }
    }

    fn registration(&self) -> pb::node::RegisterRequest {
        pb::node::RegisterRequest {
            node: self.settings.node.id.clone(),
            boot_id: self.boot.to_string(),
            version: build_info::VERSION.to_owned(),
            addresses: self.addresses.clone(),
            capacity: Some(Capacity {
                max_streams: u32::try_from(self.settings.rtmp.max_connections).unwrap_or(u32::MAX),
                spool_limit_bytes: self.settings.spool.limit,
                formats: [format::Kind::Hls, format::Kind::Flv, format::Kind::Mp4, format::Kind::Aac]
                    .map(i32::from)
                    .to_vec(),
                protocols: vec![protocol::Kind::Rtmp.into(), protocol::Kind::Whip.into()],
            }),
            spool: self.spooled(),
            ..Default::default()
        }
    }

    fn drain(&self, order: &pb::node::stream_directives_response::Drain) {
        tracing::info!(move_publishers = order.move_publishers, cancelled = order.cancelled, "drain ordered");
        self.leaving.obey(order);
    }

    fn tasks_changed(&self, streams: &BTreeSet<StreamKey>) {
        streams.iter().for_each(|stream| self.registry.review(stream));
    }

    fn taken_over(&self, recording: &str, epoch: u64) {
        if self.registry.has(recording, epoch) {
            self.registry.command(Command::Orphan { recording: recording.to_owned() });
        }
    }
}

/// One-minute load average, relative to the number of cores; 0 where the system does not say.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let average: f64 = text.split_whitespace().next().and_then(|value| value.parse().ok()).unwrap_or(0.0);
    average / std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Gives facts their id and puts them in line. Clones share the line.
#[derive(Clone)]
pub struct Facts {
    log: FactLog,
}

impl Facts {
    /// Into this log.
    pub fn new(log: FactLog) -> Self {
        Self { log }
    }

    /// Puts a fact in line without waiting for the disk; facts keep the order of these calls.
    pub fn emit(&self, at: DateTime<Utc>, about: Option<(RecordingId, Epoch)>, kind: FactKind) {
        drop(self.enqueue(at, about, kind));
    }

    /// Puts a fact in line and returns its sequence once it is durable here.
    pub async fn report(
        &self,
        at: DateTime<Utc>,
        about: Option<(RecordingId, Epoch)>,
        kind: FactKind,
    ) -> Result<u64, FactError> {
        self.enqueue(at, about, kind).await.map_err(|_| FactError::Closed)
    }

    /// Puts a fact in line; the receiver yields its sequence once it is durable here.
    pub fn enqueue(
        &self,
        at: DateTime<Utc>,
        about: Option<(RecordingId, Epoch)>,
        kind: FactKind,
    ) -> oneshot::Receiver<u64> {
        self.enqueue_as(EventId::new(at, rand::random()), at, about, kind)
    }

    /// [`Self::enqueue`] with an id: of facts with the same one, only the first counts.
    pub fn enqueue_as(
        &self,
        id: EventId,
        at: DateTime<Utc>,
        about: Option<(RecordingId, Epoch)>,
        kind: FactKind,
    ) -> oneshot::Receiver<u64> {
        let (recording, epoch) = about.unzip();
        let fact = Fact {
            // The log gives it its place.
            sequence: Sequence(0),
            id,
            time: at,
            recording,
            epoch: epoch.unwrap_or_default(),
            kind,
        };
        self.log.enqueue((&fact).into())
    }
}
