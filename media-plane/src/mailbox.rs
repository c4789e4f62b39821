//! What others ask of the owner of a publication, in order and never refused for want of room: a command that already
//! waits is not queued twice, so that a mailbox holds at most one of a kind per recording.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::registry::Command;

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Command>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The senders' side.
pub struct Address(Arc<Shared>);

/// The owner's side. Dropping it closes it.
pub struct Mailbox(Arc<Shared>);

/// An empty mailbox.
pub fn mailbox() -> (Address, Mailbox) {
    let shared = Arc::new(Shared::default());
    (Address(Arc::clone(&shared)), Mailbox(shared))
}

impl Address {
    /// Puts a command in line. False when the owner takes none any more.
    pub fn send(&self, command: Command) -> bool {
        let mut queue = self.0.lock();
        if queue.closed {
            return false;
        }
        if !queue.waiting.iter().any(|waiting| is_same(waiting, &command)) {
            queue.waiting.push_back(command);
            self.0.more.notify_one();
        }
        true
    }
}

impl Mailbox {
    /// The next command. Cancelling it loses none.
    pub async fn recv(&mut self) -> Command {
        loop {
            match self.try_recv() {
                Some(command) => return command,
                None => self.0.more.notified().await,
            }
        }
    }

    /// The next command, if one waits.
    pub fn try_recv(&mut self) -> Option<Command> {
        self.0.lock().waiting.pop_front()
    }

    /// Takes no more; what came before is to be answered or passed on.
    pub fn close(&mut self) -> VecDeque<Command> {
        let mut queue = self.0.lock();
        queue.closed = true;
        std::mem::take(&mut queue.waiting)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        // A request to hand over ends with its sender.
        self.close();
    }
}

/// Asking twice is the same command. A hand-over is asked for once: whoever asks has the place in the registry.
fn is_same(one: &Command, other: &Command) -> bool {
    match (one, other) {
        (Command::Stop { recording: one }, Command::Stop { recording: other })
        | (Command::Split { recording: one }, Command::Split { recording: other })
        | (Command::PutDown { recording: one }, Command::PutDown { recording: other })
        | (Command::Orphan { recording: one }, Command::Orphan { recording: other }) => one == other,
        (Command::Review, Command::Review)
        | (Command::Disconnect { .. }, Command::Disconnect { .. })
        | (Command::Move { .. }, Command::Move { .. }) => true,
        _ => false,
    }
}
