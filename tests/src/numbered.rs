//! A publisher that numbers its frames, remembers when it sent each, and may leave, be cut off and come back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::TrackKind;
use rtmp::amf0::Value;
use rtmp::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::footage::{Footage, index};
use crate::marker::Mark;
use crate::wait;

/// Encoders give a connection up when it takes nothing for this long.
const STALL: Duration = Duration::from_secs(5);
/// How long an answer to `publish` may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Message type of Window Acknowledgement Size (RTMP 1.0 section 5.4.4).
const WINDOW_ACK_SIZE: u8 = 5;
/// The bit of `capsEx` that says: can reconnect.
const RECONNECT: f64 = 1.0;
/// The code of the request to do so.
const REQUEST: &[u8] = b"NetConnection.Connect.ReconnectRequest";

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
    /// How many bytes it lets the node take before it wants to hear of them; `None` leaves that to the node.
    pub ack_window: Option<u32>,
    domain: String,
    sessions: Arc<Mutex<Vec<Session>>>,
    running: Option<Running>,
    /// Connections that publish although a newer one does.
    doubled: Vec<Running>,
    asked_to_reconnect: Arc<AtomicBool>,
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
            ack_window: None,
            domain: domain.to_owned(),
            sessions: Arc::default(),
            running: None,
            doubled: Vec::new(),
            asked_to_reconnect: Arc::default(),
        }
    }

    /// The same, so many times faster than real time.
    pub fn at_pace(mut self, pace: f64) -> Self {
        self.pace = pace;
        self
    }

    /// The same, with an acknowledgement wanted for every so many bytes.
    pub fn acknowledged_every(mut self, bytes: u32) -> Self {
        self.ack_window = Some(bytes);
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

    /// Bytes of frames sent so far over all connections.
    pub fn bytes(&self) -> u64 {
        self.sessions().iter().map(|session| session.bytes).sum()
    }

    /// Waits until so many more pictures were sent.
    pub async fn sent_more(&self, pictures: usize) {
        let before = self.frames(TrackKind::Video);
        wait::until("frames to be sent", async || (self.frames(TrackKind::Video) >= before + pictures).then_some(()))
            .await;
    }

    /// Publishes to `address` (node number `node`) from the start of the footage until told otherwise.
    ///
    /// # Errors
    /// The node cannot be reached or refuses, in its words.
    pub async fn connect(&mut self, node: usize, address: &str) -> Result<(), String> {
        assert!(!self.is_publishing(), "{} publishes already", self.name);
        let socket = open(address, &self.domain, &self.name).await?;
        self.asked_to_reconnect.store(false, Ordering::Relaxed);
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
            ack_window: self.ack_window,
            asked_to_reconnect: Arc::clone(&self.asked_to_reconnect),
        };
        self.running = Some(Running { order, task: tokio::spawn(work.run(socket, orders)) });
        Ok(())
    }

    /// Publishes over one more connection while the present one goes on, until the node ends that.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_again(&mut self, node: usize, address: &str) -> Result<(), String> {
        self.doubled.extend(self.running.take());
        self.connect(node, address).await
    }

    /// Whether the node has asked the present connection to be made anew (Enhanced RTMP).
    pub fn is_asked_to_reconnect(&self) -> bool {
        self.asked_to_reconnect.load(Ordering::Relaxed)
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
///
/// # Errors
/// The node cannot be reached or refuses, in its words.
pub async fn open(address: &str, domain: &str, stream: &str) -> Result<TcpStream, String> {
    let attempt = async {
        let mut socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let (client, url) = (Client::new(), format!("rtmp://{domain}/live"));
        let capabilities = [("capsEx".to_owned(), Value::Number(RECONNECT))];
        let connect = client.connect_with("live", &url, &capabilities);
        let start = [client.handshake(), connect, client.create_stream(stream), client.publish(stream)].concat();
        socket.write_all(&start).await.map_err(|error| error.to_string())?;
        let mut heard = Vec::new();
        while !is_granted(&heard) {
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

/// Whether `publish` was answered with yes. The answer to `FCPublish` uses the same words, but decides nothing.
fn is_granted(heard: &[u8]) -> bool {
    let after = |heard: &[u8], word: &[u8]| heard.windows(word.len()).position(|window| window == word);
    after(heard, b"onStatus").is_some_and(|at| after(&heard[at..], b"NetStream.Publish.Start").is_some())
}

struct Work {
    name: String,
    number: usize,
    stream: u32,
    footage: Arc<Footage>,
    sessions: Arc<Mutex<Vec<Session>>>,
    pace: f64,
    base: u64,
    ack_window: Option<u32>,
    asked_to_reconnect: Arc<AtomicBool>,
}

impl Work {
    async fn run(self, socket: TcpStream, orders: watch::Receiver<Order>) {
        let (reader, mut writer) = socket.into_split();
        let mut gone = tokio::spawn(listen(reader, Arc::clone(&self.asked_to_reconnect)));
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
        let window = self.ack_window.map(|bytes| client.control(WINDOW_ACK_SIZE, &bytes.to_be_bytes()));
        let mut bytes = window.unwrap_or_default();
        bytes.extend(client.set_chunk_size(4096));
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

/// Reads, and notes what has to be heeded; ends with the connection.
async fn listen(mut reader: OwnedReadHalf, asked_to_reconnect: Arc<AtomicBool>) {
    let (mut bytes, mut heard) = ([0; 4096], Vec::new());
    while let Ok(read @ 1..) = reader.read(&mut bytes).await {
        heard.extend_from_slice(&bytes[..read]);
        if heard.windows(REQUEST.len()).any(|window| window == REQUEST) {
            asked_to_reconnect.store(true, Ordering::Relaxed);
            heard.clear();
        }
        // What may be the beginning of the request is kept.
        heard.drain(..heard.len().saturating_sub(REQUEST.len()));
    }
}
