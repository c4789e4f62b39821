//! Sound that comes after the start gate has opened without it.

use bytes::BytesMut;
use media::AacConfig;
use media::ingest::{EndCause, Event, RawFrame, SourceTime};
use recorder_proto::matching::{Level, rank};
use recorder_proto::pb::node::{Directive, directive};
use recorder_proto::pb::v1::template::{Aac, aac};

use super::*;
use crate::publication::Publication;

const SOUND_FROM: i64 = 2_000;
const END: i64 = 4_000;

fn always() -> Option<Aac> {
    Some(Aac { when: aac::When::Always.into(), ..Aac::default() })
}

fn aac_config() -> CodecConfig {
    CodecConfig::Aac(Arc::new(AacConfig::parse(Bytes::from_static(&[0x12, 0x10])).unwrap()))
}

/// The payload of the `n`th frame of sound.
fn payload(n: i64) -> Bytes {
    let mut data = BytesMut::from(&[0x21, 0, 0, 0][..]);
    data.extend((0..60 + n % 7).map(|byte| (byte * 3 + n) as u8));
    data.freeze()
}

fn sounds(from: i64, to: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..).map(|n| (n, n * 1_024_000 / 44_100)).skip_while(move |(_, at)| *at < from).take_while(move |(_, at)| *at < to)
}

/// Pictures, and from [`SOUND_FROM`] on sound, as the start gate gives them.
fn items(from: i64, to: i64) -> Vec<Timed> {
    let pictures = (from..to).step_by(FRAME as usize).map(|millis| (millis, picture(millis)));
    let sounds = sounds(from.max(SOUND_FROM), to).map(|(n, millis)| {
        let time = MediaTime::from_millis(millis);
        (
            millis,
            Timed::Frame(Frame { track: TrackKind::Audio, dts: time, pts: time, keyframe: true, data: payload(n) }),
        )
    });
    let mut all: Vec<_> = pictures.chain(sounds).collect();
    all.sort_by_key(|(millis, _)| *millis);
    all.into_iter().map(|(_, item)| item).collect()
}

async fn feed(life: &mut Life, recording: &mut Recording, items: Vec<Timed>) {
    for chunk in items.chunks(5) {
        assert_eq!(recording.take(super::Feed::Both, chunk), None);
        life.turn().await;
    }
}

/// Every frame of sound between two times, and no other, is in the AAC files.
async fn assert_sound(told: &Told, bucket: &Memory, from: i64, to: i64) {
    let mut files: Vec<_> = told.available.iter().filter(|file| file.format == Format::Aac).collect();
    files.sort_by_key(|file| file.index);
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend_from_slice(&bucket.get_range(&file.object_key, 0..file.size_bytes).await.unwrap());
    }
    let expected: Vec<Bytes> = sounds(from, to).map(|(n, _)| payload(n)).collect();
    let mut at = 0;
    for (number, data) in expected.iter().enumerate() {
        // Seven bytes of ADTS header in front of each.
        assert_eq!(bytes.get(at + 7..at + 7 + data.len()), Some(&data[..]), "frame {number} of {}", expected.len());
        at += 7 + data.len();
    }
    assert_eq!(at, bytes.len());
}

fn is_settled(life: &Life) -> bool {
    life.facts().iter().any(|fact| matches!(fact, FactKind::RecordingManifest(_)))
}

