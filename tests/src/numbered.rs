//! A publisher that numbers its frames, remembers when it sent each, and may leave, be cut off and come back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::TrackKind;
use rtmp::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::footage::{Footage, index};
use crate::marker::Mark;

/// Encoders give a connection up when it takes nothing for this long.
const STALL: Duration = Duration::from_secs(5);
/// How long an answer to `publish` may take.
const ANSWER: Duration = Duration::from_secs(10);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a goodbye.
    Left,
    /// The publisher closed it without a word, after its last frame was delivered.
    Cut,
    /// The node closed it or died.
    Broken,
    /// The node took nothing any more.
    Stalled,
}

/// What was sent over one connection, and when.
#[derive(Clone, Debug)]
pub struct Session {
    /// Which node, as the test numbers them.
    pub node: usize,
    /// When publishing was granted.
    pub started: Instant,
    /// When and how it ended.
    pub ended: Option<(Instant, End)>,
    /// By track, by counter: milliseconds after `started` at which the frame was handed to the system.
    pub sent: [Vec<u32>; 2],
    /// Longest time that one frame took to be handed over.
    pub longest_write: Duration,
    /// Bytes of frames handed over.
    pub bytes: u64,
}

impl Session {
    /// When a frame was sent.
    pub fn sent_at(&self, track: TrackKind, counter: u32) -> Option<Instant> {
        let millis = self.sent[index(track)].get(counter as usize)?;
        Some(self.started + Duration::from_millis(u64::from(*millis)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Go,
    Leave,
    Cut,
    Abandon,
}

struct Running {
    order: watch::Sender<Order>,
    task: JoinHandle<()>,
}

/// One stream's publisher.
pub struct Publisher {
    /// Stream name.
    pub name: String,
    /// Number in the marks.
    pub number: u32,
    /// What it sends.
    pub footage: Arc<Footage>,
    /// 1 is real time.
    pub pace: f64,
    /// Whether timestamps go on after a return (as OBS does) or start at 0 again (as ffmpeg does).
    pub timestamps_go_on: bool,
    domain: String,
    sessions: Arc<Mutex<Vec<Session>>>,
    running: Option<Running>,
}

impl Publisher {
    /// Publishes nothing yet.
    pub fn new(domain: &str, name: &str, number: u32, footage: &Arc<Footage>) -> Self {
        Self {
            name: name.to_owned(),
            number,
            footage: Arc::clone(footage),
            pace: 1.0,
            timestamps_go_on: false,
            domain: domain.to_owned(),
            sessions: Arc::default(),
            running: None,
        }
    }

    /// The same, so many times faster than real time.
    pub fn at_pace(mut self, pace: f64) -> Self {
        self.pace = pace;
        self
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was sent so far.
    pub fn sent(&self) -> Vec<Session> {
        self.sessions().clone()
    }

    /// Frames of a track sent so far over all connections.
    pub fn frames(&self, track: TrackKind) -> usize {
        self.sessions().iter().map(|session| session.sent[index(track)].len()).sum()
    }

    /// Publishes to `address` (node number `node`) from the start of the footage until told otherwise.
    ///
    /// # Errors
    /// The node cannot be reached or refuses, in its words.
    pub async fn connect(&mut self, node: usize, address: &str) -> Result<(), String> {
        assert!(!self.is_publishing(), "{} publishes already", self.name);
        let socket = open(address, &self.domain, &self.name).await?;
        let base = if self.timestamps_go_on { self.time_so_far() } else { 0 };
        let number = {
            let mut sessions = self.sessions();
            let (started, sent) = (Instant::now(), [Vec::new(), Vec::new()]);
            sessions.push(Session { node, started, ended: None, sent, longest_write: Duration::ZERO, bytes: 0 });
            sessions.len() - 1
        };
        let (order, orders) = watch::channel(Order::Go);
        let work = Work {
            name: self.name.clone(),
            number,
            stream: self.number,
            footage: Arc::clone(&self.footage),
            sessions: Arc::clone(&self.sessions),
            pace: self.pace,
            base,
        };
        self.running = Some(Running { order, task: tokio::spawn(work.run(socket, orders)) });
        Ok(())
    }

    /// Time in milliseconds at which timestamps go on.
    fn time_so_far(&self) -> u64 {
        let of = |session: &Session| {
            let next = |track| self.footage.time_of(track, session.sent[index(track)].len() as u32);
            let there = [TrackKind::Video, TrackKind::Audio].into_iter().filter(|track| self.footage.has(*track));
            there.map(next).max().unwrap_or(0)
        };
        self.sessions().iter().map(of).sum::<u64>()
    }

    /// True while a connection publishes.
    pub fn is_publishing(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.task.is_finished())
    }

    /// Unpublishes and closes, after the frame at hand.
    pub async fn leave(&mut self) {
        self.end(Order::Leave).await;
    }

    /// Closes without a goodbye, after the frame at hand.
    pub async fn cut(&mut self) {
        self.end(Order::Cut).await;
    }

    /// Closes without a goodbye and does not wait for the node to take what was sent.
    pub async fn abandon(&mut self) {
        self.end(Order::Abandon).await;
    }

    async fn end(&mut self, order: Order) {
        if let Some(running) = self.running.take() {
            let _ = running.order.send(order);
            running.task.await.expect("publisher");
        }
    }

    /// Waits until the connection is over by itself.
    pub async fn broken(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.await.expect("publisher");
        }
    }
}

/// Opens a connection that may publish.
async fn open(address: &str, domain: &str, stream: &str) -> Result<TcpStream, String> {
    let attempt = async {
        let mut socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let start = Client::new().start("live", &format!("rtmp://{domain}/live"), stream);
        socket.write_all(&start).await.map_err(|error| error.to_string())?;
        let mut heard = Vec::new();
        while !heard.windows(23).any(|window| window == b"NetStream.Publish.Start") {
            let mut bytes = [0; 4096];
            let read = socket.read(&mut bytes).await.map_err(|error| error.to_string())?;
            if read == 0 {
                let text: String =
                    String::from_utf8_lossy(&heard).chars().filter(|letter| !letter.is_control()).collect();
                return Err(format!("refused: {text}"));
            }
            heard.extend_from_slice(&bytes[..read]);
        }
        Ok(socket)
    };
    timeout(ANSWER, attempt).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}

struct Work {
    name: String,
    number: usize,
    stream: u32,
    footage: Arc<Footage>,
    sessions: Arc<Mutex<Vec<Session>>>,
    pace: f64,
    base: u64,
}

impl Work {
    async fn run(self, socket: TcpStream, orders: watch::Receiver<Order>) {
        let (reader, mut writer) = socket.into_split();
        let mut gone = tokio::spawn(listen(reader));
        let end = self.publish(&mut writer, &mut gone, orders).await;
        self.note(|session| session.ended = Some((Instant::now(), end)));
        if matches!(end, End::Left | End::Cut) {
            // Reading on until the node has closed too: a close with unread answers would reset the connection.
            let _ = writer.shutdown().await;
            let _ = timeout(STALL, &mut gone).await;
        }
        gone.abort();
    }

    fn note(&self, change: impl FnOnce(&mut Session)) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut sessions[self.number]);
    }

