//! SIGKILL at any moment between a fact's arrival and its answer: reliability test 19.
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use recorder_db::events;
use recorder_db::scratch::{Scratch, kinds};
use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::node::{Fact, RegisterRequest, ReportFactsRequest};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::pb::v1::recording_service_client::RecordingServiceClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::control::{PATIENCE, until};
use super::story::Story;

/// How often the process is killed; 100 times in the long form.
fn kills() -> u64 {
    std::env::var("RECORDER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// Facts of one report.
const FILES: u32 = 6;

/// The real binary, on a database that outlives it.
struct Process {
    child: Child,
    addresses: serde_json::Value,
}

impl Process {
    async fn start(folder: &Path, database: &str) -> Self {
        let ready = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let mut command = Command::new(env!("CARGO_BIN_EXE_recorder-control"));
        let any = "127.0.0.1:0";
        command.env_clear().current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(["--api-listen", any, "--link-listen", any, "--admin-listen", any, "--ready-file", "ready.json"]);
        command.args(["--database-url", database, "--seal-key", &"5e".repeat(32)]);
        let child = command.spawn().unwrap();
        let addresses =
            until("the process to be ready", async || serde_json::from_slice(&std::fs::read(&ready).ok()?).ok());
        Self { addresses: addresses.await, child }
    }

    async fn channel(&self, listener: &str) -> Channel {
        let address = self.addresses[listener].as_str().unwrap();
        Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Facts that a node sends before it waits for an answer.
const BATCH: usize = 30;

/// Reports as a node does: what was not confirmed, in order. The sequence that is durable, if it is told.
async fn report(process: &Process, facts: &[Fact]) -> Option<u64> {
    let mut client = NodeLinkServiceClient::new(process.channel("link").await);
    let register = RegisterRequest { node: "m1".into(), boot_id: "boot-1".into(), ..Default::default() };
    let node_epoch = client.register(register).await.ok()?.into_inner().node_epoch;
    let (send, outbox) = tokio::sync::mpsc::channel(1);
    send.send(ReportFactsRequest { node_epoch, facts: facts.iter().take(BATCH).cloned().collect() }).await.ok()?;
    let mut answers = client.report_facts(ReceiverStream::new(outbox)).await.ok()?.into_inner();
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("an answer or an end").ok()??;
    assert_eq!(answer.refusals, [], "nothing is refused because it comes again");
    Some(answer.durable_sequence)
}

fn chapter(story: &mut Story) -> Vec<Fact> {
    let mut facts = vec![story.started()];
    facts.extend((0..FILES).map(|index| story.opened(index)));
    facts.push(story.ended(FILES));
    facts.extend((0..FILES).map(|index| story.available(index)));
    facts
}

#[test]
fn control_kill9_in_transaction() {
    let seed: u64 = std::env::var("RECORDER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("RECORDER_SEED={seed} RECORDER_KILLS={}", kills());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for kind in kinds() {
        let scratch = Scratch::new(kind).unwrap();
        runtime.block_on(killed(&scratch, seed));
    }
}

async fn killed(scratch: &Scratch, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut story = Story::new("push.example.com", "cam1");
    let (mut told, mut waiting, mut recordings, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut process = Process::start(folder.path(), &scratch.url).await;
    for number in 0..kills() {
        waiting.extend(chapter(&mut story));
        recordings.push(story.name());
        story = story.another(&format!("cam{number}"));
        // From before the report has arrived to after its answer is there.
        let delay = Duration::from_micros(random.random_range(0..150_000));
        let outcome = {
            let reporting = report(&process, &waiting);
            tokio::pin!(reporting);
            tokio::select! {
                outcome = &mut reporting => outcome,
                () = tokio::time::sleep(delay) => None,
            }
        };
        process.kill();
        match outcome {
            Some(durable) => confirm(&mut waiting, &mut told, durable),
            None => lost += 1,
        }
        process = Process::start(folder.path(), &scratch.url).await;
    }
    while !waiting.is_empty() {
        let durable = report(&process, &waiting).await.expect("nobody kills it any more");
        confirm(&mut waiting, &mut told, durable);
    }
    assert!(lost > 0 || kills() < 50, "{lost} of {} kills hit; seed {seed}", kills());

    let rows = scratch.db.read(|db| events::after(db, 0, i64::from(u16::MAX))).await.unwrap();
    let sequences: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    assert_eq!(sequences, (1..=rows.len() as i64).collect::<Vec<_>>(), "events without a gap; seed {seed}");
    for fact in &told {
        let events = rows.iter().filter(|row| row.id == fact.id).count();
        assert_eq!(events, 1, "{} {} is one event; seed {seed}", fact.sequence, fact.r#type);
    }
    let mut client = RecordingServiceClient::new(process.channel("api").await);
    for name in recordings {
        let shown = client.get_recording(v1::GetRecordingRequest { name: name.clone() }).await.unwrap().into_inner();
        assert_eq!(shown.state(), State::Succeeded, "{name}; seed {seed}");
        let output = &shown.outputs[0];
        let counted = (output.files, output.bytes_uploaded);
        assert_eq!(counted, (FILES, 1_000 * u64::from(FILES)), "each file counts once; {name}, seed {seed}");
    }
    println!("{}: {} kills, {lost} before the answer, {} facts", scratch.db.kind().as_str(), kills(), told.len());
}

fn confirm(waiting: &mut Vec<Fact>, told: &mut Vec<Fact>, durable: u64) {
    let confirmed = waiting.iter().take_while(|fact| fact.sequence <= durable).count();
    told.extend(waiting.drain(..confirmed));
}
