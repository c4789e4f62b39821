//! A publisher: an RTMP encoder that numbers its frames, comes, goes and returns as its script says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use media::TrackKind;
use recorder_tests::marker::{self, Mark};
use rtmp::client::{Client, payload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::control::DOMAIN;
use crate::dice::Dice;
use crate::log::Log;
use crate::net::{HostId, Network, Socket};
use crate::plan::{BUSY, CLIENTS, NODES, Script, Visit};

/// Pictures a second.
const RATE: u64 = 25;
/// A key frame every so many pictures.
const GOP: u64 = 25;
/// How long an encoder waits for a node.
const PATIENCE: Duration = Duration::from_secs(4);

/// A frame that was handed to the network.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Picture or sound.
    pub track: TrackKind,
    /// Its number within connection and track.
    pub counter: u32,
    /// Bytes of the connection up to its end.
    pub end: u64,
}

impl Sent {
    /// Its media time within the connection, in milliseconds.
    pub fn time(&self) -> u64 {
        match self.track {
            TrackKind::Video => u64::from(self.counter) * 1_000 / RATE,
            TrackKind::Audio => u64::from(self.counter) * 1_024 * 1_000 / 44_100,
        }
    }
}

/// One connection that was allowed to publish.
#[derive(Clone, Debug)]
pub struct Session {
    /// At which node.
    pub node: HostId,
    /// The network's number of what it wrote.
    pub pipe: u64,
    /// What it wrote.
    pub frames: Vec<Sent>,
}

/// What the world tells a publisher: how often it was told to move.
pub type Orders = watch::Receiver<u64>;

/// See the module. Clones are the same.
#[derive(Clone)]
pub struct Publisher {
    /// Number of its stream.
    pub number: u32,
    sessions: Arc<Mutex<Vec<Session>>>,
    node: Arc<Mutex<HostId>>,
}

enum End {
    Meant,
    Broken,
    Moved,
}

impl Publisher {
    /// Starts it on the current runtime.
    pub fn start(number: u32, script: Script, network: Network, mut dice: Dice, log: Log, orders: Orders) -> Self {
        let node = Arc::new(Mutex::new(script.node));
        let publisher = Self { number, sessions: Arc::default(), node };
        let work = Work { publisher: publisher.clone(), network, log, orders };
        tokio::spawn(async move { work.run(&script, &mut dice).await });
        publisher
    }