/// Regression (soak, cam269): the node was stopped while a publisher began, the start gate opened with pictures alone,
/// and there was no AAC file although the template says always.
#[tokio::test]
async fn a_gate_that_opened_without_sound_left_the_aac_file_out() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
    let mut life = Life::start(folder.path(), false, &disk, &bucket);
    let mut recording = start(&life.node, Template { aac: always(), ..template() }, None);
    let wall = recording.wall();
    feed(&mut life, &mut recording, [vec![avc()], items(0, SOUND_FROM)].concat()).await;
    let config = Timed::Config(TrackKind::Audio, aac_config());
    feed(&mut life, &mut recording, [vec![config], items(SOUND_FROM, END)].concat()).await;
    recording.finish(EndReason::PublisherEnded);
    life.until("a manifest", is_settled).await;
    let told = Told::of(life.facts());
    assert!(told.ended.error.is_none() && told.ended.gaps.is_empty() && told.failed.is_empty(), "{:?}", told.ended);
    assert_sound(&told, &bucket, SOUND_FROM, END).await;
    let file = told.available.iter().find(|file| file.format == Format::Aac).unwrap();
    let (_, first) = sounds(SOUND_FROM, END).next().unwrap();
    assert_eq!(file.start_time, wall.at(MediaTime::from_millis(first)));
    // The other formats have the sound as well.
    for format in FORMATS {
        let file = told.available.iter().find(|file| file.format == format).unwrap();
        assert!(file.video.is_some() && file.audio.is_some(), "{file:?}");
    }
    life.die().await;
}

/// The first life of a recording whose sound comes late; all that was taken is durable when the node is killed.
async fn killed_with_late_sound(folder: &Path, disk: &FaultyDisk, bucket: &Arc<Memory>, template: Template) {
    let (folder, disk, bucket) = (folder.to_owned(), disk.clone(), Arc::clone(bucket));
    let life = async move {
        let mut life = Life::start(&folder, false, &disk, &bucket);
        let mut recording = start(&life.node, template, None);
        feed(&mut life, &mut recording, [vec![avc()], items(0, SOUND_FROM)].concat()).await;
        let config = Timed::Config(TrackKind::Audio, aac_config());
        feed(&mut life, &mut recording, [vec![config], items(SOUND_FROM, END)].concat()).await;
        for _ in 0..20 {
            life.turn().await;
        }
    };
    // All tasks of the node end with their runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::spawn_blocking(move || runtime.block_on(life)).await.unwrap();
}

#[tokio::test]
async fn a_late_format_is_closed_by_the_restart_like_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
    killed_with_late_sound(folder.path(), &disk, &bucket, Template { aac: always(), ..template() }).await;
    let mut life = Life::start(folder.path(), false, &disk, &bucket);
    life.until("a manifest", is_settled).await;
    let told = Told::of(life.facts());
    assert_eq!(told.ended.end_reason, EndReason::NodeLost);
    assert!(told.ended.error.is_none() && told.failed.is_empty(), "{:?}", told.ended);
    let mut outputs: Vec<_> = told.ended.outputs.iter().map(|output| (output.format, output.files)).collect();
    outputs.sort();
    assert_eq!(outputs, [Format::Hls, Format::Flv, Format::Mp4, Format::Aac].map(|format| (format, 1)));
    assert_sound(&told, &bucket, SOUND_FROM, END).await;
    for format in FORMATS {
        let file = told.available.iter().find(|file| file.format == format).unwrap();
        assert!(file.video.is_some() && file.audio.is_some(), "{file:?}");
    }
    life.die().await;
}

