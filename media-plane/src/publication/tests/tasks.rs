//! Tasks of a live stream: what they begin with, and when they begin anew.

use chrono::{DateTime, TimeDelta, Utc};
use recorder_proto::pb::node::directive::{Backlog, Scheduled};
use recorder_proto::pb::node::{Directive, directive};
use recorder_proto::pb::v1::recording::EndReason;
use recorder_proto::time::{duration, timestamp};

use super::*;
use crate::recording::tests::plan;

/// A stream whose first publisher has sent so many milliseconds; the directives there are.
struct Scene {
    life: Life,
    bucket: Arc<Memory>,
    publication: Box<Publication>,
    arrival: Duration,
    millis: u32,
    version: u64,
    _folder: tempfile::TempDir,
}

fn video_only() -> Template {
    Template { flv: Some(Flv::default()), aac: None, hls: None, mp4: None, ..template(AudioMode::Auto) }
}

impl Scene {
    /// Everything is recorded as MP4, sound as it comes.
    fn start(pre_roll: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
        let life = Life::start(folder.path(), false, &disk, &bucket);
        bind(&life, Template { hls: None, flv: None, aac: None, ..template(AudioMode::Copy) });
        let publication = Box::new(Publication::start(Arc::clone(&life.node), publisher(&life.node)));
        let arrival = life.node.clock.monotonic();
        let mut scene = Self { life, bucket, publication, arrival, millis: 0, version: 1, _folder: folder };
        if pre_roll > 0 {
            let backlog = Backlog { pre_roll: Some(duration(Duration::from_secs(pre_roll))) };
            scene.tell("backlog/all", directive::Directive::Backlog(backlog));
        }
        scene.publish_from(0);
        scene
    }

    fn tell(&mut self, name: &str, directive: directive::Directive) {
        self.version += 1;
        let upsert = Directive { name: name.into(), version: self.version, directive: Some(directive) };
        let taken = self.life.node.link.directives().delta(self.version, vec![upsert], &[]);
        assert!(taken.rejections.is_empty(), "{:?}", taken.rejections);
        let is_task = name.starts_with("task/");
        assert_eq!(taken.tasks.contains(self.publication.stream()), is_task);
        self.publication.review_now();
    }

    /// Orders `ny` from `start` until `end`, in milliseconds from now.
    fn order(&mut self, template: Template, start: i64, end: i64) {
        let now: DateTime<Utc> = self.life.node.clock.now();
        let wire = |millis| Some(timestamp(now + TimeDelta::milliseconds(millis)));
        let scheduled = Scheduled {
            stream: Some(self.publication.stream().into()),
            start_time: wire(start),
            end_time: wire(end),
            plan: Some(plan(template)),
            origin: "tasks/ny".into(),
            begun: false,
        };
        self.tell("task/ny", directive::Directive::Scheduled(scheduled));
    }

    /// A new publisher's configurations.
    fn publish_from(&mut self, millis: u32) {
        self.millis = millis;
        let avc = AvcConfig::parse(Bytes::from_static(AVC)).unwrap();
        let opus = OpusConfig { channels: 2, pre_skip: 0, sample_rate_in: 48_000 };
        self.publication.ingest(Event::Config(TrackKind::Video, CodecConfig::Avc(avc.into())), self.arrival);
        self.publication.ingest(Event::Config(TrackKind::Audio, CodecConfig::Opus(opus.into())), self.arrival);
    }

    /// Key frames every second; 50 packets of sound a second.
    fn publish(&mut self, until: u32) {
        for millis in (self.millis..until).step_by(20) {
            let time = SourceTime { value: 70_000 + millis, scale: 1_000 };
            let arrival = self.life.node.clock.monotonic();
            let mut frame = |track, keyframe, data| {
                let frame = RawFrame { track, time, composition: 0, keyframe, data };
                self.publication.ingest(Event::Frame(frame), arrival);
            };
            if millis % 40 == 0 {
                let keyframe = millis % 1_000 == 0;
                let data = [0, 0, 0, 2, if keyframe { 0x65 } else { 0x41 }, 0x9a];
                frame(TrackKind::Video, keyframe, Bytes::copy_from_slice(&data));
            }
            frame(TrackKind::Audio, true, Bytes::from_static(SILENCE));
        }
        self.millis = until;
    }

