//! The network: streams between hosts with delays, in each direction open or silent, and connections that are cut.
//!
//! What is written while a direction is silent arrives when it opens again, as TCP has it; a host that is gone answers
//! with resets. Deliveries happen between the ticks of the world only, so that they follow from the seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::dice::Dice;
use crate::host::TICK;

/// Number of a host.
pub type HostId = usize;

/// Bytes under way in one direction after which a writer waits.
const WINDOW: usize = 512 << 10;
/// Longest delay of a delivery, in milliseconds.
const DELAY_MAX: u64 = 40;

enum Item {
    Bytes(Bytes),
    Fin,
    Reset,
}

struct Pipe {
    from: HostId,
    to: HostId,
    queue: VecDeque<(u64, Item)>,
    under_way: usize,
    last_delivery: u64,
    /// How much the reader had taken, and when.
    taken: Vec<(u64, u64)>,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Default)]
struct Listener {
    waiting: VecDeque<Socket>,
    waker: Option<Waker>,
}

struct State {
    now: u64,
    dice: Dice,
    silent: BTreeSet<(HostId, HostId)>,
    pipes: BTreeMap<u64, Pipe>,
    next: u64,
    listeners: BTreeMap<HostId, Listener>,
}

/// The network; clones share it.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

/// One end of a connection. Dropping it closes it.
pub struct Socket {
    network: Network,
    reads: u64,
    writes: u64,
}

impl State {
    fn pipe(&mut self, number: u64) -> &mut Pipe {
        self.pipes.get_mut(&number).expect("pipes are kept")
    }

    fn add(&mut self, from: HostId, to: HostId) -> u64 {
        self.next += 1;
        let (queue, taken) = Default::default();
        let pipe = Pipe {
            from,
            to,
            queue,
            under_way: 0,
            last_delivery: 0,
            taken,
            reader_gone: false,
            reader: None,
            writer: None,
        };
        self.pipes.insert(self.next, pipe);
        self.next
    }

    fn send(&mut self, number: u64, item: Item) {
        let delay = self.dice.between(TICK, DELAY_MAX + 1);
        let at = self.now + delay;
        let pipe = self.pipe(number);
        pipe.last_delivery = pipe.last_delivery.max(at);
        if let Item::Bytes(bytes) = &item {
            pipe.under_way += bytes.len();
        }
        let at = pipe.last_delivery;
        pipe.queue.push_back((at, item));
    }

    fn arrived(&self, pipe: &Pipe) -> bool {
        let due = pipe.queue.front().is_some_and(|(at, _)| *at <= self.now);
        due && !self.silent.contains(&(pipe.from, pipe.to))
    }

    fn is_reset(&self, number: u64) -> bool {
        self.pipes
            .get(&number)
            .is_some_and(|pipe| self.arrived(pipe) && matches!(pipe.queue.front(), Some((_, Item::Reset))))
    }
}