#[tokio::test]
async fn a_late_format_goes_on_in_its_file_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
    let resume_timeout = Some(recorder_proto::time::duration(Duration::from_secs(3_600)));
    let aac = always().map(|aac| Aac { resume_timeout, ..aac });
    killed_with_late_sound(folder.path(), &disk, &bucket, Template { aac, ..template() }).await;
    let mut life = Life::start(folder.path(), false, &disk, &bucket);
    let publisher = publisher(&life.node);
    let admission = life.node.registry.admit(&publisher.stream, publisher.session);
    let mut publication = admission.replaced.expect("the recording waits").await.unwrap();
    assert_eq!(publication.recordings().len(), 1);
    publication.resume(publisher);
    let now = life.node.clock.monotonic();
    let Timed::Config(_, avc) = avc() else { unreachable!() };
    publication.ingest(Event::Config(TrackKind::Video, avc), now);
    publication.ingest(Event::Config(TrackKind::Audio, aac_config()), now);
    for item in items(SOUND_FROM, END) {
        let Timed::Frame(Frame { track, dts, keyframe, data, .. }) = item else { continue };
        let time = SourceTime { value: dts.as_millis() as u32, scale: 1_000 };
        let arrival = now + Duration::from_millis(dts.as_millis() as u64);
        publication.ingest(Event::Frame(RawFrame { track, time, composition: 0, keyframe, data }), arrival);
    }
    publication.interrupt(&EndCause::Unpublished);
    publication.end(EndReason::PublisherEnded);
    life.until("a manifest", is_settled).await;
    let told = Told::of(life.facts());
    assert!(told.ended.error.is_none() && told.failed.is_empty(), "{:?}", told.ended);
    let files: Vec<_> = told.available.iter().filter(|file| file.format == Format::Aac).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let size = files[0].size_bytes;
    let bytes = bucket.get_range(&files[0].object_key, 0..size).await.unwrap();
    // What was taken before the kill, and the same once more.
    let expected: Vec<Bytes> = sounds(SOUND_FROM, END).map(|(n, _)| payload(n)).collect();
    let mut at = 0;
    for (number, data) in expected.iter().chain(&expected).enumerate() {
        assert_eq!(bytes.get(at + 7..at + 7 + data.len()), Some(&data[..]), "frame {number}");
        at += 7 + data.len();
    }
    assert_eq!(at as u64, size);
    life.die().await;
}

/// Regression: a template of AAC alone made nothing of a stream whose sound came after the start gate had opened.
#[tokio::test]
async fn a_plan_that_could_make_nothing_at_first_was_never_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
    let mut life = Life::start(folder.path(), false, &disk, &bucket);
    let template = Template { aac: always(), hls: None, flv: None, mp4: None, ..template() };
    let standing = directive::Standing {
        domain: "push.example.com".into(),
        rank: rank(Level::Domain, 0),
        plan: Some(plan(template)),
        origin: "domains/push.example.com/bindings/a".into(),
        ..Default::default()
    };
    let directive = directive::Directive::Standing(standing);
    let directive = Directive { name: "bindings/a".into(), version: 1, directive: Some(directive) };
    assert!(life.node.link.directives().delta(1, vec![directive], &[]).rejections.is_empty());
    let mut publication = Publication::start(Arc::clone(&life.node), publisher(&life.node));
    let Timed::Config(_, avc) = avc() else { unreachable!() };
    let now = life.node.clock.monotonic();
    publication.ingest(Event::Config(TrackKind::Video, avc), now);
    let mut is_configured = false;
    for item in items(0, END + 2_000) {
        let Timed::Frame(frame) = item else { continue };
        let millis = frame.dts.as_millis();
        // Well behind the gate's patience.
        if frame.track == TrackKind::Audio && millis < END {
            continue;
        }
        if frame.track == TrackKind::Audio && !std::mem::replace(&mut is_configured, true) {
            publication.ingest(Event::Config(TrackKind::Audio, aac_config()), now);
        }
        let time = SourceTime { value: millis as u32, scale: 1_000 };
        let Frame { track, keyframe, data, .. } = frame;
        // In real time, so that the timeline has nothing to say of it.
        let arrival = now + Duration::from_millis(millis as u64);
        publication.ingest(Event::Frame(RawFrame { track, time, composition: 0, keyframe, data }), arrival);
        if millis < END {
            assert_eq!(publication.recordings(), []);
        }
    }
    assert_eq!(publication.recordings().len(), 1);
    publication.interrupt(&EndCause::Unpublished);
    assert!(Box::new(publication).begin_waiting(false).is_none());
    life.until("a manifest", is_settled).await;
    assert_sound(&Told::of(life.facts()), &bucket, END, END + 2_000).await;
    life.die().await;
}
