//! A node that dies or is stopped, and starts again: recordings whose window is open go on, others are finished.

use std::time::{Duration, Instant};

use recorder_proto::pb::v1;
use recorder_tests::footage::Footage;
use recorder_tests::load::{Load, Profile};
use recorder_tests::numbered::Publisher;
use recorder_tests::publisher::Source;
use recorder_tests::reading;
use recorder_tests::scene::{Clients, all_formats_waiting};
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::wait;
use v1::gap::Reason;
use v1::recording::{EndReason, State};

const FORMATS: [&str; 4] = ["AAC", "FLV", "HLS", "MP4"];
const DOMAIN: &str = "restart.push.example.com";

async fn stage(window: i64, settings: &[(&str, &str)]) -> (Stage, Clients, Publisher) {
    let mut stage = Stage::start_with(seeds(1)[0], settings, &[]).await;
    let domain = stage.template("restart", all_formats_waiting(window)).await;
    let clients = Clients::of(&stage.cluster).await;
    let footage = Footage::encode(&Source { seconds: 4, ..Default::default() }, stage.cluster.folder());
    let mut publisher = Publisher::new(&domain, "cam1", 1, &footage);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    publisher.sent_more(90).await;
    (stage, clients, publisher)
}

/// One recording, one file a format, one discontinuity for each of `reasons`; frames accounted for.
async fn judge(stage: &Stage, publisher: &Publisher, reasons: &[Reason]) {
    let told = stage.outcome(DOMAIN, "cam1", 1).await;
    stage.verify(publisher, &told, &FORMATS).assert_clean("across the restart");
    let [(recording, files)] = &told[..] else { panic!("one recording, not {}", told.len()) };
    assert_eq!(recording.epoch, 1, "a restart of the node keeps the epoch");
    assert_eq!(files.len(), FORMATS.len(), "{files:?}");
    let gaps: Vec<_> = recording.gaps.iter().map(v1::Gap::reason).collect();
    assert_eq!(gaps, reasons);
    let playlist = &files.iter().find(|file| file.format() == v1::format::Kind::Hls).unwrap().object_key;
    let parsed = reading::playlist(playlist, &stage.fetch(playlist).unwrap()).unwrap();
    assert_eq!(parsed.segments.iter().filter(|segment| segment.discontinuity).count(), reasons.len());
    stage.no_open_uploads().await;
    let folder = tempfile::tempdir().unwrap();
    stage.decodes(&told, folder.path());
}

/// SIGKILL, twice, the second time while the node was still restoring or had just begun to go on.
#[tokio::test(flavor = "multi_thread")]
async fn resume_across_a_node_restart() {
    let (mut stage, mut clients, mut publisher) = stage(20, &[]).await;
    stage.kill_node(1);
    publisher.broken().await;
    // Nobody comes back to this start; it dies at a random moment.
    stage.cluster.start_node_detached(1).await;
    stage.random_pause(Duration::ZERO, Duration::from_millis(700)).await;
    stage.kill_node(1);
    stage.cluster.start_node(1).await;
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    clients.wait_for(DOMAIN, "cam1", 1, State::Recording).await;
    publisher.sent_more(75).await;
    publisher.leave().await;
    judge(&stage, &publisher, &[Reason::NodeCrashed]).await;
}

/// SIGTERM: the publisher is closed near the deadline, the recording waits in the spool, the next process goes on.
#[tokio::test(flavor = "multi_thread")]
async fn resume_across_an_orderly_restart() {
    let settings = [("RECORDER_DRAIN_MODE", "wait"), ("RECORDER_DRAIN_DEADLINE", "2s")];
    let (mut stage, mut clients, mut publisher) = stage(20, &settings).await;
    let begun = Instant::now();
    assert_eq!(stage.cluster.nodes[0].terminate().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    publisher.broken().await;
    let log = stage.cluster.nodes[0].log_text();
    assert!(log.contains("recordings wait for their publishers"), "{log}");
    clients.wait_for(DOMAIN, "cam1", 1, State::Interrupted).await;
    stage.cluster.start_node(1).await;
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    clients.wait_for(DOMAIN, "cam1", 1, State::Recording).await;
    publisher.sent_more(75).await;
    publisher.leave().await;
    // Frames on their way when the node closed the connection were never taken.
    stage.crashes.push(recorder_tests::accounting::Crash { node: 1, at: publisher.sent()[0].ended.unwrap().0 });
    judge(&stage, &publisher, &[Reason::PublisherLost]).await;
}

/// A crash while the publisher was away already: the window goes on where it was, and closes.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_passes_during_a_crash_ends_the_recording_once() {
    let (mut stage, mut clients, mut publisher) = stage(2, &[]).await;
    publisher.cut().await;
    clients.wait_for(DOMAIN, "cam1", 1, State::Interrupted).await;
    stage.kill_node(1);
    stage.cluster.start_node(1).await;
    let told = stage.outcome(DOMAIN, "cam1", 1).await;
    stage.verify(&publisher, &told, &FORMATS).assert_clean("away, then a crash");
    assert_eq!((told.len(), told[0].0.end_reason()), (1, EndReason::ResumeTimeout));
    assert!(told[0].0.gaps.is_empty(), "nothing is missing: {:?}", told[0].0.gaps);
}

/// Without a window the files are closed at once, and the publisher's return makes a new recording.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_window_a_crash_ends_the_recording() {
    let (mut stage, _, mut publisher) = stage(0, &[]).await;
    stage.kill_node(1);
    publisher.broken().await;
    stage.cluster.start_node(1).await;
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    publisher.sent_more(60).await;
    publisher.leave().await;
    let told = stage.outcome(DOMAIN, "cam1", 2).await;
    stage.verify(&publisher, &told, &FORMATS).assert_clean("a crash without a window");
    let reasons: Vec<_> = told.iter().map(|(recording, _)| recording.end_reason()).collect();
    assert_eq!(reasons, [EndReason::NodeLost, EndReason::PublisherEnded]);
}

/// Reliability test 7: fifty recordings of four formats were open.
#[tokio::test(flavor = "multi_thread")]
async fn restart_with_50_open_spools() {
    const STREAMS: usize = 50;
    let mut stage = Stage::start(seeds(1)[0]).await;
    let domain = stage.template("restart", all_formats_waiting(60)).await;
    let light = Profile { key_bytes: 4_000, frame_bytes: 400, frame_rate: 10, gop: 20, audio_bytes: 100 };
    let load = Load::start(stage.cluster.rtmp(1), &domain, STREAMS, light).await;
    let mut clients = Clients::of(&stage.cluster).await;
    wait::until("all of them to be recorded", async || {
        let request = v1::ListRecordingsRequest { page_size: 1_000, ..Default::default() };
        let recordings = clients.recordings.list_recordings(request).await.ok()?.into_inner().recordings;
        (recordings.iter().filter(|one| one.state() == State::Recording).count() == STREAMS).then_some(())
    })
    .await;
    stage.kill_node(1);
    drop(load);
    let begun = Instant::now();
    stage.cluster.start_node_detached(1).await;
    let ready = begun.elapsed();
    eprintln!("ready after {ready:?}");
    assert!(ready < Duration::from_secs(5), "{ready:?}");
    wait::until("all of them to wait", async || {
        let request = v1::ListRecordingsRequest { page_size: 1_000, ..Default::default() };
        let recordings = clients.recordings.list_recordings(request).await.ok()?.into_inner().recordings;
        (recordings.iter().filter(|one| one.state() == State::Interrupted).count() == STREAMS).then_some(())
    })
    .await;
}
