//! A recording whose disk fails under it, on a node with a second one (reliability test 4).

mod abnormal;
mod late;
mod memory;
mod refused;
mod starts;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use media::{AvcConfig, CodecConfig, Frame, MediaTime, Presence, Timed, TrackKind, Tracks};
use recorder_proto::facts::{Fact, FactKind, FileAvailable, FileOpened, RecordingEnded};
use recorder_proto::format::Format;
use recorder_proto::ids::{RecordingId, SessionId};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::plan::StorageRef;
use recorder_proto::pb::node::{Directive, Plan, directive};
use recorder_proto::pb::v1::health::Kind;
use recorder_proto::pb::v1::recording::EndReason;
use recorder_proto::pb::v1::template::{Flv, Hls, Mp4};
use recorder_proto::pb::v1::{Template, gap::Reason, protocol};
use recorder_runtime::clock::SystemClock;
use recorder_runtime::config::Invocation;
use recorder_runtime::drain::Drain;
use spool::{FaultyDisk, Spool, Stepper};
use store::{Bucket, Memory};

use super::{Feed, Grant, Inheritance, Recording};
use crate::app::{Parts, assemble, spool_config};
use crate::config::{Config, PROGRAM};
use crate::link::{Directives, FactLog, Link};
use crate::node::Node;
use crate::plans::Chosen;
use crate::publication::Publisher;
use crate::shipping::{Shipping, Wall};

/// x264, High, 640x360.
pub(crate) const AVC: &[u8] = &[
    0x01, 0x64, 0x00, 0x1e, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70,
    0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96, 0x01, 0x00, 0x06, 0x68,
    0xeb, 0xe3, 0xcb, 0x22, 0xc0,
];
const FORMATS: [Format; 3] = [Format::Hls, Format::Flv, Format::Mp4];
const SECONDS: i64 = 6;
const FRAME: i64 = 40;

/// One life of a node; its disks outlive it.
pub(crate) struct Life {
    pub(crate) node: Arc<Node>,
    stepper: Stepper,
    time: Duration,
    drain: Drain,
    log: FactLog,
    shipped: tokio::task::JoinHandle<()>,
}

fn settings(folder: &Path, spare: bool) -> Config {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut arguments = vec![("--library-root", path("library")), ("--spool-path", path("first"))];
    if spare {
        arguments.push(("--spool-spares", path("second")));
    }
    let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    match PROGRAM.load(arguments, &BTreeMap::new()).unwrap() {
        Invocation::Run(settings) => settings.deserialize().unwrap(),
        Invocation::Print(text) => panic!("{text}"),
    }
}

impl Life {
    pub(crate) fn start(folder: &Path, spare: bool, disk: &FaultyDisk, bucket: &Arc<Memory>) -> Self {
        let config = settings(folder, spare);
        let state = Node::state_folder(&config);
        std::fs::create_dir_all(&state).unwrap();
        let (spool, stored, events, stepper) = Spool::open_stepped(spool_config(&config), disk.clone()).unwrap();
        let (log, drain, clock) = (FactLog::open(&state).unwrap(), Drain::new(), SystemClock::shared());
        let (controls, _) = tokio::sync::mpsc::channel(1);
        let directives = Directives::open(&state);
        let link = Link::new(&config.link.control, directives, log.clone(), Arc::clone(&clock) as _, controls).unwrap();
        let facts = log.clone();
        let node = assemble(Parts {
            config,
            clock,
            drain: &drain,
            link,
            facts,
            spool,
            stored: &stored,
            addresses: Vec::new(),
        });
        let shipping = Shipping::into_bucket(Arc::clone(bucket) as _, Arc::clone(&node), stored, events);
        let shipped = tokio::spawn(shipping.run());
        Self { node, stepper, time: Duration::ZERO, drain, log, shipped }
    }

    /// Everything but the disk gets its turn, then the disk.
    async fn turn(&mut self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.time += Duration::from_millis(100);
        self.stepper.step(self.time);
    }

