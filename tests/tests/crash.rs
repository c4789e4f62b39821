//! SIGKILL at random instants, on real processes (reliability.md, tests 1 and 2): every frame that was sent is in the
//! bucket exactly once, but for those of the last `flush_interval` and one frame before the crash.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use media::TrackKind;
use recorder_proto::pb::v1;
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::publisher::Source;
use recorder_tests::scene::all_formats;
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::verify::Told;
use recorder_tests::wait;
use v1::gap::Reason;

const FORMATS: [&str; 4] = ["AAC", "FLV", "HLS", "MP4"];

/// Every format, with short segments.
fn template(window: Option<i64>, upload_while_recording: bool) -> v1::Template {
    let resume_timeout = window.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
    let base = all_formats();
    let two = prost_types::Duration { seconds: 2, nanos: 0 };
    v1::Template {
        hls: Some(v1::template::Hls { segment_duration: Some(two), resume_timeout, ..Default::default() }),
        flv: Some(v1::template::Flv { resume_timeout, upload_while_recording, ..Default::default() }),
        mp4: Some(v1::template::Mp4 { resume_timeout, upload_while_recording, ..Default::default() }),
        aac: base.aac.map(|aac| v1::template::Aac { resume_timeout, upload_while_recording, ..aac }),
        ..base
    }
}

/// One stream of a crash test.
struct Cast {
    domain: String,
    publisher: Publisher,
    returns: bool,
}

/// Uploading or not while recording, coming back within `window` seconds or not: four streams that one crash hits.
async fn cast(stage: &mut Stage, round: u32, window: i64) -> Vec<Cast> {
    let folder = stage.cluster.folder().to_owned();
    let (plain, rich) = (footage(&folder, 0), footage(&folder, 8_000));
    let mut cast = Vec::new();
    for (number, (returns, growing)) in
        [(false, false), (true, false), (false, true), (true, true)].into_iter().enumerate()
    {
        let id = format!("{}-{}", if returns { "back" } else { "gone" }, if growing { "growing" } else { "whole" });
        let domain = if round == 0 {
            stage.template(&id, template(returns.then_some(window), growing)).await
        } else {
            format!("{id}.{}", recorder_tests::stage::DOMAIN)
        };
        let footage = if growing { &rich } else { &plain };
        let number = round * 10 + number as u32;
        let publisher = Publisher::new(&domain, &format!("cam{number}"), number, footage);
        cast.push(Cast { domain, publisher, returns });
    }
    cast
}

fn footage(folder: &std::path::Path, kilobits: u32) -> Arc<Footage> {
    Footage::encode_padded(&Source { seconds: 4, ..Default::default() }, folder, kilobits)
}

/// Every stream has been recorded for a moment.
async fn all_send(cast: &[Cast], frames: usize) {
    let sent = async || cast.iter().all(|one| one.publisher.frames(TrackKind::Video) >= frames).then_some(());
    wait::until("frames to be sent", sent).await;
}

/// What must hold for every stream when everything is over.
async fn judge(stage: &Stage, cast: &[Cast], decode: bool) {
    let mut claimed = BTreeSet::new();
    let mut all: Vec<Told> = Vec::new();
    for one in cast {
        let told = stage.outcome(&one.domain, &one.publisher.name, 1).await;
        let verdict = stage.verify(&one.publisher, &told, &FORMATS);
        let what = format!("{} of {}", one.publisher.name, one.domain);
        verdict.assert_clean(&what);
        for (format, accounting) in &verdict.formats {
            let (sent, lost, longest) = (accounting.sent, accounting.lost.len(), accounting.longest_loss());
            eprintln!("{what}, {format}: {sent} sent, {lost} lost, the earliest {longest:?} before the crash");
        }
        claimed.extend(verdict.objects);
        all.extend(told);
    }
    stage.no_open_uploads().await;
    assert_eq!(stage.unclaimed(&claimed), Vec::<String>::new(), "objects that no file knows");
    if decode {
        let folder = tempfile::tempdir().unwrap();
        stage.decodes(&all, folder.path());
    }
}

/// Reliability test 1.
#[tokio::test(flavor = "multi_thread")]
async fn kill9_media_mid_recording() {
    for seed in seeds(2) {
        let mut stage = Stage::start(seed).await;
        let mut cast = cast(&mut stage, 0, 10).await;
        let address = stage.cluster.rtmp(1).to_owned();
        for one in &mut cast {
            one.publisher.connect(1, &address).await.unwrap();
        }
        all_send(&cast, 60).await;
        stage.random_pause(Duration::ZERO, Duration::from_secs(5)).await;
        stage.kill_node(1);
        for one in &mut cast {
            one.publisher.broken().await;
        }
        stage.cluster.start_node(1).await;
        for one in cast.iter_mut().filter(|one| one.returns) {
            one.publisher.connect(1, &address).await.unwrap();
        }
        stage.random_pause(Duration::from_secs(1), Duration::from_secs(3)).await;
        for one in &mut cast {
            one.publisher.leave().await;
        }
        // One recording per stream, also of those who came back; each format in one file.
        for one in &cast {
            let windowed = one.returns;
            let told = stage.outcome(&one.domain, &one.publisher.name, 1).await;
            let summary: Vec<_> = told.iter().map(|(recording, files)| (recording.state(), files.len())).collect();
            assert_eq!(told.len(), 1, "{}: {summary:?}", one.publisher.name);
            let (recording, files) = &told[0];
            assert_eq!(files.len(), FORMATS.len(), "{}: {files:?}", one.publisher.name);
            let crashed = recording.gaps.iter().filter(|gap| gap.reason() == Reason::NodeCrashed).count();
            assert_eq!(crashed, usize::from(windowed), "{}: {:?}", one.publisher.name, recording.gaps);
        }
        judge(&stage, &cast, true).await;
    }
}

/// Reliability test 2, end to end: the node dies around the moment at which files are closed.
#[tokio::test(flavor = "multi_thread")]
async fn kill9_during_finalize() {
    let mut seeds = seeds(4).into_iter();
    let mut stage = Stage::start(seeds.next().expect("a seed")).await;
    let mut everyone = Vec::new();
    for round in 0..=u32::try_from(seeds.len()).unwrap() {
        let mut cast = cast(&mut stage, round, 1).await;
        let address = stage.cluster.rtmp(1).to_owned();
        for one in &mut cast {
            one.publisher.connect(1, &address).await.unwrap();
        }
        all_send(&cast, 45).await;
        for one in &mut cast {
            one.publisher.leave().await;
        }
        stage.random_pause(Duration::ZERO, Duration::from_secs(2)).await;
        stage.kill_node(1);
        stage.cluster.start_node(1).await;
        everyone.extend(cast);
    }
    judge(&stage, &everyone, false).await;
}
