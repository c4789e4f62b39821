//! Every session of the node, as HTTP sees them: opened within limits, found by their id, patched and deleted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand::distr::Alphanumeric;
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot};

use crate::answer::{Reachable, decline, present, restart_fragment};
use crate::codecs::Wanted;
use crate::endpoint::Endpoint;
use crate::limits::MAX_OFFER_BYTES;
use crate::offer::Offer;
use crate::peer::{Peer, Shared};
use crate::refused::Refused;
use crate::resource::{Patched, Resource, SDP, is_type};
use crate::session::{Cause, Command, Session};

/// Requests that wait for one session. It answers within a round of its loop.
const MAX_COMMANDS: usize = 8;
/// How long a session may take to carry out a request.
const PATIENCE: Duration = Duration::from_secs(2);
/// After this a client that was turned away may come again, in seconds.
const RETRY_AFTER: u32 = 5;

/// How many sessions there may be, and for how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions at once.
    pub max_sessions: usize,
    /// Of those, sessions that have not connected yet. One more takes the place of the oldest.
    pub max_pending: usize,
    /// Media that does not come for this long ends a session.
    pub idle_timeout: Duration,
}

struct Entry {
    resource: Resource,
    commands: mpsc::Sender<Command>,
    /// The token that came with the offer, which every later request has to show, too.
    token: Option<String>,
    stream: String,
    pending: bool,
    reachable: Reachable,
    /// First media section of the offer: kind, as a restart names it.
    kind: &'static str,
    mid: String,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// Ids of sessions that may not have connected yet, oldest first.
    pending: VecDeque<String>,
}

/// See the module.
pub struct Sessions {
    endpoint: Arc<Endpoint>,
    shared: Arc<Shared>,
    limits: Limits,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// An offer as HTTP brought it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a str,
    /// What is published. A newer offer for the same stream replaces one that has not connected yet.
    pub stream: &'a str,
    /// Bearer token, if one came.
    pub token: Option<&'a str>,
    /// Under which addresses this publisher reaches the node.
    pub reachable: &'a Reachable,
    /// Which pictures can be recorded.
    pub wanted: &'a Wanted,
}

/// What a POST has led to.
#[derive(Debug)]
pub struct Opened {
    /// The session, for whoever records it.
    pub session: Session,
    /// What was taken of the offer.
    pub offer: Offer,
    /// Entity tag.
    pub etag: String,
    /// The answer.
    pub answer: String,
}

/// A session's place among the others. Dropping it gives the place up.
pub(crate) struct Place {
    id: String,
    state: Arc<Mutex<State>>,
}

