//! SIGKILL at any moment between a fact's arrival and its answer: reliability test 19.
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use recorder_db::scratch::{Scratch, kinds};
use recorder_db::{events, facts_seen};
use recorder_proto::pb::node::{Fact, ReportFactsRequest};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::pb::v1::recording_service_client::RecordingServiceClient;

use super::binary::{Process, channel, report};
use super::proxy::{Answers, Proxy};
use super::story::Story;

/// How often the process is killed; 100 times in the long form.
fn kills() -> u64 {
    std::env::var("RECORDER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// Files of each recording.
const FILES: u32 = 6;

/// Facts that a node sends before it waits for an answer.
const BATCH: usize = 30;

/// When the process is killed.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// So long after the report's last byte was sent to it.
    Receipt(Duration),
    /// When it has answered, but the answer has not arrived.
    Reply,
}

impl Process {
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
        reporting.await.unwrap().ok()?.map(|answer| answer.durable_sequence)
    }
}

/// The last fact of the node that the database holds. As a writer, because a Postgres may still be busy with the COMMIT
/// of a process that is dead.
pub async fn held(scratch: &Scratch) -> u64 {
    let mark = scratch.db.write(|db| facts_seen::get(db, "m1")).await.unwrap();
    mark.map_or(0, |mark| mark.sequence.try_into().unwrap())
}

/// A node that is never sure whether its facts have arrived, and what it has seen.
pub struct Ordeal {
    seed: u64,
    pub random: StdRng,
    pub story: Story,
    /// Names of the recordings told of.
    recordings: Vec<String>,
    /// Not confirmed.
    pub waiting: Vec<Fact>,
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
    pub fn new(seed: u64) -> Self {
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
    pub fn chapter(&mut self) -> Vec<Fact> {
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
    pub async fn catch_up(&mut self, process: &Process, scratch: &Scratch) {
        let before = held(scratch).await;
        self.counts.resent += self.waiting.iter().filter(|fact| fact.sequence <= before).count();
        let request = ReportFactsRequest { node_epoch: process.register().await, facts: self.waiting.clone() };
        let answer = report(process.address("link"), request).await.unwrap().expect("nobody kills it");
        let durable = answer.durable_sequence;
        assert_eq!(Some(durable), self.waiting.last().map(|fact| fact.sequence), "seed {}", self.seed);
        self.confirm(durable);
    }

    pub fn confirm(&mut self, durable: u64) {
        let confirmed = self.waiting.iter().take_while(|fact| fact.sequence <= durable).count();
        self.told.extend(self.waiting.drain(..confirmed));
    }

    /// Each fact was applied once.
    pub async fn settle(&self, process: &Process, scratch: &Scratch) {
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
