//! Who publishes what right now, and how to reach them: at most one publisher a stream, the newest wins.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use recorder_proto::ids::SessionId;
use recorder_proto::names::StreamKey;
use tokio::sync::{mpsc, oneshot};

use crate::publication::Publication;

/// Commands to one connection that may wait for it; it takes them between two reads.
const COMMANDS: usize = 8;

/// What others ask of a connection that publishes.
#[derive(Debug)]
pub enum Command {
    /// A newer publisher of the same stream: hand over the publication and end.
    TakeOver(oneshot::Sender<Box<Publication>>),
    /// Finish a recording; the publisher stays.
    Stop {
        /// `recordings/{ulid}`.
        recording: String,
    },
    /// Close the publisher.
    Disconnect {
        /// What it is told.
        reason: String,
    },
}

struct Live {
    session: SessionId,
    commands: mpsc::Sender<Command>,
}

#[derive(Default)]
struct State {
    streams: HashMap<StreamKey, Live>,
    /// Which stream a recording belongs to.
    recordings: HashMap<String, StreamKey>,
}

/// Live publications of this node.
#[derive(Default)]
pub struct Registry {
    state: Mutex<State>,
}

/// A connection's place in the registry.
pub struct Admission {
    /// What others ask.
    pub commands: mpsc::Receiver<Command>,
    /// The publication of the publisher that this one replaces, once that one has let go of it.
    pub replaced: Option<oneshot::Receiver<Box<Publication>>>,
}

impl Registry {
    /// Puts `session` in the place of whoever publishes `stream` now. Call it only after authentication.
    pub fn admit(&self, stream: &StreamKey, session: SessionId) -> Admission {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let mut state = self.lock();
        let live = Live { session, commands: sender };
        let replaced = state.streams.insert(stream.clone(), live).and_then(|old| {
            let (hand_over, replaced) = oneshot::channel();
            // A full queue or a gone receiver means that connection is ending; then there is nothing to take over.
            old.commands.try_send(Command::TakeOver(hand_over)).ok().map(|()| replaced)
        });
        Admission { commands, replaced }
    }

    /// `session` no longer publishes `stream`; a newer publisher's place is left alone.
    pub fn leave(&self, stream: &StreamKey, session: SessionId) {
        let mut state = self.lock();
        if state.streams.get(stream).is_some_and(|live| live.session == session) {
            state.streams.remove(stream);
        }
    }

    /// Notes that `recording` is being made of `stream`.
    pub fn recording_started(&self, recording: &str, stream: &StreamKey) {
        self.lock().recordings.insert(recording.to_owned(), stream.clone());
    }

    /// The recording has ended.
    pub fn recording_ended(&self, recording: &str) {
        self.lock().recordings.remove(recording);
    }

    /// Sends `command` to the connection that makes `recording`. False when there is none.
    pub fn command(&self, recording: &str, command: Command) -> bool {
        let state = self.lock();
        let live = state.recordings.get(recording).and_then(|stream| state.streams.get(stream));
        live.is_some_and(|live| live.commands.try_send(command).is_ok())
    }

    /// Publishers and recordings right now.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.streams.len(), state.recordings.len())
    }

    /// Asks every publisher to leave.
    pub fn disconnect_all(&self, reason: &str) {
        for live in self.lock().streams.values() {
            let _ = live.commands.try_send(Command::Disconnect { reason: reason.to_owned() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
