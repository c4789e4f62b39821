//! How recordings begin, go on and end beside what goes wrong.

use super::*;
use crate::publication::Publication;
use media::{Gap, GapReason};

/// HLS in a form that no muxer writes.
fn with_impossible_hls() -> Template {
    let day = recorder_proto::time::duration(Duration::from_secs(86_400));
    Template { hls: Some(Hls { segment_duration: Some(day), ..Hls::default() }), ..template() }
}

pub(super) struct Place {
    folder: tempfile::TempDir,
    disk: FaultyDisk,
    bucket: Arc<Memory>,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), disk: FaultyDisk::new(), bucket: Arc::default() }
    }

    pub(super) fn start(&self) -> Life {
        Life::start(self.folder.path(), false, &self.disk, &self.bucket)
    }
}

/// Pictures between two times.
fn pictures(from: i64, to: i64) -> Vec<Timed> {
    (from..to).step_by(FRAME as usize).map(picture).collect()
}

fn is_settled(life: &Life) -> bool {
    life.facts().iter().any(|fact| matches!(fact, FactKind::RecordingManifest(_)))
}

#[tokio::test]
async fn one_format_that_could_not_begin_ended_the_others() {
    let place = Place::new();
    let mut life = place.start();
    let mut recording = start(&life.node, with_impossible_hls(), None);
    assert_eq!(recording.take(super::Feed::Both, &[vec![avc()], pictures(0, 2_000)].concat()), None);
    recording.finish(EndReason::PublisherEnded);
    life.until("a manifest", is_settled).await;
    let told = Told::of(life.facts());
    let error = |format| {
        let output = told.ended.outputs.iter().find(|output| output.format == format).unwrap();
        output.error.as_ref().map(|error| error.reason.as_str())
    };
    assert_eq!([error(Format::Hls), error(Format::Flv), error(Format::Mp4)], [Some("MUXER_UNAVAILABLE"), None, None]);
    let mut formats: Vec<_> = told.available.iter().map(|file| file.format).collect();
    formats.sort();
    assert_eq!(formats, [Format::Flv, Format::Mp4]);
    life.die().await;
}

/// It takes the recording for that of a session that is dead.
#[tokio::test]
async fn the_control_plane_was_not_told_of_a_publisher_that_replaced_another() {
    let place = Place::new();
    let life = place.start();
    let mut recording = record(&life.node);
    assert_eq!(recording.take(super::Feed::Both, &[vec![avc()], pictures(0, 1_000)].concat()), None);
    let newcomer = SessionId::new(life.node.clock.now(), [9; 10]);
    // Never away: it took over while the other one was still there.
    recording.publisher_returned(newcomer);
    let time = MediaTime::from_millis;
    let gap = Gap { starts_at: time(1_000), resumes_at: time(1_500), reason: GapReason::PublisherLost };
    assert_eq!(recording.take(super::Feed::Both, &[Timed::Gap(gap), avc(), picture(2_000)]), None);
    // A hole of the same publisher's is no news of that kind.
    let gap = Gap { starts_at: time(2_040), resumes_at: time(2_500), reason: GapReason::FramesRejected };
    assert_eq!(recording.take(super::Feed::Both, &[Timed::Gap(gap), picture(3_000)]), None);
    let mut life = life;
    recording.finish(EndReason::PublisherEnded);
    life.until("an end", |life| life.facts().iter().any(|fact| matches!(fact, FactKind::RecordingEnded(_)))).await;
    let facts = life.facts();
    let resumed: Vec<_> = facts
        .iter()
        .filter_map(|fact| if let FactKind::RecordingResumed(it) = fact { Some(it) } else { None })
        .collect();
    assert_eq!(resumed.iter().map(|resumed| resumed.session).collect::<Vec<_>>(), [newcomer]);
    life.die().await;
}

#[tokio::test]
async fn max_duration_began_anew_with_every_epoch() {
    let place = Place::new();
    let life = place.start();
    let limit = Some(recorder_proto::time::duration(Duration::from_secs(102)));
    let now = life.node.clock.now();
    // This epoch begins 60 s ago, the recording 100 s before that.
    let began = Some(now - chrono::TimeDelta::seconds(160));
    let left = Inheritance { files: Vec::new(), began, since: now, reason: GapReason::NodeCrashed };
    let mut recording = start(&life.node, Template { max_duration: limit, ..template() }, Some(left));
    assert_eq!(recording.take(super::Feed::Both, &[vec![avc()], pictures(0, 1_500)].concat()), None);
    assert_eq!(recording.take(super::Feed::Both, &pictures(1_520, 3_000)), Some(EndReason::MaxDuration));
    drop(recording);
    life.die().await;
}

