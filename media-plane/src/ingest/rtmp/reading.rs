//! What a connection does next: reads, obeys, or notices that time has passed.

use std::time::Duration;

use ::rtmp::READ_BUFFER_BYTES;
use media::ingest::EndCause;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::{Connection, Wake};
use crate::registry::Command;

/// Pause after a read that emptied the socket while media flows. A recorder gains nothing from seeing each packet the
/// moment it arrives, and reading a burst at once saves most of the system calls and wake-ups of a real-time stream.
/// A read that filled the buffer is followed by the next one at once, so that nothing is ever slowed down.
const READ_PACE: Duration = Duration::from_millis(40);
/// Read buffer before `publish` was accepted, in bytes: enough for a handshake packet or a `connect`. Thousands of idle
/// connections are cheap that way.
const READ_BEFORE_PUBLISH: usize = 2 * 1024;

/// What waits in the socket is there when it is asked for, unless the system has not been asked yet. A process that goes
/// on after a stand-still sees its timers first.
const AT_ONCE: Duration = Duration::from_millis(5);
/// A deadline that is noticed so late passed while this process stood still.
const LATE: Duration = Duration::from_millis(300);
/// How long the publisher has then to be heard.
const HEARING: Duration = Duration::from_secs(1);

/// What a publisher has left behind is not more than two systems keep for a connection, bytes.
const MOST_LEFT_BEHIND: usize = 16 << 20;
/// What is left behind comes without such pauses, unless its publisher's system is waiting for ours to say it has room.
const GAP: Duration = Duration::from_millis(250);
/// Media that comes as it is made for so long was not left behind.
const LIVE: Duration = Duration::from_millis(500);
/// How long what was left behind may take, when somebody waits for it and when nobody does.
const HURRY: Duration = Duration::from_secs(4);
const LEISURE: Duration = Duration::from_secs(10);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Waits for whatever is next.
    pub(super) async fn wake(&mut self) -> Wake {
        if let Some(wake) = self.hold_back().await {
            return wake;
        }
        if self.publishing.as_ref().is_some_and(|publishing| publishing.publication.is_full()) {
            return self.deaf_wake().await;
        }
        let (since, end) = (self.node.clock.monotonic(), self.end_of_patience());
        let tick = self.publishing.as_ref().and_then(|publishing| publishing.publication.next_tick());
        let wait = [end, tick].into_iter().flatten().min().map_or(Duration::MAX, |at| at.saturating_sub(since));
        let (socket, input, media_flows) = (&mut self.socket, &mut self.input, self.publishing.is_some());
        let took_everything = &mut self.took_everything;
        let read = async {
            if media_flows && *took_everything {
                sleep(READ_PACE).await;
            }
            input.reserve(if media_flows { READ_BUFFER_BYTES } else { READ_BEFORE_PUBLISH });
            let room = input.capacity() - input.len();
            let read = socket.read_buf(input).await;
            *took_everything = matches!(read, Ok(bytes) if bytes < room);
            read
        };
        let command = async {
            match &mut self.publishing {
                Some(publishing) => publishing.mailbox.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = command => return Wake::Command(command),
            read = read => return Wake::Read(read),
            () = sleep(wait) => {}
        }
        match end.filter(|at| *at <= self.node.clock.monotonic()) {
            Some(end) => self.last_look(since, end).await,
            None => Wake::Deadline,
        }
    }

    /// When a publisher that sends nothing is closed, or answered, on the node's clock.
    fn end_of_patience(&self) -> Option<Duration> {
        let session = self.session.next_deadline().map(|at| at.saturating_add(self.held_back));
        let flush = (!self.pending.is_empty()).then(|| self.calm.silent_at());
        let close = self.moving.as_ref().map(|moving| moving.close_at);
        [session, flush, close].into_iter().flatten().min()
    }

    /// Before that counts: a publisher is neither silent nor gone as long as its bytes wait in the socket.
    async fn last_look(&mut self, since: Duration, end: Duration) -> Wake {
        let now = self.node.clock.monotonic();
        let late = now.saturating_sub(end.max(since));
        let stood_still = late > LATE;
        // A flood is no reason to go on for ever.
        if self.publishing.is_none() || (!stood_still && now > end.saturating_add(LEISURE)) {
            return Wake::Deadline;
        }
        self.input.reserve(READ_BUFFER_BYTES);
        let Ok(read) = timeout(AT_ONCE, self.socket.read_buf(&mut self.input)).await else { return Wake::Deadline };
        if stood_still {
            // What was read may be but the beginning of what waits.
            let longer = late.saturating_add(HEARING);
            self.held_back = self.held_back.saturating_add(longer);
            if let Some(moving) = &mut self.moving {
                moving.cut_from = moving.cut_from.saturating_add(longer);
                moving.close_at = moving.close_at.saturating_add(longer);
            }
        }
        Wake::Read(read)
    }

    /// Back-pressure: what the disk cannot take yet waits in the publisher's socket, not in memory.
    async fn hold_back(&mut self) -> Option<Wake> {
        let publishing = self.publishing.as_mut()?;
        let before = self.node.clock.monotonic();
        let wake = tokio::select! {
            biased;
            () = self.node.spool.writable() => None,
            command = publishing.mailbox.recv() => Some(Wake::Command(command)),
        };
        self.did_not_listen_since(before);
        wake
    }

    /// The same while recordings begin: nothing more is read until they have.
    async fn deaf_wake(&mut self) -> Wake {
        let Some(publishing) = &mut self.publishing else { return Wake::Deadline };
        let before = self.node.clock.monotonic();
        let due = [publishing.publication.next_tick(), self.moving.as_ref().map(|moving| moving.close_at)];
        let wait = due.into_iter().flatten().min().map_or(Duration::MAX, |at| at.saturating_sub(before));
        let wake = tokio::select! {
            biased;
            command = publishing.mailbox.recv() => Wake::Command(command),
            () = sleep(wait) => Wake::Deadline,
        };
        self.did_not_listen_since(before);
        wake
    }

    /// Whoever was not listened to was not silent.
    fn did_not_listen_since(&mut self, before: Duration) {
        let now = self.node.clock.monotonic();
        if now > before {
            self.held_back = self.held_back.saturating_add(now.saturating_sub(before));
            self.calm.not_heard_for(now.saturating_sub(before));
        }
    }

    /// Before a publisher goes on elsewhere, is replaced, or is told something: what it has already sent is recorded.
    /// After a pause of this process, or of the network, that is all there is of that time.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) async fn hear_out(&mut self, patience: Duration) -> Result<(), EndCause> {
        let until = self.node.clock.monotonic().saturating_add(patience);
        let mut most = MOST_LEFT_BEHIND;
        while most > 0 && self.publishing.is_some() {
            let left = until.saturating_sub(self.node.clock.monotonic());
            if left.is_zero() || timeout(left, self.node.spool.writable()).await.is_err() {
                return Ok(());
            }
            self.input.reserve(READ_BUFFER_BYTES);
            let read = timeout(GAP.min(left), self.socket.read_buf(&mut self.input)).await;
            let Ok(Ok(bytes @ 1..)) = read else { return Ok(()) };
            most = most.saturating_sub(bytes);
            self.calm.heard(self.node.clock.monotonic());
            while self.digest().await? {}
            if self.calm.is_steady_for(LIVE) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// How long a publisher may take to be heard out before a command is obeyed; `None` = the command is for its recordings,
/// or does not wait.
pub(super) fn patience_before(command: &Command) -> Option<Duration> {
    match command {
        Command::TakeOver(_) => Some(HURRY),
        Command::Orphan { .. } | Command::Move { .. } => Some(LEISURE),
        Command::Stop { .. }
        | Command::Split { .. }
        | Command::PutDown { .. }
        | Command::Review
        | Command::Disconnect { .. } => None,
    }
}
