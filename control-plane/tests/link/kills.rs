//! SIGKILL at any moment between a fact's arrival and its answer: reliability test 19.
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use recorder_db::scratch::{Scratch, kinds};
use recorder_db::{events, facts_seen};
use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::node::{Fact, RegisterRequest, ReportFactsRequest};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::pb::v1::recording_service_client::RecordingServiceClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::control::{PATIENCE, until};
use super::proxy::{Answers, Proxy};
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

    fn address(&self, listener: &str) -> SocketAddr {
        self.addresses[listener].as_str().unwrap().parse().unwrap()
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

async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Facts that a node sends before it waits for an answer.
const BATCH: usize = 30;

/// Reports as a node does: what was not confirmed, in order. The sequence that is durable, if it is told.
async fn report(link: SocketAddr, report: ReportFactsRequest) -> Option<u64> {
    let mut client = NodeLinkServiceClient::new(channel(link).await);
    let (send, outbox) = tokio::sync::mpsc::channel(1);
    send.send(report).await.ok()?;
    let mut answers = client.report_facts(ReceiverStream::new(outbox)).await.ok()?.into_inner();
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("an answer or an end").ok()??;
    assert_eq!(answer.refusals, [], "nothing is refused because it comes again");
    Some(answer.durable_sequence)
}

/// When the process is killed.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// So long after the report's last byte was sent to it.
    Receipt(Duration),
    /// When it has answered, but the answer has not arrived.
    Reply,
}

impl Process {
    async fn register(&self) -> u64 {
        let mut client = NodeLinkServiceClient::new(channel(self.address("link")).await);
        let register = RegisterRequest { node: "m1".into(), boot_id: "boot-1".into(), ..Default::default() };
        client.register(register).await.unwrap().into_inner().node_epoch
    }

    /// Kills the process in the middle of this report; the sequence that is durable, if the node was told before.
    async fn strike(&mut self, facts: &[Fact], aim: Aim) -> Option<u64> {
        let request = ReportFactsRequest { node_epoch: self.register().await, facts: facts.to_vec() };
        let answers = if matches!(aim, Aim::Reply) { Answers::Keep } else { Answers::Pass };
        let mut proxy = Proxy::before(self.address("link"), answers).await;
        let reporting = tokio::spawn(report(proxy.address, request));
        match aim {
            Aim::Receipt(delay) => {
                proxy.requested().await;
                // Finer than the timers of the runtime, whose other threads go on.
                std::thread::sleep(delay);
            }
            Aim::Reply => proxy.answered().await,
        }
        self.kill();
        reporting.await.unwrap()
    }
}

/// The last fact of the node that the database holds. As a writer, because a Postgres may still be busy with the COMMIT
/// of a process that is dead.
async fn held(scratch: &Scratch) -> u64 {
    let mark = scratch.db.write(|db| facts_seen::get(db, "m1")).await.unwrap();
    mark.map_or(0, |mark| mark.sequence.try_into().unwrap())
}

/// A node that is never sure whether its facts have arrived, and what it has seen.
struct Ordeal {
    seed: u64,
    random: StdRng,
    story: Story,
    /// Names of the recordings told of.
    recordings: Vec<String>,
    /// Not confirmed.
    waiting: Vec<Fact>,
    /// Confirmed.
    told: Vec<Fact>,
    /// Longest delay of the next kill from the receipt: shorter after one that was late, longer after one that was not, so
    /// that most are close to the commit.
    reach: Duration,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// Killed with nothing of the report in the database.
    before_commit: u64,
    /// Killed with all of it there, and the node did not know; of these, on an answer that was on its way.
    reply_lost: u64,
    reply_kept: u64,
    /// Killed after the node knew.
    confirmed: u64,
    /// Facts reported though the database held them.
    resent: usize,
}

/// Where [`Ordeal::reach`] begins, and where it ends should no kill be late.
const FIRST_REACH: Duration = Duration::from_millis(20);
const LONGEST_REACH: Duration = Duration::from_millis(200);

