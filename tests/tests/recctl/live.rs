//! watch and verify, on recordings of a real publisher.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Live, Source, push_file};
use recorder_tests::scene::{Clients, library_path};
use recorder_tests::wait;
use serde_json::Value;

use super::{Recctl, cells};

const DOMAIN: &str = "push.example.com";

/// A call in the background, and the lines it has printed so far.
struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    fn start(recctl: &Recctl, line: &[&str]) -> Self {
        let mut child = recctl.command(line).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&lines);
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| told.lock().unwrap().push(line))
        });
        Self { child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    async fn until(&self, what: &str, is: impl Fn(&[String]) -> bool) -> Vec<String> {
        let shown = || self.lines().join("\n");
        wait::until_or(&what, shown, async || Some(self.lines()).filter(|lines| is(lines))).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn prepared(cluster: &Cluster) -> Clients {
    let mut clients = Clients::of(cluster).await;
    let template = v1::Template { mp4: Some(v1::template::Mp4::default()), ..Default::default() };
    clients.template("show", template).await;
    clients.bind("show", DOMAIN).await;
    clients
}

/// The rows of recordings that are being recorded: their clock, which has to run.
fn clocks(lines: &[String]) -> Vec<String> {
    let rows = lines.iter().map(|line| cells(line)).filter(|row| row.get(2).is_some_and(|state| state == "RECORDING"));
    let mut clocks: Vec<String> = rows.map(|row| row[3].clone()).collect();
    clocks.dedup();
    clocks
}

/// What rows of recordings that are being recorded say of bytes that were recorded.
fn recorded(lines: &[String]) -> Vec<String> {
    let rows = lines.iter().map(|line| cells(line)).filter(|row| row.get(2).is_some_and(|state| state == "RECORDING"));
    let mut recorded: Vec<String> = rows.map(|row| row[4].clone()).filter(|bytes| bytes != "0 B").collect();
    recorded.dedup();
    recorded
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_progress_through_a_restart_to_the_end() {
    let mut cluster = Cluster::start().await;
    drop(prepared(&cluster).await);
    let recctl = Recctl::of(&cluster);
    let board = Running::start(&recctl, &["watch"]);
    let events = Running::start(&recctl, &["watch", "events", "types=recording.*,file.*", "-o", "json"]);
    board.until("the heads", |lines| lines.len() == 1).await;
    let mut live = Live::file(
        &Source { seconds: 4, ..Default::default() }.generate(cluster.folder()),
        &cluster.rtmp_url(DOMAIN, "cam1"),
    );
    board.until("a clock that runs", |lines| clocks(lines).len() >= 2).await;
    let grown = board.until("bytes that grow", |lines| recorded(lines).len() >= 2).await;
    println!("{:?} recorded while it ran", recorded(&grown));
    // The control plane goes and comes back: the watch does so by itself.
    cluster.control.as_mut().unwrap().kill();
    let before = board.lines().len();
    cluster.start_control().await;
    board.until("the clock to go on", |lines| clocks(&lines[before..]).len() >= 2).await;
    let mut clients = Clients::of(&cluster).await;
    let recording = clients.recordings_of(DOMAIN, "cam1").await.remove(0);
    let mut one = Running::start(&recctl, &["watch", &recording.name]);
    one.until("the one recording", |lines| !clocks(lines).is_empty()).await;
    live.stop();
    let id = recording.name.trim_start_matches("recordings/");
    let lines = board
        .until("its end", |lines| lines.iter().any(|line| line.starts_with(id) && line.contains("  SUCCEEDED  ")))
        .await;
    let end = lines.iter().rev().map(|line| cells(line)).find(|row| row[0] == id).unwrap();
    assert_eq!(end[1..3], [format!("{DOMAIN}/live/cam1"), "SUCCEEDED".to_owned()]);
    assert!(end[4].ends_with("iB") && end[4] == end[5], "all of it is uploaded: {end:?}");
    let arrived = format!("{id} mp4-0  AVAILABLE  ");
    assert!(lines.iter().any(|line| line.starts_with(&arrived)), "{lines:#?}");

    let status = wait::until("watch to end with its recording", async || one.child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
    let lines = one.until("its files", |lines| lines.iter().any(|line| line.starts_with("recordings/"))).await;
    let file = cells(lines.last().unwrap());
    assert_eq!(file[..2], [format!("{}/files/mp4-0", recording.name), "AVAILABLE".to_owned()], "{lines:#?}");

    let told =
        events.until("the last event", |lines| lines.iter().any(|line| line.contains("\"file.available\""))).await;
    let events: Vec<Value> = told.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sequences: Vec<u64> =
        events.iter().filter_map(|event| event["event"]["sequence"].as_str()?.parse().ok()).collect();
    assert!(sequences.is_sorted_by(|before, after| before < after), "each once, in order: {sequences:?}");
    let kinds: Vec<_> = events.iter().filter_map(|event| event["event"]["type"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "recording.started").count(), 1, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_tells_an_altered_object() {
    let cluster = Cluster::start().await;
    let mut clients = prepared(&cluster).await;
    let recctl = Recctl::of(&cluster);
    push_file(
        &Source { seconds: 3, ..Default::default() }.generate(cluster.folder()),
        &cluster.rtmp_url(DOMAIN, "cam1"),
    );
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    wait::until("the manifest", async || clients.recordings_of(DOMAIN, "cam1").await.remove(0).manifest).await;
    let file = clients.files(&recording).await["MP4"][0].clone();
    let intact = recctl.ok(&["verify", &recording.name]);
    let last = intact.lines().last().unwrap();
    assert!(last.starts_with("INTACT: 2 of 2 objects, 0 damaged, "), "{intact}");
    assert!(intact.contains("OK ") && intact.contains(&file.uri), "{intact}");

    let path = library_path(&cluster, &file);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let damaged = recctl.run(&["verify", &recording.name]);
    assert_eq!(damaged.code, 1, "{damaged:?}");
    let line = damaged.out.lines().find(|line| line.starts_with("CHECKSUM_MISMATCH")).unwrap();
    assert!(line.contains(&file.uri) && line.contains(&format!("instead of {}", file.crc32c)), "{line}");
    assert!(damaged.out.lines().last().unwrap().starts_with("DAMAGED: 2 of 2 objects, 1 damaged"), "{damaged:?}");
    let told = recctl.run(&["verify", &recording.name, "-o", "json"]);
    let messages: Vec<Value> = told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bad: Vec<_> = messages.iter().filter(|message| message["object"]["outcome"] == "CHECKSUM_MISMATCH").collect();
    assert!(bad.len() == 1 && bad[0]["object"]["expectedCrc32c"] == file.crc32c.as_str(), "{messages:#?}");
    assert_eq!((told.code, &messages.last().unwrap()["verdict"]), (1, &Value::from("DAMAGED")));

    std::fs::remove_file(&path).unwrap();
    let gone = recctl.run(&["verify", &recording.name, "--head"]);
    assert!(gone.code == 1 && gone.out.lines().any(|line| line.starts_with("MISSING")), "{gone:?}");
    assert_eq!(recctl.run(&["verify", "recordings/01JD0000000000000000000000"]).code, 66);
}