    fn running(&self) -> usize {
        self.publication.recordings().len()
    }

    /// Ends the stream and gives its files, once that of the standing recording and so many of tasks are in the bucket.
    async fn files(mut self, of_tasks: usize) -> Vec<(FileAvailable, demux::Media)> {
        self.publication.interrupt(&EndCause::Unpublished);
        assert!(self.publication.begin_waiting(false).is_none(), "nothing waits");
        let count = |life: &Life, format| {
            let is_there = |fact: &&FactKind| matches!(fact, FactKind::FileAvailable(file) if file.format == format);
            life.facts().iter().filter(is_there).count()
        };
        let is_over = |life: &Life| count(life, Format::Mp4) > 0 && count(life, Format::Flv) == of_tasks;
        self.life.until("every file", is_over).await;
        let mut files = Vec::new();
        for fact in self.life.facts() {
            if let FactKind::FileAvailable(file) = fact {
                let size = self.bucket.head(&file.object_key).await.unwrap().unwrap().size;
                let bytes = self.bucket.get_range(&file.object_key, 0..size).await.unwrap();
                let media = read(&file, &bytes).unwrap();
                files.push((file, media));
            }
        }
        self.life.die().await;
        files
    }

    /// Why the first recording to end did, once that is told.
    async fn end_reason(&mut self) -> EndReason {
        let reason = |life: &Life| {
            let ended = |fact| if let FactKind::RecordingEnded(ended) = fact { Some(ended.end_reason) } else { None };
            life.facts().into_iter().find_map(ended)
        };
        self.life.until("an end", |life| reason(life).is_some()).await;
        reason(&self.life).unwrap()
    }
}

fn pictures(media: &demux::Media) -> Vec<u8> {
    media.track(TrackKind::Video).map(|sample| sample.payload[4]).collect()
}

fn of(files: &[(FileAvailable, demux::Media)], format: Format) -> Vec<&(FileAvailable, demux::Media)> {
    files.iter().filter(|(file, _)| file.format == format).collect()
}

#[tokio::test]
async fn a_task_with_pre_roll_begins_at_a_key_frame_from_before_that() {
    let mut scene = Scene::start(3);
    scene.publish(8_480);
    let pre_roll = Some(duration(Duration::from_secs(2)));
    scene.order(Template { pre_roll, ..video_only() }, 0, 60_000);
    scene.publish(9_000);
    let files = scene.files(1).await;
    let [(_, media)] = of(&files, Format::Flv)[..] else { panic!("{}", files.len()) };
    let pictures = pictures(media);
    assert_eq!(pictures[0], 0x65);
    // 8.48 s less two is 6.48 s: from the key frame at 6 s to 9 s.
    assert_eq!(pictures.len(), 75);
}

#[tokio::test]
async fn a_task_begins_and_ends_by_the_clock_of_the_control_plane() {
    let mut scene = Scene::start(0);
    scene.publish(1_480);
    scene.order(video_only(), 200, 400);
    assert_eq!(scene.running(), 1, "it lies ahead");
    let due = scene.publication.next_tick().expect("a time to look again");
    let left = due.saturating_sub(scene.life.node.clock.monotonic());
    assert!(left <= Duration::from_millis(210), "{left:?}");
    for expected in [2, 1] {
        let until = |scene: &mut Scene| {
            let now = scene.life.node.clock.monotonic();
            scene.publication.tick(now);
            scene.running() == expected
        };
        for _ in 0..2_000 {
            if until(&mut scene) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(scene.running(), expected);
    }
    assert_eq!(scene.end_reason().await, EndReason::TaskEnded);
    assert!(scene.files(1).await.len() >= 2);
}