    async fn publish(
        &self,
        writer: &mut OwnedWriteHalf,
        gone: &mut JoinHandle<()>,
        mut orders: watch::Receiver<Order>,
    ) -> End {
        let mut client = Client::new();
        let mut bytes = client.set_chunk_size(4096);
        let (video, audio) = self.footage.headers();
        let time = self.base as u32;
        video.iter().for_each(|body| bytes.extend(client.video(time, body)));
        audio.iter().for_each(|body| bytes.extend(client.audio(time, body)));
        if let Err(end) = hand_over(writer, gone, &bytes).await {
            return end;
        }
        let start = Instant::now();
        let mut counters = [0u32; 2];
        for number in 0.. {
            let (shot, time) = self.footage.shot(number);
            let due = start + Duration::from_secs_f64(time as f64 / 1_000.0 / self.pace);
            tokio::select! {
                biased;
                _ = &mut *gone => return End::Broken,
                _ = orders.wait_for(|order| *order != Order::Go) => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
            let order = *orders.borrow();
            match order {
                Order::Go => {}
                Order::Cut => return End::Cut,
                Order::Abandon => return End::Stalled,
                Order::Leave => {
                    let goodbye = hand_over(writer, gone, &client.unpublish(&self.name)).await;
                    return goodbye.err().unwrap_or(End::Left);
                }
            }
            let counter = &mut counters[index(shot.track)];
            let session = self.number as u16;
            let body = shot.body(Mark { stream: self.stream, session, counter: *counter });
            *counter += 1;
            let time = (self.base + time) as u32;
            let message =
                if shot.track == TrackKind::Video { client.video(time, &body) } else { client.audio(time, &body) };
            let before = Instant::now();
            if let Err(end) = hand_over(writer, gone, &message).await {
                return end;
            }
            self.note(|session| {
                let now = Instant::now();
                session.sent[index(shot.track)].push((now - session.started).as_millis() as u32);
                session.longest_write = session.longest_write.max(now - before);
                session.bytes += body.len() as u64;
            });
        }
        End::Left
    }
}

async fn hand_over(writer: &mut OwnedWriteHalf, gone: &mut JoinHandle<()>, bytes: &[u8]) -> Result<(), End> {
    tokio::select! {
        biased;
        _ = gone => Err(End::Broken),
        written = timeout(STALL, writer.write_all(bytes)) => match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Broken),
            Err(_) => Err(End::Stalled),
        }
    }
}

/// Reads and forgets; ends with the connection.
async fn listen(mut reader: OwnedReadHalf) {
    let mut bytes = [0; 4096];
    while let Ok(1..) = reader.read(&mut bytes).await {}
}