/// A format whose container cannot carry the picture has no file and says why; the others go on.
#[tokio::test]
async fn pictures_that_a_format_cannot_carry_are_told_by_it_alone() {
    const VP9: &[u8] = &[0x82, 0x49, 0x83, 0x42, 0x00, 0x14, 0x10, 0x0b, 0x50, 0x5a, 0x5a];
    let place = Place::new();
    let mut life = place.start();
    let mut recording = record(&life.node);
    let config = media::CodecConfig::Vp9(media::VpxConfig::from_vp9_keyframe(VP9).unwrap().into());
    recording.take(super::Feed::Both, &[Timed::Config(TrackKind::Video, config)]);
    for n in 0..50 {
        let dts = MediaTime::from_millis(n * 40);
        let data = Bytes::from_static(VP9);
        let frame = Frame { track: TrackKind::Video, dts, pts: dts, keyframe: true, data };
        assert_eq!(recording.take(super::Feed::Both, &[Timed::Frame(frame)]), None);
    }
    recording.finish(EndReason::PublisherEnded);
    let available = |life: &Life| life.facts().iter().filter(|fact| matches!(fact, FactKind::FileAvailable(_))).count();
    life.until("two files", |life| available(life) == 2).await;
    let facts = life.facts();
    let ended = facts.iter().find_map(|fact| if let FactKind::RecordingEnded(it) = fact { Some(it) } else { None });
    let outputs = &ended.unwrap().outputs;
    let failed: Vec<_> = outputs.iter().filter_map(|output| Some((output.format, output.error.clone()?))).collect();
    let [(recorder_proto::format::Format::Hls, error)] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(error.reason, "CODEC_NOT_CARRIED");
    assert_eq!(error.message, "hls cannot carry the picture, which is vp9, and there was no sound");
    for fact in &facts {
        if let FactKind::FileAvailable(file) = fact {
            let video = file.video.as_ref().unwrap();
            assert_eq!((video.codec.as_str(), video.width, video.height), ("vp9", 322, 182));
        }
    }
    life.die().await;
}

/// The process is on its way out: the next start goes on, as after a crash.
#[tokio::test]
async fn a_closed_spool_made_recordings_fail() {
    let place = Place::new();
    let mut life = place.start();
    let mut recording = record(&life.node);
    assert_eq!(recording.take(super::Feed::Both, &[vec![avc()], pictures(0, 1_000)].concat()), None);
    for _ in 0..10 {
        life.turn().await;
    }
    life.node.spool.close().await;
    assert_eq!(recording.take(super::Feed::Both, &pictures(1_000, 2_000)), None);
    recording.finish(EndReason::PublisherEnded);
    let ended = life.facts().iter().any(|fact| matches!(fact, FactKind::RecordingEnded(_)));
    assert!(!ended, "{:#?}", life.facts());
    life.die().await;
}

/// Four seconds of pictures, sent at once.
pub(super) fn send(life: &Life, publication: &mut Publication) {
    use media::ingest::{Event, Metadata, RawFrame, SourceTime};

    let now = life.node.clock.monotonic();
    let metadata = Metadata { video: Some(media::Codec::H264), ..Metadata::default() };
    publication.ingest(Event::Metadata(metadata), now);
    let Timed::Config(track, config) = avc() else { unreachable!() };
    publication.ingest(Event::Config(track, config), now);
    for millis in (0..4_000).step_by(FRAME as usize) {
        let Timed::Frame(Frame { track, keyframe, data, .. }) = picture(millis) else { unreachable!() };
        let time = SourceTime { value: millis as u32, scale: 1_000 };
        let frame = RawFrame { track, time, composition: 0, keyframe, data };
        publication.ingest(Event::Frame(frame), now + Duration::from_millis(millis as u64));
    }
}

/// A publisher that stays although nothing is recorded would never be recorded.
#[tokio::test]
async fn a_publisher_whose_recording_could_not_begin_was_kept() {
    let place = Place::new();
    let life = place.start();
    bind(&life, template());
    life.node.spool.close().await;
    let mut publication = Publication::start(Arc::clone(&life.node), publisher(&life.node));
    assert_eq!(publication.take_failure(), None);
    send(&life, &mut publication);
    assert!(publication.recordings().is_empty());
    assert!(publication.take_failure().is_some_and(|why| why.contains("cannot start")));
    assert_eq!(publication.take_failure(), None, "told once");
    life.die().await;
}
