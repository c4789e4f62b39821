//! What is sent is what is recorded: frame by frame, in every format, into the embedded library.

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Live, Source, Tracks, ffmpeg, push_file};
use recorder_tests::scene::{Clients, all_formats, library_path, recorded, tree};
use recorder_tests::{probe, publisher, wait};
use rtmp::client::payload;
use v1::recording::State;

const DOMAIN: &str = "push.example.com";
const ONE_SECOND: prost_types::Duration = prost_types::Duration { seconds: 1, nanos: 0 };

async fn scene(template: v1::Template) -> (Cluster, Clients) {
    recorded(DOMAIN, template, &[]).await
}

/// R9, R10, R24-R28: one publish, every format, each frame once.
async fn r9_every_format_holds_every_frame(tracks: Tracks) {
    let (cluster, mut clients) = scene(all_formats()).await;
    let source = Source { tracks, ..Default::default() }.generate(cluster.folder());
    push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let files = clients.files(&recording).await;
    let sent = probe::packets(&source);
    for (format, files) in &files {
        assert_eq!(files.len(), 1, "{format}");
        let path = library_path(&cluster, &files[0]);
        probe::decodes(&path);
        let mut expected = sent.clone();
        if *format == "AAC" {
            expected.video.clear();
        }
        probe::assert_same_media(&expected, &probe::packets(&path), format);
    }
    let expected: &[&str] =
        if tracks == Tracks::Video { &["FLV", "HLS", "MP4"] } else { &["AAC", "FLV", "HLS", "MP4"] };
    assert_eq!(files.keys().copied().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn r9_picture_and_sound() {
    r9_every_format_holds_every_frame(Tracks::Both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r9_picture_only() {
    r9_every_format_holds_every_frame(Tracks::Video).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_sound_only() {
    r9_every_format_holds_every_frame(Tracks::Audio).await;
}

/// R10: AAC by default only of streams without picture.
#[tokio::test(flavor = "multi_thread")]
async fn r10_aac_by_default_is_for_audio_only_streams() {
    let template = v1::Template {
        flv: Some(v1::template::Flv::default()),
        aac: Some(v1::template::Aac::default()),
        ..Default::default()
    };
    let (cluster, mut clients) = scene(template).await;
    for (tracks, stream, expected) in
        [(Tracks::Both, "both", vec!["FLV"]), (Tracks::Audio, "audio", vec!["AAC", "FLV"])]
    {
        let source = Source { tracks, seconds: 4, ..Default::default() }.generate(cluster.folder());
        push_file(&source, &cluster.rtmp_url(DOMAIN, stream));
        let recording = clients.wait_for(DOMAIN, stream, 1, State::Succeeded).await.remove(0);
        assert_eq!(clients.files(&recording).await.into_keys().collect::<Vec<_>>(), expected);
    }
}

/// R13, C5: unbinding and editing leave a running recording alone; the next publish follows the new state.
#[tokio::test(flavor = "multi_thread")]
async fn r13_unbinding_touches_only_the_next_publish() {
    let (cluster, mut clients) = scene(all_formats()).await;
    let source = Source { seconds: 4, ..Default::default() }.generate(cluster.folder());
    let mut live = Live::file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let running = clients.wait_for(DOMAIN, "cam1", 1, State::Recording).await.remove(0);
    let edited = v1::Template { name: "templates/all".into(), description: "edited".into(), ..Default::default() };
    let request = v1::UpdateTemplateRequest { template: Some(edited), ..Default::default() };
    let edited = clients.templates.update_template(request).await.unwrap().into_inner();
    assert_eq!((running.template_revision, edited.revision), (1, 2));
    clients.unbind("all", DOMAIN).await;
    // The recording still grows after the node has forgotten the binding.
    let before = bytes_recorded(&mut clients, &running).await;
    wait::until("the recording to grow", async || {
        (bytes_recorded(&mut clients, &running).await > before || still_recording(&mut clients, &running).await)
            .then_some(())
    })
    .await;
    live.stop();
    let done = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert_eq!(done.template_revision, 1);
    push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let ended = wait::until("the second publish to be over", async || {
        let streams = clients.streams.list_streams(v1::ListStreamsRequest::default()).await.ok()?.into_inner().streams;
        streams.is_empty().then_some(())
    });
    ended.await;
    assert_eq!(clients.recordings_of(DOMAIN, "cam1").await.len(), 1, "an unbound domain is not recorded");
}

async fn bytes_recorded(clients: &mut Clients, recording: &v1::Recording) -> u64 {
    let request = v1::GetRecordingRequest { name: recording.name.clone() };
    let recording = clients.recordings.get_recording(request).await.unwrap().into_inner();
    recording.outputs.iter().map(|output| output.bytes_recorded).sum()
}

async fn still_recording(clients: &mut Clients, recording: &v1::Recording) -> bool {
    let request = v1::GetRecordingRequest { name: recording.name.clone() };
    clients.recordings.get_recording(request).await.unwrap().into_inner().state() == State::Recording
}

/// StopRecording finishes the files while the publisher stays.
#[tokio::test(flavor = "multi_thread")]
async fn stop_recording_finishes_while_the_publisher_stays() {
    let hls = v1::template::Hls { segment_duration: Some(ONE_SECOND), ..Default::default() };
    let (cluster, mut clients) = scene(v1::Template { hls: Some(hls), ..all_formats() }).await;
    let source = Source { seconds: 4, ..Default::default() }.generate(cluster.folder());
    let mut live = Live::file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    let running = clients.wait_for(DOMAIN, "cam1", 1, State::Recording).await.remove(0);
    wait::until("two segments to be in the library", async || {
        tree(&cluster.library()).iter().any(|file| file.ends_with("/1.ts")).then_some(())
    })
    .await;
    let request = v1::StopRecordingRequest { name: running.name.clone() };
    clients.recordings.stop_recording(request).await.unwrap();
    let done = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert_eq!(done.end_reason(), v1::recording::EndReason::Stopped);
    assert!(live.is_running());
    for files in clients.files(&done).await.into_values() {
        probe::decodes(&library_path(&cluster, &files[0]));
    }
}

/// E18: a second publisher of a live key wins; one recording, and nothing of the first is truncated.
#[tokio::test(flavor = "multi_thread")]
async fn e18_newest_publisher_wins_in_one_recording() {
    let (cluster, mut clients) = scene(all_formats()).await;
    let source = Source { seconds: 4, ..Default::default() }.generate(cluster.folder());
    let mut first = Live::file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    clients.wait_for(DOMAIN, "cam1", 1, State::Recording).await;
    let mut second = Live::once(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    wait::until("the first publisher to be put off", async || (!first.is_running()).then_some(())).await;
    assert!(second.wait());
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let sent = probe::packets(&source);
    for (format, files) in clients.files(&recording).await {
        let recorded: Vec<_> = files.iter().map(|file| probe::packets(&library_path(&cluster, file))).collect();
        let frames: usize = recorded.iter().map(|packets| packets.audio.len()).sum();
        assert!(frames > sent.audio.len(), "{format}: both publishers are in it");
        // The second publisher's media is there whole, at the end.
        let hashes: Vec<_> = recorded.iter().flat_map(|packets| &packets.audio).map(|packet| &packet.hash).collect();
        let tail: Vec<_> = sent.audio.iter().map(|packet| &packet.hash).collect();
        assert!(hashes.ends_with(&tail), "{format}: the second publisher is recorded whole");
    }
}

/// E1, E17: GStreamer's rtmp2sink, as it is.
#[tokio::test(flavor = "multi_thread")]
async fn e17_gstreamer_publishes() {
    let (cluster, mut clients) = scene(all_formats()).await;
    let url = format!("{} live=1", cluster.rtmp_url(DOMAIN, "gst"));
    let location = url.trim_end_matches(" live=1");
    let mut command = std::process::Command::new("gst-launch-1.0");
    command.args(["-q", "videotestsrc", "num-buffers=120", "!", "video/x-raw,width=320,height=180,framerate=30/1"]);
    command.args(["!", "x264enc", "key-int-max=30", "tune=zerolatency", "!", "h264parse", "!", "mux.", "audiotestsrc"]);
    command.args(["num-buffers=172", "!", "audio/x-raw,rate=44100,channels=2", "!", "avenc_aac", "!", "aacparse", "!"]);
    command
        .args(["mux.", "flvmux", "name=mux", "streamable=true", "!", "rtmp2sink"])
        .arg(format!("location={location}"));
    publisher::run(&mut command);
    let recording = clients.wait_for(DOMAIN, "gst", 1, State::Succeeded).await.remove(0);
    let files = clients.files(&recording).await;
    for (format, files) in &files {
        let path = library_path(&cluster, &files[0]);
        probe::decodes(&path);
        let packets = probe::packets(&path);
        if *format != "AAC" {
            assert_eq!(packets.video.len(), 120, "{format}");
        }
        assert!(packets.audio.len() >= 170, "{format}: {}", packets.audio.len());
    }
    assert_eq!(files.len(), 4);
}

/// R5 (issue): signed URLs from GeneratePublishUrl work, anything else is turned away.
#[tokio::test(flavor = "multi_thread")]
async fn signed_publish_urls() {
    let (cluster, mut clients) = scene(all_formats()).await;
    let auth = v1::domain::PublishAuth {
        mode: v1::domain::publish_auth::Mode::SignedUrl.into(),
        primary_key: "first".into(),
        secondary_key: "second".into(),
        ..Default::default()
    };
    let domain = v1::Domain { name: format!("domains/{DOMAIN}"), publish_auth: Some(auth), ..Default::default() };
    clients
        .domains
        .update_domain(v1::UpdateDomainRequest { domain: Some(domain), ..Default::default() })
        .await
        .unwrap();
    let source = Source { seconds: 2, ..Default::default() }.generate(cluster.folder());
    let url = cluster.rtmp_url(DOMAIN, "cam1");
    let push = |url: &str| {
        let mut command = ffmpeg();
        command.arg("-i").arg(&source).args(["-c", "copy", "-f", "flv", url]).output().unwrap().status.success()
    };
    wait::until("the node to ask for signatures", async || (!push(&url)).then_some(())).await;
    let request = v1::GeneratePublishUrlRequest {
        domain: DOMAIN.into(),
        stream: "cam2".into(),
        ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let signed = clients.domains.generate_publish_url(request).await.unwrap().into_inner().rtmp_url;
    let query = signed.split_once('?').expect("a signed URL").1;
    let base = cluster.rtmp_url(DOMAIN, "cam2");
    assert!(push(&format!("{base}&{query}")));
    assert!(!push(&format!("{}&{query}", cluster.rtmp_url(DOMAIN, "cam3"))), "the signature names the stream");
    clients.wait_for(DOMAIN, "cam2", 1, State::Succeeded).await;
    assert!(clients.recordings_of(DOMAIN, "cam3").await.is_empty());
}

/// Regression: an encoder that closed its socket right after its last frame lost the frames on their way, because an
/// acknowledgement that reaches a closed socket resets the connection.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_frames_of_an_encoder_that_closes_at_once_are_recorded() {
    const FRAMES: u32 = 600;
    let template = v1::Template { flv: Some(v1::template::Flv::default()), ..Default::default() };
    let (cluster, mut clients) = scene(template).await;
    let mut socket = recorder_tests::load::connect(cluster.nodes[0].address("rtmp"), DOMAIN, "cam1").await;
    let mut client = rtmp::client::Client::new();
    client.set_chunk_size(4096);
    let mut bytes = client.video(0, &payload::avc_header(payload::AVC_RECORD));
    for number in 0..FRAMES {
        bytes.extend(client.video(number * 33, &payload::avc_frame(number % 30 == 0, 0, 20_000)));
    }
    bytes.extend(client.unpublish("cam1"));
    tokio::io::AsyncWriteExt::write_all(&mut socket, &bytes).await.unwrap();
    drop(socket);
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    let files = clients.files(&recording).await;
    let bytes = std::fs::read(library_path(&cluster, &files["FLV"][0])).unwrap();
    let media = mux::demux::flv(&bytes.into()).unwrap();
    assert_eq!(media.samples.len(), FRAMES as usize);
}
