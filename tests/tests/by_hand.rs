//! Recordings and publishers managed by hand, with real parts: what plays by URL, what deleting leaves, who is sent away.

use std::path::Path;
use std::time::{Duration, Instant};

use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_tests::bucket::{Fault, S3Server};
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Live, Source, push_file};
use recorder_tests::scene::{Clients, all_formats, tree};
use recorder_tests::stage::{KEY, SECRET, s3_target};
use recorder_tests::world::World;
use recorder_tests::{probe, wait, whip};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";
const STORAGES: [&str; 4] = ["library", "s3", "hmac", "account"];

/// Keys of everything that is in any storage.
fn keys(world: &World) -> Vec<String> {
    let library = tree(&world.cluster.library()).into_iter().filter(|key| !key.contains(".staging"));
    let all = world.s3.keys().into_iter().chain(world.hmac.keys()).chain(world.gcs.keys()).chain(library);
    all.collect()
}

async fn playback(world: &mut World, name: &str, seconds: i64) -> String {
    let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
    let request = v1::GeneratePlaybackUrlRequest { name: name.into(), ttl };
    world.clients.recordings.generate_playback_url(request).await.expect(name).into_inner().url
}

/// The status of a GET.
async fn status(url: &str) -> u16 {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    whip::request(host, "GET", &format!("/{path}"), &[], "").await.status
}

