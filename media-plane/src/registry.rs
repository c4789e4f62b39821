//! Who publishes what right now, and how to reach them: at most one publisher a stream, the newest wins.
//!
//! A stream whose publisher is away keeps its place here as long as a recording of it waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use recorder_proto::ids::{Epoch, RecordingId, SessionId};
use recorder_proto::names::{RecordingName, StreamKey, StreamName};
use tokio::sync::oneshot;

use crate::mailbox::{Address, Mailbox, mailbox};
use crate::publication::Publication;

/// Stops of recordings that are not known here (yet), newest last. A recording that is just being claimed has no place
/// to send them to; older ones are of recordings that have ended.
const MAX_EARLY_STOPS: usize = 256;

/// What others ask of whoever holds a publication: a connection, or the hold of one whose publisher is away.
#[derive(Debug)]
pub enum Command {
    /// A newer publisher of the same stream: hand over the publication and end.
    TakeOver(oneshot::Sender<Box<Publication>>),
    /// Finish a recording; the publisher stays.
    Stop {
        /// `recordings/{ulid}`.
        recording: String,
    },
    /// New files in every output at the next key frame.
    Split {
        /// `recordings/{ulid}`.
        recording: String,
    },
    /// Close what is open at once: the spool is full of it.
    PutDown {
        /// `recordings/{ulid}`.
        recording: String,
    },
    /// Another node goes on with this recording: close and ship what there is, and stop speaking for it.
    Orphan {
        /// `recordings/{ulid}`.
        recording: String,
    },
    /// Tasks of the stream have come, changed or gone.
    Review,
    /// Close the publisher.
    Disconnect {
        /// What it is told.
        reason: String,
    },
    /// The node is being emptied: the publisher is to go elsewhere.
    Move {
        /// What it is told.
        reason: String,
    },
}

impl Command {
    /// The recording it is about.
    fn recording(&self) -> Option<&str> {
        match self {
            Self::Stop { recording }
            | Self::Split { recording }
            | Self::PutDown { recording }
            | Self::Orphan { recording } => Some(recording),
            Self::TakeOver(_) | Self::Review | Self::Disconnect { .. } | Self::Move { .. } => None,
        }
    }
}

struct Live {
    session: SessionId,
    address: Address,
    /// Nobody publishes; recordings wait.
    held: bool,
}

/// A running recording.
struct Running {
    stream: StreamKey,
    epoch: Epoch,
}

#[derive(Default)]
struct State {
    streams: HashMap<StreamKey, Live>,
    recordings: HashMap<RecordingId, Running>,
    early_stops: VecDeque<RecordingId>,
}

/// Live publications of this node.
#[derive(Default)]
pub struct Registry {
    state: Mutex<State>,
}

/// A connection's place in the registry.
pub struct Admission {
    /// What others ask.
    pub mailbox: Mailbox,
    /// The publication of the publisher that this one replaces, once that one has let go of it.
    pub replaced: Option<oneshot::Receiver<Box<Publication>>>,
}

impl Registry {
    /// Puts `session` in the place of whoever publishes `stream` now. Call it only after authentication.
    pub fn admit(&self, stream: &StreamKey, session: SessionId) -> Admission {
        let (address, mailbox) = mailbox();
        let live = Live { session, address, held: false };
        let replaced = self.lock().streams.insert(stream.clone(), live).and_then(|old| {
            let (hand_over, replaced) = oneshot::channel();
            // A closed mailbox means that its owner is ending; then there is nothing to take over.
            old.address.send(Command::TakeOver(hand_over)).then_some(replaced)
        });
        Admission { mailbox, replaced }
    }

    /// A place for recordings that wait without a publisher. None when somebody publishes the stream.
    pub fn hold(&self, stream: &StreamKey, session: SessionId) -> Option<Mailbox> {
        let mut state = self.lock();
        if state.streams.contains_key(stream) {
            return None;
        }
        let (address, mailbox) = mailbox();
        state.streams.insert(stream.clone(), Live { session, address, held: true });
        Some(mailbox)
    }

