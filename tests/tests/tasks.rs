//! Tasks end to end: ffmpeg publishes, and files hold exactly what a task asked for.
// Times of the machine are what is compared here.
#![allow(clippy::disallowed_methods)]

mod opus;

use std::time::{Duration, SystemTime};

use recorder_proto::pb::v1;
use recorder_tests::cluster::{Api, Cluster};
use recorder_tests::probe::{self, Packet};
use recorder_tests::publisher::{Live, Source};
use recorder_tests::scene::{Clients, all_formats, library_path, tree};
use recorder_tests::wait;
use v1::recording::EndReason;
use v1::task::State;
use v1::task_service_client::TaskServiceClient;

const DOMAIN: &str = "push.example.com";
/// Pictures between key frames, at 30 a second.
const GOP: usize = 60;

/// A cluster whose streams are recorded by `all`, and a template `task` for tasks.
async fn scene(task: v1::Template) -> (Cluster, Clients) {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    let hls = Some(v1::template::Hls { segment_duration: seconds(1), ..Default::default() });
    clients.template("all", v1::Template { hls, ..all_formats() }).await;
    clients.template("task", task).await;
    clients.bind("all", DOMAIN).await;
    (cluster, clients)
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn flv_and_mp4() -> v1::Template {
    v1::Template {
        flv: Some(v1::template::Flv::default()),
        mp4: Some(v1::template::Mp4::default()),
        ..v1::Template::default()
    }
}

fn source(cluster: &Cluster, seconds: u32) -> std::path::PathBuf {
    Source { seconds, gop: GOP as u32, ..Default::default() }.generate(cluster.folder())
}

struct Tasks(TaskServiceClient<Api>);

impl Tasks {
    async fn of(cluster: &Cluster) -> Self {
        Self(TaskServiceClient::new(cluster.api().await))
    }

    async fn order(&mut self, id: &str, task: v1::Task) -> Result<v1::Task, tonic::Status> {
        let stream = v1::StreamRef { domain: DOMAIN.into(), app: String::new(), stream: "cam1".into() };
        let task = v1::Task { stream: Some(stream), template: "task".into(), ..task };
        let request = v1::CreateTaskRequest { task_id: id.into(), task: Some(task), ..Default::default() };
        self.0.create_task(request).await.map(tonic::Response::into_inner)
    }

    async fn stop(&mut self, id: &str) {
        self.0.stop_task(v1::StopTaskRequest { name: id.into() }).await.expect("stop");
    }

    async fn reaches(&mut self, id: &str, state: State) -> v1::Task {
        wait::until(&format!("{id} to be {}", state.as_str_name()), async || {
            let task = self.0.get_task(v1::GetTaskRequest { name: id.into() }).await.ok()?.into_inner();
            (task.state() == state).then_some(task)
        })
        .await
    }
}

/// Waits until so many more segments of one second of the standing recording are in the library.
async fn media_passes(cluster: &Cluster, segments: usize) {
    let count = || tree(&cluster.library()).iter().filter(|path| path.ends_with(".ts")).count();
    let before = count();
    wait::until("media to pass", async || (count() >= before + segments).then_some(())).await;
}

fn at(time: &Option<prost_types::Timestamp>) -> SystemTime {
    let time = time.as_ref().expect("a time");
    SystemTime::UNIX_EPOCH + Duration::new(time.seconds as u64, time.nanos as u32)
}

fn wire(time: SystemTime) -> Option<prost_types::Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Some(prost_types::Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32 })
}

/// Where in `sent` the recorded frames begin; they are a part of it without a hole.
fn part_of(sent: &[Packet], recorded: &[Packet], what: &str) -> usize {
    let begins = sent.iter().position(|packet| packet.hash == recorded[0].hash);
    let begins = begins.unwrap_or_else(|| panic!("{what}: its first frame was never sent"));
    assert!(begins + recorded.len() <= sent.len(), "{what}: more frames than were sent");
    for (index, (sent, recorded)) in sent[begins..].iter().zip(recorded).enumerate() {
        assert_eq!(sent.hash, recorded.hash, "{what}: frame {index}");
    }
    begins
}

async fn recording(clients: &mut Clients, name: &str) -> v1::Recording {
    clients.recordings.get_recording(v1::GetRecordingRequest { name: name.into() }).await.unwrap().into_inner()
}

