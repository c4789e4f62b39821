//! HLS with segments of fragmented MP4: as exact as any other format, through a crash as well, and all of its objects are
//! known to whoever verifies, plays or deletes it.

use std::collections::BTreeMap;
use std::time::Duration;

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::opus::{FlashAndBeep, LENGTH, ends};
use recorder_tests::prefix::Watch;
use recorder_tests::publisher::{Source, push_file};
use recorder_tests::scene::{Clients, library_path, tree};
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::{probe, reading, wait, whip};
use v1::gap::Reason;
use v1::recording::State;
use v1::template::AudioMode;
use v1::template::hls::Segment;
use v1::verify_recording_request::Depth;
use v1::verify_recording_response::{Verdict, object::Outcome};

const DOMAIN: &str = "push.example.com";

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// HLS alone, in segments of a second.
fn fmp4() -> v1::Template {
    let hls = v1::template::Hls { segment: Segment::Fmp4.into(), segment_duration: seconds(1), ..Default::default() };
    v1::Template { hls: Some(hls), ..Default::default() }
}

async fn scene(template: v1::Template) -> (Cluster, Clients) {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("fmp4", template).await;
    clients.bind("fmp4", DOMAIN).await;
    (cluster, clients)
}

/// What a deep verification says of every object, by the last part of its key.
async fn verified(clients: &mut Clients, recording: &str) -> (BTreeMap<String, Outcome>, Verdict) {
    let request = v1::VerifyRecordingRequest { name: recording.into(), depth: Depth::Full as i32 };
    let mut stream = clients.recordings.verify_recording(request).await.unwrap().into_inner();
    let (mut found, mut verdict) = (BTreeMap::new(), Verdict::Unspecified);
    while let Some(message) = stream.message().await.unwrap() {
        verdict = message.verdict();
        if let Some(object) = message.object {
            let name = object.object_key.rsplit('/').next().unwrap().to_owned();
            assert!(found.insert(name, object.outcome()).is_none(), "each object once");
        }
    }
    (found, verdict)
}

async fn manifest_of(clients: &mut Clients, recording: &v1::Recording) {
    let request = v1::GetRecordingRequest { name: recording.name.clone() };
    wait::until("the manifest to be known", async || {
        clients.recordings.get_recording(request.clone()).await.ok()?.into_inner().manifest
    })
    .await;
}

/// Every packet as it was sent; then verified, damaged and verified, played over signed URLs, and deleted to the last
/// object.
#[tokio::test(flavor = "multi_thread")]
async fn r9_an_rtmp_push_is_recorded_frame_by_frame_and_every_object_of_it_is_known() {
    let (cluster, mut clients) = scene(fmp4()).await;
    let source = Source { seconds: 4, ..Default::default() }.generate(cluster.folder());
    push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let file = clients.files(&recording).await.remove("HLS").unwrap().remove(0);
    let path = library_path(&cluster, &file);
    probe::decodes(&path);
    let (sent, recorded) = (probe::packets(&source), probe::packets(&path));
    probe::assert_same_media(&sent, &recorded, "fMP4");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("#EXTM3U\n#EXT-X-VERSION:7\n") && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    assert_eq!(text.matches("#EXT-X-MAP:URI=\"init-0.mp4\"\n").count(), 1, "{text}");
    manifest_of(&mut clients, &recording).await;
    let (found, verdict) = verified(&mut clients, &recording.name).await;
    let segments = text.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<&str> = segments.chain(["index.m3u8", "init-0.mp4", "manifest.json"]).collect();
    assert!(names.len() >= 7 && found.keys().map(String::as_str).eq(names.iter().copied()), "{found:?}, not {names:?}");
    assert_eq!(verdict, Verdict::Intact, "{found:?}");
    assert_eq!(file.size_bytes, sizes(path.parent().unwrap(), &names[..names.len() - 1]));
    for (name, kind) in [("0.m4s", "video/iso.segment"), ("init-0.mp4", "video/mp4")] {
        let key = file.object_key.replace("index.m3u8", name);
        let reply = whip::request(cluster.nodes[0].address("http"), "HEAD", &format!("/library/{key}"), &[], "").await;
        assert_eq!((reply.status, reply.header("content-type")), (200, kind), "{name}");
    }
    let request = v1::GeneratePlaybackUrlRequest { name: file.name.clone(), ttl: seconds(300) };
    let url = clients.recordings.generate_playback_url(request).await.unwrap().into_inner().url;
    let played = tokio::task::spawn_blocking(move || probe::packets(url.as_ref())).await.unwrap();
    probe::assert_same_media(&sent, &played, "played");
    // One bit of what all segments need.
    let head = path.with_file_name("init-0.mp4");
    let mut bytes = std::fs::read(&head).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&head, bytes).unwrap();
    let (found, verdict) = verified(&mut clients, &recording.name).await;
    assert_eq!((found["init-0.mp4"], verdict), (Outcome::ChecksumMismatch, Verdict::Damaged), "{found:?}");
    let request = v1::DeleteRecordingRequest { name: recording.name, delete_objects: true, ..Default::default() };
    clients.recordings.delete_recording(request).await.unwrap();
    assert_eq!(tree(&cluster.library()), Vec::<String>::new());
}

fn sizes(folder: &std::path::Path, names: &[&str]) -> u64 {
    names.iter().map(|name| std::fs::metadata(folder.join(name)).unwrap().len()).sum()
}

