//! A publisher that comes back: within the window the same recording and the same files go on, later it is a new one.

use std::time::{Duration, Instant};

use media::TrackKind;
use recorder_proto::pb::v1;
use recorder_tests::footage::Footage;
use recorder_tests::numbered::{End, Publisher};
use recorder_tests::publisher::Source;
use recorder_tests::reading;
use recorder_tests::scene::{Clients, all_formats};
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::verify::Told;
use recorder_tests::wait;
use v1::gap::Reason;
use v1::recording::{EndReason, State};

const FORMATS: [&str; 4] = ["AAC", "FLV", "HLS", "MP4"];

/// Seconds that each format waits; one-second segments.
struct Windows {
    hls: i64,
    flv: i64,
    mp4: i64,
    aac: i64,
}

fn template(windows: &Windows) -> v1::Template {
    let wait = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let base = all_formats();
    v1::Template {
        hls: Some(v1::template::Hls {
            segment_duration: wait(1),
            resume_timeout: wait(windows.hls),
            ..Default::default()
        }),
        flv: Some(v1::template::Flv { resume_timeout: wait(windows.flv), ..Default::default() }),
        mp4: Some(v1::template::Mp4 { resume_timeout: wait(windows.mp4), ..Default::default() }),
        aac: base.aac.map(|aac| v1::template::Aac { resume_timeout: wait(windows.aac), ..aac }),
        ..base
    }
}

fn all(seconds: i64) -> Windows {
    Windows { hls: seconds, flv: seconds, mp4: seconds, aac: seconds }
}

/// A stage with one stream, `cam1`, that was never published yet.
async fn stage(windows: &Windows) -> (Stage, Clients, Publisher) {
    let mut stage = Stage::start(seeds(1)[0]).await;
    let domain = stage.template("resume", template(windows)).await;
    let clients = Clients::of(&stage.cluster).await;
    let footage = Footage::encode(&Source { seconds: 4, ..Default::default() }, stage.cluster.folder());
    let publisher = Publisher::new(&domain, "cam1", 1, &footage);
    (stage, clients, publisher)
}

const DOMAIN: &str = "resume.push.example.com";

async fn connect(stage: &Stage, publisher: &mut Publisher) {
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
}

fn by_format<'a>(told: &'a Told, format: &str) -> Vec<&'a v1::File> {
    told.1.iter().filter(|file| file.format().as_str_name() == format).collect()
}

fn seconds(duration: &Option<prost_types::Duration>) -> f64 {
    duration.as_ref().map_or(0.0, |duration| duration.seconds as f64 + f64::from(duration.nanos) / 1e9)
}

/// The pause between a publisher's connections, as it saw it.
fn pauses(publisher: &Publisher) -> Vec<Duration> {
    let sessions = publisher.sent();
    let last = |session: usize| {
        [TrackKind::Video, TrackKind::Audio]
            .into_iter()
            .filter_map(|track| {
                let count = sessions[session].sent[recorder_tests::footage::index(track)].len();
                sessions[session].sent_at(track, u32::try_from(count).unwrap().checked_sub(1)?)
            })
            .max()
            .unwrap()
    };
    let first = |session: usize| sessions[session].sent_at(TrackKind::Video, 0).unwrap();
    (1..sessions.len()).map(|next| first(next) - last(next - 1)).collect()
}