/// One character of the signature is another one.
fn tampered(url: &str) -> String {
    let at = url.to_lowercase().find("signature=").expect("a signature") + "signature=".len();
    let other = if url[at..].starts_with('0') { "1" } else { "0" };
    format!("{}{other}{}", &url[..at], &url[at + 1..])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_plays_by_url_from_every_storage() {
    let mut world = World::bound(&STORAGES, DOMAIN).await;
    let source = Source { seconds: 4, ..Default::default() }.generate(world.cluster.folder());
    push_file(&source, &world.cluster.rtmp_url(DOMAIN, "cam1"));
    let recordings = world.clients.wait_for(DOMAIN, "cam1", STORAGES.len(), State::Succeeded).await;
    let sent = probe::packets(&source);
    let mut short = Vec::new();
    for recording in &recordings {
        for (format, files) in world.clients.files(recording).await {
            let what = format!("{} {format}", recording.storage);
            let url = playback(&mut world, &files[0].name, 600).await;
            let mut expected = sent.clone();
            if format == "AAC" {
                expected.video.clear();
            }
            probe::decodes(Path::new(&url));
            probe::assert_same_media(&expected, &probe::packets(Path::new(&url)), &what);
            assert_eq!(status(&tampered(&url)).await, refusal(&recording.storage, format), "{what}: tampered");
            short.push((playback(&mut world, &files[0].name, 1).await, what, refusal(&recording.storage, format)));
        }
    }
    for (url, what, refused) in short {
        let gone = async || (status(&url).await == refused).then_some(());
        wait::until(&format!("the URL of {what} to end"), gone).await;
    }
}

/// Our own listener and Amazon say 403; the Google server of the tests 401.
fn refusal(storage: &str, format: &str) -> u16 {
    if storage == "storages/account" && format != "HLS" { 401 } else { 403 }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_leaves_nothing_in_any_storage() {
    let mut world = World::bound(&STORAGES, DOMAIN).await;
    let source = Source { seconds: 3, ..Default::default() }.generate(world.cluster.folder());
    push_file(&source, &world.cluster.rtmp_url(DOMAIN, "cam1"));
    push_file(&source, &world.cluster.rtmp_url(DOMAIN, "keep"));
    let recordings = world.clients.wait_for(DOMAIN, "cam1", STORAGES.len(), State::Succeeded).await;
    let kept = world.clients.wait_for(DOMAIN, "keep", STORAGES.len(), State::Succeeded).await;
    let id = |recording: &v1::Recording| recording.name.rsplit_once('/').unwrap().1.to_owned();
    let of =
        |keys: &[String], recording: &v1::Recording| keys.iter().filter(|key| key.contains(&id(recording))).count();
    // The manifests come after the last file.
    for recording in recordings.iter().chain(&kept) {
        wait::until("the manifest", async || (of(&keys(&world), recording) >= 6).then_some(())).await;
        let get = v1::GetRecordingRequest { name: recording.name.clone() };
        wait::until("the manifest to be known", async || {
            world.clients.recordings.get_recording(get.clone()).await.ok()?.into_inner().manifest
        })
        .await;
    }
    let before = keys(&world);
    for recording in &recordings {
        if recording.storage == "storages/s3" {
            world.s3.faults().add("DeleteObject", Fault::Answer { status: 503, code: "SlowDown", message: "later" }, 1);
        }
        let request =
            v1::DeleteRecordingRequest { name: recording.name.clone(), delete_objects: true, ..Default::default() };
        match world.clients.recordings.delete_recording(request).await {
            Ok(_) => assert_ne!(recording.storage, "storages/s3"),
            Err(status) => {
                let problem = Problem::from(&status);
                assert_eq!((recording.storage.as_str(), problem.reason.as_str()), ("storages/s3", "DELETION_PENDING"));
                assert!(problem.message.contains("later"), "{problem}");
            }
        }
    }
    // What the bucket refused is deleted without being asked again.
    wait::until("everything to be gone", async || {
        let keys = keys(&world);
        recordings.iter().all(|recording| of(&keys, recording) == 0).then_some(())
    })
    .await;
    world.clients.wait_for(DOMAIN, "cam1", 0, State::Succeeded).await;
    let after = keys(&world);
    for recording in &kept {
        assert_eq!(of(&after, recording), of(&before, recording), "{}", recording.storage);
    }
    assert_eq!(after.len(), kept.iter().map(|recording| of(&after, recording)).sum::<usize>(), "{after:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_sent_away_and_kept_away_over_rtmp_and_whip() {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("all", all_formats()).await;
    clients.bind("all", DOMAIN).await;
    let source = Source { seconds: 3, ..Default::default() }.generate(cluster.folder());
    let webrtc = whip::url(&cluster, DOMAIN, "web");
    let publishers = [
        ("cam1", Live::file(&source, &cluster.rtmp_url(DOMAIN, "cam1"))),
        ("web", Live::spawn(whip::aiortc(&webrtc, &["--seconds", "60"]))),
    ];
    for (name, mut publisher) in publishers {
        let reference = v1::StreamRef { domain: DOMAIN.into(), app: "live".into(), stream: name.into() };
        let list = v1::ListStreamsRequest { stream: Some(reference), ..Default::default() };
        let stream = wait::until(&format!("{name} to be recorded"), async || {
            let streams = clients.streams.list_streams(list.clone()).await.ok()?.into_inner().streams;
            streams.into_iter().find(|stream| !stream.recordings.is_empty())
        })
        .await;
        clients.wait_for(DOMAIN, name, 1, State::Recording).await;
        let block_for = Some(prost_types::Duration { seconds: 10, nanos: 0 });
        let request = v1::DisconnectPublisherRequest { name: stream.name.clone(), reason: "abuse".into(), block_for };
        clients.streams.disconnect_publisher(request.clone()).await.unwrap();
        wait::until(&format!("{name} to be closed"), async || {
            let gone = clients.streams.list_streams(list.clone()).await.ok()?.into_inner().streams.is_empty();
            gone.then_some(())
        })
        .await;
        if name == "cam1" {
            wait::until("ffmpeg to end", async || (!publisher.is_running()).then_some(())).await;
            assert!(rtmp(&cluster, name).await.unwrap_err().contains("abuse"), "it is told why");
        } else {
            let (address, path) = webrtc.strip_prefix("http://").unwrap().split_once('/').unwrap();
            let headers = [("content-type", "application/sdp")];
            let refused = whip::request(address, "POST", &format!("/{path}"), &headers, &whip::offer()).await;
            assert_eq!(refused.status, 403, "{refused:?}");
            assert!(refused.body.contains("abuse"), "{refused:?}");
        }
        publisher.kill();
        clients.wait_for(DOMAIN, name, 1, State::Succeeded).await;
        assert_eq!(clients.streams.disconnect_publisher(request).await.unwrap_err().code(), tonic::Code::NotFound);
    }
    wait::until("the block to be over", async || rtmp(&cluster, "cam1").await.ok()).await;
}

async fn rtmp(cluster: &Cluster, stream: &str) -> Result<(), String> {
    recorder_tests::numbered::open(cluster.rtmp(1), DOMAIN, stream).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn repaired_uploads_are_tried_at_once_when_asked() {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    let s3 = S3Server::start(KEY, SECRET).await;
    clients.storage("s3", s3_target(&s3)).await;
    let flv = Some(v1::template::Flv::default());
    clients.template("s3", v1::Template { storage: "s3".into(), flv, ..Default::default() }).await;
    clients.bind("s3", DOMAIN).await;
    let denied = Fault::Answer { status: 403, code: "AccessDenied", message: "no" };
    s3.faults().add("*", denied, usize::MAX);
    let source = Source { seconds: 3, ..Default::default() }.generate(cluster.folder());
    push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Finalizing).await.remove(0);
    let request = v1::GetStorageRequest { name: "storages/s3".into() };
    wait::until("the storage to fail", async || {
        let storage = clients.storages.get_storage(request.clone()).await.ok()?.into_inner();
        (storage.state() == v1::storage::State::Failing).then_some(())
    })
    .await;
    s3.faults().clear();
    let asked = Instant::now();
    let retry = v1::RetryUploadsRequest { name: recording.name, storage: String::new() };
    clients.recordings.retry_uploads(retry).await.unwrap();
    clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await;
    let took = asked.elapsed();
    eprintln!("available {} ms after RetryUploads", took.as_millis());
    assert!(took < Duration::from_millis(2_400), "{took:?}: a refused upload waits 2.5 s and more by itself");
}