    /// The publisher of `session` is away; its place is kept.
    pub fn away(&self, stream: &StreamKey, session: SessionId) {
        if let Some(live) = self.lock().streams.get_mut(stream).filter(|live| live.session == session) {
            live.held = true;
        }
    }

    /// `session` no longer publishes `stream`; a newer publisher's place is left alone.
    pub fn leave(&self, stream: &StreamKey, session: SessionId) {
        let mut state = self.lock();
        if state.streams.get(stream).is_some_and(|live| live.session == session) {
            state.streams.remove(stream);
        }
    }

    /// Notes that `recording` is being made of `stream`. True when its stop was asked for before it was known here.
    pub fn recording_started(&self, recording: RecordingId, epoch: Epoch, stream: &StreamKey) -> bool {
        let mut state = self.lock();
        // An older epoch is revived only to be closed.
        if state.recordings.get(&recording).is_none_or(|running| running.epoch <= epoch) {
            state.recordings.insert(recording, Running { stream: stream.clone(), epoch });
        }
        let early = state.early_stops.iter().position(|stopped| *stopped == recording);
        early.is_some_and(|at| state.early_stops.remove(at).is_some())
    }

    /// The recording has ended.
    pub fn recording_ended(&self, recording: RecordingId, epoch: Epoch) {
        let mut state = self.lock();
        // The same recording may go on here under a later epoch.
        if state.recordings.get(&recording).is_some_and(|running| running.epoch == epoch) {
            state.recordings.remove(&recording);
        }
    }

    /// Sends `command` to whoever makes the recording that it is about. False when there is none. A stop is remembered:
    /// the recording may be about to start.
    pub fn command(&self, command: Command) -> bool {
        let Some(id) = command.recording().and_then(|name| name.parse::<RecordingName>().ok()).map(|name| name.0)
        else {
            return false;
        };
        let mut state = self.lock();
        let is_stop = matches!(command, Command::Stop { .. });
        let live = state.recordings.get(&id).and_then(|running| state.streams.get(&running.stream));
        let sent = live.is_some_and(|live| live.address.send(command));
        if !sent && is_stop && !state.early_stops.contains(&id) {
            state.early_stops.push_back(id);
            if state.early_stops.len() > MAX_EARLY_STOPS {
                state.early_stops.pop_front();
            }
        }
        sent
    }

    /// Has whoever holds the publication of a stream look at its tasks; a stream that nobody publishes looks when it comes.
    pub fn review(&self, stream: &StreamKey) {
        if let Some(live) = self.lock().streams.get(stream) {
            live.address.send(Command::Review);
        }
    }

    /// Closes the publisher of a recording, or of a session (`streams/...`). One whose publisher is away is left to wait.
    pub fn disconnect(&self, name: &str, reason: &str) -> bool {
        let state = self.lock();
        if let Ok(StreamName(session)) = name.parse() {
            let live = state.streams.values().find(|live| live.session == session && !live.held);
            return live.is_some_and(|live| live.address.send(Command::Disconnect { reason: reason.to_owned() }));
        }
        let Ok(RecordingName(id)) = name.parse() else { return false };
        let live = state.recordings.get(&id).and_then(|running| state.streams.get(&running.stream));
        live.is_some_and(|live| live.address.send(Command::Disconnect { reason: reason.to_owned() }))
    }