    pub(crate) async fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..2_000 {
            if done(self) {
                return;
            }
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("never: {what}; {:#?}", self.facts());
    }

    pub(crate) fn facts(&self) -> Vec<FactKind> {
        self.log.after(0, 1_000).iter().map(|fact| Fact::try_from(fact).unwrap().kind).collect()
    }

    pub(crate) async fn die(self) {
        self.shipped.abort();
        let _ = self.shipped.await;
        drop((self.drain, self.node, self.stepper));
    }
}

/// A reader that was under way holds the spool for a moment longer than its node.
async fn freed(spool: &Path) {
    let lock = std::fs::File::open(spool.join("lock")).unwrap();
    for _ in 0..2_000 {
        if lock.try_lock().is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("somebody keeps {}", spool.display());
}

/// HLS in segments of two seconds, FLV and MP4.
fn template() -> Template {
    Template {
        name: "templates/all".into(),
        path: "{AppName}/{StreamID}/{RecordId}".into(),
        hls: Some(Hls {
            segment_duration: recorder_proto::time::duration(Duration::from_secs(2)).into(),
            ..Hls::default()
        }),
        flv: Some(Flv::default()),
        mp4: Some(Mp4::default()),
        ..Template::default()
    }
}

/// It is stored in the memory bucket.
pub(crate) fn plan(template: Template) -> Plan {
    let storage =
        StorageRef { name: "storages/s3".into(), kind: "s3".into(), bucket: "b".into(), ..StorageRef::default() };
    Plan { template: Some(template), storage: Some(storage), ..Plan::default() }
}

/// Whatever is published on the domain is recorded by this template.
pub(crate) fn bind(life: &Life, template: Template) {
    let upsert = Directive { name: "bindings/a".into(), version: 1, directive: Some(standing(template)) };
    assert!(life.node.link.directives().delta(1, vec![upsert], &[]).rejections.is_empty());
}

/// The directive of that, named after the template.
pub(crate) fn standing(template: Template) -> directive::Directive {
    use recorder_proto::matching::{Level, rank};

    let origin = format!("domains/push.example.com/bindings/{}", template.name.trim_start_matches("templates/"));
    directive::Directive::Standing(directive::Standing {
        domain: "push.example.com".into(),
        rank: rank(Level::Domain, 0),
        plan: Some(plan(template)),
        origin,
        ..Default::default()
    })
}

/// Who publishes the stream of these tests, over RTMP.
pub(crate) fn publisher(node: &Node) -> Publisher {
    let now = node.clock.now();
    Publisher {
        session: SessionId::new(now, [1; 10]),
        stream: StreamKey::new("push.example.com", "live", "cam").unwrap(),
        protocol: protocol::Kind::Rtmp,
        remote: "192.0.2.7:5".into(),
        encoder: String::new(),
        since: now,
    }
}

const PICTURES: Tracks = Tracks { video: Presence::Present, audio: Presence::Absent };

/// A recording of pictures. Media is pushed faster than real time: it has to lie in the past.
fn start(node: &Arc<Node>, template: Template, inheritance: Option<Inheritance>) -> Recording {
    let now = node.clock.now();
    let origin = "domains/push.example.com/bindings/a".into();
    let chosen = Chosen { plan: plan(template), origin, also: Vec::new(), task: None };
    let wall = Wall { at: now - chrono::TimeDelta::seconds(60), media: MediaTime::ZERO };
    let grant = Grant { inheritance, ..Grant::new(RecordingId::new(now, [2; 10])) };
    Recording::start(node, &publisher(node), chosen, PICTURES, wall, &grant).unwrap().unwrap()
}

fn record(node: &Arc<Node>) -> Recording {
    start(node, template(), None)
}

fn avc() -> Timed {
    Timed::Config(TrackKind::Video, CodecConfig::Avc(Arc::new(AvcConfig::parse(Bytes::from_static(AVC)).unwrap())))
}

fn picture(millis: i64) -> Timed {
    let keyframe = millis % 1_000 == 0;
    let mut data = vec![0, 0, 1, 1, if keyframe { 0x65 } else { 0x41 }];
    data.extend((0..256).map(|byte| (byte as i64 + millis) as u8));
    let time = MediaTime::from_millis(millis);
    Timed::Frame(Frame { track: TrackKind::Video, dts: time, pts: time, keyframe, data: Bytes::from(data) })
}

/// Records; a recording that has lost all of its outputs ends early.
async fn publish(life: &mut Life) -> Wall {
    let mut recording = record(&life.node);
    let wall = recording.wall();
    let mut reason = recording.take(Feed::Both, &[avc()]);
    for millis in (0..SECONDS * 1_000).step_by(FRAME as usize) {
        reason = reason.or(recording.take(Feed::Both, &[picture(millis)]));
        if reason.is_some() {
            break;
        }
        if millis % 120 == 0 {
            life.turn().await;
        }
    }
    recording.finish(reason.unwrap_or(EndReason::PublisherEnded));
    wall
}

struct Told {
    ended: RecordingEnded,
    available: Vec<FileAvailable>,
    opened: Vec<FileOpened>,
    failed: Vec<(Format, u32)>,
    /// How often media could not be written, as the health report counts it.
    unwritten: u64,
}

impl Told {
    fn of(facts: Vec<FactKind>) -> Self {
        let (mut ended, mut unwritten) = (None, 0);
        let (mut available, mut opened, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for fact in facts {
            match fact {
                FactKind::RecordingEnded(told) => ended = Some(told),
                FactKind::FileAvailable(file) => available.push(file),
                FactKind::FileOpened(file) => opened.push(file),
                FactKind::RecordingAbnormal(told) => {
                    assert!(told.found.iter().all(|span| span.kind == Kind::WriteFailed), "{told:?}");
                    unwritten += told.found.iter().map(|span| span.count).sum::<u64>();
                }
                FactKind::FileFailed(file) => failed.push((file.format, file.index.get())),
                _ => {}
            }
        }
        Self { ended: ended.unwrap(), available, opened, failed, unwritten }
    }

    /// every frame of every format is in a file that can be had, in one that is told to have failed, or in a hole.
    fn check_frames(&self, wall: Wall, context: &str) {
        for format in FORMATS {
            for millis in (0..SECONDS * 1_000).step_by(FRAME as usize) {
                let at = wall.at(MediaTime::from_millis(millis));
                let has = |from: DateTime<Utc>, to: DateTime<Utc>| from <= at && at < to;
                let in_file =
                    self.available.iter().any(|file| file.format == format && has(file.start_time, file.end_time));
                let in_hole = self.ended.gaps.iter().any(|gap| {
                    assert_eq!(gap.reason, Reason::SpoolFailed, "{context}");
                    has(gap.start_time, gap.start_time + Duration::from_micros(gap.duration_micros))
                });
                // Begun without media, the next file does not know its start before it is available.
                let next = |index: u32| {
                    let later = self.available.iter().filter(|file| file.format == format && file.index.get() > index);
                    later.map(|file| file.start_time).min()
                };
                let in_failed = self.opened.iter().any(|file| {
                    file.format == format
                        && self.failed.contains(&(format, file.index.get()))
                        && has(file.start_time, next(file.index.get()).unwrap_or(DateTime::<Utc>::MAX_UTC))
                });
                assert!(in_file || in_hole || in_failed, "{context}: {format} lacks {millis} ms: {:#?}", self.ended);
            }
        }
    }
}

/// The k-th sync of the first disk fails. Says whether it came to that.
async fn fail_kth(k: u64) -> bool {
    let context = format!("k = {k}");
    let folder = tempfile::tempdir().unwrap();
    let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
    let mut life = Life::start(folder.path(), true, &disk, &bucket);
    disk.fail_sync(k);
    let wall = publish(&mut life).await;
    let settled = |life: &Life| {
        let facts = life.facts();
        facts.iter().any(|fact| matches!(fact, FactKind::RecordingManifest(_)))
    };
    life.until("a manifest", settled).await;
    let healthy = life.node.spool.healthy_path().unwrap();
    let has_failed = healthy.starts_with(folder.path().join("second"));
    let told = Told::of(life.facts());
    assert!(told.ended.error.is_none(), "{context}: {:?}", told.ended);
    assert_eq!(told.ended.end_reason, EndReason::PublisherEnded, "{context}");
    told.check_frames(wall, &context);
    assert_eq!(told.unwritten > 0, !told.ended.gaps.is_empty(), "{context}: -104 for every hole");
    if has_failed {
        for format in FORMATS {
            let last = told.available.iter().filter(|file| file.format == format).max_by_key(|file| file.index);
            // One whose last file failed while it was being closed has said so.
            let has_lost = told.failed.iter().any(|(of, _)| *of == format);
            let end = wall.at(MediaTime::from_millis(SECONDS * 1_000));
            assert!(has_lost || last.is_some_and(|file| file.end_time == end), "{context}: {format}");
        }
    } else {
        assert_eq!((told.ended.gaps.len(), told.failed.len()), (0, 0), "{context}");
    }
    for file in &told.available {
        let stored = bucket.head(&file.object_key).await.unwrap().expect(&file.object_key);
        assert!(file.format == Format::Hls || stored.size == file.size_bytes, "{context}");
    }
    let keys: std::collections::BTreeSet<_> = told.available.iter().map(|file| file.object_key.as_str()).collect();
    assert_eq!(keys.len(), told.available.len(), "{context}: R-2");
    let gaps = told.ended.gaps.clone();
    life.die().await;
    freed(&folder.path().join("first/spool")).await;
    freed(&folder.path().join("second")).await;
    // The disk was only for a moment as it was: what it has is shipped, and what was told stays true.
    disk.heal();
    let mut life = Life::start(folder.path(), true, &disk, &bucket);
    life.until("an empty spool", |life| {
        life.log.acknowledge(*life.log.appended().borrow());
        life.node.spool.usage().bytes == 0
    })
    .await;
    assert_eq!(life.node.registry.counts().1, 0, "{context}");
    let later: Vec<_> = life.log.after(0, 1_000).iter().map(|fact| Fact::try_from(fact).unwrap().kind).collect();
    let retold =
        later.iter().filter_map(|fact| if let FactKind::RecordingEnded(told) = fact { Some(told) } else { None });
    for ended in retold {
        assert_eq!(ended.gaps, gaps, "{context}");
    }
    life.die().await;
    has_failed
}

/// Reliability test 4: EIO on the k-th fsync, until none fails any more.
#[tokio::test]
async fn fsync_eio() {
    let (mut k, mut failed) = (0, 0);
    while fail_kth(k).await {
        (k, failed) = (k + 1 + k / 4, failed + 1);
    }
    assert!(failed > 5, "{failed}");
}

#[tokio::test]
async fn fsync_eio_without_a_spare_ends_the_recording_with_a_hole() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
    let mut life = Life::start(folder.path(), false, &disk, &bucket);
    disk.fail_syncs_after(30);
    publish(&mut life).await;
    life.until("an end", |life| life.facts().iter().any(|fact| matches!(fact, FactKind::RecordingEnded(_)))).await;
    let told = Told::of(life.facts());
    assert_eq!(told.ended.end_reason, EndReason::Error);
    assert_eq!(told.ended.error.as_ref().unwrap().reason, "SPOOL_FAILED");
    assert!(told.ended.outputs.iter().all(|output| output.error.is_some()));
    assert_eq!(told.ended.gaps.len(), 1);
    assert_eq!(told.ended.gaps[0].reason, Reason::SpoolFailed);
    assert_eq!(told.unwritten, 3, "-104 for each format");
    life.die().await;
}