    /// Its connections so far.
    pub fn sessions(&self) -> Vec<Session> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node that it is at, or was last.
    pub fn node(&self) -> HostId {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Vec<Session>)) {
        change(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

struct Work {
    publisher: Publisher,
    network: Network,
    log: Log,
    orders: Orders,
}

impl Work {
    fn say(&self, what: impl std::fmt::Display) {
        self.log.say(&format!("cam{}", self.publisher.number), what);
    }

    async fn run(mut self, script: &Script, dice: &mut Dice) {
        sleep(Duration::from_millis(script.begins)).await;
        let mut base = 0;
        for visit in &script.visits {
            let mut tries = 0;
            // An encoder that was thrown out comes back soon, for what is left of its visit.
            while self.log.now() < BUSY && tries < 4 {
                tries += 1;
                let Some(socket) = self.connect().await else {
                    self.other_node(dice.percent(50));
                    sleep(Duration::from_millis(dice.between(200, 1_500))).await;
                    continue;
                };
                let (sent, end) = self.publish(socket, *visit, base, dice).await;
                if script.goes_on {
                    base += sent;
                }
                match end {
                    End::Meant => break,
                    End::Broken => self.other_node(dice.percent(40)),
                    End::Moved => self.other_node(true),
                }
                sleep(Duration::from_millis(dice.between(100, 2_500))).await;
            }
            self.other_node(visit.elsewhere);
            sleep(Duration::from_millis(visit.away)).await;
        }
        self.say("has gone for good");
    }

    fn other_node(&self, indeed: bool) {
        let mut node = self.publisher.node.lock().unwrap_or_else(PoisonError::into_inner);
        if indeed {
            *node = if *node == NODES[0] { NODES[1] } else { NODES[0] };
        }
    }

    async fn connect(&self) -> Option<(Socket, u64)> {
        let node = self.publisher.node();
        let name = format!("cam{}", self.publisher.number);
        let attempt = async {
            let mut socket = self.network.dial(CLIENTS, node).await.ok()?;
            let start = Client::new().start("live", &format!("rtmp://{DOMAIN}/live"), &name);
            socket.write_all(&start).await.ok()?;
            let mut heard = Vec::new();
            while !heard.windows(23).any(|window| window == b"NetStream.Publish.Start") {
                let mut bytes = [0; 4096];
                let read = socket.read(&mut bytes).await.ok().filter(|read| *read > 0)?;
                heard.extend_from_slice(&bytes[..read]);
            }
            Some((socket, start.len() as u64))
        };
        let connected = timeout(PATIENCE, attempt).await.ok().flatten();
        self.say(format!("{} at m{node}", if connected.is_some() { "publishes" } else { "is not let in" }));
        connected
    }

    /// Publishes; returns how many ms of media were sent, and why it ended.
    async fn publish(&mut self, socket: (Socket, u64), visit: Visit, base: u64, dice: &mut Dice) -> (u64, End) {
        let (mut socket, mut written) = socket;
        let session = self.publisher.sessions().len() as u16;
        let (node, pipe) = (self.publisher.node(), socket.outgoing());
        self.publisher.note(|sessions| sessions.push(Session { node, pipe, frames: Vec::new() }));
        let mut client = Client::new();
        let mut opening = client.set_chunk_size(4096);
        opening.extend(client.video(base as u32, &payload::avc_header(payload::AVC_RECORD)));
        opening.extend(client.audio(base as u32, &payload::aac_header(payload::ASC)));
        if socket.write_all(&opening).await.is_err() {
            return (0, End::Broken);
        }
        written += opening.len() as u64;
        let start = Instant::now();
        let (mut pictures, mut sounds) = (0u64, 0u64);
        self.orders.mark_unchanged();
        loop {
            let (video_at, audio_at) = (pictures * 1_000 / RATE, sounds * 1_024 * 1_000 / 44_100);
            let (track, at) =
                if video_at <= audio_at { (TrackKind::Video, video_at) } else { (TrackKind::Audio, audio_at) };
            let mut heard = [0; 512];
            tokio::select! {
                biased;
                read = socket.read(&mut heard) => match read {
                    Ok(0) | Err(_) => {
                        self.say("is thrown out");
                        return (at, End::Broken);
                    }
                    Ok(_) => continue,
                },
                changed = self.orders.changed() => if changed.is_ok() {
                    self.say("gives up its node");
                    return (at, End::Moved);
                },
                () = sleep_until(start + Duration::from_millis(at)) => {}
            }
            if at >= visit.lasts || self.log.now() >= BUSY {
                self.leave(socket, &client, visit.goodbye).await;
                return (at, End::Meant);
            }
            let counter = if track == TrackKind::Video { &mut pictures } else { &mut sounds };
            let number = *counter;
            *counter += 1;
            let mark = Mark { stream: self.publisher.number, session, counter: number as u32 };
            let time = (base + at) as u32;
            let message = match track {
                TrackKind::Video => client.video(time, &picture(mark, number % GOP == 0, dice)),
                TrackKind::Audio => client.audio(time, &sound(mark, dice)),
            };
            match timeout(PATIENCE, socket.write_all(&message)).await {
                Ok(Ok(())) => {}
                _ => return (at, End::Broken),
            }
            written += message.len() as u64;
            let sent = Sent { track, counter: number as u32, end: written };
            self.publisher.note(|sessions| sessions[usize::from(session)].frames.push(sent));
        }
    }

    async fn leave(&self, mut socket: Socket, client: &Client, goodbye: bool) {
        self.say(if goodbye { "says goodbye" } else { "hangs up" });
        if goodbye {
            let name = format!("cam{}", self.publisher.number);
            let _ = timeout(PATIENCE, socket.write_all(&client.unpublish(&name))).await;
        }
        let _ = socket.shutdown().await;
        // Reading on until the node has closed too, as a polite encoder does.
        let rest = async {
            let mut bytes = [0; 512];
            while socket.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        };
        let _ = timeout(PATIENCE, rest).await;
    }
}

fn filled(first: u8, size: u64, dice: &mut Dice) -> Bytes {
    let mut bytes = BytesMut::with_capacity(size as usize + 8);
    bytes.put_u8(first);
    // No byte is zero, so that no start code appears.
    (0..size).for_each(|_| bytes.put_u8(0x80 | dice.roll() as u8));
    bytes.freeze()
}

fn picture(mark: Mark, key: bool, dice: &mut Dice) -> Vec<u8> {
    let size = if key { dice.between(1_500, 5_000) } else { dice.between(80, 1_200) };
    let slice = filled(if key { 0x65 } else { 0x41 }, size, dice);
    let mut frame = BytesMut::new();
    frame.put_u32(slice.len() as u32);
    frame.put_slice(&slice);
    let marked = marker::put(mark, TrackKind::Video, &frame.freeze());
    [&[if key { 0x17 } else { 0x27 }, 1, 0, 0, 0], &marked[..]].concat()
}

fn sound(mark: Mark, dice: &mut Dice) -> Vec<u8> {
    let size = dice.between(60, 300);
    let marked = marker::put(mark, TrackKind::Audio, &filled(0x21, size, dice));
    [&[0xaf, 1], &marked[..]].concat()
}