/// The stream is live; the last key frame is up to two seconds old when the task is ordered.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_on_a_live_stream_begins_at_its_last_key_frame_and_disturbs_nothing() {
    let (cluster, mut clients) = scene(flv_and_mp4()).await;
    let mut tasks = Tasks::of(&cluster).await;
    let source = source(&cluster, 12);
    let sent = probe::packets(&source);
    let mut live = Live::once(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    media_passes(&cluster, 3).await;
    let standing = clients.recordings_of(DOMAIN, "cam1").await.remove(0);
    let ordered = SystemTime::now();
    tasks.order("ny", v1::Task::default()).await.unwrap();
    tasks.reaches("ny", State::Running).await;
    // Two more may run beside it, a fourth may not.
    for id in ["second", "third"] {
        tasks
            .order(id, v1::Task { start_time: wire(ordered + Duration::from_secs(3_600)), ..Default::default() })
            .await
            .unwrap();
    }
    let refused = tasks.order("fourth", v1::Task::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
    media_passes(&cluster, 3).await;
    tasks.stop("ny").await;
    let task = tasks.reaches("ny", State::Succeeded).await;
    assert!(live.is_running(), "ending a task leaves the publisher alone");
    assert_eq!(task.recordings.len(), 1);
    let made = recording(&mut clients, &task.recordings[0]).await;
    assert_eq!((made.end_reason(), made.template.as_str()), (EndReason::TaskEnded, "templates/task"));
    let origin = v1::recording::Origin::Task("tasks/ny".into());
    assert_eq!(made.origin, Some(origin));
    let files = clients.files(&made).await;
    assert_eq!(files.keys().copied().collect::<Vec<_>>(), ["FLV", "MP4"]);
    for (format, files) in files {
        let [file] = &files[..] else { panic!("one {format} file: {files:?}") };
        let folder = format!("origin/{DOMAIN}/live/cam1/ny/");
        assert!(file.object_key.starts_with(&folder), "{}", file.object_key);
        let path = library_path(&cluster, file);
        probe::decodes(&path);
        let recorded = probe::packets(&path);
        let first = part_of(&sent.video, &recorded.video, format);
        part_of(&sent.audio, &recorded.audio, format);
        assert_eq!(first % GOP, 0, "{format}: picture {first} is no key frame");
        // The last key frame before the order: it was received by then, and the next one was not.
        let received = |index: usize| {
            let since = sent.video[index].dts - sent.video[0].dts;
            at(&standing.start_time) + Duration::from_secs_f64(since)
        };
        let slack = Duration::from_millis(300);
        assert!(received(first) <= ordered + slack, "{format}: began after the order");
        assert!(received(first + GOP) + slack >= ordered, "{format}: a later key frame was there");
        let (video, audio) = (recorded.video.len(), recorded.audio.len());
        println!("{format}: {video} pictures, {audio} of sound, from picture {first} of {}", sent.video.len());
        // Three segments passed between order and stop.
        assert!(video >= 75 && audio as f64 >= video as f64 / 30.0 * 43.0 - 6.0, "{format}: {video} and {audio}");
    }
    for id in ["second", "third"] {
        tasks.stop(id).await;
        tasks.reaches(id, State::Cancelled).await;
    }
    assert!(live.wait());
    let done = wait::until("the standing recording to be done", async || {
        Some(recording(&mut clients, &standing.name).await)
            .filter(|done| done.state() == v1::recording::State::Succeeded)
    });
    let done = done.await;
    for (format, files) in clients.files(&done).await {
        let mut expected = sent.clone();
        if format == "AAC" {
            expected.video.clear();
        }
        probe::assert_same_media(&expected, &probe::packets(&library_path(&cluster, &files[0])), format);
    }
}

/// Ordered ahead; the control plane dies before its start and comes back after its end. The node needs nobody for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_task_outlives_the_control_plane_that_took_it() {
    let (mut cluster, mut clients) = scene(flv_and_mp4()).await;
    let source = source(&cluster, 12);
    let sent = probe::packets(&source);
    let mut live = Live::once(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    media_passes(&cluster, 1).await;
    let standing = clients.recordings_of(DOMAIN, "cam1").await.remove(0);
    let start = SystemTime::now() + Duration::from_secs(4);
    let (start_time, end_time) = (wire(start), wire(start + Duration::from_secs(4)));
    let mut tasks = Tasks::of(&cluster).await;
    let ordered = tasks.order("later", v1::Task { start_time, end_time, ..Default::default() }).await.unwrap();
    assert_eq!(ordered.state(), State::Scheduled);
    let known = cluster.folder().join("m1/spool/state/directives.pb");
    wait::until("the node to know the task", async || {
        let stored = std::fs::read(&known).ok()?;
        stored.windows(11).any(|bytes| bytes == b"tasks/later").then_some(())
    })
    .await;
    cluster.control.take().unwrap().kill();
    let is_there = |path: &String| path.contains("/cam1/later/") && path.ends_with(".mp4");
    wait::until("its file, without a control plane", async || {
        tree(&cluster.library()).iter().any(is_there).then_some(())
    })
    .await;
    assert!(SystemTime::now() >= start + Duration::from_secs(4), "it ends at its end");
    cluster.start_control().await;
    let task = Tasks::of(&cluster).await.reaches("later", State::Succeeded).await;
    let mut clients = Clients::of(&cluster).await;
    let made = recording(&mut clients, &task.recordings[0]).await;
    assert_eq!(made.end_reason(), EndReason::TaskEnded);
    let file = clients.files(&made).await.remove("MP4").unwrap().remove(0);
    let path = library_path(&cluster, &file);
    probe::decodes(&path);
    let recorded = probe::packets(&path);
    let first = part_of(&sent.video, &recorded.video, "MP4");
    let began = at(&standing.start_time) + Duration::from_secs_f64(sent.video[first].dts - sent.video[0].dts);
    let slack = Duration::from_millis(300);
    assert!(first.is_multiple_of(GOP) && began <= start + slack && began + Duration::from_secs(2) + slack >= start);
    let length = recorded.video.len() as f64 / 30.0;
    println!("{length} s of 4, and what was before the start since its key frame");
    assert!((3.6..=6.4).contains(&length), "{length} s");
    live.stop();
}

/// The publisher is cut off and comes back within the window of the task's template: one recording goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_on_when_its_publisher_comes_back_in_time() {
    let hls = v1::template::Hls { segment_duration: seconds(1), resume_timeout: seconds(20), ..Default::default() };
    let flv = v1::template::Flv { resume_timeout: seconds(20), ..Default::default() };
    let template = v1::Template { hls: Some(hls), flv: Some(flv), ..Default::default() };
    let (cluster, mut clients) = scene(template).await;
    let mut tasks = Tasks::of(&cluster).await;
    let source = source(&cluster, 12);
    let mut live = Live::file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    media_passes(&cluster, 1).await;
    tasks.order("ny", v1::Task::default()).await.unwrap();
    let task = tasks.reaches("ny", State::Running).await;
    media_passes(&cluster, 2).await;
    live.kill();
    let name = task.recordings[0].clone();
    wait::until("the recording to wait", async || {
        let made = recording(&mut clients, &name).await;
        (made.state() == v1::recording::State::Interrupted).then_some(())
    })
    .await;
    assert_eq!(tasks.reaches("ny", State::Running).await.recordings, task.recordings);
    let mut live = Live::file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    wait::until("the recording to go on", async || {
        let made = recording(&mut clients, &name).await;
        (made.state() == v1::recording::State::Recording).then_some(())
    })
    .await;
    media_passes(&cluster, 2).await;
    tasks.stop("ny").await;
    let task = tasks.reaches("ny", State::Succeeded).await;
    assert_eq!(task.recordings, std::slice::from_ref(&name), "one recording");
    let made = recording(&mut clients, &name).await;
    assert_eq!((made.gaps.len(), made.end_reason()), (1, EndReason::TaskEnded));
    for (format, files) in clients.files(&made).await {
        assert_eq!(files.len(), 1, "{format}: one file across the hole");
        probe::decodes(&library_path(&cluster, &files[0]));
    }
    live.stop();
}

