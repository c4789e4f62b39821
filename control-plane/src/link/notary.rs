//! Writes down what many nodes say at once in one transaction: every commit waits for the disk, and two hundred nodes
//! acknowledge a change within the same moment.
use std::sync::{Arc, Mutex, PoisonError};

use recorder_db::{AnyConnection, Db};
use recorder_proto::Problem;
use tokio::sync::oneshot;
use tonic::Code;

use super::Result;

/// Entries in one transaction: others wait for the writer, too.
const AT_ONCE: usize = 128;

/// Does its part of the transaction, and gives what answers the caller once that is committed, or why it is not.
type Work = Box<dyn FnOnce(&mut AnyConnection) -> Done + Send>;

/// Whether the others' parts can be committed beside it, and the answer.
type Done = (Result<()>, Answer);
type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// Queues what is to be written; clones share the queue.
#[derive(Clone)]
pub(super) struct Notary {
    db: Db,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    /// One per stream at most: each waits for its answer.
    waiting: Vec<Work>,
    writing: bool,
}

impl Notary {
    pub(super) fn new(db: Db) -> Self {
        Self { db, queue: Arc::default() }
    }

    /// Runs `body` in a transaction that it may share with others. It must refuse (as fenced or not found) before it
    /// writes anything; whatever else fails undoes the whole transaction.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |db| {
            let outcome = body(db);
            let state = match &outcome {
                Err(problem) if !is_refusal(problem) => Err(problem.clone()),
                _ => Ok(()),
            };
            // Whoever asked may be gone.
            let tell = move |committed: Result<()>| drop(answer.send(committed.and(outcome)));
            (state, Box::new(tell) as Answer)
        });
        let begin = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.waiting.push(work);
            !std::mem::replace(&mut queue.writing, true)
        };
        if begin {
            // A task of its own: the caller may give up while others wait for the same transaction.
            tokio::spawn(self.clone().drain());
        }
        let given_up = || recorder_db::Error::Unavailable("the transaction was given up".to_owned());
        answered.await.unwrap_or_else(|_| Err(given_up().into()))
    }

    async fn drain(self) {
        while let Some(batch) = self.next() {
            let (told, mut tell) = oneshot::channel();
            let written = self.db.write(move |db| {
                let (mut answers, mut outcome) = (Vec::with_capacity(batch.len()), Ok(()));
                for work in batch {
                    // After a failure the others are not even tried.
                    let (state, answer) = work(db);
                    answers.push(answer);
                    outcome = outcome.and(state);
                    if outcome.is_err() {
                        break;
                    }
                }
                // Those that were not tried are answered by their dropped channel.
                let _ = told.send(answers);
                outcome
            });
            let written = written.await;
            for answer in tell.try_recv().unwrap_or_default() {
                answer(written.clone());
            }
        }
    }

    fn next(&self) -> Option<Vec<Work>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.is_empty() {
            queue.writing = false;
            return None;
        }
        let count = queue.waiting.len().min(AT_ONCE);
        Some(queue.waiting.drain(..count).collect())
    }
}

/// Nothing was written before it.
fn is_refusal(problem: &Problem) -> bool {
    matches!(problem.code, Code::FailedPrecondition | Code::NotFound)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use recorder_db::scratch::{Scratch, kinds};
    use recorder_db::settings;

    use super::*;

    const MANY: usize = 40;

    fn on_each(test: impl AsyncFn(&Db)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        for kind in kinds() {
            let scratch = Scratch::new(kind).unwrap();
            runtime.block_on(test(&scratch.db));
        }
    }

    /// Keeps the writer until the sender is dropped, so that whatever is written meanwhile queues.
    fn hold(db: &Db) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let (release, held) = mpsc::channel::<()>();
        let db = db.clone();
        let holding = tokio::spawn(async move {
            let held = db.write(move |_| Ok::<_, Problem>(held.recv().is_err()));
            assert!(held.await.unwrap());
        });
        (release, holding)
    }

    fn put(number: usize) -> impl FnOnce(&mut AnyConnection) -> Result<usize> + Send + 'static {
        move |db| {
            settings::put(db, &format!("key-{number}"), b"written")?;
            Ok(number)
        }
    }

    async fn written(db: &Db) -> usize {
        let read = db.read(|db| {
            let keys = (0..MANY).map(|number| settings::get(db, &format!("key-{number}")));
            keys.map(|found| Ok(usize::from(found?.is_some()))).sum::<recorder_db::Result<usize>>()
        });
        read.await.unwrap()
    }

    /// All at once, while the writer is busy; what each was answered.
    async fn all(db: &Db, work: impl Fn(usize) -> Step) -> Vec<Result<usize>> {
        let notary = Notary::new(db.clone());
        let (release, holding) = hold(db);
        let (mut asking, asked) = (tokio::task::JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for number in 0..MANY {
            let (notary, work, asked) = (notary.clone(), work(number), Arc::clone(&asked));
            asking.spawn(async move {
                asked.fetch_add(1, Ordering::Relaxed);
                (number, notary.write(work).await)
            });
        }
        while asked.load(Ordering::Relaxed) < MANY {
            tokio::task::yield_now().await;
        }
        drop(release);
        holding.await.unwrap();
        let mut answers = asking.join_all().await;
        answers.sort_by_key(|(number, _)| *number);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    type Step = Box<dyn FnOnce(&mut AnyConnection) -> Result<usize> + Send>;

    #[test]
    fn what_comes_together_is_written_together_and_each_gets_its_own_answer() {
        on_each(async |db| {
            let before = *db.changed().borrow();
            let answers = all(db, |number| Box::new(put(number))).await;
            let answers: Vec<usize> = answers.into_iter().map(Result::unwrap).collect();
            assert_eq!(answers, (0..MANY).collect::<Vec<_>>());
            assert_eq!(written(db).await, MANY);
            let commits = *db.changed().borrow() - before;
            assert!(commits < MANY as u64, "{commits} commits");
        });
    }

    #[test]
    fn a_refusal_is_one_callers_and_a_failure_is_everybodys() {
        on_each(async |db| {
            let refusing = |number| -> Step {
                match number {
                    7 => Box::new(|_| Err(Problem::not_found("node", "nodes/m7"))),
                    number => Box::new(put(number)),
                }
            };
            let answers = all(db, refusing).await;
            assert_eq!(answers[7].as_ref().unwrap_err().code, Code::NotFound);
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), MANY - 1);
            assert_eq!(written(db).await, MANY - 1);
        });
        on_each(async |db| {
            let failing = |number| -> Step {
                match number {
                    7 => Box::new(|_| Err(Problem::internal("broken"))),
                    number => Box::new(put(number)),
                }
            };
            let answers = all(db, failing).await;
            let told = answers.iter().filter(|answer| answer.is_ok()).count();
            assert_eq!(written(db).await, told, "whoever is told so has been written down, and nobody else");
            assert!(told < MANY && answers[7].is_err());
        });
    }
}