impl Place {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// From now on the session is not displaced.
    pub(crate) fn connected(&self) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.entries.get_mut(&self.id) {
            entry.pending = false;
        }
        state.pending.retain(|id| *id != self.id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.entries.remove(&self.id);
        state.pending.retain(|id| *id != self.id);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

impl State {
    /// Ends a session that has not connected yet. Its place is free at once.
    fn displace(&mut self, id: &str) {
        if let Some(entry) = self.entries.remove(id) {
            let _ = entry.commands.try_send(Command::End(Cause::Displaced, None));
        }
        self.pending.retain(|pending| pending != id);
    }
}

impl Sessions {
    /// No session yet.
    pub fn new(endpoint: Arc<Endpoint>, limits: Limits) -> Result<Self, Refused> {
        let shared = Shared::new().map_err(|error| Refused::new(500, "library", error.to_string()))?;
        Ok(Self { endpoint, shared: Arc::new(shared), limits, state: Arc::default() })
    }

    /// Sessions at the moment: all, and those not connected yet.
    pub fn counts(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.entries.len(), state.pending.len())
    }

    /// Answers an offer. Within a runtime.
    pub fn open(&self, request: Request<'_>) -> Result<Opened, Refused> {
        if !is_type(request.content_type, SDP) {
            return Err(Refused::new(415, "type", format!("an offer is {SDP}")));
        }
        if request.body.len() > MAX_OFFER_BYTES {
            return Err(Refused::new(413, "size", format!("an offer may have {MAX_OFFER_BYTES} bytes")));
        }
        let offer = Offer::parse(request.body, request.wanted)?;
        self.make_room(request.stream)?;
        let (id, ufrag, password) = (random(24), random(12), random(32));
        let (peer, answer) = Peer::answer(&self.shared, &offer, &ufrag, &password, crate::endpoint::now())?;
        let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
        let resource = Resource::new(&random(8), &offer.ufrag, &offer.password);
        let etag = resource.etag();
        let entry = Entry {
            resource,
            commands,
            token: request.token.map(str::to_owned),
            stream: request.stream.to_owned(),
            pending: true,
            reachable: request.reachable.clone(),
            kind: offer.first_kind,
            mid: offer.first_mid.clone(),
        };
        {
            let mut state = lock(&self.state);
            state.entries.insert(id.clone(), entry);
            state.pending.push_back(id.clone());
        }
        let place = Place { id, state: Arc::clone(&self.state) };
        let endpoint = Arc::clone(&self.endpoint);
        let socket = endpoint.open(&ufrag);
        let session = Session::new(peer, socket, endpoint, inbox, place, self.limits.idle_timeout);
        let answer = present(&answer, request.reachable, offer.sound.as_ref().map(|sound| sound.payload_type));
        let answer = decline(answer, offer.declined.as_ref());
        Ok(Opened { session, offer, etag, answer })
    }

    fn make_room(&self, stream: &str) -> Result<(), Refused> {
        let mut state = lock(&self.state);
        let is_older =
            |entry: &&String| state.entries.get(*entry).is_some_and(|entry| entry.pending && entry.stream == stream);
        if let Some(older) = state.pending.iter().find(is_older).cloned() {
            state.displace(&older);
        }
        let is_full = |state: &State| {
            state.entries.len() >= self.limits.max_sessions || state.pending.len() >= self.limits.max_pending
        };
        if is_full(&state) {
            let Some(oldest) = state.pending.front().cloned() else {
                return Err(Refused::busy("sessions", "too many WHIP sessions on this node", RETRY_AFTER));
            };
            state.displace(&oldest);
        }
        Ok(())
    }

    /// Checks that a session is there and that the request may touch it.
    pub fn check(&self, id: &str, token: Option<&str>) -> Result<(), Refused> {
        let state = lock(&self.state);
        let entry = state.entries.get(id).ok_or_else(unknown)?;
        let Some(expected) = &entry.token else { return Ok(()) };
        let shown = token.unwrap_or_default();
        if bool::from(expected.as_bytes().ct_eq(shown.as_bytes())) {
            return Ok(());
        }
        let detail = "the bearer token that came with the offer has to come with every request";
        Err(Refused::new(401, "token", detail))
    }

    /// Trickle: `None`. Restart: the new entity tag and the body.
    pub async fn patch(
        &self,
        id: &str,
        content_type: Option<&str>,
        if_match: Option<&str>,
        body: &str,
    ) -> Result<Option<(String, String)>, Refused> {
        let (ufrag, password) = (random(12), random(32));
        let (done, carried_out) = oneshot::channel();
        let (remote_ufrag, remote_password) = {
            let mut state = lock(&self.state);
            let entry = state.entries.get_mut(id).ok_or_else(unknown)?;
            let Patched::Restart { ufrag: remote_ufrag, password: remote_password } =
                entry.resource.patch(content_type, if_match, body)?
            else {
                return Ok(None);
            };
            let command = Command::Restart {
                ufrag: ufrag.clone(),
                password: password.clone(),
                remote_ufrag: remote_ufrag.clone(),
                remote_password: remote_password.clone(),
                done,
            };
            entry.commands.try_send(command).map_err(|_| busy())?;
            (remote_ufrag, remote_password)
        };
        tokio::time::timeout(PATIENCE, carried_out).await.map_err(|_| busy())?.map_err(|_| unknown())?;
        let mut state = lock(&self.state);
        let entry = state.entries.get_mut(id).ok_or_else(unknown)?;
        entry.resource.restarted(remote_ufrag, remote_password);
        let body = restart_fragment(&ufrag, &password, &entry.mid, entry.kind, &entry.reachable);
        Ok(Some((entry.resource.etag(), body)))
    }

    /// Ends a session. When this returns, it is over.
    pub async fn delete(&self, id: &str) -> Result<(), Refused> {
        let (done, over) = oneshot::channel();
        {
            let state = lock(&self.state);
            let entry = state.entries.get(id).ok_or_else(unknown)?;
            entry.commands.try_send(Command::End(Cause::Deleted, Some(done))).map_err(|_| busy())?;
        }
        let _ = tokio::time::timeout(PATIENCE, over).await;
        lock(&self.state).entries.remove(id);
        Ok(())
    }
}

fn unknown() -> Refused {
    Refused::new(404, "session", "there is no such session; it may have ended")
}

fn busy() -> Refused {
    Refused::busy("session", "the session is busy with other requests", 1)
}