impl Ordeal {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: StdRng::seed_from_u64(seed),
            story: Story::new("push.example.com", "cam"),
            recordings: Vec::new(),
            waiting: Vec::new(),
            told: Vec::new(),
            reach: FIRST_REACH,
            counts: Counts::default(),
        }
    }

    /// Another recording, from its start to its last file.
    fn chapter(&mut self) -> Vec<Fact> {
        let number = self.recordings.len();
        self.story = self.story.another(&format!("cam{number}"));
        self.recordings.push(self.story.name());
        let mut facts = vec![self.story.started()];
        facts.extend((0..FILES).map(|index| self.story.opened(index)));
        facts.push(self.story.ended(FILES));
        facts.extend((0..FILES).map(|index| self.story.available(index)));
        facts
    }

    /// Of every two kills one is of each kind, in an order of the seed.
    fn aims(&mut self) -> [bool; 2] {
        let first = self.random.random();
        [first, !first]
    }

    /// Reports news, and what was never confirmed, to a process that does not survive it.
    async fn strike(&mut self, process: &mut Process, scratch: &Scratch, reply: bool) {
        let chapter = self.chapter();
        if self.waiting.len() + chapter.len() > BATCH {
            self.catch_up(process, scratch).await;
        }
        self.waiting.extend(chapter);
        let delay = self.reach.mul_f64(self.random.random());
        let aim = if reply { Aim::Reply } else { Aim::Receipt(delay) };
        let before = held(scratch).await;
        self.counts.resent += self.waiting.iter().filter(|fact| fact.sequence <= before).count();
        let told = process.strike(&self.waiting, aim).await;
        let (after, sent) = (held(scratch).await, self.waiting.last().unwrap().sequence);
        assert!(after == before || after == sent, "{after} of {before}..{sent}: a report is in or out; {}", self.seed);
        match (told, after == sent) {
            (Some(durable), committed) => {
                assert!(committed && durable == sent, "{durable} was told, {after} is there; seed {}", self.seed);
                self.counts.confirmed += 1;
                self.confirm(durable);
            }
            (None, true) => self.counts.reply_lost += 1,
            (None, false) => self.counts.before_commit += 1,
        }
        match aim {
            Aim::Reply => {
                assert_eq!((told, after), (None, sent), "an answer comes after its commit; seed {}", self.seed);
                self.counts.reply_kept += 1;
            }
            Aim::Receipt(_) if after == sent => self.reach /= 2,
            Aim::Receipt(_) => self.reach = (self.reach * 3 / 2).min(LONGEST_REACH),
        }
    }

    /// Reports what was never confirmed to a process that lives.
    async fn catch_up(&mut self, process: &Process, scratch: &Scratch) {
        let before = held(scratch).await;
        self.counts.resent += self.waiting.iter().filter(|fact| fact.sequence <= before).count();
        let request = ReportFactsRequest { node_epoch: process.register().await, facts: self.waiting.clone() };
        let durable = report(process.address("link"), request).await.expect("nobody kills it");
        assert_eq!(Some(durable), self.waiting.last().map(|fact| fact.sequence), "seed {}", self.seed);
        self.confirm(durable);
    }

    fn confirm(&mut self, durable: u64) {
        let confirmed = self.waiting.iter().take_while(|fact| fact.sequence <= durable).count();
        self.told.extend(self.waiting.drain(..confirmed));
    }

    /// Each fact was applied once.
    async fn settle(&self, process: &Process, scratch: &Scratch) {
        let seed = self.seed;
        let rows = scratch.db.read(|db| events::after(db, 0, i64::from(u16::MAX))).await.unwrap();
        let sequences: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        assert_eq!(sequences, (1..=rows.len() as i64).collect::<Vec<_>>(), "events without a gap; seed {seed}");
        for fact in &self.told {
            let events = rows.iter().filter(|row| row.id == fact.id).count();
            assert_eq!(events, 1, "{} {} is one event; seed {seed}", fact.sequence, fact.r#type);
        }
        let mut client = RecordingServiceClient::new(channel(process.address("api")).await);
        for name in &self.recordings {
            let shown =
                client.get_recording(v1::GetRecordingRequest { name: name.clone() }).await.unwrap().into_inner();
            assert_eq!(shown.state(), State::Succeeded, "{name}; seed {seed}");
            let output = &shown.outputs[0];
            let counted = (output.files, output.bytes_uploaded);
            assert_eq!(counted, (FILES, 1_000 * u64::from(FILES)), "each file counts once; {name}, seed {seed}");
        }
    }
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
    let mut ordeal = Ordeal::new(seed);
    let mut process = Process::start(folder.path(), &scratch.url).await;
    for _ in 0..kills().div_ceil(2) {
        for reply in ordeal.aims() {
            ordeal.strike(&mut process, scratch, reply).await;
            process = Process::start(folder.path(), &scratch.url).await;
        }
    }
    if !ordeal.waiting.is_empty() {
        ordeal.catch_up(&process, scratch).await;
    }
    let counts = &ordeal.counts;
    println!("{}: {counts:?}, {} facts", scratch.db.kind().as_str(), ordeal.told.len());
    assert!(counts.before_commit > 0, "no kill was before its commit; seed {seed}: {counts:?}");
    assert_eq!(counts.reply_kept, kills().div_ceil(2), "seed {seed}: {counts:?}");
    assert!(counts.resent > 0, "nothing came again; seed {seed}: {counts:?}");
    ordeal.settle(&process, scratch).await;
}