impl Network {
    /// An open network.
    pub fn new(dice: Dice) -> Self {
        let (silent, pipes, listeners) = Default::default();
        Self(Arc::new(Mutex::new(State { now: 0, dice, silent, pipes, next: 0, listeners })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is `now`: whoever waits for what has arrived is woken.
    pub fn advance(&self, now: u64) {
        let mut state = self.lock();
        state.now = now;
        let due: Vec<u64> =
            state.pipes.iter().filter(|(_, pipe)| state.arrived(pipe)).map(|(number, _)| *number).collect();
        let mut wake: Vec<Waker> = due.into_iter().filter_map(|number| state.pipe(number).reader.take()).collect();
        // A reset is news for who writes, too.
        let resets: Vec<u64> = state.pipes.keys().copied().filter(|number| state.is_reset(*number)).collect();
        wake.extend(resets.into_iter().filter_map(|number| state.pipe(number ^ 1).writer.take()));
        wake.extend(state.listeners.values_mut().filter(|l| !l.waiting.is_empty()).filter_map(|l| l.waker.take()));
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Nothing gets from one host to the other, or again.
    pub fn set_silent(&self, from: HostId, to: HostId, silent: bool) {
        let mut state = self.lock();
        if silent {
            state.silent.insert((from, to));
        } else {
            state.silent.remove(&(from, to));
        }
    }

    /// Every direction is open again.
    pub fn heal(&self) {
        self.lock().silent.clear();
    }

    /// Resets every connection between two hosts.
    pub fn cut(&self, one: HostId, other: HostId) {
        let mut state = self.lock();
        let between = |pipe: &Pipe| (pipe.from, pipe.to) == (one, other) || (pipe.to, pipe.from) == (one, other);
        let cut: Vec<u64> =
            state.pipes.iter().filter(|(_, pipe)| between(pipe) && !pipe.reader_gone).map(|(n, _)| *n).collect();
        for number in cut {
            state.pipe(number).queue.clear();
            state.pipe(number).under_way = 0;
            state.send(number, Item::Reset);
        }
    }

    /// Connections to `host` are taken from now on, or refused.
    pub fn listen(&self, host: HostId, listening: bool) {
        let mut state = self.lock();
        if listening {
            state.listeners.entry(host).or_default();
        } else if let Some(gone) = state.listeners.remove(&host) {
            // Sockets lock the network when they go.
            drop(state);
            drop(gone);
        }
    }

    /// The next connection to `host`.
    pub async fn accept(&self, host: HostId) -> Socket {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            let listener = state.listeners.entry(host).or_default();
            match listener.waiting.pop_front() {
                Some(socket) => Poll::Ready(socket),
                None => {
                    listener.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Connects; waits as long as one direction is silent.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn dial(&self, from: HostId, to: HostId) -> io::Result<Socket> {
        loop {
            tokio::time::sleep(Duration::from_millis(2 * TICK)).await;
            let mut state = self.lock();
            if state.silent.contains(&(from, to)) || state.silent.contains(&(to, from)) {
                continue;
            }
            if !state.listeners.contains_key(&to) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            // Even and odd, so that the other direction is found by one bit.
            state.next |= 1;
            let (there, back) = (state.add(from, to), state.add(to, from));
            let socket = |reads, writes| Socket { network: self.clone(), reads, writes };
            let listener = state.listeners.entry(to).or_default();
            listener.waiting.push_back(socket(there, back));
            return Ok(socket(back, there));
        }
    }

    /// When the reader of a pipe had taken its first `offset` bytes, in milliseconds.
    pub fn taken_at(&self, pipe: u64, offset: u64) -> Option<u64> {
        let state = self.lock();
        let taken = &state.pipes.get(&pipe)?.taken;
        taken.get(taken.partition_point(|(_, total)| *total < offset)).map(|(at, _)| *at)
    }
}

impl Socket {
    /// Number of the pipe that this end writes to.
    pub fn outgoing(&self) -> u64 {
        self.writes
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.network.lock();
        let now = state.now;
        let mut took = 0;
        while buffer.remaining() > 0 {
            let pipe = &state.pipes[&self.reads];
            if !state.arrived(pipe) {
                break;
            }
            let pipe = state.pipe(self.reads);
            match pipe.queue.front_mut() {
                Some((_, Item::Bytes(bytes))) => {
                    let piece = bytes.split_to(bytes.len().min(buffer.remaining()));
                    buffer.put_slice(&piece);
                    took += piece.len();
                    if bytes.is_empty() {
                        pipe.queue.pop_front();
                    }
                }
                Some((_, Item::Reset)) if took == 0 => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                _ if took == 0 => return Poll::Ready(Ok(())),
                _ => break,
            }
        }
        let pipe = state.pipe(self.reads);
        if took == 0 {
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        pipe.under_way -= took;
        let total = pipe.taken.last().map_or(0, |(_, total)| *total) + took as u64;
        pipe.taken.push((now, total));
        let waker = pipe.writer.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.network.lock();
        if state.is_reset(self.reads) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let pipe = state.pipe(self.writes);
        if pipe.reader_gone {
            let news = state.pipes[&self.reads].queue.back().is_some_and(|(_, item)| matches!(item, Item::Reset));
            if !news {
                state.send(self.reads, Item::Reset);
            }
            return Poll::Ready(Ok(bytes.len()));
        }
        if pipe.under_way >= WINDOW {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.send(self.writes, Item::Bytes(Bytes::copy_from_slice(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.lock().send(self.writes, Item::Fin);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        state.send(self.writes, Item::Fin);
        let pipe = state.pipe(self.reads);
        pipe.reader_gone = true;
        let waker = pipe.writer.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl tonic::transport::server::Connected for Socket {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
