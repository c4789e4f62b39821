//! The database goes away, stands still, and is written by many: reliability tests 24 and 26.
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use recorder_db::scratch::Scratch;
use recorder_db::{Kind, events};
use recorder_proto::Problem;
use recorder_proto::pb::node::ValidateEpochsRequest;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;
use tonic::{Code, Response, Status};

use super::control::{Control, on_each, until};
use super::node::Node;
use super::story::Story;
use super::watching::{Watch, resumed};

/// How long the database is away; in the long form as long as the reliability design says.
fn absence() -> Duration {
    let seconds = std::env::var("RECORDER_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// UNAVAILABLE, with the time to come back.
pub fn away<T: std::fmt::Debug>(outcome: Result<Response<T>, Status>) {
    let problem = Problem::from(&outcome.expect_err("the database is away"));
    assert_eq!((problem.code, problem.reason.as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"), "{problem}");
    assert!(problem.details.retry_after.is_some(), "{problem:?}");
}

#[test]
fn db_chaos() {
    on_each(async |mut control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let before = vec![story.published(), story.started(), story.opened(0)];
        node.report(before).await;
        assert!(control.is_ready().await);
        let sqlite = control.scratch.db.kind() == Kind::Sqlite;
        let lock = if sqlite { Some(Lock::hold(&control.scratch).await) } else { None };
        control.scratch.refuse_connections().unwrap();
        let gone = Instant::now();

        // What writes is refused on both; a locked SQLite can still be read, and is ready to be.
        away(control.templates().create_template(v1::CreateTemplateRequest::default()).await);
        away(node.client.claim_recording(story.another("cam2").claim(node.epoch)).await);
        if !sqlite {
            away(control.recordings().list_recordings(v1::ListRecordingsRequest::default()).await);
            away(node.client.validate_epochs(ValidateEpochsRequest::default()).await);
            until("readiness to tell", async || (!control.is_ready().await).then_some(())).await;
        }
        let facts = vec![story.ended(1), story.available(0)];
        assert_eq!(node.try_report(facts.clone()).await.unwrap_err().code(), Code::Unavailable);
        tokio::time::sleep(absence().saturating_sub(gone.elapsed())).await;

        control.scratch.accept_connections().unwrap();
        drop(lock);
        let healed = Instant::now();
        until("the database to be back", async || {
            control.templates().create_template(v1::CreateTemplateRequest::default()).await.ok()
        })
        .await;
        assert!(healed.elapsed() < Duration::from_secs(2), "{:?}", healed.elapsed());
        until("readiness to tell", async || control.is_ready().await.then_some(())).await;
        // The node goes on where it was; what it could not tell, it tells now.
        node.hang_up();
        let mut node = Node::register(&control, "m1", "boot-1").await;
        node.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Succeeded);
        control.stop().await;
    });
}

/// Another process that writes and does not come to an end.
struct Lock(#[allow(dead_code, reason = "dropping it ends the transaction")] std::sync::mpsc::Sender<()>);

impl Lock {
    async fn hold(scratch: &Scratch) -> Self {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let (held, holding) = tokio::sync::oneshot::channel();
        let db = scratch.db.clone();
        tokio::spawn(async move {
            db.write(move |_| {
                let _ = held.send(());
                let _ = wait.recv();
                Ok::<_, recorder_db::Error>(())
            })
            .await
        });
        holding.await.unwrap();
        Self(release)
    }
}

const WRITERS: u64 = 16;
const EVENTS: u64 = 12;
const WATCHERS: u64 = 4;

/// Another replica's transaction: an event of a recording, and some time until the commit.
async fn write(scratch: Arc<Control>, story: Story, seed: u64) {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for number in 0..EVENTS {
        let wait = Duration::from_micros(random.random_range(0..3_000));
        let before = Duration::from_micros(random.random_range(0..3_000));
        let name = story.name();
        tokio::time::sleep(before).await;
        let written = scratch.scratch.db.write(move |db| {
            let recording = v1::Recording {
                name: name.clone(),
                // Stands in for whatever has changed.
                epoch: number,
                stream: Some(v1::StreamRef { stream: "cam1".into(), ..Default::default() }),
                ..Default::default()
            };
            let id = recorder_proto::ids::EventId::new(super::story::at(0), rand::random()).to_string();
            events::append(db, &id, "recording.updated", &name, 1, prost::Message::encode_to_vec(&recording))?;
            std::thread::sleep(wait);
            Ok::<_, recorder_db::Error>(())
        });
        written.await.unwrap();
    }
}

/// Everything that a watcher is told, as writer and number; it reconnects at random.
async fn watch(control: Arc<Control>, mut token: String, seed: u64) -> Vec<(String, u64)> {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let all = (WRITERS * EVENTS) as usize;
    let mut told = Vec::new();
    while told.len() < all {
        let mut watch = Watch::open(&control, resumed(&token)).await;
        let stay = random.random_range(1..30_usize).min(all - told.len());
        for _ in 0..stay {
            let recording = watch.next().await.recording.unwrap();
            told.push((recording.name, recording.epoch));
        }
        token = watch.token;
    }
    told
}

/// Ours takes the number of an event behind a lock that is held until the commit, so that numbers are in commit order;
/// with the database's own sequence a watcher skips what commits late (`a_naive_sequence_skips_what_commits_late`).
#[test]
fn watch_no_skip_postgres() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    on_each(async |control| {
        let mut first = Watch::open(&control, v1::WatchRecordingsRequest::default()).await;
        first.any().await;
        let token = first.token.clone();
        let control = Arc::new(control);
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|number| tokio::spawn(watch(Arc::clone(&control), token.clone(), seed.wrapping_add(1_000 + number))))
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let story = Story::new("push.example.com", "cam1");
                tokio::spawn(write(Arc::clone(&control), story, seed.wrapping_add(number)))
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let mut all = Vec::new();
        for watcher in watchers {
            all.push(watcher.await.unwrap());
        }
        let told = &all[0];
        assert!(all.iter().all(|other| other == told), "one order for everybody; seed {seed}");
        let once: std::collections::BTreeSet<_> = told.iter().collect();
        assert_eq!(once.len() as u64, WRITERS * EVENTS, "each event once; seed {seed}");
        for (name, number) in told {
            let before = told.iter().position(|event| event == &(name.clone(), *number)).unwrap();
            let next = told.iter().position(|event| event == &(name.clone(), number + 1));
            assert!(next.is_none_or(|next| next > before), "each writer's own order; seed {seed}");
        }
        let rows = control.scratch.db.read(|db| events::after(db, 0, i64::from(u16::MAX))).await.unwrap();
        let sequences: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        assert_eq!(sequences, (1..=rows.len() as i64).collect::<Vec<_>>(), "without a gap; seed {seed}");
    });
}
