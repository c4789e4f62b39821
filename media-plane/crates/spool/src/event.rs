//! What the spool tells shipping, kept as state: memory follows the number of spooled objects, never the time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mux::{ObjectId, ObjectSpec, Summary};
use tokio::sync::Notify;

use crate::{Error, OutputKey};

/// Something that is on disk now.
#[derive(Clone, Debug)]
pub enum Event {
    /// An object was begun; playlists are not announced.
    Opened {
        /// The output.
        key: OutputKey,
        /// The object.
        spec: ObjectSpec,
    },
    /// An open object is durable up to here, a mark. At most one per object and sync; an unread one is replaced.
    Durable {
        /// The output.
        key: OutputKey,
        /// The object.
        object: ObjectId,
        /// Bytes up to its newest durable mark.
        bytes: u64,
    },
    /// An object is complete and durable.
    Closed {
        /// The output.
        key: OutputKey,
        /// The object.
        spec: ObjectSpec,
        /// What it holds.
        summary: Summary,
        /// Bytes of head and data.
        size: u64,
        /// CRC-32C of head and data.
        crc32c: u32,
    },
    /// A playlist has a new text. An unread older text is replaced.
    Playlist {
        /// The output.
        key: OutputKey,
        /// The playlist object.
        object: ObjectId,
        /// Its whole text.
        body: Bytes,
        /// It carries `EXT-X-ENDLIST`.
        last: bool,
    },
    /// Every object of a file is closed.
    FileDone {
        /// The output.
        key: OutputKey,
        /// `File.index`.
        file: u32,
        /// What it holds.
        summary: Summary,
    },
    /// Nothing will be added to the output.
    Finished {
        /// The output.
        key: OutputKey,
    },
    /// The disk failed, or the writer was dropped before it had finished: nothing will be told of this output after
    /// what was told before.
    Failed {
        /// The output.
        key: OutputKey,
        /// Why.
        error: Error,
    },
}

/// Which unread event a newer one replaces.
type Slot = (OutputKey, ObjectId, bool);

#[derive(Default)]
struct Pending {
    next: u64,
    events: BTreeMap<u64, Event>,
    slots: HashMap<Slot, u64>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    ready: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending half.
#[derive(Clone, Default)]
pub(crate) struct Outlet(Arc<Shared>);

impl Outlet {
    pub(crate) fn events(&self) -> Events {
        Events(self.0.clone())
    }

    pub(crate) fn send(&self, batch: impl IntoIterator<Item = Event>) {
        let mut pending = self.0.lock();
        let before = pending.next;
        for event in batch {
            pending.push(event);
        }
        let sent = pending.next != before;
        drop(pending);
        if sent {
            self.0.ready.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
        self.0.ready.notify_one();
    }
}

impl Pending {
    fn push(&mut self, event: Event) {
        let number = self.next;
        self.next += 1;
        match &event {
            Event::Durable { key, object, .. } => self.replace((key.clone(), *object, false), Some(number)),
            Event::Playlist { key, object, .. } => self.replace((key.clone(), *object, true), Some(number)),
            // A closed object is durable as a whole.
            Event::Closed { key, spec, .. } => self.replace((key.clone(), spec.object, false), None),
            Event::Opened { .. } | Event::FileDone { .. } | Event::Finished { .. } | Event::Failed { .. } => {}
        }
        self.events.insert(number, event);
    }

    fn replace(&mut self, slot: Slot, number: Option<u64>) {
        let old = match number {
            Some(number) => self.slots.insert(slot, number),
            None => self.slots.remove(&slot),
        };
        if let Some(old) = old {
            self.events.remove(&old);
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let (_, event) = self.events.pop_first()?;
        match &event {
            Event::Durable { key, object, .. } => drop(self.slots.remove(&(key.clone(), *object, false))),
            Event::Playlist { key, object, .. } => drop(self.slots.remove(&(key.clone(), *object, true))),
            _ => {}
        }
        Some(event)
    }
}

/// The receiving half; one for the whole spool.
pub struct Events(Arc<Shared>);

impl Events {
    /// Waits for the next event; none when the spool was closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            {
                let mut pending = self.0.lock();
                if let Some(event) = pending.pop() {
                    return Some(event);
                }
                if pending.closed {
                    return None;
                }
            }
            self.0.ready.notified().await;
        }
    }

    /// The next event, if there is one.
    pub fn try_next(&mut self) -> Option<Event> {
        self.0.lock().pop()
    }
}