/// Whatever ended the publisher, all three comebacks are one recording: one file a format, one playlist with
/// discontinuities, every frame once, sound and picture together, and holes as long as the publisher was away.
#[tokio::test(flavor = "multi_thread")]
async fn returns_within_the_window_one_recording() {
    let (stage, mut clients, mut publisher) = stage(&all(5)).await;
    connect(&stage, &mut publisher).await;
    publisher.sent_more(90).await;
    for end in [End::Cut, End::Left, End::Stalled] {
        match end {
            End::Left => publisher.leave().await,
            End::Cut => publisher.cut().await,
            _ => publisher.abandon().await,
        }
        let waiting = clients.wait_for(DOMAIN, "cam1", 1, State::Interrupted).await.remove(0);
        assert!(waiting.resume_deadline.is_some(), "{waiting:?}");
        // Everything recorded so far can be played meanwhile.
        wait::until("the playlist to name every segment", async || {
            let playlist = stage.s3.keys().into_iter().find(|key| key.ends_with(".m3u8"))?;
            let body = stage.fetch(&playlist)?;
            let parsed = reading::playlist(&playlist, &body).unwrap();
            assert!(!parsed.end_list, "the recording goes on");
            let segments = stage.s3.keys().iter().filter(|key| key.ends_with(".ts")).count();
            (parsed.segments.len() == segments).then_some(())
        })
        .await;
        connect(&stage, &mut publisher).await;
        clients.wait_for(DOMAIN, "cam1", 1, State::Recording).await;
        publisher.sent_more(75).await;
    }
    publisher.leave().await;
    let told = stage.outcome(DOMAIN, "cam1", 1).await;
    let verdict = stage.verify(&publisher, &told, &FORMATS);
    verdict.assert_clean("three comebacks");
    let [(recording, _)] = &told[..] else { panic!("one recording, not {}", told.len()) };
    assert_eq!((recording.state(), recording.end_reason()), (State::Succeeded, EndReason::ResumeTimeout));
    for format in FORMATS {
        assert_eq!(by_format(&told[0], format).len(), 1, "{format}");
        assert!(verdict.formats[format].worst_skew <= 40, "{format}: {} ms", verdict.formats[format].worst_skew);
    }
    let playlist = &by_format(&told[0], "HLS")[0].object_key;
    let parsed = reading::playlist(playlist, &stage.fetch(playlist).unwrap()).unwrap();
    assert_eq!(parsed.segments.iter().filter(|segment| segment.discontinuity).count(), 3);
    let gaps: Vec<_> = recording.gaps.iter().map(|gap| (gap.reason(), seconds(&gap.duration))).collect();
    assert_eq!(gaps.len(), 3, "{gaps:?}");
    for ((reason, told), there) in gaps.iter().zip(pauses(&publisher)) {
        assert_eq!(*reason, Reason::PublisherLost);
        assert!((told - there.as_secs_f64()).abs() < 0.5, "{told} s told, {there:?} there");
    }
    let manifest = stage.s3.keys().into_iter().filter(|key| key.ends_with("manifest.json")).count();
    assert_eq!(manifest, 1);
    let folder = tempfile::tempdir().unwrap();
    stage.decodes(&told, folder.path());
}

/// The window counts from the last frame: a publisher that is back after it begins a new recording.
#[tokio::test(flavor = "multi_thread")]
async fn returns_too_late_makes_a_new_recording() {
    let (stage, mut clients, mut publisher) = stage(&all(1)).await;
    connect(&stage, &mut publisher).await;
    publisher.sent_more(60).await;
    publisher.cut().await;
    let gone = Instant::now();
    let first = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert_eq!(first.end_reason(), EndReason::ResumeTimeout);
    assert!(gone.elapsed() >= Duration::from_millis(900), "it waited {:?} only", gone.elapsed());
    connect(&stage, &mut publisher).await;
    publisher.sent_more(60).await;
    publisher.leave().await;
    let told = stage.outcome(DOMAIN, "cam1", 2).await;
    stage.verify(&publisher, &told, &FORMATS).assert_clean("too late");
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(recording, _)| recording.gaps.is_empty()), "{told:?}");
}