/// SIGKILL in the middle, and the same playlist goes on behind a discontinuity and another initialisation segment. It
/// names nothing before that is there, at any instant.
#[tokio::test(flavor = "multi_thread")]
async fn r1_a_killed_node_goes_on_with_the_same_playlist() {
    let mut stage = Stage::start(seeds(1)[0]).await;
    let changes = stage.s3.changes();
    let mut template = fmp4();
    template.hls.as_mut().unwrap().resume_timeout = seconds(20);
    let domain = stage.template("fmp4", template).await;
    let mut clients = Clients::of(&stage.cluster).await;
    let footage = Footage::encode(&Source { seconds: 4, ..Default::default() }, stage.cluster.folder());
    let mut publisher = Publisher::new(&domain, "cam1", 1, &footage);
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    publisher.sent_more(90).await;
    stage.random_pause(Duration::ZERO, Duration::from_millis(700)).await;
    stage.kill_node(1);
    publisher.broken().await;
    stage.cluster.start_node(1).await;
    publisher.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    clients.wait_for(&domain, "cam1", 1, State::Recording).await;
    publisher.sent_more(75).await;
    publisher.leave().await;
    let told = stage.outcome(&domain, "cam1", 1).await;
    let verdict = stage.verify(&publisher, &told, &["HLS"]);
    verdict.assert_clean("across the crash");
    assert_eq!(stage.unclaimed(&verdict.objects), Vec::<String>::new());
    let [(recording, files)] = &told[..] else { panic!("one recording, not {}", told.len()) };
    assert_eq!(recording.gaps.iter().map(v1::Gap::reason).collect::<Vec<_>>(), [Reason::NodeCrashed]);
    assert_eq!(files.len(), 1, "{files:?}");
    let playlist = &files[0].object_key;
    let parsed = reading::playlist(playlist, &stage.fetch(playlist).unwrap()).unwrap();
    let holes: Vec<usize> = (0..parsed.segments.len()).filter(|at| parsed.segments[*at].discontinuity).collect();
    let [hole] = holes[..] else { panic!("one discontinuity: {holes:?}") };
    assert_eq!(parsed.segments[hole].map.as_ref().unwrap().uri, "init-1.mp4");
    let mut watch = Watch::default();
    changes.try_iter().for_each(|change| watch.see(&change));
    assert!(watch.problems.is_empty() && watch.versions > 4, "{:#?}", watch.problems);
    manifest_of(&mut clients, recording).await;
    assert_eq!(verified(&mut clients, &recording.name).await.1, Verdict::Intact);
    let folder = tempfile::tempdir().unwrap();
    stage.decodes(&told, folder.path());
}

/// The template decides: segments of fragmented MP4 carry Opus as it comes, in its place.
#[tokio::test(flavor = "multi_thread")]
async fn opus_is_copied_into_fmp4_segments_where_the_template_asks_for_it() {
    for (audio, codec) in [(AudioMode::Copy, "opus"), (AudioMode::Auto, "aac")] {
        let (cluster, mut clients) = scene(v1::Template { audio: audio.into(), ..fmp4() }).await;
        let source = FlashAndBeep::encode(cluster.folder(), 4);
        source.publish(cluster.rtmp(1), DOMAIN, "cam1", 3.0).await;
        let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
        let file = clients.files(&recording).await.remove("HLS").unwrap().remove(0);
        let told = file.audio.clone().unwrap();
        assert_eq!((told.codec.as_str(), told.transcoded), (codec, codec == "aac"));
        let path = library_path(&cluster, &file);
        probe::decodes(&path);
        let found = ends(&path, true);
        assert_eq!((found.flashes.len(), found.beeps.len()), (4, 4), "{codec}: {found:?}");
        assert!(found.offsets().iter().all(|offset| offset.abs() <= 0.02), "{codec}: {:?}", found.offsets());
    }
}

/// A WebRTC publisher's own Opus, from the first beep to the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_whip_publishers_opus_is_copied_from_the_first_beep_to_the_last() {
    let (cluster, mut clients) = scene(v1::Template { audio: AudioMode::Copy.into(), ..fmp4() }).await;
    let url = whip::url(&cluster, DOMAIN, "cam1");
    whip::publish(whip::aiortc(&url, &["--seconds", "5"])).await;
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let file = clients.files(&recording).await.remove("HLS").unwrap().remove(0);
    let told = file.audio.clone().unwrap();
    assert_eq!((told.codec.as_str(), told.transcoded), ("opus", false));
    let path = library_path(&cluster, &file);
    probe::decodes(&path);
    assert!(probe::describe(&path, "stream=codec_name").contains("codec_name=opus"));
    let found = ends(&path, true);
    println!("off by {:.3?} s", found.offsets());
    assert!((5..=6).contains(&found.beeps.len()) && found.flashes.len() == found.beeps.len(), "{found:?}");
    assert!(found.offsets().iter().all(|offset| offset.abs() <= 0.04), "{:.3?}", found.offsets());
    // The recording begins with the first of both.
    let starts = probe::describe(&path, "stream=start_time");
    let starts = starts.lines().filter_map(|line| line.strip_prefix("start_time=")?.parse::<f64>().ok());
    let first = found.beeps[0] - starts.fold(f64::MAX, f64::min);
    assert!((first - LENGTH).abs() < 0.06, "the first beep ends after {first} s");
}
