//! Tasks of a live stream: what they begin with, and when they begin anew.

use chrono::{DateTime, TimeDelta, Utc};
use recorder_proto::ids::SessionId;
use recorder_proto::pb::node::directive::{Backlog, Scheduled};
use recorder_proto::pb::node::{Directive, directive};
use recorder_proto::pb::v1::recording::EndReason;
use recorder_proto::time::{duration, timestamp};

use super::*;
use crate::publisher::Publisher;
use crate::recording::tests::plan;

/// A stream whose first publisher has sent so many milliseconds; the directives there are.
struct Scene {
    life: Life,
    bucket: Arc<Memory>,
    publication: Box<Publication>,
    arrival: Duration,
    millis: u32,
    version: u64,
    /// Who need not ask whether its recording is the first.
    first_node: String,
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
        let first_node = life.node.settings.node.id.clone();
        let mut scene = Self { life, bucket, publication, arrival, millis: 0, version: 1, first_node, _folder: folder };
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
            node: self.first_node.clone(),
        };
        self.tell("task/ny", directive::Directive::Scheduled(scheduled));
    }

    fn withdraw(&mut self) {
        self.version += 1;
        self.life.node.link.directives().delta(self.version, Vec::new(), &["task/ny".to_owned()]);
        self.publication.review_now();
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
        let publication = &mut self.publication;
        let is_told = |life: &Life| {
            publication.tick(life.node.clock.monotonic());
            reason(life).is_some()
        };
        self.life.until("an end", is_told).await;
        reason(&self.life).unwrap()
    }

    /// Name of the task's recording, once that is told.
    async fn recording(&mut self) -> String {
        let name = |life: &Life| {
            let id = |fact| match fact {
                FactKind::RecordingStarted(started) if started.origin == "tasks/ny" => {
                    started.claim_key.rsplit('/').next().map(|id| format!("recordings/{id}"))
                }
                _ => None,
            };
            life.facts().into_iter().find_map(id)
        };
        self.life.until("the task's recording", |life| name(life).is_some()).await;
        name(&self.life).unwrap()
    }
}

fn pictures(media: &demux::Media) -> Vec<u8> {
    media.track(TrackKind::Video).map(|sample| sample.payload[4]).collect()
}

/// Sound is there without a break from the first picture to the end of the last one, within an access unit.
fn check_sound(media: &demux::Media) {
    let (video, audio) = (times(media, TrackKind::Video), times(media, TrackKind::Audio));
    let (first, last) = (video[0], video[video.len() - 1] + 3_600);
    assert!((audio[0] - first).abs() <= 2 * UNIT, "sound from {}, picture from {first}", audio[0]);
    assert!(audio.windows(2).all(|pair| (pair[1] - pair[0] - UNIT).abs() <= 90), "{audio:?}");
    let end = audio[audio.len() - 1] + UNIT;
    assert!((end - last).abs() <= UNIT, "sound to {end}, picture to {last}");
}

fn of(files: &[(FileAvailable, demux::Media)], format: Format) -> Vec<&(FileAvailable, demux::Media)> {
    files.iter().filter(|(file, _)| file.format == format).collect()
}

/// Sound that nobody wanted in AAC before the task came is there from the task's first picture on.
#[tokio::test]
async fn a_task_begins_with_the_last_key_frame_and_its_sound() {
    let mut scene = Scene::start(0);
    scene.publish(4_480);
    assert_eq!(scene.running(), 1);
    scene.order(video_only(), 0, 60_000);
    scene.publish(6_000);
    assert_eq!(scene.running(), 2);
    scene.withdraw();
    assert_eq!(scene.running(), 1);
    scene.publish(7_000);
    assert_eq!(scene.end_reason().await, EndReason::TaskEnded);
    let files = scene.files(1).await;
    let [(standing, whole)] = of(&files, Format::Mp4)[..] else { panic!("{}", files.len()) };
    assert_eq!(pictures(whole).len(), 7 * 25, "the standing recording is whole");
    assert_eq!(whole.track(TrackKind::Audio).count(), 7 * 50);
    assert!(!standing.object_key.contains("ny"));
    let [(file, media)] = of(&files, Format::Flv)[..] else { panic!("{}", files.len()) };
    assert_eq!(file.object_key, "live/cam/ny.flv", "its id is the task's");
    assert_eq!(
        (pictures(media)[0], pictures(media).len()),
        (0x65, 49),
        "from the key frame at 4 s to 6 s; the newest one waits for what follows it"
    );
    check_sound(media);
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

/// What was stopped by hand does not begin again with the same publisher, but with the next one, and never over its own
/// first file.
#[tokio::test]
async fn a_second_recording_of_a_task_is_another_object() {
    let mut scene = Scene::start(0);
    scene.order(video_only(), 0, 60_000);
    scene.publish(2_000);
    assert_eq!(scene.running(), 2, "it begins with the stream");
    let recording = scene.recording().await;
    scene.publication.stop(&recording);
    scene.publication.review_now();
    scene.publish(3_000);
    assert_eq!(scene.running(), 1, "stopped is stopped");
    scene.publication.interrupt(&EndCause::ConnectionLost);
    let next =
        Publisher { session: SessionId::new(scene.life.node.clock.now(), [2; 10]), ..publisher(&scene.life.node) };
    scene.publication.resume(next);
    scene.publish_from(10_000);
    scene.publish(12_000);
    assert_eq!(scene.running(), 2);
    let files = scene.files(2).await;
    let keys: Vec<&str> = of(&files, Format::Flv).iter().map(|(file, _)| file.object_key.as_str()).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.contains(&"live/cam/ny.flv"), "{keys:?}");
    let other = keys.iter().find(|key| **key != "live/cam/ny.flv").unwrap();
    assert!(other.starts_with("live/cam/ny_") && other.len() == "live/cam/ny_.flv".len() + 16, "{keys:?}");
}