/// HLS waits longest, AAC a second, FLV and MP4 (as by default) not at all: their next files belong to the same recording.
#[tokio::test(flavor = "multi_thread")]
async fn each_format_has_its_own_window() {
    let (stage, mut clients, mut publisher) = stage(&Windows { hls: 6, flv: 0, mp4: 0, aac: 1 }).await;
    connect(&stage, &mut publisher).await;
    publisher.sent_more(60).await;
    publisher.cut().await;
    let waiting = clients.wait_for(DOMAIN, "cam1", 1, State::Interrupted).await.remove(0);
    // Files whose format does not wait arrive while the recording does.
    wait::until("FLV, MP4 and AAC to be available", async || {
        let request = v1::ListFilesRequest { parent: waiting.name.clone(), ..Default::default() };
        let files = clients.recordings.list_files(request).await.ok()?.into_inner().files;
        let available = files.iter().filter(|file| file.state() == v1::file::State::Available);
        let mut formats: Vec<_> = available.map(|file| file.format().as_str_name()).collect();
        formats.sort_unstable();
        (formats == ["AAC", "FLV", "MP4"]).then_some(())
    })
    .await;
    connect(&stage, &mut publisher).await;
    publisher.sent_more(60).await;
    publisher.leave().await;
    let told = stage.outcome(DOMAIN, "cam1", 1).await;
    stage.verify(&publisher, &told, &FORMATS).assert_clean("each its own window");
    assert_eq!(told.len(), 1);
    let files = FORMATS.map(|format| by_format(&told[0], format).len());
    assert_eq!(files, [2, 2, 1, 2], "{FORMATS:?}");
}

/// StopRecording works while the publisher is away, and the next publish is a new recording.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_recording_can_be_stopped() {
    let (stage, mut clients, mut publisher) = stage(&all(60)).await;
    connect(&stage, &mut publisher).await;
    publisher.sent_more(60).await;
    publisher.cut().await;
    let waiting = clients.wait_for(DOMAIN, "cam1", 1, State::Interrupted).await.remove(0);
    let request = v1::StopRecordingRequest { name: waiting.name.clone() };
    clients.recordings.stop_recording(request).await.unwrap();
    let done = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert_eq!(done.end_reason(), EndReason::Stopped);
    connect(&stage, &mut publisher).await;
    publisher.sent_more(60).await;
    let running = clients.recordings_of(DOMAIN, "cam1").await;
    assert_eq!(running.len(), 2, "{running:?}");
    let request = v1::StopRecordingRequest { name: running[1].name.clone() };
    clients.recordings.stop_recording(request).await.unwrap();
    let told = stage.outcome(DOMAIN, "cam1", 2).await;
    assert_eq!(told[1].0.end_reason(), EndReason::Stopped);
}

/// Reliability test 33: the newest publisher of a stream wins, in one recording with a discontinuity and one writer at a
/// time; the window does not matter, because nobody was away.
#[tokio::test(flavor = "multi_thread")]
async fn duplicate_publish() {
    for window in [0, 5] {
        let (stage, mut clients, mut publisher) = stage(&all(window)).await;
        connect(&stage, &mut publisher).await;
        publisher.sent_more(60).await;
        // The same key from elsewhere: numbered as another connection of the same publisher.
        publisher.connect_again(1, stage.cluster.rtmp(1)).await.unwrap();
        publisher.sent_more(60).await;
        publisher.leave().await;
        let told = stage.outcome(DOMAIN, "cam1", 1).await;
        assert_eq!(told.len(), 1, "one recording");
        let verdict = stage.verify(&publisher, &told, &FORMATS);
        for format in FORMATS {
            let accounting = &verdict.formats[format];
            assert_eq!((accounting.duplicates, accounting.out_of_order, accounting.strangers), (0, 0, 0), "{format}");
            assert_eq!(by_format(&told[0], format).len(), 1, "{format}");
            // What the first one still sent after it was replaced is not recorded; nothing of the second one is missing.
            assert!(accounting.lost.iter().all(|lost| lost.mark.session == 0), "{format}: {:?}", accounting.lost);
        }
        let playlist = &by_format(&told[0], "HLS")[0].object_key;
        let parsed = reading::playlist(playlist, &stage.fetch(playlist).unwrap()).unwrap();
        assert_eq!(parsed.segments.iter().filter(|segment| segment.discontinuity).count(), 1);
        let expected = if window == 0 { EndReason::PublisherEnded } else { EndReason::ResumeTimeout };
        assert_eq!(told[0].0.end_reason(), expected);
        assert!(clients.recordings_of(DOMAIN, "cam1").await.len() == 1);
    }
}