/// A template with `pre_roll`: the task has what was received before it was ordered.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_with_pre_roll_has_what_came_before_its_order() {
    let (cluster, mut clients) = scene(v1::Template { pre_roll: seconds(5), ..flv_and_mp4() }).await;
    let mut tasks = Tasks::of(&cluster).await;
    let source = source(&cluster, 12);
    let sent = probe::packets(&source);
    let mut live = Live::once(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    media_passes(&cluster, 8).await;
    let standing = clients.recordings_of(DOMAIN, "cam1").await.remove(0);
    let ordered = SystemTime::now();
    tasks.order("ny", v1::Task::default()).await.unwrap();
    tasks.reaches("ny", State::Running).await;
    tasks.stop("ny").await;
    let task = tasks.reaches("ny", State::Succeeded).await;
    let made = recording(&mut clients, &task.recordings[0]).await;
    let file = clients.files(&made).await.remove("FLV").unwrap().remove(0);
    let path = library_path(&cluster, &file);
    probe::decodes(&path);
    let recorded = probe::packets(&path);
    let first = part_of(&sent.video, &recorded.video, "FLV");
    let began = at(&standing.start_time) + Duration::from_secs_f64(sent.video[first].dts - sent.video[0].dts);
    let before = ordered.duration_since(began).unwrap().as_secs_f64();
    println!("{before:.2} s before the order, {} pictures", recorded.video.len());
    assert!(first.is_multiple_of(GOP) && (4.7..=7.3).contains(&before), "{before} s before the order");
    live.stop();
}