#[tokio::test]
async fn without_a_key_frame_in_memory_a_task_waits_for_the_next_one() {
    let mut scene = Scene::start(0);
    scene.publish(1_480);
    scene.publication.tasks.forget_media();
    scene.order(video_only(), 0, 60_000);
    scene.publish(1_960);
    assert_eq!(scene.running(), 1);
    scene.publish(3_000);
    assert_eq!(scene.running(), 2);
    let files = scene.files(1).await;
    let [(_, media)] = of(&files, Format::Flv)[..] else { panic!("{}", files.len()) };
    assert_eq!((pictures(media)[0], pictures(media).len()), (0x65, 25));
    check_sound(media);
}

/// What was in the codecs when a recording was stopped was lost: up to 0.3 s of sound, and the picture with it.
#[tokio::test]
async fn a_stopped_recording_lost_the_sound_that_was_in_the_codecs() {
    let mut scene = Scene::start(0);
    scene.order(video_only(), 0, 60_000);
    scene.tell("other", standing(Template { name: "templates/other".into(), ..video_only() }));
    scene.publish(3_020);
    assert_eq!(scene.running(), 3);
    let recording = scene.recording().await;
    scene.publication.stop(&recording);
    assert_eq!(scene.running(), 2);
    scene.publish(6_000);
    assert_eq!(scene.end_reason().await, EndReason::Stopped);
    let files = scene.files(2).await;
    let mut lengths = Vec::new();
    for (_, media) in of(&files, Format::Flv) {
        check_sound(media);
        lengths.push(pictures(media).len());
    }
    lengths.sort_unstable();
    assert_eq!(lengths, [75, 150], "the other one is whole");
}

/// The same when nothing comes any more that would push the rest out of the codecs.
#[tokio::test]
async fn a_stopped_recording_of_a_stalled_stream_ends_within_a_second_with_all_its_sound() {
    let mut scene = Scene::start(0);
    scene.order(video_only(), 0, 60_000);
    scene.publish(3_000);
    let recording = scene.recording().await;
    scene.publication.stop(&recording);
    let now = scene.life.node.clock.monotonic();
    let due = scene.publication.endings_due().expect("it waits");
    assert!(due <= now + Duration::from_secs(1) && scene.publication.next_tick().is_some_and(|at| at <= due));
    scene.publication.tick(due);
    assert_eq!((scene.publication.endings_due(), scene.end_reason().await), (None, EndReason::Stopped));
    let files = scene.files(1).await;
    let [(_, media)] = of(&files, Format::Flv)[..] else { panic!("{}", files.len()) };
    // The newest one waits for what follows it before it is anybody's.
    assert_eq!(pictures(media).len(), 74);
    check_sound(media);
}

/// A stop that is read together with the end of the publisher.
#[tokio::test]
async fn a_stopped_recording_whose_publisher_leaves_ends_as_stopped_with_all_its_sound() {
    let mut scene = Scene::start(0);
    scene.order(video_only(), 0, 60_000);
    scene.publish(3_000);
    let recording = scene.recording().await;
    scene.publication.stop(&recording);
    scene.publication.interrupt(&EndCause::Unpublished);
    assert_eq!(scene.end_reason().await, EndReason::Stopped);
    let files = scene.files(1).await;
    let [(_, media)] = of(&files, Format::Flv)[..] else { panic!("{}", files.len()) };
    // The newest one waits for what follows it before it is anybody's.
    assert_eq!(pictures(media).len(), 74);
    check_sound(media);
}

#[tokio::test]
async fn files_that_are_cut_by_length_have_all_the_sound_of_their_pictures() {
    let mut scene = Scene::start(0);
    let flv = Some(Flv { max_file_duration: Some(duration(Duration::from_secs(2))), ..Flv::default() });
    scene.order(Template { flv, ..video_only() }, 0, 60_000);
    scene.publish(7_000);
    let files = scene.files(4).await;
    let mut files = of(&files, Format::Flv);
    files.sort_by_key(|(file, _)| file.index);
    let lengths: Vec<usize> = files.iter().map(|(_, media)| pictures(media).len()).collect();
    assert_eq!(lengths, [50, 50, 50, 25]);
    files.iter().for_each(|(_, media)| check_sound(media));
    let sound: usize = files.iter().map(|(_, media)| media.track(TrackKind::Audio).count()).sum();
    let expected = 7 * 48_000 / 1_024;
    assert!((expected..=expected + 2).contains(&sound), "{sound} of {expected} access units");
}

/// Two nodes that do not hear of each other wrote the first recording of a task to the same key: the later one over the
/// earlier one.
#[tokio::test]
async fn two_nodes_began_a_task_under_the_same_keys() {
    let mut keys = Vec::new();
    for node in ["m1", "m2", ""] {
        let mut scene = Scene::start(0);
        scene.first_node = node.to_owned();
        scene.order(video_only(), 0, 60_000);
        scene.publish(2_000);
        let is_first = node == scene.life.node.settings.node.id;
        let files = scene.files(1).await;
        let [(file, _)] = of(&files, Format::Flv)[..] else { panic!("{}", files.len()) };
        assert_eq!(file.object_key == "live/cam/ny.flv", is_first, "{node:?}: {}", file.object_key);
        assert!(file.object_key.starts_with("live/cam/ny"), "{}", file.object_key);
        keys.push((is_first, file.object_key.clone()));
    }
    assert_eq!(keys.iter().filter(|(is_first, _)| *is_first).count(), 1, "{keys:?}");
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3, "{keys:?}");
}
