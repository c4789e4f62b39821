//! `make demo`: the main job end to end on embedded defaults. `--serve` (`make run`) leaves the pair running.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use recorder_proto::pb::v1;
use recorder_tests::process::Process;
use recorder_tests::publisher::Live;
use recorder_tests::{probe, publisher, wait};
use tonic::transport::Channel;
use v1::domain_service_client::DomainServiceClient;
use v1::recording_service_client::RecordingServiceClient;
use v1::template_service_client::TemplateServiceClient;

const DOMAIN: &str = "localhost";
const SECONDS: u32 = 20;

struct Pair {
    _control: Process,
    node: Process,
    folder: PathBuf,
    api: Channel,
}

#[tokio::main]
async fn main() {
    let serve = std::env::args().any(|argument| argument == "--serve");
    let pair = start(serve).await;
    bind_everything(&pair).await;
    if serve {
        print_instructions(&pair);
        tokio::signal::ctrl_c().await.expect("ctrl-c");
        return;
    }
    let (recording, ended) = publish(&pair).await;
    let files = collect(&pair, &recording, ended).await;
    print_summary(&pair, &recording, &files);
}

async fn start(serve: bool) -> Pair {
    let folder = std::env::current_dir().expect("working directory").join(".demo");
    if !serve {
        let _ = std::fs::remove_dir_all(&folder);
    }
    std::fs::create_dir_all(&folder).expect("folder");
    // The demo takes free ports, so that it runs beside anything; `make run` listens where the README says.
    let listen = |port: u16| if serve { format!("127.0.0.1:{port}") } else { "127.0.0.1:0".to_owned() };
    let library = folder.join("library").display().to_string();
    let settings = [
        ("RECORDER_DATABASE_URL", format!("sqlite://{}", folder.join("control.db").display())),
        ("RECORDER_SEAL_KEY_FILE", folder.join("seal.key").display().to_string()),
        ("RECORDER_API_LISTEN", listen(7080)),
        ("RECORDER_LINK_LISTEN", listen(7081)),
        ("RECORDER_ADMIN_LISTEN", listen(7090)),
        ("RECORDER_PLAYBACK_LISTEN", listen(7082)),
        ("RECORDER_LIBRARY_ROOT", library.clone()),
    ];
    let control = Process::start("recorder-control", &folder.join("control"), &settings).await;
    let settings = [
        ("RECORDER_NODE_ID", "m1".to_owned()),
        ("RECORDER_DRAIN_MODE", "move".to_owned()),
        ("RECORDER_LINK_CONTROL", control.url("link")),
        ("RECORDER_SPOOL_PATH", folder.join("spool").display().to_string()),
        ("RECORDER_LIBRARY_ROOT", library),
        ("RECORDER_RTMP_LISTEN", listen(1935)),
        ("RECORDER_HTTP_LISTEN", listen(8080)),
        ("RECORDER_ADMIN_LISTEN", listen(7091)),
    ];
    let node = Process::start("recorder-media", &folder.join("m1"), &settings).await;
    let api = Channel::from_shared(control.url("api")).expect("address").connect().await.expect("api");
    Pair { _control: control, node, folder, api }
}

/// One template with every format, bound to the push domain.
async fn bind_everything(pair: &Pair) {
    let template = v1::Template {
        hls: Some(v1::template::Hls::default()),
        flv: Some(v1::template::Flv::default()),
        mp4: Some(v1::template::Mp4::default()),
        aac: Some(v1::template::Aac { when: v1::template::aac::When::Always.into(), ..Default::default() }),
        ..Default::default()
    };
    let request =
        v1::CreateTemplateRequest { template_id: "demo".into(), template: Some(template), ..Default::default() };
    match TemplateServiceClient::new(pair.api.clone()).create_template(request).await {
        Err(status) if status.code() != tonic::Code::AlreadyExists => panic!("create template: {status}"),
        _ => {}
    }
    let bound = Instant::now();
    let mut domains = DomainServiceClient::new(pair.api.clone());
    let request = v1::BindTemplateRequest {
        template: "demo".into(),
        domains: vec![DOMAIN.into(), "127.0.0.1".into()],
        create_domains: true,
        ..Default::default()
    };
    domains.bind_template(request).await.expect("bind template");
    wait::until("the binding to be applied by the node", async || {
        let request = v1::ListBindingsRequest { template: "demo".into(), ..Default::default() };
        let bindings = domains.list_bindings(request).await.ok()?.into_inner().bindings;
        bindings.iter().all(|binding| binding.state() == v1::binding::State::Active).then_some(())
    })
    .await;
    println!("template demo is bound and applied on the node, {} ms after the call", bound.elapsed().as_millis());
}