    /// Publishers and recordings right now; recordings that wait for their publisher count as well.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.streams.values().filter(|live| !live.held).count(), state.recordings.len())
    }

    /// Streams whose publisher is away.
    pub fn held(&self) -> usize {
        self.lock().streams.values().filter(|live| live.held).count()
    }

    /// Whether this epoch of a recording (by name) runs here.
    pub fn has(&self, recording: &str, epoch: u64) -> bool {
        let Ok(RecordingName(id)) = recording.parse() else { return false };
        self.lock().recordings.get(&id).is_some_and(|running| running.epoch.get() == epoch)
    }

    /// Recordings whose publisher is away, with their epochs.
    pub fn waiting(&self) -> Vec<(RecordingId, Epoch)> {
        let state = self.lock();
        let is_held = |running: &&Running| state.streams.get(&running.stream).is_some_and(|live| live.held);
        let held = state.recordings.iter().filter(|(_, running)| is_held(running));
        held.map(|(id, running)| (*id, running.epoch)).collect()
    }

    /// Every running recording with its epoch.
    pub fn running(&self) -> Vec<(RecordingId, Epoch)> {
        self.lock().recordings.iter().map(|(id, running)| (*id, running.epoch)).collect()
    }

    /// Asks every publisher to leave.
    pub fn disconnect_all(&self, reason: &str) {
        for live in self.lock().streams.values().filter(|live| !live.held) {
            live.address.send(Command::Disconnect { reason: reason.to_owned() });
        }
    }

    /// Asks every publisher to go on elsewhere, and every hold to put down what it keeps open.
    pub fn move_all(&self, reason: &str) {
        for live in self.lock().streams.values() {
            live.address.send(Command::Move { reason: reason.to_owned() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamKey {
        StreamKey::new("push.example.com", "live", "cam").unwrap()
    }

    fn session(random: u8) -> SessionId {
        SessionId::new(chrono::DateTime::UNIX_EPOCH, [random; 10])
    }

    fn recording() -> (RecordingId, String) {
        let id = RecordingId::new(chrono::DateTime::UNIX_EPOCH, [7; 10]);
        (id, RecordingName(id).to_string())
    }

    #[test]
    fn a_stop_that_comes_before_its_recording_is_not_lost() {
        let registry = Registry::default();
        let (id, name) = recording();
        assert!(!registry.command(Command::Stop { recording: name.clone() }));
        assert!(registry.recording_started(id, Epoch(1), &stream()), "stop at once");
        assert!(!registry.recording_started(id, Epoch(1), &stream()), "once");
    }

    #[tokio::test]
    async fn a_session_is_disconnected_by_name_and_another_is_not() {
        let registry = Registry::default();
        let mut admission = registry.admit(&stream(), session(1));
        assert!(!registry.disconnect(&StreamName(session(2)).to_string(), "x"), "somebody else's");
        assert!(registry.disconnect(&StreamName(session(1)).to_string(), "abuse"));
        assert!(matches!(admission.mailbox.recv().await, Command::Disconnect { reason } if reason == "abuse"));
        registry.away(&stream(), session(1));
        assert!(!registry.disconnect(&StreamName(session(1)).to_string(), "x"), "nobody is there");
    }

    #[test]
    fn reviving_an_older_epoch_unregistered_the_newest() {
        let registry = Registry::default();
        let (id, name) = recording();
        registry.recording_started(id, Epoch(2), &stream());
        registry.recording_started(id, Epoch(1), &stream());
        assert!(registry.has(&name, 2));
        registry.recording_ended(id, Epoch(1));
        assert!(registry.has(&name, 2), "only the older one has ended");
    }

    #[tokio::test]
    async fn a_full_command_queue_lost_a_stop() {
        let registry = Registry::default();
        let (id, name) = recording();
        let mut admission = registry.admit(&stream(), session(1));
        registry.recording_started(id, Epoch(1), &stream());
        for _ in 0..1_000 {
            assert!(registry.command(Command::Split { recording: name.clone() }));
            assert!(registry.disconnect(&name, "again"));
        }
        assert!(registry.command(Command::Stop { recording: name }));
        assert!(matches!(admission.mailbox.recv().await, Command::Split { .. }));
        assert!(matches!(admission.mailbox.recv().await, Command::Disconnect { .. }));
        assert!(matches!(admission.mailbox.recv().await, Command::Stop { .. }));
        assert!(admission.mailbox.close().is_empty(), "what repeats is one command");
    }

    #[test]
    fn a_held_stream_is_no_publisher_and_gives_way_to_one() {
        let registry = Registry::default();
        let _first = registry.admit(&stream(), session(1));
        registry.away(&stream(), session(1));
        assert_eq!((registry.counts(), registry.held()), ((0, 0), 1));
        assert!(registry.hold(&stream(), session(2)).is_none());
        let second = registry.admit(&stream(), session(2));
        assert!(second.replaced.is_some());
        assert_eq!((registry.counts(), registry.held()), ((1, 0), 0));
        registry.leave(&stream(), session(1));
        assert_eq!(registry.counts(), (1, 0), "the newer publisher's place is left alone");
    }
}