fn publish_url(pair: &Pair, stream: &str) -> String {
    format!("rtmp://{}/live/{stream}", pair.node.address("rtmp"))
}

/// Pushes generated picture and sound in real time; returns the recording and when the publisher ended.
async fn publish(pair: &Pair) -> (v1::Recording, Instant) {
    println!("pushing {SECONDS} s of generated picture and sound over RTMP ...");
    let mut command = publisher::ffmpeg();
    command.args(["-re", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30"]);
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=48000"]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "60", "-b:v", "2500k"]);
    command.args(["-c:a", "aac", "-b:a", "128k", "-ac", "2", "-t", &SECONDS.to_string(), "-f", "flv"]);
    command.arg(publish_url(pair, "demo"));
    let mut live = Live::spawn(command);
    let mut recordings = RecordingServiceClient::new(pair.api.clone());
    let recording = wait::until("the recording to appear", async || {
        let listed = recordings.list_recordings(v1::ListRecordingsRequest::default()).await.ok()?;
        listed.into_inner().recordings.into_iter().next()
    })
    .await;
    let sent = tokio::task::spawn_blocking(move || live.wait()).await.expect("publisher");
    assert!(sent, "ffmpeg could not push");
    (recording, Instant::now())
}

struct Delivered {
    file: v1::File,
    path: PathBuf,
    after: Duration,
}

/// Watches the files become available and measures how long after the end each one was.
async fn collect(pair: &Pair, recording: &v1::Recording, ended: Instant) -> Vec<Delivered> {
    let mut recordings = RecordingServiceClient::new(pair.api.clone());
    let mut delivered: Vec<Delivered> = Vec::new();
    wait::until("four files in the library", async || {
        let request = v1::ListFilesRequest { parent: recording.name.clone(), ..Default::default() };
        let files = recordings.list_files(request).await.ok()?.into_inner().files;
        for file in files {
            let known = delivered.iter().any(|entry| entry.file.name == file.name);
            if file.state() == v1::file::State::Available && !known {
                let path = pair.folder.join("library").join(&file.object_key);
                delivered.push(Delivered { file, path, after: ended.elapsed() });
            }
        }
        (delivered.len() >= 4).then_some(())
    })
    .await;
    wait::until("the recording to succeed", async || {
        let request = v1::GetRecordingRequest { name: recording.name.clone() };
        let recording = recordings.get_recording(request).await.ok()?.into_inner();
        (recording.state() == v1::recording::State::Succeeded).then_some(())
    })
    .await;
    delivered.sort_by_key(|entry| entry.file.format);
    delivered
}

fn print_summary(pair: &Pair, recording: &v1::Recording, files: &[Delivered]) {
    println!();
    println!("{} of {} s of H.264 + AAC, template demo", recording.name, SECONDS);
    println!("{:<5} {:>9} {:>8} {:>8} {:>8} {:>9}  where", "kind", "complete", "seconds", "video", "audio", "KiB");
    for entry in files {
        probe::decodes(&entry.path);
        let packets = probe::packets(&entry.path);
        let kind = entry.file.format().as_str_name();
        let seconds = duration_seconds(&entry.path);
        let kib = entry.file.size_bytes / 1024;
        let shown = entry.path.strip_prefix(pair.folder.parent().unwrap_or(Path::new("/"))).unwrap_or(&entry.path);
        println!(
            "{kind:<5} {:>6} ms {seconds:>8.2} {:>8} {:>8} {kib:>9}  {}",
            entry.after.as_millis(),
            packets.video.len(),
            packets.audio.len(),
            shown.display()
        );
    }
    println!();
    println!("every file decoded without an error; \"complete\" is the time after the publisher's end");
}

fn duration_seconds(path: &Path) -> f64 {
    let text = probe::describe(path, "format=duration");
    text.trim().strip_prefix("duration=").and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

fn print_instructions(pair: &Pair) {
    println!(
        r#"
publish    {url}
           OBS: service "Custom", server rtmp://localhost/live, stream key = any name
           ffmpeg -re -i input.mp4 -c copy -f flv {url}
files      {library}
           http://{http}/library/
API        localhost:7080, try:
           grpcurl -plaintext localhost:7080 list
           grpcurl -plaintext localhost:7080 recorder.v1.RecordingService/ListRecordings
           grpcurl -plaintext -d '{{"template_id":"mine","template":{{"mp4":{{}}}}}}' localhost:7080 recorder.v1.TemplateService/CreateTemplate

ctrl-c stops both."#,
        url = "rtmp://localhost/live/cam1",
        library = pair.folder.join("library").display(),
        http = pair.node.address("http"),
    );
}
